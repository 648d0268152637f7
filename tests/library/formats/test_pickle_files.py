import collections
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import safetensors
from made_models import make_torch_zip, make_zip, raw_safetensors

from pumas.library.formats import pickle_files
from pumas.library.formats.detect import FileFormat, detect_format
from pumas.library.formats.pickle_files import PickleReport, pickled_names, scan_pickle
from pumas.library.formats.reader import open_regular


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


STATE = collections.OrderedDict({"model.layers.0.self_attn.q_proj.weight": [1.0, 2.0], "lm_head.weight": [0.5]})
MAGIC = 0x1950A86A20F9469CFC6C  # torch before 1.6


def legacy_torch(content: object) -> bytes:
    parts = [MAGIC, 1001, {"little_endian": True}, content, ["0"]]
    return b"".join(pickle.dumps(part, 2) for part in parts) + bytes(range(256)) * 8


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_a_pickle_and_its_imports_are_seen(tmp_path: Path, protocol: int) -> None:
    for content in (STATE, {"a": 1}, [1, 2], "text", Evil()):
        path = write(tmp_path / "m.bin", pickle.dumps(content, protocol))
        assert detect_format(path).format is FileFormat.PICKLE
        issues = ["posix.system"] if isinstance(content, Evil) else []
        assert scan_pickle(path) == PickleReport(issues=issues)


TEXTS = [
    b"",
    b".",
    b"N.",
    b"I am text.\n",
    b"# Title\n\nSome words.\n",
    b"(a list)\n",
    b"c\n",
    b"{}",
    b'{"a": 1}',
    b"0123456789",
    b"\x80",
    b"\x80\x09....",
    b"\x00" * 100,
    b"<html><body>404</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    b"def f():\n    return 1\n",
    b"import os\n",
]


@pytest.mark.parametrize("data", TEXTS)
def test_texts_are_not_pickles(tmp_path: Path, data: bytes) -> None:
    assert detect_format(write(tmp_path / "m.pt", data)).format is FileFormat.UNKNOWN


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_torch_archives_are_pickles(tmp_path: Path, compression: int) -> None:
    path = make_torch_zip(tmp_path / "m.pth", STATE, compression)
    assert detect_format(path).format is FileFormat.PICKLE
    assert scan_pickle(path) == PickleReport()
    with open_regular(path) as file:
        assert set(STATE) <= set(pickled_names(file))
    assert scan_pickle(make_torch_zip(path, Evil(), compression)).issues == ["posix.system"]


OTHER_ARCHIVES = {
    "a.npz": {"arr_0.npy": b"\x93NUMPY"},
    "a.zip": {"readme.txt": b"hi", "data.pkl.txt": b"no"},
    "a.keras": {"metadata.json": b"{}", "model.weights.h5": b"\x89HDF"},
    "a.docx": {"[Content_Types].xml": b"<x/>"},
    "a.pt": {"model.safetensors": b"{}"},
    "empty.pt": {},
}


@pytest.mark.parametrize("name", OTHER_ARCHIVES)
def test_other_archives_are_not_pickles_whatever_their_name(tmp_path: Path, name: str) -> None:
    found = detect_format(make_zip(tmp_path / name, OTHER_ARCHIVES[name]))
    assert found.format is FileFormat.UNKNOWN
    assert found.error


def test_a_pickle_anywhere_in_an_archive_counts(tmp_path: Path) -> None:
    members = {f"data/{n}": b"x" for n in range(300)} | {"deep/down/DATA.PKL": pickle.dumps(Evil(), 4)}
    path = make_zip(tmp_path / "m.zip", members)
    assert detect_format(path).format is FileFormat.PICKLE
    assert scan_pickle(path).issues == ["posix.system"]


def test_an_archive_whose_directory_hides_its_first_member_is_still_a_pickle(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "m.pt", {"archive/data.pkl": b"(", "archive/version": b"3"})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"archive/data.pkl")
    data[at : at + 16] = b"archive/data.txt"
    path.write_bytes(data)
    assert detect_format(path).format is FileFormat.PICKLE


def test_a_torch_archive_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    whole = make_torch_zip(tmp_path / "m.pt", STATE).read_bytes()
    found = detect_format(write(tmp_path / "m.pt", whole[: len(whole) // 2]))
    assert (found.format, found.valid) == (FileFormat.PICKLE, False)
    assert "cut short" in found.error


def test_an_archive_of_more_members_than_any_is_refused(tmp_path: Path) -> None:
    whole = make_torch_zip(tmp_path / "m.pt", STATE).read_bytes()
    entry = b"PK\1\2" + bytes(42)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 60_000, 60_000, 46 * 60_000, len(whole), 0)
    found = detect_format(write(tmp_path / "m.pt", whole + entry * 60_000 + end))
    assert (found.format, found.valid) == (FileFormat.PICKLE, False)
    assert "60000 ZIP members" in found.error


def test_old_torch_files_are_scanned_past_their_first_pickles(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pt", legacy_torch(STATE))
    assert detect_format(path).format is FileFormat.PICKLE
    assert scan_pickle(path) == PickleReport()
    with open_regular(path) as file:
        assert set(STATE) <= set(pickled_names(file))
    assert scan_pickle(write(path, legacy_torch(Evil()))).issues == ["posix.system"]


def stack_global(module: bytes, name: bytes) -> bytes:
    return b"".join(b"\x8c" + bytes([len(part)]) + part for part in (module, name)) + b"\x93"


SPELLINGS = {
    "global": b"cos\nsystem\n(S'x'\ntR.",
    "inst": b"(S'x'\nios\nsystem\n.",
    "stack global": b"\x80\x04" + stack_global(b"os", b"system") + b"\x8c\x01x\x85R.",
    "through the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94" + b"00h\x00h\x01\x93\x8c\x01x\x85R.",
    "through put and get": b"\x80\x02X\x02\0\0\0osq\x05X\x06\0\0\0systemq\x06h\x05h\x06\x93.",
    "broken afterwards": b"cos\nsystem\n(S'x'\ntR\xff\xff\xff",
    "after another pickle": pickle.dumps([1]) + b"cos\nsystem\n(S'x'\ntR.",
    "nothing that pops": b"\x80\x04" + stack_global(b"builtins", b"eval") + b".",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_an_import_is_found(tmp_path: Path, name: str) -> None:
    report = scan_pickle(write(tmp_path / "m.pkl", SPELLINGS[name]))
    assert len(report.issues) == 1
    assert report.issues[0] in ("os.system", "builtins.eval")


def test_a_computed_import_is_an_issue(tmp_path: Path) -> None:
    report = scan_pickle(write(tmp_path / "m", b"\x80\x04K\x01\x8c\x06system\x93."))
    assert report.issues == ["unknown.system"]


@pytest.mark.parametrize("odd", [b"a\xc3\xa9", b"a\\", b"a\\x6", b"a\nb", b"a b"])
def test_an_odd_name_hides_no_other_import(tmp_path: Path, odd: bytes) -> None:
    content = b"\x80\x04" + stack_global(odd, b"f") + b"0" + stack_global(b"os", b"system") + b"."
    assert scan_pickle(write(tmp_path / "m", content)).issues == ["os.system", "unknown.f"]


def test_an_import_on_no_list_is_reported_apart(tmp_path: Path) -> None:
    report = scan_pickle(write(tmp_path / "m", b"cfriendly_package\nThing\n."))
    assert (report.issues, report.unknown) == ([], ["friendly_package.Thing"])


def unscanned(path: Path, reason: str) -> None:
    report = scan_pickle(path)
    assert not report.scanned
    assert reason in report.reason
    assert str(path.parent) not in report.reason


def test_what_could_not_be_looked_through_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pkl"
    monkeypatch.setattr(pickle_files, "_SCAN_SECONDS", 600.0)
    monkeypatch.setattr(pickle_files, "_MAX_MEMO", 1000)
    unscanned(write(path, b"\x80\x04cos\nsystem\n"), "does not end")
    unscanned(write(path, b"\x80\x04B" + struct.pack("<I", 2**31 - 1) + bytes(100)), "too large")
    unscanned(write(path, b"\x80\x02" + b"".join(b"cm%d\nn\n" % n for n in range(2000)) + b"."), "too much")
    unscanned(write(path, b"\x80\x04" + b"K\x01\x94" * 3_000 + b"."), "too much")
    unscanned(make_zip(path, {"a.txt": b""}), "no pickle")
    unscanned(make_zip(path, {"data.pkl": pickle.dumps(1)}, zipfile.ZIP_BZIP2), "cannot be looked through")
    monkeypatch.setattr(pickle_files, "_MAX_OPCODES", 1000)
    unscanned(write(path, b"\x80\x04" + b"N0" * 5000 + b"."), "more elements")
    monkeypatch.setattr(pickle_files, "_SCAN_SECONDS", -1.0)
    unscanned(write(path, pickle.dumps([1])), "too long")


def test_a_bomb_in_an_archive_is_unpacked_only_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_files, "_MAX_OBJECT_BYTES", 100_000)
    path = make_zip(tmp_path / "m.pt", {"data.pkl": b"N0" * 5_000_000}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    unscanned(path, "too large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_a_safetensors_file_that_an_unpickler_would_run_is_a_pickle(tmp_path: Path) -> None:
    # The header's length is read as BINUNICODE with a length of its own, so the stream goes on inside the JSON text.
    name = "m" * 32
    code = "U " + name + "U " + "n" * 32 + "q\u0093R."
    skipped = 40
    start = '{"__metadata__":{"k":"'
    header = (start + "-" * (skipped - 3 - len(start)) + code + '"}}').encode()
    path = raw_safetensors(tmp_path / "m.ckpt", header.ljust(ord("X") + 256 * skipped))
    assert safetensors.deserialize(path.read_bytes()) == []
    assert detect_format(path).format is FileFormat.PICKLE


def test_an_ordinary_safetensors_file_with_such_a_length_is_not(tmp_path: Path) -> None:
    for length in (0x158, 0x258, 0x280, 0x380, 0x480, 0x4058):
        header = b'{"quite.ordinary.query.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        assert detect_format(raw_safetensors(tmp_path / "m.bin", header, b"0000")).format is FileFormat.SAFETENSORS


def test_an_archive_beyond_four_gigabytes_is_read(tmp_path: Path) -> None:
    far = 5 * 2**30
    path = tmp_path / "m.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", bytes(64))
        archive.start_dir = far  # the next member and the directory stand behind a hole
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(), 2))
    assert path.stat().st_size > far
    assert detect_format(path).valid
    assert scan_pickle(path).issues == ["posix.system"]
    with path.open("r+b") as file:
        file.seek(-22 - 20 + 8, os.SEEK_END)
        file.write(b"\xff" * 8)  # where the large directory's end record is said to be
    assert not detect_format(path).valid
