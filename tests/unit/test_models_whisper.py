"""When Whisper is believed, and when it is asked again."""

import numpy as np
import pytest

from runner.models.whisper import Whisper, repeats

LOOP = "Turn the light off in the kitchen. Turn the light off in the kitchen. Turn the"


@pytest.mark.parametrize(
    "text",
    [
        "Yes. Yes. Yes. Yes.",
        LOOP,
        "I'm going to go to the, I'm going to go to the",
        "and so on " * 12,
        "...................................................................",
        "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc",
    ],
)
def test_a_text_that_repeats_itself_is_suspicious(text):
    assert repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "No, no.",
        "Bye bye!",
        "Is it on or is it off?",
        "What is the size of a chunk, and how much do neighbouring chunks overlap?",
        "I said that you said that I said it.",
        "one two three four five six seven eight nine ten eleven twelve",
    ],
)
def test_what_people_say_is_not(text):
    assert not repeats(text)


class Heard(Whisper):
    """A Whisper without a model: its answers are given, the windows that it was asked kept."""

    def __init__(self, *answers: tuple[str, bool]) -> None:
        self._answers = list(answers)
        self.windows_s: list[float] = []

    def _heard(
        self, sound: np.ndarray, window_s: float, tokens: int, language: str
    ) -> tuple[str, bool]:
        self.windows_s.append(window_s)
        return self._answers.pop(0)


def sound(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * 16_000), np.float32)


@pytest.mark.parametrize(("seconds", "window_s"), [(1, 12), (11.4, 12), (20, 20.5), (29.8, 30)])
def test_the_window_is_as_long_as_the_sound_but_not_too_short(seconds, window_s):
    whisper = Heard(("Hello.", True))
    assert whisper.hear(sound(seconds), "en") == "Hello."
    assert whisper.windows_s == [window_s]


@pytest.mark.parametrize("first", [(LOOP, True), ("It never came to an", False)])
def test_a_suspicious_text_is_made_again_at_30_s(first):
    whisper = Heard(first, ("Turn the light off.", True))
    assert whisper.hear(sound(2), "en") == "Turn the light off."
    assert whisper.windows_s == [12, 30]


def test_at_30_s_it_is_believed():
    whisper = Heard((LOOP, True))
    assert whisper.hear(sound(29.5), "en") == LOOP


def test_dots_are_no_words():
    assert Heard((". . .", True)).hear(sound(2), "en") == ""
