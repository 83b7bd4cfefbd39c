"""Connections to far servers are opened while the caller speaks: by TCP and TLS they take two
journeys there and back, and the turn would wait for each.

A server that closes what nobody uses, some do after 5 s, is reached again before it is needed.
"""

import asyncio
from collections.abc import Sequence

import aiohttp
from livekit.agents import UserStateChangedEvent

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_ANSWER_BYTES = 4096


class Warmth:
    """Has one connection to each of ``base_urls`` in the pool of ``http``; a host that is named
    twice is asked twice at once, and so has two."""

    def __init__(self, http: aiohttp.ClientSession, base_urls: Sequence[str]) -> None:
        self._http = http
        self._base_urls = base_urls
        self._opening: set[asyncio.Task[None]] = set()

    def on_state(self, event: UserStateChangedEvent) -> None:
        """A caller who begins to speak will be answered soon."""
        if event.new_state == "speaking" and not self._opening:
            for url in self._base_urls:
                task = asyncio.create_task(self._open(url), name="warm")
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def close(self) -> None:
        """Nobody will be answered any more."""
        for task in self._opening:
            task.cancel()

    async def _open(self, url: str) -> None:
        """Whatever is answered, a refusal too, has opened the connection. No key is shown. OPTIONS,
        because aiohttp closes the connection after an answer to HEAD."""
        asked = self._http.options(f"{url}/models", timeout=_TIMEOUT, allow_redirects=False)
        try:
            async with asked as answer:
                await answer.content.readexactly(_ANSWER_BYTES)  # an answer left unread closes it
        except asyncio.IncompleteReadError:
            pass  # it was read to its end
        except (aiohttp.ClientError, OSError):
            pass  # the turn will find out, and say so
