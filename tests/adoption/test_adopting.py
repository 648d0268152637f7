"""Adopting: no byte is copied, the owner's store stays as it was, and what is claimed is never passed off as hashed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from library.model_disk import pickle_bytes, safetensors
from pumas.adoption.store import AdoptionState
from pumas.errors import Cancelled, Interrupted
from pumas.library import copying
from pumas.library.reconcile import METADATA

from .adopting_setup import Job, Setup, snapshot
from .stores import COMMIT, gguf, hf_file, ollama_model, sha256, write

ROCKET = "registry.ollama.ai/library/rocket/latest"


@pytest.fixture
def other_volume() -> Generator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def cloning(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This machine's file systems do not clone, so the ioctl is replaced by what it does; counts its calls."""
    calls: list[int] = []

    def clone(source: int, target: int) -> bool:
        calls.append(target)
        os.write(target, os.pread(source, 1 << 24, 0))
        return True

    monkeypatch.setattr(copying, "_clone", clone)
    return calls


def test_a_cached_repository_is_linked(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    data = safetensors(1)
    blob = hf_file(setup.cache, "acme/Rocket", "model.safetensors", data)
    hf_file(setup.cache, "acme/Rocket", "config.json", b'{"model_type": "llama"}', large=False)
    before = snapshot(setup.home)
    result = setup.adopt()
    assert (result["success"], result["mode"], result["error"]) == (True, "hardlink", None)
    assert not any("changes this model" in text for text in result["warnings"])  # blobs are written once
    assert result["size"] == len(data) + 23
    metadata = setup.metadata(result["model_id"])
    assert metadata["hashes"] == {"sha256": "", "blake3": ""}
    assert metadata["files"] == [
        {"name": "config.json", "original_name": "config.json", "size": 23},
        {
            "name": "model.safetensors",
            "original_name": "model.safetensors",
            "size": len(data),
            "claimed_sha256": sha256(data),
            "digest_state": "claimed",
        },
    ]
    assert (metadata["storage"], metadata["download_url"]) == ("hardlink", "https://huggingface.co/acme/Rocket")
    assert metadata["adoption"]["revision"] == COMMIT
    ours = setup.library / result["model_id"] / "model.safetensors"
    assert ours.stat().st_ino == blob.stat().st_ino
    after = snapshot(setup.home)
    assert after == before
    assert setup.staged() == []


def test_each_way_of_sharing(tmp_path: Path, cloning: list[int]) -> None:
    for mode in ("reflink", "hardlink", "reference"):
        setup = Setup(tmp_path / mode)
        blob = ollama_model(setup.ollama, ROCKET, gguf(1))
        before = snapshot(setup.home)
        model_id = setup.adopted(mode=mode)
        metadata = setup.metadata(model_id)
        assert metadata["storage"] == mode
        ours = setup.library / model_id / "rocket.gguf"
        if mode == "reference":
            assert setup.own_files(model_id) == []
            (reference,) = metadata["references"]
            assert (reference["path"], reference["size"], reference["store"]) == (str(blob), 4096, str(setup.ollama))
        else:
            assert ours.read_bytes() == gguf(1)
            assert os.path.samefile(ours, blob) is (mode == "hardlink")
            assert "references" not in metadata
        assert snapshot(setup.home) == before
    assert len(cloning) == 1


@pytest.mark.parametrize(
    ("clones", "across", "expected"),
    [(True, False, "reflink"), (False, False, "hardlink"), (False, True, "reference")],
)
def test_auto_takes_the_first_that_is_possible_and_never_copies(
    tmp_path: Path,
    other_volume: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    clones: bool,
    across: bool,
    expected: str,
) -> None:
    if clones:
        request.getfixturevalue("cloning")
    else:
        monkeypatch.setattr(copying, "_clone", lambda _source, _target: False)
    setup = Setup(tmp_path)
    store = other_volume if across else tmp_path / "store"
    ollama_model(store, ROCKET, gguf(1))
    assert (store.stat().st_dev != setup.library.stat().st_dev) is across
    (model,) = setup.scan(store, known=False).models()
    predicted = setup.adopt(model, dry_run=True)
    assert (predicted["mode"], predicted["dry_run"], list(setup.library.glob("*/*/*"))) == (expected, True, [])
    result = setup.adopt(model)
    assert (result["success"], result["mode"]) == (True, expected)
    assert bool(result["warnings"]) is (expected == "reference")
    used = sum(f.stat().st_size for f in setup.library.rglob("*.gguf") if f.stat().st_nlink == 1)
    assert used == (4096 if clones else 0)


@pytest.mark.parametrize("mode", ["hardlink", "reflink"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_was_asked_for_is_done_or_refused(tmp_path: Path, other_volume: Path, mode: str, dry_run: bool) -> None:
    setup = Setup(tmp_path)
    ollama_model(other_volume, ROCKET, gguf(1))
    (model,) = setup.scan(other_volume, known=False).models()
    result = setup.adopt(model, mode=mode, dry_run=dry_run)
    assert (result["success"], result["error_code"]) == (False, "invalid_input")
    assert "reference" in result["error"]
    assert (setup.index.model_ids(), setup.staged(), setup.journal.unfinished()) == ([], [], [])


def test_a_file_that_others_write_into_comes_with_a_warning(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    assert "who writes into them changes this model" in setup.adopt(mode="hardlink")["warnings"][0]


def test_what_the_caller_says_wins(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    model_id = setup.adopted(official_name="My X", family="mine", model_type="vision", subtype="odd", tags=("a", "b"))
    assert model_id == "vision/mine/My-X"
    assert {key: setup.metadata(model_id)[key] for key in ("subtype", "tags")} == {"subtype": "odd", "tags": ["a", "b"]}


def test_the_same_bytes_come_in_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    data = gguf(1)
    ollama_model(setup.ollama, ROCKET, data)
    hf_file(setup.cache, "acme/Rocket", "rocket.gguf", data)
    first, second = setup.adopt_all(mode="reference")
    assert (first["success"], second["error_code"], second["duplicate_of"]) == (
        True,
        "duplicate_model",
        first["model_id"],
    )
    assert set(setup.scan().in_library.values()) == {first["model_id"]}
    again = [setup.adopt(model, mode="hardlink", job=Job(f"again-{model.kind}")) for model in setup.scan().models()]
    assert [result["error_code"] for result in again] == ["duplicate_model"] * 2
    third = setup.adopt(next(setup.scan().models()), allow_duplicate=True, job=Job("third"))
    assert third["success"]
    assert third["model_id"] != first["model_id"]


def test_what_another_program_began_to_write_after_the_scan_is_refused(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    path = setup.lm_studio / "acme" / "X" / "x.gguf"
    write(path, gguf(1))
    (model,) = setup.scan().models()
    write(path.with_name("x.gguf.aria2"), b"x")
    assert setup.adopt(model)["error_code"] == "stored_model_not_found"
    assert path.read_bytes() == gguf(1)


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "A" / "a.gguf", b"<html>not found</html>")
    write(setup.lm_studio / "acme" / "B" / "b.gguf", gguf(1))
    bad, good = setup.adopt_all()
    assert (bad["error_code"], good["success"]) == ("not_a_model", True)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"x.ckpt": pickle_bytes()}, "pickle_not_acknowledged"),
        ({"x.gguf": b"GGUF"}, "not_a_model"),
        ({"x.safetensors": b""}, "not_a_model"),
        ({"x-00001-of-00002.gguf": gguf(1)}, "not_a_model"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, bytes], code: str) -> None:
    setup = Setup(tmp_path)
    for name, data in files.items():
        write(setup.lm_studio / "acme" / "X" / name, data)
    before = snapshot(setup.home)
    assert setup.adopt()["error_code"] == code
    assert (setup.index.model_ids(), setup.staged(), snapshot(setup.home)) == ([], [], before)


def test_a_pickle_that_was_acknowledged_comes_in_with_what_was_found(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.ckpt", b"cos\nsystem\n(S'true'\ntR.")
    result = setup.adopt(security_acknowledged=True)
    assert (result["success"], result["security_tier"]) == (True, "pickle")
    assert any("system" in finding for finding in result["security_findings"])


def vanish(setup: Setup) -> None:
    shutil.rmtree(setup.lm_studio)


def replace_by_pipe(setup: Setup) -> None:
    path = setup.lm_studio / "acme" / "X" / "x.gguf"
    path.unlink()
    os.mkfifo(path)


def lead_into_the_library(setup: Setup) -> None:
    path = setup.lm_studio / "acme" / "X" / "x.gguf"
    path.unlink()
    path.symlink_to(write(setup.library / "llm" / "a" / "b" / "own.gguf", gguf(3)))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (vanish, "stored_model_not_found"),
        (replace_by_pipe, "stored_model_not_found"),
        (lead_into_the_library, "invalid_input"),
    ],
)
def test_what_changed_since_the_scan(tmp_path: Path, change: Callable[[Setup], None], code: str) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    (model,) = setup.scan().models()
    change(setup)
    assert setup.adopt(model)["error_code"] == code
    assert setup.index.model_ids() == []


def test_a_file_that_is_exchanged_under_our_hands_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path)
    path = write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    real = os.link

    def link(source: Any, target: Any) -> None:
        os.replace(write(tmp_path / "evil", gguf(2)), path)
        real(source, target)

    monkeypatch.setattr(copying.os, "link", link)
    result = setup.adopt(mode="hardlink")
    assert (result["success"], result["error_code"]) == (False, "file_unavailable")
    assert (setup.index.model_ids(), setup.staged()) == ([], [])


# -- claimed and verified --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hardlink", "reference"])
def test_a_claim_is_verified_by_hashing(tmp_path: Path, mode: str) -> None:
    setup = Setup(tmp_path)
    ollama_model(setup.ollama, ROCKET, gguf(1))
    model_id = setup.adopted(mode=mode)
    outcome = setup.verify(model_id)
    assert (outcome["recorded"], outcome["mismatch"], outcome["bytes"]) == (1, 0, 4096)
    metadata = setup.metadata(model_id)
    (file,) = metadata["files"]
    assert (file["digest_state"], file["sha256"]) == ("verified", sha256(gguf(1)))
    assert metadata["hashes"]["sha256"] == sha256(gguf(1))
    assert setup.verify(model_id)["ok"] == 1


@pytest.mark.parametrize("mode", ["hardlink", "reference"])
def test_a_false_claim_is_told_and_never_becomes_a_digest(tmp_path: Path, mode: str) -> None:
    setup = Setup(tmp_path)
    blob = ollama_model(setup.ollama, ROCKET, gguf(1))
    model_id = setup.adopted(mode=mode)
    blob.write_bytes(gguf(2))
    outcome = setup.verify(model_id)
    (finding,) = outcome["findings"]
    assert (finding["status"], finding["expected"], finding["observed"]) == (
        "mismatch",
        sha256(gguf(1)),
        sha256(gguf(2)),
    )
    (file,) = setup.metadata(model_id)["files"]
    assert (file["digest_state"], "sha256" in file, setup.metadata(model_id)["hashes"]["sha256"]) == (
        "claimed",
        False,
        "",
    )
    assert [trouble.kind for trouble in setup.troubles.list()] == ["digest_mismatch"]


def test_verifying_says_whether_a_file_is_gone_or_away(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    blob = ollama_model(setup.ollama, ROCKET, gguf(1))
    model_id = setup.adopted(mode="reference")
    blob.rename(tmp_path / "kept")
    assert setup.verify(model_id)["findings"][0]["status"] == "missing"
    setup.ollama.rename(tmp_path / "away")
    assert setup.verify(model_id)["findings"][0]["status"] == "offline"
    assert [trouble.kind for trouble in setup.troubles.list()] == ["file_offline"]


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_that_goes_on_adopts_the_rest(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    for number in range(3):
        write(setup.lm_studio / "acme" / "X" / f"{number}.gguf", gguf(number))
    job = Job("adopt-7")

    def stop() -> None:
        if len(setup.index.model_ids()) == 2:
            raise Interrupted("The job was stopped.")

    job.on_check = stop
    with pytest.raises(Interrupted):
        setup.adopt_all(job=job)
    results = setup.adopt_all(job=Job("adopt-7", job.checkpoint))
    assert [result["success"] for result in results] == [True] * 3
    assert len({result["adoption_id"] for result in results}) == 3


def test_a_result_that_a_kill_kept_from_the_checkpoint_is_found_again(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    first = setup.adopt(job=Job("adopt-7"))
    assert setup.adopt(job=Job("adopt-7")) == first
    assert setup.adopt(job=Job("adopt-8"))["error_code"] == "duplicate_model"


def test_a_cancelled_job_leaves_no_staging(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    job = Job("adopt-7")

    def stop() -> None:
        raise Cancelled("The job was stopped.")

    job.on_check = stop
    with pytest.raises(Cancelled):
        setup.adopt_all(job=job)
    assert (setup.index.model_ids(), setup.staged()) == ([], [])


@pytest.mark.parametrize("published", [True, False])
def test_a_start_finishes_what_was_published_and_takes_back_what_was_not(tmp_path: Path, published: bool) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    model_id = setup.adopted()
    row = setup.journal.of_model(model_id)
    assert row is not None
    setup.journal.save(replace(row, state=AdoptionState.BEGUN))
    if not published:
        shutil.rmtree(setup.library / model_id)
    setup.adopter.recover()
    assert setup.journal.unfinished() == []
    assert (setup.journal.get(row.id) is not None) is published


def test_a_drive_that_is_away_at_the_start_says_nothing_about_its_models(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    row = setup.journal.of_model(setup.adopted())
    assert row is not None
    setup.journal.save(replace(row, state=AdoptionState.BEGUN))
    setup.library.rename(tmp_path / "away")
    setup.library.mkdir()
    setup.adopter.recover()
    assert [one.id for one in setup.journal.unfinished()] == [row.id]
    setup.library.rmdir()
    (tmp_path / "away").rename(setup.library)
    setup.adopter.recover()
    assert setup.journal.of_model(row.model_id) is not None


def test_a_damaged_metadata_file_stops_the_start_from_forgetting(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    write(setup.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    model_id = setup.adopted()
    row = setup.journal.of_model(model_id)
    assert row is not None
    setup.journal.save(replace(row, state=AdoptionState.BEGUN))
    (setup.library / model_id / METADATA).write_bytes(b"{")
    setup.adopter.recover()
    assert setup.journal.unfinished()
