"""The list of what is wrong: one per subject, bounded, from any thread."""

from __future__ import annotations

import threading

import pytest

from pumas.storage import troubles
from pumas.storage.troubles import Trouble, Troubles


def test_the_newest_report_of_a_subject_counts() -> None:
    found = Troubles()
    found.report("a", "damaged", "old")
    found.report("b", "offline", "away")
    found.report("a", "unreadable", "new")
    assert found.list() == [Trouble("a", "unreadable", "new"), Trouble("b", "offline", "away")]
    assert found.count == 2


def test_what_is_over_is_cleared() -> None:
    found = Troubles()
    for subject, kind in (("a", "damaged"), ("b", "offline"), ("c", "offline")):
        found.report(subject, kind, "")
    found.clear("a")
    found.clear("a")
    found.clear("unknown")
    assert [trouble.subject for trouble in found.list()] == ["b", "c"]
    found.clear_kind("unknown")
    found.clear_kind("offline")
    assert (found.list(), found.count) == ([], 0)


def test_a_list_that_was_given_away_does_not_change() -> None:
    found = Troubles()
    found.report("a", "damaged", "")
    given = found.list()
    found.clear("a")
    assert [trouble.subject for trouble in given] == ["a"]


def test_beyond_the_bound_only_the_count_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "MAX_TROUBLES", 3)
    found = Troubles()
    for number in range(5):
        found.report(f"s{number}", "damaged", "")
    assert [trouble.subject for trouble in found.list()] == ["s0", "s1", "s2"]
    assert found.count == 5
    found.report("s1", "damaged", "newer")  # a known subject is always kept up to date
    assert found.list()[1].message == "newer"
    assert found.count == 5
    found.clear("s0")
    found.report("s9", "damaged", "")
    assert [trouble.subject for trouble in found.list()] == ["s1", "s2", "s9"]


def test_many_threads_at_once() -> None:
    found = Troubles()
    ready = threading.Barrier(4)

    def work(name: str) -> None:
        ready.wait()
        for number in range(200):
            found.report(f"{name}{number}", name, "")
            found.list()
        found.clear_kind(name if name == "a" else "none")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found.count == 600
    assert {trouble.kind for trouble in found.list()} == set("bcd")
