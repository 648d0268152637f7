"""What one download was promised is not promised to another."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.downloads.space import MARGIN, Space
from pumas.errors import NotEnoughSpace

HERE = Path("/nowhere")


class Disk:
    def __init__(self, room: int) -> None:
        self.free = MARGIN + room

    def __call__(self, folder: Path) -> int:
        assert folder == HERE
        return self.free


def room(space: Space, apart_from: str = "") -> int:
    return max(0, space.unpromised(apart_from) - MARGIN) if apart_from else space.room()


def check(space: Space, owner: str, size: int, *, fits: bool) -> None:
    if fits:
        space.promise(owner, lambda: size)
        return
    with pytest.raises(NotEnoughSpace) as raised:
        space.promise(owner, lambda: size)
    assert raised.value.needed == size + MARGIN
    assert raised.value.free < raised.value.needed, "what is told is too little"


def test_promises_add_up() -> None:
    space = Space(HERE, Disk(100))
    check(space, "a", 60, fits=True)
    assert room(space) == 40
    check(space, "b", 41, fits=False)
    assert room(space) == 40, "a refusal promises nothing"
    check(space, "b", 40, fits=True)
    assert room(space) == 0
    space.release("a")
    assert room(space) == 60


def test_a_new_promise_replaces_the_own_old_one() -> None:
    space = Space(HERE, Disk(100))
    check(space, "a", 90, fits=True)
    check(space, "a", 100, fits=True)
    assert room(space, "a") == 100
    check(space, "a", 101, fits=False)
    assert room(space) == 0, "the old promise stands"


def test_a_promise_shrinks_as_bytes_arrive() -> None:
    disk = Disk(100)
    space = Space(HERE, disk)
    left = 80
    space.promise("a", lambda: left)
    left, disk.free = 30, disk.free - 50
    assert room(space) == 20


def test_what_others_wrote_counts_and_free_space_is_never_negative() -> None:
    disk = Disk(100)
    space = Space(HERE, disk)
    space.promise("a", lambda: 100)
    disk.free = 0
    assert room(space) == 0
    assert room(space, "a") == 0
    disk.free = MARGIN + 150
    assert room(space) == 50, "it is seen when there is room again"


def test_releasing_what_was_never_promised_is_nothing() -> None:
    Space(HERE, Disk(1)).release("nobody")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 120), st.booleans()), max_size=20))
def test_together_they_never_get_more_than_there_is(steps: list[tuple[str, int, bool]]) -> None:
    space, promised = Space(HERE, Disk(100)), dict[str, int]()
    for owner, size, keep in steps:
        if not keep:
            space.release(owner)
            promised.pop(owner, None)
            continue
        fits = size <= 100 - sum(other for name, other in promised.items() if name != owner)
        check(space, owner, size, fits=fits)
        if fits:
            promised[owner] = size
        assert room(space) == 100 - sum(promised.values()) >= 0
