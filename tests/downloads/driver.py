"""Sidecars without HTTP, made in milliseconds and killed for real: `python -m downloads.driver SOCKET`.

Started once with everything imported. Each connection to the socket is one life: a forked child opens all services on
the launcher root that it is told, and answers calls of methods, one JSON object per line, until it is killed or told to
stop. Waits are short, so that faults of the network pass quickly. The other end is `life.py`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import blake3  # noqa: F401 - imported here once instead of in every child
import filelock  # noqa: F401
import huggingface_hub.hf_api  # noqa: F401
import picklescan.scanner  # noqa: F401
import requests  # noqa: F401
import tenacity  # noqa: F401
import urllib3.connectionpool  # noqa: F401

import pumas.downloads.downloading
import pumas.downloads.patience
import pumas.hub.selection
import pumas.net.breaker
import pumas.net.httpx_transport
import pumas.net.retry
import pumas.net.sending
from pumas.app import Services, build_methods, build_services
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.rpc.registry import Methods, RpcFailure
from pumas.storage.troubles import Troubles


def shorten_waits() -> None:
    pumas.downloads.patience.FIRST_WAIT_S = 0.02
    pumas.downloads.patience.LONGEST_WAIT_S = 0.3
    pumas.downloads.downloading.SILENCE_S = 0.5
    pumas.net.breaker.RECOVERY_S = 0.2
    pumas.net.breaker.TRIAL_S = 0.05
    pumas.net.retry.BASE_S = 0.02
    pumas.net.retry.CAP_S = 0.1


async def live(conn: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=conn)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(16))
    wishes = json.loads(await reader.readline())
    os.environ.update(wishes["env"])
    events = EventStream()
    events.bind(asyncio.get_running_loop())
    services = build_services(Layout(Path(wishes["root"])), events, Troubles())
    methods = build_methods(services, lambda: None)
    for begin in (services.jobs, services.library, services.adoption, services.downloads):
        await begin.open()

    async def say(value: Any) -> None:
        writer.write(json.dumps(value).encode() + b"\n")
        await writer.drain()

    await say({"pid": os.getpid()})
    calls: set[asyncio.Task[None]] = set()

    async def answer(number: int, method: str, params: dict[str, Any]) -> None:
        await say({"number": number, **await outcome(methods, method, params)})

    while line := await reader.readline():
        asked = json.loads(line)
        if asked["method"] == "stop":
            await stop(services)
            await say({"number": asked["number"], "result": None})
            os._exit(0)
        task = asyncio.create_task(answer(asked["number"], asked["method"], asked["params"]))
        calls.add(task)
        task.add_done_callback(calls.discard)
    os._exit(0)


async def outcome(methods: Methods, method: str, params: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": await methods.call(method, params)}
    except RpcFailure as failure:
        return {"failure": {"message": failure.error.message, "code": failure.error.code}}


async def stop(services: Services) -> None:
    """As the sidecar's own end does it."""
    await services.close()
    services.close_databases()


def main(path: str) -> None:
    shorten_waits()
    # What is collected in a child would copy the memory that it shares with its parent.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            conn, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                asyncio.run(live(conn))
            conn.close()


if __name__ == "__main__":
    main(sys.argv[1])
