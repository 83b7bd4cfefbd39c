"""A LiveKit session's microphone and loudspeaker at the end of a `wire.Line`."""

import asyncio
import time

from livekit import rtc
from livekit.agents.voice import AgentSession, io

from runner.bench.wire import AUDIO, CALLER_RATE_HZ, CLEAR, Line


class Ear(io.AudioInput):
    """What the caller says."""

    def __init__(self) -> None:
        super().__init__(label="caller")
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    def hear(self, pcm: bytes | None) -> None:
        """The next frame; None: the caller has hung up."""
        self._frames.put_nowait(pcm)

    async def __anext__(self) -> rtc.AudioFrame:
        pcm = await self._frames.get()
        if pcm is None:
            raise StopAsyncIteration
        return rtc.AudioFrame(pcm, CALLER_RATE_HZ, 1, len(pcm) // 2)


class Mouth(io.AudioOutput):
    """Sends what it is given at once, and counts it as played in the time that it takes."""

    def __init__(self, line: Line) -> None:
        super().__init__(label="caller", capabilities=io.AudioOutputCapabilities(pause=False))
        self._line = line
        self._ends_at = 0.0
        self._position_s = 0.0
        self._finish: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._line.play(bytes(frame.data), frame.sample_rate)
        if self._position_s == 0:
            self.on_playback_started(created_at=time.time())
        self._ends_at = max(time.monotonic(), self._ends_at) + frame.duration
        self._position_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._position_s and self._finish is None:
            wait_s = max(self._ends_at - time.monotonic(), 0)
            self._finish = asyncio.get_running_loop().call_later(wait_s, self._finished)

    def clear_buffer(self) -> None:
        if self._finish is not None:
            self._finish.cancel()
        if self._position_s:
            self._line.send(CLEAR)
            unplayed_s = max(self._ends_at - time.monotonic(), 0)
            self._position_s = max(self._position_s - unplayed_s, 0.001)
            self._ends_at = 0.0
            self._finished(interrupted=True)

    def _finished(self, *, interrupted: bool = False) -> None:
        position_s, self._position_s, self._finish = self._position_s, 0.0, None
        self.on_playback_finished(playback_position=position_s, interrupted=interrupted)


def connect(session: AgentSession[None], line: Line) -> Ear:
    """Gives ``session`` the caller's line in place of a room."""
    ear = Ear()
    session.input.audio, session.output.audio = ear, Mouth(line)
    return ear


async def listen(line: Line, ear: Ear) -> None:
    """Passes on what the caller says, until they hang up."""
    async for kind, payload in line.messages():
        if kind == AUDIO:
            ear.hear(payload)
    ear.hear(None)
