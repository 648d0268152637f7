"""Installs the Python packages that the sidecar itself is missing into the environment it runs in.

`service.py` asks. uv does it when it is there, else pip; both by argument vector, with the versions that this program
declares. System programs (git, a browser) are never installed, and nothing runs as another user.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence

from pumas.errors import InstallFailed, Offline, TimedOut

LIMIT_S, ANSWER_S = 600.0, 8.0
"""How long an installation may take, and how long a call waits for it."""
_SECRETS = ("PUMAS_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN")


class Installer:
    """One installation at a time; who asks meanwhile gets the same one."""

    def __init__(
        self, *, python: str = sys.executable, uv: str | None = None, offline: Callable[[], bool] = lambda: False
    ) -> None:
        """`python` is the interpreter to install for; `uv` a program, by default looked for on the PATH."""
        self._python, self._uv, self._offline = python, uv, offline
        self._going: asyncio.Task[None] | None = None

    async def install(self, names: Sequence[str]) -> None:
        """Install distributions, with the versions that `pumas` declares for them.

        Raises:
            Offline: nothing may be fetched.
            TimedOut: it goes on, and a later call tells how it ends.
            InstallFailed: it could not be done, or was killed after ten minutes.
        """
        if self._going is None or self._going.done():
            if self._offline():
                raise Offline("the package index")
            self._going = asyncio.create_task(self._run(requirements(names)))
            self._going.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.shield(self._going)
        except TimeoutError:
            raise TimedOut("The installation goes on; get_missing_dependencies tells when it is done.") from None

    async def close(self) -> None:
        if self._going is not None:
            self._going.cancel()
            await asyncio.wait([self._going])

    async def _run(self, wanted: list[str]) -> None:
        uv = self._uv or shutil.which("uv")
        pip = [uv, "pip", "install", "--python", self._python] if uv else [self._python, "-m", "pip", "install"]
        try:
            process = await asyncio.create_subprocess_exec(
                *pip,
                *wanted,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)},
            )
        except OSError as error:
            raise InstallFailed("packages", f"The installer cannot be started: {error.strerror}.") from None
        try:
            async with asyncio.timeout(LIMIT_S):
                status = await process.wait()
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise InstallFailed("packages", "The installer took longer than ten minutes and was ended.") from None
        if status != 0:
            raise InstallFailed("packages", f"The installer failed with status {status}; './launcher setup' shows why.")


def requirements(names: Sequence[str]) -> list[str]:
    """Names with the versions that the distribution `pumas` declares; bare names where it is not installed as one."""
    try:
        declared = importlib.metadata.requires("pumas") or []
    except importlib.metadata.PackageNotFoundError:
        declared = []
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    known = {canonicalize_name(one.name): one for one in map(Requirement, declared) if one.marker is None}
    found = ((name, known.get(canonicalize_name(name))) for name in names)
    return [f"{name}{one.specifier}" if one else name for name, one in found]
