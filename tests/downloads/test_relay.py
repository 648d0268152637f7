from __future__ import annotations

import threading
from mmap import mmap

from hypothesis import given
from hypothesis import strategies as st

from pumas.downloads.relay import Given, Relay


def full(block: int) -> Given:
    return Given(7, block, mmap(-1, 8), block)


def give(relay: Relay, block: int) -> bool:
    return relay.give(full(block), lambda: False) is not None


def taken(relay: Relay, block: int) -> int | None:
    given = relay.take(block, lambda _: False)
    return given and given.crc


def test_only_the_wanted_block_is_taken() -> None:
    relay = Relay()
    assert not give(relay, 0)  # nobody takes any yet
    relay.open(7, [mmap(-1, 8), mmap(-1, 8)])
    assert relay.take(0, lambda _: True) is None  # it is on the disk
    assert not give(relay, 0)
    assert not give(relay, 2)
    assert give(relay, 1)
    assert give(relay, 2)
    assert not give(relay, 3)  # no buffer is empty
    assert relay.give(full(3)._replace(generation=8), lambda: True) is None
    assert taken(relay, 1) == 1
    relay.done(mmap(-1, 8))
    assert give(relay, 3)
    assert [given.block for given in relay.close()] == [2, 3]
    assert not give(relay, 4)
    relay.settle(lambda: True)  # nothing is under way


def test_what_could_not_be_written_is_not_waited_for() -> None:
    relay = Relay()
    relay.open(7, [mmap(-1, 8), mmap(-1, 8)])
    assert relay.take(0, lambda _: True) is None
    assert give(relay, 1)
    assert give(relay, 2)
    assert taken(relay, 1) == 1
    assert [given.block for given in relay.close()] == [2]
    relay.settle(lambda: True)


@given(st.integers(1, 40), st.integers(1, 4), st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_every_block_comes_once_and_in_order(count: int, connections: int, whose: list[int]) -> None:
    """Connections bring runs of blocks as they can; each block is either given or written by its connection."""
    relay, lock = Relay(), threading.Lock()
    on_disk: set[int] = set()
    seen: list[int] = []

    def connection(mine: int) -> None:
        buffer = mmap(-1, 8)
        for block in (block for block in range(count) if whose[block] % connections == mine):
            buffer[:4] = block.to_bytes(4)
            empty = relay.give(Given(7, block, buffer, 0), lambda: True)
            if empty is None:
                with lock:
                    on_disk.add(block)
                relay.tell()
            buffer = empty or buffer
        relay.settle(lambda: True)

    threads = [threading.Thread(target=connection, args=(mine,)) for mine in range(connections)]
    relay.open(7, [mmap(-1, 8), mmap(-1, 8)])
    for thread in threads:
        thread.start()
    for block in range(count):
        while True:
            given = relay.take(block, on_disk.__contains__)
            if given is not None:
                assert (given.block, int.from_bytes(given.buffer[:4])) == (block, block)
                assert block not in on_disk
                seen.append(block)
                relay.done(given.buffer)
                break
            if block in on_disk:
                seen.append(block)
                break
    assert list(relay.close()) == []
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert seen == list(range(count))
