"""What one backend began with apps, the other goes on with: runs, links and custom nodes, in both orders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from library.model_disk import make_model, safetensors
from orders import ORDERS, switched
from sidecar import Sidecar, eventually

from .programs import Root, runs

Launch = Callable[..., Sidecar]
TAG = {"version_tag": "v1.0"}


def started(launch: Launch, root: Root, backend: str) -> Sidecar:
    return launch(root=root.path, env=switched(backend))


@ORDERS
def test_a_run_of_a_killed_backend_is_found_and_stopped_by_the_other(
    launch: Launch, root: Root, first: str, second: str
) -> None:
    root.install("family")
    one = started(launch, root, first)
    began = one.result("launch_app", {"app_id": "family"})
    assert began["ready"], began
    one.kill()
    other = started(launch, root, second)

    def found() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = other.result("list_processes")["processes"]
        return [run for run in listed if run["ready"]]

    (run,) = eventually(found, what="the run known and ready")
    assert (run["run_id"], run["pid"], run["adopted"]) == (began["run_id"], began["pid"], True)
    assert other.result("get_process_log", {"app_id": "family"})["log_path"] == began["log_path"]
    assert other.result("stop_app", {"app_id": "family"})["stopped"] == 4
    eventually(lambda: not runs(began["pid"]), what="the end of the app")
    eventually(lambda: root.keepers() == [], what="the end of its keeper")


@ORDERS
def test_links_of_one_backend_go_and_come_back_with_the_other(
    launch: Launch, root: Root, first: str, second: str
) -> None:
    folder = root.install_comfyui()
    library = root.path / "shared-resources/models"
    make_model(library, "diffusion/sdxl/m", {"m.safetensors": safetensors(1)}, subtype="loras")
    link = folder / "models/loras/m.safetensors"
    one = started(launch, root, first)
    assert one.result("apply_model_mapping", TAG)["links_created"] == 1
    text, listed = os.readlink(link), one.result("list_links")["links"]
    one.kill()
    other = started(launch, root, second)
    assert other.result("list_links")["links"] == listed
    assert other.result("apply_model_mapping", TAG)["links_created"] == 0
    gone = other.result("delete_model_with_cascade", {"model_id": "diffusion/sdxl/m"})
    assert not os.path.lexists(link)
    other.kill()
    again = started(launch, root, first)
    assert again.result("restore_model", {"trash_id": gone["trash_id"]})["success"]
    assert os.readlink(link) == text
    assert again.result("get_link_health", TAG)["status"] == "healthy"


@ORDERS
def test_links_of_a_model_that_cannot_be_read_stay_with_either(
    launch: Launch, root: Root, first: str, second: str
) -> None:
    folder = root.install_comfyui()
    library = root.path / "shared-resources/models"
    for name in "ab":
        make_model(library, f"diffusion/sdxl/{name}", {f"{name}.safetensors": safetensors(1)}, subtype="loras")
    one = started(launch, root, first)
    assert one.result("apply_model_mapping", TAG)["links_created"] == 2
    one.kill()
    place = library / "diffusion/sdxl/a"
    place.rename(place.with_name(".aside"))
    place.symlink_to(place.name)  # nobody can look behind a link that leads to itself, root neither
    other = started(launch, root, second)
    plan = other.result("preview_model_mapping", TAG)
    assert (plan["broken_to_remove"], plan["to_create"]) == ([], [])
    assert any("cannot be read; they stay" in text for text in plan["warnings"]), plan["warnings"]
    assert other.result("clean_broken_links")["cleaned"] == 0
    assert other.result("remove_orphaned_links", TAG)["removed"] == 0
    assert other.result("apply_model_mapping", TAG)["links_removed"] == 0
    health = other.result("get_link_health", TAG)
    assert (health["status"], health["broken_links"], health["orphaned_links"]) == ("warnings", [], [])
    assert sorted(os.listdir(folder / "models/loras")) == ["a.safetensors", "b.safetensors"]


@ORDERS
def test_a_node_that_one_backend_removed_comes_back_with_the_other(
    launch: Launch, root: Root, first: str, second: str
) -> None:
    node: Path = root.install_comfyui() / "custom_nodes/tools"
    node.mkdir(parents=True)
    one = started(launch, root, first)
    removed = one.result("remove_custom_node", {**TAG, "node_name": "tools"})
    one.kill()
    other = started(launch, root, second)
    (listed,) = other.result("list_removed_custom_nodes", TAG)["nodes"]
    assert (listed["trash_id"], listed["name"]) == (removed["trash_id"], "tools")
    assert other.result("restore_custom_node", {**TAG, "trash_id": removed["trash_id"]})["name"] == "tools"
    assert node.is_dir()
