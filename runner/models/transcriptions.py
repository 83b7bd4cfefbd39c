"""``POST /v1/audio/transcriptions``: Whisper behind OpenAI's form."""

import asyncio
from typing import Any

from aiohttp import web

from runner.models.audio import (
    HEARD_RATE_HZ,
    LONGEST_S,
    BadAudioError,
    Samples,
    TooLongError,
    decode,
)
from runner.models.lanes import Lane
from runner.models.shapes import ApiError, as_json, read_upload, unknown_model
from runner.models.weights import Weights
from runner.models.whisper import Segment, Whisper


class Transcriptions:
    """One Whisper model, by the id and the hub's name of its ``weights``."""

    def __init__(self, whisper: Whisper, weights: Weights, lane: Lane) -> None:
        self._whisper = whisper
        self._names = {weights.name, weights.repo}
        self._lane = lane
        self.description: dict[str, Any] = {
            "id": weights.name,
            "object": "model",
            "created": 0,
            "owned_by": "Systran",
            "task": "automatic-speech-recognition",
            "languages": sorted(whisper.languages),
        }

    async def post(self, request: web.Request) -> web.Response:
        """The words of an upload; an empty text where there are none."""
        with self._lane.place():
            fields, data = await read_upload(request)
            if fields.model not in self._names:
                raise unknown_model(self.description["id"])
            language = self._language(fields.language)
            samples = await _decoded(data)
            heard = [s async for s in self._lane.turns(self._whisper.transcribe(samples, language))]
        text = " ".join(segment.text for segment in heard)
        if fields.response_format == "text":
            return web.Response(text=f"{text}\n")
        if fields.response_format == "json":
            return as_json({"text": text})
        return as_json(_verbose(text, heard, samples))

    def _language(self, asked: str | None) -> str | None:
        """The code that Whisper knows for ``en``, ``EN`` or ``en-US``; None: not said."""
        if not asked:
            return None
        language = asked.lower().replace("_", "-").partition("-")[0]
        if language not in self._whisper.languages:
            known = ", ".join(self.description["languages"])
            raise ApiError(400, f"This model knows these languages: {known}.", "language")
        return language


async def _decoded(data: bytes) -> Samples:
    try:
        return await asyncio.to_thread(decode, data)
    except BadAudioError as error:
        raise ApiError(400, str(error), "file") from None
    except TooLongError:
        raise ApiError(413, f"The sound is longer than {LONGEST_S} s.", "file") from None


def _verbose(text: str, heard: list[Segment], samples: Samples) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "language": heard[0].language if heard else "",
        "duration": len(samples) / HEARD_RATE_HZ,
        "text": text,
        "segments": [
            {"id": number, "start": part.start_s, "end": part.end_s, "text": part.text}
            for number, part in enumerate(heard)
        ],
    }
