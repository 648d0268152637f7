"""A bare aiohttp handler that parses and writes JSON: the most that any server on aiohttp can answer per second."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def rpc(request: web.Request) -> web.Response:
    call = await request.json()
    return web.json_response({"jsonrpc": "2.0", "result": {"status": "ok"}, "id": call["id"]})


async def main() -> None:
    app = web.Application()
    app.router.add_post("/rpc", rpc)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"RPC_PORT={runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
