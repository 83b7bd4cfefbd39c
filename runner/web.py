"""The call page over HTTP: static files, ``POST /api/token``, ``GET /api/status`` and health.

Hostile input is expected: any page in the caller's browser can send requests here, so the API
answers its own origin only, and under names of this machine only while it is bound to loopback.
"""

import asyncio
import errno
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from runner.config import Web
from runner.errors import ServiceError
from runner.folders import RESOURCES
from runner.same_site import Handler, refusal, same_site
from runner.static import File, Static, built
from runner.tokens import Access, RateLimit, Seat, caller_token, seat_of

__all__ = ["Access", "Gate", "Status", "start_page"]

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 16 * 1024
_BODY_TIMEOUT_S = 10.0
_SHUTDOWN_TIMEOUT_S = 2.0
_PROBE_TIMEOUT_S = 1.0
_OTHER_PORT = 4000  # beside 3000; 3001 is the operator's
_OPERATORS = re.compile(r"/operator(?![^./])")  # /operator, /operator.html, /operator/…
_PERMISSIONS = "microphone=(self), camera=(), geolocation=()"
_LANGUAGE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}"
)  # BCP 47, as far as anyone speaks it

Status = Callable[[], Awaitable[dict[str, object]]]
"""What ``GET /api/status`` answers: ``agent`` (its name) and ``stand_ins``, a list of objects
``{"for": str, "provider": str, "instead_of": [str], "reason": str}``, ``notes`` (sentences) and
``languages`` (tags such as ``de``; the first is spoken to callers who choose none)."""


class Gate(Protocol):
    """Whether the worker can take one more call."""

    def refusal(self, room: str) -> str | None:
        """A sentence for the caller when no call can be taken in ``room`` now, else None."""


async def start_page(config: Web, access: Access, gate: Gate, status: Status) -> web.AppRunner:
    """Serve the page at ``web.host`` and ``web.port`` until the result is cleaned up.

    Raises:
        ServiceError: the page is not built, or the address cannot be bound.
    """
    site = _Site(config, access, gate, status, _call_page())
    runner = web.AppRunner(
        site.application(),
        access_log=None,
        auto_decompress=False,
        shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ServiceError(await _not_bound(config, error)) from None
    return runner


def _call_page() -> dict[str, File]:
    """The call page's own files: the operator's page is not served at this port."""
    files = built(RESOURCES / "web" / "out")
    ours = {path: file for path, file in files.items() if not _OPERATORS.match(path)}
    return ours | {"/": ours["/index.html"]}


class _Site:
    """The page's requests."""

    def __init__(
        self, config: Web, access: Access, gate: Gate, status: Status, files: dict[str, File]
    ) -> None:
        self._config = config
        self._access = access
        self._gate = gate
        self._status = status
        self._limit = RateLimit(config.tokens_per_minute)
        connect = f"'self' {' '.join(_origins(access.server_url))}"
        self._static = Static(files, connect, _PERMISSIONS)

    def application(self) -> web.Application:
        """The routes, with every answer's security headers."""
        app = web.Application(
            client_max_size=_MAX_BODY_BYTES,
            middlewares=[_errors, same_site(self._config.host, self._config.port)],
        )
        app.router.add_post("/api/token", self._token)
        app.router.add_get("/api/status", self._state)
        app.router.add_get("/api/health", _health)
        app.router.add_get("/{path:.*}", self._static.serve)
        app.on_response_prepare.append(self._static.secure)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        """LiveKit's TokenSource contract. Room and identity are ours: the body's are ignored.

        With ``resume``, a token that was had here, it is the same room and identity again; of
        ``participant_attributes`` the ``language`` is kept.
        """
        body = await _read_object(request)
        seat: Seat | None = Seat(attributes=_attributes(body))
        if "resume" in body:
            seat = seat_of(self._access, str(body["resume"]))
        if seat is None:
            return refusal(403, "That call cannot be taken up again. Call anew.")
        if sentence := self._gate.refusal(seat.room):
            return refusal(503, sentence)
        if wait_s := self._limit.wait_s(request.remote or ""):
            sentence = f"Too many calls from your address. Try again in {wait_s} seconds."
            return refusal(429, sentence, **{"Retry-After": str(wait_s)})
        token = caller_token(self._access, seat, self._config.token_ttl_s)
        answer = {"server_url": self._access.server_url, "participant_token": token}
        return web.json_response(answer, status=201)

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(await self._status())


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as ``{"error": sentence}``; what nobody expected goes to the log, not out."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return refusal(413, f"The request is larger than {_MAX_BODY_BYTES // 1024} KiB.")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return refusal(405, f"{request.method} is not served here.", Allow=allowed)
    except web.HTTPException as error:
        return refusal(error.status, f"{error.reason}.")
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(500, "The runner could not answer. Its log says why.")


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _attributes(body: dict[str, Any]) -> dict[str, str]:
    """Those attributes that a caller may choose; others, and what is none, are left out."""
    wanted = body.get("participant_attributes")
    language = wanted.get("language") if isinstance(wanted, dict) else None
    if isinstance(language, str) and _LANGUAGE.fullmatch(language):
        return {"language": language}
    return {}


async def _read_object(request: web.Request) -> dict[str, Any]:
    """Read a body that must be a JSON object, in time and within the size limit.

    Raises:
        web.HTTPException: 400, 408 or 413.
    """
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            body = json.loads(await request.read())
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(reason="The body must be a JSON object")
    return body


def _origins(server_url: str) -> tuple[str, str]:
    """The LiveKit server's origins: signalling (ws), and http, by which a failure is explained."""
    netloc = urlsplit(server_url).netloc.rpartition("@")[2]
    secure = "s" if server_url.startswith(("wss://", "https://")) else ""
    return f"ws{secure}://{netloc}", f"http{secure}://{netloc}"


async def _not_bound(config: Web, error: OSError) -> str:
    """Why the address cannot be bound, and the key that mends it."""
    if error.errno != errno.EADDRINUSE:
        reason = error.strerror or str(error)
        return (
            f"The page cannot be served at {config.host}:{config.port}: {reason}. "
            "Set web.host and web.port to an address of this machine."
        )
    owner = " by another runner" if await _is_runner(config) else ""
    return (
        f"Port {config.port} is taken{owner}. Stop what listens there, "
        f"or choose another port: web.port={_OTHER_PORT}"
    )


async def _is_runner(config: Web) -> bool:
    """Whether the page of another runner answers at the address."""
    timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
    url = f"http://{config.host}:{config.port}/api/status"
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            status = json.loads(await response.content.read(_MAX_BODY_BYTES))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
        return False
    return isinstance(status, dict) and {"agent", "stand_ins"} <= status.keys()
