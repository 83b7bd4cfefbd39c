"""How work is cut into pieces: sentences, sounds, texts."""

import numpy as np

from runner.models.minilm import Cache, Embedding
from runner.models.piper import pieces
from runner.models.vad import Span, joined


def cut(text: str, *, first: bool) -> list[str]:
    return ["".join(piece) for piece in pieces(list(text), first=first)]


def test_a_short_sentence_stays_whole():
    assert cut("One, two, three.", first=True) == ["One, two, three."]


def test_of_a_long_first_sentence_the_first_clause_comes_alone():
    text = "a" * 10 + "," + "b" * 30 + "," + "c" * 50
    assert cut(text, first=True) == ["a" * 10 + "," + "b" * 30 + ",", "c" * 50]
    assert cut(text, first=False) == [text]


def test_a_long_sentence_is_cut_after_a_clause():
    text = "ab cd ef, " * 20
    parts = cut(text, first=False)
    assert "".join(parts) == text
    assert len(parts) > 1
    assert all(part.endswith(",") and len(part) <= 100 for part in parts[:-1])


def test_a_sentence_without_a_clause_is_cut_only_when_it_is_very_long():
    assert cut("ab cd " * 33, first=True) == ["ab cd " * 33]
    for text in ("ab cd " * 100, "abcdef" * 100):
        parts = cut(text, first=False)
        assert "".join(parts) == text
        assert all(len(part) <= 200 for part in parts)
    assert all(part.endswith(" ") for part in cut("ab cd " * 100, first=False))


def test_pauses_are_joined_up_to_the_longest():
    spans = [Span(0, 10), Span(12, 20), Span(25, 40), Span(100, 110)]
    assert list(joined(spans, 40)) == [Span(0, 40), Span(100, 110)]
    assert list(joined(spans, 30)) == [Span(0, 20), Span(25, 40), Span(100, 110)]
    assert list(joined([], 30)) == []


def test_the_text_that_was_not_asked_for_longest_is_forgotten():
    cache = Cache(2)
    one, two, three = (Embedding(np.zeros(1, np.float32), number) for number in (1, 2, 3))
    cache.put("one", one)
    cache.put("two", two)
    assert cache.get("one") is one
    cache.put("three", three)
    assert cache.get("two") is None
    assert cache.get("one") is one
    assert cache.get("three") is three
