"""Words are written down ahead in a pause, and are final when nothing follows."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.agents.vad import VADEventType

from runner.chains import Transcript
from runner.detector import Heard
from runner.hearing import transcripts

WINDOW_S, RATE_HZ = 0.032, 16_000
AFTER_S = 0.1
PREFLIGHT, FINAL = SpeechEventType.PREFLIGHT_TRANSCRIPT, SpeechEventType.FINAL_TRANSCRIPT


class Ears:
    """Writes down how many windows of sound it was given, when it is let."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.cancelled = 0
        self.let = asyncio.Event()
        self.let.set()
        self.deaf = False
        self.complaints = 0

    def on_deaf(self) -> None:
        self.complaints += 1

    async def transcribe(self, buffer: rtc.AudioFrame) -> Transcript:
        windows = round(buffer.duration / WINDOW_S)
        self.asked.append(windows)
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Transcript("" if self.deaf else f"{windows} windows", "en", deaf=self.deaf)


class Detector:
    """Says what the test tells it."""

    def __init__(self) -> None:
        self.tell: Callable[[Heard], None] = lambda _: None
        self.frames: list[rtc.AudioFrame] = []
        self.spoken_s = 0.0

    @contextmanager
    def listened(self, listener: Callable[[Heard], None]) -> Iterator[None]:
        self.tell = listener
        yield

    def speaks(self, windows: int) -> None:
        """So much speech; the first window begins the utterance."""
        for _ in range(windows):
            if not self.frames:
                self._event(VADEventType.START_OF_SPEECH)
            else:
                self._event(VADEventType.INFERENCE_DONE)

    def pauses(self, windows: int) -> None:
        for number in range(windows):
            self._event(VADEventType.INFERENCE_DONE, silence_s=(number + 1) * WINDOW_S)

    def ends(self) -> None:
        event = Heard(VADEventType.END_OF_SPEECH, 0, 0.0, self.spoken_s, 0.25)
        event.frames, self.frames, self.spoken_s = self.frames, [], 0.0
        self.tell(event)

    def _event(self, kind: VADEventType, silence_s: float = 0.0) -> None:
        samples = np.zeros(int(WINDOW_S * RATE_HZ), np.int16)
        frame = rtc.AudioFrame(samples.tobytes(), RATE_HZ, 1, len(samples))
        self.frames.append(frame)
        self.spoken_s += WINDOW_S
        event = Heard(kind, 0, 0.0, self.spoken_s, silence_s, [frame], hush_s=silence_s)
        self.tell(event)


class Call:
    """What LiveKit is told."""

    def __init__(self) -> None:
        self.ears, self.detector = Ears(), Detector()
        self.told: list[tuple[SpeechEventType, str]] = []

    def note(self, event: SpeechEvent) -> None:
        if event.alternatives:
            self.told.append((event.type, event.alternatives[0].text))


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    async with listening() as call:
        yield call


@asynccontextmanager
async def listening() -> AsyncIterator[Call]:
    call, microphone = Call(), asyncio.Event()

    async def audio() -> AsyncIterator[rtc.AudioFrame]:
        await microphone.wait()
        for _ in ():
            yield

    async def run() -> None:
        async for event in transcripts(call.detector, call.ears, audio(), AFTER_S):
            call.note(event)

    running = asyncio.create_task(run())
    await settled()
    yield call
    microphone.set()
    await running


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_written_down_in_a_pause_is_final_when_nothing_follows(call: Call) -> None:
    call.detector.speaks(30)
    call.detector.pauses(4)
    await settled()
    assert call.told == [(PREFLIGHT, "34 windows")]
    call.detector.pauses(4)
    call.detector.ends()
    await settled()
    assert call.told == [(PREFLIGHT, "34 windows"), (FINAL, "34 windows")]
    assert call.ears.asked == [34]


async def test_a_short_pause_begins_nothing(call: Call) -> None:
    call.detector.speaks(30)
    call.detector.pauses(3)
    call.detector.speaks(10)
    await settled()
    assert call.ears.asked == []


async def test_who_goes_on_is_heard_anew_and_whole(call: Call) -> None:
    call.ears.let.clear()
    call.detector.speaks(30)
    call.detector.pauses(4)
    await settled()
    call.detector.speaks(10)
    await settled()
    assert call.ears.cancelled == 1
    call.ears.let.set()
    call.detector.pauses(8)
    call.detector.ends()
    await settled()
    assert call.told == [(PREFLIGHT, "48 windows"), (FINAL, "48 windows")]


async def test_an_end_does_not_wait_for_a_second_transcript(call: Call) -> None:
    call.ears.let.clear()
    call.detector.speaks(30)
    call.detector.pauses(8)
    call.detector.ends()
    await settled()
    assert call.told == []
    call.ears.let.set()
    await settled()
    assert call.told == [(PREFLIGHT, "34 windows"), (FINAL, "34 windows")]
    assert len(call.ears.asked) == 1


async def test_utterances_are_told_in_their_order(call: Call) -> None:
    call.ears.let.clear()
    call.detector.speaks(10)
    call.detector.ends()
    call.detector.speaks(20)
    call.detector.ends()
    await settled()
    call.ears.let.set()
    await settled()
    assert call.told == [(FINAL, "10 windows"), (FINAL, "20 windows")]


async def test_a_monologue_is_not_written_down_in_each_pause(call: Call) -> None:
    call.detector.speaks(320)
    call.detector.pauses(4)
    await settled()
    assert call.ears.asked == []


async def test_who_cannot_be_heard_is_told_so_at_the_end_alone(call: Call) -> None:
    call.ears.deaf = True
    call.detector.speaks(30)
    call.detector.pauses(4)
    await settled()
    assert call.ears.complaints == 0
    call.detector.ends()
    await settled()
    assert call.ears.complaints == 1
    assert call.told == []


async def test_nothing_runs_on_when_nobody_listens_any_more() -> None:
    async with listening() as call:
        call.ears.let.clear()
        call.detector.speaks(30)
        call.detector.pauses(4)
        await settled()
    assert call.ears.cancelled == 1
