"""STT and TTS behind OpenAI's shapes: Speaches, our own model server, and the like.

livekit-plugins-openai is not used for speech: it plays every rate as 24 kHz, waits 30 s
whatever it was told, and takes an empty body for success.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    LanguageCode,
    stt,
    tts,
    utils,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer, is_given

SPEECH_RATE_HZ = 24_000
"""Rate asked of every voice: Kokoro's own, and what Piper is resampled to by its server, so that
one chain has one rate."""

_ERROR_TEXT_CHARS = 200
_BYTES_PER_SAMPLE = 2


class Endpoint:
    """An OpenAI-shaped server: its name in errors, its address, its key."""

    def __init__(self, name: str, base_url: str, api_key: str, http: aiohttp.ClientSession) -> None:
        self.name = name
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = http

    @asynccontextmanager
    async def post(
        self, path: str, *, timeout_s: float, **body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a POST, its status checked.

        ``timeout_s`` bounds each wait (for the connection, for the next bytes), not the whole.

        Raises:
            APIStatusError: the server answered with an error.
            APITimeoutError, APIConnectionError: it did not answer.
        """
        waits = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        try:
            async with self._http.post(
                f"{self._base_url}{path}", headers=self._headers, timeout=waits, **body
            ) as response:
                if response.status >= 400:
                    text = (await response.text())[:_ERROR_TEXT_CHARS]
                    raise APIStatusError(f"{self}: {text}", status_code=response.status)
                yield response
        except TimeoutError:
            raise APITimeoutError(f"{self}: no answer within {timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            reason = os.strerror(error.os_error.errno or 0).lower()
            raise APIConnectionError(f"{self}: {reason}") from None
        except aiohttp.ClientError as error:
            raise APIConnectionError(f"{self}: {error}") from None

    def __str__(self) -> str:
        return f"{self.name} at {self._base_url}"


class EndpointSTT(stt.STT[Any]):
    """``/audio/transcriptions``: a whole utterance in, its text out."""

    def __init__(self, endpoint: Endpoint, *, model: str, language: str, timeout_s: float) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._endpoint = endpoint
        self._model = model
        self._language = language
        self._timeout_s = timeout_s

    @property
    def model(self) -> str:
        return self._model

    @property
    def provider(self) -> str:
        return self._endpoint.name

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        spoken = language if is_given(language) else self._language
        form = aiohttp.FormData()
        form.add_field("model", self._model)
        form.add_field("language", spoken)
        form.add_field("response_format", "json")
        wav = rtc.combine_audio_frames(buffer).to_wav_bytes()
        form.add_field("file", wav, filename="utterance.wav", content_type="audio/wav")
        async with self._endpoint.post(
            "/audio/transcriptions", timeout_s=self._timeout_s, data=form
        ) as response:
            answer = await response.json(content_type=None)
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            raise APIError(f"{self._endpoint}: the answer holds no text")
        heard = stt.SpeechData(language=LanguageCode(spoken), text=answer["text"].strip())
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])


class EndpointTTS(tts.TTS[Any]):
    """``/audio/speech``: a sentence in, raw PCM out as it is made."""

    def __init__(
        self, endpoint: Endpoint, *, model: str, voice: str, speed: float, timeout_s: float
    ) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
        )
        self._endpoint = endpoint
        self._model = model
        self._voice = voice
        self._speed = speed
        self._timeout_s = timeout_s

    @property
    def model(self) -> str:
        return self._model

    @property
    def provider(self) -> str:
        return self._endpoint.name

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _Synthesis(tts=self, input_text=text, conn_options=conn_options)

    async def pcm(self, text: str) -> AsyncIterator[bytes]:
        """16-bit mono samples at `SPEECH_RATE_HZ`, as the server makes them.

        Raises:
            APIError: an error status, no answer in time, or an answer without audio.
        """
        request = {
            "model": self._model,
            "voice": self._voice,
            "input": text,
            "speed": self._speed,
            "response_format": "pcm",
            "stream_format": "audio",
            "sample_rate": SPEECH_RATE_HZ,
        }
        sent_bytes = 0
        async with self._endpoint.post(
            "/audio/speech", timeout_s=self._timeout_s, json=request
        ) as response:
            async for data in response.content.iter_any():
                sent_bytes += len(data)
                yield data
        if sent_bytes < _BYTES_PER_SAMPLE:
            raise APIError(f"{self._endpoint}: the answer holds no audio")


class _Synthesis(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, EndpointTTS)
        output_emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=SPEECH_RATE_HZ,
            num_channels=1,
            mime_type="audio/pcm",
        )
        async for data in self._tts.pcm(self.input_text):
            output_emitter.push(data)
        output_emitter.flush()
