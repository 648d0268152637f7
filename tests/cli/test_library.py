"""Commands about models, with real model files and a real sidecar: what a person does from the first import on."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

import sidecar as running
from pumas.cli import exits
from sidecar import Sidecar

from .conftest import Done, Run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    one = running.start(tmp_path_factory.mktemp("library") / "root")
    yield one
    one.close()


def make_gguf(path: Path, name: str = "", seed: int = 0, rows: int = 8) -> Path:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name or path.stem)
    writer.add_tensor("blk.0.attn_q.weight", np.random.default_rng(seed).random((rows, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_safetensors(path: Path, seed: int = 0) -> Path:
    weights = np.random.default_rng(seed).random((4, 4), dtype=np.float32)
    save_file({"lora_unet_down_blocks_0.lora_down.weight": weights}, path)
    return path


def make_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"weight": list(range(100))}, protocol=2))
    return path


def imported(done: Done) -> str:
    """The id of the one model that was imported."""
    assert done.status == exits.OK, done
    (item,) = done.json["results"]
    assert item["success"]
    return item["model_id"]


def unique(tmp_path: Path) -> int:
    """A seed of the test's own, so that no two tests import the same bytes."""
    return abs(hash(str(tmp_path))) % 2**31


# -- import ----------------------------------------------------------------------------------------------------------


def test_import_and_find(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "Zebra-7B.gguf", "Zebra 7B", seed=unique(tmp_path))
    before = source.read_bytes()
    done = pumas("import", str(source), "--tag", "striped", root=server.root)
    assert (done.status, done.err) == (exits.OK, "")
    verdict, path, model_id, why = done.out.rstrip("\n").split("\t")
    assert (verdict, path, why) == ("imported", str(source), "")
    assert source.read_bytes() == before
    assert [line.split("\t")[0] for line in pumas("search", "zeb", root=server.root).out.splitlines()] == [model_id]
    found = pumas("search", "zebra", "7b", "--tag", "striped", "--json", root=server.root)
    assert (found.json["total_count"], found.json["models"][0]["model_id"], found.err) == (1, model_id, "")
    assert model_id in pumas("models", root=server.root).out
    assert pumas("models", model_id, "--json", root=server.root).json["metadata"]["tags"] == ["striped"]
    assert "folder\t" in pumas("models", model_id, root=server.root).out


def test_relative_paths_are_those_of_the_caller(
    pumas: Run, server: Sidecar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_safetensors(tmp_path / "near.safetensors", unique(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert imported(pumas("import", "near.safetensors", "--json", root=server.root))


def test_import_options(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "x.gguf", seed=unique(tmp_path))
    words = ["--family", "quagga", "--name", "Quagga!", "--type", "llm", "--subtype", "chat"]
    words += ["--tag", "a", "--tag", "b", "--json"]
    model_id = imported(pumas("import", str(source), *words, root=server.root))
    metadata = pumas("models", model_id, "--json", root=server.root).json["metadata"]
    assert model_id.startswith("llm/quagga/")
    assert (metadata["official_name"], metadata["subtype"], metadata["tags"]) == ("Quagga!", "chat", ["a", "b"])


def test_import_move_and_hardlink(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    moved = make_gguf(tmp_path / "moved.gguf", seed=unique(tmp_path))
    imported(pumas("import", "--move", str(moved), "--json", root=server.root))
    assert not moved.exists()
    linked = make_safetensors(tmp_path / "linked.safetensors", unique(tmp_path))
    model_id = imported(pumas("import", "--hardlink", str(linked), "--json", root=server.root))
    folder = Path(pumas("models", model_id, "--json", root=server.root).json["folder"])
    assert any(os.path.samefile(linked, path) for path in folder.iterdir())


def test_a_duplicate_is_told_and_can_be_wanted(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "twice.gguf", seed=unique(tmp_path))
    model_id = imported(pumas("import", str(source), "--json", root=server.root))
    again = pumas("import", str(source), root=server.root)
    assert again.status == exits.FAILED
    assert again.out.split("\t")[:3] == ["duplicate", str(source), model_id]
    assert imported(pumas("import", "--allow-duplicate", str(source), "--json", root=server.root)) != model_id


def test_pickle_needs_consent(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_pickle(tmp_path / f"old{unique(tmp_path)}.ckpt")
    refused = pumas("import", str(source), "--json", root=server.root)
    assert refused.status == exits.FAILED
    assert refused.json["results"][0]["error_code"] == "pickle_not_acknowledged"
    assert imported(pumas("import", "--allow-pickle", str(source), "--json", root=server.root))


def test_warnings_and_left_out_files_are_told(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "kudu"
    folder.mkdir()
    make_gguf(folder / "kudu-Q4_K_M.gguf", seed=unique(tmp_path))
    (folder / ".note").write_bytes(b"x")
    done = pumas("import", str(folder), root=server.root)
    assert done.status == exits.OK
    assert "The name says q4_k_m, the content says f32." in done.err
    assert ".note: left out: hidden" in done.err


def test_one_bad_file_does_not_stop_the_others(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    good = make_safetensors(tmp_path / "good.safetensors", unique(tmp_path))
    done = pumas("import", str(tmp_path / "missing.gguf"), str(good), root=server.root)
    assert done.status == exits.FAILED
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["failed", "imported"]
    assert "Traceback" not in done.err


def test_a_folder_of_several_models_is_imported_one_by_one(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for number, name in enumerate(("Lora/ink", "Lora/detail", "VAE/fine")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_safetensors(folder / f"{name}.safetensors", unique(tmp_path) + number)
        (folder / f"{name}.preview.png").write_bytes(b"x")
    refused = pumas("import", str(folder), root=server.root)
    assert refused.status == exits.FAILED
    assert "models holds 3 models" in refused.out and "add --each to import each of them" in refused.out
    would = pumas("import", "--each", "--dry-run", str(folder), root=server.root)
    assert would.out.count("would be imported\t") == 3
    alone = make_gguf(tmp_path / "alone.gguf", seed=unique(tmp_path))
    done = pumas("import", "--each", str(folder), str(alone), "--json", root=server.root).json
    assert (done["success"], done["imported"], done["failed"]) == (True, 4, 0)
    assert sorted(Path(item["path"]).name for item in done["results"]) == [
        "alone.gguf", "detail.safetensors", "fine.safetensors", "ink.safetensors"
    ]  # fmt: skip
    again = pumas("import", "--each", str(folder), root=server.root)
    assert again.status == exits.FAILED and again.out.count("duplicate\t") == 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "PATH is empty"),
        (" ", "PATH is empty"),
        ("https://huggingface.co/acme/x", "pumas download"),
        ("~nobody-of-that-name/x.gguf", "cannot be found"),
        (os.fsdecode(b"caf\xe9.gguf"), "caf\ufffd.gguf is not named in UTF-8"),
    ],
)
def test_a_path_that_cannot_be_meant(pumas: Run, server: Sidecar, path: str, text: str) -> None:
    done = pumas("import", "--move", path, root=server.root)
    assert done.status == exits.USAGE and text in done.err


def test_an_address_as_file_managers_copy_it(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "tiny llama ü.gguf", seed=unique(tmp_path))
    assert imported(pumas("import", source.as_uri(), "--json", root=server.root))


def test_a_dry_run_changes_nothing(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "dryrunonly.gguf", seed=unique(tmp_path))
    done = pumas("import", "--dry-run", str(source), root=server.root)
    assert (done.status, done.out.split("\t")[0]) == (exits.OK, "would be imported")
    assert pumas("search", "dryrunonly", "--json", root=server.root).json["models"] == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--move", "--hardlink", "a"], "exclude each other"),
        (["--name", "x", "a", "b"], "--name goes with one PATH"),
        (["--detach", "--dry-run", "a"], "exclude each other"),
        (["--detach", "--each", "a"], "exclude each other"),
        (["--name", "x", "--each", "a"], "--name goes with one PATH"),
    ],
)
def test_import_words_that_do_not_fit(pumas: Run, server: Sidecar, words: list[str], text: str) -> None:
    done = pumas("import", *words, root=server.root)
    assert (done.status, done.out) == (exits.USAGE, "")
    assert text in done.err


def test_a_detached_import_names_its_job(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "gerenuk.gguf", seed=unique(tmp_path))
    done = pumas("import", "--detach", str(source), root=server.root)
    assert done.status == exits.OK
    [(verdict, job_id)] = [line.split("\t") for line in done.out.splitlines()]
    assert verdict == "started"
    assert f"pumas jobs watch {job_id}" in done.err
    assert pumas("jobs", "watch", job_id, root=server.root).status == exits.OK
    assert pumas("search", "gerenuk", "--json", root=server.root).json["total_count"] == 1


def test_a_detached_import_of_a_large_file_is_answered_at_once(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "addax.gguf", seed=unique(tmp_path))
    with source.open("r+b") as file:
        file.truncate(1 << 30)  # a second of hashing at least
    done = pumas("import", "--detach", str(source), "--json", root=server.root)
    assert (done.status, done.json["pending"], done.json["results"]) == (exits.OK, 1, [])
    state = server.result("get_job", {"job_id": done.json["job_id"]})["job"]["state"]
    assert state in ("queued", "running")
    server.result("cancel_job", {"job_id": done.json["job_id"]})


def test_a_detached_import_needs_a_sidecar_that_stays(spawn: Run, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "nyala.gguf", seed=unique(tmp_path))
    root = tmp_path / "root"
    root.mkdir()
    done = spawn("import", "--detach", str(source), "--root", str(root))
    assert done.status == exits.USAGE
    assert "pumas serve" in done.err
    assert spawn("models", "--json", "--root", str(root)).json["models"] == []


def test_import_with_a_sidecar_of_its_own(spawn: Run, tmp_path: Path) -> None:
    """The first thing a person does: nothing runs, nothing is there."""
    source = make_gguf(tmp_path / "first.gguf", seed=unique(tmp_path))
    root = tmp_path / "root"
    root.mkdir()
    model_id = imported(spawn("import", str(source), "--json", "--root", str(root)))
    assert spawn("search", "first", "--json", "--root", str(root)).json["models"][0]["model_id"] == model_id


# -- search ----------------------------------------------------------------------------------------------------------


def test_search_says_when_only_some_words_match(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    imported(
        pumas("import", str(make_gguf(tmp_path / "okapi.gguf", seed=unique(tmp_path))), "--json", root=server.root)
    )
    some = pumas("search", "okapi", "nosuchword", root=server.root)
    assert "some of them" in some.err
    assert "okapi" in some.out
    none = pumas("search", "nosuchword", root=server.root)
    assert (none.status, none.out, none.err) == (exits.OK, "", "No model matches.\n")


def test_pages(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    for n in range(3):
        source = make_gguf(tmp_path / f"giraffe{n}.gguf", seed=unique(tmp_path) + n)
        imported(pumas("import", str(source), "--json", root=server.root))
    first = pumas("search", "giraffe", "--limit", "2", root=server.root)
    assert (len(first.out.splitlines()), first.err) == (2, "2 of 3; --limit and --offset show others.\n")
    rest = pumas("search", "giraffe", "--limit", "2", "--offset", "2", root=server.root)
    assert len(rest.out.splitlines()) == 1
    assert pumas("search", "giraffe", "--type", "diffusion", "--json", root=server.root).json["total_count"] == 0


def test_models_are_sorted_as_asked(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    for name, rows in {"oryx-b": 300, "Oryx-a": 100, "oryx-c": 200}.items():
        source = make_gguf(tmp_path / f"{name}.gguf", seed=unique(tmp_path), rows=rows)
        imported(pumas("import", str(source), "--json", root=server.root))

    def shown(*arguments: str) -> list[str]:
        lines = pumas(*arguments, root=server.root).out.splitlines()
        names = [line.split("\t")[1] for line in lines]
        return [name for name in names if name.lower().startswith("oryx")]

    assert [name[-1] for name in shown("search", "oryx", "--sort", "name")] == ["a", "b", "c"]
    assert [name[-1] for name in shown("models", "--sort", "largest")] == ["b", "c", "a"]
    assert [name[-1] for name in shown("search", "oryx", "--sort", "smallest", "--limit", "2")] == ["a", "c"]
    refused = pumas("models", "--sort", "oldest", root=server.root)
    assert refused.status == exits.USAGE
    assert "smallest" in refused.err


def test_an_empty_library_says_what_to_do(pumas: Run, tmp_path: Path) -> None:
    done = pumas("models", root=tmp_path)
    assert (done.status, done.out) == (exits.OK, "")
    assert "pumas import FILE" in done.err


def test_an_unknown_model(pumas: Run, server: Sidecar) -> None:
    done = pumas("models", "no/such/model", "--json", root=server.root)
    assert (done.status, done.json["error_code"]) == (exits.FAILED, "model_not_found")
    assert done.err.endswith("in the library. Ids are as pumas models and pumas search show them.\n")


# -- delete and trash ------------------------------------------------------------------------------------------------


def test_delete_and_bring_back(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "tapir.gguf", seed=unique(tmp_path))
    model_id = imported(pumas("import", str(source), "--json", root=server.root))
    assert "would be deleted" in pumas("delete", "--dry-run", model_id, root=server.root).out
    assert pumas("search", "tapir", "--json", root=server.root).json["total_count"] == 1
    (deleted,) = pumas("delete", model_id, "--json", root=server.root).json["deleted"]
    trash_id = deleted["trash_id"]
    assert pumas("search", "tapir", "--json", root=server.root).json["total_count"] == 0
    assert f"{trash_id}\t{model_id}\t" in pumas("trash", "list", root=server.root).out
    dry = pumas("trash", "restore", trash_id, "--dry-run", root=server.root)
    assert dry.out == f"would be restored {model_id}\n"
    assert pumas("trash", "restore", trash_id, root=server.root).out == f"restored {model_id}\n"
    assert pumas("search", "tapir", "--json", root=server.root).json["total_count"] == 1
    for name in (trash_id, "nothing"):
        assert pumas("trash", "restore", name, root=server.root).status == exits.FAILED
    # The name that the user knows will do; of several, the one that was deleted last.
    (first,) = pumas("delete", model_id, "--json", root=server.root).json["deleted"]
    assert imported(pumas("import", str(source), "--json", root=server.root)) == model_id
    (second,) = pumas("delete", model_id, "--json", root=server.root).json["deleted"]
    assert pumas("trash", "restore", model_id, root=server.root).out == f"restored {model_id}\n"
    left = [entry["trash_id"] for entry in pumas("trash", "--json", root=server.root).json["entries"]]
    assert first["trash_id"] in left and second["trash_id"] not in left
    taken = pumas("trash", "restore", first["trash_id"], root=server.root)
    assert (taken.status, "delete or move that first" in taken.err) == (exits.FAILED, True)
    assert pumas("trash", "empty", first["trash_id"], "--yes", root=server.root).status == exits.OK
    again = pumas("trash", "restore", trash_id, "--json", root=server.root)
    assert (again.status, again.json["error_code"]) == (exits.FAILED, "trash_entry_not_found")


def test_empty_the_trash(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    trash_ids: list[str] = []
    for n in range(2):
        source = make_gguf(tmp_path / f"dodo{n}.gguf", seed=unique(tmp_path) + n)
        model_id = imported(pumas("import", str(source), "--json", root=server.root))
        trash_ids.append(pumas("delete", model_id, "--json", root=server.root).json["deleted"][0]["trash_id"])
    refused = pumas("trash", "empty", root=server.root)
    assert (refused.status, "--yes" in refused.err) == (exits.USAGE, True)
    assert "would be removed" in pumas("trash", "empty", "--dry-run", root=server.root).out
    assert pumas("trash", "empty", "--older-than-days", "1", "--yes", "--json", root=server.root).json["removed"] == []
    one = pumas("trash", "empty", trash_ids[0], "--yes", root=server.root)
    assert (one.status, one.out.split("\t")[:2]) == (exits.OK, ["removed", trash_ids[0]])
    assert one.err.endswith("freed.\n")
    left = pumas("trash", "empty", "--yes", "--json", root=server.root).json
    assert [entry["trash_id"] for entry in left["removed"]] == [trash_ids[1]]
    assert pumas("trash", "list", root=server.root).err == "The trash is empty.\n"


# -- verify and status -----------------------------------------------------------------------------------------------


def test_verify(pumas: Run, launch: Any, tmp_path: Path) -> None:
    root = launch().root
    ids = [
        imported(pumas("import", str(make_gguf(tmp_path / f"v{n}.gguf", seed=n)), "--json", root=root))
        for n in range(2)
    ]
    good = pumas("verify", root=root)
    assert (good.status, good.out) == (exits.OK, "")
    assert "2 models" in good.err
    assert good.err.endswith("0 not as recorded.\n")
    folder = Path(pumas("models", ids[0], "--json", root=root).json["folder"])
    (weights,) = folder.glob("*.gguf")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    bad = pumas("verify", root=root)
    assert bad.status == exits.FAILED
    assert bad.out.split("\t")[:3] == ["mismatch", ids[0], weights.name]
    only = pumas("verify", ids[1], "--json", root=root)
    assert (only.status, only.json["success"]) == (exits.OK, True)
    assert pumas("verify", ids[0], "--json", root=root).json["success"] is False
    unknown = pumas("verify", "no/such/model", root=root)
    assert (unknown.status, "No model" in unknown.err) == (exits.FAILED, True)


def test_a_verification_that_did_not_end_well(pumas: Run, server: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"job_id": "verify-1", "title": "Verify", "state": "failed", "error": "Disk error.", "result": None}
    monkeypatch.setattr("pumas.cli.following.follow", lambda *_: broken)
    done = pumas("verify", root=server.root)
    assert (done.status, done.out) == (exits.FAILED, "")
    assert done.err == "pumas: Verify: failed. Disk error. Go on with: pumas jobs resume verify-1\n"
    assert pumas("verify", "--json", root=server.root).json["success"] is False


def test_status(pumas: Run, server: Sidecar) -> None:
    facts = dict(line.split("\t", 1) for line in pumas("status", root=server.root).out.splitlines())
    assert facts["sidecar"] == f"http://127.0.0.1:{server.port}"
    assert facts["root"] == str(server.root)
    assert facts["library"].startswith("ready, ")
    shown = pumas("status", "--json", root=server.root).json
    assert set(shown) == {"success", "sidecar", "library", "disk", "jobs", "status"}
    assert shown["sidecar"]["started_for_this_command"] is False
    assert server.token
    assert server.token not in json.dumps(shown)


def test_status_of_a_root_without_a_sidecar(pumas: Run, tmp_path: Path) -> None:
    done = pumas("status", "--json", root=tmp_path)
    assert done.json["sidecar"]["started_for_this_command"] is True
    assert done.json["library"]["model_count"] == 0


def test_troubles_are_shown(pumas: Run, launch: Any) -> None:
    one = launch()
    broken = one.root / "shared-resources" / "models" / "llm" / "x" / "broken"
    broken.mkdir(parents=True)
    (broken / "metadata.json").write_text("{ not json")
    one.result("refresh_model_index")
    assert "pumas doctor" in pumas("status", root=one.root).err
    rows = [line.split("\t") for line in pumas("doctor", root=one.root).out.splitlines()]
    assert [row[:2] for row in rows if "broken" in row[2]] == [["warn", "trouble"]]
