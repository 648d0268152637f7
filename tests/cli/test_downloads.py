"""`pumas download` and `pumas downloads` from outside: a real sidecar, a real hub, a terminal and a pipe."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from fixtures.hub import Claims, Cut, Generated, Hub, HubContent, HubFile, Options, Repo, Stall, Status
from fixtures.hub.repositories import GATED, GGUF, OLD, gguf_repository, guarded_repositories, old_repository
from pumas.cli import download, download_following, downloads, exits
from pumas.client import discovery
from sidecar import Sidecar, eventually

from .conftest import Done, Run
from .terminal import Terminal, piped

KIB, MIB = 1 << 10, 1 << 20
# A trickle: no download of `SIZE` ends by itself within a test.
TRICKLE = 200 * KIB
SIZE = 24 * MIB
CONFIG = b'{"model_type": "llama"}'
Open = Callable[..., Terminal]


def content() -> HubContent:
    huge = Repo("maker/huge")
    huge.commit({"weights.safetensors": HubFile(Generated(100, 1), lfs=True, claims=Claims(size=1 << 46))})
    return HubContent.of(huge, gguf_repository(), old_repository(), *guarded_repositories())


def large(hub: Hub) -> str:
    """The id of a repository that no download has asked for."""
    number = len(hub.content.repos)
    repo = Repo(f"maker/large-{number}", "text-generation", "transformers", "mit")
    repo.commit({"config.json": CONFIG, "weights.safetensors": Generated(SIZE, number)})
    hub.content.repos[repo.id] = repo
    hub.content.warm()
    return repo.id


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    with Hub(content()) as hub:
        yield hub


@pytest.fixture
def hub(served: Hub) -> Iterator[Hub]:
    served.reset()
    served.options = Options()
    yield served
    served.options = Options()


@pytest.fixture
def root(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A launcher root; a sidecar that a command starts asks the test's hub."""
    for name, value in hub.env(home=tmp_path / "hf").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def doomed(root: Path) -> Iterator[Sidecar]:
    """One that the test may end."""
    one = running.start(root)
    yield one
    one.close()


@pytest.fixture(scope="module")
def used(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("used")
    one = running.start(folder / "root", env=served.env(home=folder / "hf"))
    yield one
    one.close()


@pytest.fixture
def server(used: Sidecar, hub: Hub) -> Iterator[Sidecar]:
    """One that knows finished downloads at most, and no limits."""
    yield used
    for one in unfinished(used):
        used.rpc("cancel_model_download", {"download_id": one["download_id"]})
    eventually(lambda: not unfinished(used), what="the end of all downloads")
    used.result("set_download_limits", {"bytes_per_second": 0, "at_once": 3, "any_time": True})


@pytest.fixture(scope="module")
def untouched(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One that never downloaded anything."""
    folder = tmp_path_factory.mktemp("untouched")
    one = running.start(folder / "root", env=served.env(home=folder / "hf"))
    yield one
    one.close()


def unfinished(server: Sidecar) -> list[Any]:
    return server.result("list_model_downloads", {"finished": False})["downloads"]


def finished(server: Sidecar) -> list[Any]:
    return [one for one in server.result("list_model_downloads")["downloads"] if one["finished_at"]]


@pytest.fixture
def terminal() -> Iterator[Open]:
    opened: list[Terminal] = []

    def go(*words: str, root: Path) -> Terminal:
        opened.append(Terminal(*words, "--root", str(root)))
        return opened[-1]

    yield go
    for one in opened:
        one.kill()


def slow(hub: Hub) -> None:
    hub.options = replace(hub.options, connection_rate=TRICKLE)


def fast(hub: Hub) -> None:
    hub.options = replace(hub.options, connection_rate=None)


def rows(done: Done) -> list[list[str]]:
    return [line.split("\t") for line in done.out.splitlines()]


def detached(pumas: Run, server: Sidecar, repo: str) -> str:
    """The id of a download that goes on by itself."""
    done = pumas("download", repo, "--detach", root=server.root)
    assert done.status == exits.OK, done.err
    return rows(done)[0][0]


def status(server: Sidecar, download_id: str) -> Any:
    return server.result("get_model_download_status", {"download_id": download_id})


def arrives(server: Sidecar, download_id: str) -> None:
    eventually(lambda: status(server, download_id)["downloaded_bytes"] > 0, what="the first bytes")


def holds(root: Path, model_id: str, hub: Hub, repo_id: str) -> bool:
    """Whether the model's files are byte for byte those of the hub."""
    folder = root / "shared-resources" / "models" / model_id
    commit = hub.content.repos[repo_id].at("main")
    assert commit is not None
    return all(
        hashlib.sha256((folder / path).read_bytes()).hexdigest() == file.sha256
        for path, file in commit.files.items()
        if file.lfs
    )


# -- download, in a pipe ---------------------------------------------------------------------------------------------


def test_a_pipe_gets_a_line_that_programs_read(pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    done = pumas("download", repo, root=server.root)
    assert done.status == exits.OK
    ((model_id, folder, size, seconds),) = rows(done)
    assert (Path(folder), int(size)) == (server.root / "shared-resources" / "models" / model_id, SIZE + len(CONFIG))
    assert 0 <= float(seconds) < 60
    assert holds(server.root, model_id, hub, repo)
    first, *_, last = done.err.splitlines()
    assert first.startswith(f"{repo}: 2 files, 24.0 MiB, commit ")
    assert f"{model_id}: 24.0 MiB in 2 files, all verified (1 by SHA-256, 1 by git id), {seconds} s" == last
    again = pumas("download", repo, root=server.root)
    assert again.status == exits.FAILED
    assert again.err.endswith(f"in the library as {model_id}; add --allow-duplicate to download it all the same.\n")
    twice = pumas("download", repo, "--allow-duplicate", "--json", root=server.root)
    assert (twice.status, twice.json["model_id"]) == (exits.OK, f"{model_id}-2")


def test_one_document(pumas: Run, server: Sidecar, hub: Hub) -> None:
    done = pumas("download", GGUF, "--quant", "Q4_K_M", "--json", root=server.root)
    assert (done.status, done.err.count("\n")) == (exits.OK, 1)
    answer = done.json
    assert (answer["success"], answer["status"], answer["quant"]) == (True, "completed", "q4_k_m")
    assert answer["verified"] == {"sha256": 1, "git": 1}
    assert {file["path"]: file["state"] for file in answer["files"]} == {
        "Lumen-7B-Instruct-Q4_K_M.gguf": "done",
        "config.json": "done",
    }
    assert 0 <= answer["seconds"] < 60


def test_what_is_chosen_and_how_it_is_called(pumas: Run, server: Sidecar) -> None:
    files = ("--file", "*Q2_K.gguf", "--file", "config.json", "--revision", "main")
    names = ("--type", "llm", "--family", "my-family", "--name", "My Lumen")
    done = pumas("download", GGUF, *files, *names, "--json", root=server.root)
    assert sorted(file["path"] for file in done.json["files"]) == ["Lumen-7B-Instruct-Q2_K.gguf", "config.json"]
    model = server.result("get_model", {"model_id": done.json["model_id"]})
    assert done.json["model_id"].startswith("llm/my-family/")
    assert model["metadata"]["official_name"] == "My Lumen"


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        ([GATED], exits.FAILED, f"{GATED} is gated: accept its terms at"),
        ([OLD], exits.FAILED, "(pickle); add --accept-pickle to download it all the same."),
        ([GGUF, "--quant", "Q9"], exits.FAILED, "'Q9' is not among what the repository holds; there is iq4_xs, "),
        ([GGUF, "--file", "*.zip"], exits.FAILED, "'*.zip' fits no file of the repository; there is "),
        ([GGUF, "--revision", "v9"], exits.FAILED, "has no branch, tag or commit 'v9'"),
        (["maker/none"], exits.FAILED, "maker/none; look for another: pumas hf search WORDS."),
        (["none"], exits.FAILED, "owner/name"),
        (["maker/huge"], exits.FAILED, "Not enough disk space: 70,369,012,613,120 bytes needed"),
        ([GGUF, "--limit", "20Mb/s"], exits.USAGE, "'20Mb/s' is no speed; give bytes, such as 20MB/s"),
        ([GGUF, "--limit", "10"], exits.FAILED, "bytes_per_second: must be at least 1024"),
        ([], exits.USAGE, "Missing argument"),
    ],
)
def test_what_cannot_be_downloaded(
    pumas: Run, untouched: Sidecar, hub: Hub, words: list[str], expected: int, said: str
) -> None:
    done = pumas("download", *words, root=untouched.root)
    assert (done.status, done.out) == (expected, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert untouched.result("list_model_downloads")["downloads"] == []
    assert pumas("download", *words, "--json", root=untouched.root).json["success"] is False


def test_accepted_pickles(pumas: Run, server: Sidecar) -> None:
    assert pumas("download", OLD, "--file", "*pruned.ckpt", "--accept-pickle", root=server.root).status == exits.OK


def test_without_the_network(pumas: Run, untouched: Sidecar, hub: Hub) -> None:
    untouched.result("set_network_settings", {"offline": True})
    done = pumas("download", GGUF, "--json", root=untouched.root)
    untouched.result("set_network_settings", {"offline": False})
    assert (done.status, done.json["error_code"]) == (exits.FAILED, "network_offline")
    assert done.err.endswith("turn it off: pumas call set_network_settings offline=false.\n")


@pytest.mark.parametrize(
    ("kind", "message", "advised"),
    [
        (
            "connection_failed",
            "hub refused the connection.",
            "hub refused the connection; see what is wrong: pumas call",
        ),
        ("duplicate_model", "It is here as x; pass y.", "It is here as x; add --allow-duplicate to download"),
        ("network_offline", "Offline mode is on; do x.", "Offline mode is on; turn it off: pumas call set_network"),
        ("token_refused", "The token; is bad.", "The token; is bad."),
    ],
)
def test_advice_is_for_the_command_line(kind: str, message: str, advised: str) -> None:
    assert download._advised(kind, message).startswith(advised)


def test_a_download_that_fails_says_how_to_go_on(pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    hub.fault(Status(404), kind="cdn", times=None)
    hub.fault(Status(404), kind="resolve", times=None)
    done = pumas("download", repo, root=server.root)
    assert (done.status, done.out) == (exits.FAILED, "")
    last = done.err.splitlines()[-1]
    assert last.startswith(f"pumas: {repo}: ")
    name = last.rpartition("What has arrived is kept; try again: pumas downloads resume ")[2]
    shown = pumas("downloads", root=server.root)
    assert rows(shown)[0][4] == "error"
    hub.reset()
    assert pumas("downloads", "resume", name, root=server.root).status == exits.OK
    assert pumas("downloads", "watch", name, root=server.root).status == exits.OK


# -- download, at a terminal -----------------------------------------------------------------------------------------


def test_bars_at_a_terminal(terminal: Open, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    shown = terminal("download", repo, root=server.root)
    shown.expect(f"{repo}: 2 files, 24.0 MiB")
    shown.expect("weights.safetensors")
    shown.expect("/24.0 MiB")
    shown.expect(" left")
    fast(hub)
    assert shown.end() == exits.OK
    assert "24.0 MiB in 2 files, all verified (1 by SHA-256, 1 by git id)" in shown.shown
    # The next program is a person: no second line for programs.
    assert str(server.root) not in shown.shown


def test_cut_connections_are_seen_and_made_good(terminal: Open, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    hub.fault(Cut(at=5 * MIB), kind="file", path="*weights*")
    hub.fault(Cut(at=17 * MIB, reset=True), kind="file", path="*weights*")
    hub.fault(Status(429, retry_after=2), kind="cdn", skip=2, times=None)
    shown = terminal("download", repo, root=server.root)
    shown.expect("retrying: localhost")
    hub.rules.clear()
    assert shown.end() == exits.OK
    (model_id,) = (one["model_id"] for one in finished(server) if one["repo_id"] == repo)
    assert holds(server.root, model_id, hub, repo)


def test_the_limit_is_global_and_stays(terminal: Open, pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    shown = terminal("download", repo, "--limit", "1.5MiB/s", root=server.root)
    shown.expect("All downloads from now on: 1.5 MiB/s together; to lift it: pumas downloads limits --speed off")
    shown.expect(" left")
    assert rows(pumas("downloads", "limits", root=server.root))[0] == [
        "speed",
        "1.5 MiB/s (1,572,864 bytes per second)",
    ]
    pumas("downloads", "limits", "--speed", "off", root=server.root)
    assert shown.end() == exits.OK


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_it_to_a_sidecar_that_stays(terminal: Open, pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    shown = terminal("download", repo, root=server.root)
    shown.expect(" left")
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    assert "It goes on in the sidecar. To follow again: pumas downloads watch " in shown.shown
    (one,) = unfinished(server)
    assert one["status"] == "downloading"
    # Once more is not twice.
    again = pumas("download", repo, "--detach", "--json", root=server.root)
    assert (again.status, again.json["download_id"]) == (exits.OK, one["download_id"])
    fast(hub)
    assert pumas("downloads", "watch", one["download_id"], root=server.root).status == exits.OK


def test_ctrl_c_pauses_what_would_end_with_this_command(terminal: Open, pumas: Run, root: Path, hub: Hub) -> None:
    repo = large(hub)
    hub.options = replace(hub.options, connection_rate=4 * MIB)
    shown = terminal("download", repo, root=root)
    hub.wait_until(lambda: hub.bytes_sent() > SIZE // 2)
    slow(hub)
    shown.expect(" left")
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    assert "Pausing …" in shown.shown
    name = shown.shown.rpartition("To go on: pumas downloads resume ")[2].strip()
    fast(hub)
    # Looking does not wake it.
    ((_place, download_id, shown_repo, _quant, state, *_),) = rows(pumas("downloads", root=root))
    assert (download_id.removeprefix("download-")[:8], shown_repo, state) == (name, repo, "paused")
    sent = hub.bytes_sent()
    done = pumas("downloads", "resume", name, root=root)
    assert done.status == exits.OK
    assert holds(root, rows(done)[0][0], hub, repo)
    assert hub.bytes_sent() - sent < SIZE * 3 // 4


def test_at_a_terminal_it_asks_which_of_several_quantisations(terminal: Open, server: Sidecar) -> None:
    shown = terminal("download", GGUF, "--name", "asked", "--allow-duplicate", root=server.root)
    shown.expect("Which one?")
    assert "  all " in shown.shown and "  q4_k_m " in shown.shown
    shown.type("Q9\n")
    shown.expect("it is none of these")
    shown.type("Q4_K_M\n")
    assert shown.end() == exits.OK
    assert "in 2 files, all verified (1 by SHA-256" in shown.shown
    left = terminal("download", GGUF, root=server.root)
    left.expect("Which one?")
    left.ctrl_c()
    assert left.end() == exits.INTERRUPTED
    assert "Traceback" not in left.shown
    assert not unfinished(server)


def test_at_a_terminal_it_does_not_ask_what_was_said(terminal: Open, server: Sidecar) -> None:
    named = f"https://huggingface.co/{GGUF}/blob/main/Lumen-7B-Instruct-Q5_K_M.gguf"
    for words in ((GGUF, "--quant", "Q5_K_M"), (named,), (GGUF, "--file", "*Q5_K_M*")):
        shown = terminal("download", *words, "--name", f"said {len(words)}", "--allow-duplicate", root=server.root)
        assert shown.end() == exits.OK
        assert "Which one?" not in shown.shown


def test_ctrl_c_without_a_terminal(server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    with piped("download", repo, "--root", str(server.root)) as child:
        assert child.stderr is not None
        said = [child.stderr.readline(), child.stderr.readline()]
        assert "downloading" in said[1]
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (exits.INTERRUPTED, "")
    assert err.splitlines()[-1].startswith("pumas: It goes on in the sidecar.")
    assert [one["status"] for one in unfinished(server)] == ["downloading"]


def test_ctrl_c_while_the_hub_is_asked(terminal: Open, server: Sidecar, hub: Hub) -> None:
    """Whether it has begun is only known by the answer."""
    repo = large(hub)
    slow(hub)
    hub.fault(Stall(None, 1.0), kind="model")
    shown = terminal("download", repo, "--file", "*", root=server.root)
    shown.expect("Asking the hub")
    hub.wait_until(lambda: bool(hub.requests))
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    assert "Stopping …" in shown.shown
    (one,) = unfinished(server)
    assert f"pumas downloads watch {one['download_id'][9:17]}" in shown.shown


# -- a sidecar that goes away ----------------------------------------------------------------------------------------


def test_the_sidecar_is_killed_and_another_comes(terminal: Open, doomed: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    shown = terminal("download", repo, root=doomed.root)
    shown.expect(" left")
    doomed.kill()
    shown.expect("waiting: the sidecar is gone")
    fast(hub)
    other = running.start(doomed.root)
    try:
        assert shown.end() == exits.OK
        (one,) = other.result("list_model_downloads")["downloads"]
        assert holds(doomed.root, one["model_id"], hub, repo)
    finally:
        other.close()


def test_the_sidecar_is_stopped_and_another_comes(terminal: Open, doomed: Sidecar, hub: Hub) -> None:
    """A stop parks the download, which is no pause."""
    repo = large(hub)
    slow(hub)
    shown = terminal("download", repo, root=doomed.root)
    shown.expect(" left")
    doomed.close()
    shown.expect("waiting: the sidecar is gone")
    fast(hub)
    other = running.start(doomed.root)
    try:
        assert shown.end() == exits.OK
    finally:
        other.close()


def test_no_other_sidecar_comes(pumas: Run, doomed: Sidecar, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = large(hub)
    monkeypatch.setattr(download_following, "BACK_WITHIN_S", 0.5)
    slow(hub)
    threading.Thread(target=lambda: (hub.wait_until(lambda: hub.bytes_sent() > 0), doomed.kill())).start()
    done = pumas("download", repo, root=doomed.root)
    assert (done.status, done.out) == (exits.NOT_RUNNING, "")
    last = done.err.splitlines()[-1]
    assert last.startswith("pumas: ")
    name = last.rpartition("What has arrived is kept; go on with: pumas downloads watch ")[2]
    fast(hub)
    # A new sidecar goes on with it by itself, and the command stays with it.
    done = pumas("downloads", "watch", name, root=doomed.root)
    assert done.status == exits.OK
    assert holds(doomed.root, rows(done)[0][0], hub, repo)


def test_the_own_sidecar_is_killed(terminal: Open, pumas: Run, root: Path, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    shown = terminal("download", repo, root=root)
    shown.expect(" left")
    found = discovery.find(root)
    assert found is not None
    assert found.process is not None
    found.process.kill()
    assert shown.end() == exits.NOT_RUNNING
    assert "The sidecar ended with status -9" in shown.shown
    advice = re.search(r"What has arrived is kept; go on with: pumas (downloads watch [0-9a-f]+)", shown.shown)
    assert advice
    fast(hub)
    done = pumas(*advice[1].split(), root=root)
    assert done.status == exits.OK, done.err
    assert holds(root, rows(done)[0][0], hub, repo)


# -- the queue -------------------------------------------------------------------------------------------------------


def test_the_queue_is_seen_and_steered(pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    pumas("downloads", "limits", "--at-once", "1", root=server.root)
    one, two, three = (detached(pumas, server, each) for each in (repo, large(hub), large(hub)))
    arrives(server, one)
    listed = rows(pumas("downloads", root=server.root))
    assert [(row[0], row[1], row[4]) for row in listed] == [
        ("", one, "downloading"),
        ("1", two, "queued"),
        ("2", three, "queued"),
    ]
    assert 0 < int(listed[0][5]) < int(listed[0][6])
    top = pumas("downloads", "top", three, "--json", root=server.root).json
    assert [each["download_id"] for each in top["downloads"]] == [three, one, two]
    # The beginning of an id is enough, with or without the word before it.
    prefix = unique_prefix(one, [two, three, *(each["download_id"] for each in finished(server))])
    paused = pumas("downloads", "pause", prefix, root=server.root)
    assert (paused.status, rows(paused)[0][1:]) == (exits.OK, [repo, "", "paused"])
    eventually(lambda: status(server, three)["status"] == "downloading", what="the next one")
    both = pumas("downloads", "cancel", two, three, "--json", root=server.root)
    assert [each["status"] for each in both.json["downloads"]] == ["cancelled", "cancelled"]
    assert [row[1] for row in rows(pumas("downloads", root=server.root))] == [one]
    everything = pumas("downloads", "--all", "--json", root=server.root).json["downloads"]
    states = {each["download_id"]: each["status"] for each in everything}
    assert [states[each] for each in (one, two, three)] == ["paused", "cancelled", "cancelled"]
    fast(hub)
    assert pumas("downloads", "resume", one, root=server.root).status == exits.OK
    assert pumas("downloads", "watch", root=server.root).status == exits.OK
    late = pumas("downloads", "pause", one, root=server.root)
    assert (late.status, rows(late)[0][3]) == (exits.FAILED, "completed")
    assert "Nothing is being downloaded." in pumas("downloads", "watch", root=server.root).err


def unique_prefix(one: str, others: list[str]) -> str:
    hexes = [other.removeprefix("download-") for other in others]
    mine = one.removeprefix("download-")
    return next(mine[:n] for n in range(1, 17) if not any(other.startswith(mine[:n]) for other in hexes))


def test_a_table_at_a_terminal(terminal: Open, pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    pumas("downloads", "limits", "--at-once", "1", root=server.root)
    one, two = detached(pumas, server, repo), detached(pumas, server, large(hub))
    arrives(server, one)
    shown = terminal("downloads", root=server.root)
    assert shown.end() == exits.OK
    heading, _line, first, second = [line for line in shown.shown.splitlines() if line.strip()]
    assert heading.split() == ["#", "id", "repository", "quant", "status", "done", "size", "speed", "left"]
    assert first.split()[:3] == [one[9:17], repo, "downloading"]
    assert "KiB/s" in first
    assert second.split()[:2] == ["1", two[9:17]]
    assert "queued" in second


def test_waiting_for_others_is_seen(terminal: Open, pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    pumas("downloads", "limits", "--at-once", "1", root=server.root)
    one, two, three, four = (detached(pumas, server, each) for each in (large(hub), large(hub), large(hub), repo))
    waiting = terminal("downloads", "watch", four, root=server.root)
    waiting.expect("queued, 2 before it")
    pumas("downloads", "cancel", two, root=server.root)
    waiting.expect("queued, 1 before it")
    pumas("downloads", "pause", three, one, root=server.root)
    waiting.expect("downloading")
    pumas("downloads", "cancel", four, root=server.root)
    assert waiting.end() == exits.FAILED
    assert f"pumas: {repo}: cancelled." in waiting.shown


def test_all_of_one_download(pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    one = detached(pumas, server, repo)
    arrives(server, one)
    shown = rows(pumas("downloads", "show", one[:16], root=server.root))
    facts = {row[0]: row[1] for row in shown if len(row) == 2}
    assert (facts["download"], facts["repository"], facts["status"]) == (one, repo, "downloading")
    assert facts["done"].endswith("/24.0 MiB")
    files = {row[0]: row[1] for row in shown if len(row) == 4}
    assert files == {"config.json": "done", "weights.safetensors": "downloading"}
    document = pumas("downloads", "show", one, "--json", root=server.root).json
    assert [file["path"] for file in document["files"]] == ["config.json", "weights.safetensors"]


def test_nothing_there(pumas: Run, untouched: Sidecar) -> None:
    assert pumas("downloads", root=untouched.root).err == "Nothing is being downloaded.\n"
    assert pumas("downloads", "--all", root=untouched.root).err == "Nothing was downloaded yet.\n"
    assert pumas("downloads", "watch", "--json", root=untouched.root).json == {"success": True, "downloads": []}
    for verb in ("show", "watch", "pause", "resume", "cancel", "top"):
        for word in ("nope", ""):
            done = pumas("downloads", verb, word, root=untouched.root)
            assert (done.status, done.out) == (exits.FAILED, "")
            assert done.err == f"pumas: No download begins with {word!r}; pumas downloads --all shows all.\n"


def test_a_beginning_is_compared_with_what_is_shown() -> None:
    known = ["download-d0", "download-e1"]
    assert [downloads._one(known, word) for word in ("d", "d0", "e", "download-e")] == [*known[:1] * 2, *known[1:] * 2]


def test_beginnings_of_several(pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    slow(hub)
    one, two = detached(pumas, server, repo), detached(pumas, server, large(hub))
    done = pumas("downloads", "pause", "download-", root=server.root)
    assert done.status == exits.USAGE
    assert "downloads begin with 'download-'" in done.err
    assert one[9:17] in done.err
    assert {status(server, each)["status"] for each in (one, two)} == {"downloading"}


def test_detaching_needs_a_sidecar_that_stays(pumas: Run, root: Path, hub: Hub) -> None:
    repo = large(hub)
    done = pumas("download", repo, "--detach", root=root)
    assert (done.status, done.out) == (exits.NOT_RUNNING, "")
    assert "Start one: pumas serve" in done.err
    assert hub.requests == []


def test_options_before_a_command_are_not_lost(pumas: Run, untouched: Sidecar) -> None:
    """`pumas downloads --json` lists; options do not reach a command that follows them."""
    assert pumas("downloads", "--json", root=untouched.root).json == {"success": True, "downloads": []}
    done = pumas("downloads", "--json", "pause", "x", root=untouched.root)
    assert done.status == exits.USAGE


# -- limits ----------------------------------------------------------------------------------------------------------


def test_limits(pumas: Run, server: Sidecar) -> None:
    def limits(*words: str) -> dict[str, str]:
        done = pumas("downloads", "limits", *words, root=server.root)
        assert done.status == exits.OK
        return dict(rows(done))

    unlimited = {"speed": "no limit", "at once": "3", "hours": "any time", "now": "downloads run"}
    assert limits() == unlimited
    changed = limits("--speed", "20MB/s", "--at-once", "5", "--between", "22-7", "--days", "fri-mon")
    assert changed["speed"] == "19.1 MiB/s (20,000,000 bytes per second)"
    assert (changed["at once"], changed["hours"]) == ("5", "22:00-07:00 on mon, fri, sat, sun")
    assert limits() == changed
    assert limits("--speed", "off") == {**changed, "speed": "no limit"}
    assert limits("--any-time", "--at-once", "3") == unlimited
    document = pumas("downloads", "limits", "--speed", "500K", "--json", root=server.root).json
    assert (document["bytes_per_second"], document["at_once"], document["schedule"]) == (512_000, 3, None)


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (("--days", "mon"), exits.USAGE, "--days goes with --between"),
        (("--between", "22-7", "--any-time"), exits.USAGE, "choose one"),
        (("--between", "7"), exits.USAGE, "give them as 22:00-07:00"),
        (("--between", "25-26"), exits.FAILED, "must be a time of day such as 22:30"),
        (("--between", "22-22"), exits.FAILED, "start and end are the same"),
        (("--between", "22-7", "--days", "monday"), exits.USAGE, "'monday' is no day"),
        (("--speed", "much"), exits.USAGE, "'much' is no speed"),
        (("--at-once", "0"), exits.FAILED, "at_once"),
        (("--at-once", "x"), exits.USAGE, "Invalid value for '--at-once'"),
    ],
)
def test_no_limits(pumas: Run, untouched: Sidecar, words: tuple[str, ...], expected: int, said: str) -> None:
    done = pumas("downloads", "limits", *words, root=untouched.root)
    assert (done.status, done.out) == (expected, "")
    assert said in done.err
    assert json.loads(pumas("downloads", "limits", "--json", root=untouched.root).out)["schedule"] is None


def test_outside_the_hours(terminal: Open, pumas: Run, server: Sidecar, hub: Hub) -> None:
    repo = large(hub)
    import datetime

    later = datetime.datetime.now().astimezone() + datetime.timedelta(hours=2)
    hours = f"{later:%H:%M}-{later + datetime.timedelta(hours=1):%H:%M}"
    closed = pumas("downloads", "limits", "--between", hours, root=server.root)
    assert rows(closed)[3] == ["now", "downloads wait for these hours"]
    shown = terminal("download", repo, root=server.root)
    shown.expect("waiting: Outside the hours in which downloads run.")
    pumas("downloads", "limits", "--any-time", root=server.root)
    assert shown.end() == exits.OK
