"""Wire models of the network methods. Times are seconds, sizes bytes; counts begin with the sidecar."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pumas.rpc.models import Params, PathText, Result

CircuitState = Literal["closed", "open", "half_open"]
Url = Annotated[str, Field(max_length=2048)]


class HostStatus(Result):
    host: str = Field(description="Name, with the port where it is unusual, and with `http://` where it is not https.")
    state: CircuitState
    retry_after: float = Field(description="Until it may be asked again; 0 when it may be asked now.")
    rate_limited: bool = Field(description="Whether the host itself asked to wait.")
    requests: int
    failures: int
    retries: int
    bytes_received: int
    last_error: str | None


class NetworkStatus(Result):
    total_requests: int = Field(description="A request counts once, however often it was tried.")
    successful_requests: int
    failed_requests: int = Field(
        description="No answer, an answer that is no HTTP, 5xx, or a request to come back later."
    )
    circuit_breaker_rejections: int = Field(description="Not sent, because the host failed repeatedly.")
    withheld_requests: int = Field(description="Not sent, because of offline mode or because the host asked to wait.")
    interrupted_transfers: int = Field(description="Bodies that broke off.")
    retries: int
    success_rate: float = Field(description="Percent, 0 when nothing was asked yet.")
    bytes_received: int
    circuit_states: dict[str, CircuitState]
    is_offline: bool = Field(description="Offline mode is on, or a host is left alone because it failed repeatedly.")
    offline: bool = Field(description="Whether offline mode is on.")
    proxy: str | None = Field(description="What requests go through, without its password.")
    hosts: list[HostStatus]


class Settings(Result):
    offline: bool = Field(description="Whether nothing is to be sent.")
    proxy: str | None = Field(
        description="The proxy, its password hidden; `direct` for none; null as the environment says. Not for loopback."
    )
    mirrors: dict[str, str] = Field(
        description="What is asked instead of a host or base URL. Tokens are not sent to a mirror on another host."
    )
    ca_bundle: str | None = Field(description="A PEM file of root certificates, trusted beside the system's.")


class NetworkSettings(Result):
    settings: Settings


class SetNetworkSettings(Params):
    offline: bool | None = Field(None, description="Left out: as it is. So are the others.")
    proxy: Url | None = Field(
        None,
        description="An http(s) URL, maybe with user and password; `direct` for none; empty: as the environment says.",
    )
    mirrors: Annotated[dict[str, Url], Field(max_length=100)] | None = Field(
        None, description="Host or base URL to base URL; replaces all that were set."
    )
    ca_bundle: PathText | Literal[""] | None = Field(None, description="An absolute path; empty for none.")
