"""Which requests a server on this machine answers: its own pages', under names of this machine.

Any page in a browser here can send requests to a local port, and with a name that it points at this
machine (DNS rebinding) it could read the answers.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def same_site(bound_to: str, port: int) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that refuses other sites' pages, and other names for this machine.

    ``bound_to``: the address that the server listens at; any name is right unless it is loopback.
    """

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "").lower()
        if not _is_ours(host, bound_to):
            mend = f"Open http://{bound_to}:{port}."
            return refusal(403, f"This page is not served under that name. {mend}")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            return refusal(403, "Requests from other sites are refused.")
        return await handler(request)

    return refuse


def refusal(status: int, sentence: str, **headers: str) -> web.Response:
    """An error in JSON, as every API here gives it."""
    return web.json_response({"error": sentence}, status=status, headers=headers)


def _is_ours(host: str, bound_to: str) -> bool:
    """Whether the Host header is a name of this machine."""
    if not _is_loopback(bound_to):
        return bool(host)
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == bound_to.lower() or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
