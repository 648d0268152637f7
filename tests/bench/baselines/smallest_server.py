"""The smallest program that does what the sidecar is for: aiohttp, jsonrpcserver, one method. Prints its port."""

from __future__ import annotations

import asyncio

from aiohttp import web
from jsonrpcserver import Result, Success, async_dispatch, method


@method
async def health_check() -> Result:
    return Success({"status": "ok"})


async def rpc(request: web.Request) -> web.Response:
    return web.Response(text=await async_dispatch(await request.text()), content_type="application/json")


async def main() -> None:
    app = web.Application()
    app.router.add_post("/rpc", rpc)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"RPC_PORT={runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
