"""Asks a sidecar for a code that its page, opened in a browser, exchanges for the token (`rpc/session.py`)."""

from __future__ import annotations

import json

from pumas.client import wire
from pumas.client.discovery import Endpoint
from pumas.client.errors import NotReachable, Refused

TIMEOUT_S = 10.0


def session_code(endpoint: Endpoint) -> str:
    """A code that is good once, for two minutes.

    Raises:
        NotReachable: no answer.
        Refused: what answers there has no page, or did not accept the token.
    """
    import requests

    with requests.Session() as session:
        # Proxies and .netrc of the environment are not for a program on this machine.
        session.trust_env = False
        headers = wire.headers(endpoint.token if endpoint.alive else None)
        try:
            reply = session.post(f"{endpoint.url}/session/code", data=b"{}", headers=headers, timeout=TIMEOUT_S)
        except requests.RequestException:
            raise NotReachable("The sidecar does not answer.") from None
    try:
        return str(json.loads(reply.content)["code"])
    except (ValueError, KeyError, TypeError):
        message = "This sidecar has no page, or did not accept the token."
        raise Refused(message, reply.status_code) from None
