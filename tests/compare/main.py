"""Both backends on the same files, asked the same: every reply and every file that follows must be equal.

    scripts/compare-backends.sh                          examples, generated calls, random sequences
    scripts/compare-backends.sh METHOD ['{"key": …}']    one call: both replies, and where they differ

Fields, files and columns that may differ are named in contracts/volatile.json and contracts/compare.json alone. The
exit status is 1 when anything differs, or when a method is served by one backend only (`--served`: those are left out).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from compare import sequences
from compare.pair import Pair, Step, pair
from compare.state import held
from contract import replay
from fixtures.hub.steering import environment
from fixtures.releases import ReleaseServer
from generated import LEFT_OUT, schema_driven
from sidecar import PROJECT

STEPS = 16
CHUNK = 100
"""Generated calls on one pair of roots; a sequence comes with each such chunk."""
DOCUMENT: dict[str, Any] = json.loads((PROJECT / "contracts" / "openrpc.json").read_text(encoding="utf-8"))
METHODS = [method["name"] for method in DOCUMENT["methods"]]
_SHOWN = 300
# Some of what is made from the contract is no call, or one that is left out.
_TRIES = 10
# Installations and sizes are compared by the examples: how far one was at a call is a matter of moments.
_MOMENTS = r"install_.*|cancel_installation|get_installation_progress|update_version|.*_release_size.*|get_release_.*"
_LEFT_OUT = re.compile(rf"^(?:{LEFT_OUT.pattern}|{_MOMENTS})$")


@dataclass
class Finding:
    """Where the backends differed: in which part, by which calls, and how."""

    part: str
    what: str
    differences: list[str]


@dataclass
class Outcome:
    """Counts and findings of one run; `unserved` are methods that only one backend knows."""

    calls: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[Finding] = field(default_factory=list[Finding])
    unserved: list[str] = field(default_factory=list[str])

    def count(self, part: str, calls: int = 1) -> None:
        self.calls[part] = self.calls.get(part, 0) + calls

    def found(self, part: str, what: str, differences: list[str]) -> None:
        if differences:
            self.findings.append(Finding(part, what, [one[:_SHOWN] for one in differences[:20]]))

    def add(self, other: Outcome) -> None:
        for part, calls in other.calls.items():
            self.count(part, calls)
        self.findings += other.findings


Work = Callable[[], Outcome]


class Comparison:
    """`backends` are the two that are compared; the second one's gaps are told. `jobs` pairs of them run at once."""

    def __init__(self, folder: Path, backends: tuple[str, str] = ("python", "rust"), jobs: int = 2) -> None:
        self.folder, self.backends, self.jobs = folder, backends, jobs
        self._env: dict[str, str] = {}
        # Apps have ports that they like: of those that are started at the same time one would have to take another.
        self._ports = threading.Lock()

    def pair(self) -> AbstractContextManager[Pair]:
        return pair(self.folder, sequences.prepare, self._env, self.backends)

    def run(self, count: int, seed: int, examples: int | None = None, only: str = "") -> Outcome:
        """All three parts; with `only`, a pattern, examples and generated calls of methods whose names fit it."""
        outcome = Outcome()
        with ExitStack() as stack:
            self._serve(stack)
            with self.pair() as both:
                served = [name for name in METHODS if len(both.serves(name)) == len(self.backends)]
            outcome.unserved = [name for name in METHODS if name not in served]
            chosen = [name for name in served if re.search(only, name)]
            work = [*self._examples(served, chosen, examples), *self._generated(chosen, count, seed)]
            if not only:
                work += self._sequences(served, max(1, count // CHUNK), seed)
            with ThreadPoolExecutor(self.jobs) as pool:
                for done in [pool.submit(one) for one in work]:
                    outcome.add(done.result())
        return outcome

    def one(self, step: Step) -> tuple[list[dict[str, Any]], list[str]]:
        """Both replies to one call on a small library, and where they differ."""
        with ExitStack() as stack:
            self._serve(stack)
            with self.pair() as both:
                replies = [side.ask(step.method, step.params) for side in both.sides]
        return replies, replay.differences(*replies)

    def _serve(self, stack: ExitStack) -> None:
        releases = stack.enter_context(ReleaseServer())
        self._env = environment(replay.usual_hub().url, home=self.folder / "home") | releases.environment()
        checkout = str(self.folder / "checkout")
        self._env |= {"PUMAS_OPENER": "true", "PUMAS_LAUNCHER": "true", "PUMAS_CHECKOUT": checkout}

    # -- the parts ---------------------------------------------------------------------------------------------------

    def _examples(self, served: list[str], chosen: list[str], most: int | None) -> list[Work]:
        """Each example of the contract, played by both."""
        played = [(path, _methods_of(path)) for path in replay.all_examples()]
        paths = [path for path, methods in played if methods[0] in chosen and set(methods) <= set(served)]
        return [partial(self._example, path) for path in paths[:: max(1, len(paths) // most) if most else 1]]

    def _example(self, path: Path) -> Outcome:
        outcome = Outcome()
        outcome.count("examples")
        launches = any(method.startswith("launch_") for method in _methods_of(path))
        with self._ports if launches else nullcontext():
            outcome.found("examples", path.stem, self._played(path))
        return outcome

    def _played(self, path: Path) -> list[str]:
        example = json.loads(path.read_text(encoding="utf-8"))
        replies: list[dict[str, Any]] = []
        for backend in self.backends:
            with tempfile.TemporaryDirectory(dir=self.folder) as place:
                try:
                    replies.append(replay.Stage(Path(place), example, backend).play(_methods_of(path)[0]))
                except AssertionError as error:
                    return [f"{backend} cannot play it: {error}"]
        first, second = replies
        return replay.differences(replay.left_open(example, first), second)

    def _generated(self, chosen: list[str], count: int, seed: int) -> list[Work]:
        """Valid and invalid calls made from the contract, and the files after them."""
        part = {**DOCUMENT, "methods": [method for method in DOCUMENT["methods"] if method["name"] in chosen]}
        return [
            partial(self._calls, part, min(CHUNK, count - begin), random.Random(f"{seed} calls {begin}"))
            for begin in range(0, count, CHUNK)
        ]

    def _calls(self, document: dict[str, Any], count: int, rng: random.Random) -> Outcome:
        outcome = Outcome()
        made = (_call(rng, document) for _ in range(_TRIES * count))
        steps = list(islice((step for step in made if step is not None), count))
        with self.pair() as both:
            # What is fetched aside at a start is there for both before the first call.
            both.ask(Step("get_available_versions", {"force_refresh": True}))
            for step in steps:
                _, different = both.ask(step, settle=True)
                outcome.count("generated calls")
                outcome.found("generated calls", _shown(step), different)
        outcome.found("generated calls", "files and rows afterwards", _files(both))
        return outcome

    def _sequences(self, served: list[str], count: int, seed: int) -> list[Work]:
        """Sequences of changes; one that differs is made as short as it can be."""
        return [partial(self._sequence, random.Random(f"{seed} {number}"), served) for number in range(count)]

    def _sequence(self, rng: random.Random, served: list[str]) -> Outcome:
        outcome = Outcome()
        outcome.count("sequences")
        steps, different = self._random(rng, served)
        if different:
            short = sequences.shrink(steps, lambda some: bool(self._play(some)))
            outcome.found("sequences", "; ".join(map(_shown, short)), self._play(short) or different)
        return outcome

    def _random(self, rng: random.Random, served: list[str]) -> tuple[list[Step], list[str]]:
        known: sequences.Known = {}
        steps: list[Step] = []
        with self.pair() as both:
            while len(steps) < STEPS:
                step = sequences.next_step(rng, known)
                if step.method not in served:
                    continue
                steps.append(step)
                reply, different = both.ask(step, settle=True)
                if different:
                    return steps, different
                sequences.learn(known, reply)
        return steps, _files(both)

    def _play(self, steps: list[Step]) -> list[str]:
        with self.pair() as both:
            for step in steps:
                _, different = both.ask(step, settle=True)
                if different:
                    return different
        return _files(both)


def _methods_of(path: Path) -> list[str]:
    """The method of an example, and those that are called before it."""
    example = json.loads(path.read_text(encoding="utf-8"))
    return [path.name.rsplit(".", 2)[0], *(call["method"] for call in example.get("before", []))]


def _files(both: Pair) -> list[str]:
    """Where what the two have on disk differs; both have ended."""
    return replay.differences(*(held(side.root, side.neutral) for side in both.sides))


def _call(rng: random.Random, document: dict[str, Any]) -> Step | None:
    """The next generated call; None for what is no call, or would end or change the machine it runs on."""
    message = json.loads(schema_driven(rng, document))
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        return None
    if _LEFT_OUT.search(message["method"]) or "id" not in message or message.get("jsonrpc") != "2.0":
        return None
    return Step(message["method"], message.get("params"))


def _shown(step: Step) -> str:
    return f"{step.method} {json.dumps(step.params, ensure_ascii=False)[:_SHOWN]}"


# -- the command -----------------------------------------------------------------------------------------------------


def report(outcome: Outcome, console: Console) -> None:
    table = Table()
    for title in ("part", "compared", "different"):
        table.add_column(title)
    for part, calls in outcome.calls.items():
        table.add_row(part, f"{calls:,}", f"{sum(finding.part == part for finding in outcome.findings):,}")
    console.print(table)
    for finding in outcome.findings:
        console.print(f"\n{finding.part}: {finding.what}", markup=False)
        for line in finding.differences:
            console.print(f"  {line}", markup=False)
    if outcome.unserved:
        console.print(f"\nserved by one backend only: {', '.join(outcome.unserved)}", markup=False)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="compare-backends.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", nargs="?", choices=METHODS, metavar="METHOD")
    parser.add_argument("params", nargs="?", default="{}", type=json.loads, metavar="PARAMS")
    parser.add_argument(
        "--count", type=int, default=300, help=f"generated calls, and a sequence for each {CHUNK} of them"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, metavar="N", help="about N of the examples (default: all)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="methods that fit it, and no sequences")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="pairs of backends that run at once")
    parser.add_argument("--served", action="store_true", help="methods that one backend lacks do not count")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with tempfile.TemporaryDirectory(prefix="pumas-compare-") as folder:
        comparison = Comparison(Path(folder), jobs=options.jobs)
        if options.method:
            replies, different = comparison.one(Step(options.method, options.params))
            print(json.dumps(dict(zip(comparison.backends, replies, strict=True)), indent=1, ensure_ascii=False))
            print("\n".join(different) or "no difference", file=sys.stderr)
            return 1 if different else 0
        outcome = comparison.run(options.count, options.seed, options.examples, options.only)
    if options.json:
        findings = [vars(finding) for finding in outcome.findings]
        print(json.dumps({"calls": outcome.calls, "findings": findings, "unserved": outcome.unserved}, indent=1))
    else:
        report(outcome, console)
    return 1 if outcome.findings or (outcome.unserved and not options.served) else 0
