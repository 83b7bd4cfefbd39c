"""A caller: says an utterance, listens to the whole answer, and knows when each was heard."""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from runner.audio import Samples, sound_bounds
from runner.bench import wire
from runner.bench.voices import Utterance, noise
from runner.bench.wire import CALLER_RATE_HZ, FRAME_SAMPLES, Line

_FRAME_S = FRAME_SAMPLES / CALLER_RATE_HZ
_AFTERTHOUGHT_S = 0.5  # an utterance that was taken for two is answered twice
_POLL_S = 0.05


@dataclass
class Heard:
    """What came from the agent since the caller began to speak; times on the monotonic clock.

    ``sounds``: when each sound began. ``quiet_at``: when the last one is over. ``said``: messages,
    with role and text. ``told``: what else the agent tells of its answer.
    """

    sounds: list[float] = field(default_factory=list)
    quiet_at: float = 0.0
    said: list[tuple[float, str, str]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def hear(self, samples: Samples, rate_hz: int, played_at: float) -> None:
        """Samples that are played from ``played_at`` on."""
        if bounds := sound_bounds(samples):
            self.sounds.append(played_at + bounds[0] / rate_hz)
            self.quiet_at = played_at + len(samples) / rate_hz

    def first_after(self, moment: float) -> float | None:
        """When the agent was first heard after ``moment``."""
        return next((at for at in self.sounds if at > moment), None)

    def note(self, role: str, text: str = "") -> None:
        """A message of the conversation; where no text is known, that there was one."""
        self.said.append((time.monotonic(), role, text))

    def _times(self, role: str) -> list[float]:
        return [at for at, whose, _ in self.said if whose == role]

    def over(self, ended_at: float, now: float) -> bool:
        """Whether an answer to what ended at ``ended_at`` was heard to its end."""
        answered = any(at > ended_at for at in self._times("assistant"))
        heard = self.first_after(ended_at) is not None
        return answered and heard and now > self.quiet_at + _AFTERTHOUGHT_S

    def cut(self, ended_at: float) -> bool:
        """Whether the agent took a pause for the end of the turn."""
        asked = self._times("user")
        early = any(at < ended_at for at in [*asked, *self.sounds])
        return early or len(asked) > 1


@dataclass(frozen=True)
class Answered:
    """A turn as the caller has it. ``began_at``, ``ended_at``: of what they said."""

    began_at: float
    ended_at: float
    heard_at: float | None
    cut: bool
    text: str
    told: dict[str, Any]


class Caller(ABC):
    """In a call. ``heard`` is what came since they began to speak last."""

    def __init__(self) -> None:
        self.heard = Heard()

    async def turn(self, utterance: Utterance, timeout_s: float) -> Answered:
        """Says it, and hears the answer to its end; without one there is a ``heard_at`` of None."""
        heard = self.heard = Heard()
        began_at = time.monotonic()
        ended_at = await self._say(utterance)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not heard.over(ended_at, time.monotonic()):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        return Answered(
            began_at,
            ended_at,
            heard.first_after(ended_at),
            heard.cut(ended_at),
            " ".join(text for _, role, text in heard.said if role == "assistant"),
            heard.told,
        )

    @abstractmethod
    async def _say(self, utterance: Utterance) -> float:
        """Says it; returns the moment of its last sound, on the monotonic clock."""

    @abstractmethod
    async def aclose(self) -> None:
        """Hangs up."""


class LineCaller(Caller):
    """In a call without a room; `Microphones` sends what is said."""

    def __init__(self, line: Line, microphones: "Microphones") -> None:
        super().__init__()
        self._line = line
        self._microphones = microphones
        self._plays_until = 0.0
        self._frames: deque[bytes] = deque()
        self._sent: asyncio.Future[float] | None = None
        self._listening = asyncio.create_task(self._listen(), name="caller")
        self._silence = noise(FRAME_SAMPLES).tobytes()
        microphones.callers.append(self)

    async def _say(self, utterance: Utterance) -> float:
        """A microphone gives a frame when it is over."""
        pcm = utterance.samples.tobytes()
        size = FRAME_SAMPLES * 2
        frames = [pcm[at : at + size].ljust(size, b"\0") for at in range(0, len(pcm), size)]
        self._sent = asyncio.get_running_loop().create_future()
        self._frames.extend(frames)
        over_at = await self._sent
        return over_at - (len(frames) * _FRAME_S - utterance.speech_s)

    def tick(self, now: float) -> None:
        """Sends the next 20 ms of the microphone, which end now."""
        if not self._frames:
            self._line.send(wire.AUDIO, self._silence)
            return
        self._line.send(wire.AUDIO, self._frames.popleft())
        if not self._frames and self._sent:
            self._sent.set_result(now)

    async def _listen(self) -> None:
        async for kind, payload in self._line.messages():
            now = time.monotonic()
            match kind:
                case wire.AUDIO:
                    pcm, rate_hz = wire.sound(payload)
                    samples = np.frombuffer(pcm, np.int16)
                    played_at = max(now, self._plays_until)
                    self._plays_until = played_at + len(samples) / rate_hz
                    self.heard.hear(samples, rate_hz, played_at)
                case wire.CLEAR:
                    self._plays_until = self.heard.quiet_at = now
                case wire.SAID:
                    self._note(json.loads(payload))

    def _note(self, message: dict[str, Any]) -> None:
        self.heard.note(message["role"], message["text"])
        if message["role"] == "assistant":
            self.heard.told = message

    async def aclose(self) -> None:
        self._microphones.callers.remove(self)
        self._listening.cancel()
        await self._line.aclose()


class Microphones:
    """Sends a frame of every caller each 20 ms, in real time. ``late_s``: the most it was late."""

    def __init__(self) -> None:
        self.callers: list[LineCaller] = []
        self.late_s = 0.0

    async def __aenter__(self) -> Self:
        self._feeding = asyncio.create_task(self._feed(), name="microphones")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._feeding.cancel()

    async def _feed(self) -> None:
        due = time.monotonic()
        while True:
            due += _FRAME_S
            await asyncio.sleep(max(due - time.monotonic(), 0))
            now = time.monotonic()
            self.late_s = max(self.late_s, now - due)
            for caller in self.callers:
                caller.tick(now)
