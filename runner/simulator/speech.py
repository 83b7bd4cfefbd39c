"""``/v1/audio/transcriptions`` and ``/v1/audio/speech``, played, or relayed from a real server."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web
from pydantic_core import to_json

from runner.config import Fault
from runner.models.shapes import read_json, read_upload
from runner.simulator import relay, sound
from runner.simulator.exchange import Exchange, Refusal
from runner.simulator.shapes import SpokenRequest, unknown_model
from runner.simulator.whole import answer_whole

_DEFAULT_TRANSCRIPT = "When does the library open on Saturday?"
_CHARS_PER_S = 15.0  # how fast an English voice reads
_PIECE_S = 0.1  # of sound in one write
_SLOW_S = 1.0  # between pieces, where the fault names no time
_OTHER_RATE_HZ, _THIRD_RATE_HZ = 16_000, 24_000


async def transcribe(exchange: Exchange) -> web.StreamResponse:
    """The next transcript, whatever is heard; with ``upstream``, the real one."""
    if exchange.state.server.upstream:
        body = await relay.transcript(exchange)
    else:
        body = to_json({"text": await _transcript(exchange)})
    if exchange.meets("empty"):
        body = to_json({"text": ""})
    return await answer_whole(exchange, body)


async def _transcript(exchange: Exchange) -> str:
    state, server = exchange.state, exchange.state.server
    texts = server.transcripts or [_DEFAULT_TRANSCRIPT]
    text = texts[state.heard % len(texts)]
    state.heard += 1
    wanted, upload = await read_upload(exchange.request)
    exchange.entry.asked = [f"sha256 {hashlib.sha256(upload).hexdigest()}, {len(upload)} bytes"]
    if wanted.model not in server.models:
        raise unknown_model(server.speaks, wanted.model)
    await exchange.until_first()
    return text


async def speak(exchange: Exchange) -> web.StreamResponse:
    """The text as sound, mono 16-bit: a tone, or with ``upstream`` a real voice.

    Raises:
        Refusal: an unknown model, or a format that is neither pcm nor wav.
    """
    wanted = await read_json(exchange.request, SpokenRequest)
    exchange.entry.asked = [wanted.input]
    server = exchange.state.server
    if not server.upstream and wanted.model not in server.models:
        raise unknown_model(server.speaks, wanted.model)
    if wanted.response_format not in ("pcm", "wav"):
        raise Refusal(400, "response_format: the simulator speaks pcm and wav.")
    rate_hz = _rate(exchange, wanted.sample_rate or server.sample_rate)
    async with aclosing(_pieces(exchange, wanted, rate_hz)) as pieces:
        return await _pour(exchange, pieces, wanted.response_format, rate_hz)


def _rate(exchange: Exchange, asked_hz: int) -> int:
    """The rate that is sent: what was asked, or by a fault another."""
    if not exchange.meets("wrong_rate"):
        return asked_hz
    exchange.strike()
    return _OTHER_RATE_HZ if asked_hz != _OTHER_RATE_HZ else _THIRD_RATE_HZ


async def _pieces(
    exchange: Exchange, wanted: SpokenRequest, rate_hz: int
) -> AsyncGenerator[bytes, None]:
    """The sound: by its fault garbage or silence, else the real voice, else a tone."""
    samples = int(len(wanted.input) / _CHARS_PER_S * rate_hz)
    if fault := exchange.meets("garbage"):
        exchange.strike()
        made = sound.garbage(fault.body, samples * sound.SAMPLE_BYTES)
    elif exchange.meets("silence"):
        exchange.strike()
        made = bytes(samples * sound.SAMPLE_BYTES)
    elif exchange.state.server.upstream:
        async for piece in relay.voice(exchange, wanted, rate_hz):
            yield piece
        return
    else:
        made = sound.tone(rate_hz, samples)
    await exchange.until_first()
    size = int(rate_hz * _PIECE_S) * sound.SAMPLE_BYTES
    for at in range(0, len(made), size):
        if at:
            await asyncio.sleep(_PIECE_S * exchange.state.server.realtime_factor)
        yield made[at : at + size]


async def _pour(
    exchange: Exchange, pieces: AsyncGenerator[bytes, None], response_format: str, rate_hz: int
) -> web.StreamResponse:
    """Write the sound, as far as the request's fault lets it; its ``after`` counts bytes.

    The first piece is made before the status is sent, so that 200 means sound.
    """
    piece = await anext(pieces, b"")
    kind = sound.content_type(response_format, rate_hz)
    response = web.StreamResponse(headers={"Content-Type": kind})
    await response.prepare(exchange.request)
    if fault := exchange.meets("keepalive_only"):
        await exchange.pause(fault)
    if exchange.meets("empty"):
        exchange.strike()
        return response
    if response_format == "wav" and not exchange.meets("garbage"):
        await response.write(sound.wav_header(rate_hz))
    breaks = exchange.meets("stall_after", "truncate", "cut", "malformed", "error_chunk")
    left = breaks.after if breaks else 0
    while piece:
        if breaks and left <= len(piece):
            await _write(exchange, response, piece[:left])
            if not await _break(exchange, response, breaks):
                return response
            piece, breaks = piece[left:], None
        left -= len(piece)
        await _write(exchange, response, piece)
        if slow := exchange.meets("slow"):
            await asyncio.sleep(_SLOW_S if slow.seconds is None else slow.seconds)
        piece = await anext(pieces, b"")
    return response


async def _write(exchange: Exchange, response: web.StreamResponse, piece: bytes) -> None:
    if piece:
        await response.write(piece)
        exchange.sent(len(piece))


async def _break(exchange: Exchange, response: web.StreamResponse, fault: Fault) -> bool:
    """What happens in the middle; whether the sound goes on after it."""
    match fault.kind:
        case "stall_after":
            await exchange.pause(fault)
            return True
        case "cut":
            exchange.cut()
        case "malformed" | "error_chunk":
            await response.write(b'{"error": {"message": "The script says so (simulate)."}}')
    exchange.strike()
    return False
