"""Search against a matcher that looks at every model, and against everything a person may type."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumas.library import search, store
from pumas.library.entry import formats_and_quantizations, from_metadata
from pumas.library.search import Filters, Searcher
from pumas.library.words import facet, further, humps, size_band, words
from pumas.storage.database import Schema


def open_index() -> sqlite3.Connection:
    c = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    c.executescript(Schema.load("models").sql)
    return c


def fill(c: sqlite3.Connection, models: dict[str, dict[str, Any]]) -> None:
    store.apply(c, store.Batch(entries=[from_metadata(i, m) for i, m in models.items()]))


@pytest.fixture
def index() -> Iterator[sqlite3.Connection]:
    c = open_index()
    yield c
    c.close()


LIBRARY = {
    "llm/llama/Llama-3.1-8B": {"official_name": "Llama 3.1 8B", "tags": ["Chat", "café"], "model_type": "llm"},
    "llm/llama/Code": {"official_name": "Code of Llama", "description": "for quiet harbours", "model_type": "llm"},
    "llm/qwen/Qwen": {"official_name": "Qwen2.5-7B", "tags": ["llama", "chat"], "model_type": "llm"},
    "diffusion/flux/flux.1": {
        "official_name": "FLUX.1-dev",
        "model_type": "diffusion",
        "subtype": "checkpoints",
        "description": "knows llama pictures",
        "files": [{"name": "flux1-dev-Q8_0.safetensors", "size": 5}],
    },
    "audio/yi/模型": {"official_name": "模型 Ünïcode", "tags": ["ÉCOLE"], "model_type": "audio"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llama 3.1", ["llm/llama/Llama-3.1-8B"]),
        ("LLAMA-3_1/8b", ["llm/llama/Llama-3.1-8B"]),
        ("flux.1", ["diffusion/flux/flux.1"]),
        ("cafe", ["llm/llama/Llama-3.1-8B"]),
        ("CAFÉ", ["llm/llama/Llama-3.1-8B"]),
        ("cafe\u0301", ["llm/llama/Llama-3.1-8B"]),
        ("ecole", ["audio/yi/模型"]),
        ("unicode", ["audio/yi/模型"]),
        ("模", ["audio/yi/模型"]),
        ("harb quie", ["llm/llama/Code"]),
        ("safetensors q8_0", ["diffusion/flux/flux.1"]),
        ("checkp", ["diffusion/flux/flux.1"]),
        # Name before tag before description; inside the name, whole words before beginnings.
        ("llama", ["llm/llama/Llama-3.1-8B", "llm/llama/Code", "llm/qwen/Qwen", "diffusion/flux/flux.1"]),
        ("NOT", []),
        ("nothing", []),
        # Nothing to search for is everything.
        ("***", sorted(LIBRARY)),
        ("", sorted(LIBRARY)),
    ],
)
def test_finds(index: sqlite3.Connection, text: str, expected: list[str]) -> None:
    fill(index, LIBRARY)
    page = Searcher().search(index, text)
    found = [hit.id for hit in page.hits]
    if text == "llama":
        assert set(found[:2]) == set(expected[:2])
        assert found[2:] == expected[2:]
    else:
        assert sorted(found) == sorted(expected)
    assert page.total == len(expected)
    assert page.match == "all"


SPELLED = {
    "llm/llama/a": {"official_name": "Llama 3.1 8B"},
    "llm/qwen/b": {"official_name": "Qwen3-8B"},
    "llm/qwen/c": {"official_name": "Qwen2.5 VL 3B", "tags": ["phi4"]},
    "diffusion/flux/d": {"official_name": "FLUX.1-dev fp16"},
    "llm/ru/e": {"official_name": "Русский Йод Ёлка", "tags": ["большой"]},
    "llm/gr/f": {"official_name": "Μοντέλο"},
    "llm/zh/g": {"official_name": "通义千问 7B", "tags": ["日本語モデル"]},
    "llm/ja/h": {"official_name": unicodedata.normalize("NFD", "デモ")},
    "llm/ds/i": {"official_name": "DeepSeek-R1", "tags": ["StableCode"]},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A number may stand apart from the name before it, here and there.
        ("llama3", "a"),
        ("llama3.1", "a"),
        ("llama3.1 8b", "a"),
        ("qwen 3", "bc"),
        ("qwen3", "b"),
        ("qwen 2.5", "c"),
        ("phi 4", "c"),
        ("flux1", "d"),
        ("7b", "g"),
        ("16", ""),
        # Names are put together of words.
        ("deepseek", "i"),
        ("deep seek", "i"),
        ("seek r1", "i"),
        ("code", "i"),
        # The tokenizer folds Latin only.
        ("йод", "e"),
        ("ЁЛКА", "e"),
        ("елка", "e"),
        ("большои", "e"),
        ("большой русский", "e"),
        ("μοντέλο", "f"),
        ("ΜΟΝΤΕΛΟ", "f"),
        # Nothing stands between the words of these.
        ("通义", "g"),
        ("千问", "g"),
        ("モデル", "g"),
        ("デモ", "h"),
    ],
)
def test_finds_what_is_spelled_otherwise(index: sqlite3.Connection, text: str, expected: str) -> None:
    fill(index, SPELLED)
    page = Searcher().search(index, text)
    assert (sorted(hit.id[-1] for hit in page.hits), page.total, page.match) == (list(expected), len(expected), "all")
    assert sum(Searcher().facets(index, text, Filters(), {}).families.values()) == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Llama 3.1 8B", ""),
        ("Qwen3-8B phi4mini x3 c3po fp16", "3 4mini"),
        ("Ёлка qwen3 7B", "елка 3"),
        ("通义千问 x", "通义千问 义千问 千问 问"),
    ],
)
def test_other_spellings_are_kept_in_the_order_of_the_words(text: str, expected: str) -> None:
    assert " ".join(further(words(text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DeepSeek-R1 TinyLlama", "deep seek tiny llama"),
        ("epiCRealism RealVisXL2Turbo", "epi c realism real vis xl2 turbo"),
        ("llama 3.1 8B Q4_K_M SDXL GGUF gpt-oss", ""),
        ("ÉcoleDeParis MiniCPM", "mini cpm"),
    ],
)
def test_names_are_put_together_of_words(text: str, expected: str) -> None:
    assert " ".join(humps(text)) == expected


def test_a_number_apart_is_no_reason_to_show_anything(index: sqlite3.Connection) -> None:
    fill(index, SPELLED)
    assert Searcher().search(index, "zebra3").total == 0
    page = Searcher().search(index, "llama3.1 zebra")
    assert (page.hits[0].id, page.match) == ("llm/llama/a", "any")


def test_any_word_when_no_model_has_all(index: sqlite3.Connection) -> None:
    fill(index, LIBRARY)
    page = Searcher().search(index, "flux harbours qwen2 zzz")
    assert page.match == "any"
    assert {hit.id for hit in page.hits} == {"diffusion/flux/flux.1", "llm/llama/Code", "llm/qwen/Qwen"}
    assert " OR " in page.query


def test_a_hit_has_everything_that_a_list_shows(index: sqlite3.Connection) -> None:
    fill(index, LIBRARY)
    [hit] = Searcher().search(index, "flux").hits
    assert (hit.subtype, hit.size_bytes, hit.security_tier, hit.primary_file, hit.related_available) == (
        "checkpoints",
        5,
        "safe",
        "flux1-dev-Q8_0.safetensors",
        False,
    )
    assert search.one(index, hit.id) == hit
    assert search.one(index, "no/such") is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(model_types=["llm"]), 3),
        (Filters(model_types=["LLM"]), 0),
        (Filters(model_types=["llm", "audio"]), 4),
        (Filters(tags=["CHAT"]), 2),
        (Filters(tags=["chat", "Llama"]), 1),
        (Filters(tags=["école"]), 1),
        (Filters(tags=["cha"]), 0),
        (Filters(subtype="checkpoints"), 1),
        (Filters(families=["Flux"]), 1),
        (Filters(families=["flux", "QWEN"]), 2),
        (Filters(formats=["safetensors"]), 1),
        (Filters(formats=["gguf"]), 0),
        (Filters(quants=["q8_0"]), 1),
        (Filters(quants=["Q8_0", "Q4_K_M"]), 1),
        (Filters(quants=["Q8"]), 0),
        (Filters(sizes=["0"]), 1),
        (Filters(sizes=["1", "4"]), 0),
        (Filters(model_types=["audio"], tags=["chat"]), 0),
        (Filters(tags=['x" OR "chat']), 0),
    ],
)
@pytest.mark.parametrize("text", ["", "l"])
def test_filters(index: sqlite3.Connection, filters: Filters, expected: int, text: str) -> None:
    fill(index, LIBRARY)
    page = Searcher().search(index, text, filters=filters, limit=1)
    if not text:
        assert page.total == expected
        assert len(page.hits) == min(expected, 1)
    everything = Searcher().search(index, text, filters=filters)
    assert everything.total == len(everything.hits)


@pytest.mark.parametrize("limit", [None, -1, 0, 1, 5000, 2**70])
@pytest.mark.parametrize("offset", [-1, 0, 2**70])
def test_limits_are_kept(index: sqlite3.Connection, limit: int | None, offset: int) -> None:
    fill(index, LIBRARY)
    page = Searcher().search(index, "", limit=limit, offset=offset)
    assert len(page.hits) == (0 if offset > 5 else 1 if limit is not None and limit < 2 else 5)
    assert page.total == 5


# -- many matches ----------------------------------------------------------------------------------------------------


def many(count: int = 900) -> dict[str, dict[str, Any]]:
    kinds = ("llm", "audio", "diffusion")
    models: dict[str, dict[str, Any]] = {}
    for n in range(count):
        where = n % 4
        models[f"{kinds[n % 3]}/fam/m{n}"] = {
            "model_type": kinds[n % 3],
            "official_name": f"{'harbor' if where == 0 else 'harborside' if where == 1 else 'other'} m{n}",
            "tags": ["harbor"] if where == 2 else ["even"] if n % 2 == 0 else [],
            "description": "a harbor" if where == 3 else "",
            "updated_date": f"2026-01-01T00:00:{n % 60:02}.000000Z",
        }
    models["llm/fam/harbor"] = {"official_name": "Harbor", "model_type": "llm"}
    return models


@pytest.fixture(params=[search.NARROW, 600, search.MODERATE], ids=["few listed", "some", "all"])
def moderate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of ordering many matches is held to the same."""
    monkeypatch.setattr(search, "MODERATE", request.param)


@pytest.mark.usefixtures("moderate")
@pytest.mark.parametrize("filters", [Filters(), Filters(model_types=["llm"])])
@pytest.mark.parametrize("text", ["harbor", "harb", "", "m har", "zzz harbor"])
def test_pages_neither_overlap_nor_lose_anything(index: sqlite3.Connection, text: str, filters: Filters) -> None:
    fill(index, many())
    searcher = Searcher()
    whole = searcher.search(index, text, filters=filters, limit=1000)
    assert whole.total == len(whole.hits) > search.NARROW
    for size in (1000, 7, 50, 333):
        pages = [
            searcher.search(index, text, filters=filters, limit=size, offset=o) for o in range(0, whole.total, size)
        ]
        assert [hit.id for page in pages for hit in page.hits] == [hit.id for hit in whole.hits]
        assert {page.total for page in pages} == {whole.total}
    assert Searcher().search(index, text, filters=filters, limit=50, offset=whole.total).hits == []


def newer_and_newer(*names: str) -> dict[str, dict[str, Any]]:
    """Models of these names; of equal matches the last comes first."""
    return {
        f"llm/fam/{n}": {"official_name": name, "model_type": "llm", "updated_date": f"2026-01-01T00:00:{n:02}.000000Z"}
        for n, name in enumerate(names)
    }


def test_of_equal_matches_those_come_first_whose_name_begins_with_the_first_word(index: sqlite3.Connection) -> None:
    names = ["DeepSeek R1 Distill Qwen 14B", "Qwen2.5 7B Instruct", "Qwen2.5 Coder", "Tiny Qwen"]
    fill(index, newer_and_newer(*names))
    for text in ("qw", "qwen"):
        assert [hit.official_name for hit in Searcher().search(index, text).hits] == [
            "Qwen2.5 Coder",
            "Qwen2.5 7B Instruct",
            "Tiny Qwen",
            "DeepSeek R1 Distill Qwen 14B",
        ]


@pytest.mark.parametrize(
    ("text", "first"), [("phi", "Phi3 mini"), ("phi3", "Phi3 mini"), ("phi 3", "Phi 3"), ("p", "Phi3 mini")]
)
def test_a_number_behind_a_word_ends_it(index: sqlite3.Connection, text: str, first: str) -> None:
    names = ["Phi 3", "Phi30", "Philo", "Phi3 mini"]
    fill(index, newer_and_newer(*names))
    assert Searcher().search(index, text).hits[0].official_name == first


@pytest.mark.usefixtures("moderate")
def test_many_matches_are_ordered_by_where_the_words_stand(index: sqlite3.Connection) -> None:
    fill(index, many())
    hits = Searcher().search(index, "harbor", limit=1000).hits

    def place(hit: search.Hit) -> int:
        name = words(hit.official_name)
        places = (name == ["harbor"], "harbor" in name, "harborside" in name, "harbor" in hit.tags)
        return places.index(True) if any(places) else len(places)

    assert hits[0].id == "llm/fam/harbor"
    assert [place(hit) for hit in hits] == sorted(place(hit) for hit in hits)
    assert {place(hit) for hit in hits} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("tag", ["cafe", "Café", "CAFE-au-lait", "Ёлка cafe"])
def test_a_tag_says_more_than_a_description_and_a_part_of_a_word_nothing(index: sqlite3.Connection, tag: str) -> None:
    described = {"description": "in a cafe", "updated_date": "2026-01-02T00:00:00.000000Z"}
    models = {
        "llm/x/tagged": {"official_name": "a", "tags": [tag], "updated_date": "2026-01-01T00:00:00.000000Z"},
        "llm/x/described": {"official_name": "b", **described},
        "llm/x/decafe": {"official_name": "c", "tags": ["decafe"], **described},
    }
    fill(index, models)
    hits = Searcher().search(index, "cafe").hits
    assert [hit.id for hit in hits] == ["llm/x/tagged", "llm/x/decafe", "llm/x/described"]


def test_totals_are_remembered_only_while_nothing_changes(index: sqlite3.Connection) -> None:
    fill(index, many())
    searcher = Searcher()
    before = searcher.search(index, "harbor", limit=1).total
    fill(index, {"llm/x/new": {"official_name": "harbor new"}})
    assert searcher.search(index, "harbor", limit=1).total == before + 1
    assert searcher.search(index, "", limit=1).total == 902


# -- another order ---------------------------------------------------------------------------------------------------

NAMES = ("Auk", "auk", "Égret 3", "egret", "Bittern 10", "", "鷺", "Zebra finch")


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 3), st.integers(0, 3), st.sampled_from("xy")),
        max_size=30,
    ),
    st.sampled_from(["", "auk", "e", "auk egret", "zzz bittern"]),
    st.sampled_from([Filters(), Filters(model_types=["x"]), Filters(ids=[f"x/fam/m{n}" for n in range(0, 30, 2)])]),
    st.integers(1, 7),
    st.sampled_from([0, 5, 2000]),
)
@settings(max_examples=60, deadline=None)
def test_each_order_is_that_of_all_matches_sorted(
    models: list[tuple[str, int | None, int, str]], text: str, filters: Filters, size: int, many: int
) -> None:
    c = open_index()
    fill(
        c,
        {
            f"{kind}/fam/m{n}": {
                "official_name": name,
                "model_type": kind,
                "updated_date": f"2026-01-01T00:00:0{day}.000000Z",
                **({} if size is None else {"size_bytes": size}),
            }
            for n, (name, size, day, kind) in enumerate(models)
        },
    )
    searcher = Searcher(many=many)
    best = searcher.search(c, text, filters=filters, limit=1000)
    rows = dict(c.execute("SELECT id, row FROM models"))
    keys: dict[search.Sort, Callable[[search.Hit], tuple[Any, ...]]] = {
        "name": lambda hit: (" ".join(words(hit.official_name)), hit.id),
        "largest": lambda hit: (hit.size_bytes is None, -(hit.size_bytes or 0), hit.id),
        "smallest": lambda hit: (hit.size_bytes is None, hit.size_bytes or 0, hit.id),
    }
    newest = sorted(best.hits, key=lambda hit: (hit.updated_at, rows[hit.id]), reverse=True)
    expected = {sort: sorted(best.hits, key=key) for sort, key in keys.items()} | {"newest": newest}
    for sort, hits in expected.items():
        pages = [
            searcher.search(c, text, filters=filters, limit=size, offset=offset, sort=sort)
            for offset in range(0, best.total + 1, size)
        ]
        assert [hit for page in pages for hit in page.hits] == hits, sort
        assert {(page.total, page.query, page.match) for page in pages} == {(best.total, best.query, best.match)}
    c.close()


def test_an_order_is_that_of_the_library_as_it_is_now(index: sqlite3.Connection) -> None:
    searcher = Searcher(many=0)
    fill(index, many())
    assert searcher.search(index, "", limit=1, sort="name").hits[0].official_name == "Harbor"
    fill(index, {"llm/x/new": {"official_name": "a new one"}})
    page = searcher.search(index, "", limit=1, sort="name")
    assert (page.hits[0].official_name, page.total) == ("a new one", 902)
    store.apply(index, store.Batch(removed_models=["llm/x/new"]))
    assert searcher.search(index, "", limit=1, sort="name").hits[0].official_name == "Harbor"


# -- anything a person may type --------------------------------------------------------------------------------------

ODD = [
    "c++", "a:b", "(x", "o'neil", "*", 'x"y', '"', '""', "AND", "OR NOT NEAR", "NEAR(a b)", "col:x",
    "{official_name} : a", "^a", "a -b", "- {id} : a", "a*b", "\\", "%", "_", "\0", "a\0b", "\ud800", "x\udfffy",
    "\ufeff", "\u200b", "٣٤", "ﬁ", "ß", "İ", "ǅ", "ᦰ", "a\u19b0b", "\u1cf2", "\ue000", "\U000f0001\U00100002",
    "👩\u200d💻", "𞤀𞤁", "क्षि", "ไทย", "가나다", "a" * 1_000_000, "a " * 500_000, '"' * 10_000, "(" * 10_000,
    " ".join(f"w{n}" for n in range(5000)),
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:12]))
def test_no_text_is_a_syntax_error(index: sqlite3.Connection, text: str) -> None:
    fill(index, LIBRARY)
    for filters in (Filters(), Filters(model_types=[text], tags=[text], subtype=text, families=[text], quants=[text])):
        page = Searcher().search(index, text, filters=filters)
        assert page.total == len(page.hits)


def test_no_letter_of_any_script_is_a_syntax_error(index: sqlite3.Connection) -> None:
    """`detail=column` refuses phrases, so what we call one word must be one word to SQLite."""
    letters = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n))[0] in "LN"]
    for start in range(0, len(letters), 400):
        for term in words(" ".join(f"a{letter}b" for letter in letters[start : start + 400])):
            index.execute("SELECT 1 FROM model_search WHERE model_search MATCH ?", (f'"{term}"*',)).fetchall()


def test_a_query_has_no_more_words_than_it_may() -> None:
    many = " ".join(f"word{n}" for n in range(1000))
    assert search.terms(many) == [f"word{n}" for n in range(search.MAX_TERMS)]
    assert search.terms("x" * 1000 + " y") == ["x" * search.MAX_TERM, "y"]
    assert search.terms(" " * search.MAX_TEXT + "behind") == []


def test_no_query_reaches_a_facet(index: sqlite3.Connection) -> None:
    fill(index, {"llm/a/b": {"official_name": "plain", "model_type": "llm"}})
    token = facet("type", "llm")
    for text in (token, f"zzz{token}", *words(token), token[1:4]):
        assert Searcher().search(index, text).total == 0, text


WORDS = ["ab", "abc", "b", "ba", "c3", "é", "Ünit", "模型", "x.y", "a-b", "AND"]


def brute(models: dict[str, dict[str, Any]], terms: Sequence[str], filters: Filters) -> set[str]:
    def holds(model_id: str, model: dict[str, Any]) -> bool:
        text = [model_id, model["official_name"], model["description"], model["model_type"], *model["tags"]]
        known = words(" ".join(text))
        return all(any(word.startswith(term) for word in known) for term in terms)

    def passes(model: dict[str, Any]) -> bool:
        tags = {tag.casefold() for tag in model["tags"]}
        types = filters.model_types
        return (not types or model["model_type"] in types) and all(t.casefold() in tags for t in filters.tags)

    return {i for i, m in models.items() if holds(i, m) and passes(m)}


_model = st.fixed_dictionaries(
    {
        "official_name": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
        "description": st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join),
        "tags": st.lists(st.sampled_from(WORDS), max_size=3, unique_by=str.casefold),
        "model_type": st.sampled_from(["llm", "audio"]),
    }
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_model, max_size=12),
    st.lists(st.sampled_from([*WORDS, "a", "mo", "zz"]), max_size=3),
    st.sampled_from([Filters(), Filters(model_types=["llm"]), Filters(tags=["AB"]), Filters(tags=["é", "b"])]),
)
def test_agrees_with_a_look_at_every_model(models: list[dict[str, Any]], text: list[str], filters: Filters) -> None:
    c = open_index()
    library = {f"t/f/n{n}": model for n, model in enumerate(models)}
    fill(c, library)
    page = Searcher().search(c, " ".join(text), filters=filters)
    terms = search.terms(" ".join(text))
    expected = brute(library, terms, filters)
    if page.match == "any":
        assert not expected
        expected = {i for term in terms for i in brute(library, [term], filters)}
    assert {hit.id for hit in page.hits} == expected
    assert page.total == len(expected)
    c.close()


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert Searcher().search(_SHARED, text).total <= len(LIBRARY)


_SHARED = open_index()
fill(_SHARED, LIBRARY)


# Both ways of counting: from memory, and by reading the row of each match.
COUNTED = [0, 1_000_000]


@pytest.mark.parametrize("many", COUNTED)
def test_counts_of_facets_are_what_filters_find(index: sqlite3.Connection, many: int) -> None:
    fill(index, LIBRARY)
    counts = Searcher(many=many).facets(index, "", Filters(), {})
    assert counts.types == {"llm": 3, "diffusion": 1, "audio": 1}
    assert counts.tags == {"chat": 1, "Chat": 1, "café": 1, "llama": 1, "ÉCOLE": 1}
    assert (counts.formats, counts.quants, counts.sizes) == ({"safetensors": 1}, {"Q8_0": 1}, {"0": 1})
    for name, field in (("families", "families"), ("formats", "formats"), ("quants", "quants"), ("sizes", "sizes")):
        for value, count in getattr(counts, name).items():
            assert Searcher().search(index, "", filters=Filters(**{field: [value]})).total == count


FIELDS = {
    "types": "model_types",
    "families": "families",
    "formats": "formats",
    "quants": "quants",
    "sizes": "sizes",
}
NARROWED = [
    ("", Filters(model_types=["llm"])),
    ("", Filters(families=["LLAMA"], sizes=["1"])),
    ("llama", Filters()),
    ("llama", Filters(model_types=["llm"], quants=["q4_k_m"])),
    ("8b llama", Filters(formats=["gguf"], tags=["chat"])),
    ("llama nothing", Filters(model_types=["llm", "diffusion"])),
    ("zzz yyy", Filters()),
    ("", Filters(subtype="checkpoints")),
    ("", Filters(ids=["llm/llama/one", "llm/qwen/three", "gone"])),
    ("llama", Filters(ids=["llm/llama/one", "diffusion/flux/four"], sizes=["1"])),
    ("", Filters(ids=[])),
]
MIXED = {
    "llm/llama/one": ("Llama 8B", "gguf", "Q4_K_M", 5, ["chat", "small"]),
    "llm/llama/two": ("Llama 70B", "gguf", "Q8_0", 1 << 32, ["Chat"]),
    "llm/qwen/three": ("Qwen knows llama", "safetensors", "fp16", 1 << 31, ["code"]),
    "diffusion/flux/four": ("Flux", "safetensors", "fp8", 1 << 30, ["llama"]),
    "audio/yi/five": ("Yi", "safetensors", "Q4_K_M", 0, []),
}


@pytest.mark.parametrize("many", COUNTED)
@pytest.mark.parametrize(("text", "filters"), NARROWED)
def test_a_count_is_what_choosing_the_value_finds(
    index: sqlite3.Connection, text: str, filters: Filters, many: int
) -> None:
    fill(
        index,
        {
            model_id: {
                "official_name": name,
                "subtype": "checkpoints" if "flux" in model_id else "",
                "tags": tags,
                "size_bytes": size,
                "files": [{"name": f"m-{quant}.{kind}", "size": size}],
            }
            for model_id, (name, kind, quant, size, tags) in MIXED.items()
        },
    )
    used_by = {"comfyui": ["llm/llama/one", "diffusion/flux/four"], "ollama": ["llm/llama/one"], "none": ["gone"]}

    def total(**changes: Any) -> int:
        page = Searcher().search(index, text, filters=replace(filters, **changes), limit=1000)
        assert len(page.hits) == page.total
        # One word of several that is found at all is another search, not a narrower one.
        return page.total if page.match == match else 0

    found = Searcher().search(index, text, filters=filters)
    match = found.match
    counts = Searcher(many=many).facets(index, text, filters, used_by)
    for kind, field in FIELDS.items():
        values = {value for one in NARROWED for value in getattr(one[1], field)} | set(getattr(counts, kind))
        for value in values - {"LLAMA", "q4_k_m"}:
            assert getattr(counts, kind).get(value, 0) == total(**{field: [value]}), (kind, value)
    for tag, count in counts.tags.items():
        same_tags = [t for t in counts.tags if t.casefold() == tag.casefold()]
        assert sum(counts.tags[t] for t in same_tags) == total(tags=[*filters.tags, tag]), (tag, count)
    for app, ids in used_by.items():
        assert counts.apps.get(app, 0) == total(ids=ids), app
    assert "none" not in counts.apps


@pytest.mark.parametrize("text", ["", "harb", "harbor m", "zzz even", "m1"])
@pytest.mark.parametrize("filters", [Filters(), Filters(model_types=["llm"], sizes=["0"]), Filters(ids=["llm/fam/m6"])])
def test_counts_from_memory_are_those_of_the_rows(index: sqlite3.Connection, text: str, filters: Filters) -> None:
    models = many(900)
    for n, model in enumerate(models.values()):
        # More tags than are shown, many of them on equally many models, some twice on one.
        model["tags"] = [*model.get("tags", []), f"t{n % 150}", f"t{n % 40}"]
        model["size_bytes"] = None if n % 3 else n << 24
        model["files"] = [{"name": f"m.{'gguf' if n % 2 else 'safetensors'}", "size": 1}]
    fill(index, models)
    index.execute("DELETE FROM models WHERE row % 7 = 3")
    used_by = {
        "comfyui": [f"llm/fam/m{n}" for n in range(0, 900, 3)],
        "other": ["llm/fam/m6", "gone"],
        "none": ["gone"],
    }
    from_memory, from_rows = (Searcher(many=many).facets(index, text, filters, used_by) for many in COUNTED)
    for kind, counts, expected in zip(from_rows._fields, from_memory, from_rows, strict=True):
        assert list(counts.items()) == list(expected.items()), kind


def test_counts_from_memory_follow_the_library(index: sqlite3.Connection) -> None:
    fill(index, LIBRARY)
    searcher = Searcher(many=0)
    assert searcher.facets(index, "", Filters(), {}).types["llm"] == 3
    fill(index, {"llm/x/new": {"official_name": "new", "model_type": "llm"}})
    assert searcher.facets(index, "", Filters(), {}).types["llm"] == 4


@pytest.mark.parametrize(
    ("size", "band"),
    [(0, "0"), ((1 << 30) - 1, "0"), (1 << 30, "1"), (5 << 30, "4"), (63 << 30, "32"), (1 << 50, "64")],
)
def test_size_bands(size: int, band: str) -> None:
    assert size_band(size) == band


def test_what_the_index_says_of_formats_and_quantisations() -> None:
    assert formats_and_quantizations("checkpoints gguf safetensors q4_k_m") == (["gguf", "safetensors"], ["Q4_K_M"])
    assert formats_and_quantizations("text-to-image safetensors ") == (["safetensors"], [])
    assert formats_and_quantizations("") == ([], [])


def test_a_quantisation_that_only_the_content_told_is_found(index: sqlite3.Connection) -> None:
    plain = {"files": [{"name": "plain.gguf", "size": 5}]}
    for told, name in (("q4_k_m", "a"), ("", "b"), (None, "c"), ("hello", "d")):
        fill(index, {f"llm/x/{name}": plain | {"quantization": told}})
    fill(index, {"llm/x/e": {"files": [{"name": "x-Q8_0.gguf", "size": 5}], "quantization": "Q6_K"}})
    for text, quants in (("q4_k_m", []), ("", ["Q4_K_M"])):
        assert [hit.id for hit in Searcher().search(index, text, filters=Filters(quants=quants)).hits] == ["llm/x/a"]
    assert Searcher().facets(index, "", Filters(), {}).quants == {"Q4_K_M": 1, "Q6_K": 1}


@pytest.mark.parametrize(
    ("filename", "asked"),
    [
        ("harbor-7bQ4_K_M.gguf", "q4_k_m"),  # as older sidecars wrote `harbor-7b.Q4_K_M.gguf`
        ("Lumen-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("Lumen-IQ4_KSS.gguf", "IQ4_KSS"),
        ("Lumen-TQ1_0.gguf", "tq1_0"),
        ("gptq_model-4bit-128g.safetensors", "GPTQ-Int4"),
        ("lumen-nf4-v2.safetensors", "NF4"),
    ],
)
def test_quantisations_are_known_by_what_the_parser_reads(index: sqlite3.Connection, filename: str, asked: str) -> None:
    fill(index, {"llm/lumen/x": {"files": [{"name": filename, "size": 5}]}, "llm/lumen/y": {"official_name": asked}})
    found = Searcher().search(index, "", filters=Filters(quants=[asked])).hits
    assert [hit.id for hit in found] == ["llm/lumen/x"]
    (shown,) = formats_and_quantizations(found[0].kinds)[1]
    assert Searcher().search(index, "", filters=Filters(quants=[shown])).hits == found
