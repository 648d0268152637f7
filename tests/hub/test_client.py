"""The client against a hub that answers, refuses, lies and breaks off."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_url

from fixtures.hub import Claims, Cut, Drop, Header, Hub, HubContent, HubFile, Page, Raw, Repo, Status
from fixtures.hub import repositories as R
from hub.conftest import MakeClient
from pumas.errors import (
    CircuitOpen,
    ConnectionFailed,
    GatedRepo,
    HttpStatus,
    InvalidInput,
    InvalidReply,
    NetworkError,
    Offline,
    PumasError,
    RateLimited,
    RepoNotFound,
    RevisionNotFound,
    TokenRefused,
)
from pumas.hub import reading
from pumas.hub.client import HubClient, check_revision
from pumas.hub.model import HubListing
from pumas.net.client import NetworkClient
from pumas.net.settings import NetworkSettings

MARK = "hf_secretMarkToken0123456789"


def asked(hub: Hub) -> list[str]:
    return [f"{record.method} {record.path}" for record in hub.requests]


# -- questions ---------------------------------------------------------------------------------------------------------


def test_a_repository_is_one_request(hub: Hub, client: HubClient) -> None:
    model = client.model(R.GGUF)
    assert asked(hub) == [f"GET /api/models/{R.GGUF}/revision/main"]
    repo = hub.content.repos[R.GGUF]
    assert model.repo_id == R.GGUF
    assert model.commit == repo.branches["main"]
    assert (model.author, model.license, model.base_model) == ("quantworks", "apache-2.0", (R.LLM,))
    assert (model.pipeline_tag, model.downloads, model.likes) == ("text-generation", 250_000, 410)
    assert model.last_modified == "2025-06-01T12:00:00.000000Z"
    assert model.gguf["context_length"] == 4096
    assert {file.path for file in model.files} == set(repo.commits[model.commit].files)


def test_sizes_and_digests_are_the_files_own(hub: Hub, client: HubClient) -> None:
    model = client.model(R.LLM)
    for file in model.files:
        true = hub.content.repos[R.LLM].file(file.path)
        assert (file.size, file.git_oid) == (true.size, true.blob_id)
        assert file.sha256 == (true.sha256 if true.lfs else None)


@pytest.mark.parametrize("revision", ["main", "v1.0", "experimental", "refs/pr/1"])
def test_a_branch_a_tag_and_a_pull_request_are_pinned_to_their_commit(
    hub: Hub, client: HubClient, revision: str
) -> None:
    commit = hub.content.repos[R.LLM].at(revision)
    assert commit is not None
    assert client.model(R.LLM, revision).commit == commit.id
    assert client.model(R.LLM, commit.id).commit == commit.id


def test_a_search_is_one_request_with_everything_that_a_result_shows(hub: Hub, client: HubClient) -> None:
    found = client.models(search="lumen", limit=5, sort="downloads")
    assert asked(hub) == ["GET /api/models"]
    assert [one.repo_id for one in found][:2] == [R.LLM, R.GGUF]
    assert all(one.paths and one.commit and one.last_modified for one in found)
    assert found[0].parameter_count == 28_672
    assert found[1].license == "apache-2.0"


def test_a_search_asks_no_second_page(hub: Hub, client: HubClient) -> None:
    assert len(client.models(limit=3, sort="downloads")) == 2  # one of three has no owner, and is nothing for us
    assert len(hub.requests) == 1


def test_a_search_is_filtered_by_the_hub(client: HubClient) -> None:
    assert {one.pipeline_tag for one in client.models(task="text-to-image")} == {"text-to-image"}
    assert {one.author for one in client.models(author="quantworks")} == {"quantworks"}
    assert client.models(search="nothing-has-this-name") == []


def test_a_repository_that_was_renamed_has_its_new_name(client: HubClient) -> None:
    assert client.model(R.FORMER).repo_id == R.RENAMED


def test_a_gated_repository_shows_what_it_holds_but_not_its_card(make_client: MakeClient) -> None:
    model = make_client().model(R.GATED)
    assert model.gated == "auto"
    assert model.files
    for token in ("", "hf_stranger"):
        with pytest.raises(GatedRepo, match=f"accept its terms at http.*/{R.GATED}.*HF_TOKEN.*hf auth login"):
            make_client(token).card_text(R.GATED, model.commit, 100)
    assert "Guarded" in make_client("hf_granted").card_text(R.GATED, model.commit, 10_000)


def test_a_private_repository_is_there_for_its_owners(make_client: MakeClient) -> None:
    with pytest.raises(RepoNotFound):
        make_client().model(R.PRIVATE)
    with pytest.raises(RepoNotFound):
        make_client("hf_stranger").model(R.PRIVATE)
    assert make_client("hf_member").model(R.PRIVATE).private


# -- the card ----------------------------------------------------------------------------------------------------------


def test_the_card_is_read_and_cut(hub: Hub, client: HubClient) -> None:
    commit = hub.content.repos[R.LLM].branches["main"]
    whole = hub.content.repos[R.LLM].file("README.md").data
    assert isinstance(whole, bytes)
    assert client.card_text(R.LLM, commit, 100_000).encode() == whole
    assert client.card_text(R.LLM, commit, 10).encode() == whole[:10]


def test_no_card_is_no_failure(client: HubClient) -> None:
    assert client.card_text(R.BIG, client.model(R.BIG).commit, 100) == ""


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, str, type[PumasError], str]] = [
    ("acme/nothing", "main", RepoNotFound, "acme/nothing"),
    (R.DISABLED, "main", RepoNotFound, "disabled"),
    (R.LLM, "no-such-branch", RevisionNotFound, "no-such-branch"),
    (R.LLM, "0" * 40, RevisionNotFound, "00000000"),
]


@pytest.mark.parametrize(("repo_id", "revision", "kind", "words"), REFUSALS)
def test_what_the_hub_refuses_is_said_in_our_words(
    client: HubClient, repo_id: str, revision: str, kind: type[PumasError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        client.model(repo_id, revision)


@pytest.mark.parametrize("bad", ["lumen", "../../etc", "acme/Lumen?x=1", "acme/a b"])
def test_a_name_that_cannot_be_one_is_not_asked_for(hub: Hub, client: HubClient, bad: str) -> None:
    with pytest.raises(InvalidInput):
        client.model(bad)
    assert not hub.requests


@pytest.mark.parametrize("bad", ["", " ", "a b", "a..b", "-x", "/x", "a\nb", "a\0b", "x" * 201, "a?b", "a*", "a\\b"])
def test_a_revision_that_git_does_not_allow_is_not_asked_for(hub: Hub, client: HubClient, bad: str) -> None:
    with pytest.raises(InvalidInput):
        client.model(R.LLM, bad)
    with pytest.raises(InvalidInput):
        check_revision(bad)
    assert not hub.requests


def test_a_token_that_the_hub_does_not_know_is_named_as_the_reason(make_client: MakeClient) -> None:
    client = make_client(MARK)
    for ask in (lambda: client.model(R.LLM), lambda: client.models(search="x")):
        with pytest.raises(TokenRefused) as refused:
            ask()
        assert MARK not in str(refused.value)


# -- a hub that is ill -------------------------------------------------------------------------------------------------

ILL = [
    (Status(503), HttpStatus),
    (Status(500), HttpStatus),
    (Status(404, error_code=None), (RepoNotFound, HttpStatus)),
    (Status(429, retry_after=3600), RateLimited),
    (Drop(), ConnectionFailed),
    (Drop(reset=True), ConnectionFailed),
    (Cut(after_bytes=20), ConnectionFailed),
    (Page(), InvalidReply),
    (Raw(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"x": 1}'), InvalidReply),
    (Raw(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"id":"a/b"}'), InvalidReply),
    (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull"), InvalidReply),
    (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + b"\xff" * 4), InvalidReply),
    (Raw(b"garbage"), NetworkError),
    (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"[" * 40_000), InvalidReply),
]


@pytest.mark.parametrize(("fault", "kind"), ILL, ids=repr)
def test_a_hub_that_is_ill_gives_a_failure_and_never_a_wrong_answer(
    hub: Hub, make_client: MakeClient, fault: object, kind: type[PumasError]
) -> None:
    hub.fault(fault, times=None)  # type: ignore[arg-type]
    for ask in (lambda c: c.model(R.LLM), lambda c: c.models(search="lumen")):
        client = HubClient(NetworkClient(sleep=lambda _s: None), hub.env())
        with pytest.raises((*(kind if isinstance(kind, tuple) else (kind,)), CircuitOpen)) as failed:
            ask(client)
        assert "Traceback" not in str(failed.value)


@pytest.mark.parametrize("fault", [Status(503), Drop(), Cut(after_bytes=20), Status(429, retry_after=0)], ids=repr)
def test_what_passes_by_itself_is_not_seen(hub: Hub, client: HubClient, fault: object) -> None:
    hub.fault(fault, times=1)  # type: ignore[arg-type]
    assert client.model(R.LLM).repo_id == R.LLM


def test_a_search_is_not_tried_over_and_over(hub: Hub, client: HubClient) -> None:
    """The library has retries of its own around those of `net/`."""
    hub.fault(Status(503), times=None)
    with pytest.raises(NetworkError):
        client.models(search="lumen")
    assert len(hub.requests) <= 5


def test_nothing_is_sent_in_offline_mode(hub: Hub) -> None:
    client = HubClient(NetworkClient(NetworkSettings(offline=True)), hub.env())
    with pytest.raises(Offline):
        client.model(R.LLM)
    with pytest.raises(Offline):
        client.models(search="x")
    with pytest.raises(Offline):
        client.card_text(R.LLM, "main", 9)
    assert not hub.requests


def answer_with(hub: Hub, said: object) -> None:
    body = json.dumps(said).encode()
    hub.fault(Raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))


@pytest.mark.parametrize("odd", [{"id": 7}, {"id": "a/b", "sha": "x"}, {}, None, 7, True, "x", "siblings", [], [{}]])
def test_entries_of_a_listing_that_make_no_sense_are_left_out(hub: Hub, client: HubClient, odd: object) -> None:
    answer_with(hub, [odd, {"id": "good/one", "sha": "1" * 40, "siblings": None}])
    assert [one.repo_id for one in client.models()] == ["good/one"]
    answer_with(hub, [odd])
    assert client.models() == []


def test_an_entry_that_our_reader_fails_at_costs_that_entry_alone(
    hub: Hub, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.read_listing

    def reader(info: Any) -> HubListing:
        return read(info) if info.id != "bad/one" else info.no_such_thing

    monkeypatch.setattr(reading, "read_listing", reader)
    answer_with(hub, [{"id": name, "sha": "1" * 40} for name in ("bad/one", "good/one")])
    assert [one.repo_id for one in client.models()] == ["good/one"]


@pytest.mark.parametrize("said", [{}, {"error": "x"}, "", "text", 7, None])
def test_a_listing_that_is_no_list_is_refused(hub: Hub, client: HubClient, said: object) -> None:
    answer_with(hub, said)
    with pytest.raises(InvalidReply):
        client.models()


def test_a_search_with_an_entry_left_out_asks_no_second_page(hub: Hub, client: HubClient) -> None:
    body = b"[null]"
    head = b'HTTP/1.1 200 OK\r\nLink: <%s/api/models?cursor=x>; rel="next"\r\nContent-Length: %d\r\n\r\n'
    hub.fault(Raw(head % (hub.url.encode(), len(body)) + body))
    assert client.models(limit=1) == []
    assert len(hub.requests) == 1


ODD_FIELDS: list[tuple[str, Any]] = [
    ("lastModified", "yesterday"),
    ("cardData", 7),
    ("cardData", {"eval_results": 3}),
    ("cardData", {"eval_results": [1]}),
    ("cardData", {"eval_results": "x"}),
    ("cardData", {"_to_dict": 1}),
    ("cardData", {"to_dict": 1}),
    ("cardData", {"tags": 3}),
    ("cardData", {"self": 1}),
    ("cardData", {"ignore_metadata_errors": 1}),
    ("cardData", {"model-index": 7}),
    ("card_data", {"eval_results": 3}),
    ("safetensors", {"total": 5}),
    ("siblings", 7),
    ("tags", {"a": 1}),
    ("gguf", []),
    ("gated", 7),
    ("evalResults", 7),
    ("transformersInfo", [1]),
    ("self", 1),
]


@pytest.mark.parametrize(("field", "value"), ODD_FIELDS)
def test_a_field_that_makes_no_sense_counts_as_missing(hub: Hub, client: HubClient, field: str, value: Any) -> None:
    good: dict[str, Any] = {"id": "good/one", "sha": "1" * 40, "siblings": [], "likes": 3}
    answer_with(hub, [{**good, field: value}, {**good, "id": "good/two"}])
    assert [(one.repo_id, one.likes) for one in client.models()] == [("good/one", 3), ("good/two", 3)]
    answer_with(hub, {**good, field: value})
    assert client.model("good/one").likes == 3


def test_files_are_read_without_what_only_the_library_wants_of_them(hub: Hub, client: HubClient) -> None:
    lfs = {"sha256": "a" * 64, "size": 5}
    files: list[Any] = [
        {"rfilename": "good.gguf", "size": 5, "blobId": "2" * 40, "lfs": lfs},
        {"rfilename": "odd.gguf", "size": 5, "blobId": "2" * 40, "lfs": "x"},
        {"size": 5, "blobId": "2" * 40},
        None,
    ]
    answer_with(hub, {"id": "good/one", "sha": "1" * 40, "siblings": files})
    model = client.model("good/one")
    assert [(file.path, file.sha256) for file in model.files] == [("good.gguf", "a" * 64)]
    assert "odd.gguf" in model.unusable


def test_a_file_whose_size_or_digest_is_none_is_named_and_not_used() -> None:
    files = {
        "good.safetensors": HubFile(b"x" * 10, lfs=True),
        "short.safetensors": HubFile(b"x", lfs=True, claims=Claims(sha256="abc")),
        "path.safetensors": HubFile(b"x", lfs=True, claims=Claims(sha256="../" * 21 + "x")),
        "negative.safetensors": HubFile(b"x", lfs=True, claims=Claims(size=-1)),
        "oid.json": HubFile(b"x", claims=Claims(blob_id="../../../etc/passwd")),
    }
    repo = Repo("mallory/claims")
    repo.commit(files)
    with Hub(HubContent.of(repo)) as hub:
        model = HubClient(NetworkClient(), hub.env()).model("mallory/claims")
    assert [file.path for file in model.files] == ["good.safetensors"]
    assert set(model.unusable) == set(files) - {"good.safetensors"}


# -- addresses and the token -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["a.gguf", "sub/a b.gguf", "ü/模型.gguf", "a%2fb.gguf", "a+b&c=d.gguf", "a#b?.gguf", "a'(1).gguf"]
)
def test_addresses_are_those_of_the_official_library(path: str) -> None:
    for endpoint in ("https://huggingface.co", "http://127.0.0.1:99", "https://mirror.example.org/hf"):
        client = HubClient(NetworkClient(), {"HF_ENDPOINT": endpoint})
        for revision in ("main", "refs/pr/1", "a" * 40):
            expected = hf_hub_url("acme/Lumen", path, revision=revision, endpoint=endpoint)
            assert client.file_url("acme/Lumen", revision, path) == expected


@pytest.mark.parametrize("endpoint", ["ftp://x", "x", "http://", "https://u:p@x.org", "https://x.org/?q=1"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="HF_ENDPOINT"):
        _ = HubClient(NetworkClient(), {"HF_ENDPOINT": endpoint}).endpoint


OWN = ["https://hub.example.org", "https://hub.example.org:443/x", "https://HUB.example.org/a?b=c"]
FOREIGN = [
    "http://hub.example.org/x", "https://hub.example.org:8443/x", "https://cdn.hub.example.org/x", "https://example.org/x",
    "https://hub.example.org.evil.org/x", "https://hub.example.org@evil.org/x", "https://evil.org/?hub.example.org",
    "//hub.example.org/x", "hub.example.org/x", "ftp://hub.example.org/x", "", "https://",
]  # fmt: skip


def test_the_token_is_for_the_hubs_own_scheme_host_and_port_alone() -> None:
    client = HubClient(NetworkClient(), {"HF_ENDPOINT": "https://hub.example.org", "HF_TOKEN": MARK})
    for url in OWN:
        assert client.headers_for(url) == {"Authorization": f"Bearer {MARK}"}, url
    for url in FOREIGN:
        assert client.headers_for(url) == {}, url
    assert MARK not in repr(client)


def test_without_a_token_nothing_is_sent_about_who_we_are(hub: Hub, client: HubClient) -> None:
    client.model(R.LLM)
    assert client.headers_for(hub.url) == {}
    assert "authorization" not in hub.requests[0].headers


def test_the_token_reaches_the_hub(hub: Hub, make_client: MakeClient) -> None:
    make_client("hf_member").model(R.LLM)
    assert hub.requests[0].headers["authorization"] == "Bearer hf_member"


@pytest.mark.parametrize(
    ("environment", "file", "token"),
    [
        ({"HF_TOKEN": "hf_env"}, "hf_file", "hf_env"),
        ({"HF_TOKEN": "  hf_env\n"}, "", "hf_env"),
        ({"HUGGING_FACE_HUB_TOKEN": "hf_old"}, "", "hf_old"),
        ({}, "hf_file\n", "hf_file"),
        ({"HF_TOKEN": ""}, "hf_file", "hf_file"),
        ({}, "", None),
        ({"HF_TOKEN": "hf_env", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, "hf_file", None),
        ({"HF_TOKEN": "hf with space"}, "", None),
        ({"HF_TOKEN": "hf\r\nX-Evil: 1"}, "", None),
        ({"HF_TOKEN": "hf_ü"}, "", None),
    ],
)
def test_where_the_token_comes_from(tmp_path: Path, environment: dict[str, str], file: str, token: str | None) -> None:
    (tmp_path / "token").write_text(file)
    assert HubClient(NetworkClient(), {"HF_HOME": str(tmp_path), **environment}).token() == token


def test_the_token_file_may_lie_elsewhere_and_is_only_read(tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    kept.write_text("hf_kept")
    before = kept.stat()
    assert HubClient(NetworkClient(), {"HF_TOKEN_PATH": str(kept)}).token() == "hf_kept"
    default = tmp_path / ".cache" / "huggingface"
    default.mkdir(parents=True)
    (default / "token").write_text("hf_default")
    assert HubClient(NetworkClient(), {"HOME": str(tmp_path)}).token() == "hf_default"
    assert HubClient(NetworkClient(), {"HOME": str(tmp_path), "XDG_CACHE_HOME": "/nowhere"}).token() is None
    assert kept.stat() == before


def test_a_login_while_we_run_is_noticed(tmp_path: Path) -> None:
    client = HubClient(NetworkClient(), {"HF_HOME": str(tmp_path)})
    assert client.token() is None
    (tmp_path / "token").write_text("hf_new")
    assert client.token() == "hf_new"


def test_the_library_writes_nothing_and_asks_nothing_else(hub: Hub, make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client("hf_member", HF_HOME=str(tmp_path))
    client.model(R.LLM)
    client.models(search="lumen")
    assert list(tmp_path.iterdir()) == []
    assert len(hub.requests) == 2


def test_several_threads_may_ask_at_once(client: HubClient) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.model(R.LLM).repo_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [R.LLM] * 8


def test_a_redirect_to_another_host_does_not_get_the_token(hub: Hub, make_client: MakeClient) -> None:
    hub.fault(Header("X-Nothing", "1"), times=1)
    client = make_client("hf_member")
    commit = client.model(R.LLM).commit
    client.card_text(R.LLM, commit, 1000)
    assert all("authorization" not in record.headers for record in hub.requests if record.host == "cdn")


def test_who_may_have_the_files_is_asked_before_they_are(make_client: MakeClient) -> None:
    make_client().require_access(R.LLM)
    make_client("hf_granted").require_access(R.GATED)
    for token in ("", "hf_stranger"):
        with pytest.raises(GatedRepo):
            make_client(token).require_access(R.GATED)
    with pytest.raises(RepoNotFound):
        make_client().require_access("acme/nothing")
