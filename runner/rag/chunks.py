"""A document cut into windows of exactly one size, each repeating exactly so much of the last.

Splitters that respect paragraphs take the overlap for a maximum; the specification's figures
(1000 characters, 200 of overlap) are exact.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from markdown_it import MarkdownIt

_OUTLINE_CHARS = 1_000_000  # in longer texts headings are not looked for: it would take minutes
_HEADING_CHARS = 200  # a heading is stored with every chunk below it
_BLOCKS = MarkdownIt("commonmark").disable("inline")


@dataclass(frozen=True)
class Chunk:
    """A piece of a document.

    ``index`` counts from 0. ``heading`` is the markdown heading that stands above the start of
    ``text``, with its markup. ``in_code`` says that the start lies inside a fenced code block.
    ``page`` and ``last_page`` are those on which ``text`` begins and ends, where there are pages.
    """

    index: int
    text: str
    heading: str | None
    in_code: bool
    page: int | None = None
    last_page: int | None = None


def amount(number: int, noun: str = "chunk") -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def chunks(
    text: str,
    size: int,
    overlap: int,
    *,
    markdown: bool = True,
    pages: Sequence[tuple[int, int]] = (),
) -> list[Chunk]:
    """``text`` in pieces of exactly ``size`` characters; only the last one may be shorter.

    Each piece begins with the last ``overlap`` characters of the one before, so
    0 ≤ ``overlap`` < ``size``. Characters are whole code points; no text gives no chunk.
    ``markdown`` says that ``text`` has headings and code. ``pages`` holds where each page begins,
    in characters, and its number.
    """
    if not text:
        return []
    outline = _Outline(text if markdown and len(text) <= _OUTLINE_CHARS else "")
    starts = range(0, max(len(text) - overlap, 1), size - overlap)
    return [
        Chunk(
            index,
            text[start : start + size],
            outline.heading(start),
            outline.in_code(start),
            _page(pages, start),
            _page(pages, min(start + size, len(text)) - 1),
        )
        for index, start in enumerate(starts)
    ]


def _page(pages: Sequence[tuple[int, int]], at: int) -> int | None:
    begun = bisect_right(pages, at, key=lambda page: page[0])
    return pages[begun - 1][1] if begun else None


class _Outline:
    """Where the headings and the fenced code of a markdown text lie, in characters."""

    def __init__(self, text: str) -> None:
        lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        tokens = _BLOCKS.parse(text)
        self._headings: list[tuple[int, str]] = []
        self._fences: list[tuple[int, int]] = []
        for token, following in pairwise([*tokens, None]):
            if token is None or token.map is None:
                continue
            first, end = token.map
            if token.type == "heading_open" and following is not None:
                self._headings.append((lines[first], following.content[:_HEADING_CHARS]))
            elif token.type == "fence":
                self._fences.append((lines[first], lines[end - 1]))

    def heading(self, at: int) -> str | None:
        """The last heading that begins at or before the character ``at``."""
        above = bisect_right(self._headings, at, key=lambda heading: heading[0])
        return self._headings[above - 1][1] if above else None

    def in_code(self, at: int) -> bool:
        """Whether ``at`` lies behind an opening fence and not behind the closing one."""
        above = bisect_right(self._fences, at, key=lambda fence: fence[0])
        if not above:
            return False
        opening, closing = self._fences[above - 1]
        return opening < at <= closing
