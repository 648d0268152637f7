"""TERM, a grace, KILL: each once to whom it is due, and never to anybody else."""

from __future__ import annotations

import signal

import pytest

from pumas.processes import kernel
from pumas.processes.ending import Ending
from pumas.processes.kernel import Seen

TERM = [signal.SIGTERM, signal.SIGCONT]


class House:
    """Processes that end by the signals they are told to end by."""

    def __init__(self, **ends_by: int) -> None:
        self.ends_by = {int(name[1:]): number for name, number in ends_by.items()}
        self.told: list[tuple[int, int]] = []
        self.refuses: set[int] = set()
        self.now = 0.0

    def family(self) -> list[Seen]:
        return [Seen(pid, 1, pid, pid, pid * 10, False) for pid in self.ends_by]

    def tell(self, pid: int, start: int, number: int) -> bool:
        assert start == pid * 10
        if pid in self.refuses:
            raise PermissionError
        self.told.append((pid, number))
        if self.ends_by.get(pid) == number:
            del self.ends_by[pid]
        return True


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    one = House(p5=signal.SIGTERM, p6=signal.SIGKILL)
    monkeypatch.setattr(kernel, "tell", one.tell)
    return one


def test_polite_first_and_killed_when_the_grace_is_over(house: House) -> None:
    ending = Ending(house.family, 5.0, clock=lambda: house.now)
    assert not ending.step()
    assert house.told == [(5, TERM[0]), (5, TERM[1]), (6, TERM[0]), (6, TERM[1])]
    house.now = 4.9
    assert not ending.step()
    assert len(house.told) == 4, "nobody is told twice"
    house.now = 5.0
    assert not ending.step()
    assert house.told[4:] == [(6, signal.SIGKILL)]
    assert ending.step()
    assert (ending.met, ending.killed) == (2, 1)


def test_who_comes_up_meanwhile_is_met(house: House) -> None:
    ending = Ending(house.family, 5.0, clock=lambda: house.now)
    ending.step()
    house.ends_by[7] = signal.SIGTERM
    ending.step()
    assert (7, signal.SIGTERM) in house.told
    house.now = 6.0
    house.ends_by[8] = signal.SIGKILL
    ending.step()
    assert (8, signal.SIGTERM) not in house.told
    assert ending.step()
    assert (ending.met, ending.killed) == (4, 2)


def test_one_that_may_not_be_signalled_hinders_no_other(house: House) -> None:
    house.refuses.add(5)
    ending = Ending(house.family, 0.0, clock=lambda: house.now)
    ending.step()
    ending.step()
    assert list(house.ends_by) == [5]
    assert (ending.met, ending.killed) == (1, 1)


def test_nobody_there(house: House) -> None:
    house.ends_by.clear()
    ending = Ending(house.family, 5.0, clock=lambda: house.now)
    assert ending.step() and ending.met == 0 and house.told == []
