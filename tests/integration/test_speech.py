"""STT and TTS as their client meets them: real sockets, bad servers, and Piper's real voice."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from livekit import rtc

from runner import checkups
from runner.candidates import SpeechCandidate
from runner.config import STT, TTS, Models, Speech
from runner.models.service import service
from runner.providers.endpoint import Endpoint
from runner.providers.failure import Failure, Reason
from runner.providers.speech import SPEECH_RATE_HZ, EndpointSTT, EndpointTTS
from runner.services import Supervisor

SENTENCE = "The quick brown fox jumps over the lazy dog."
TONE = (np.sin(np.arange(SPEECH_RATE_HZ) / 20) * 9000).astype("<i2").tobytes()
ENDLESS_S = 600
FRAME = rtc.AudioFrame(TONE, SPEECH_RATE_HZ, 1, SPEECH_RATE_HZ)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request as it is told."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.answer = audio(TONE)
        self.left = asyncio.Event()
        self.http = http
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        try:
            return await self.answer(request)
        finally:
            self.left.set()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("speaches", self.url, "sk-1", self.http, key_env="SPEACHES_KEY")

    @property
    def voice(self) -> EndpointTTS:
        return EndpointTTS(self.endpoint, model="kokoro", voice="af_heart", speed=1.0)

    @property
    def ears(self) -> EndpointSTT:
        return EndpointSTT(self.endpoint, model="whisper", language="en")

    @property
    def candidate(self) -> SpeechCandidate:
        asked = STT("whisper", "en", 5), TTS("kokoro", "af_heart", 5, 5, 1.0)
        return SpeechCandidate("speaches", self.url, Speech("speaches", "", "", *asked), False)


def audio(
    *pieces: bytes,
    content_type: str = "audio/pcm",
    then: Callable[[web.Request], Any] | None = None,
) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then:
            await then(request)
        return response

    return answer


def whole(body: str, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type="application/json")

    return answer


async def abort(request: web.Request) -> None:
    assert request.transport
    request.transport.abort()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with aiohttp.ClientSession() as http:
        told = Server(http)
        app = web.Application()
        app.router.add_post("/v1/audio/{what}", told.handle)
        async with TestServer(app, handler_cancellation=True) as running:
            told.url = str(running.make_url("/v1"))
            yield told


async def play(voice: EndpointTTS, heard: list[bytes], text: str = SENTENCE) -> None:
    async with aclosing(voice.pcm(text)) as pieces:
        async for piece in pieces:
            heard.append(piece)  # noqa: PERF401  what came before a failure counts


async def test_samples_come_as_they_are_made(server: Server) -> None:
    server.answer = audio(TONE[:4001], TONE[4001:9999], TONE[9999:])
    heard: list[bytes] = []
    await play(server.voice, heard)
    assert b"".join(heard) == TONE
    assert not any(len(piece) % 2 for piece in heard)


async def test_29_a_voice_without_end_is_cut_off(server: Server) -> None:
    server.answer = audio(*[TONE] * ENDLESS_S)
    heard: list[bytes] = []
    with pytest.raises(Failure, match="its sound lasts for more than"):
        await play(server.voice, heard)
    assert sum(map(len, heard)) < len(TONE) * ENDLESS_S / 2
    await server.left.wait()


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (whole('{"error":{"message":"no"}}'), Reason.MALFORMED, "application/json"),
        (audio(np.random.default_rng(1).bytes(48_000)), Reason.MALFORMED, "noise"),
        (audio(TONE, content_type="audio/pcm;rate=22050"), Reason.MALFORMED, "22050"),
        (audio(TONE, content_type="audio/mpeg"), Reason.MALFORMED, "audio/mpeg"),
        (audio(b"Internal Server Error"), Reason.MALFORMED, "text"),
        (audio(), Reason.EMPTY, "no audio"),
        (audio(b"\x00"), Reason.EMPTY, "no audio"),
        (audio(then=abort), Reason.CUT, "the connection broke"),
        (whole('{"error":{"message":"wrong"}}', 401), Reason.REFUSED,
         "it refuses the key in SPEACHES_KEY; set a valid one (HTTP 401: wrong)"),
        (whole('{"detail":"not installed locally"}', 404), Reason.REFUSED,
         "it has no model kokoro; set another model, or the right base_url (HTTP 404: not "),
        (whole('{"detail":"bad: ' + SENTENCE + '"}', 422), Reason.REJECTED, "(HTTP 422)"),
    ],
)  # fmt: skip
async def test_of_what_is_no_speech_nothing_is_heard(
    server: Server, answer: Answer, reason: Reason, words: str
) -> None:
    server.answer = answer
    heard: list[bytes] = []
    with pytest.raises(Failure) as failure:
        await play(server.voice, heard)
    assert failure.value.reason is reason
    assert words in str(failure.value)
    assert "quick" not in str(failure.value)
    assert heard == []


async def test_audio_that_breaks_off_is_heard_and_then_a_failure(server: Server) -> None:
    server.answer = audio(TONE[:9600], then=abort)
    heard: list[bytes] = []
    with pytest.raises(Failure) as failure:
        await play(server.voice, heard)
    assert failure.value.reason is Reason.CUT
    assert TONE.startswith(b"".join(heard))


async def test_audio_that_is_shorter_than_announced_is_cut(server: Server) -> None:
    async def short(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        response.content_length = len(TONE)
        await response.prepare(request)
        await response.write(TONE[:9600])
        assert request.transport
        request.transport.close()
        return response

    server.answer = short
    with pytest.raises(Failure) as failure:
        await play(server.voice, [])
    assert failure.value.reason is Reason.CUT


async def test_closing_the_speech_closes_the_connection(server: Server) -> None:
    server.answer = audio(TONE, then=lambda _: asyncio.Event().wait())
    async with aclosing(server.voice.pcm(SENTENCE)) as pieces:
        await anext(pieces)
    await server.left.wait()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"text":" \\n"}', Reason.EMPTY),
        ('{"words":"x"}', Reason.MALFORMED),
        ('{"text":7}', Reason.MALFORMED),
        ("[]", Reason.MALFORMED),
        ("hello", Reason.MALFORMED),
        ('{"error":{"message":"boom"}}', Reason.BROKEN),
    ],
)
async def test_an_utterance_that_was_not_heard_is_a_failure(
    server: Server, body: str, reason: Reason
) -> None:
    server.answer = whole(body)
    with pytest.raises(Failure) as failure:
        await server.ears.transcribe([FRAME])
    assert failure.value.reason is reason


async def test_what_was_heard_is_handed_on(server: Server) -> None:
    asked: list[bytes] = []

    async def hear(request: web.Request) -> web.StreamResponse:
        asked.append(await request.read())
        return web.json_response({"text": " Hello. "})

    server.answer = hear
    assert await server.ears.transcribe([FRAME]) == "Hello."
    assert await server.ears.transcribe(FRAME, "de") == "Hello."
    for body, language in zip(asked, (b"en", b"de"), strict=True):
        assert b'name="language"' in body
        assert b"\r\n" + language + b"\r\n" in body
        assert b"RIFF" in body


async def test_a_probe_of_the_ears_needs_no_words(server: Server) -> None:
    server.answer = whole('{"text":""}')
    await checkups.revive_stt(server.candidate, server.http)
    server.answer = whole("", 500)
    with pytest.raises(Failure, match="HTTP 500"):
        await checkups.revive_stt(server.candidate, server.http)


async def test_a_probe_of_a_voice_needs_its_audio(server: Server) -> None:
    server.answer = audio(TONE, then=lambda _: asyncio.Event().wait())
    await checkups.revive_tts(server.candidate, server.http)
    server.answer = audio()
    with pytest.raises(Failure, match="no audio"):
        await checkups.revive_tts(server.candidate, server.http)


# Our own model server.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    settings = Models("127.0.0.1", unused_port(), "tiny.en", 2, 64)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        stack = AsyncExitStack()
        supervisor = Supervisor(lambda *_: None, ready_timeout_s=60)
        loop.run(stack.enter_async_context(supervisor))
        cache: Path = tmp_path_factory.mktemp("cache")
        loop.run(supervisor.start([service(settings, cache)]))
        yield f"http://127.0.0.1:{settings.port}/v1"
        loop.run(stack.aclose())


@pytest.mark.parametrize(
    "text", [SENTENCE, "Stop!", "Ssshhh.", "Six sisters sat silently.", "…", "1, 2, 3."]
)
async def test_a_real_voice_is_never_taken_for_garbage(
    server: Server, models: str, text: str
) -> None:
    server.url = models
    voice = EndpointTTS(server.endpoint, model="piper", voice="en_US-joe-medium", speed=1.0)
    heard: list[bytes] = []
    await play(voice, heard, text)
    assert len(b"".join(heard)) > SPEECH_RATE_HZ // 10


async def test_what_a_real_voice_says_real_ears_hear(server: Server, models: str) -> None:
    server.url = models
    voice = EndpointTTS(server.endpoint, model="piper", voice="en_US-joe-medium", speed=1.0)
    heard: list[bytes] = []
    await play(voice, heard)
    samples = b"".join(heard)
    spoken = rtc.AudioFrame(samples, SPEECH_RATE_HZ, 1, len(samples) // 2)
    ears = EndpointSTT(server.endpoint, model="whisper-tiny.en", language="en")
    understood = set(re.findall(r"\w+", (await ears.transcribe(spoken)).lower()))
    assert len(understood & set(re.findall(r"\w+", SENTENCE.lower()))) >= 6  # of eight
