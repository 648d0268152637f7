"""git as a program: argument vectors, an allow list of protocols and addresses, no prompts, no hooks, time limits.

What the user's and the machine's git settings say does not count here: they can name programs, rewrite addresses and
allow protocols. Blocks; call from worker threads. What a checkout is for is not known here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pumas.apps.command import child_environment
from pumas.errors import GitFailed, InvalidInput
from pumas.net.children import require_online, with_network
from pumas.tables import table

HTTP_VARIABLE = "PUMAS_GIT_HTTP"
"""`loopback`: http is allowed to this machine alone, for tests."""
CLONE_S, FETCH_S, LOCAL_S = 300.0, 60.0, 30.0
_LOOK_S = 0.1
_LONGEST_URL = 500
_MOST_OUTPUT = 256 * 1024
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_URL = re.compile(rf"(https?)://({_HOST})(?::[0-9]{{1,5}})?((?:/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+)/?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"[0-9a-f]{7,40}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_ALWAYS: Sequence[str] = table("git")["settings"]

_APART = (
    "The newest commit does not follow the one that is here: the repository's history was rewritten, or there are "
    "commits of yours. Nothing was changed; remove it and install it again to have the newest."
)


def check_url(text: str, field: str = "git_url") -> str:
    """The trimmed address of a repository.

    Raises:
        InvalidInput: not https, or with anything but a plain host, port and path in it.
    """
    url = text.strip()
    match = _URL.fullmatch(url) if len(url) <= _LONGEST_URL else None
    if match is None or ".." in match[3] or (match[1] == "http" and not _http_allowed(match[2])):
        raise InvalidInput(field, "must be https://host/path of a repository, without user, query or special signs")
    with contextlib.suppress(ValueError):
        if urlsplit(url).port != 0:
            return url
    raise InvalidInput(field, "must name a port that exists")


def check_commit(text: str, field: str = "commit") -> str:
    """Raises InvalidInput: not a full commit id."""
    if not _COMMIT.fullmatch(text):
        raise InvalidInput(field, "must be a full commit id of 40 digits from 0-9a-f")
    return text


def check_ref(text: str, field: str = "commit") -> str:
    """Raises InvalidInput: it cannot be the name of a branch or a tag that we would use, nor a commit id."""
    if not _is_plain(text):
        raise InvalidInput(
            field, "must be a branch, a tag or a commit id, made of letters, digits, '.', '_', '/' and '-'"
        )
    return text


def find() -> str | None:
    return shutil.which("git")


class Git:
    """`check` is called several times a second while git runs, and ends it by raising.

    `note` is where the running git is written down, so that a start after a kill can end it (`running.end_noted`).
    """

    def __init__(self, check: Callable[[], None] = lambda: None, note: Path | None = None) -> None:
        self._check = check
        self._note = note

    def clone(self, url: str, folder: Path, ref: str | None = None) -> str:
        """Clone a repository into a folder that is not there yet; the id of the commit that is checked out.

        Args:
            ref: a branch, which is then the one to follow; else a tag, else a commit of the main branch by its id or
                the first 7 digits of that and more. None: the main branch.

        Raises:
            GitFailed: nothing usable is left in `folder`.
        """
        url = check_url(url)
        full = None if ref is None else self._full_name(folder.parent, url, check_ref(ref))
        branch = (f"--branch={ref}",) if full is not None and full.startswith(_HEADS) else ()
        self._run(folder.parent, "clone", "--quiet", "--no-recurse-submodules", "--single-branch", "--no-tags",
                  "--template=", *branch, "--", url, str(folder), timeout_s=CLONE_S, url=url)  # fmt: skip
        if ref is not None and not branch:
            commit = self._bring(folder, url, full) if full is not None else self._commit(folder, ref)
            self._run(folder, "reset", "--quiet", "--hard", commit, "--")
        return self.head(folder)

    def _full_name(self, folder: Path, url: str, ref: str) -> str | None:
        """What a repository calls the branch of this name, or else the tag; None: neither, but it may be a commit.

        Raises:
            GitFailed.
        """
        if _COMMIT.fullmatch(ref):
            return None
        wanted = (f"{_HEADS}{ref}", f"{_TAGS}{ref}")
        listed = self._run(folder, "ls-remote", "--refs", "--", url, *wanted, timeout_s=FETCH_S, url=url)
        # git finds longer names too that end like these.
        names = {line.partition("\t")[2] for line in listed.splitlines()}
        found = next((name for name in wanted if name in names), None)
        if found is None and not _SHORT.fullmatch(ref):
            raise _unknown(ref)
        return found

    def _commit(self, folder: Path, ref: str) -> str:
        """The full id of a commit. Raises GitFailed."""
        with contextlib.suppress(GitFailed, InvalidInput):
            return check_commit(self._run(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip())
        raise _unknown(ref)

    def head(self, folder: Path) -> str:
        """The commit that is checked out. Raises GitFailed."""
        return check_commit(self._run(folder, "rev-parse", "--verify", "HEAD^{commit}").strip())

    def branch(self, folder: Path) -> str | None:
        """None: no branch is checked out, or one whose name is not plain. Raises GitFailed."""
        with contextlib.suppress(GitFailed):
            name = self._run(folder, "symbolic-ref", "--short", "HEAD").strip()
            return name if _is_plain(name) else None
        return None

    def remote(self, folder: Path) -> str | None:
        """The address that it was cloned from, when that is one we would use."""
        with contextlib.suppress(GitFailed, InvalidInput):
            return check_url(self._run(folder, "config", "--local", "--get", "remote.origin.url"))
        return None

    def changed(self, folder: Path) -> bool:
        """Whether files that git keeps were changed. Raises GitFailed."""
        return bool(self._run(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"))

    def fetch(self, folder: Path, url: str, branch: str) -> str:
        """Bring the newest commits of a branch, and change no file; the id of the last one. Raises GitFailed."""
        return self._bring(folder, check_url(url), f"{_HEADS}{branch}")

    def _bring(self, folder: Path, url: str, full_name: str) -> str:
        self._run(folder, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", url, full_name,
                  timeout_s=FETCH_S, url=url)  # fmt: skip
        return check_commit(self._run(folder, "rev-parse", "--verify", "FETCH_HEAD^{commit}").strip())

    def lay_out(self, folder: Path, commit: str, target: Path) -> None:
        """Write the files of a commit into a folder that is not there yet; it is no checkout. Raises GitFailed."""
        target.mkdir(mode=0o700)
        index = target.with_name(f".{target.name}.index")
        prefix = ("--git-dir", str(folder / ".git"), "--work-tree", str(target))
        try:
            self._run(target, *prefix, "read-tree", check_commit(commit), index=index)
            self._run(target, *prefix, "checkout-index", "--all", "--force", timeout_s=FETCH_S, index=index)
        finally:
            index.unlink(missing_ok=True)

    def forward(self, folder: Path, commit: str) -> None:
        """Check out a later commit; never merges, and leaves what is later already.

        Raises:
            GitFailed: it is no later one, files are in the way, or the disk refused something.
        """
        before = self.head(folder)
        if self._fork(folder, before, commit) not in (before, commit):
            raise GitFailed(_APART)
        self._run(folder, "merge", "--quiet", "--ff-only", check_commit(commit), timeout_s=FETCH_S)
        left = [name for name in self._removed(folder, before, commit) if _is_there(folder, name)]
        if left:  # git says so and calls it a success
            raise GitFailed(f"git could not remove {len(left)} files that the new commit does not have any more.")

    def _fork(self, folder: Path, one: str, other: str) -> str:
        """The last commit that two have in common, "" when there is none."""
        with contextlib.suppress(GitFailed):
            return self._run(folder, "merge-base", check_commit(one), check_commit(other)).strip()
        return ""

    def _removed(self, folder: Path, before: str, after: str) -> set[str]:
        """Names that one commit has and another does not, not even in other case."""
        gone = self._differing(folder, before, after, "D")
        came = {name.casefold() for name in self._differing(folder, before, after, "A")}
        return {name for name in gone if name.casefold() not in came}

    def back(self, folder: Path, commit: str) -> None:
        """Check out an earlier commit as it was; files that git does not keep stay. Raises GitFailed."""
        self._run(folder, "reset", "--quiet", "--hard", check_commit(commit), "--", timeout_s=FETCH_S)

    def mend(self, folder: Path, before: str, after: str) -> str | None:
        """Take a step forward back that was ended anywhere between two commits.

        What is like neither of them is kept as a commit of its own; the name by which git knows that one.

        Raises:
            GitFailed: nothing was taken back.
        """
        git = folder / ".git"
        for lock in (*git.glob("*.lock"), *git.glob("refs/**/*.lock")):
            lock.unlink(missing_ok=True)
        changed = self.changed(folder)
        if not changed and self.head(folder) == before:
            return None
        kept = self._keep_changes(folder, before, after) if changed else None
        # Files that only the later commit has are known to git again, and go with the way back.
        self.back(folder, after)
        self.back(folder, before)
        return kept

    def _keep_changes(self, folder: Path, before: str, after: str) -> str | None:
        who = (part for key in ("name", "email") for part in ("-c", f"user.{key}=pumas"))
        snapshot = self._run(folder, *who, "stash", "create").strip()
        if not _COMMIT.fullmatch(snapshot):
            return None
        if not self._differing(folder, before, snapshot) & self._differing(folder, after, snapshot):
            return None
        name = f"refs/pumas/kept-{snapshot[:12]}"
        self._run(folder, "update-ref", name, snapshot)
        return name

    def _differing(self, folder: Path, one: str, other: str, how: str = "ADMT") -> set[str]:
        """Names by which two commits differ; `how`: Added, Deleted, Modified, of another Type."""
        how = f"--diff-filter={how}"
        commits = (check_commit(one), check_commit(other))
        arguments = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", how, *commits)
        return set(self._run(folder, *arguments, "--").split("\0")) - {""}

    def _run(
        self, folder: Path, *arguments: str, timeout_s: float = LOCAL_S, url: str = "", index: Path | None = None
    ) -> str:
        program = find()
        if program is None:
            raise GitFailed("git is not installed; custom nodes and updates need it.")
        if url:
            require_online(urlsplit(url).netloc)
        settings = [*_ALWAYS, *(("protocol.http.allow=always",) if url.startswith("http:") else ())]
        argv = [program, *(part for setting in settings for part in ("-c", setting)), *arguments]
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    argv,
                    cwd=folder,
                    env=_environment(folder) | ({"GIT_INDEX_FILE": str(index)} if index else {}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise GitFailed(f"git cannot be started: {os.strerror(error.errno or 0)}.") from None
            try:
                if self._note is not None:
                    _write_down(self._note, process.pid)
                status = self._wait(process, time.monotonic() + timeout_s)
            finally:
                _end(process)
                if self._note is not None:
                    self._note.unlink(missing_ok=True)
            output.seek(0)
            said = output.read(_MOST_OUTPUT).decode("utf-8", "replace")
        if status is None:
            raise GitFailed(f"git {_verb(arguments)} took longer than {timeout_s:.0f} s and was ended.")
        if status:
            raise GitFailed(f"git {_verb(arguments)} failed: {_reason(said)}")
        return said

    def _wait(self, process: subprocess.Popen[bytes], ends: float) -> int | None:
        while time.monotonic() < ends:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_S)
            self._check()
        return None


def _unknown(ref: str) -> GitFailed:
    return GitFailed(f"The repository has no branch, no tag and no commit of its main branch called {ref}.")


def _is_plain(ref: str) -> bool:
    """Whether a name of a branch or a tag can be nothing else to git, and to nobody else."""
    return _REF.fullmatch(ref) is not None and ".." not in ref


def _is_there(folder: Path, name: str) -> bool:
    """What lies behind a link is nothing of this folder."""
    parents = list(Path(name).parents)[:-1]
    return os.path.lexists(folder / name) and not any((folder / parent).is_symlink() for parent in parents)


def _verb(arguments: Sequence[str]) -> str:
    """Which of git's commands it is, its general options left out."""
    words = iter(arguments)
    for word in words:
        if word in ("-c", "--git-dir", "--work-tree"):
            next(words)
        else:
            return word
    return ""


def _write_down(note: Path, pid: int) -> None:
    from pumas.versions.running import note_running

    with contextlib.suppress(OSError):  # then it ends by itself, after its time limits
        note.parent.mkdir(parents=True, exist_ok=True)
        note_running(note, pid)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in child_environment().items() if not name.startswith(("GIT_", "SSH_"))}
    return with_network(kept) | {
        "GIT_TERMINAL_PROMPT": "0",
        # Looking must leave no lock behind when it is ended.
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GCM_INTERACTIVE": "never",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_PAGER": "",
        # A folder without a repository of its own is not a part of the one around it.
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "LC_ALL": "C",
    }


def _http_allowed(host: str) -> bool:
    return host.lower() in _LOOPBACK and os.environ.get(HTTP_VARIABLE) == "loopback"


def _end(process: subprocess.Popen[bytes]) -> None:
    """git leaves its helpers behind when it is ended alone."""
    if process.poll() is None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    text = re.sub(r"^(fatal|error): ", "", telling[0]) if telling else "it said nothing"
    if text.endswith(":"):  # of these files, which it lists below
        named = [line.strip() for line in said.splitlines() if line.startswith("\t")]
        text = f"{text} {', '.join(named)}"
    return "".join(char if char.isprintable() else "?" for char in text)[:300]
