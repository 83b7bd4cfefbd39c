"""The voice detector: where a caller's speech begins, and where it ends.

The model is Silero's, as livekit-agents brings it. It takes 15 µs for a window of 32 ms, less than
it costs to hand a window to a thread, as livekit-agents' own detector does; so it runs where the
sound arrives, and tells nobody of silence. Time here is the time of the sound, not a clock's.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from livekit import rtc
from livekit.agents import vad
from livekit.agents.vad import VADEvent, VADEventType
from livekit.local_inference import VAD as SILERO
from livekit.local_inference import VAD_WINDOW_SAMPLES as WINDOW_SAMPLES

log = logging.getLogger(__name__)

RATE_HZ = 16_000
"""Of what the model hears, and of the frames in its events, which are what is transcribed."""

WINDOW_S = WINDOW_SAMPLES / RATE_HZ
WINDOW_MS = 1000 * WINDOW_SAMPLES // RATE_HZ

_BYTES = 2 * WINDOW_SAMPLES
_SPEECH = 0.5  # the model's probability from which on it is speech; these four are LiveKit's
_STILL_SPEECH = 0.35  # … and above which speech goes on
_LEAST_SPEECH_S = 0.05
_FADING = 0.95  # … and under which it fades, if it is …
_FAINT = 0.05  # … so quiet, as a share of the loudest. The model is sure of a silence 0.04 s later
_DOUBTED = 0.99  # … or under which it breaks off, if the latest 32 ms are …
_STILL = 0.005  # … as quiet as that
_PART_SAMPLES = 64  # of a window: 4 ms, by which it is told where in it the voice fades
_FORGETTING = 0.995  # of the loudest, a window
_LEAD_S = 0.5  # of the sound before the first word is kept


@dataclass
class Heard(VADEvent):
    """``hush_s``: for how long speech has been fading, or silent. It may go on."""

    hush_s: float = 0.0


class Detector(vad.VAD):
    """Silero's voice detector. A silence of ``silence_s`` ends speech, and speech that lasts for
    ``longest_s`` is over, too: what is said after that, until the next pause, is not heard. A
    silence of ``pause_s`` ends a turn; shorter ones belong to it.

    One stream serves all who want to know: LiveKit's session, and those who listen.
    """

    def __init__(self, *, silence_s: float, longest_s: float, pause_s: float) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=WINDOW_S))
        self._silence_s = silence_s
        self._longest_s = longest_s
        self._pause_s = pause_s
        self._listeners: list[Callable[[Heard], None]] = []
        self._stream: _Stream | None = None

    @contextmanager
    def listened(self, listener: Callable[[Heard], None]) -> Iterator[None]:
        """``listener`` is told each event that the session is told, during the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @property
    def model(self) -> str:
        return "silero"

    def stream(self) -> vad.VADStream:
        activity = Activity(self._silence_s, self._longest_s, self._pause_s)
        self._stream = _Stream(activity, self._listeners)
        return self._stream

    def hear(self, window: bytes) -> None:
        """Takes sound that does not come through the session, in whatever thread: of silence
        nobody else is woken."""
        if self._stream is not None:
            self._stream.hear(window)


class Activity:
    """What the model's windows amount to: speech begins, goes on, ends. Arguments: `Detector`'s."""

    def __init__(self, silence_s: float, longest_s: float, pause_s: float) -> None:
        self._silence_s = silence_s
        self._longest_s = longest_s
        self._pause_s = pause_s
        self.reset()

    def reset(self) -> None:
        """Forgets what was heard."""
        self._now_s = self._speech_s = self._quiet_s = self._loud_s = self._turn_began_s = 0.0
        self._hush_s = self._loudest = 0.0
        self._before = b""  # the window before
        self._fell_silent_s = -math.inf
        self._speaking = self._deaf = False
        self._lead: deque[bytes] = deque(maxlen=math.ceil((_LEAD_S + _LEAST_SPEECH_S) / WINDOW_S))
        self._words: list[bytes] = []

    def window(self, samples: bytes, probability: float) -> list[Heard]:
        """What is told after another window. ``samples``: of `WINDOW_S`, 16 bit, mono."""
        self._now_s += WINDOW_S
        if probability >= _SPEECH or (self._speaking and probability > _STILL_SPEECH):
            self._loud_s, self._quiet_s = self._loud_s + WINDOW_S, 0.0
        else:
            self._loud_s, self._quiet_s = 0.0, self._quiet_s + WINDOW_S
        if not self._speaking:
            return self._silence(samples)
        self._hush(samples, probability)
        return self._speech(samples)

    def _hush(self, samples: bytes, probability: float) -> None:
        lately, self._before = self._before + samples, samples
        loudness = _loudness(samples)
        self._loudest = max(self._loudest * _FORGETTING, loudness)
        faint = self._loudest * _FAINT
        fades = probability <= _FADING and loudness < faint
        if not (self._quiet_s or fades or self._breaks_off(lately, probability)):
            self._hush_s = 0.0
        elif self._hush_s:
            self._hush_s += WINDOW_S
        else:
            self._hush_s = max(WINDOW_S, _fallen_s(lately, faint))

    def _breaks_off(self, lately: bytes, probability: float) -> bool:
        still = self._loudest * _STILL
        return probability <= _DOUBTED and _fallen_s(lately, still) >= WINDOW_S

    def _silence(self, samples: bytes) -> list[Heard]:
        self._lead.append(samples)
        if self._loud_s < _LEAST_SPEECH_S:
            return [self._event(VADEventType.INFERENCE_DONE)] if self._loud_s else []
        began_s = self._now_s - self._loud_s
        if began_s - self._fell_silent_s >= self._pause_s:
            self._turn_began_s = began_s
        self._words, self._speech_s, self._speaking = list(self._lead), self._loud_s, True
        self._hush_s, self._loudest, self._before = 0.0, _loudness(samples), samples
        return [self._event(VADEventType.START_OF_SPEECH, self._words)]

    def _speech(self, samples: bytes) -> list[Heard]:
        self._speech_s += WINDOW_S
        over = self._silent_s >= self._silence_s
        if self._deaf:
            self._lead.append(samples)
            if over:  # the turn was over already: what comes next is another
                self._end()
                self._fell_silent_s = -math.inf
            return []
        self._words.append(samples)
        told = [self._event(VADEventType.INFERENCE_DONE, [samples])]
        if over:
            self._fell_silent_s = self._now_s - self._silent_s
            told += [self._ended(), self._event(VADEventType.INFERENCE_DONE)]
        elif self._now_s - self._turn_began_s >= self._longest_s:
            log.info("the caller talked for %g s: it is the agent's turn", self._longest_s)
            told.append(self._ended())
            self._speaking = self._deaf = True
        return told

    def _ended(self) -> Heard:
        words, self._speech_s = self._words, self._speech_s - self._silent_s
        self._speaking = False
        event = self._event(VADEventType.END_OF_SPEECH, words)
        self._end()
        return event

    def _end(self) -> None:
        self._lead.extend(self._words)
        self._words, self._speech_s = [], 0.0
        self._speaking = self._deaf = False

    @property
    def _silent_s(self) -> float:
        """Since the voice faded, 0.01 s after its last sound in the median; the model is sure of
        a silence 0.07 s after it."""
        return self._hush_s if self._quiet_s else 0.0

    def _event(self, kind: VADEventType, windows: "list[bytes] | tuple[()]" = ()) -> Heard:
        sound = b"".join(windows)
        return Heard(
            kind,
            samples_index=round(self._now_s * RATE_HZ),
            timestamp=self._now_s,
            speech_duration=self._speech_s,
            silence_duration=self._silent_s,
            frames=[rtc.AudioFrame(sound, RATE_HZ, 1, len(sound) // 2)] if sound else [],
            speaking=self._speaking,
            raw_accumulated_silence=self._silent_s,
            raw_accumulated_speech=self._loud_s,
            hush_s=self._hush_s,
        )


def _fallen_s(sound: bytes, faint: float) -> float:
    """For how long it has been fainter than that at its end."""
    parts = np.frombuffer(sound, np.int16).astype(np.float32).reshape(-1, _PART_SAMPLES)
    loud = np.flatnonzero(np.einsum("ij,ij->i", parts, parts) >= faint**2 * _PART_SAMPLES)
    return (len(parts) - 1 - loud[-1] if len(loud) else len(parts)) * _PART_SAMPLES / RATE_HZ


def _loudness(samples: bytes) -> float:
    """The root of the mean square."""
    values = np.frombuffer(samples, np.int16).astype(np.float32)
    return math.sqrt(float(values @ values) / len(values))


class _Stream(vad.VADStream):
    """Without the base's constructor, which starts tasks."""

    def __init__(self, activity: Activity, listeners: list[Callable[[Heard], None]]) -> None:
        self._activity = activity
        self._listeners = listeners
        self._model = SILERO()
        self._sound = bytearray()
        self._resampler: rtc.AudioResampler | None = None
        self._told: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._forgetting = False

    async def _main_task(self) -> None:
        """There is none."""

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        for heard in self._heard(frame):
            self._sound += heard.data.cast("B")
        while len(self._sound) >= _BYTES:
            window = bytes(self._sound[:_BYTES])
            del self._sound[:_BYTES]
            self._tell(self._events(window))

    def hear(self, window: bytes) -> None:
        """Of `WINDOW_S`, and in another thread than the loop's."""
        if events := self._events(window):
            self._loop.call_soon_threadsafe(self._tell, events)

    def _events(self, window: bytes) -> list[Heard]:
        if self._forgetting:
            self._forgetting = False
            self._model.reset()
            self._activity.reset()
        probability = self._model.predict(np.frombuffer(window, np.int16))
        return self._activity.window(window, probability)

    def _tell(self, events: list[Heard]) -> None:
        for event in events:
            self._told.put_nowait(event)

    def _heard(self, frame: rtc.AudioFrame) -> list[rtc.AudioFrame]:
        if frame.sample_rate == RATE_HZ:
            return [frame]
        if self._resampler is None:
            self._resampler = rtc.AudioResampler(frame.sample_rate, RATE_HZ)
        return self._resampler.push(frame)

    def flush(self) -> None:
        self._forgetting = True
        self._sound.clear()

    def end_input(self) -> None:
        self._told.put_nowait(None)

    async def aclose(self) -> None:
        self._told.put_nowait(None)

    async def __anext__(self) -> Heard:
        if (event := await self._told.get()) is None:
            raise StopAsyncIteration
        for listener in self._listeners:
            listener(event)
        return event
