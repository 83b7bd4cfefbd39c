"""The built pages as static files: which there are, how they are sent, what every answer carries.

The build lays a ``.br`` and a ``.gz`` beside each file that is worth it; aiohttp sends the one that
the browser takes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from runner.errors import ServiceError

_HASHED = "/_next/static/"  # Next.js names these files by their content: they never change
_YEAR_S = 31_536_000
_COMPRESSED = (".br", ".gz")


@dataclass(frozen=True)
class File:
    """A file of a page. ``scripts``: the hashes of its inline scripts, for its CSP."""

    path: Path
    scripts: tuple[str, ...] = ()


def built(out: Path) -> dict[str, File]:
    """Every file of the build in ``out`` by its path in a URL, such as ``/index.html``.

    Read once, at start: what is built anew is served after the next start.

    Raises:
        ServiceError: nothing is built there.
    """
    listing = out / "csp.json"
    try:
        hashes: dict[str, list[str]] = json.loads(listing.read_text("utf-8"))
    except (OSError, ValueError):
        raise ServiceError(f"The call page is not built in {out}. Build it: make page") from None
    return {
        f"/{path.relative_to(out).as_posix()}": File(
            path, tuple(hashes.get(path.relative_to(out).as_posix(), ()))
        )
        for path in out.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path != listing
        and path.suffix not in _COMPRESSED
    }


class Static:
    """One port's files by their URL paths: what is not in ``files`` does not exist there.

    ``connect``: the origins that scripts may reach; ``permissions``: the Permissions-Policy.
    """

    def __init__(self, files: dict[str, File], connect: str, permissions: str) -> None:
        self._files = files
        self._connect = connect
        self._permissions = permissions

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The file of the path; else the page that says that nothing is there."""
        file = self._files.get(request.path)
        if file:
            return web.FileResponse(file.path)
        missing = self._files.get("/404.html")
        if missing is None or request.path.startswith("/api/"):
            raise web.HTTPNotFound
        return web.FileResponse(missing.path, status=404)

    async def secure(self, request: web.Request, response: web.StreamResponse) -> None:
        """Gives every answer of the port its headers; for ``on_response_prepare``."""
        file = self._files.get("/404.html" if response.status == 404 else request.path)
        response.headers.update(
            {
                "Server": "voice-agent-runner",
                "Cache-Control": _caching(request, response),
                "Content-Security-Policy": _policy(self._connect, file.scripts if file else ()),
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Permissions-Policy": self._permissions,
                "Referrer-Policy": "no-referrer",
                "Vary": "Accept-Encoding",
                "X-Content-Type-Options": "nosniff",
            }
        )


def _caching(request: web.Request, response: web.StreamResponse) -> str:
    if request.path.startswith("/api/"):
        return "no-store"
    if request.path.startswith(_HASHED) and response.status < 400:
        return f"public, max-age={_YEAR_S}, immutable"
    return "no-cache"


def _policy(connect: str, scripts: tuple[str, ...]) -> str:
    """The Content-Security-Policy of a page with these inline scripts."""
    listed = "".join(f" '{digest}'" for digest in scripts)
    return (
        f"default-src 'none'; script-src 'self'{listed}; style-src 'self'; "
        f"connect-src {connect}; img-src 'self' data:; media-src 'self' blob: mediastream:; "
        "font-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
