"""``task=call``: a caller without a head. Joins as the page does, speaks recorded audio when the
agent is quiet, and prints a JSON object for each turn."""

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from livekit import rtc

from runner.audio import Samples, read_wav, sound_bounds, write_wav
from runner.config import CallTask, Config
from runner.errors import CallError
from runner.languages import ATTRIBUTE
from runner.simulator import service as simulator
from runner.worker import TURN_TOPIC

RATE_HZ = 24_000
FRAME_SAMPLES = RATE_HZ // 50  # 20 ms, as a browser's microphone sends
_AGENT_STATE = "lk.agent.state"
_JOIN_TIMEOUT_S = 10.0
_QUIET = "listening"
_LAST_FRAME_S = 1.0
_GREETING_S = 2.0  # after so long without a word there is no greeting, or it is over
_AFTERTHOUGHT_S = 0.5  # an utterance that was taken for two is answered twice


@dataclass
class Ear:
    """What comes from the agent: audio with the time of each frame, its state, its turns."""

    frames: list[tuple[float, Samples]] = field(default_factory=list)
    turns: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    state: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def set_state(self, state: str) -> None:
        self.state = state
        self.changed.set()

    async def wait_for(self, state: str) -> None:
        """Returns when the agent is in ``state``."""
        while self.state != state:
            self.changed.clear()
            await self.changed.wait()

    async def quiet_turns(self, for_s: float) -> list[dict[str, Any]]:
        """The turns that still come until the agent has been quiet for so long."""
        turns = []
        while True:
            try:
                turns.append(await asyncio.wait_for(self.turns.get(), for_s))
            except TimeoutError:
                if self.state == _QUIET:
                    return turns

    def first_sound_after(self, moment: float) -> float | None:
        """When the agent was first heard after ``moment``, on the monotonic clock."""
        for arrived, samples in self.frames:
            if arrived > moment and (bounds := sound_bounds(samples)) is not None:
                return arrived - (len(samples) - bounds[0]) / RATE_HZ
        return None

    def audio_after(self, moment: float) -> Samples:
        """All that was heard after ``moment``."""
        heard = [samples for arrived, samples in self.frames if arrived > moment]
        return np.concatenate(heard) if heard else np.zeros(0, dtype=np.int16)


class Mouth:
    """The caller's microphone: a frame of ``background`` again and again, except while something
    is said."""

    def __init__(self, background: Samples | None = None) -> None:
        silence = np.zeros(FRAME_SAMPLES, dtype=np.int16)
        self._background = silence if background is None else background
        self.source = rtc.AudioSource(RATE_HZ, 1, queue_size_ms=60)
        self._words: asyncio.Queue[Samples] = asyncio.Queue()
        self._shut = False
        self._feeding = asyncio.create_task(self._feed(), name="mouth")

    async def aclose(self) -> None:
        """Ends with the frame that is on its way: LiveKit's threads would answer a process that
        has gone, and abort it."""
        self._shut = True
        await asyncio.wait({self._feeding}, timeout=_LAST_FRAME_S)

    async def _feed(self) -> None:
        """Feeds the track in real time; its short queue sets the pace."""
        while not self._shut:
            words = None if self._words.empty() else self._words.get_nowait()
            if words is None:
                await self._capture(self._background)
                continue
            for at in range(0, len(words), FRAME_SAMPLES):
                if not self._shut:
                    await self._capture(words[at : at + FRAME_SAMPLES])
            self._words.task_done()

    async def say(self, samples: Samples) -> float:
        """Speaks; returns the moment at which the last sound left."""
        self._words.put_nowait(samples)
        await self._words.join()
        bounds = sound_bounds(samples)
        trailing_s = (len(samples) - 1 - bounds[1]) / RATE_HZ if bounds else 0.0
        return time.monotonic() + self.source.queued_duration - trailing_s

    async def _capture(self, samples: Samples) -> None:
        await self.source.capture_frame(rtc.AudioFrame(samples.tobytes(), RATE_HZ, 1, len(samples)))


async def main(config: Config) -> int:
    """Raises:
    CallError: no runner, no agent, no reply; the message says which and what to look at.
    """
    assert isinstance(config.task, CallTask)
    task = config.task
    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # it logs every hanging up as an error
    if config.simulate and not await simulator.play(config.simulate):
        raise CallError(
            f"No runner with simulated providers is there (port {config.simulate.port}). Start it "
            "with the same simulate=…, then call it."
        )
    utterances = [(Path(name), read_wav(Path(name), RATE_HZ)) for name in task.audio]
    if task.out:
        Path(task.out).mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  before the call
    async with AsyncExitStack() as exits:
        ear, mouth = await _join(task, exits)
        talking = asyncio.create_task(_talk(task, ear, mouth, utterances))
        exits.callback(talking.cancel)
        ended = asyncio.create_task(ear.ended.wait())
        await asyncio.wait({talking, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not talking.done():
            raise CallError("The call was ended from the other side. The runner's log says why.")
        talking.result()
    return 0


async def _talk(
    task: CallTask, ear: Ear, mouth: Mouth, utterances: list[tuple[Path, Samples]]
) -> None:
    """The greeting, and a turn for each utterance."""
    out = Path(task.out) if task.out else None
    joined_at = time.monotonic()
    await _in_time(ear.wait_for(_QUIET), task, "No agent came to the room")
    await ear.quiet_turns(_GREETING_S)
    if out:
        write_wav(out / "greeting.wav", ear.audio_after(joined_at), RATE_HZ)
    for number, (path, samples) in enumerate(utterances, start=1):
        shown, heard = await _turn(task, ear, mouth, samples)
        print(json.dumps({"turn": number, "audio": path.name, **shown}), flush=True)
        if out:
            write_wav(out / f"turn-{number}.wav", heard, RATE_HZ)


async def _turn(
    task: CallTask, ear: Ear, mouth: Mouth, samples: Samples
) -> tuple[dict[str, Any], Samples]:
    """Speaks once and listens to the whole reply."""
    ended_at = await mouth.say(samples)
    turns = [await _in_time(ear.turns.get(), task, "The agent did not hear anything")]
    while not any(turn["role"] == "assistant" for turn in turns):
        turns.append(await _in_time(ear.turns.get(), task, "The agent did not reply"))
    turns += await ear.quiet_turns(_AFTERTHOUGHT_S)
    began_at = ear.first_sound_after(ended_at)
    replies = [turn for turn in turns if turn["role"] == "assistant"]
    reply = replies[-1]
    shown = {
        "heard": " ".join(turn["text"] for turn in turns if turn["role"] == "user"),
        "said": " ".join(turn["text"] for turn in replies),
        "e2e_s": None if began_at is None else round(began_at - ended_at, 3),
        "stages_s": reply["stages_s"],
        "served_by": reply["served_by"],
        "services": reply["services"],
        "sources": [source["filename"] for source in reply["sources"]],
        "interrupted": reply["interrupted"],
    }
    return shown, ear.audio_after(ended_at)


async def _in_time(waiting: Any, task: CallTask, failure: str) -> Any:
    try:
        return await asyncio.wait_for(waiting, task.reply_timeout_s)
    except TimeoutError:
        raise CallError(
            f"{failure} within {task.reply_timeout_s:g} s (task.reply_timeout_s). "
            "The runner's log and `task=doctor` say why."
        ) from None


async def _join(task: CallTask, exits: AsyncExitStack) -> tuple[Ear, Mouth]:
    """Enters a room through the token endpoint, with a microphone and an ear."""
    access = await _token(task.url, task.language)
    room, ear, mouth = rtc.Room(), Ear(), Mouth()
    listening: set[asyncio.Task[None]] = set()

    def on_track(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            listening.add(asyncio.create_task(_listen(track, ear)))

    def on_attributes(changed: dict[str, str], _: rtc.Participant) -> None:
        if _AGENT_STATE in changed:
            ear.set_state(changed[_AGENT_STATE])

    def on_participant(agent: rtc.RemoteParticipant) -> None:
        on_attributes(agent.attributes, agent)

    def on_turn(reader: rtc.TextStreamReader, _: str) -> None:
        listening.add(asyncio.create_task(_read_turn(reader, ear)))

    room.on("track_subscribed", on_track)
    room.on("participant_connected", on_participant)
    room.on("participant_attributes_changed", on_attributes)
    room.on("disconnected", lambda _: ear.ended.set())
    room.register_text_stream_handler(TURN_TOPIC, on_turn)
    room.register_text_stream_handler("lk.transcription", lambda *_: None)
    try:
        await asyncio.wait_for(
            room.connect(access["server_url"], access["participant_token"]), _JOIN_TIMEOUT_S
        )
    except (TimeoutError, rtc.ConnectError) as error:
        raise CallError(f"The LiveKit server at {access['server_url']}: {error}") from None
    exits.push_async_callback(room.disconnect)
    track = rtc.LocalAudioTrack.create_audio_track("microphone", mouth.source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await room.local_participant.publish_track(track, options)
    exits.push_async_callback(mouth.aclose)
    return ear, mouth


async def _token(url: str, language: str | None) -> dict[str, str]:
    said = {"participant_attributes": {ATTRIBUTE: language}} if language else {}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/api/token", json=said) as answer,
        ):
            body = await answer.json(content_type=None)
            if answer.status >= 400:
                raise CallError(f"The runner at {url} takes no call now: {body.get('error')}")
            return dict(body)
    except aiohttp.ClientError:
        raise CallError(
            f"No runner answers at {url} (task.url). Start one with: python -m runner"
        ) from None


async def _listen(track: rtc.Track, ear: Ear) -> None:
    async for event in rtc.AudioStream(track, sample_rate=RATE_HZ, num_channels=1):
        samples = np.frombuffer(event.frame.data, dtype=np.int16).copy()
        ear.frames.append((time.monotonic(), samples))


async def _read_turn(reader: rtc.TextStreamReader, ear: Ear) -> None:
    ear.turns.put_nowait(json.loads(await reader.read_all()))
