"""``POST /v1/audio/speech``: Piper behind OpenAI's shape, streamed as it is made."""

from typing import Any
from uuid import uuid4

from aiohttp import web

from runner.models.audio import wav_header
from runner.models.lanes import Lane
from runner.models.piper import Piper
from runner.models.shapes import ApiError, SpeechRequest, read_json, unknown_model
from runner.models.weights import PIPER


class Speech:
    """One Piper voice."""

    def __init__(self, piper: Piper, lane: Lane) -> None:
        self._piper = piper
        self._lane = lane
        self.description: dict[str, Any] = {
            "id": PIPER.name,
            "object": "model",
            "created": 0,
            "owned_by": "rhasspy",
            "task": "text-to-speech",
            "voices": [piper.name],
            "sample_rate": piper.rate_hz,
        }

    async def post(self, request: web.Request) -> web.StreamResponse:
        """The text as sound: mono 16-bit PCM, or the same behind a WAV header without a length.

        The first piece is made before the status is sent, so that 200 means sound. A caller that
        hangs up stops the rest.
        """
        with self._lane.place():
            wanted = await read_json(request, SpeechRequest)
            self._check(wanted)
            rate_hz = wanted.sample_rate or self._piper.rate_hz
            pieces = self._lane.turns(self._piper.speak(wanted.input, wanted.speed, rate_hz))
            first = await anext(pieces)
            response = _response(wanted.response_format, rate_hz)
            await response.prepare(request)
            if wanted.response_format == "wav":
                await response.write(wav_header(rate_hz))
            try:
                await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
            except Exception:
                if request.transport:
                    request.transport.abort()  # the rest is missing: the body must not end well
                raise
        return response

    def _check(self, wanted: SpeechRequest) -> None:
        if wanted.model not in {PIPER.name, PIPER.repo}:
            raise unknown_model(PIPER.name)
        if wanted.voice != self._piper.name:
            raise ApiError(400, f"The voices are: {self._piper.name}.", "voice", "voice_not_found")
        if not wanted.input.strip():
            raise ApiError(400, "input: it is empty.", "input")


def _response(response_format: str, rate_hz: int) -> web.StreamResponse:
    kind = "audio/wav" if response_format == "wav" else f"audio/pcm;rate={rate_hz}"
    return web.StreamResponse(headers={"Content-Type": kind, "X-Request-Id": uuid4().hex})
