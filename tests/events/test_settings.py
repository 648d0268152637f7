"""Settings that one client sets are told to all others, as the call that asks for them shows them, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from pumas.client import PumasClient
from sidecar import Sidecar


def limits(**changes: Any) -> dict[str, Any]:
    return {"bytes_per_second": None, "at_once": 3, "schedule": None, "open": True, **changes}


def network(**changes: Any) -> dict[str, Any]:
    return {"offline": False, "proxy": None, "mirrors": {}, "ca_bundle": None, **changes}


# domain -> topic, what is set in turn, what is told of it.
CHANGES: dict[str, tuple[str, list[tuple[dict[str, Any], dict[str, Any]]]]] = {
    "download_limits": (
        "download.limits",
        [({"at_once": 5}, limits(at_once=5)), ({"bytes_per_second": 4096}, limits(at_once=5, bytes_per_second=4096))],
    ),
    "network_settings": (
        "network.settings",
        [
            ({"proxy": "http://me:secret@p:1"}, network(proxy="http://me:***@p:1")),
            ({"mirrors": {"h": "https://m"}}, network(proxy="http://me:***@p:1", mirrors={"h": "https://m"})),
            ({"offline": True, "proxy": "direct", "mirrors": {}}, network(offline=True, proxy="direct")),
        ],
    ),
    "process_settings": (
        "process.settings",
        [({"on_exit": "keep"}, {"on_exit": "keep"}), ({"on_exit": "stop"}, {"on_exit": "stop"})],
    ),
}
REFUSED = {
    "download_limits": {"bytes_per_second": 1},
    "network_settings": {"offline": False, "proxy": "nonsense"},
    "process_settings": {"on_exit": "maybe"},
}


@pytest.mark.parametrize("settings", CHANGES)
def test_everybody_hears_of_new_settings(sidecar: Sidecar, settings: str) -> None:
    topic, changes = CHANGES[settings]
    with PumasClient(sidecar.root) as client, client.events([topic]) as events, events.limited(60):
        next(events.with_ready())
        for wish, told in changes:
            sidecar.rpc(f"set_{settings}", REFUSED[settings])
            sidecar.result(f"set_{settings}", wish)
            heard = next(events)
            assert (heard.topic, heard.data) == (topic, told)
            shown = sidecar.result(f"get_{settings}")
            assert shown.pop("success")
            assert shown.get("settings", shown) == told
