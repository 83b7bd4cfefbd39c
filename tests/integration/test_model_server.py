"""The model server as its clients meet it: a real process, real models, real sound."""

import asyncio
import base64
import io
import re
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import av
import numpy as np
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from livekit import rtc
from livekit.agents import utils
from livekit.plugins import openai as livekit_openai

from runner.config import Models
from runner.models.api import refusals
from runner.models.embeddings import Embeddings
from runner.models.lanes import Lane
from runner.models.minilm import Embedding
from runner.models.service import SETTINGS, Settings, service
from runner.models.speech import Speech
from runner.services import Supervisor
from tests.ports import free_port

PATIENCE = aiohttp.ClientTimeout(60)  # a test that waits longer has failed
VOICE = "en_US-joe-medium"
VOICE_HZ = 22_050
HELLO = {"model": "piper", "voice": VOICE, "input": "Hello."}
PLAIN = "How do I change the voice of the agent?"
"""Piper draws each time anew how it speaks, and the smallest Whisper mishears one "Hello there." in
a hundred and more of other sentences; this one it heard 240 times of 240."""
SENTENCES = (
    PLAIN,
    "Which port does the page listen on?",
    "What happens when the graphics card is out of memory?",
    "My microphone does not work in the browser, what should I do?",
    "I would like to know which documents you can read.",
    "Please explain how the server starts again after it is down.",
    "Can I run the whole system without an internet connection?",
    "The weather is lovely today, isn't it?",
    "Where are the conversations stored, and for how long are they kept?",
    "Thank you very much, goodbye.",
)


def config(whisper: str = "tiny.en") -> Models:
    return Models("127.0.0.1", free_port(), whisper, 2, 64)


def serving(models: Models, cache_dir: Path) -> Iterator[Models]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        stack = AsyncExitStack()
        supervisor = Supervisor(lambda *_: None, ready_timeout_s=60)
        loop.run(stack.enter_async_context(supervisor))
        loop.run(supervisor.start([service(models, cache_dir)]))
        yield models
        loop.run(stack.aclose())


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def models(cache_dir: Path) -> Iterator[Models]:
    yield from serving(config(), cache_dir)


@pytest.fixture(scope="module")
def base_models(cache_dir: Path) -> Iterator[Models]:
    yield from serving(config("base"), cache_dir)


@pytest.fixture
async def http(models: Models) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{models.host}:{models.port}/v1/") as session:
        yield session


def wav(samples: np.ndarray, rate_hz: int = VOICE_HZ, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(samples.itemsize)
        writer.setframerate(rate_hz)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


async def refusal(answer: aiohttp.ClientResponse) -> tuple[int, str, str | None]:
    error = (await answer.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status, error["message"], error["param"]


async def say(http: aiohttp.ClientSession, text: str, **more: object) -> np.ndarray:
    body = {"model": "piper", "voice": VOICE, "input": text, "response_format": "pcm", **more}
    async with http.post("audio/speech", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return np.frombuffer(await answer.read(), np.int16)


def upload(data: bytes, model: str = "whisper-tiny.en", **more: str) -> aiohttp.FormData:
    form = aiohttp.FormData({"model": model, **more})
    form.add_field("file", data, filename="utterance.wav", content_type="audio/wav")
    return form


async def heard(http: aiohttp.ClientSession, data: bytes, **more: str) -> str:
    async with http.post("audio/transcriptions", data=upload(data, **more)) as answer:
        assert answer.status == 200, await answer.text()
        text: str = (await answer.json())["text"]
        return text


async def refused_upload(http: aiohttp.ClientSession, data: bytes, **more: str) -> tuple[int, str]:
    async with http.post("audio/transcriptions", data=upload(data, **more)) as answer:
        status, message, _ = await refusal(answer)
        return status, message


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9' ]", "", text.lower()).split()


def word_errors(said: str, transcript: str) -> int:
    """Levenshtein's distance in words."""
    wanted, found = words(said), words(transcript)
    row = list(range(len(found) + 1))
    for i, word in enumerate(wanted, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1]


# Speech and transcription.


async def test_what_piper_says_whisper_hears(http):
    errors = 0
    for sentence in SENTENCES:
        errors += word_errors(sentence, await heard(http, wav(await say(http, sentence))))
    assert errors <= sum(len(words(sentence)) for sentence in SENTENCES) * 0.1


async def test_a_sentence_is_heard_at_any_rate_in_any_format(http):
    samples = await say(http, PLAIN)
    stereo = np.repeat(samples, 2)
    eight_bits = (samples // 256 + 128).astype(np.uint8)
    telephone = await say(http, PLAIN, sample_rate=8000)
    for data in (
        wav(await say(http, PLAIN, sample_rate=48_000), 48_000),
        wav(telephone, 8000),
        wav(stereo, channels=2),
        wav(eight_bits),
        encoded(samples, "flac", "flac"),
        encoded(samples, "ogg", "libopus"),
        encoded(samples, "mp3", "libmp3lame"),
    ):
        assert words(await heard(http, data)) == words(PLAIN)


def encoded(samples: np.ndarray, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or None)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
        frame.sample_rate = VOICE_HZ
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            out.mux(stream.encode(part))
    return file.getvalue()


@pytest.mark.parametrize(
    "noise",
    [
        np.zeros(VOICE_HZ * 2),
        np.random.default_rng(1).normal(0, 50, VOICE_HZ * 2),
        np.random.default_rng(2).normal(0, 3000, VOICE_HZ * 2),
        9000 * np.sin(np.arange(VOICE_HZ * 2) / 9),
        np.zeros(VOICE_HZ * 31),
    ],
    ids=["silence", "faint noise", "loud noise", "a tone", "31 s of silence"],
)
async def test_a_sound_without_speech_has_an_empty_transcript(http, noise):
    assert await heard(http, wav(noise.astype(np.int16))) == ""


async def test_speech_over_30_s_is_heard_from_beginning_to_end(http):
    pause = np.zeros(VOICE_HZ, np.int16)
    said = SENTENCES * 2
    parts = [part for sentence in said for part in (await say(http, sentence), pause)]
    data = wav(np.concatenate(parts))
    async with http.post(
        "audio/transcriptions", data=upload(data, response_format="verbose_json")
    ) as answer:
        body = await answer.json()
    assert body["duration"] > 60
    assert body["language"] == "en"
    assert len(body["segments"]) >= 3
    assert all(part["end"] - part["start"] <= 30 for part in body["segments"])
    assert word_errors(" ".join(said), body["text"]) <= len(words(" ".join(said))) * 0.1


async def test_a_damaged_upload_is_refused_with_its_reason(http):
    whole = wav(await say(http, "Hello there."))
    for data, reason in (
        (b"", "is empty"),
        (b"garbage" * 1000, "is not sound"),
        (whole[: len(whole) // 2], "is cut off"),
        (whole[:40], "is cut off"),
        (wav(np.zeros(0, np.int16)), "holds no sound"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "is not sound"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "is not sound"),
    ):
        status, message = await refused_upload(http, data)
        assert status == 400, data[:20]
        assert reason in message


async def test_too_long_a_sound_is_refused(http):
    status, message = await refused_upload(http, wav(np.zeros(8000 * 601, np.uint8), 8000))
    assert (status, message) == (413, "The sound is longer than 600 s.")


async def test_too_large_an_upload_is_refused(http):
    status, message = await refused_upload(http, bytes(64 * 2**20 + 1))
    assert (status, message) == (413, "The body is longer than 65536 KiB.")


async def test_languages_that_the_model_lacks_are_refused(http):
    data = wav(await say(http, PLAIN))
    assert words(await heard(http, data, language="en-US")) == words(PLAIN)
    assert (await refused_upload(http, data, language="es"))[0] == 400
    assert (await refused_upload(http, data, language="transcribe"))[0] == 400


async def test_models_that_are_not_here_are_not_found(http):
    assert (await refused_upload(http, wav(np.zeros(9, np.int16)), model="whisper-1"))[0] == 404
    for path, body in (
        ("audio/speech", {"model": "tts-1", "voice": VOICE, "input": "Hi."}),
        ("embeddings", {"model": "text-embedding-3-small", "input": "Hi."}),
    ):
        async with http.post(path, json=body) as answer:
            assert (await refusal(answer))[::2] == (404, "model")


async def test_a_form_without_a_file_or_no_form_at_all_is_refused(http):
    for body in (aiohttp.FormData({"model": "x", "y": "z"}), b"no form"):
        async with http.post("audio/transcriptions", data=body) as answer:
            assert (await refusal(answer))[0] == 400


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("input", ""),
        ("input", " \n"),
        ("input", "x" * 4097),
        ("voice", "alloy"),
        ("speed", 0.1),
        ("speed", 4.1),
        ("response_format", "mp3"),
        ("sample_rate", 1),
    ],
)
async def test_wrong_requests_for_speech_are_refused_before_the_status(http, param, value):
    body = {"model": "piper", "voice": VOICE, "input": "Hi.", param: value}
    async with http.post("audio/speech", json=body) as answer:
        assert (await refusal(answer))[::2] == (400, param)


async def test_the_first_word_is_not_kept_waiting_by_silence(http):
    for sentence in SENTENCES[:3]:
        loud = np.flatnonzero(np.abs(await say(http, sentence)) > 300)
        assert loud[0] < 0.05 * VOICE_HZ


async def test_speed_and_rate_are_what_was_asked(http):
    text = SENTENCES[8]
    usual = len(await say(http, text)) / VOICE_HZ
    assert len(await say(http, text, speed=2)) / VOICE_HZ < usual * 0.75
    assert len(await say(http, text, speed=0.5)) / VOICE_HZ > usual * 1.5
    fast = await say(http, text, sample_rate=48_000)
    assert len(fast) / 48_000 == pytest.approx(usual, rel=0.2)


async def test_a_text_without_a_word_is_a_short_silence(http):
    silence = await say(http, "… 👍")
    assert 0 < len(silence) < VOICE_HZ
    assert not silence.any()


async def test_one_word_of_four_thousand_letters_is_spoken(http):
    assert len(await say(http, "la" * 2000)) > VOICE_HZ * 20


async def test_a_short_sentence_does_not_wait_for_a_long_text(http):
    long = {"model": "piper", "voice": VOICE, "input": "This goes on and on and on. " * 140}
    async with http.post("audio/speech", json=long) as answer:
        await answer.content.readany()
        await say(http, "Hello.")
        assert words(await heard(http, wav(await say(http, PLAIN)))) == words(PLAIN)
        assert not answer.content.at_eof()


async def test_the_livekit_plugin_hears_and_speaks(models):
    url = f"http://{models.host}:{models.port}/v1"
    async with utils.http_context.open():
        tts = livekit_openai.TTS(
            base_url=url, api_key="x", model="piper", voice=VOICE, response_format="wav"
        )
        stt = livekit_openai.STT(base_url=url, api_key="x", model="whisper-tiny.en", language="en")
        frames = [event.frame async for event in tts.synthesize(SENTENCES[0])]
        spoken = rtc.combine_audio_frames(frames)
        event = await stt.recognize(spoken)
        await tts.aclose()
    assert spoken.sample_rate == 24_000
    assert words(event.alternatives[0].text) == words(SENTENCES[0])


async def test_whisper_base_knows_many_languages_and_finds_out_which(base_models):
    url = f"http://{base_models.host}:{base_models.port}/v1/"
    async with aiohttp.ClientSession(url) as http:
        data = wav(await say(http, SENTENCES[0]))
        form = upload(data, "whisper-base", response_format="verbose_json")
        async with http.post("audio/transcriptions", data=form) as answer:
            body = await answer.json()
        async with http.get("models/whisper-base") as answer:
            languages = (await answer.json())["languages"]
        status, _ = await refused_upload(http, data, model="whisper-base", language="transcribe")
    assert body["language"] == "en"
    assert words(body["text"]) == words(SENTENCES[0])
    assert {"en", "de", "es", "zh"} < set(languages)
    assert status == 400


# What only a voice that breaks or stalls can show.


class Stalled:
    """A voice that says one piece, and the others when it is told how."""

    name = VOICE
    rate_hz = VOICE_HZ

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.fails = False
        self.said: list[bytes] = []

    def speak(self, text: str, speed: float, rate_hz: int) -> Iterator[bytes]:
        yield b"one "
        self.go_on.wait()
        if self.fails:
            raise RuntimeError(text)
        for piece in (b"two ", b"three "):
            self.said.append(piece)
            yield piece


@pytest.fixture
async def stalled() -> AsyncIterator[tuple[Stalled, Lane, TestClient]]:
    voice = Stalled()
    lane = Lane("tts", 1, 1)
    app = web.Application(middlewares=[refusals])
    app.router.add_post("/v1/audio/speech", Speech(voice, lane).post)
    async with TestClient(TestServer(app), timeout=PATIENCE) as client:
        yield voice, lane, client
        voice.go_on.set()
    lane.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total):
        while not condition():  # noqa: ASYNC110  the server tells nobody what it noticed
            await asyncio.sleep(0)


async def test_a_caller_who_hangs_up_ends_the_speech_at_the_next_piece(stalled):
    voice, lane, client = stalled
    async with client.post("/v1/audio/speech", json=HELLO) as answer:
        assert await answer.content.readexactly(4) == b"one "
        second = asyncio.create_task(client.post("/v1/audio/speech", json=HELLO))
        await until(lambda: lane.waiting == 1)
        answer.close()
    await until(lambda: lane.waiting == 0)
    voice.go_on.set()
    assert await (await second).read() == b"one two three "
    assert voice.said.count(b"three ") == 1


async def test_speech_that_breaks_off_does_not_end_like_a_whole_one(stalled):
    voice, _, client = stalled
    voice.fails = True
    async with client.post("/v1/audio/speech", json=HELLO) as answer:
        assert await answer.content.readexactly(4) == b"one "
        voice.go_on.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_one_more_than_may_wait_is_told_to_come_back(stalled):
    voice, _, client = stalled
    async with client.post("/v1/audio/speech", json=HELLO):
        both = [asyncio.create_task(client.post("/v1/audio/speech", json=HELLO)) for _ in "23"]
        [refused], [waits] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert (await refusal(refused.result()))[::2] == (503, None)
        assert refused.result().headers["Retry-After"] == "1"
        voice.go_on.set()
        assert await (await waits).read() == b"one two three "


# Embeddings.


async def test_meanings_that_are_close_have_vectors_that_are_close(models):
    url = f"http://{models.host}:{models.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
        answer = await client.embeddings.create(
            model="all-MiniLM-L6-v2",
            input=[
                "How do I change the voice?",
                "Setting another voice for the agent",
                "Recipe for a lemon cake",
            ],
        )
    vectors = np.array([item.embedding for item in answer.data])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.5
    assert vectors[0] @ vectors[2] < 0.2


async def embed(http: aiohttp.ClientSession, texts: object, **more: object) -> tuple[dict, int]:
    body = {"model": "all-MiniLM-L6-v2", "input": texts, **more}
    async with http.post("embeddings", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json(), int(answer.headers["X-Cached"])


async def test_known_texts_are_not_computed_again(http):
    text = "A text that no other test embeds."
    first, cached_first = await embed(http, [text, text])
    second, cached_second = await embed(http, text, encoding_format="base64")
    assert (cached_first, cached_second) == (0, 1)
    assert first["usage"]["prompt_tokens"] == 2 * second["usage"]["prompt_tokens"]
    decoded = np.frombuffer(base64.b64decode(second["data"][0]["embedding"]), "<f4")
    assert decoded == pytest.approx(first["data"][0]["embedding"])


class Indexing:
    """A model that is busy with a long text until it is told otherwise."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def embed(self, text: str) -> Embedding:
        if len(text) > 1000:
            self.begun.set()
            self.go_on.wait()
        return Embedding(np.ones(384, np.float32), 1)


async def test_a_question_does_not_wait_for_an_index():
    model = Indexing()
    lanes = Lane("embedding", 1, 1), Lane("indexing", 1, 1)
    app = web.Application(middlewares=[refusals])
    Embeddings(model, *lanes).add_to(app)
    async with TestClient(TestServer(app), timeout=PATIENCE) as client:
        body = {"model": "all-MiniLM-L6-v2", "input": ["x" * 5000, "y" * 5000]}
        indexing = asyncio.create_task(client.post("/v1/embeddings", json=body))
        await asyncio.to_thread(model.begun.wait)
        try:
            for question in ("What?", ["Who?", "Where?"]):
                asked = {**body, "input": question}
                async with client.post("/v1/embeddings", json=asked) as answer:
                    assert answer.status == 200
            assert not indexing.done()
        finally:
            model.go_on.set()
        assert (await indexing).status == 200
    for lane in lanes:
        lane.close()


async def test_health_tells_versions_and_queues(http):
    async with http.get("/health") as answer:
        body = await answer.json()
    assert body["status"] == "ok"
    assert set(body["waiting"]) == {"stt", "tts", "embedding", "indexing"}
    assert {"faster-whisper", "piper-tts", "onnxruntime"} < set(body["versions"])


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("input", ""),
        ("input", []),
        ("input", ["x", ""]),
        ("input", ["x"] * 257),
        ("input", [[1, 2]]),
        ("input", {"a": 1}),
        ("encoding_format", "hex"),
        ("dimensions", 100),
    ],
)
async def test_wrong_requests_for_embeddings_are_refused(http, param, value):
    body = {"model": "all-MiniLM-L6-v2", "input": "Hi.", param: value}
    async with http.post("embeddings", json=body) as answer:
        assert (await refusal(answer))[::2] == (400, param)


async def test_too_large_a_body_is_refused(http):
    body = {"model": "all-MiniLM-L6-v2", "input": ["x" * 20_000] * 256}
    async with http.post("embeddings", json=body) as answer:
        assert (await refusal(answer))[0] == 413


# The process.


def run(settings: bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner.models", settings],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken_is_named_with_its_key(models, cache_dir):
    ended = run(SETTINGS.dump_json(Settings(models, cache_dir)))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {models.port} at 127.0.0.1 is taken by another program. "
        "Stop that, or set models.port to another port.\n"
    )


def test_an_address_of_another_machine_is_refused_in_a_sentence(cache_dir):
    elsewhere = replace(config(), host="192.0.2.1")
    ended = run(SETTINGS.dump_json(Settings(elsewhere, cache_dir)))
    assert ended.returncode == 1
    assert "models.host" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_full_cache_folder_is_named_with_its_key(tmp_path):
    (tmp_path / "file").write_text("")
    ended = run(SETTINGS.dump_json(Settings(config(), tmp_path / "file")))
    assert ended.returncode == 1
    assert "deployment.cache_dir" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_a_word(number, cache_dir):
    models = config()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.models", SETTINGS.dump_json(Settings(models, cache_dir))],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert str(models.port) in process.stderr.readline()  # it serves
    process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


async def test_it_logs_nothing_that_callers_say(cache_dir):
    models = config()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "runner.models", SETTINGS.dump_json(Settings(models, cache_dir))),
        stderr=asyncio.subprocess.STDOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    await process.stdout.readline()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{models.port}/v1/") as http:
        await heard(http, wav(await say(http, "The secret word is umbrella ☂ ḿ.")))
        await embed(http, "umbrella")
        await refused_upload(http, b"umbrella")
        async with http.post("audio/speech", data=b'{"input": "umbrella"') as answer:
            assert "umbrella" not in await answer.text()
    process.terminate()
    assert b"umbrella" not in await process.stdout.read()
    assert await process.wait() == 0
