"""The port itself: who may ask, what every answer carries, how failures are told.

Hostile input is expected. On loopback any page in a browser of this machine can send requests here:
they are answered to this site's own page only, and changes need a header that no other site can
send. Elsewhere everybody must show the token.
"""

import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from runner.candidates import secret
from runner.config import Operator
from runner.errors import DatabaseAwayError, ProviderError, RunnerError, ServiceError
from runner.folders import RESOURCES
from runner.operator.routes import ACTOR, Actor, Done, Given, Refused, Route, Whole
from runner.same_site import Handler, refusal, same_site
from runner.static import File, Static, built
from runner.tokens import RateLimit

log = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT_S = 2.0
_MAX_BODY_BYTES = 512 * 1024
_LOGINS_PER_MINUTE = 10
_COOKIE = "runner-operator"
_COOKIE_S = 12 * 3600.0
_MOST_LOGINS = 1000
_SHARED = ("/_next/", "/icon.svg", "/404.html")  # what both pages are made of
_CLOSED = ("/api/", "/metrics", "/openapi.json")  # the page holds nothing before it has asked
_PERMISSIONS = "microphone=(), camera=(), geolocation=()"
_AWAY = (DatabaseAwayError, ServiceError, ProviderError)

Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


class Login(Given):
    """The token that ``operator.token_env`` names."""

    token: SecretStr


class LoggedIn(Whole):
    """The answer that brings the cookie."""

    kind = "application/json"

    @classmethod
    def shape(cls) -> dict[str, Any]:
        return Done.model_json_schema()


class Doorman:
    """Who may ask: everybody where no token is set, which only loopback allows."""

    def __init__(self, config: Operator) -> None:
        self._token = secret(config.token_env)
        self._limit = RateLimit(config.requests_per_minute)
        self._logins = RateLimit(_LOGINS_PER_MINUTE)
        self._cookies: OrderedDict[str, float] = OrderedDict()
        self._open: set[str] = set()

    def leave_open(self, routes: Sequence[Route]) -> None:
        """These may be asked by anybody."""
        self._open = {route.path for route in routes if route.public}

    async def login(self, request: web.Request, body: Login) -> LoggedIn:
        """Log in: a cookie, for half a day."""
        if self._logins.wait_s(request.remote or ""):
            raise Refused(429, "Too many tries. Wait a minute.", **{"Retry-After": "60"})
        if not self._token or not _same(body.token.get_secret_value(), self._token):
            raise Refused(401, "The token is wrong. It is what operator.token_env names.")
        cookie = secrets.token_urlsafe(32)
        self._cookies[cookie] = time.monotonic() + _COOKIE_S
        if len(self._cookies) > _MOST_LOGINS:
            self._cookies.popitem(last=False)
        done = Done(done="Logged in.").model_dump_json()
        response = LoggedIn(text=done, content_type="application/json")
        response.set_cookie(
            _COOKIE, cookie, httponly=True, samesite="Strict", path="/", max_age=int(_COOKIE_S)
        )
        return response

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who asks too often, is unknown, or comes from elsewhere, gets no further."""
        if wait_s := self._limit.wait_s(request.remote or ""):
            sentence = f"Too many requests. Try again in {wait_s} seconds."
            return refusal(429, sentence, **{"Retry-After": str(wait_s)})
        if request.method not in ("GET", "HEAD") and request.headers.get("X-Runner") != "1":
            return refusal(403, "A change needs the header X-Runner: 1.")
        known = self._known(request)
        if known is None and self._is_closed(request.path):
            return refusal(401, "Log in with the token that operator.token_env names.")
        request[ACTOR] = Actor(known or "")
        return await handler(request)

    def _is_closed(self, path: str) -> bool:
        return path.startswith(_CLOSED) and path not in self._open

    def _known(self, request: web.Request) -> str | None:
        """How the asker is called in the audit table; None: they are unknown."""
        if not self._token:
            return "loopback"
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(shown.strip(), self._token):
            return "token"
        until = self._cookies.get(request.cookies.get(_COOKIE, ""), 0.0)
        return "token" if until > time.monotonic() else None


def _same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(errors="replace"), token.encode())


@web.middleware
async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as ``{"error": sentence}``; what nobody expected goes to the log, not out."""
    try:
        return await handler(request)
    except Refused as refused:
        return refusal(refused.status, refused.sentence, **refused.headers)
    except web.HTTPRequestEntityTooLarge:
        return refusal(413, f"The request is larger than {_MAX_BODY_BYTES // 1024} KiB.")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return refusal(405, f"{request.method} is not served here.", Allow=allowed)
    except web.HTTPException as error:
        return refusal(error.status, f"{error.reason}.")
    except RunnerError as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        return refusal(503 if isinstance(error, _AWAY) else 500, str(error))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(500, "The runner could not answer. Its log says why.")


async def start_site(config: Operator, doorman: Doorman, routes: Sequence[Route]) -> web.AppRunner:
    """Serves ``routes`` and the operator's page at ``operator.host`` and ``operator.port`` until
    the result is cleaned up.

    Raises:
        ServiceError: the address cannot be bound.
    """
    doorman.leave_open(routes)
    app = web.Application(
        client_max_size=_MAX_BODY_BYTES,
        middlewares=[told, same_site(config.host, config.port), doorman.admit],
    )
    for route in routes:
        app.router.add_route(route.method, route.path, route.serve)
    static = Static(_page(), "'self'", _PERMISSIONS)
    app.router.add_get("/{path:.*}", static.serve)
    app.on_response_prepare.append(static.secure)
    runner = web.AppRunner(
        app, access_log=None, auto_decompress=False, shutdown_timeout=_SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ServiceError(
            f"Port {config.port} on {config.host} cannot be opened for the operator "
            f"({error.strerror}). Set operator.port to another port."
        ) from None
    return runner


def _page() -> dict[str, File]:
    """The operator's page at ``/`` with what it is made of; without one there is still the API."""
    try:
        files = built(RESOURCES / "web" / "out")
    except ServiceError:
        return {}
    ours = {path: file for path, file in files.items() if path.startswith(_SHARED)}
    page = files.get("/operator.html")
    return ours | {"/": page} if page else ours
