"""Custom nodes through a real sidecar: quick ones are answered, slow ones go on as a job that can be cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fixtures.git import GitServer, run_git
from sidecar import Sidecar, eventually

TAG = "v0.3.10"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """An installed version with an environment of its own."""
    folder = tmp_path / "root/comfyui-versions" / TAG
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (folder / "main.py").touch()
    listed = tmp_path / "root/launcher-data/metadata/versions.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps({"installed": {TAG: {"path": f"comfyui-versions/{TAG}"}}}))
    return folder


def install(one: Sidecar, server: GitServer, name: str, **more: object) -> dict[str, object]:
    return one.result("install_custom_node", {"version_tag": TAG, "git_url": f"{server.url}/{name}.git", **more})


def test_one_that_cannot_be_had_is_told(server: GitServer, version: Path, launch: Callable[..., Sidecar]) -> None:
    answer = install(launch(), server, "nothing")
    assert (answer["success"], answer["error_code"]) == (False, "git_failed")
    assert not (version / "custom_nodes").exists()


def test_files_that_are_in_the_way_of_an_update_are_named(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    """As when a node wrote its settings into its own folder, and later brings a file of that name."""
    server.commit("sunny", {"a.py": "1"})
    one = launch()
    assert install(one, server, "sunny")["success"]
    mine = version / "custom_nodes/sunny/settings.json"
    mine.write_text("mine")
    server.commit("sunny", {"settings.json": "{}"})
    answer = one.result("update_custom_node", {"version_tag": TAG, "node_name": "sunny"})
    assert not answer["success"]
    assert answer["error"].endswith("would be overwritten by merge: settings.json")
    assert mine.read_text() == "mine"


def test_who_may_run_a_file_is_no_change_of_it(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    server.commit("sunny", {"run.sh": "1", "a.py": "1"})
    one = launch()
    install(one, server, "sunny")
    for name in ("run.sh", "a.py"):
        (version / "custom_nodes/sunny" / name).chmod(0o755)
    newest = server.commit("sunny", {"a.py": "2"})
    answer = one.result("update_custom_node", {"version_tag": TAG, "node_name": "sunny"})
    assert (answer["success"], answer.get("error"), answer["commit"]) == (True, None, newest)
    assert (version / "custom_nodes/sunny/run.sh").stat().st_mode & 0o111


def test_commits_of_the_users_stay_and_are_told(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    server.commit("sunny", {"a.py": "1"})
    one = launch()
    install(one, server, "sunny")
    node = version / "custom_nodes/sunny"
    run_git(node, "commit", "--quiet", "--allow-empty", "--message", "Mine")
    mine = run_git(node, "rev-parse", "HEAD").strip()
    answer = one.result("update_custom_node", {"version_tag": TAG, "node_name": "sunny"})
    assert (answer["success"], answer["commit"], answer["previous_commit"]) == (True, mine, mine)
    server.commit("sunny", {"a.py": "2"})
    answer = one.result("update_custom_node", {"version_tag": TAG, "node_name": "sunny"})
    assert "commits of yours" in answer["error"]
    assert run_git(node, "rev-parse", "HEAD").strip() == mine


def test_a_slow_one_can_be_cancelled(server: GitServer, version: Path, launch: Callable[..., Sidecar]) -> None:
    server.commit("sunny", {"a.py": ""})
    server.stalled.set()
    one = launch()
    answer = install(one, server, "sunny")
    assert (answer["success"], answer["pending"], answer["commit"]) == (True, True, None)
    one.result("cancel_job", {"job_id": answer["job_id"]})
    eventually(
        lambda: one.result("get_job", {"job_id": answer["job_id"]})["job"]["state"] == "cancelled", what="cancelling"
    )
    assert one.result("get_custom_nodes", {"version_tag": TAG})["nodes"] == []
    assert not (version / ".pumas-nodes").exists()


def test_a_version_whose_nodes_are_changed_stays_where_it_is(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    for name in ("main.py", "venv/bin/python"):
        path = version.with_name("v0.4.0") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listed = version.parents[1] / "launcher-data/metadata/versions.json"
    tags = {tag: {"path": f"comfyui-versions/{tag}"} for tag in (TAG, "v0.4.0")}
    listed.write_text(json.dumps({"installed": tags, "defaultVersion": "v0.4.0"}))
    server.commit("sunny", {"a.py": ""})
    server.stalled.set()
    one = launch()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(install, one, server, "sunny")
        eventually(lambda: server.requests, what="the clone")
        refused = one.result("remove_version", {"tag": TAG})
        assert (refused["success"], refused["error_code"]) == (False, "version_in_use")
        server.stalled.clear()
        assert call.result(30)["success"]
    assert one.result("remove_version", {"tag": TAG})["success"]
    gone = install(one, server, "sunny")
    assert (gone["success"], gone["error_code"]) == (False, "version_not_found")
    assert not version.exists()


def test_a_node_that_somebody_cloned_under_another_name_is_cared_for(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    server.commit("sunny", {"a.py": "1"})
    name = "Sunny nodes (mine)"
    (version / "custom_nodes").mkdir()
    run_git(version / "custom_nodes", "clone", "-q", f"{server.url}/sunny.git", name)
    newest = server.commit("sunny", {"a.py": "2"})
    one = launch()
    of_it = {"version_tag": TAG, "node_name": name}
    assert one.result("update_custom_node", of_it)["success"]
    (node,) = one.result("get_custom_nodes", {"version_tag": TAG})["details"]
    assert (node["name"], node["commit"]) == (name, newest)
    assert one.result("remove_custom_node", of_it)["success"]
    (removed,) = one.result("list_removed_custom_nodes", {"version_tag": TAG})["nodes"]
    assert removed["name"] == name
    back = one.result("restore_custom_node", {"version_tag": TAG, "trash_id": removed["trash_id"]})
    assert back["success"] and (version / "custom_nodes" / name / "a.py").read_text() == "2"


def test_requirements_that_cannot_be_had_leave_no_node(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    server.commit("sunny", {"requirements.txt": "./no-such-package-here\n"})
    one = launch()
    answer = install(one, server, "sunny", install_requirements=True)
    assert (answer["success"], answer["error_code"]) == (False, "dependency_failed")
    assert one.result("get_custom_nodes", {"version_tag": TAG})["nodes"] == []
    assert install(one, server, "sunny")["success"]


def test_requirements_that_fail_without_uv_leave_all_as_it_was(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    first = server.commit("sunny", {"a.py": "1"})
    one = launch(env={"PUMAS_UV": "off"})
    assert install(one, server, "sunny")["success"]
    server.commit("sunny", {"requirements.txt": "./no-such-package-here\n"})
    for method, params in (
        ("install_custom_node", {"git_url": f"{server.url}/sunny.git", "node_name": "other"}),
        ("update_custom_node", {"node_name": "sunny"}),
    ):
        answer = one.result(method, {"version_tag": TAG, "install_requirements": True, **params})
        assert (answer["success"], answer["error_code"]) == (False, "dependency_failed")
    (node,) = one.result("get_custom_nodes", {"version_tag": TAG})["details"]
    assert (node["name"], node["commit"]) == ("sunny", first)
    assert not (version / "custom_nodes/sunny/requirements.txt").exists()


def test_an_update_by_another_branch_than_ours_is_refused(
    server: GitServer, version: Path, launch: Callable[..., Sidecar]
) -> None:
    server.commit("sunny", {"a.py": "1"})
    kept = server.commit("sunny", {"a.py": "2"})
    one = launch()
    assert install(one, server, "sunny")["commit"] == kept
    server.rewrite("sunny")
    answer = one.result("update_custom_node", {"version_tag": TAG, "node_name": "sunny"})
    assert (answer["success"], answer["error_code"]) == (False, "git_failed")
    assert answer["error"].endswith("Nothing was changed; remove it and install it again to have the newest.")
    (node,) = one.result("get_custom_nodes", {"version_tag": TAG})["details"]
    assert node["commit"] == kept
    assert (version / "custom_nodes/sunny/a.py").read_text() == "2"


def test_requirements_go_into_the_versions_environment(
    server: GitServer, version: Path, launch: Callable[..., Sidecar], tmp_path: Path
) -> None:
    wheel = _wheel(tmp_path)
    server.commit("sunny", {"requirements.txt": f"{wheel.as_uri()}\n"})
    assert install(launch(), server, "sunny", install_requirements=True)["success"]
    assert list(version.glob("venv/lib/python*/site-packages/tiny_sun.py"))


def _wheel(folder: Path) -> Path:
    """https://packaging.python.org/en/latest/specifications/binary-distribution-format/"""
    import zipfile

    path, info = folder / "tiny_sun-1.0-py3-none-any.whl", "tiny_sun-1.0.dist-info"
    files = {
        "tiny_sun.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-sun\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path
