"""Watching a simulated server, and changing what it does wrong while it runs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from runner.config import Fault
from runner.models.shapes import as_json
from runner.simulator.exchange import State

_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(state: State, settle: Callable[[], Awaitable[None]], prefix: str) -> list[web.RouteDef]:
    """``{prefix}/_simulator/faults``, ``/log`` and ``/reset``. ``settle`` opens or closes the
    port, as the new faults have it, before the answer goes out."""

    async def set_faults(request: web.Request) -> web.Response:
        try:
            state.script.set(_FAULTS.validate_json(await request.read()))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            words = f"A list of faults is expected; at {where or 'the top'}: {first['msg']}."
            raise web.HTTPBadRequest(text=words) from None
        await settle()
        return as_json({"faults": state.script.faults})

    async def log(_: web.Request) -> web.Response:
        return as_json(account(state))

    async def reset(_: web.Request) -> web.Response:
        state.script.set(state.server.faults)
        state.journal.reset()
        state.heard = 0
        await settle()
        return as_json(account(state))

    return [
        web.post(f"{prefix}/_simulator/faults", set_faults),
        web.get(f"{prefix}/_simulator/log", log),
        web.post(f"{prefix}/_simulator/reset", reset),
    ]


def account(state: State) -> dict[str, Any]:
    """All that can be known of a server: its faults and every request to it."""
    return {
        "name": state.name,
        "speaks": state.server.speaks,
        "faults": state.script.faults,
        "in_flight": state.journal.in_flight,
        "peak": state.journal.peak,
        "requests": list(state.journal.entries),
    }


def health(states: Mapping[str, State]) -> Handler:
    """Which servers are played here."""

    async def handle(_: web.Request) -> web.Response:
        return as_json({"status": "ok", "simulated": list(states)})

    return handle
