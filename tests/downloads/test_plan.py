"""What is decided at the start: which files, of which commit; and that it is the same after any restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.hub import Claims, Generated, Hub, HubFile, Listing, Repo, Status
from fixtures.hub import repositories as usual
from fixtures.hub.content import HOSTILE_NAMES
from fixtures.hub.repositories import usual_content
from pumas.downloads.plan import DownloadPlan, DownloadRequest, make_plan
from pumas.errors import (
    GatedRepo,
    InvalidInput,
    InvalidReply,
    NetworkError,
    PickleNotAcknowledged,
    PumasError,
    RepoNotFound,
    RevisionNotFound,
    TokenRefused,
)
from pumas.hub.client import HubClient
from pumas.net.client import NetworkClient
from pumas.storage.paths import relative_path

MADE = "maker/odd"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub(usual_content(1 << 20)) as hub:
        yield hub


class Asker:
    def __init__(self, hub: Hub, home: Path, token: str = "") -> None:
        self.hub = hub
        self.network = NetworkClient(sleep=lambda _seconds: None)
        self.client = HubClient(self.network, {"HF_ENDPOINT": hub.url, "HOME": str(home), "HF_TOKEN": token})

    def plan(self, repo_id: str, **wishes: Any) -> DownloadPlan:
        made = make_plan(self.client, DownloadRequest(repo_id, **wishes))
        again = DownloadPlan.from_json(json.loads(json.dumps(made.to_json())))
        assert again == made, "it survives the job's row"
        assert again.fetches_the_same_as(made)
        return made

    def refused(self, error: type[PumasError], repo_id: str, **wishes: Any) -> PumasError:
        with pytest.raises(error) as raised:
            self.plan(repo_id, **wishes)
        return raised.value


@pytest.fixture
def asker(hub: Hub, tmp_path: Path) -> Iterator[Asker]:
    hub.reset()
    made = Asker(hub, tmp_path)
    yield made
    made.network.close()


def put(hub: Hub, files: dict[str, Any]) -> Repo:
    repo = Repo(MADE, "text-generation", "transformers", "mit")
    repo.commit({"config.json": b"{}", **files})
    hub.content.repos[MADE] = repo
    return repo


def test_one_question_pins_the_commit_and_every_digest(asker: Asker) -> None:
    repo = asker.hub.content.repos[usual.LLM]
    plan = asker.plan(usual.LLM)
    assert [(r.kind, r.status) for r in asker.hub.requests] == [("model", 200)]
    assert plan.commit == repo.branches["main"] and plan.repo_id == usual.LLM
    for wanted in plan.files:
        file = repo.file(wanted.path)
        assert (wanted.size, wanted.expected) == (file.size, file.sha256 if file.lfs else file.blob_id)
    assert set(plan.weights) == {path for path in (file.path for file in plan.files) if path.endswith(".safetensors")}
    assert plan.total_bytes == sum(file.size for file in plan.files)
    assert plan.described["repo_id"] == usual.LLM and plan.described["revision"] == plan.commit
    assert plan.page == f"{asker.hub.url}/{usual.LLM}"
    assert plan.title == "Lumen-7B-Instruct"


def test_a_quantisation(asker: Asker) -> None:
    plan = asker.plan(usual.GGUF, quant="Q4_K_M")
    assert plan.weights == ("Lumen-7B-Instruct-Q4_K_M.gguf",)
    assert plan.quant == "q4_k_m"
    assert "config.json" in [file.path for file in plan.files]


def test_a_set_comes_whole(asker: Asker) -> None:
    plan = asker.plan(usual.GGUF, filenames=("UD-Q8_K_XL/*-00001-*",))
    assert len(plan.weights) == 2


@pytest.mark.parametrize(
    ("revision", "same"), [("main", True), ("v1.0", False), ("experimental", False), ("refs/pr/1", False)]
)
def test_a_revision_is_pinned(asker: Asker, revision: str, same: bool) -> None:
    main, plan = asker.plan(usual.LLM), asker.plan(usual.LLM, revision=revision)
    assert plan.fetches_the_same_as(main) is same
    assert asker.plan(usual.LLM, revision=plan.commit).fetches_the_same_as(plan)


def test_a_title_of_ones_own(asker: Asker) -> None:
    assert asker.plan(usual.LLM, official_name="My Lumen").title == "My Lumen"


def test_a_branch_that_moved_is_another_download(asker: Asker) -> None:
    repo = put(asker.hub, {"w.safetensors": Generated(5000, 1)})
    before = asker.plan(MADE)
    repo.commit({"w.safetensors": Generated(5000, 2)})
    after = asker.plan(MADE)
    assert not after.fetches_the_same_as(before)
    assert asker.plan(MADE, revision=before.commit).fetches_the_same_as(before)


@pytest.mark.parametrize(
    ("error", "repo_id", "wishes"),
    [
        (RepoNotFound, "acme/nothing-here", {}),
        (RepoNotFound, usual.PRIVATE, {}),
        (RepoNotFound, usual.DISABLED, {}),
        (RevisionNotFound, usual.LLM, {"revision": "no-such-branch"}),
        (GatedRepo, usual.GATED, {}),
        (GatedRepo, usual.GATED_MANUAL, {}),
        (InvalidInput, usual.EMPTY, {}),
        (InvalidInput, usual.GGUF, {"quant": "Q1_NONE"}),
        (InvalidInput, usual.GGUF, {"filenames": ("nothing-*",)}),
        (InvalidInput, "../../etc/passwd", {}),
        (InvalidInput, "a/b/c", {}),
        (InvalidInput, "", {}),
        (InvalidInput, "maker/mo\ndel", {}),
        (InvalidInput, usual.LLM, {"revision": "../../x"}),
        (InvalidInput, usual.LLM, {"revision": ""}),
        (PickleNotAcknowledged, usual.OLD, {}),
    ],
)
def test_what_cannot_be_downloaded(asker: Asker, error: type[PumasError], repo_id: str, wishes: dict[str, Any]) -> None:
    asker.refused(error, repo_id, **wishes)


def test_a_pickle_is_accepted_by_word(asker: Asker) -> None:
    plan = asker.plan(usual.OLD, security_acknowledged=True)
    assert any(path.endswith((".ckpt", ".bin")) for path in plan.weights)


@pytest.mark.parametrize(("token", "error"), [("hf_stranger", GatedRepo), ("hf_unknown", TokenRefused)])
def test_a_token_that_does_not_help(hub: Hub, tmp_path: Path, token: str, error: type[PumasError]) -> None:
    hub.reset()
    asker = Asker(hub, tmp_path, token)
    assert token not in str(asker.refused(error, usual.GATED))
    asker.network.close()


def test_a_token_that_does(hub: Hub, tmp_path: Path) -> None:
    hub.reset()
    asker = Asker(hub, tmp_path, "hf_granted")
    plan = asker.plan(usual.GATED)
    assert plan.files and "hf_granted" not in json.dumps(plan.to_json())
    asker.network.close()


def test_hostile_names_are_left_out_and_listed(asker: Asker) -> None:
    plan = asker.plan(usual.HOSTILE, filenames=("*",))
    paths = [file.path for file in plan.files]
    for path in paths:
        assert relative_path(path) == path
    folded = [path.casefold() for path in paths]
    assert len(set(folded)) == len(folded), "no two names are one on a file system that ignores case"
    for name in HOSTILE_NAMES[:20]:
        assert name not in paths
    assert len(plan.left_out) >= 25
    assert all(reason and key.isprintable() for key, reason in plan.left_out.items())


@pytest.mark.parametrize(
    "claims",
    [Claims(size=10**15), Claims(size=-1), Claims(sha256="../../x"), Claims(sha256=""), Claims(sha256="A" * 64)],
)
def test_a_file_with_impossible_facts_is_not_downloaded(asker: Asker, claims: Claims) -> None:
    put(asker.hub, {"w.safetensors": HubFile(Generated(5000, 1), lfs=True, claims=claims)})
    asker.refused(PumasError, MADE)


def test_a_listing_that_lies_about_more_files(asker: Asker) -> None:
    put(asker.hub, {"w.safetensors": Generated(5000, 1)})
    asker.hub.fault(Listing(["../../../etc/cron.d/x", "..", "sub/../../y", "extra.txt"]), kind="model")
    plan = asker.plan(MADE, filenames=("*",))
    assert {file.path for file in plan.files} <= {"config.json", "w.safetensors", "extra.txt"}


def test_too_many_files(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.plan.MAX_FILES", 3)
    put(asker.hub, {f"w-{n}.safetensors": Generated(10, n) for n in range(5)})
    assert "at most 3" in str(asker.refused(InvalidInput, MADE))


@pytest.mark.parametrize("status", [500, 404, 429])
def test_a_hub_that_fails(asker: Asker, status: int) -> None:
    asker.hub.fault(Status(status), kind="model", times=None)
    asker.refused(NetworkError, usual.LLM)


def test_a_hub_that_talks_nonsense(asker: Asker) -> None:
    from fixtures.hub import Page

    asker.hub.fault(Page(), kind="model", times=None)
    asker.refused(InvalidReply, usual.LLM)
