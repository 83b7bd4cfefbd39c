"""The first clause of an answer goes ahead; after it, sentences go."""

import pytest

from runner.clauses import Clauses, clause_end

ANSWER = "To change the greeting, update the row. Then call again, and you hear it."


async def spoken(pieces: list[str]) -> list[str]:
    """What is given to the voice, piece by piece."""
    stream = Clauses(retain_format=True).stream()
    for piece in pieces:
        stream.push_text(piece)
    stream.end_input()
    return [data.token.strip() async for data in stream]


async def test_the_first_clause_goes_ahead_and_then_sentences() -> None:
    first, rest = (
        "To change the greeting,",
        ["update the row.", "Then call again, and you hear it."],
    )
    words = [f"{word} " for word in ANSWER.split()]
    said = await spoken(words)
    assert said[0] == first
    assert " ".join(said) == ANSWER
    assert said[1:] in (rest, [" ".join(rest)])


async def test_the_first_clause_does_not_wait_for_what_follows() -> None:
    stream = Clauses(retain_format=True).stream()
    stream.push_text("To change the greeting,")
    assert (await anext(stream)).token.strip() == "To change the greeting,"


@pytest.mark.parametrize(
    "answer",
    ["Yes.", "", "No, never.", "It opens at nine. Then, perhaps, it closes.", "Über 1,000 Leute"],
)
async def test_no_word_is_lost_or_added(answer: str) -> None:
    assert " ".join(await spoken(list(answer))) == answer
    assert " ".join(await spoken([answer])) == answer


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("To change the greeting, update", "To change the greeting, "),
        ("To change the greeting,", "To change the greeting,"),  # the next word is not waited for
        ("There are about 1,", ""),  # what follows the comma may belong to it: 1,000
        ("Yes, it does open", ""),  # too short to be spoken to itself
        ("It is open today. Tomorrow, it", ""),  # a sentence ends before
        ("What do you mean? I", "What do you mean? "),
        ("They paid 1,000 crowns for it, and", "They paid 1,000 crowns for it, "),
        ('He said "call me tomorrow," and', 'He said "call me tomorrow," '),
    ],
)
def test_a_clause_ends_where_a_speaker_would_breathe(text: str, clause: str) -> None:
    assert text[: clause_end(text)] == clause
