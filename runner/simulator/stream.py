"""A streamed answer of text, in any provider's events, with what can go wrong in it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from runner.config import Fault
from runner.simulator.exchange import Exchange

_KEEPALIVE_EVERY_S = 0.2
_SLOW_S = 1.0  # between tokens, where the fault names no time


@dataclass(frozen=True)
class Events:
    """An answer as bytes of an event stream.

    ``opening`` goes out with the first token; ``tokens``: one event each; ``end``: all that
    says that the answer is whole. ``keepalive``: sent while the server thinks; empty: nothing.
    ``malformed``, ``error``: the events of those faults.
    """

    opening: bytes
    tokens: Sequence[bytes]
    end: bytes
    keepalive: bytes
    malformed: bytes
    error: bytes


async def pour(exchange: Exchange, events: Events, headers: dict[str, str]) -> web.StreamResponse:
    """Write ``events`` at the server's pace, as far as the request's fault lets it."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
    if exchange.state.server.speaks == "openrouter" or exchange.meets("keepalive_only"):
        await response.prepare(exchange.request)
        await _keep_alive(exchange, response, events.keepalive)
    due = await exchange.until_first()
    if not response.prepared:
        await response.prepare(exchange.request)
    if events.opening:
        await response.write(events.opening)
    if await _tokens(exchange, response, events, due):
        await response.write(events.end)
    return response


async def _keep_alive(exchange: Exchange, response: web.StreamResponse, comment: bytes) -> None:
    """One comment, and then more for as long as nothing else is said."""
    if comment:
        await response.write(comment)
    fault = exchange.meets("keepalive_only")
    if fault is None:
        return
    if fault.seconds is None:
        exchange.strike()
    loop = asyncio.get_running_loop()
    until = loop.time() + (float("inf") if fault.seconds is None else fault.seconds)
    while loop.time() < until:
        await asyncio.sleep(min(_KEEPALIVE_EVERY_S, until - loop.time()))
        if comment:
            await response.write(comment)


async def _tokens(
    exchange: Exchange, response: web.StreamResponse, events: Events, due: float
) -> bool:
    """Write the tokens; whether the answer comes to its regular end.

    Each token has its own moment, counted from the first: what a write takes does not add up.
    """
    loop, pace = asyncio.get_running_loop(), exchange.state.pace
    if exchange.meets("empty"):
        exchange.strike()
        return True
    slow = exchange.meets("slow")
    extra_s = 0.0 if slow is None else _SLOW_S if slow.seconds is None else slow.seconds
    breaks = exchange.meets("stall_after", "truncate", "cut", "malformed", "error_chunk")
    last = len(events.tokens) if breaks is None else min(breaks.after, len(events.tokens))
    for at, token in enumerate(events.tokens):
        if breaks and at == last:
            if not await _break(exchange, response, events, breaks):
                return False
            due = loop.time()
        if at or slow:
            due += extra_s + (pace.token_s() if at else 0.0)
        if (wait_s := due - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        await response.write(token)
        exchange.sent()
    if breaks and last == len(events.tokens):
        return await _break(exchange, response, events, breaks)
    return True


async def _break(
    exchange: Exchange, response: web.StreamResponse, events: Events, fault: Fault
) -> bool:
    """What happens in the middle; whether the answer goes on after it."""
    match fault.kind:
        case "stall_after":
            await exchange.pause(fault)
            return True
        case "cut":
            exchange.cut()
        case "malformed":
            await response.write(events.malformed)
        case "error_chunk":
            await response.write(events.error)
    exchange.strike()
    return False
