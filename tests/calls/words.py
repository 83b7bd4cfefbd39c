"""Comparing what was said with what was heard."""

import re

WORD = re.compile(r"[a-z0-9']+")


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return WORD.findall(text.lower())


def word_error_rate(said: str, heard: str) -> float:
    """Levenshtein distance over words, a share of what was said."""
    wanted, got = words(said), words(heard)
    previous = list(range(len(got) + 1))
    for row, word in enumerate(wanted, start=1):
        current = [row]
        for column, other in enumerate(got, start=1):
            substituted = previous[column - 1] + (word != other)
            current.append(min(substituted, previous[column] + 1, current[-1] + 1))
        previous = current
    return previous[-1] / max(len(wanted), 1)
