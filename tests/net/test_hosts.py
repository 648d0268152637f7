"""Counting, and not remembering hosts without end."""

from __future__ import annotations

import threading

from net.stub import Time
from pumas.errors import ConnectionFailed
from pumas.net.address import parse
from pumas.net.breaker import Circuit
from pumas.net.hosts import MAX_HOSTS, Counted, Hosts, NetworkStatus


def hosts(time: Time, changes: list[int] | None = None) -> Hosts:
    return Hosts(time.clock, lambda: None if changes is None else changes.append(1))


def test_scheme_name_and_port_make_a_host(time: Time) -> None:
    known = hosts(time)
    urls = ["https://h/a", "https://H:443/b", "http://h/", "https://h:8443/", "https://g/"]
    assert len({id(known[parse(url).origin]) for url in urls}) == 4


def test_counts_add_up_over_hosts_and_threads(time: Time) -> None:
    known = hosts(time)
    one, two = known[parse("https://a").origin], known[parse("https://b").origin]

    def work() -> None:
        for _ in range(500):
            one.count(succeeded=1)
            two.count(failed=1, retries=2)
            one.receive(10)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert known.tally.now == Counted(succeeded=2000, failed=2000, retries=4000, received=20_000)
    assert (known.tally.now.total, known.tally.now.success_rate) == (4000, 50.0)
    assert [state.counted for state in known.states()] == [
        Counted(succeeded=2000, received=20_000),
        Counted(failed=2000, retries=4000),
    ]
    assert Counted().success_rate == 0.0


def test_a_state_tells_what_is_wrong_and_how_long(time: Time) -> None:
    changes: list[int] = []
    known = hosts(time, changes)
    host = known[parse("http://a:8080").origin]
    host.blame(ConnectionFailed("a:8080", "refused the connection", "refused"))
    for _ in range(3):
        host.breaker.failed()
    host.gates.shut("api", time.clock() + 90)
    state = known.states()[0]
    assert (state.host, state.circuit) == ("http://a:8080", Circuit.OPEN)
    assert (state.circuit_wait_s, state.rate_limit_wait_s) == (60, 90)
    assert state.last_error == "a:8080 refused the connection." and changes == [1]
    status = NetworkStatus(False, None, known.tally.now, known.states())
    assert status.is_offline and status.circuits == {"http://a:8080": "open"}
    time.sleep(60)
    assert not NetworkStatus(False, None, known.tally.now, known.states()).is_offline
    assert NetworkStatus(True, None, Counted(), []).is_offline


def test_the_longest_unused_are_forgotten_but_not_those_left_alone(time: Time) -> None:
    known = hosts(time)
    ill, limited, used = (known[parse(f"https://{name}").origin] for name in ("ill", "limited", "used"))
    for _ in range(3):
        ill.breaker.failed()
    limited.gates.shut("api", time.clock() + 90)
    for number in range(MAX_HOSTS + 20):
        assert known[parse("https://used").origin] is used
        known[parse(f"https://h{number}").origin].count(succeeded=1)
    assert len(known.states()) == MAX_HOSTS
    assert {"ill", "limited", "used"} <= {state.host for state in known.states()}
    assert known.tally.now.succeeded == MAX_HOSTS + 20
