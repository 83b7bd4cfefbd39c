"""A caller in a real room, with LiveKit's rtc SDK."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from livekit import rtc

from runner.audio import resample
from runner.bench.caller import Caller
from runner.bench.voices import Utterance, noise
from runner.bench.wire import CALLER_RATE_HZ
from runner.call import FRAME_SAMPLES, RATE_HZ, Mouth
from runner.config import Config
from runner.errors import CallError
from runner.livekit_server import Keys
from runner.tokens import Access, Seat, caller_token
from runner.worker import TURN_TOPIC

_AGENT_STATE = "lk.agent.state"
_QUIET = "listening"
_ANSWERS_S = 10.0  # an agent that did not come by then is not there
_GREETING_S = 2.0  # after so long without a word there is no greeting, or it is over
_TTL_S = 600


@dataclass(frozen=True)
class Rooms:
    """The LiveKit server. ``overrides``: of Hydra, with which our own agent is started."""

    config: Config
    keys: Keys
    overrides: Sequence[str]

    def environment(self) -> Mapping[str, str]:
        """As workers by livekit-agents read it."""
        return {
            "LIVEKIT_URL": self.config.livekit.url,
            "LIVEKIT_API_KEY": self.keys.api_key,
            "LIVEKIT_API_SECRET": self.keys.api_secret,
        }

    def token(self, agent: str) -> str:
        """For a room of one's own, to which ``agent`` is sent."""
        access = Access(
            self.config.livekit.url, self.keys.api_key, self.keys.api_secret, agent, grace_s=1
        )
        return caller_token(access, Seat(), _TTL_S)


class RoomCaller(Caller):
    """In a room with an agent. The agent's state tells when it took a turn for over, and when it
    has said its answer."""

    def __init__(self) -> None:
        super().__init__()
        self._room = rtc.Room()
        self._exits = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._state = ""
        self._quiet = asyncio.Event()

    @classmethod
    async def join(cls, rooms: Rooms, agent: str) -> Self:
        """A call to ``agent``, once it has greeted.

        Raises:
            CallError: nobody came.
        """
        caller = cls()
        try:
            await caller._enter(rooms, agent)
        except (TimeoutError, rtc.ConnectError):
            await caller.aclose()
            url = rooms.config.livekit.url
            raise CallError(f"No agent called {agent} came to a room at {url}.") from None
        return caller

    @classmethod
    async def finds(cls, rooms: Rooms, agent: str) -> bool:
        """Whether ``agent`` comes to a room."""
        try:
            caller = await cls.join(rooms, agent)
        except CallError:
            return False
        await caller.aclose()
        return True

    async def _enter(self, rooms: Rooms, agent: str) -> None:
        room = self._room
        room.on("track_subscribed", self._on_track)
        room.on("participant_connected", lambda one: self._on_attributes(one.attributes, one))
        room.on("participant_attributes_changed", self._on_attributes)
        room.register_text_stream_handler(TURN_TOPIC, self._on_turn)
        room.register_text_stream_handler("lk.transcription", lambda *_: None)
        async with asyncio.timeout(_ANSWERS_S):
            await room.connect(rooms.config.livekit.url, rooms.token(agent))
            self._exits.push_async_callback(room.disconnect)
            self._mouth = Mouth(noise(FRAME_SAMPLES))
            track = rtc.LocalAudioTrack.create_audio_track("microphone", self._mouth.source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            await room.local_participant.publish_track(track, options)
            self._exits.push_async_callback(self._mouth.aclose)
            await self._quiet.wait()
        await asyncio.sleep(_GREETING_S)
        await self._quiet.wait()

    async def _say(self, utterance: Utterance) -> float:
        return await self._mouth.say(resample(utterance.samples, CALLER_RATE_HZ, RATE_HZ))

    async def aclose(self) -> None:
        await self._exits.aclose()
        for task in self._tasks:
            task.cancel()

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._tasks.add(asyncio.create_task(self._listen(track)))

    async def _listen(self, track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=RATE_HZ, num_channels=1):
            samples = np.frombuffer(event.frame.data, dtype=np.int16)
            self.heard.hear(samples, RATE_HZ, time.monotonic() - len(samples) / RATE_HZ)

    def _on_attributes(self, changed: dict[str, str], _: rtc.Participant) -> None:
        if (state := changed.get(_AGENT_STATE, self._state)) == self._state:
            return
        before, self._state = self._state, state
        if state == _QUIET:
            self._quiet.set()
            if before == "speaking":
                self.heard.note("assistant")
        else:
            self._quiet.clear()
            if before == _QUIET:
                self.heard.note("user")

    def _on_turn(self, reader: rtc.TextStreamReader, _: str) -> None:
        self._tasks.add(asyncio.create_task(self._read(reader)))

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        told: dict[str, Any] = json.loads(await reader.read_all())
        if told["role"] == "assistant":
            self.heard.told = told
