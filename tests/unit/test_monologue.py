"""A caller who does not stop is cut, in the time of the sound."""

from livekit import rtc
from livekit.agents.vad import VADEvent, VADEventType

from runner.monologue import Cap

WINDOW_S = 0.25
RATE_HZ = 16_000
LONGEST_S = 5.0
START, END = VADEventType.START_OF_SPEECH, VADEventType.END_OF_SPEECH


class Detector:
    """Says what a voice detector says of a caller who speaks and pauses."""

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.now_s = 0.0
        self.told: list[VADEvent] = []

    def speaks(self, seconds: float) -> None:
        self._tell(START, speech_duration=WINDOW_S)
        for _ in range(int(seconds / WINDOW_S)):
            self.now_s += WINDOW_S
            self._tell(VADEventType.INFERENCE_DONE, speech_duration=WINDOW_S)

    def pauses(self, seconds: float) -> None:
        self.now_s += WINDOW_S
        self._tell(END, silence_duration=WINDOW_S)
        self.now_s += seconds - WINDOW_S

    def _tell(
        self, kind: VADEventType, speech_duration: float = 0.0, silence_duration: float = 0.0
    ) -> None:
        samples = int(WINDOW_S * RATE_HZ)
        frame = rtc.AudioFrame(bytes(2 * samples), RATE_HZ, 1, samples)
        event = VADEvent(kind, 0, self.now_s, speech_duration, silence_duration, [frame])
        if (passed := self.cap.passed(event)) is not None:
            self.told.append(passed)

    def turns(self) -> list[VADEventType]:
        return [event.type for event in self.told if event.type in (START, END)]


def test_what_is_short_enough_is_not_touched() -> None:
    caller = Detector(Cap(LONGEST_S, pause_s=0.5))
    for _ in range(3):
        caller.speaks(4.0)
        caller.pauses(1.0)
    assert caller.turns() == [START, END] * 3


def test_ten_minutes_without_a_pause_are_one_turn_of_the_longest_length() -> None:
    caller = Detector(Cap(LONGEST_S, pause_s=0.5))
    caller.speaks(600.0)
    caller.pauses(1.0)
    assert caller.turns() == [START, END]
    [heard] = caller.told[-1].frames
    assert LONGEST_S <= heard.duration <= LONGEST_S + WINDOW_S


def test_short_pauses_do_not_make_a_turn_longer() -> None:
    caller = Detector(Cap(LONGEST_S, pause_s=0.5))
    for _ in range(4):
        caller.speaks(1.75)
        caller.pauses(0.3)
    assert caller.turns() == [START, END] * 4
    ends = [event.timestamp for event in caller.told if event.type is END]
    assert LONGEST_S - WINDOW_S <= ends[2] <= LONGEST_S  # in the third sentence; then a new turn
    assert ends[3] == caller.now_s - 0.05


def test_a_detector_that_begins_anew_begins_a_new_turn() -> None:
    caller = Detector(Cap(LONGEST_S, pause_s=0.5))
    caller.speaks(4.0)
    caller.cap.reset()
    caller.now_s = 0.0
    caller.speaks(4.0)
    caller.pauses(1.0)
    assert caller.turns() == [START, START, END]
