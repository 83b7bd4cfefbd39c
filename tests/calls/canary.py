"""Many callers at once in real rooms, each with a secret word of its own: does any of them hear,
store or send another's?

They tell their word by voice, and ask for it in writing, which costs little; every answer is
spoken, and what each caller received is transcribed. The language model is played: it answers from
the words of its own request alone.
"""

import asyncio
import itertools
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
from livekit import rtc

from runner.audio import Samples, read_wav, write_wav
from runner.worker import TURN_TOPIC
from tests.calls.conftest import PATIENCE_S, VOICE_RATE_HZ, Runner, post, start_runner
from tests.calls.words import words
from tests.faults.own_postgres import kill_postgres
from tests.ports import free_port

SECRETS = (
    *("kitchen", "tiger", "guitar", "pepper", "window", "rocket", "garden", "mountain", "pencil"),
    *("lemon", "dragon", "coffee", "winter", "hammer", "candle", "silver", "monkey", "pirate"),
    *("castle", "tomato", "camera", "elephant", "umbrella", "chocolate", "volcano"),
)
"""Words that Whisper hears right in Piper's voice."""

QUESTION = "What is my secret word?"
_TOLD = "secret word is,? ([A-Za-z]+)"
_ANSWERS = (
    f'[{{when: "what is my", text: "Your secret word is {{}}.", recalls: "{_TOLD}"}},'
    f'{{text: "I will remember {{}}.", recalls: "{_TOLD}"}}]'
)
_SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu")
_MIC_RATE_HZ, _EAR_RATE_HZ = 24_000, 16_000
_FRAME_S = 0.02
_PAUSE_S = 1.5  # after which a turn is over
_EAR_FRAME_MS = 100  # the fewer, the less 25 callers cost
_TAIL_S = 0.5  # of sound that is still on its way
_TURN_TIMEOUT_S = 120.0
_TRIES = 3
_AT_ONCE = 4  # callers who join, or whose turn is on; all others are in their calls and listen


@contextmanager
def canary_runner(data_dir: Path, callers: int) -> Iterator[tuple[Runner, int]]:
    """A runner for so many calls, and the port where its played servers are watched."""
    control = free_port()
    running = start_runner(
        data_dir,
        "simulate=speech",
        f"simulate.port={control}",
        *(f"simulate.servers.{n}.port={free_port()}" for n in _SERVERS),
        f"simulate.servers.vllm.answers={_ANSWERS}",
        f"livekit.max_calls={callers}",
        f"livekit.idle_processes={min(callers, 4)}",
        "web.tokens_per_minute=1000",
        "agent.greeting=Hello.",
        "rag=off",
        "stand_in.llm=null",
    )
    try:
        yield running, control
    finally:
        running.stop()


@dataclass
class Caller:
    """One of many, in a room of its own."""

    secret: str
    room: rtc.Room = field(default_factory=rtc.Room)
    name: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    """What its page was told: role and text."""
    heard: list[Samples] = field(default_factory=list)
    """What it received, turn by turn."""
    _frames: list[tuple[float, Samples]] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def join(self, url: str) -> None:
        """Enters a room, and waits for the greeting to be over."""
        self.room.on("track_subscribed", self._on_track)
        self.room.register_text_stream_handler(TURN_TOPIC, self._on_turn)
        self.room.register_text_stream_handler("lk.transcription", lambda *_: None)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/api/token", json={}) as answer,
        ):
            assert answer.status == 201, await answer.text()
            access = await answer.json()
        await self.room.connect(access["server_url"], access["participant_token"])
        self.name = self.room.name
        await self._until_answered()

    async def introduce(self, voice: Samples) -> None:
        """Tells the secret, and again where it was not understood; what counts is the last time."""
        for _ in range(_TRIES):
            await self.tell(voice)
            if self.secret in words(self.told[-1][1]):
                return
            self.heard.pop()

    async def tell(self, voice: Samples) -> None:
        """Says something."""
        began = self._begin()
        source = rtc.AudioSource(_MIC_RATE_HZ, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        publication = await self.room.local_participant.publish_track(track, options)
        silence: Samples = np.zeros(int(_MIC_RATE_HZ * _PAUSE_S), np.int16)
        await _feed(source, np.concatenate([silence[: _MIC_RATE_HZ // 2], voice, silence]))
        await self._end(began)
        await self.room.local_participant.unpublish_track(publication.sid)
        await source.aclose()

    async def ask(self, question: str) -> None:
        """Writes something."""
        began = self._begin()
        await self.room.local_participant.send_text(question, topic="lk.chat")
        await self._end(began)

    async def leave(self) -> None:
        """Hangs up."""
        await self.room.disconnect()
        for task in self._tasks:
            task.cancel()

    def _begin(self) -> float:
        self._answered.clear()
        return time.monotonic()

    async def _end(self, began: float) -> None:
        await self._until_answered()
        await asyncio.sleep(_TAIL_S)
        frames = [samples for at, samples in self._frames if at > began]
        self.heard.append(np.concatenate(frames) if frames else np.zeros(1, np.int16))
        self._frames.clear()

    async def _until_answered(self) -> None:
        try:
            async with asyncio.timeout(_TURN_TIMEOUT_S):
                await self._answered.wait()
        except TimeoutError:
            raise AssertionError(f"{self.secret} has no answer after {self.told}") from None

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._spawn(self._listen(track))

    def _on_turn(self, reader: rtc.TextStreamReader, _: str) -> None:
        self._spawn(self._read(reader))

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._tasks.add(asyncio.ensure_future(work))  # type: ignore[arg-type]

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(
            track, sample_rate=_EAR_RATE_HZ, num_channels=1, frame_size_ms=_EAR_FRAME_MS
        )
        async for event in stream:
            self._frames.append(
                (time.monotonic(), np.frombuffer(event.frame.data, np.int16).copy())
            )

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        turn = json.loads(await reader.read_all())
        self.told.append((turn["role"], turn["text"]))
        if turn["role"] == "assistant":
            self._answered.set()


async def _feed(source: rtc.AudioSource, samples: Samples) -> None:
    size = int(_MIC_RATE_HZ * _FRAME_S)
    for at in range(0, len(samples) - size, size):
        frame = rtc.AudioFrame(samples[at : at + size].tobytes(), _MIC_RATE_HZ, 1, size)
        await source.capture_frame(frame)


@dataclass(frozen=True)
class Found:
    """What came of it: nothing may be in any of the lists. ``misheard``: an answer whose own secret
    was not understood; no leak, but the ear was no good."""

    turns: int
    leaks: list[str]
    lost_or_doubled: list[str]
    misheard: list[str]
    prompts: int
    rows: int


def canary(data_dir: Path, callers: int, turns: int, kills: int) -> Found:
    """So many callers at once with so many turns each, while Postgres is killed so often."""
    with canary_runner(data_dir, callers) as (runner, control):
        secrets = SECRETS[:callers]
        voices = [_voice(runner, f"My secret word is {secret}.") for secret in secrets]
        crowd = asyncio.run(_talk(runner, secrets, voices, turns, kills))
        rows = _rows(runner, crowd)
        prompts = _prompts(control)
        heard = [(one, [_transcribed(runner, clip) for clip in one.heard]) for one in crowd]
    return Found(
        turns=sum(len(one.heard) for one in crowd),
        leaks=[
            *(
                f"row of {one.secret}: {text}"
                for one in crowd
                for _, text in rows[one.name]
                if _foreign(one, text)
            ),
            *(f"prompt: {text}" for text in prompts if len(_secrets(text)) > 1),
            *(
                f"{one.secret} heard: {text}"
                for one, said in heard
                for text in said
                if _foreign(one, text)
            ),
        ],
        lost_or_doubled=[
            f"{one.secret}: {rows[one.name]} instead of {one.told}"
            for one in crowd
            if rows[one.name] != one.told
        ],
        misheard=[
            f"{one.secret}: {t}" for one, said in heard for t in said if one.secret not in words(t)
        ],
        prompts=len(prompts),
        rows=sum(map(len, rows.values())),
    )


async def _talk(
    runner: Runner, secrets: tuple[str, ...], voices: list[Samples], turns: int, kills: int
) -> list[Caller]:
    crowd = [Caller(secret) for secret in secrets]
    done = itertools.count(1)
    kill_at = {len(crowd) * turns * (n + 1) // (kills + 1) for n in range(kills)}

    async def one(caller: Caller, voice: Samples) -> None:
        for turn in range(turns):
            async with floor:
                await (caller.introduce(voice) if turn == 0 else caller.ask(QUESTION))
            if next(done) in kill_at:
                await asyncio.to_thread(kill_postgres, runner.data_dir)

    floor = asyncio.Semaphore(_AT_ONCE)

    async def enter(caller: Caller) -> None:
        async with floor:
            await caller.join(runner.url)

    try:
        await asyncio.gather(*map(enter, crowd))
        await asyncio.gather(*(one(*pair) for pair in zip(crowd, voices, strict=True)))
    finally:
        await asyncio.gather(*(caller.leave() for caller in crowd))
    return crowd


def _rows(runner: Runner, crowd: list[Caller]) -> dict[str, list[tuple[str, str]]]:
    """What is stored of each room, once every call has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while runner.query("SELECT 1 FROM agent_sessions WHERE status = 'active' LIMIT 1"):
        assert time.monotonic() < deadline, "a session is still active"
        time.sleep(0.2)
    rows: dict[str, list[tuple[str, str]]] = {caller.name: [] for caller in crowd}
    for row in runner.query(
        "SELECT room_id, role, content FROM conversation_messages JOIN agent_sessions "
        "USING (session_id) ORDER BY conversation_messages.created_at, conversation_messages.id"
    ):
        rows[str(row["room_id"])].append((str(row["role"]), str(row["content"])))
    return rows


def _prompts(control: int) -> list[str]:
    """All that the language model was asked."""
    url = f"http://127.0.0.1:{control}/vllm/_simulator/log"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return ["\n".join(entry["asked"]) for entry in json.load(answer)["requests"]]


def _voice(runner: Runner, text: str) -> Samples:
    request = {"model": "piper", "voice": "en_US-joe-medium", "input": text}
    pcm = post(runner, "/v1/audio/speech", json={**request, "response_format": "pcm"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "voice.wav")
        write_wav(path, np.frombuffer(pcm, np.int16), VOICE_RATE_HZ)
        return read_wav(path, _MIC_RATE_HZ)


def _transcribed(runner: Runner, clip: Samples) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "heard.wav")
        write_wav(path, clip, _EAR_RATE_HZ)
        form = {"model": "whisper-tiny.en", "response_format": "text"}
        return post(runner, "/v1/audio/transcriptions", form=form, file=path).decode()


def _secrets(text: str) -> set[str]:
    return set(words(text)) & set(SECRETS)


def _foreign(caller: Caller, text: str) -> set[str]:
    return _secrets(text) - {caller.secret}
