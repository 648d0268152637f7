"""`library/importing.py` and `import_plan.py`: what arrives, what is refused, and that sources stay whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library.importing_setup import Job, Setup
from library.model_disk import gguf, make_model, pickle_bytes, safetensors, sha256, tree, write
from pumas.errors import Cancelled, DiskError, Interrupted
from pumas.library import import_plan, importing, publishing
from pumas.library.copying import Mode
from pumas.library.import_plan import ImportRequest
from pumas.storage import files
from pumas.storage.paths import relative_path


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_a_file_becomes_a_model_with_true_metadata(setup: Setup) -> None:
    data = gguf(1, 3_000_000)
    source = write(setup.user / "Harbor 7B.Q4_K_M.gguf", data)
    job = Job()
    result = setup.one(source, job, tags=("chat", "chat"), repo_id="example-org/Harbor-7B")
    assert result["success"] and result["model_id"] == "llm/llama/Harbor-7B.Q4_K_M"
    assert result["model_path"] == str(setup.library / result["model_id"])
    assert (result["path"], result["security_tier"], result["size"]) == (str(source), "safe", len(data))
    metadata = setup.metadata(result["model_id"])
    assert metadata["hashes"]["sha256"] == sha256(data) == metadata["files"][0]["sha256"]
    assert len(metadata["hashes"]["blake3"]) == 64
    assert (metadata["size_bytes"], metadata["tags"]) == (len(data), ["chat"])
    assert metadata["download_url"] == "https://huggingface.co/example-org/Harbor-7B"
    assert (metadata["cleaned_name"], metadata["quantization"]) == ("Harbor-7B.Q4_K_M", "q4_k_m")
    assert setup.files(result["model_id"]) == {"Harbor 7B.Q4_K_M.gguf": sha256(data)}
    assert (setup.library / result["model_id"] / "overrides.json").read_bytes() == b"{}"
    assert source.read_bytes() == data
    assert setup.index.refreshed == [result["model_id"]]
    assert setup.staged() == []
    assert job.stages == ["copying", "writing_metadata", "indexing", "complete"]
    assert job.reports[-1] == ("complete", len(data), len(data))
    assert all(done <= total for _stage, done, total in job.reports)
    assert (setup.library / result["model_id"]).stat().st_mode & 0o055 == 0o055, "not as private as the staging folder"


@pytest.mark.parametrize(
    ("options", "model_id"),
    [
        ({}, "llm/llama/m"),
        ({"family": "imported", "official_name": "My Name"}, "llm/llama/My-Name"),
        ({"family": "Unknown"}, "llm/llama/m"),
        ({"family": "Own Family"}, "llm/own-family/m"),
        ({"model_type": "Diffusion", "subtype": "loras"}, "diffusion/llama/m"),
        ({"official_name": "../../../etc/passwd"}, "llm/llama/etc-passwd"),
        ({"family": "../..", "model_type": "/etc"}, "etc/llama/m"),
        ({"family": "..\\..\\x", "official_name": "C:\\Windows\\m"}, "llm/x/C-Windows-m"),
        ({"model_type": "con", "family": "nul", "official_name": "aux"}, "con_/nul_/aux_"),
        ({"official_name": "a\0b\nc"}, "llm/llama/a-b-c"),
        ({"official_name": ".hidden"}, "llm/llama/hidden"),
        ({"official_name": "模型 – 7B"}, "llm/llama/模型-7B"),
        ({"official_name": "\u202e\u200b"}, "llm/llama/model"),
    ],
)
def test_callers_words_and_where_they_lead(setup: Setup, options: dict[str, Any], model_id: str) -> None:
    result = setup.one(write(setup.user / "m.gguf", gguf()), **options)
    assert (result["error"], result["model_id"]) == (None, model_id)
    assert setup.index.model_ids() == [model_id]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.tuples(*[st.text(max_size=300)] * 4))
def test_no_words_lead_out_of_the_library(setup: Setup, words: tuple[str, str, str, str]) -> None:
    source = write(setup.user / "m.gguf", gguf())
    before = {name for name in tree(setup.root) if not name.startswith("launcher/shared-resources/models/")}
    name, family, kind, subtype = (w.encode("utf-8", "ignore").decode() for w in words)
    result = setup.one(
        source, official_name=name, family=family, model_type=kind, subtype=subtype, tags=(name,), allow_duplicate=True
    )
    assert result["success"], result["error"]
    assert relative_path(result["model_id"]).count("/") == 2
    assert not any(part.startswith(".") for part in result["model_id"].split("/"))
    assert setup.files(result["model_id"]) == {"m.gguf": sha256(gguf())}
    after = {name for name in tree(setup.root) if not name.startswith("launcher/shared-resources/models/")}
    assert after - {"launcher/launcher-data/state.lock"} == before - {"launcher/launcher-data/state.lock"}
    shutil.rmtree(setup.library / result["model_id"].split("/")[0])


def test_taken_names_get_a_number(setup: Setup) -> None:
    (setup.library / "llm/llama/m").mkdir(parents=True)
    ids = [setup.one(write(setup.user / "m.gguf", gguf(n)))["model_id"] for n in range(3)]
    assert ids == ["llm/llama/m-2", "llm/llama/m-3", "llm/llama/m-4"]
    assert [setup.metadata(i)["cleaned_name"] for i in ids] == ["m-2", "m-3", "m-4"]


def test_a_name_taken_in_the_last_moment_gets_a_number_too(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = publishing.rename_new

    def late(source: Path, target: Path) -> None:
        if target.name == "m":
            target.mkdir()
        rename(source, target)

    monkeypatch.setattr(publishing, "rename_new", late)
    result = setup.one(write(setup.user / "m.gguf", gguf()))
    assert result["model_id"] == "llm/llama/m-2" == setup.metadata("llm/llama/m-2")["model_id"]
    assert os.listdir(setup.library / "llm/llama/m") == []


# -- duplicates ------------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_not_imported_twice_unless_asked(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    first = setup.one(write(setup.user / "m.gguf", gguf()))
    monkeypatch.setattr(importing, "stage_file", None)  # the size tells: nothing is copied to find out
    again = setup.one(write(setup.user / "other name.gguf", gguf()))
    assert (again["success"], again["error_code"]) == (False, "duplicate_model")
    assert again["duplicate_of"] == first["model_id"]
    monkeypatch.undo()
    assert setup.one(write(setup.user / "same size.gguf", gguf(2)))["success"]
    assert setup.one(setup.user / "other name.gguf", allow_duplicate=True)["success"]
    assert setup.staged() == []


def test_twice_in_one_batch_is_a_duplicate(setup: Setup) -> None:
    requests = [ImportRequest(str(write(setup.user / name, gguf(7)))) for name in ("a.gguf", "b.gguf")]
    first, second = setup.run(*requests)
    assert first["success"] and second["duplicate_of"] == first["model_id"]


def test_what_another_job_adds_meanwhile_is_seen(setup: Setup) -> None:
    source = write(setup.user / "m.gguf", gguf())
    job = Job()

    def other_job(state: dict[str, Any]) -> None:
        job.on_save = lambda _state: None
        make_model(setup.library, "llm/llama/meanwhile", {"m.gguf": gguf()})

    job.on_save = other_job
    assert setup.one(source, job)["duplicate_of"] == "llm/llama/meanwhile"
    assert setup.index.model_ids() == ["llm/llama/meanwhile"] and setup.staged() == []


def test_models_of_older_sidecars_count_by_their_primary_digest(setup: Setup) -> None:
    make_model(setup.library, "llm/llama/old", {"x.gguf": gguf(3)})
    assert setup.one(write(setup.user / "m.gguf", gguf(3)))["duplicate_of"] == "llm/llama/old"


def test_a_row_whose_files_are_gone_is_no_duplicate(setup: Setup) -> None:
    folder = make_model(setup.library, "llm/llama/old", {"x.gguf": gguf(3)})
    (folder / "x.gguf").unlink()
    assert setup.one(write(setup.user / "m.gguf", gguf(3)))["success"]


def test_a_pipeline_that_shares_its_largest_file_is_another_model(setup: Setup) -> None:
    def pipeline(name: str, seed: int) -> Path:
        folder = setup.user / name
        write(folder / "model_index.json", b"{}")
        write(folder / "text_encoder/model.safetensors", safetensors(1, 9000))
        write(folder / "unet/model.safetensors", safetensors(seed, 4000))
        return folder

    first, second = setup.one(pipeline("one", 2)), setup.one(pipeline("two", 3))
    assert first["success"] and second["success"]
    assert setup.one(pipeline("three", 3))["duplicate_of"] == second["model_id"]


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_keeps_its_structure_and_says_what_it_left_out(setup: Setup) -> None:
    folder = setup.user / "pipe"
    kept = {
        "model_index.json": b"{}",
        "unet/config.json": b"{}",
        "unet/diffusion.safetensors": safetensors(1, 9000),
        "vae/diffusion.safetensors": safetensors(2),
        "deep/er/readme.md": b"text",
    }
    left = {
        ".git/config": b"x",
        ".cache/huggingface/x.metadata": b"x",
        "unet/a.lock": b"",
        "b.part": b"x",
        "vae/metadata.json": b"{}",
    }
    for name, data in {**kept, **left}.items():
        write(folder / name, data)
    os.mkfifo(folder / "pipe")
    (folder / "gone").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    result = setup.one(folder)
    assert setup.files(result["model_id"]) == {name: sha256(data) for name, data in kept.items()}
    skipped = {item["path"]: item["reason"] for item in result["skipped"]}
    assert skipped.keys() == {".git", ".cache", "unet/a.lock", "b.part", "vae/metadata.json", "pipe", "gone", "loop"}
    assert all(skipped.values())
    metadata = setup.metadata(result["model_id"])
    assert metadata["primary_file"] == "unet/diffusion.safetensors"
    assert {f["name"]: f["sha256"] for f in metadata["files"]} == setup.files(result["model_id"])


def test_a_snapshot_of_links_brings_the_files_behind_them(setup: Setup) -> None:
    blob = write(setup.user / "blobs/abc", gguf())
    (setup.user / "snapshot").mkdir()
    (setup.user / "snapshot/model.gguf").symlink_to("../blobs/abc")
    result = setup.one(setup.user / "snapshot", mode=Mode.MOVE)
    assert setup.files(result["model_id"]) == {"model.gguf": sha256(gguf())}
    assert blob.read_bytes() == gguf(), "a move removes the link, never what it leads to"
    assert not (setup.user / "snapshot").exists()


def test_a_file_without_ending_gets_the_one_of_its_content(setup: Setup) -> None:
    result = setup.one(write(setup.user / "blobs/0abc", gguf()))
    assert list(setup.files(result["model_id"])) == ["0abc.gguf"]


def test_names_that_not_every_system_can_hold_are_cleaned(setup: Setup) -> None:
    folder = setup.user / "odd"
    write(folder / "config.json", b"{}")
    write(folder / "a:b?.gguf", gguf())
    os.rename(folder / "a:b?.gguf", os.path.join(os.fsencode(folder), b"x\xff\x01:y.gguf"))
    result = setup.one(folder, mode=Mode.MOVE)
    assert set(setup.files(result["model_id"])) == {"config.json", "x-y.gguf"}
    assert orjson.loads(orjson.dumps(result)) == result
    assert not folder.exists()


def test_candidates_and_names_are_text_whatever_the_disk_holds(setup: Setup) -> None:
    folder = setup.user / "several"
    for number, name in enumerate((b"a\xff.gguf", b"b\xfe.gguf")):
        write(folder / "x.gguf", gguf(number))
        os.rename(folder / "x.gguf", os.path.join(os.fsencode(folder), name))
    result = setup.one(folder)
    assert result["error_code"] == "several_models" and "a\\xff.gguf" in result["error"]
    assert orjson.loads(orjson.dumps(setup.service.candidates(str(folder)))) == [
        f"{folder}/a\\xff.gguf",
        f"{folder}/b\\xfe.gguf",
    ]


def test_links_that_lead_nowhere_stay_behind(setup: Setup) -> None:
    folder = setup.user / "links"
    write(folder / "m.gguf", gguf())
    (folder / "round").symlink_to("round")
    (folder / "gone.txt").symlink_to("not there")
    skipped = {item["path"]: item["reason"] for item in setup.one(folder)["skipped"]}
    assert skipped == {"round": "the link leads nowhere", "gone.txt": "the link leads nowhere"}


def test_a_model_that_lies_too_deep_is_told_from_none(setup: Setup) -> None:
    write(setup.user / "deep" / "/".join("d" * 40) / "m.gguf", gguf())
    assert "in its first 32 levels" in setup.one(setup.user / "deep")["error"]


SHARDS = {f"m-0000{n}-of-00003.safetensors": safetensors(n) for n in (1, 2, 3)}


def test_a_set_of_shards_is_one_model_however_it_is_named(setup: Setup) -> None:
    paths = [write(setup.user / name, data) for name, data in SHARDS.items()]
    results = setup.run(*(ImportRequest(str(path)) for path in paths))
    assert {r["model_id"] for r in results} == {setup.index.model_ids()[0]} and all(r["success"] for r in results)
    assert [r["path"] for r in results] == [str(path) for path in paths]
    assert setup.files(results[0]["model_id"]) == {name: sha256(data) for name, data in SHARDS.items()}
    assert results[0]["model_id"].endswith("/m")


def test_a_set_with_a_part_missing_is_refused(setup: Setup) -> None:
    for name, data in list(SHARDS.items())[:2]:
        path = write(setup.user / "set" / name, data)
    for source in (path, path.parent):
        result = setup.one(source)
        assert result["error_code"] == "not_a_model"
        assert "1 of 3 parts are missing (number 3); nothing" in result["error"]
    assert setup.index.model_ids() == []


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_the_weights_of_an_onnx_file_that_lie_beside_it_come_along(setup: Setup, mode: str) -> None:
    graph = b"\x08\x08\x12\x02py\x3a\x02\x08\x01\x42\x02\x08\x11"
    path = write(setup.user / "model.onnx", graph)
    beside = {name: write(setup.user / name, name.encode() * 9) for name in ("model.onnx_data", "model.onnx_data_1")}
    others = [write(setup.user / name, b"other") for name in ("model.onnx_data_old", "model2.onnx_data", "x.onnx.data")]
    result = setup.one(path, mode=mode)
    assert result["success"], result
    files = {file["name"]: file["size"] for file in setup.metadata(result["model_id"])["files"]}
    assert files == {"model.onnx": len(graph)} | {name: 9 * len(name) for name in beside}
    folder = setup.library / result["model_id"]
    assert all((folder / name).read_bytes() == name.encode() * 9 for name in beside)
    assert all(file.exists() for file in others)
    assert [file.exists() for file in (path, *beside.values())] == [mode == "copy"] * 3


def test_an_onnx_file_whose_folder_cannot_be_listed_is_left_where_it_is(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(setup.user / "model.onnx", b"\x08\x08\x12\x02py\x3a\x02\x08\x01\x42\x02\x08\x11")
    listed = os.listdir

    def refused(folder: Any = ".") -> list[str]:
        if Path(folder) == path.parent:
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "listdir", refused)
    result = setup.one(path, mode="move")
    assert (result["success"], result["error_code"]) == (False, "file_unavailable"), result
    assert "permission denied" in result["error"] and path.exists()


def test_a_folder_of_several_models_is_refused_and_listed(setup: Setup) -> None:
    folder = setup.user / "checkpoints"
    write(folder / "a.safetensors", safetensors(1))
    write(folder / "b.gguf", gguf(2))
    write(folder / "hub/config.json", b"{}")
    for name, data in SHARDS.items():
        write(folder / "hub" / name, data)
    result = setup.one(folder)
    assert result["error_code"] == "several_models" and "3 models" in result["error"]
    expected = [str(folder / name) for name in ("a.safetensors", "b.gguf", "hub")]
    assert sorted(setup.service.candidates(str(folder))) == expected
    assert all(r["success"] for r in setup.run(*map(ImportRequest, expected)))


def test_a_folder_around_one_model_is_that_model(setup: Setup) -> None:
    write(setup.user / "around/pipe/model_index.json", b"{}")
    for part in ("unet", "vae"):
        write(setup.user / f"around/pipe/{part}/model.safetensors", safetensors(len(part)))
    result = setup.one(setup.user / "around")
    assert result["success"] and result["model_id"].endswith("/pipe"), result["error"]
    assert set(setup.files(result["model_id"])) == {
        "model_index.json", "unet/model.safetensors", "vae/model.safetensors"
    }  # fmt: skip


def _cached(setup: Setup, repository: str, *commits: str) -> Path:
    """A repository in the cache of Hugging Face, with a snapshot of each commit and `main` at the first."""
    folder = setup.user / "hub" / f"models--{repository.replace('/', '--')}"
    for number, commit in enumerate(commits):
        write(folder / f"blobs/{commit * 2}", safetensors(len(repository) + number))
        write(folder / f"snapshots/{commit}/config.json", b"{}")
        (folder / f"snapshots/{commit}/model.safetensors").symlink_to(f"../../blobs/{commit * 2}")
    write(folder / "refs/main", commits[0].encode())
    return folder


def test_a_snapshot_of_the_hubs_cache_is_called_like_its_repository(setup: Setup) -> None:
    old, new = "a" * 40, "b" * 40
    folder = _cached(setup, "acme/Nova-7B", new, old)
    dry = [setup.one(path, dry_run=True) for path in (folder, folder / "snapshots" / old)]
    assert [one["model_id"].rpartition("/")[2] for one in dry] == ["Nova-7B", "Nova-7B"]
    imported = setup.one(folder)
    digest = setup.files(imported["model_id"])["model.safetensors"]
    assert digest == sha256((folder / f"blobs/{new * 2}").read_bytes()), "of the branch main"
    shutil.rmtree(folder / "snapshots" / old)
    around = setup.one(folder.parent.parent, dry_run=True, allow_duplicate=True)
    assert around["model_id"].endswith("/Nova-7B") and around["files"] == [str(folder / f"blobs/{new * 2}")]
    write(folder / f"snapshots/{old}/model.gguf", gguf())
    (folder / "refs/main").unlink()
    assert setup.one(folder)["error_code"] == "several_models"


def test_the_hubs_cache_is_listed_without_its_blobs(setup: Setup) -> None:
    commit = "c" * 40
    folders = [_cached(setup, name, commit) for name in ("acme/One", "acme/Three")]
    expected = [str(folder / "snapshots" / commit) for folder in folders]
    assert sorted(setup.service.candidates(str(setup.user / "hub"))) == expected


def test_what_a_link_leads_to_is_copied_when_the_link_is_moved(setup: Setup) -> None:
    real = write(setup.user / "elsewhere/real.gguf", gguf())
    (setup.user / "link.gguf").symlink_to(real)
    result = setup.one(setup.user / "link.gguf", mode=Mode.MOVE)
    assert result["success"] and not (setup.user / "link.gguf").is_symlink()
    assert real.stat().st_nlink == 1, "its old name must not stay tied to the library"


@pytest.mark.parametrize("control", [".aria2", ".st"])
def test_a_file_that_is_being_downloaded_is_refused(setup: Setup, control: str) -> None:
    path = write(setup.user / "m/big.gguf", gguf())
    write(path.with_name(path.name + control), b"x")
    for source in (path, path.parent):
        result = setup.one(source)
        assert result["error_code"] == "not_a_model" and "big.gguf is still being downloaded" in result["error"]


def test_the_store_of_ollama_is_no_model(setup: Setup) -> None:
    store = setup.user / ".ollama/models"
    write(store / "blobs/sha256-aa", gguf())
    write(store / "manifests/registry.ollama.ai/library/llama/3b", b"{}")
    for folder in (store, store.parent):
        result = setup.one(folder)
        assert result["error_code"] == "not_a_model" and "adopt_models" in result["error"]


def test_a_folder_of_models_of_another_library_is_listed(setup: Setup) -> None:
    other = setup.user / "library"
    make_model(other, "llm/a/one", {"m.gguf": gguf(1)})
    make_model(other, "llm/a/two", {"m.gguf": gguf(2)})
    assert setup.service.candidates(str(other)) == [str(other / "llm/a/one"), str(other / "llm/a/two")]


def test_a_model_of_another_library_keeps_what_was_known_of_it(setup: Setup) -> None:
    data = {"m.gguf": gguf(1)}
    folder = make_model(
        setup.user,
        "llm/harbor/one",
        data,
        official_name="Harbor",
        notes="mine",
        match_source="manual",
        files=[{"name": "m.gguf", "size": 1, "sha256": "0" * 64}],
    )
    write(folder / "overrides.json", b'{"version_ranges": {"comfyui": ">1"}, "x": 1}')
    result = setup.one(folder)
    assert result["model_id"] == "llm/harbor/Harbor"
    metadata = setup.metadata(result["model_id"])
    assert (metadata["notes"], metadata["match_source"]) == ("mine", "manual")
    assert metadata["x_unknown"] == {"kept": [1, 2, 3]} and metadata["tags"] == ["old"]
    assert metadata["hashes"]["sha256"] == sha256(gguf(1)) == metadata["files"][0]["sha256"], "digests are ours"
    assert any("damaged before" in warning for warning in result["warnings"])
    overrides = json.loads((setup.library / result["model_id"] / "overrides.json").read_bytes())
    assert overrides == {"version_ranges": {"comfyui": ">1"}, "x": 1}


def test_a_projector_beside_its_model_belongs_to_it(setup: Setup) -> None:
    write(setup.user / "vl/model.gguf", gguf(1, 9000))
    write(setup.user / "vl/mmproj-model-f16.gguf", gguf(2))
    assert len(setup.files(setup.one(setup.user / "vl")["model_id"])) == 2


def test_a_projector_beside_several_is_imported_like_each_of_them(setup: Setup) -> None:
    names = ["vl-Q4_K_M.gguf", "vl-Q8_0.gguf", "mmproj-f16.gguf"]
    for number, name in enumerate(names):
        write(setup.user / "vl" / name, gguf(number))
    assert setup.one(setup.user / "vl")["error_code"] == "several_models"
    candidates = setup.service.candidates(str(setup.user / "vl"))
    assert [Path(path).name for path in candidates] == names
    assert all(result["success"] for result in setup.run(*map(ImportRequest, candidates)))


# -- refusals --------------------------------------------------------------------------------------------------------


def _fifo(setup: Setup) -> Path:
    os.mkfifo(setup.user / "pipe.gguf")
    return setup.user / "pipe.gguf"


def _folder(setup: Setup) -> Path:
    (setup.user / "folder.gguf").mkdir()
    return setup.user / "folder.gguf"


def _link_loop(setup: Setup) -> Path:
    (setup.user / "loop.gguf").symlink_to("loop.gguf")
    return setup.user / "loop.gguf"


def _model(setup: Setup) -> Path:
    return make_model(setup.library, "llm/a/b")


REFUSED: list[tuple[Callable[[Setup], Path | str], str]] = [
    (lambda s: "", "unsafe_path"),
    (lambda s: "relative.gguf", "unsafe_path"),
    (lambda s: "/a\0b", "unsafe_path"),
    (lambda s: "/" + "x" * 5000, "unsafe_path"),
    (lambda s: s.user / "missing.gguf", "file_unavailable"),
    (lambda s: s.user / ("x" * 300), "file_unavailable"),
    (_fifo, "file_unavailable"),
    (_link_loop, "file_unavailable"),
    (lambda s: Path("/dev/zero"), "file_unavailable"),
    (_folder, "not_a_model"),
    (lambda s: write(s.user / "empty.gguf", b""), "not_a_model"),
    (lambda s: write(s.user / "text.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "not_a_model"),
    (lambda s: write(s.user / "notes.txt", b"hello"), "not_a_model"),
    (lambda s: write(s.user / "x.gguf.part", gguf()), "not_a_model"),
    (lambda s: write(s.user / "x.gguf.crdownload", gguf()), "not_a_model"),
    (lambda s: write(s.user / "x.gguf.!qB", gguf()), "not_a_model"),
    (lambda s: write(s.user / "cut.safetensors", safetensors()[:1000]), "not_a_model"),
    (lambda s: write(s.user / "f/config.json", b"{}").parent, "not_a_model"),
    (lambda s: s.library, "invalid_input"),
    (lambda s: s.layout.root, "invalid_input"),
    (lambda s: s.root, "invalid_input"),
    (lambda s: Path("/"), "invalid_input"),
    (lambda s: write(s.layout.data / "x.gguf", gguf()), "invalid_input"),
    (lambda s: write(s.layout.trash / "x/model/x.gguf", gguf()), "invalid_input"),
    (lambda s: write(s.layout.staging / "x/model/x.gguf", gguf()), "invalid_input"),
    (_model, "invalid_input"),
    (lambda s: _model(s) / "model.gguf", "invalid_input"),
]


@pytest.mark.parametrize(("make", "code"), REFUSED)
def test_what_cannot_be_imported_is_refused_and_nothing_changes(
    setup: Setup, make: Callable[[Setup], Path | str], code: str
) -> None:
    path = str(make(setup))
    before = tree(setup.root)
    (result,) = setup.run(ImportRequest(path))
    assert (result["success"], result["error_code"], result["path"]) == (False, code, path), result["error"]
    assert tree(setup.root) == before


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [(LFS_POINTER, "is a Git LFS pointer"), (b"<!doctype html><p>", "is a web page"), (b"", "is empty")],
)
def test_what_stands_in_the_place_of_a_model_is_named_also_in_its_folder(
    setup: Setup, name: str, data: bytes, reason: str
) -> None:
    path = write(setup.user / "bert" / name, data)
    write(setup.user / "bert/config.json", b'{"model_type": "bert"}')
    for result in setup.run(ImportRequest(str(path)), ImportRequest(str(path.parent))):
        assert result["error_code"] == "not_a_model"
        assert result["error"].startswith(f"{name}: {reason}") and result["error"].endswith("; nothing was imported.")


def test_leftovers_of_older_sidecars_can_be_imported(setup: Setup) -> None:
    leftover = make_model(setup.library, "llm/a/.tmp_import_x", {"x.gguf": gguf(1)})
    write(setup.library / "checkpoints/old.safetensors", safetensors(2))
    assert setup.one(leftover)["success"]
    assert setup.one(setup.library / "checkpoints/old.safetensors")["success"]
    assert (leftover / "x.gguf").is_file()


def test_pickles_need_consent_and_are_scanned_even_then(setup: Setup) -> None:
    evil = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R."
    path = write(setup.user / "evil.pt", evil)
    refused = setup.one(path)
    assert (refused["error_code"], refused["security_tier"]) == ("pickle_not_acknowledged", "pickle")
    assert setup.index.model_ids() == []
    accepted = setup.one(path, security_acknowledged=True)
    assert accepted["success"] and accepted["security_tier"] == "pickle"
    for result in (refused, accepted):
        assert any("posix.system" in finding for finding in result["security_findings"])
    assert setup.metadata(accepted["model_id"])["security_tier"] == "pickle"
    mixed = setup.user / "mixed"
    write(mixed / "config.json", b"{}")
    write(mixed / "model.safetensors", safetensors(1, 50_000))
    write(mixed / "optimizer.pt", pickle_bytes())
    assert setup.one(mixed)["error_code"] == "pickle_not_acknowledged"


def test_a_repo_id_is_one(setup: Setup) -> None:
    result = setup.one(write(setup.user / "m.gguf", gguf()), repo_id="x/y/../z\n")
    assert result["error_code"] == "invalid_input"


def test_dry_runs_say_what_would_happen_and_change_nothing(setup: Setup) -> None:
    source = write(setup.user / "m.gguf", gguf())
    before = tree(setup.root)
    result = setup.one(source, dry_run=True, mode=Mode.MOVE)
    assert (result["success"], result["dry_run"], result["model_id"]) == (True, True, "llm/llama/m")
    assert tree(setup.root) == before
    setup.one(source)
    assert setup.one(source, dry_run=True)["error_code"] == "duplicate_model"


# -- space and disk errors -------------------------------------------------------------------------------------------


def test_space_is_asked_for_before_the_first_byte(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(setup.user / "m.gguf", gguf())
    monkeypatch.setattr(files, "free_space", lambda _folder: 1000)
    monkeypatch.setattr(importing, "stage_file", None)
    monkeypatch.setattr(importing, "can_clone", lambda _source, _folder: False)
    assert setup.one(source)["error_code"] == "disk_full"
    monkeypatch.undo()
    monkeypatch.setattr(import_plan, "free_space", lambda _folder: 1000)
    assert "space" in setup.one(source, dry_run=True)["warnings"][-1]
    monkeypatch.undo()
    assert setup.staged() == [] and setup.one(source)["success"]


def test_one_bad_item_does_not_end_the_batch(setup: Setup) -> None:
    good = [write(setup.user / f"{n}.gguf", gguf(n)) for n in (1, 2)]
    results = setup.run(*map(ImportRequest, [str(good[0]), str(setup.user / "none"), str(good[1])]))
    assert [r["success"] for r in results] == [True, False, True]


def test_an_index_that_cannot_be_written_does_not_undo_an_import(setup: Setup) -> None:
    def full(_ids: object) -> None:
        raise DiskError("models.db: disk is full")

    setup.index.refresh = full  # type: ignore[method-assign]
    assert setup.one(write(setup.user / "m.gguf", gguf()))["success"]


# -- moving ----------------------------------------------------------------------------------------------------------


def test_a_move_removes_what_it_imported_and_nothing_else(setup: Setup) -> None:
    folder = setup.user / "pipe"
    for name, data in {"config.json": b"{}", "sub/m.gguf": gguf(), "empty/.keep": b"", ".git/x": b"x"}.items():
        write(folder / name, data)
    result = setup.one(folder, mode=Mode.MOVE)
    assert setup.files(result["model_id"]) == {"config.json": sha256(b"{}"), "sub/m.gguf": sha256(gguf())}
    assert sorted(tree(folder)) == [".git/x", "empty/.keep"]
    assert not (folder / "sub").exists()


def test_a_failed_move_leaves_the_source(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(setup.user / "m.gguf", gguf())

    def fail(_source: Path, _target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(publishing, "rename_new", fail)
    result = setup.one(source, mode=Mode.MOVE)
    assert result["error_code"] == "disk_error" and source.read_bytes() == gguf()
    assert source.stat().st_nlink == 1 and setup.staged() == [] and list(setup.library.glob("llm*")) == []


def test_a_source_written_after_it_was_imported_is_kept(setup: Setup) -> None:
    source = write(setup.user / "m.gguf", gguf())
    os.link(source, setup.user / "second")  # so that the move copies
    job = Job()
    job.on_save = lambda state: source.write_bytes(b"new work") if state["item"] else None
    result = setup.one(source, job, mode=Mode.MOVE)
    assert result["success"] and "kept" in result["warnings"][0]
    assert source.read_bytes() == b"new work"
    assert setup.files(result["model_id"]) == {"m.gguf": sha256(gguf())}


# -- stopping and going on -------------------------------------------------------------------------------------------


def stopping(error: Exception, at: Callable[[Job], bool]) -> Job:
    job = Job()

    def check() -> None:
        if at(job):
            job.on_check = lambda: None
            raise error

    job.on_check = check
    return job


@pytest.mark.parametrize("mode", [Mode.COPY, Mode.MOVE])
def test_a_cancelled_import_leaves_nothing_and_an_interrupted_one_goes_on(
    setup: Setup, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_KEEP_STAGED_FROM", 1)
    folder = setup.user / "pipe"
    for name, data in {"config.json": b"{}", "a.gguf": gguf(1, 9000), "b.safetensors": safetensors(2)}.items():
        write(folder / name, data)
    other = write(setup.user / "first.gguf", gguf(5))
    before = tree(setup.user)
    requests = [ImportRequest(str(other)), ImportRequest(str(folder), mode=mode)]

    def after_first_file(job: Job) -> bool:
        return "staged" in job.checkpoint.get("item", {}) and len(job.checkpoint["results"]) == 1

    with pytest.raises(Cancelled):
        setup.run(*requests, job=stopping(Cancelled("stop"), after_first_file))
    assert tree(setup.user) == before and setup.staged() == [] and len(setup.index.model_ids()) == 1

    shutil.rmtree(setup.library / "llm")
    job = stopping(Interrupted("stop"), after_first_file)
    with pytest.raises(Interrupted):
        setup.run(*requests, job=job)
    assert tree(setup.user) == before and setup.staged() != []
    staged: list[str] = []
    stage_file = importing.stage_file

    def noting(source: Path, *rest: Any, **more: Any) -> object:
        staged.append(source.name)
        return stage_file(source, *rest, **more)

    monkeypatch.setattr(importing, "stage_file", noting)
    results = setup.run(*requests, job=Job(checkpoint=job.checkpoint))
    assert [r["success"] for r in results] == [True, True] and len(setup.index.model_ids()) == 2
    assert staged == ["b.safetensors", "config.json"], "what was staged whole is used"
    assert setup.files(results[1]["model_id"])["a.gguf"] == sha256(gguf(1, 9000))
    assert setup.staged() == [] and folder.exists() is (mode is Mode.COPY)


def test_a_cancel_before_the_start_cleans_up_what_an_earlier_run_staged(setup: Setup) -> None:
    folder = setup.staging.open("import-1.0", "import-1")
    write(folder / "m.gguf", gguf())
    job = stopping(Cancelled("stop"), lambda _job: True)
    with pytest.raises(Cancelled):
        setup.one(write(setup.user / "m.gguf", gguf()), job)
    assert setup.staged() == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("mode", [Mode.COPY, Mode.MOVE])
@pytest.mark.parametrize("point", ["before_rename", "after_rename", "in_removal", "before_record"])
def test_a_publication_that_was_not_recorded_is_finished_not_repeated(
    setup: Setup, mode: Mode, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(setup.user / "m.gguf", gguf())
    job = Job()

    def killed(*_args: object, **_kwargs: object) -> Any:
        raise Killed

    rename = publishing.rename_new

    def rename_and_die(old: Path, new: Path) -> None:
        rename(old, new)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(setup.staging, "discard_job", lambda _job: None)  # a killed process cleans nothing up
        if point == "before_rename":
            patch.setattr(publishing, "rename_new", killed)
        elif point == "after_rename":
            patch.setattr(publishing, "rename_new", rename_and_die)
        elif point == "in_removal":
            patch.setattr(importing, "_remove_sources", killed)
        else:
            patch.setattr(setup.staging, "discard", killed)
        with pytest.raises(Killed):
            setup.one(source, job, mode=mode)
    result = setup.one(source, Job(checkpoint=job.checkpoint), mode=mode)
    assert result["success"], result
    assert setup.index.model_ids() == ["llm/llama/m"] == [result["model_id"]]
    assert setup.files("llm/llama/m") == {"m.gguf": sha256(gguf())}
    assert source.exists() is (mode is Mode.COPY) and setup.staged() == []


def test_an_announced_id_that_holds_other_files_is_not_taken_for_ours(setup: Setup) -> None:
    """Nothing may be removed from the user's disk because a model of that name exists."""
    source = write(setup.user / "m.gguf", gguf())
    job = Job()

    def die(state: dict[str, Any]) -> None:
        raise Killed

    job.on_save = die
    with pytest.raises(Killed):
        setup.one(source, job, mode=Mode.MOVE)
    assert job.checkpoint["item"]["remove"]
    make_model(setup.library, "llm/llama/m", {"m.gguf": gguf(9)})
    result = setup.one(source, Job(checkpoint=job.checkpoint), mode=Mode.MOVE)
    assert result["model_id"] == "llm/llama/m-2" and setup.files("llm/llama/m-2") == {"m.gguf": sha256(gguf())}


def test_what_a_page_handed_over_is_taken_and_nothing_else_of_ours(setup: Setup) -> None:
    received = write(setup.layout.uploads / ("a" * 32) / "m.gguf", gguf())
    assert setup.one(received, mode=Mode.MOVE)["success"]
    assert not received.exists()
    beside = write(setup.layout.data / "uploads-not" / "m.gguf", gguf(1))
    link = setup.layout.uploads / "link.gguf"
    link.symlink_to(beside)
    for path in (setup.layout.uploads, beside, link):
        assert setup.one(path)["error_code"] == "invalid_input"
