"""Markdown taken apart into sentences that can be spoken, each with the question it answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from livekit.agents.tokenize.blingfire import SentenceTokenizer
from markdown_it import MarkdownIt
from markdown_it.token import Token

_MIN_WORDS = 3
_MAX_CHARS = 400  # half a minute of speech
_FENCE = "```\n"
_ENDS = (".", "!", "?")
_SPACES = ("softbreak", "hardbreak")

# "code" is the indented form: pieces of a nested list look like it once their list is cut off.
_MARKDOWN = MarkdownIt("commonmark").enable("table").disable("code")
_TOKENIZER = SentenceTokenizer(min_sentence_len=1)


@dataclass(frozen=True)
class Sentence:
    """One sentence without markup. ``topic`` is the question or heading above it, or empty."""

    text: str
    topic: str


@lru_cache(maxsize=512)
def sentences(
    markdown: str, *, heading: str | None, in_code: bool, cut: bool
) -> tuple[Sentence, ...]:
    """The whole sentences of a piece of markdown.

    Headings, tables and code are no sentences. Nor is a question: it is the topic of what
    follows, up to the next question or heading. A last sentence without an end is left out.

    Args:
        markdown: the piece.
        heading: the heading above its beginning.
        in_code: it begins inside fenced code.
        cut: it may begin inside a sentence, which is left out then.
    """
    found: list[Sentence] = []
    topic = " ".join(_text(token) for token in _MARKDOWN.parseInline(heading or ""))
    parts = list(_parts(_FENCE + markdown if in_code else markdown))
    for at, (is_heading, part) in enumerate(parts):
        is_cut = (cut and at == 0) or (at == len(parts) - 1 and not part.endswith(_ENDS))
        if is_heading or part.endswith("?"):
            topic = part
        elif _is_spoken(part) and not is_cut:
            found.append(Sentence(_ended(part), topic))
    return tuple(found)


def _parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """Headings (True) and sentences (False) in their order, without markup."""
    for above, token in pairwise(_MARKDOWN.parse(markdown)):
        if above.type == "heading_open":
            yield True, _text(token)
        elif above.type == "paragraph_open" and not token.content.startswith("|"):
            for part in _TOKENIZER.tokenize(_text(token)):
                yield False, part.removeprefix("A:").strip()


def _text(inline: Token) -> str:
    """Words only: no images, no HTML, no marks of emphasis, code or links."""
    pieces = (
        " " if child.type in _SPACES else child.content
        for child in inline.children or []
        if child.type in ("text", "code_inline", *_SPACES)
    )
    return " ".join("".join(pieces).split())


def _is_spoken(part: str) -> bool:
    """An introduction of what is left out ("Type this:") says nothing by itself."""
    words = len(part.split())
    return words >= _MIN_WORDS and len(part) <= _MAX_CHARS and not part.endswith(":")


def _ended(part: str) -> str:
    """Points of a list often have no full stop; speech needs one."""
    return part if part.endswith(_ENDS) else f"{part.rstrip(',;')}."
