"""Fills the Python environment of a version that is being installed, and tells what has arrived of what is to come."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from pumas.apps.command import VENV
from pumas.errors import DependencyFailed
from pumas.versions.packages import Arrivals, Packages, Resolved, Wish
from pumas.versions.progress import Progress

Resolution = tuple[list[Resolved], str]
"""What will be installed, and the `before` of the wish that could be kept; of `Packages.resolve_dated`."""


class Filling:
    """`tree` holds the environment. Blocks; raises as `Packages.install`."""

    def __init__(self, tree: Path, packages: Packages, wish: Wish, progress: Progress) -> None:
        self._tree, self._packages, self._wish, self._progress = tree, packages, wish, progress
        self._sizes: dict[str, int | None] | None = None
        self._arrivals = Arrivals(tree / VENV, self._arrived)

    def fill(self, resolved: list[Resolved], constraints: Path) -> None:
        """Install exactly what was resolved."""
        self._plan(resolved)
        self._install(self._wish, constraints)
        self._arrivals.look(at_once=True)

    def fill_meanwhile(self, resolution: Future[Resolution]) -> list[Resolved]:
        """Install with a tool that resolves by itself, while the list is still being made; the list.

        Raises:
            DependencyFailed: also when the list could not be made.
        """
        resolution.add_done_callback(self._know)
        try:
            self._install(self._wish, None)
        except DependencyFailed:
            # The words of the resolution say best what cannot be had.
            _, before = resolution.result()
            if before == self._wish.before:
                raise
            self._install(replace(self._wish, before=before), None)
        resolved, _ = resolution.result()
        self._plan(resolved)
        self._arrivals.look(at_once=True)
        return resolved

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
        if self._sizes is not None:
            self._arrivals.look()

    def _arrived(self, name: str) -> None:
        # What comes along for the tools, as pip does, is not of the list.
        if self._sizes is not None and name in self._sizes:
            self._progress.arrived(name, "package", self._sizes[name])
