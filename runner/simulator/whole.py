"""An answer that is one JSON object, with what can go wrong in it."""

import asyncio

from aiohttp import web

from runner.simulator.exchange import Exchange
from runner.simulator.sound import HTML


async def answer_whole(exchange: Exchange, body: bytes) -> web.StreamResponse:
    """Write ``body``, as far as the request's fault lets it.

    The faults of a stream hit it in the middle: of a body that is cut or truncated, half comes.
    """
    fault = exchange.fault
    kind = fault.kind if fault else ""
    if fault and kind in ("stall_after", "keepalive_only"):
        await exchange.pause(fault)
    if fault and kind == "slow":
        await asyncio.sleep(fault.seconds or 0.0)
    if kind in ("truncate", "cut"):
        return await _half(exchange, body)
    if kind == "malformed":
        body = body[: len(body) // 2]
    if kind == "garbage":
        body = HTML
    if kind in ("malformed", "garbage", "error_chunk", "empty"):
        exchange.strike()
    response = web.Response(
        body=body, content_type="text/html" if kind == "garbage" else "application/json"
    )
    await response.prepare(exchange.request)
    await response.write_eof()
    if exchange.entry.first_byte is None:
        exchange.sent(0)
    return response


async def _half(exchange: Exchange, body: bytes) -> web.StreamResponse:
    """Promise a whole body and break off: ``cut`` by a reset, ``truncate`` by a regular close."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(exchange.request)
    await response.write(body[: len(body) // 2])
    if exchange.meets("cut"):
        exchange.cut()
    else:
        exchange.strike()
        if exchange.request.transport:
            exchange.request.transport.close()
    return response
