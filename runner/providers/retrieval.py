"""An LLM without a model: it reads out the sentences of the documents that answer best."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from pathlib import PurePosixPath

from livekit.agents import llm, utils

from runner.errors import RunnerError
from runner.providers.answer import Answer, Embed, Passage, answer
from runner.providers.failure import Failure, Reason
from runner.providers.request import Request
from runner.providers.smalltalk import GREETING, small_talk

Search = Callable[[str], Awaitable[Sequence[Passage]]]

_NOTHING = "Nothing in the documents answers that. Please ask in other words, or something else."
_ANEW = " … I lost the thread there. Let me look into the documents."
_FOLLOW_UP = re.compile(
    r"(and|but|what about|how about|what if|why not)\b"
    r"|.*\b(it|its|that|this|they|them|those|these)\b"
)
_FOLLOW_UP_WORDS = 8  # a longer question stands by itself
_ABBREVIATION_CHARS = 3  # faq, api: spelled out by a voice when in capitals
_DELTA = re.compile(r"(?:\S+\s*){1,4}")


class Retrieval:
    """Answers small talk by itself, all else from what ``search`` finds, or says it cannot.

    Args:
        search: a question's passages; the more, the better, near or not.
        embed: the vectors of texts, as the passages' own.
        max_sentences: the longest answer.
        min_similarity: what an answer must reach, a cosine; below, nothing is answered.
    """

    model = "documents"
    """No model, but a name for the record."""
    continues = True
    """It cannot go on with another's sentence. It says so, and begins anew."""

    def __init__(
        self, search: Search, embed: Embed, *, max_sentences: int, min_similarity: float
    ) -> None:
        self._search = search
        self._embed = embed
        self._max_sentences = max_sentences
        self._min_similarity = min_similarity

    async def answer(self, request: Request) -> AsyncGenerator[llm.ChatChunk, None]:
        """The reply to the caller's latest message, in groups of words. Tools are not called.

        ``extra["passages"]`` of the first delta holds what the reply is read from.
        """
        text, passages = await self.reply(request.chat_ctx)
        if request.said:
            text = f"{_ANEW} {text}"
        name = utils.shortuuid("retrieval_")
        read_from = llm.ChoiceDelta(role="assistant", extra={"passages": passages})
        yield llm.ChatChunk(id=name, delta=read_from)
        for words in _DELTA.findall(text):
            delta = llm.ChoiceDelta(role="assistant", content=words)
            yield llm.ChatChunk(id=name, delta=delta)

    async def aclose(self) -> None:
        """Holds nothing."""

    async def reply(self, chat_ctx: llm.ChatContext) -> tuple[str, list[Passage]]:
        """What is said to the caller's latest message, and the passage that it is read from.

        Raises:
            Failure: search or embeddings did not serve.
        """
        said = _said(chat_ctx)
        if not said:
            return GREETING, []
        if talk := small_talk(said[-1]):
            return talk, []
        try:
            for wordings in _wordings(said):
                if found := await self._find(wordings):
                    document = spoken_name(found.passage.filename)
                    text = f"{found.text} That is according to the document {document}."
                    return text, [found.passage]
        except RunnerError as error:
            raise Failure(Reason.BROKEN, f"retrieval: {error}") from error
        return _NOTHING, []

    async def _find(self, wordings: list[str]) -> Answer | None:
        passages = await self._search(wordings[0])
        found = await answer(wordings, passages, self._embed, self._max_sentences)
        return found if found and found.similarity >= self._min_similarity else None


def spoken_name(filename: str) -> str:
    """A document's name as it is said: of ``guides/01-first-steps.md``, "first steps"."""
    stem = PurePosixPath(filename).stem
    words = re.sub(r"[\W_]+", " ", stem).strip()
    name = re.sub(r"^\d+ (?=\D)", "", words) or stem
    return name.upper() if len(name) <= _ABBREVIATION_CHARS else name


def _said(chat_ctx: llm.ChatContext) -> list[str]:
    """What the caller said so far, oldest first."""
    texts = (item.text_content for item in chat_ctx.messages() if item.role == "user")
    return [text.strip() for text in texts if text and text.strip()]


def _wordings(said: list[str]) -> Iterator[list[str]]:
    """How to ask for what was said last. Where it is short and leans on the question before
    ("And how long does it take?"), first together with that, so that an answer suits both.
    """
    *before, latest = said
    leans = _FOLLOW_UP.match(latest.casefold()) and len(latest.split()) <= _FOLLOW_UP_WORDS
    if before and leans:
        yield [f"{before[-1]} {latest}", latest]
    yield [latest]
