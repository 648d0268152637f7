import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.errors import InvalidInput
from pumas.hub.model import HubFile, HubListing, HubModel, is_commit, parse_place, parse_repo_id

NAMES = {
    "acme/Lumen-7B": "acme/Lumen-7B",
    "  acme/Lumen-7B ": "acme/Lumen-7B",
    "a/b": "a/b",
    "acme/_hidden.v1_2": "acme/_hidden.v1_2",
    "https://huggingface.co/acme/Lumen-7B": "acme/Lumen-7B",
    "http://huggingface.co/acme/Lumen-7B/": "acme/Lumen-7B",
    "https://www.huggingface.co/acme/Lumen-7B?library=transformers": "acme/Lumen-7B",
    "https://hf.co/acme/Lumen-7B/tree/main/sub": "acme/Lumen-7B",
    "https://hf-mirror.com/acme/Lumen-7B/tree/main": "acme/Lumen-7B",
    "https://HuggingFace.co/acme/Lumen-7B/blob/main/a.gguf": "acme/Lumen-7B",
    "https://huggingface.co/acme/Lumen-7B/resolve/refs%2Fpr%2F1/a.gguf?download=true": "acme/Lumen-7B",
    "https://huggingface.co/models/acme/Lumen-7B": "acme/Lumen-7B",
    "huggingface.co/acme/Lumen-7B": "acme/Lumen-7B",
    "hf.co/acme/Lumen-7B#readme": "acme/Lumen-7B",
    "hf://acme/Lumen-7B": "acme/Lumen-7B",
    "acme/Lumen-7B:Q4_K_M": "acme/Lumen-7B",
    "hf.co/acme/Lumen-7B:latest": "acme/Lumen-7B",
}
REFUSED = [
    "", " ", "lumen", "a/b/c", "/b", "a/", "a//b", "../b", "a/..", "a/.", "./b", ".a/b", "-a/b", "a/-b", "a/b-", "a/b.",
    "a./b", "a/b--c", "a/b..c", "a/b.git", "a b/c", "a/b c", "a\0/b", "a\\b", "a/b?c", "a/%2e%2e", "ä/b",
    "a" * 97 + "/b", "a/" + "b" * 97, "https://example.org/acme/Lumen-7B", "https://huggingface.co/", "https://hf.co/acme",
    "https://huggingface.co/datasets/acme/words", "https://huggingface.co/spaces/acme/demo", "hf://datasets/acme/words",
    "https://huggingface.co.example.org/acme/Lumen-7B", "ftp://huggingface.co/acme/Lumen-7B", "file:///etc/passwd",
    "a/b:", "a/b:q4:q8", "a/b:q4/c", "a:b/c", "a/b: q4", "a/b:ä", "hf.co/a/b:q4/tree/main",
    "https://huggingface.co/acme/..%2f..%2fetc", "https://[::1/acme/x", "https://user@example.org/acme/x", "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize(("text", "repo_id"), NAMES.items())
def test_what_a_user_writes_names_a_repository(text: str, repo_id: str) -> None:
    assert parse_repo_id(text) == repo_id


REPO = "https://huggingface.co/acme/Lumen-7B"
PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "acme/Lumen-7B": ("main", ()),
    REPO: ("main", ()),
    f"{REPO}/tree/4_25": ("4_25", ()),
    f"{REPO}/tree/refs%2Fpr%2F1/": ("refs/pr/1", ()),
    f"{REPO}/tree/main/UD-Q2_K_XL": ("main", ("UD-Q2_K_XL/*",)),
    f"{REPO}/blob/v1/sub/a%20b.gguf": ("v1", ("sub/a b.gguf",)),
    f"{REPO}/resolve/main/a.gguf?download=true": ("main", ("a.gguf",)),
    "hf.co/acme/Lumen-7B/raw/main/config.json#L3": ("main", ("config.json",)),
    f"{REPO}/discussions/3": ("main", ()),
    f"{REPO}/commits/main": ("main", ()),
    f"{REPO}/blob": ("main", ()),
    f"{REPO}?show_file_info=L-Q4_K_M.gguf": ("main", ("L-Q4_K_M.gguf",)),
    f"{REPO}/tree/v1?a=b&show_file_info=UD-Q8%2FL%20a.gguf#x": ("v1", ("UD-Q8/L a.gguf",)),
    f"{REPO}?local-app=ollama&show_file_info=": ("main", ()),
    "hf.co/acme/Lumen-7B:L-IQ3_M.gguf": ("main", ("L-IQ3_M.gguf",)),
}


@pytest.mark.parametrize(("text", "expected"), PLACES.items())
def test_an_address_names_a_revision_and_files_too(text: str, expected: tuple[str, tuple[str, ...]]) -> None:
    place = parse_place(text)
    assert (place.revision_for("main"), place.names_for(None, [])) == expected
    assert place.repo_id == "acme/Lumen-7B"
    assert (place.revision_for("mine"), place.names_for("q4_0", [])) == ("mine", ())
    assert place.names_for(None, ["x"]) == ("x",)


@pytest.mark.parametrize(
    ("text", "quant"),
    [
        ("acme/Lumen-7B:Q4_K_M", "Q4_K_M"),
        ("hf.co/acme/Lumen-7B:ud-q4_k_xl", "ud-q4_k_xl"),
        ("https://huggingface.co/acme/Lumen-7B:Q8_0", "Q8_0"),
        ("hf://acme/Lumen-7B:4.0bpw", "4.0bpw"),
        ("acme/Lumen-7B:latest", ""),
        ("acme/Lumen-7B", ""),
    ],
)
def test_a_quantisation_behind_a_colon_holds_where_nothing_else_is_asked_for(text: str, quant: str) -> None:
    place = parse_place(text)
    assert (place.repo_id, place.quant_for(None, None)) == ("acme/Lumen-7B", quant)
    assert place.quant_for("", []) == quant
    assert place.quant_for("Q2_K", None) == "Q2_K"
    assert place.quant_for(None, ["mmproj*"]) == ""
    assert place.names_for(None, None) == ()


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_repo_id(text)
    assert refused.value.field == "repo_id"


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?[a-z.:]*/[\w./%-]*"))
def test_the_answer_is_always_a_name_that_is_safe_to_put_into_an_address(text: str) -> None:
    try:
        repo_id = parse_repo_id(text)
    except InvalidInput:
        return
    owner, name = repo_id.split("/")
    for part in (owner, name):
        assert 1 <= len(part) <= 96
        assert part.isascii()
        assert ".." not in part
        assert not set(part) & set(" ?#%\\:@")
    assert parse_repo_id(repo_id) == repo_id


@pytest.mark.parametrize(
    ("text", "full"), [("a" * 40, True), ("0" * 64, True), ("main", False), ("A" * 40, False), ("a" * 39, False)]
)
def test_only_a_full_id_is_a_commit(text: str, full: bool) -> None:
    assert is_commit(text) is full


def test_values_survive_being_kept_as_json() -> None:
    model = HubModel(
        "a/b",
        "c" * 40,
        (HubFile("x.gguf", 3, "d" * 40, "e" * 64), HubFile("y.json", 0, "f" * 40, None)),
        unusable=("odd",),
        tags=("t",),
        base_model=("o/p",),
        gated="auto",
        card={"license": "mit", "list": [1, None, {"k": True}]},
        parameters={"BF16": 7},
    )
    listing = HubListing("a/b", "c" * 40, ("x", "y"), tags=("t",), base_model=("o/p",), parameter_count=1)
    assert HubModel.from_json(orjson.loads(orjson.dumps(model.to_json()))) == model
    assert HubListing.from_json(orjson.loads(orjson.dumps(listing.to_json()))) == listing
