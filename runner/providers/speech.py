"""STT and TTS behind OpenAI's shapes: Speaches, our own model server, and the like.

livekit-plugins-openai is not used (docs/decisions/0007): it plays every rate as 24 kHz, waits 30 s
whatever it was told, and takes an empty body for success.
"""

from collections.abc import AsyncGenerator

import aiohttp
from livekit import rtc
from livekit.agents.utils import AudioBuffer

from runner.providers.endpoint import Endpoint
from runner.providers.failure import Reason
from runner.providers.pcm import NotSpeechError, Speech

SPEECH_RATE_HZ = 24_000
"""Rate asked of every voice: Kokoro's own, and what Piper is resampled to by its server, so that
one chain has one rate."""

_LONGEST_S, _LONGEST_PER_CHARACTER_S = 30.0, 0.5  # a quarter of normal speed takes half of it
_SAMPLE_BYTES = 2


class EndpointSTT:
    """``/audio/transcriptions``: a whole utterance in, its text out."""

    def __init__(self, endpoint: Endpoint, *, model: str, language: str) -> None:
        self.name = endpoint.name
        self.model = model
        self._endpoint = endpoint
        self._language = language

    async def transcribe(self, buffer: AudioBuffer, language: str | None = None) -> str:
        """What is said in ``buffer``, one or more frames of 16-bit samples.

        Raises:
            Failure: the server did not serve, or heard nothing (``EMPTY``).
        """
        form = aiohttp.FormData()
        form.add_field("model", self.model)
        form.add_field("language", language or self._language)
        form.add_field("response_format", "json")
        wav = rtc.combine_audio_frames(buffer).to_wav_bytes()
        form.add_field("file", wav, filename="utterance.wav", content_type="audio/wav")
        asked = self._endpoint.asked(self.model)
        async with self._endpoint.post("/audio/transcriptions", asked, data=form) as response:
            answer = await self._endpoint.read_json(response, asked)
        text = answer.get("text")
        if not isinstance(text, str):
            raise self._endpoint.failure(Reason.MALFORMED, "its answer holds no text")
        if not text.strip():
            raise self._endpoint.failure(Reason.EMPTY, "it heard nothing")
        return text.strip()


class EndpointTTS:
    """``/audio/speech``: a sentence in, raw PCM out as it is made."""

    def __init__(self, endpoint: Endpoint, *, model: str, voice: str, speed: float) -> None:
        self.name = endpoint.name
        self.model = model
        self._endpoint = endpoint
        self._voice = voice
        self._speed = speed

    async def pcm(self, text: str) -> AsyncGenerator[bytes, None]:
        """16-bit mono samples at `SPEECH_RATE_HZ`, whole ones, as the server makes them.

        Closing the generator closes the connection.

        Raises:
            Failure: the server did not serve, or sent what is no speech at that rate: of that
                nothing is handed on.
        """
        request = {
            "model": self.model,
            "voice": self._voice,
            "input": text,
            "speed": self._speed,
            "response_format": "pcm",
            "stream_format": "audio",
            "sample_rate": SPEECH_RATE_HZ,
        }
        asked = self._endpoint.asked(self.model, (text,))
        size = 0
        async with self._endpoint.post("/audio/speech", asked, json=request) as response:
            try:
                speech = Speech(response.headers.get("Content-Type", ""), SPEECH_RATE_HZ)
                async for data in response.content.iter_any():
                    if samples := speech.take(data):
                        size += len(samples)
                        _check_length(size, text)
                        yield samples
                if samples := speech.rest():
                    size += len(samples)
                    yield samples
            except NotSpeechError as error:
                raise self._endpoint.failure(Reason.MALFORMED, f"{error}") from None
        if not size:
            raise self._endpoint.failure(Reason.EMPTY, "its answer holds no audio")


def _check_length(size: int, text: str) -> None:
    """Sound comes faster than it is played: without an end it would pile up.

    Raises:
        NotSpeechError: ``size`` bytes are more than anybody needs for ``text``.
    """
    longest_s = _LONGEST_S + _LONGEST_PER_CHARACTER_S * len(text)
    if size > longest_s * SPEECH_RATE_HZ * _SAMPLE_BYTES:
        raise NotSpeechError(f"its sound lasts for more than {longest_s:.0f} s")
