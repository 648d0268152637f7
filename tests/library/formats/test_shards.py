import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.library.formats.shards import MAX_MISSING, detect_sharded_sets


def summary(paths: list[str]) -> dict[str, tuple[list[str], bool, list[int], int, int]]:
    return {
        key: (
            g.files,
            g.validation.complete,
            g.validation.missing_shards,
            g.validation.total_expected,
            g.validation.total_found,
        )
        for key, g in detect_sharded_sets(paths).items()
    }


A = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]

CASES = {
    "a whole set": (A[::-1], {"m.gguf": (A, True, [], 3, 3)}),
    "one is missing": ([A[0], A[2]], {"m.gguf": ([A[0], A[2]], False, [2], 3, 2)}),
    "alone": ([A[1]], {A[1]: ([A[1]], False, [1, 3], 3, 1)}),
    "the only one of one": (
        ["m-00001-of-00001.gguf"],
        {"m-00001-of-00001.gguf": (["m-00001-of-00001.gguf"], True, [], 1, 1)},
    ),
    "parts": (["m.gguf.part2", "m.gguf.part1"], {"m.gguf": (["m.gguf.part1", "m.gguf.part2"], True, [], 2, 2)}),
    "counted": (["m_00002.bin", "m_00001.bin"], {"m.bin": (["m_00001.bin", "m_00002.bin"], True, [], 2, 2)}),
    "counted alone": (["m_00002.bin"], {"m_00002.bin": (["m_00002.bin"], True, [], 1, 1)}),
    "four digits are a name": (
        ["m_0001.bin", "m_0002.bin"],
        {n: ([n], True, [], 1, 1) for n in ("m_0001.bin", "m_0002.bin")},
    ),
    "others stand alone": (["x.gguf", *A], {"m.gguf": (A, True, [], 3, 3), "x.gguf": (["x.gguf"], True, [], 1, 1)}),
    "two endings": (
        ["m-1-of-2.gguf", "m-2-of-2.gguf", "m-1-of-2.safetensors", "m-2-of-2.safetensors"],
        {
            "m.gguf": (["m-1-of-2.gguf", "m-2-of-2.gguf"], True, [], 2, 2),
            "m.safetensors": (["m-1-of-2.safetensors", "m-2-of-2.safetensors"], True, [], 2, 2),
        },
    ),
    "totals disagree": (
        ["m-1-of-2.bin", "m-2-of-3.bin"],
        {"m.bin": (["m-1-of-2.bin", "m-2-of-3.bin"], False, [], 3, 2)},
    ),
    "number too high": (
        ["m-1-of-2.bin", "m-3-of-2.bin"],
        {"m.bin": (["m-1-of-2.bin", "m-3-of-2.bin"], False, [], 2, 2)},
    ),
    "number zero": (["m-0-of-2.bin", "m-1-of-2.bin"], {"m.bin": (["m-0-of-2.bin", "m-1-of-2.bin"], False, [], 2, 2)}),
    "number twice": (
        ["m-01-of-02.bin", "m-1-of-02.bin"],
        {"m.bin": (["m-01-of-02.bin", "m-1-of-02.bin"], False, [], 2, 2)},
    ),
    "given twice": ([A[0], A[0]], {A[0]: ([A[0]], False, [2, 3], 3, 1)}),
    "two folders": (
        ["/a/m-1-of-2.bin", "/b/m-2-of-2.bin", "/a/m-2-of-2.bin", "/b/m-1-of-2.bin"],
        {
            "m.bin": (["/a/m-1-of-2.bin", "/a/m-2-of-2.bin"], True, [], 2, 2),
            "b/m.bin": (["/b/m-1-of-2.bin", "/b/m-2-of-2.bin"], True, [], 2, 2),
        },
    ),
    "same name thrice": (
        ["/a/x/m.bin", "/b/x/m.bin", "/c/x/m.bin"],
        {
            "m.bin": (["/a/x/m.bin"], True, [], 1, 1),
            "x/m.bin": (["/b/x/m.bin"], True, [], 1, 1),
            "x/m.bin (2)": (["/c/x/m.bin"], True, [], 1, 1),
        },
    ),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_sets(name: str) -> None:
    paths, expected = CASES[name]
    assert summary(paths) == expected


def test_what_is_wrong_is_said() -> None:
    def error(*paths: str) -> str:
        (group,) = detect_sharded_sets(paths).values()
        return group.validation.error

    assert error(*A) == ""
    assert error(A[0], A[2]) == "1 of 3 parts are missing"
    assert "disagree" in error("m-1-of-2.bin", "m-2-of-3.bin")
    assert "outside 1 to 2" in error("m-1-of-2.bin", "m-3-of-2.bin")
    assert "same number" in error("m-01-of-02.bin", "m-1-of-02.bin")


def test_huge_claims_do_not_allocate() -> None:
    tracemalloc.start()
    paths = [
        "m-00001-of-999999999.gguf",
        "m-00003-of-999999999.gguf",
        "m-00000000000000000009-of-99999999999999999.gguf",
    ]
    groups = detect_sharded_sets(paths)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    found = groups["m.gguf"].validation
    assert found.missing_shards == [2, *range(4, MAX_MISSING + 3)]
    assert (found.complete, found.total_expected, found.total_found) == (False, 999_999_999, 2)
    assert found.error == f"999999997 of 999999999 parts are missing; only the first {MAX_MISSING} are listed"


names = st.one_of(
    st.text(max_size=12),
    st.builds(
        "{}-{}-of-{}{}".format, st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9), st.sampled_from([".x", ""])
    ),
    st.builds("{}.x.part{}".format, st.sampled_from("ab"), st.integers(0, 9)),
)


@given(st.lists(st.builds("{}{}".format, st.sampled_from(["", "d/", "/e/d/"]), names), max_size=12))
def test_every_path_appears_exactly_once(paths: list[str]) -> None:
    groups = detect_sharded_sets(paths)
    assert sorted(path for group in groups.values() for path in group.files) == sorted(set(paths))
    for group in groups.values():
        found = group.validation
        assert found.total_found == len(group.files)
        assert found.complete == (not found.error)
