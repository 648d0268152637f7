import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors
from made_models import raw_safetensors, tensor

from pumas.errors import MalformedModelFile
from pumas.library.formats import safetensors as own
from pumas.library.formats.reader import open_regular
from pumas.library.formats.safetensors import DTYPES, MAX_TEXT_BYTES, SafetensorsHeader, read_safetensors


def read(path: Path) -> SafetensorsHeader:
    with open_regular(path) as file:
        return read_safetensors(file)


def official(path: Path) -> list[tuple[str, str, list[int]]] | None:
    try:
        return [(name, info["dtype"], info["shape"]) for name, info in safetensors.deserialize(path.read_bytes())]
    except safetensors.SafetensorError:
        return None


def compare(path: Path) -> bool:
    """Ours and the official parser accept the same files, and read the same from them."""
    theirs = official(path)
    try:
        header = read(path)
    except MalformedModelFile:
        assert theirs is None
        return False
    if header.trailing:
        assert theirs is None
        return False
    assert theirs is not None
    ours = [(info.name, info.dtype, list(info.shape)) for info in header.tensors]
    assert sorted(ours) == sorted(theirs)
    assert header.tensor_count == len(theirs)
    return True


NAMES = ["w", "model.layers.0.self_attn.q_proj.weight", "ü模😀", 'quo"te', "back\\slash", "tab\t", "a/b", "", "x" * 200]


def generate(path: Path, rng: random.Random) -> None:
    header: dict[str, object] = {}
    if rng.random() < 0.5:
        header["__metadata__"] = {f"k{n}": rng.choice(NAMES) * rng.choice([1, 50]) for n in range(rng.randint(0, 5))}
    end = 0
    for number in range(rng.randint(0, 6)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.randint(0, 4) for _ in range(rng.randint(0, 3))] + [8]
        size = DTYPES[dtype] * math.prod(shape) // 8
        header[f"{rng.choice(NAMES)}{number}"] = tensor(dtype, shape, end, end + size)
        end += size
    entries = list(header.items())
    if rng.random() < 0.4:
        rng.shuffle(entries)
    text = json.dumps(
        dict(entries),
        indent=rng.choice([None, 1]),
        ensure_ascii=rng.random() < 0.5,
        separators=rng.choice([None, (",", ":")]),
    )
    raw_safetensors(path, (text + " " * rng.choice([0, 0, 7])).encode(), bytes(end))


def test_agrees_with_the_official_parser_on_generated_files(tmp_path: Path) -> None:
    rng = random.Random(20250302)
    for _ in range(400):
        generate(tmp_path / "m", rng)
        assert compare(tmp_path / "m")


def test_agrees_with_the_official_parser_on_files_with_one_changed_byte(tmp_path: Path) -> None:
    rng = random.Random(20250303)
    verdicts: set[bool] = set()
    for _ in range(1500):
        generate(tmp_path / "m", rng)
        data = bytearray((tmp_path / "m").read_bytes())
        header = struct.unpack("<Q", data[:8])[0]
        data[8 + rng.randrange(header)] = rng.choice(b'"{}[]:,\\0129.-eA \n\x01\x80\xc3')
        (tmp_path / "m").write_bytes(data)
        if b'"data_offsets"' in data and len(set(_keys(bytes(data[8 : 8 + header])))) < len(
            _keys(bytes(data[8 : 8 + header]))
        ):
            continue  # the same tensor twice is refused only by ours
        verdicts.add(compare(tmp_path / "m"))
    assert verdicts == {True, False}


def _keys(text: bytes) -> list[str]:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    except ValueError:
        return []


A = tensor("F32", [1], 0, 4)
ODD = {
    "an empty header": ({}, b"", True),
    "white space after the header": (b"{}   ", b"", True),
    "metadata null": ({"__metadata__": None}, b"", True),
    "an unknown field": ({"a": {**A, "more": 1}}, b"0000", True),
    "an empty tensor in between": (
        {"a": A, "z": tensor("F32", [0], 0, 0), "b": tensor("F32", [1], 4, 8)},
        bytes(8),
        True,
    ),
    "text after the header": (b"{}\0", b"", False),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", False),
    "metadata nested": ({"__metadata__": {"a": {}}}, b"", False),
    "metadata twice": (b'{"__metadata__":{},"__metadata__":{}}', b"", False),
    "a field twice": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000", False),
    "a hole": ({"a": tensor("F32", [1], 4, 8)}, bytes(8), False),
    "an overlap": ({"a": A, "b": A}, b"0000", False),
    "an empty tensor inside another": (
        {"a": A, "z": tensor("F32", [0], 2, 2), "b": tensor("F32", [1], 4, 8)},
        bytes(8),
        False,
    ),
    "data cut short": ({"a": tensor("F32", [2], 0, 8)}, b"0000", False),
    "size and shape": ({"a": tensor("F32", [2], 0, 4)}, b"0000", False),
    "unknown dtype": ({"a": tensor("Q32", [1], 0, 4)}, b"0000", False),
    "half a byte": ({"a": tensor("F4", [1], 0, 1)}, b"0", False),
    "a shape of floats": ({"a": {**A, "shape": [1.0]}}, b"0000", False),
    "a shape of bools": ({"a": {**A, "shape": [True]}}, b"0000", False),
    "a negative shape": ({"a": tensor("F32", [-1], 0, 4)}, b"0000", False),
    "an overflow": ({"a": tensor("F32", [2**63, 4], 0, 4)}, b"0000", False),
    "offsets backwards": ({"a": tensor("F32", [1], 4, 0)}, b"0000", False),
    "offsets of three": ({"a": {**A, "data_offsets": [0, 4, 4]}}, b"0000", False),
    "offsets beyond 64 bit": ({"a": {**A, "data_offsets": [2**70, 2**70 + 4]}}, b"0000", False),
    "half a surrogate pair": (b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000", False),
    "a control character": (b'{"a\n":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000", False),
    "not UTF-8": (b'{"a\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000", False),
    "a list": ([], b"", False),
    "a leading zero": (b'{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}', b"0000", False),
    "a comma too many": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},}', b"0000", False),
    "nothing": (b"", b"", False),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_headers_get_the_official_verdict(tmp_path: Path, name: str) -> None:
    header, data, good = ODD[name]
    raw_safetensors(tmp_path / "m", header, data)
    assert compare(tmp_path / "m") is good


@pytest.mark.parametrize(
    ("header", "data", "trailing"), [({}, b"xx", 2), ({"a": A}, b"00000", 1), ({"a": A}, b"0000", 0)]
)
def test_what_follows_the_last_tensor_is_counted_not_refused(
    tmp_path: Path, header: dict[str, Any], data: bytes, trailing: int
) -> None:
    raw_safetensors(tmp_path / "m", header, data)
    assert read(tmp_path / "m").trailing == trailing


OURS = {
    "the same tensor twice": (b'{"a":%b,"a":%b}' % ((json.dumps(tensor("F32", [0], 0, 0)).encode(),) * 2), b""),
    "__metadata__ as a tensor": ({"__metadata__": A}, b"0000"),
    "an object in a field": ({"a": {**A, "more": {}}}, b"0000"),
    "brackets": (b'{"a":' + b"[" * 3_000_000, b""),
    "braces": (b'{"a":' + b'{"b":' * 3_000_000, b""),
    "one huge number": (b'{"a":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 10_000), b"0000"),
    "many metadata keys": ({"__metadata__": {str(n): "" for n in range(20_000)}}, b""),
    "much metadata": ({"__metadata__": {str(n): "x" * 60_000 for n in range(200)}}, b""),
    "a long name": ({"n" * 5000: A}, b"0000"),
    "a header larger than any": (b"{}" + b" " * own.MAX_READ_BYTES, b""),
    "too many tensors": (
        {str(n): tensor("F32", [1], 4 * n, 4 * n + 4) for n in range(own.MAX_TENSORS + 1)},
        bytes(4 * own.MAX_TENSORS + 4),
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_what_only_we_refuse(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header, data = OURS[name]
    monkeypatch.setattr("time.thread_time", lambda: 0.0)
    with pytest.raises(MalformedModelFile):
        read(raw_safetensors(tmp_path / "m", header, data))


def test_many_tensors_are_counted_and_some_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.thread_time", lambda: 0.0)
    count = own.MAX_LISTED + 500
    entries = [(f"layer.{n}.weight", tensor("F16", [2, 3], 12 * n, 12 * n + 12)) for n in range(count)]
    for order in (entries, entries[::-1]):
        header = read(raw_safetensors(tmp_path / "m", dict(order), bytes(12 * count)))
        assert (header.tensor_count, len(header.tensors)) == (count, own.MAX_LISTED)
        assert header.elements == {"F16": 6 * count}


@pytest.mark.parametrize("piece", ["x", "ü", "😀", "\\n", "\\u00e9", '\\"', "\\\\", "\\ud83d\\ude00"])
def test_long_metadata_is_cut_between_characters(tmp_path: Path, piece: str) -> None:
    for shift in range(7):
        text = "a" * shift + piece * 150_000
        header = read(raw_safetensors(tmp_path / "m", b'{"__metadata__":{"k":"%b","z":"end"}}' % text.encode()))
        assert header.cut == {"k": len(text.encode())}
        kept = header.metadata["k"]
        assert json.loads(f'"{text}"').startswith(kept)
        assert len(kept.encode()) >= MAX_TEXT_BYTES / 7
        assert header.metadata["z"] == "end"


def test_every_cut_of_a_good_file_is_refused(tmp_path: Path) -> None:
    whole = raw_safetensors(tmp_path / "m", {"__metadata__": {"a": "b"}, "a": A}, b"0000").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(MalformedModelFile, match=r"cut short|header"):
            read(tmp_path / "cut")
