"""The agent's words are shown when its voice comes to them, and what was not heard is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from livekit.agents.types import TimedString
from livekit.agents.voice import io

from runner.subtitles import Subtitles

FIRST, SECOND = "It opens at nine, ", "and it closes at six in the evening."


class Page(io.TextOutput):
    """What the caller reads: a list for each answer."""

    def __init__(self) -> None:
        super().__init__(label="page", next_in_chain=None)
        self.answers: list[list[str]] = [[]]

    async def capture_text(self, text: str) -> None:
        self.answers[-1].append(text)

    def flush(self) -> None:
        self.answers.append([])


class Answer:
    """One that is shown on a page."""

    def __init__(self) -> None:
        self.page = Page()
        self.subtitles = Subtitles(self.page)

    async def read(self) -> str:
        """So far, of the last answer."""
        for _ in range(5):
            await asyncio.sleep(0)
        return "".join(self.page.answers[-1])


@pytest.fixture
async def answer() -> AsyncIterator[Answer]:
    answer = Answer()
    yield answer
    answer.subtitles.close()


async def test_a_word_is_shown_when_it_begins(answer: Answer) -> None:
    await answer.subtitles.capture_text(FIRST)
    assert await answer.read() == ""
    answer.subtitles.heard(0.0)
    assert await answer.read() == "It "
    answer.subtitles.heard(0.5)
    assert await answer.read() == "It opens "


async def test_half_a_word_waits_for_the_rest(answer: Answer) -> None:
    await answer.subtitles.capture_text("It op")
    answer.subtitles.heard(0.3)
    assert await answer.read() == "It "
    await answer.subtitles.capture_text("ens ")
    answer.subtitles.heard(0.3)
    assert await answer.read() == "It opens "


async def test_each_clause_begins_with_its_sound(answer: Answer) -> None:
    for clause, at_s in ((FIRST, 0.0), (SECOND, 5.0)):
        await answer.subtitles.capture_text(clause)
        answer.subtitles.clause(TimedString(clause, start_time=at_s))
    answer.subtitles.heard(2.5)
    assert await answer.read() == "It opens at "
    answer.subtitles.heard(4.99)
    assert await answer.read() == FIRST
    answer.subtitles.heard(5.0)
    assert await answer.read() == FIRST + "and "


async def test_words_are_as_slow_as_the_voice(answer: Answer) -> None:
    await answer.subtitles.capture_text(FIRST)
    answer.subtitles.flush()
    answer.subtitles.sound(18.0)
    answer.subtitles.heard(9.5)
    assert await answer.read() == "It opens at "


async def test_an_answer_that_was_heard_is_whole(answer: Answer) -> None:
    await answer.subtitles.capture_text(FIRST + SECOND)
    answer.subtitles.flush()
    answer.subtitles.heard(0.0)
    assert answer.subtitles.end(complete=True) == FIRST + SECOND
    await answer.read()
    assert ["".join(words) for words in answer.page.answers] == [FIRST + SECOND, ""]


async def test_of_one_that_was_cut_off_what_was_heard_is_kept(answer: Answer) -> None:
    await answer.subtitles.capture_text(FIRST)
    answer.subtitles.heard(0.5)
    assert answer.subtitles.end(complete=False) == "It opens "
    await answer.subtitles.capture_text("never said ")  # the LLM was not stopped yet
    answer.subtitles.flush()
    await answer.subtitles.capture_text("Yes. ")
    answer.subtitles.heard(0.0)
    assert await answer.read() == "Yes. "


async def test_what_no_voice_spoke_is_not_shown_with_the_next_answer(answer: Answer) -> None:
    await answer.subtitles.capture_text(FIRST)
    answer.subtitles.flush()
    await answer.subtitles.capture_text("Yes. ")
    answer.subtitles.heard(0.0)
    assert await answer.read() == "Yes. "


async def test_text_without_spaces_is_cut_anywhere(answer: Answer) -> None:
    await answer.subtitles.capture_text("\u56f3" * 100)
    answer.subtitles.heard(2.0)
    assert await answer.read() == "\u56f3" * 30
