"""git is only ever asked for plain repositories over https, and starts nothing that they or settings name."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from fixtures.git import GitServer, run_git
from pumas.errors import Cancelled, GitFailed, InvalidInput
from pumas.nodes import git
from pumas.nodes.git import HTTP_VARIABLE, Git, check_url
from sidecar import eventually


@pytest.mark.parametrize(
    "url",
    ["https://github.com/owner/repo", "https://github.com/owner/repo.git", " https://a.b-c.org:8443/x_y/~z/r.git/ "],
)
def test_plain_addresses(url: str) -> None:
    assert check_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    ["", "-x", "--upload-pack=touch /tmp/x", "ext::sh -c touch% /tmp/x", "EXT::sh", "ssh://-oProxyCommand=x/y",
     "git@github.com:a/b", "file:///etc", "/etc", "git://a/b", "http://github.com/a/b", "http://127.0.0.1/a",
     "HTTPS://a/b", "https://", "https://host", "https://host/", "https://-host/a", "https://u:p@host/a",
     "https://host/a?x", "https://host/a#x", "https://host/a b", "https://host/a\nb", "https://host/a%2e%2e/b",
     "https://host/../a", "https://host/-a", "https://host:0/a", "https://host:99999/a", "https://host/a/..b",
     "https://hóst/a", "https://host/a\0", "https::https://host/a", "https://host/" + "a" * 600,
     # nothing that git takes for an option, a program or another transport, in any case
     "-u", "-c core.sshCommand=x", "--config=core.fsmonitor=x", "-https://host/a", "https://host/a --upload-pack=x",
     "https://host/a\t--x", "eXt::sh -c x", "ext::https://host/a", "fd::17/x", "transport::https://host/a", "HTTP://a/b",
     "hTTps://host/a", "https:/host/a", "https:host/a", "//host/a", "host:a", "host/a", ".", "~/a", "ftp://host/a",
     "svn+ssh://host/a", "git+https://host/a", "file:///https://host/a", "localhost:a",
     # no credentials, no second host, no other spelling of one
     "https://u@host/a", "https://:p@host/a", "https://u:@host/a", "https://token:x-oauth-basic@host/a", "https://@host/a",
     "https://host:443@evil/a", "https://host\\@evil/a", "https://host%40evil/a", "https://[::1]/a", "https://host./a",
     "https://host../a", "https://.host/a", "https://ho_st/a", "https://host-/a", "https://host:/a", "https://host:-1/a",
     "https://host:+1/a", "https://host:٤/a", "https://exаmple.org/a", "https://host。org/a",
     # no line of its own, no control character, no shell
     "https://host/a\r\nHost: x", "https://host/a\x0bb", "https://host/a\x7f", "https://host/a\x1b[0m",
     "https://host/a\u2028b", "https://host/a;b", "https://host/a|b", "https://host/$(x)", "https://host/`x`",
     "https://host/a&b", "https://host/a'b", 'https://host/a"b', "https://host/a*", "https://host/a\\b",
     # no path that leads elsewhere
     "https://host//a", "https://host/a//b", "https://host/./a", "https://host/.a", "https://host/a/.git/b",
     "https://host/a/-b", "https://host/a...b", "https://host/%2e%2e/a"],
)  # fmt: skip
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


@pytest.mark.parametrize(
    ("setting", "url", "fits"),
    [
        ("loopback", "http://127.0.0.1:1/a", True),
        ("loopback", "http://localhost/a", True),
        ("loopback", "http://example.org/a", False),
        ("loopback", "http://127.0.0.1.example.org/a", False),
        ("1", "http://127.0.0.1/a", False),
    ],
)
def test_http_is_for_tests_alone(monkeypatch: pytest.MonkeyPatch, setting: str, url: str, fits: bool) -> None:
    monkeypatch.setenv(HTTP_VARIABLE, setting)
    if fits:
        assert check_url(url) == url
    else:
        with pytest.raises(InvalidInput):
            check_url(url)


def test_clone_and_forward(server: GitServer, tmp_path: Path) -> None:
    first = server.commit("sunny", {"a.py": "1"})
    url, folder = f"{server.url}/sunny.git", tmp_path / "clone"
    assert Git().clone(url, folder) == first
    assert Git().remote(folder) == url
    assert (folder / "a.py").read_text() == "1"
    second = server.commit("sunny", {"a.py": "2"})
    assert Git().fetch(folder, url, "main") == second
    assert (folder / "a.py").read_text() == "1", "fetching changes no file"
    Git().forward(folder, second)
    assert (Git().head(folder), (folder / "a.py").read_text()) == (second, "2")
    Git().back(folder, first)
    assert (folder / "a.py").read_text() == "1"


class Refs:
    """A repository whose main branch has two commits, a branch and tags beside it that have others."""

    def __init__(self, server: GitServer) -> None:
        self.url, source = f"{server.url}/sunny.git", server.source("sunny")
        self.first = server.commit("sunny", {"a.py": "1"})
        self.newest = server.commit("sunny", {"a.py": "2"})
        run_git(source, "switch", "--quiet", "--create", "side")
        (source / "a.py").write_text("side")
        run_git(source, "commit", "--quiet", "--all", "--message", "Side")
        self.side = run_git(source, "rev-parse", "HEAD")
        run_git(source, "tag", "--annotate", "--message", "Released", "noted", self.side)
        for name in ("dev/next", "both", self.first[:8]):
            server.publish("sunny", f"refs/heads/{name}", self.side)
        for name, commit in (("v1.0", self.first), ("noted", "refs/tags/noted"), ("both", self.first)):
            server.publish("sunny", f"refs/tags/{name}", commit)
        # What ends like a wanted name is another one.
        server.publish("sunny", "refs/heads/x/refs/tags/v3.0", self.first)
        run_git(source, "switch", "--quiet", "main")


def test_a_branch_a_tag_or_a_commit_can_be_chosen(server: GitServer, tmp_path: Path) -> None:
    refs = Refs(server)
    wanted = {
        "main": (refs.newest, "main"),
        "dev/next": (refs.side, "dev/next"),
        "both": (refs.side, "both"),  # a branch goes before a tag
        "v1.0": (refs.first, "main"),
        "noted": (refs.side, "main"),  # of no branch that was cloned, and a name with words of its own
        refs.first: (refs.first, "main"),
        refs.first[:7]: (refs.first, "main"),
        refs.newest[:12]: (refs.newest, "main"),
        refs.first[:8]: (refs.side, refs.first[:8]),  # a name goes before the beginning of an id
    }
    for number, (ref, (commit, branch)) in enumerate(wanted.items()):
        folder = tmp_path / str(number)
        assert (ref, Git().clone(refs.url, folder, ref)) == (ref, commit)
        assert Git().branch(folder) == branch
        assert (folder / "a.py").read_text() == {refs.first: "1", refs.newest: "2", refs.side: "side"}[commit]
        assert not Git().changed(folder)


def test_what_a_repository_does_not_have(server: GitServer, tmp_path: Path) -> None:
    refs = Refs(server)
    ids = ("0" * 40, "0" * 7, refs.first[:6], refs.side, refs.side[:7])
    for ref in ("v3.0", "v9", "next", "HEAD", "refs/heads/main", "heads/main", "origin/main", "main/", *ids):
        with pytest.raises(GitFailed, match=f"has no branch, no tag and no commit of its main branch called {ref}"):
            Git().clone(refs.url, tmp_path / "clone", ref)
        shutil.rmtree(tmp_path / "clone", ignore_errors=True)


REFUSED = [
    "",
    "-x",
    "--upload-pack=touch x",
    ".x",
    "/x",
    "a..b",
    "..",
    "a b",
    "a:b",
    "+a",
    "a~1",
    "a^",
    "a@{1}",
    "a*",
    "a?",
    "a[b",
    "a\\b",
    "a\nb",
    "a\0",
    "$(x)",
    "`x`",
    "a;b",
    "ünder",
    "x" * 201,
    "v1.0\n",
    " v1.0",
]


@pytest.mark.parametrize("ref", REFUSED)
def test_what_is_no_name_never_comes_to_git(server: GitServer, tmp_path: Path, ref: str) -> None:
    with pytest.raises(InvalidInput, match="must be a branch, a tag or a commit id"):
        Git().clone(f"{server.url}/sunny.git", tmp_path / "clone", ref)
    assert (server.requests, list(tmp_path.iterdir())) == ([], [])


def test_a_chosen_branch_is_followed(server: GitServer, tmp_path: Path) -> None:
    refs = Refs(server)
    Git().clone(refs.url, tmp_path / "clone", "dev/next")
    server.publish("sunny", "refs/heads/dev/next", refs.side)
    assert Git().fetch(tmp_path / "clone", refs.url, "dev/next") == refs.side


def test_a_rewritten_branch_is_refused(server: GitServer, tmp_path: Path) -> None:
    server.commit("sunny", {"a.py": "1"})
    kept = server.commit("sunny", {"a.py": "2"})
    url, folder = f"{server.url}/sunny.git", tmp_path / "clone"
    Git().clone(url, folder)
    server.rewrite("sunny")
    newest = Git().fetch(folder, url, "main")
    with pytest.raises(GitFailed):
        Git().forward(folder, newest)
    assert Git().head(folder) == kept


def test_a_file_that_git_could_not_remove_is_no_success(server: GitServer, tmp_path: Path) -> None:
    """It says "warning: unable to unlink" and goes on."""
    server.commit("sunny", {"a.py": "1", "gone.py": "1", "Case.py": "1"})
    url, folder = f"{server.url}/sunny.git", tmp_path / "clone"
    Git().clone(url, folder)
    newest = server.commit("sunny", {"gone.py": None, "Case.py": None, "case.py": "1"})
    Git().fetch(folder, url, "main")

    class Stubborn(Git):
        def _run(self, folder: Path, *arguments: str, **options: Any) -> str:
            said = super()._run(folder, *arguments, **options)
            if arguments[0] == "merge":
                (folder / "gone.py").write_text("1")
            return said

    with pytest.raises(GitFailed, match="remove 1 files"):
        Stubborn().forward(folder, newest)
    (folder / "gone.py").unlink()
    assert Git().mend(folder, Git().head(folder), newest) is None
    assert (folder / "case.py").exists()


def test_looking_leaves_no_lock_behind(server: GitServer, tmp_path: Path) -> None:
    server.commit("sunny", {"a.py": "1"})
    folder = tmp_path / "clone"
    Git().clone(f"{server.url}/sunny.git", folder)
    os.utime(folder / "a.py", (1, 1))
    before = (folder / ".git/index").read_bytes()
    assert not Git().changed(folder)
    assert (folder / ".git/index").read_bytes() == before, "git status would note the file's new date, under a lock"


def test_local_changes_are_seen(server: GitServer, tmp_path: Path) -> None:
    server.commit("sunny", {"a.py": "1"})
    folder = tmp_path / "clone"
    Git().clone(f"{server.url}/sunny.git", folder)
    (folder / "made by the app").write_text("x")
    assert not Git().changed(folder)
    (folder / "a.py").write_text("mine")
    assert Git().changed(folder)


def test_nothing_of_a_repository_or_of_settings_is_run(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {ran}\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    (home / "templates/hooks").mkdir(parents=True)
    (home / "templates/hooks/post-checkout").write_text(program.read_text())
    (home / "templates/hooks/post-checkout").chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\ntemplateDir = {home}/templates\n[core]\nfsmonitor = {program}\nhooksPath = {home}/templates/hooks\n"
        f'[url "ext::{program} "]\ninsteadOf = {server.url}/\n[protocol]\nallow = always\n'
    )
    monkeypatch.setenv("HOME", str(home))
    for name in ("GIT_ASKPASS", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF"):
        monkeypatch.setenv(name, str(program))
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ext:file:ssh")
    inner = server.commit("inner", {"x": "1"})
    server.commit("sunny", {".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {server.url}/inner.git\n'})
    source = server.source("sunny")
    run_git(source, "update-index", "--add", "--cacheinfo", f"160000,{inner},m")
    run_git(source, "commit", "--quiet", "--message", "Module")
    run_git(source, "push", "--quiet", str(server.served("sunny")), "main")
    folder = tmp_path / "clone"
    Git().clone(f"{server.url}/sunny.git", folder)
    # What is in the checkout can be changed by the node itself.
    with (folder / ".git/config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {home}/templates/hooks\n")
        config.write("[protocol]\n\tallow = always\n")
    assert not Git().changed(folder)
    Git().fetch(folder, f"{server.url}/sunny.git", "main")
    assert not ran.exists()
    assert not any("/inner.git" in path for path in server.requests), "modules are not fetched"


def test_an_address_in_the_checkout_cannot_lead_to_a_program(server: GitServer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    server.commit("sunny", {"a": "1"})
    folder = tmp_path / "clone"
    Git().clone(f"{server.url}/sunny.git", folder)
    with (folder / ".git/config").open("a") as config:
        config.write(f'[url "ext::touch {ran} #"]\n\tinsteadOf = {server.url}/\n')
    with pytest.raises(GitFailed, match="ext"):
        Git().fetch(folder, f"{server.url}/sunny.git", "main")
    assert not ran.exists()


def test_a_missing_repository_is_told_without_a_prompt(server: GitServer, tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="not found"):
        Git().clone(f"{server.url}/nothing.git", tmp_path / "clone")


def test_a_clone_can_be_stopped_and_leaves_no_process(server: GitServer, tmp_path: Path) -> None:
    server.commit("sunny", {"a": "1"})
    server.stalled.set()
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Cancelled("stop")

    failures: list[BaseException] = []

    def clone() -> None:
        try:
            Git(check).clone(f"{server.url}/sunny.git", tmp_path / "clone")
        except Cancelled as error:
            failures.append(error)

    thread = threading.Thread(target=clone)
    thread.start()
    eventually(lambda: server.requests, what="the request")
    stop.set()
    thread.join(30)
    assert failures


def test_time_limits(server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.commit("sunny", {"a": "1"})
    server.stalled.set()
    monkeypatch.setattr(git, "CLONE_S", 0.3)
    with pytest.raises(GitFailed, match="longer than"):
        Git().clone(f"{server.url}/sunny.git", tmp_path / "clone")


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitFailed, match="not installed"):
        Git().head(tmp_path)
