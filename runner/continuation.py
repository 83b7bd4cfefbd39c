"""How an answer goes on when another provider takes it over: no word twice, none lost.

What was handed on to speech will be heard, so it stands. It is handed on in whole words, because
a model that is given half a word to go on from does not know that it is half.
"""

import re
from collections.abc import AsyncGenerator

from livekit.agents import llm

_UNFINISHED = re.compile(r"\s*[A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff'\u2019-]*$")
"""A last word that the next token may lengthen, and the space at the end. Only scripts that part
their words by spaces: the others are handed on as they come."""
_SPACE = re.compile(r"\s*$")
_WORD = re.compile(r"\S+")
_RESTART_WORDS = 3  # so many equal words at the beginning are no chance
_NOT_IN_WORDS = re.compile(r"[\W_]+")


class Words:
    """Text in pieces, handed on in whole words. ``said`` is what was handed on so far."""

    def __init__(self) -> None:
        self.said = ""
        self._held = ""

    def take(self, piece: str) -> str:
        """What of ``piece``, and of what was held, can be handed on. The first piece is not
        held, whatever it is: it starts the clock by which an answer is judged."""
        text = self._held + piece
        unfinished = (_UNFINISHED if self.said else _SPACE).search(text)
        whole = text[: unfinished.start()] if unfinished else text
        self._held = text[len(whole) :]
        self.said += whole
        return whole

    def rest(self) -> str:
        """The last word, when the answer is at its end."""
        rest, self._held = self._held, ""
        self.said += rest
        return rest

    def drop(self) -> None:
        """Forgets what was held: another provider writes it again."""
        self._held = ""


class Overlap:
    """What a model says again of ``said``, though it was asked to go on after it, is taken away.

    Words are compared without their case and punctuation. A beginning that may still turn out to
    be a repetition is held back, so a few words' time is lost at most. A single word, which may be
    half of one, is compared by its letters.
    """

    def __init__(self, said: str) -> None:
        self._said = said
        self._before = [_plain(word) for word in _WORD.findall(said)]
        self._stub = said.strip() if is_stub(said) else ""
        self._held = ""
        self._decided = not self._before

    def take(self, piece: str) -> str:
        """What of the text so far is new; empty while that is open."""
        if self._decided:
            return piece
        self._held += piece
        if self._stub:
            return self._without_stub() if len(self._held.lstrip()) >= len(self._stub) else ""
        words = list(_WORD.finditer(self._held))
        if not self._held[-1:].isspace():
            words = words[:-1]  # it may become longer
        if self._may_repeat([_plain(word.group()) for word in words]):
            return ""
        return self._decide(words)

    def rest(self) -> str:
        """What is new of the text that was held when it ended."""
        if self._decided:
            return ""
        return (
            self._without_stub() if self._stub else self._decide(list(_WORD.finditer(self._held)))
        )

    def _may_repeat(self, words: list[str]) -> bool:
        """Whether ``words`` are so far what was said from some word on, and not yet to its end."""
        before, count = self._before, len(words)
        return any(before[at : at + count] == words for at in range(len(before) - count))

    def _decide(self, words: "list[re.Match[str]]") -> str:
        self._decided = True
        repeated = self._repeated([_plain(word.group()) for word in words])
        begin = words[repeated - 1].end() if repeated else 0
        return self._joined(self._held[begin:])

    def _without_stub(self) -> str:
        self._decided = True
        new = self._held.lstrip()
        again = new.casefold().startswith(self._stub.casefold())
        return new[len(self._stub) :] if again else self._joined(new)

    def _repeated(self, words: list[str]) -> int:
        """How many of the first ``words`` were said already."""
        before = self._before
        for count in range(min(len(words), len(before)), 0, -1):
            if before[-count:] == words[:count]:
                return count
        same = 0
        while same < min(len(words), len(before)) and words[same] == before[same]:
            same += 1
        return same if same >= _RESTART_WORDS else 0

    def _joined(self, new: str) -> str:
        """``new`` with the space that parts it from what was said."""
        parted = not new or new[0].isspace() or not new[0].isalnum() or self._said[-1:].isspace()
        return new if parted else f" {new}"


async def without_repetition(
    chunks: AsyncGenerator[llm.ChatChunk, None], said: str
) -> AsyncGenerator[llm.ChatChunk, None]:
    """``chunks`` of a model that was told to go on after ``said``, without what it says again."""
    overlap = Overlap(said)
    last = None
    async for chunk in chunks:
        last = chunk
        if chunk.delta and chunk.delta.content:
            chunk.delta.content = overlap.take(chunk.delta.content) or None
        yield chunk
    if last is not None and (rest := overlap.rest()):
        yield llm.ChatChunk(id=last.id, delta=llm.ChoiceDelta(role="assistant", content=rest))


def is_stub(said: str) -> bool:
    """Whether so little was said that an answer may as well begin anew: one word, or half of it."""
    return len(_WORD.findall(said)) == 1


def _plain(word: str) -> str:
    return _NOT_IN_WORDS.sub("", word).casefold()
