"""The official client, as it is released, works against the test hub."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from huggingface_hub import HfApi, RepoFile, RepoFolder, hf_api, utils
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fixtures.hub import Cut, Flip, Gzip, Hub, HubContent, Options, Repo, Status, Truncate
from fixtures.hub.repositories import (
    BIG,
    BIG_FILE,
    DIFFUSERS,
    DISABLED,
    FORMER,
    GATED,
    GGUF,
    LLM,
    LORA,
    MANY,
    PRIVATE,
    RENAMED,
    ROOT_LEVEL,
    TOKENS,
    big_repository,
)

from .conftest import DATA

QUANT = "Lumen-7B-Instruct-Q4_K_M.gguf"


def client(hub: Hub, token: str | None = None) -> Any:
    """Some of the client's methods are only typed in part."""
    return HfApi(endpoint=hub.url, token=token or False)


@pytest.fixture(autouse=True)
def as_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own client, which another test may have used, puts two names of the library right for its whole process."""
    of_library = next(kind for kind in hf_api.ModelInfo.__mro__ if not getattr(kind, "is_tolerant", False))
    monkeypatch.setattr(hf_api, "ModelInfo", of_library)
    monkeypatch.setattr(hf_api, "paginate", cast(Any, utils).paginate)


@pytest.fixture
def api(hub: Hub) -> Any:
    return client(hub)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# Listings


def test_search(hub: Hub, api: Any) -> None:
    found = [model.id for model in api.list_models(search="lumen instruct", sort="downloads")]
    assert found[:2] == [LLM, GGUF]
    assert all("Lumen" in name for name in found)
    assert [model.id for model in api.list_models(filter=["gguf", "imatrix"])] == [GGUF]
    assert [model.id for model in api.list_models(filter=f"base_model:adapter:{LLM}")] == [LORA]
    assert [model.id for model in api.list_models(author="studio")] == [DIFFUSERS]
    assert [model.id for model in api.list_models(pipeline_tag="text-ranking")] == [RENAMED]
    assert GATED in {model.id for model in api.list_models(gated=True)}
    assert list(api.list_models(search="no such thing")) == []
    assert len(list(api.list_models(limit=3))) == 3


def test_a_search_expands_what_is_asked_in_one_request(hub: Hub, api: Any) -> None:
    fields = ["siblings", "downloads", "tags", "gated", "cardData", "lastModified", "sha", "gguf", "createdAt"]
    (model,) = api.list_models(filter="imatrix", expand=fields)
    assert len(hub.requests) == 1
    assert model.siblings
    assert {sibling.rfilename for sibling in model.siblings} >= {QUANT, "README.md"}
    assert (model.downloads, model.gated, model.sha) == (250_000, False, hub.content.repos[GGUF].branches["main"])
    assert model.card_data
    assert model.card_data["base_model"] == LLM
    assert model.gguf
    assert model.gguf["architecture"] == "llama"
    assert model.last_modified
    assert model.last_modified.year == 2025
    assert model.likes is None


def test_listings_come_in_pages(hub: Hub) -> None:
    with Hub(options=Options(page_size=4)) as paged:
        found = [model.id for model in client(paged).list_models()]
        assert len(paged.requests) == -(-len(found) // 4)
    assert sorted(found) == sorted(repo.id for repo in hub.content.repos.values() if not repo.private)


def test_model_info_with_files(hub: Hub, api: Any) -> None:
    info = api.model_info(GGUF, files_metadata=True)
    file = hub.content.repos[GGUF].file(QUANT)
    (sibling,) = (each for each in info.siblings if each.rfilename == QUANT)
    assert sibling.lfs
    assert (sibling.size, sibling.blob_id, sibling.lfs.sha256) == (file.size, file.blob_id, file.sha256)
    (plain,) = (each for each in info.siblings if each.rfilename == "config.json")
    assert (plain.lfs, plain.size) == (None, hub.content.repos[GGUF].file("config.json").size)
    assert (info.pipeline_tag, info.library_name, info.private) == ("text-generation", "gguf", False)
    assert api.model_info(GGUF, expand=["likes"]).likes == 410
    old = api.model_info(LLM, revision="v1.0")
    assert old.sha == hub.content.repos[LLM].git_tags["v1.0"]
    assert api.model_info(ROOT_LEVEL).id == ROOT_LEVEL


def test_the_tree_comes_in_pages(hub: Hub) -> None:
    with Hub(options=Options(tree_page=30)) as paged:
        entries = list(client(paged).list_repo_tree(MANY, recursive=True))
        assert len(paged.requests) == 7
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    assert (len(files), len([entry for entry in entries if isinstance(entry, RepoFolder)])) == (200, 10)
    repo = hub.content.repos[MANY]
    for entry in files:
        file = repo.file(entry.path)
        assert (entry.size, entry.blob_id, entry.lfs and entry.lfs.sha256) == (
            file.size,
            file.blob_id,
            file.sha256 if file.lfs else None,
        )


def test_the_tree_of_a_folder(api: Any) -> None:
    assert {entry.path for entry in api.list_repo_tree(GGUF, "UD-Q8_K_XL", expand=True)} == {
        f"UD-Q8_K_XL/Lumen-7B-Instruct-UD-Q8_K_XL-0000{part}-of-00002.gguf" for part in (1, 2)
    }
    top = list(api.list_repo_tree(DIFFUSERS))
    assert {entry.path for entry in top if isinstance(entry, RepoFolder)} >= {"unet", "vae", "scheduler"}
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(GGUF, "nothing"))


def test_paths_refs_and_commits(hub: Hub, api: Any) -> None:
    found = api.get_paths_info(GGUF, [QUANT, "UD-Q8_K_XL", "nothing"], expand=True)
    assert [(type(each), each.path) for each in found] == [(RepoFile, QUANT), (RepoFolder, "UD-Q8_K_XL")]
    assert isinstance(found[0], RepoFile)
    assert found[0].last_commit
    refs = api.list_repo_refs(LLM, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "experimental"]
    assert [ref.ref for ref in refs.tags] == ["refs/tags/v1.0"]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    commits = api.list_repo_commits(LLM)
    assert [commit.title for commit in commits] == ["Better embeddings", "Upload model", "initial commit"]
    assert commits[0].commit_id == refs.branches[0].target_commit


# Downloads


def test_a_download_arrives_whole(hub: Hub, api: Any, tmp_path: Path) -> None:
    for name in (QUANT, "config.json", "UD-Q8_K_XL/Lumen-7B-Instruct-UD-Q8_K_XL-00001-of-00002.gguf"):
        file = hub.content.repos[GGUF].file(name)
        path = Path(api.hf_hub_download(GGUF, name, cache_dir=tmp_path))
        assert sha256(path) == file.sha256
        assert path.resolve().name == file.etag.strip('"')
    before = len(hub.requests)
    api.hf_hub_download(GGUF, QUANT, cache_dir=tmp_path)
    assert [record.method for record in hub.requests[before:]] == ["HEAD"]


def test_an_old_revision_has_its_own_content(hub: Hub, api: Any, tmp_path: Path) -> None:
    name = "model-00001-of-00002.safetensors"
    new, old = (api.hf_hub_download(LLM, name, revision=each, cache_dir=tmp_path) for each in ("main", "v1.0"))
    assert sha256(new) != sha256(old) == hub.content.repos[LLM].file(name, "v1.0").sha256


def test_a_cut_download_is_resumed(tmp_path: Path) -> None:
    content = HubContent.of(big_repository(30_000_000))
    cut_at = 12_000_000
    with Hub(content) as hub:
        hub.fault(Cut(at=cut_at), kind="file")
        path = client(hub).hf_hub_download(BIG, BIG_FILE, cache_dir=tmp_path)
        spans = [record.span for record in hub.requests if record.span]
        sent = hub.bytes_sent()
    assert sha256(path) == content.repos[BIG].file(BIG_FILE).sha256
    # The client writes whole pieces only and throws away the one that was begun.
    kept = cut_at // DOWNLOAD_CHUNK_SIZE * DOWNLOAD_CHUNK_SIZE
    assert spans == [(0, 30_000_000), (kept, 30_000_000)]
    assert sent == cut_at + 30_000_000 - kept


def test_small_texts_may_come_compressed(tmp_path: Path) -> None:
    repo = Repo("a/b")
    repo.commit({"text.txt": b"so many words " * 1000})
    with Hub(HubContent.of(repo)) as hub:
        hub.fault(Gzip(), kind="file")
        path = client(hub).hf_hub_download("a/b", "text.txt", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"so many words " * 1000


def test_what_the_official_client_notices_and_what_not(small: Hub, tmp_path: Path) -> None:
    api = client(small)
    small.fault(Truncate(1000, admit=True), kind="file")
    with pytest.raises(OSError, match="Consistency check failed"):
        api.hf_hub_download("a/b", "w.bin", cache_dir=tmp_path / "one")
    small.fault(Flip(7), kind="file")
    assert Path(api.hf_hub_download("a/b", "w.bin", cache_dir=tmp_path / "two")).read_bytes() != DATA


def test_a_snapshot_of_many_files(hub: Hub, api: Any, tmp_path: Path) -> None:
    folder = Path(api.snapshot_download(MANY, cache_dir=tmp_path, max_workers=8))
    repo = hub.content.repos[MANY]
    got = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    assert got == {path: file.sha256 for path, file in repo.commits[repo.branches["main"]].files.items()}
    assert hub.bytes_sent() == 200 * 20_000


def test_a_renamed_repository_is_followed(hub: Hub, api: Any, tmp_path: Path) -> None:
    assert api.model_info(FORMER).id == RENAMED
    path = api.hf_hub_download(FORMER, "model.safetensors", cache_dir=tmp_path)
    assert sha256(path) == hub.content.repos[RENAMED].file("model.safetensors").sha256


# Refusals


@pytest.mark.parametrize(
    ("repo_id", "name", "revision", "token", "error"),
    [
        (GATED, "config.json", None, None, GatedRepoError),
        (GATED, "model.safetensors", None, "hf_stranger", GatedRepoError),
        (PRIVATE, "config.json", None, None, RepositoryNotFoundError),
        (PRIVATE, "config.json", None, "hf_stranger", RepositoryNotFoundError),
        ("no/such", "config.json", None, None, RepositoryNotFoundError),
        (LLM, "config.json", "v9", None, RevisionNotFoundError),
        (LLM, "nothing.json", None, None, EntryNotFoundError),
    ],
)
def test_refusals(
    hub: Hub, tmp_path: Path, repo_id: str, name: str, revision: str | None, token: str | None, error: type[Exception]
) -> None:
    api = client(hub, token)
    with pytest.raises(error):
        api.hf_hub_download(repo_id, name, revision=revision, cache_dir=tmp_path)
    assert hub.bytes_sent() == 0


def test_a_disabled_repository(api: Any) -> None:
    with pytest.raises(DisabledRepoError):
        api.model_info(DISABLED)


def test_those_who_may_get_it(hub: Hub, tmp_path: Path) -> None:
    for repo_id, token in ((GATED, "hf_granted"), (PRIVATE, "hf_member")):
        path = client(hub, token).hf_hub_download(repo_id, "model.safetensors", cache_dir=tmp_path)
        assert sha256(path) == hub.content.repos[repo_id].file("model.safetensors").sha256
    assert PRIVATE in {model.id for model in client(hub, "hf_member").list_models(author="acme")}
    assert client(hub, "hf_member").whoami()["name"] == TOKENS["hf_member"].name
    client(hub, "hf_granted").auth_check(GATED)
    with pytest.raises(GatedRepoError):
        client(hub, "hf_stranger").auth_check(GATED)


def test_a_token_is_not_shown_to_the_other_host(hub: Hub, tmp_path: Path) -> None:
    client(hub, "hf_granted").snapshot_download(GATED, cache_dir=tmp_path)
    told = {record.host: record.headers.get("authorization") for record in hub.requests}
    assert told == {"hub": "Bearer hf_granted", "cdn": None}


def test_an_error_says_which_request_it_was(hub: Hub, api: Any) -> None:
    hub.fault(Status(500, message="a made error"))
    with pytest.raises(HfHubHTTPError, match="a made error") as caught:
        api.model_info(LLM)
    assert caught.value.request_id == f"{hub.requests[-1].connection}-{hub.requests[-1].number}"


def test_a_process_given_the_environment_asks_this_hub_alone(hub: Hub, tmp_path: Path) -> None:
    code = f"import huggingface_hub as h; print(h.hf_hub_download({GATED!r}, 'model.safetensors'))"
    environment = {"PATH": "", "SYSTEMROOT": "", **hub.env(home=tmp_path, token="hf_granted")}
    made = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    path = Path(made.stdout.strip())
    assert path.is_relative_to(tmp_path)
    assert sha256(path) == hub.content.repos[GATED].file("model.safetensors").sha256
