from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures.hub import Generated, Hub, HubContent, Repo

DATA = Generated(300_000, 5).read()
TEXT = b"a small text\n" * 9


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def small() -> Iterator[Hub]:
    """One repository, `a/b`, with a large file, a text, and a folder."""
    repo = Repo("a/b")
    repo.commit({"w.bin": DATA, "text.txt": TEXT, "folder/inner.txt": b"inner"})
    with Hub(HubContent.of(repo)) as hub:
        yield hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The usual content."""
    with Hub() as hub:
        yield hub
