"""Who belongs to an app, decided over made-up process tables."""

from __future__ import annotations

import pytest

from pumas.processes import family, kernel
from pumas.processes.family import Marks
from pumas.processes.kernel import Seen

KEEPER, LEADER, START = 100, 200, 1000
APP, FOLDER = "/apps/v1/bin/app", "/apps/v1"
MARKS = Marks(LEADER, START, (APP, "/usr/bin/python3"), FOLDER)
RUN = "a" * 32


def seen(
    pid: int, parent: int, session: int, *, group: int | None = None, start: int = START, ended: bool = False
) -> Seen:
    return Seen(pid, parent, session if group is None else group, session, start, ended)


HOUSE = [
    seen(1, 0, 1, start=0),
    seen(50, 1, 50, start=10),
    seen(KEEPER, 50, KEEPER, start=990),
    seen(LEADER, KEEPER, LEADER),
    seen(201, LEADER, LEADER),
    seen(202, 201, LEADER, group=202),
    seen(203, KEEPER, LEADER),
    seen(204, LEADER, LEADER, ended=True),
    seen(300, KEEPER, 300),
    seen(301, KEEPER, 301),
    seen(302, 301, 301),
    seen(303, KEEPER, 303),
    seen(304, KEEPER, 304),
    seen(400, 50, 400),
    seen(401, 1, 401),
]
PROGRAMS = {
    300: "/usr/bin/brave",
    301: APP,
    302: "/apps/v1/lib/runner",
    303: "/apps/v10/bin/app",
    304: None,
    400: APP,
    401: "/usr/bin/python3",
}


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "program", PROGRAMS.get)


def table(*changed: Seen, without: tuple[int, ...] = ()) -> dict[int, Seen]:
    return {one.pid: one for one in (*HOUSE, *changed) if one.pid not in without}


def test_members_descend_from_the_keeper_and_are_together_or_the_same_program() -> None:
    found = {one.pid for one in family.members(MARKS, KEEPER, table())}
    assert found == {LEADER, 201, 202, 203, 301, 302}


def test_another_process_in_a_session_of_that_number_is_no_member() -> None:
    strange = [seen(501, 1, LEADER), seen(502, 50, LEADER)]
    found = {one.pid for one in family.members(MARKS, KEEPER, table(*strange))}
    assert not found & {501, 502}


def test_a_folder_that_is_the_root_claims_nothing() -> None:
    everywhere = MARKS._replace(folder="/", programs=())
    assert {one.pid for one in family.members(everywhere, KEEPER, table())} == {LEADER, 201, 202, 203}
    nowhere = MARKS._replace(folder="", programs=())
    assert {one.pid for one in family.members(nowhere, KEEPER, table())} == {LEADER, 201, 202, 203}


def test_without_keeper_the_session_counts_while_its_leader_lives() -> None:
    moved = [one._replace(parent=1) for one in HOUSE if one.parent == KEEPER]
    found = {one.pid for one in family.orphans(MARKS, RUN, table(*moved, without=(KEEPER,)))}
    assert found == {LEADER, 201, 202, 203}


@pytest.mark.parametrize("leader", [None, seen(LEADER, 1, LEADER, ended=True)], ids=["gone", "zombie"])
def test_without_leader_only_the_marked_count(monkeypatch: pytest.MonkeyPatch, leader: Seen | None) -> None:
    marked = {201, 301, 300, 401}
    monkeypatch.setattr(
        kernel, "has_variable", lambda pid, name, value: (pid in marked, name, value) == (True, family.MARK, RUN)
    )
    people = table(*([leader] if leader else []), without=(KEEPER,) if leader else (KEEPER, LEADER))
    found = {one.pid for one in family.orphans(MARKS, RUN, people)}
    assert found == {201, 301, 401}, "a marked browser in its own session is the user's"


def test_a_number_that_is_given_out_again_belongs_to_nobody_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "has_variable", lambda *_: True)
    another = seen(LEADER, 1, LEADER, start=START + 5)
    assert family.orphans(MARKS, RUN, table(another, without=(KEEPER,))) == []


def test_what_is_older_than_the_app_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "has_variable", lambda *_: True)
    old = seen(201, 1, LEADER, start=START - 1)
    assert 201 not in {one.pid for one in family.orphans(MARKS, RUN, table(old, without=(KEEPER, LEADER)))}
    assert 201 not in {one.pid for one in family.orphans(MARKS, RUN, table(old, without=(KEEPER,)))}
