"""Where an answer is cut to be spoken: its first words are heard while the rest is thought."""

import re
from collections.abc import AsyncIterator

from livekit.agents import tokenize, tts
from livekit.agents.voice.transcription.filters import filter_emoji, filter_markdown

from runner.chains import TTSChain

_LEAST_CHARS = 15  # about a second of speech, in which the next words become sound
_CLOSING = r"[\"'\u201d\u2019)\]]*\s"  # quotes and brackets belong to what they close
_CLAUSE = re.compile(rf"[,;:!?\u2026\u2013\u2014]{_CLOSING}")
_CLAUSE_SO_FAR = re.compile(r"(?<=[^\W\d_])[,;]$")  # after a letter nothing belongs to it: no 1,000
_SENTENCE = re.compile(rf"\.{_CLOSING}")


class Speech(tts.StreamAdapter):
    """A chain of voices as LiveKit gives them words: as they come."""

    def __init__(self, chain: TTSChain) -> None:
        super().__init__(tts=chain, sentence_tokenizer=Clauses(retain_format=True))
        self.chain = chain


class Clauses(tokenize.blingfire.SentenceTokenizer):
    """Sentences, but of the first one its first clause goes ahead."""

    def stream(self, *, language: str | None = None) -> tokenize.SentenceStream:
        return _Stream(super().stream(language=language))


class _Stream(tokenize.SentenceStream):
    """``sentences`` are given the first clause to itself, and then the rest."""

    def __init__(self, sentences: tokenize.SentenceStream) -> None:
        super().__init__()
        self._sentences = sentences
        self._head: str | None = ""

    def push_text(self, text: str) -> None:
        if self._head is None:
            self._sentences.push_text(text)
            return
        self._head += text
        if end := clause_end(self._head):
            first, rest, self._head = self._head[:end], self._head[end:], None
            self._sentences.push_text(first)
            self._sentences.flush()
            self._sentences.push_text(rest)
        elif _SENTENCE.search(self._head, _LEAST_CHARS):
            self._release()

    def flush(self) -> None:
        self._release()
        self._sentences.flush()

    def end_input(self) -> None:
        self._release()
        self._sentences.end_input()

    async def aclose(self) -> None:
        await self._sentences.aclose()

    async def __anext__(self) -> tokenize.TokenData:
        return await anext(self._sentences)

    def _release(self) -> None:
        """There is no clause to go ahead."""
        if self._head is not None:
            head, self._head = self._head, None
            self._sentences.push_text(head)


async def cut(text: str) -> list[str]:
    """The pieces of ``text`` as a session gives them to its voices, when it is said whole."""

    async def whole() -> AsyncIterator[str]:
        yield text

    pieces = Clauses(retain_format=True).stream()
    async for words in filter_emoji(filter_markdown(whole())):  # a session's own, in its order
        pieces.push_text(words)
    pieces.end_input()
    return [words async for piece in pieces if (words := piece.token.strip())]


def clause_end(text: str) -> int:
    """Where the first clause of ``text`` ends that is long enough to be spoken to itself; 0: it is
    not known yet, or a sentence ends before."""
    found = _CLAUSE.search(text, _LEAST_CHARS) or _CLAUSE_SO_FAR.search(text, _LEAST_CHARS)
    if not found or _SENTENCE.search(text, 0, found.start()):
        return 0
    return found.end()
