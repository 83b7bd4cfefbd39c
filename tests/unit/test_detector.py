"""Windows of sound become speech that begins and ends, and a caller who does not stop is cut."""

import asyncio

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.vad import VADEventType

from runner.detector import RATE_HZ, WINDOW_S, WINDOW_SAMPLES, Activity, Detector, Heard

START, END = VADEventType.START_OF_SPEECH, VADEventType.END_OF_SPEECH
SILENCE_S, LONGEST_S, PAUSE_S = 0.25, 5.0, 0.5
NOISE = bytes(2 * WINDOW_SAMPLES)


class Caller:
    """Speaks and pauses; the model is sure of both."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self.activity = Activity(SILENCE_S, longest_s, PAUSE_S)
        self.told: list[Heard] = []

    def speaks(self, seconds: float, probability: float = 0.9, sound: bytes = NOISE) -> None:
        for _ in range(round(seconds / WINDOW_S)):
            self.told += self.activity.window(sound, probability)

    def pauses(self, seconds: float) -> None:
        self.speaks(seconds, probability=0.1)

    def turns(self) -> list[VADEventType]:
        return [event.type for event in self.told if event.type in {START, END}]

    def ends(self) -> list[Heard]:
        return [event for event in self.told if event.type is END]


def test_silence_is_told_to_nobody() -> None:
    caller = Caller()
    caller.pauses(10.0)
    assert caller.told == []


def test_speech_begins_and_ends_with_the_sound_around_it() -> None:
    caller = Caller()
    caller.pauses(2.0)
    caller.speaks(1.0)
    caller.pauses(1.0)
    start, end = (event for event in caller.told if event.type in {START, END})
    assert start.timestamp == pytest.approx(2.0 + 0.064, abs=WINDOW_S)
    assert start.frames[0].duration == pytest.approx(0.55, abs=WINDOW_S)
    assert end.silence_duration == pytest.approx(SILENCE_S, abs=WINDOW_S)
    assert end.speech_duration == pytest.approx(1.0, abs=WINDOW_S)
    assert end.frames[0].duration == pytest.approx(0.5 + 1.0 + SILENCE_S, abs=2 * WINDOW_S)
    between = [event for event in caller.told if start.timestamp < event.timestamp < end.timestamp]
    heard_s = start.frames[0].duration + sum(event.frames[0].duration for event in between)
    assert heard_s + WINDOW_S == pytest.approx(end.frames[0].duration)


def test_the_first_window_of_a_silence_is_told_at_once() -> None:
    caller = Caller()
    caller.speaks(1.0)
    caller.pauses(WINDOW_S)
    assert caller.told[-1].hush_s == WINDOW_S


@pytest.mark.parametrize(
    ("probability", "level", "fades"), [(0.9, 40, True), (0.97, 40, False), (0.9, 60, False)]
)
def test_speech_fades_before_it_is_silent(probability: float, level: int, fades: bool) -> None:
    caller, loud = Caller(), np.full(WINDOW_SAMPLES, 1_000, np.int16).tobytes()
    caller.speaks(1.0, sound=loud)
    assert caller.told[-1].hush_s == 0
    faint = np.full(WINDOW_SAMPLES, level, np.int16).tobytes()
    caller.speaks(2 * WINDOW_S, probability, faint)
    assert caller.told[-1].hush_s == (2 * WINDOW_S if fades else 0)
    assert caller.told[-1].raw_accumulated_silence == 0
    caller.speaks(WINDOW_S, sound=loud)
    assert caller.told[-1].hush_s == 0


@pytest.mark.parametrize(
    ("probability", "level", "hush_s"), [(0.98, 4, 0.048), (0.98, 10, 0.0), (0.995, 4, 0.0)]
)
def test_speech_breaks_off_in_a_quiet_room(probability: float, level: int, hush_s: float) -> None:
    caller, sound = Caller(), np.full(WINDOW_SAMPLES, 1_000, np.int16)
    caller.speaks(1.0, sound=sound.tobytes())
    sound[WINDOW_SAMPLES // 2 :] = level
    caller.speaks(WINDOW_S, 0.98, sound.tobytes())
    assert caller.told[-1].hush_s == 0
    caller.speaks(WINDOW_S, probability, np.full(WINDOW_SAMPLES, level, np.int16).tobytes())
    assert caller.told[-1].hush_s == pytest.approx(hush_s)


def test_a_silence_begins_where_speech_began_to_fade() -> None:
    caller, loud = Caller(), np.full(WINDOW_SAMPLES, 1_000, np.int16).tobytes()
    caller.speaks(1.0, sound=loud)
    caller.speaks(3 * WINDOW_S)
    spoke_until_s = caller.told[-1].timestamp - 3 * WINDOW_S
    caller.pauses(1.0)
    [end] = caller.ends()
    assert end.timestamp - end.silence_duration == pytest.approx(spoke_until_s)
    assert end.silence_duration == pytest.approx(SILENCE_S, abs=WINDOW_S)
    assert end.speech_duration == pytest.approx(1.0, abs=WINDOW_S)


@pytest.mark.parametrize("spoken_samples", [64, 256, 448])
def test_a_silence_begins_within_the_window_in_which_the_voice_falls(spoken_samples: int) -> None:
    caller, loud = Caller(), np.full(WINDOW_SAMPLES, 1_000, np.int16)
    caller.speaks(1.0, sound=loud.tobytes())
    loud[spoken_samples:] = 40
    caller.speaks(WINDOW_S, sound=loud.tobytes())
    fell_s = caller.told[-1].timestamp - (WINDOW_SAMPLES - spoken_samples) / RATE_HZ
    caller.pauses(1.0)
    [end] = caller.ends()
    assert end.timestamp - end.silence_duration == pytest.approx(fell_s)


def test_a_click_is_no_speech_and_a_doubt_no_silence() -> None:
    caller = Caller()
    caller.speaks(WINDOW_S)
    caller.pauses(1.0)
    assert caller.turns() == []
    caller.speaks(1.0)
    caller.speaks(1.0, probability=0.4)
    assert caller.turns() == [START]


def test_speech_that_is_over_is_said_to_be() -> None:
    caller = Caller()
    caller.speaks(1.0)
    caller.pauses(1.0)
    assert [event.speaking for event in caller.told][-1] is False


def test_what_is_short_enough_is_not_touched() -> None:
    caller = Caller()
    for _ in range(3):
        caller.speaks(4.0)
        caller.pauses(1.0)
    assert caller.turns() == [START, END] * 3


def test_ten_minutes_without_a_pause_are_one_turn_of_the_longest_length() -> None:
    caller = Caller()
    caller.speaks(600.0)
    caller.pauses(1.0)
    caller.speaks(1.0)
    caller.pauses(1.0)
    assert caller.turns() == [START, END, START, END]
    assert caller.ends()[0].frames[0].duration == pytest.approx(LONGEST_S, abs=2 * WINDOW_S)
    assert caller.ends()[1].frames[0].duration < 2.0


def test_short_pauses_do_not_make_a_turn_longer() -> None:
    caller = Caller()
    for _ in range(4):
        caller.speaks(1.75)
        caller.pauses(0.3)
    assert caller.turns() == [START, END] * 4
    first, second, third, fourth = (event.timestamp for event in caller.ends())
    assert third - first == pytest.approx(LONGEST_S - 1.75 - SILENCE_S, abs=2 * WINDOW_S)
    assert fourth > third > second > first


def test_a_detector_that_begins_anew_begins_a_new_turn() -> None:
    caller = Caller()
    caller.speaks(4.0)
    caller.activity.reset()
    caller.speaks(4.0)
    caller.pauses(1.0)
    assert caller.turns() == [START, START, END]


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
async def test_noise_at_any_rate_is_no_speech_and_the_stream_ends(rate_hz: int) -> None:
    detector = Detector(silence_s=SILENCE_S, longest_s=LONGEST_S, pause_s=PAUSE_S)
    stream = detector.stream()
    noise = np.random.default_rng(1).integers(-20, 20, rate_hz, np.int16)
    stream.push_frame(rtc.AudioFrame(noise.tobytes(), rate_hz, 1, rate_hz))
    stream.end_input()
    async with asyncio.timeout(1):
        assert [event async for event in stream if event.speaking] == []
