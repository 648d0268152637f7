"""A hub on loopback with the usual repositories, and our client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fixtures.hub import Hub
from pumas.hub.client import HubClient
from pumas.net.client import NetworkClient

MakeClient = Callable[..., HubClient]


@pytest.fixture(scope="session")
def one_hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(one_hub: Hub) -> Hub:
    """Without any fault and with an empty log."""
    one_hub.reset()
    return one_hub


@pytest.fixture
def network() -> Iterator[NetworkClient]:
    """Never waits between attempts."""
    client = NetworkClient(sleep=lambda _seconds: None)
    yield client
    client.close()


@pytest.fixture
def make_client(hub: Hub, network: NetworkClient, tmp_path_factory: pytest.TempPathFactory) -> MakeClient:
    """`make_client(token="…", HF_HOME="…")`: a client whose environment holds only the hub and what is given."""
    home = tmp_path_factory.mktemp("home")

    def make(token: str = "", **environment: str) -> HubClient:
        return HubClient(network, {**hub.env(home=home, token=token), "HOME": str(home), **environment})

    return make


@pytest.fixture
def client(make_client: MakeClient) -> HubClient:
    return make_client()
