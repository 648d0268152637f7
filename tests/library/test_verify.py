"""`library/verify.py`: differences are said, never written over; what was unknown is filled in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from library.importing_setup import Job, Setup
from library.model_disk import gguf, make_model, safetensors, sha256, tree, write
from pumas.errors import Cancelled, Interrupted
from pumas.library.metadata import ModelMetadata
from pumas.library.verify import MAX_FINDINGS, VerifyService
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles

ID = "llm/llama/one"


class Verify(Setup):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.troubles = Troubles()
        models = ModelMetadata(self.library, StateLock(self.layout.state_lock), self.index)
        self.verify = VerifyService(self.layout, models, self.index, self.troubles)

    def check(self, model_ids: list[str] | None = None, job: Job | None = None) -> dict[str, Any]:
        return self.verify.run_sync(job or Job(), self.verify.job_params(model_ids))

    @property
    def kinds(self) -> dict[str, str]:
        return {trouble.subject: trouble.kind for trouble in self.troubles.list()}


@pytest.fixture
def setup(tmp_path: Path) -> Verify:
    return Verify(tmp_path)


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {key: result[key] for key in ("ok", "recorded", "mismatch", "missing", "unreadable") if result[key]}


def test_a_whole_library_is_ok_and_not_written(setup: Verify) -> None:
    for n in (1, 2):
        setup.one(write(setup.user / f"{n}.gguf", gguf(n)))
    before = tree(setup.library)
    job = Job()
    result = setup.check(job=job)
    assert counts(result) == {"ok": 2}
    assert (result["models"], result["files"], result["findings"]) == (2, 2, [])
    assert tree(setup.library) == before
    assert result["bytes"] == job.reports[-1][1] <= job.reports[-1][2]


def test_a_flipped_bit_is_said_and_the_expected_digest_stays(setup: Verify) -> None:
    model_id = setup.one(write(setup.user / "m.gguf", gguf()))["model_id"]
    before = setup.metadata(model_id)
    path = setup.library / model_id / "m.gguf"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for _again in range(2):
        result = setup.check()
        assert counts(result) == {"mismatch": 1}
        (finding,) = result["findings"]
        assert (finding["expected"], finding["observed"]) == (sha256(good), sha256(path.read_bytes()))
        assert setup.kinds == {f"shared-resources/models/{model_id}/m.gguf": "digest_mismatch"}
        assert setup.metadata(model_id) == before
    path.write_bytes(good)
    assert counts(setup.check()) == {"ok": 1} and setup.kinds == {}


def test_digests_that_nobody_knew_are_recorded(setup: Verify) -> None:
    data = {"m.gguf": gguf(1, 9000), "mmproj.gguf": gguf(2)}
    make_model(setup.library, ID, data, hashes={"sha256": "", "blake3": None})
    before = setup.metadata(ID)
    assert counts(setup.check()) == {"recorded": 2}
    after = setup.metadata(ID)
    assert after["hashes"] == {"sha256": sha256(data["m.gguf"]), "blake3": blake3(data["m.gguf"]).hexdigest()}
    assert [f["sha256"] for f in after["files"]] == [sha256(d) for d in data.values()]
    assert {k: v for k, v in after.items() if k not in ("hashes", "files")} == {
        k: v for k, v in before.items() if k not in ("hashes", "files")
    }
    assert counts(setup.check()) == {"ok": 2}


@pytest.mark.parametrize(
    ("hashes", "files", "status"),
    [
        ({"sha256": sha256(gguf())}, [{"name": "m.gguf"}], "ok"),
        ({"sha256": sha256(gguf()).upper()}, [{"name": "m.gguf"}], "ok"),
        ({"sha256": "0" * 64}, [{"name": "m.gguf"}], "mismatch"),
        ({"blake3": "0" * 64}, [{"name": "m.gguf"}], "mismatch"),
        ({"sha256": sha256(gguf()), "blake3": "0" * 64}, [{"name": "m.gguf"}], "mismatch"),
        ({}, [{"name": "m.gguf", "sha256": "0" * 64}], "mismatch"),
        ({}, [{"name": "m.gguf", "size": 5}], "mismatch"),
        ({"sha256": "not a digest"}, [{"name": "m.gguf", "size": 4096}], "recorded"),
        ({}, None, "recorded"),
        (None, "odd", "recorded"),
        ([], [5, None, {"name": 7}, {"size": 3}], "recorded"),
        ({"sha256": "0" * 64}, [], "mismatch"),
        ({}, [{"name": "../../../../user/secret.gguf"}], "unreadable"),
        ({}, [{"name": "gone.gguf", "size": 3}], "missing"),
    ],
)
def test_what_metadata_may_say(setup: Verify, hashes: object, files: object, status: str) -> None:
    write(setup.user / "secret.gguf", gguf(9))
    folder = make_model(setup.library, ID, {"m.gguf": gguf()})
    value = {"official_name": "x", "hashes": hashes, "files": files}
    write(folder / "metadata.json", json.dumps(value).encode())
    result = setup.check()
    assert status in counts(result), counts(result)
    stored = setup.metadata(ID)
    if status == "mismatch":
        assert stored == value
    for known in files if isinstance(files, list) else []:
        assert not isinstance(known, int) or known in stored["files"], "what we do not understand stays"


def test_unreadable_and_odd_places(setup: Verify) -> None:
    broken = make_model(setup.library, "llm/a/broken")
    write(broken / "metadata.json", b"{")
    outside = make_model(setup.library, "llm/a/outside", {"m.gguf": gguf(3)})
    (outside / "m.gguf").unlink()
    (outside / "m.gguf").symlink_to(write(setup.user / "m.gguf", gguf(3)))
    special = make_model(setup.library, "llm/a/special", {"m.gguf": gguf(4)})
    (special / "m.gguf").unlink()
    os.mkfifo(special / "m.gguf")
    nested = make_model(setup.library, "llm/a/outer", {"m.gguf": gguf(5)})
    make_model(setup.library, "llm/a/outer/inner", {"n.gguf": gguf(6)})
    result = setup.check()
    assert counts(result) == {"unreadable": 3, "ok": 2}
    assert (nested / "metadata.json").is_file() and result["models"] == 5


def test_a_model_that_does_not_exist_is_missing(setup: Verify) -> None:
    assert counts(setup.check(["llm/a/none"])) == {"missing": 1}
    assert setup.check([])["models"] == 0


def test_companions_that_nobody_recorded_are_left_alone(setup: Verify) -> None:
    folder = make_model(setup.library, ID, {"m.gguf": gguf()})
    write(folder / "preview.png", b"png")
    write(folder / ".cache/x.gguf", gguf(7))
    write(folder / "extra.safetensors", safetensors())
    assert counts(setup.check()) == {"ok": 1, "recorded": 1}
    assert [f["name"] for f in setup.metadata(ID)["files"]] == ["m.gguf", "extra.safetensors"]


def test_many_findings_are_cut_and_counted(setup: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"name": f"{n}.gguf", "size": 1} for n in range(MAX_FINDINGS + 5)]
    make_model(setup.library, ID, {}, files=files)
    result = setup.check()
    assert result["missing"] == MAX_FINDINGS + 5
    assert (len(result["findings"]), result["findings_omitted"]) == (MAX_FINDINGS, 5)


@pytest.mark.parametrize("error", [Interrupted("stop"), Cancelled("stop")])
def test_an_interrupted_run_goes_on_after_the_last_model(setup: Verify, error: Exception) -> None:
    for n in range(4):
        make_model(setup.library, f"llm/a/m{n}", {"m.gguf": gguf(n)})
    write(setup.library / "llm/a/m0/m.gguf", gguf(99))
    job = Job()
    checks = iter(range(100))

    def stop_in_the_third() -> None:
        if next(checks) == 6:
            raise error

    job.on_check = stop_in_the_third
    with pytest.raises(type(error)):
        setup.check(job=job)
    assert 0 < job.checkpoint["models"] < 4
    hashed: list[str] = []
    again = Job(checkpoint=job.checkpoint)
    again.report = lambda **facts: hashed.append(facts["item"])  # type: ignore[method-assign]
    result = setup.check(job=again)
    assert counts(result) == {"ok": 3, "mismatch": 1} and result["models"] == 4
    assert "llm/a/m0" not in hashed and "llm/a/m3" in hashed
    assert result["bytes"] == 4 * 4096
