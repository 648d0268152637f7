"""Fills the Python environment of a version that is being installed, and tells what has arrived of what is to come."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from pumas.apps.command import VENV
from pumas.errors import DependencyFailed
from pumas.versions.packages import Arrivals, Packages, Resolved, Wish, installed
from pumas.versions.progress import Progress

LONG_S = 1.0
"""Once an installation takes longer, whoever waits is told of what is still to come."""

Resolution = tuple[list[Resolved], str]
"""What will be installed, and the `before` of the wish that could be kept; of `Packages.resolve_dated`."""


class Filling:
    """`tree` holds the environment. Blocks; raises as `Packages.install`."""

    def __init__(self, tree: Path, packages: Packages, wish: Wish, progress: Progress) -> None:
        self._tree, self._packages, self._wish, self._progress = tree, packages, wish, progress
        self._sizes: dict[str, int | None] | None = None
        self._arrivals = Arrivals(tree / VENV, self._arrived)
        self._resolve: Callable[[], Future[Resolution]] | None = None
        self._resolving: Future[Resolution] | None = None
        self._began = 0.0

    def fill(self, resolved: list[Resolved], constraints: Path) -> None:
        """Install exactly what was resolved."""
        self._plan(resolved)
        self._install(self._wish, constraints)
        self._arrivals.look(at_once=True)

    def fill_by_itself(self, resolve: Callable[[], Future[Resolution]]) -> str:
        """Install with a tool that resolves by itself; the `before` of the wish that could be kept.

        Finding out twice what will be installed costs a small installation half its time, so `resolve` is called when
        it takes long, and who waits would know what is still to come, or when it fails.
        """
        self._resolve, self._began = resolve, time.monotonic()
        try:
            self._install(self._wish, None)
        except DependencyFailed:
            # The words of the resolution say best what cannot be had.
            _, before = self._resolution().result()
            if before == self._wish.before:
                raise
            self._install(replace(self._wish, before=before), None)
            return before
        return self._wish.before

    def listed(self) -> list[Resolved]:
        """Everything that was installed by `fill_by_itself`; tells of what has arrived of it.

        Raises:
            DependencyFailed: the list could not be made; it is installed all the same.
        """
        resolved = installed(self._tree / VENV) if self._resolving is None else self._resolving.result()[0]
        self._plan(resolved)
        self._arrivals.look(at_once=True)
        return resolved

    def _resolution(self) -> Future[Resolution]:
        if self._resolving is None:
            assert self._resolve is not None
            self._resolving = self._resolve()
            self._resolving.add_done_callback(self._know)
        return self._resolving

    def _know(self, resolution: Future[Resolution]) -> None:
        if not resolution.cancelled() and resolution.exception() is None:
            self._plan(resolution.result()[0])

    def _plan(self, resolved: list[Resolved]) -> None:
        self._progress.plan([one.name for one in resolved])
        self._sizes = {one.name: one.size for one in resolved}

    def _install(self, wish: Wish, constraints: Path | None) -> None:
        self._packages.install(
            self._tree, wish, constraints, on_line=lambda line: self._progress.at(0.0, line), on_look=self._look
        )

    def _look(self) -> None:
        if self._resolve is not None and time.monotonic() - self._began > LONG_S:
            self._resolution()
        if self._sizes is not None:
            self._arrivals.look()

    def _arrived(self, name: str) -> None:
        # What comes along for the tools, as pip does, is not of the list.
        if self._sizes is not None and name in self._sizes:
            self._progress.arrived(name, "package", self._sizes[name])
