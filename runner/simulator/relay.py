"""Speech from the real server behind a simulated one, so that a real voice can be made to fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from runner.simulator.exchange import Exchange, Refusal
from runner.simulator.shapes import SpokenRequest

_PIECE_BYTES = 16 * 2**10
_LONGEST_TRANSCRIPT_BYTES = 2**20
_REFUSAL_CHARS = 500


async def transcript(exchange: Exchange) -> bytes:
    """What the real server makes of the upload, as it is."""
    upload = await exchange.request.read()
    headers = {"Content-Type": exchange.request.headers.get("Content-Type", "")}
    async with _post(exchange, "/audio/transcriptions", data=upload, headers=headers) as answer:
        return await answer.content.read(_LONGEST_TRANSCRIPT_BYTES)


async def voice(exchange: Exchange, wanted: SpokenRequest, rate_hz: int) -> AsyncIterator[bytes]:
    """The real server's samples as they come, at ``rate_hz``."""
    asked = wanted.model_dump() | {
        "response_format": "pcm",
        "sample_rate": rate_hz,
        "stream_format": "audio",
    }
    async with _post(exchange, "/audio/speech", json=asked) as answer:
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            yield piece


@asynccontextmanager
async def _post(
    exchange: Exchange, path: str, **body: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Raises:
    Refusal: the real server's own, or 502 where there is none.
    """
    http, upstream = exchange.state.http, exchange.state.server.upstream
    assert http is not None
    try:
        async with http.post(f"{upstream}{path}", **body) as answer:
            if answer.status >= 400:
                raise Refusal(answer.status, (await answer.text())[:_REFUSAL_CHARS])
            yield answer
    except aiohttp.ClientError as error:
        raise Refusal(502, f"The server behind this one, {upstream}, fails: {error}") from error
