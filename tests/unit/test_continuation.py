"""What another provider goes on with: no word twice, none lost."""

import random

import pytest

from runner.continuation import Overlap, Words

ANSWER = (
    "The lighthouse was built in 1871, on a rock that the sea covers twice a day. Its keeper, "
    "Ms. O'Brien, kept a well-known diary; half of it is about the weather."
)


def pieces(text: str, seed: int) -> list[str]:
    """``text`` cut at random places, as tokens may be."""
    dice = random.Random(seed)
    cuts = sorted(dice.sample(range(1, len(text)), min(len(text) - 1, 25)))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_words_are_handed_on_whole_and_none_is_lost(seed: int) -> None:
    words = Words()
    first, *others = pieces(ANSWER, seed)
    handed_on = [words.take(first)]
    for piece in others:
        handed_on.append(words.take(piece))
        rest = ANSWER[len(words.said) :]
        if len(handed_on) > 2 and words.said != first:
            assert rest == "" or not (words.said[-1].isalnum() and rest[0].isalnum())
    assert "".join(handed_on) + words.rest() == ANSWER == words.said


def test_the_end_of_a_sentence_is_not_held() -> None:
    words = Words()
    words.take("It")
    assert words.take(" is") == ""
    assert words.take(".") == " is."
    assert words.take(" So ") == " So"
    assert words.take("be") == ""


def test_the_first_piece_is_not_held() -> None:
    assert Words().take("Hel") == "Hel"


def test_a_script_without_spaces_is_not_held() -> None:
    words = Words()
    words.take("東")
    assert words.take("京は日本") == "京は日本"


def gone_on(said: str, new: str, seed: int = 0) -> str:
    overlap = Overlap(said)
    return said + "".join(overlap.take(piece) for piece in pieces(new, seed)) + overlap.rest()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("repeated", [0, 1, 3, 8], ids="{} words".format)
def test_what_is_said_again_is_taken_away(seed: int, repeated: int) -> None:
    all_words = ANSWER.split(" ")
    for spoken in range(max(2, repeated), len(all_words)):
        said = " ".join(all_words[:spoken])
        new = " ".join(all_words[spoken - repeated :])
        assert gone_on(said, new, seed) == ANSWER


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_that_begins_anew_goes_on_where_it_was(seed: int) -> None:
    all_words = ANSWER.split(" ")
    for spoken in range(2, len(all_words)):
        assert gone_on(" ".join(all_words[:spoken]), ANSWER, seed) == ANSWER


def test_another_case_or_punctuation_is_the_same_word() -> None:
    assert gone_on("It is, as I said", "As I said: blue.") == "It is, as I said blue."


def test_an_answer_that_begins_anew_and_then_differs_is_not_said_twice() -> None:
    said = "The sky is blue because of"
    assert gone_on(said, "The sky is blue due to light.") == f"{said} due to light."


def test_half_a_word_is_completed() -> None:
    assert gone_on("Hel", "Hello there.") == "Hello there."


def test_a_word_that_stands_is_parted_from_what_comes_instead() -> None:
    assert gone_on("Well", "it depends.") == "Well it depends."


def test_a_word_that_happens_to_stand_earlier_is_kept() -> None:
    assert gone_on("The rock in the sea is", "the oldest.") == "The rock in the sea is the oldest."
