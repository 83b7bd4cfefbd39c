"""A caller who does not stop: the voice detector says that the turn is over all the same.

Time here is the time of the sound, not a clock's.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from livekit import rtc
from livekit.agents import utils, vad
from livekit.agents.vad import VADEvent, VADEventType

log = logging.getLogger(__name__)


class CappedVAD(vad.VAD):
    """``inner``, but speech is over after ``longest_s``. What is said after that, until the next
    pause, is not heard. A silence of ``pause_s`` ends a turn; shorter ones belong to it.

    One stream serves all who want to know: LiveKit's session, and those who listen.
    """

    def __init__(self, inner: vad.VAD, *, longest_s: float, pause_s: float) -> None:
        super().__init__(capabilities=inner.capabilities)
        self._inner = inner
        self._longest_s = longest_s
        self._pause_s = pause_s
        self._listeners: list[Callable[[VADEvent], None]] = []

    @contextmanager
    def listened(self, listener: Callable[[VADEvent], None]) -> Iterator[None]:
        """``listener`` is told each event that the session is told, during the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def provider(self) -> str:
        return self._inner.provider

    def stream(self) -> vad.VADStream:
        return _Stream(self._inner.stream(), Cap(self._longest_s, self._pause_s), self._listeners)


class Cap:
    """The events of one stream, cut where the turn gets too long."""

    def __init__(self, longest_s: float, pause_s: float) -> None:
        self._longest_s = longest_s
        self._pause_s = pause_s
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard: the detector begins anew."""
        self._frames: list[rtc.AudioFrame] = []
        self._speaking = self._deaf = False
        self._turn_began_s = 0.0
        self._fell_silent_s = -math.inf

    def passed(self, event: VADEvent) -> VADEvent | None:
        """What becomes of ``event``; None: nobody is told of it."""
        if event.type is VADEventType.END_OF_SPEECH:
            return self._end(event)
        if self._deaf:
            return None
        if event.type is VADEventType.START_OF_SPEECH:
            self._begin(event)
        elif self._speaking:
            self._frames += event.frames
            if event.timestamp - self._turn_began_s >= self._longest_s:
                return self._cut(event)
        return event

    def _begin(self, event: VADEvent) -> None:
        began_s = event.timestamp - event.speech_duration
        if began_s - self._fell_silent_s >= self._pause_s:
            self._turn_began_s = began_s
        self._frames, self._speaking = list(event.frames), True

    def _end(self, event: VADEvent) -> VADEvent | None:
        was_deaf = self._deaf
        self._frames, self._speaking, self._deaf = [], False, False
        self._fell_silent_s = event.timestamp - event.silence_duration
        if was_deaf:  # the turn is over already: what comes next is another
            self._fell_silent_s = -math.inf
            return None
        return event

    def _cut(self, event: VADEvent) -> VADEvent:
        log.info("the caller talked for %g s: it is the agent's turn", self._longest_s)
        heard, self._frames = utils.merge_frames(self._frames), []
        self._speaking, self._deaf = False, True
        return replace(event, type=VADEventType.END_OF_SPEECH, frames=[heard], speaking=False)


class _Stream(vad.VADStream):
    """A stream of the inner detector. Without the base's constructor, which starts tasks."""

    def __init__(
        self, inner: vad.VADStream, cap: Cap, listeners: list[Callable[[VADEvent], None]]
    ) -> None:
        self._inner = inner
        self._cap = cap
        self._listeners = listeners

    async def _main_task(self) -> None:
        """The inner stream has one."""

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        self._inner.push_frame(frame)

    def flush(self) -> None:
        self._inner.flush()
        self._cap.reset()

    def end_input(self) -> None:
        self._inner.end_input()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __anext__(self) -> VADEvent:
        while True:
            if (event := self._cap.passed(await anext(self._inner))) is not None:
                for listener in self._listeners:
                    listener(event)
                return event
