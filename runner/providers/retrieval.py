"""An LLM without a model: it reads out the sentences of the documents that answer best."""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from livekit.agents import APIConnectionError, APIConnectOptions, llm, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr

from runner.errors import RunnerError
from runner.providers.answer import Answer, Embed, Passage, answer
from runner.providers.smalltalk import GREETING, small_talk

Search = Callable[[str], Awaitable[Sequence[Passage]]]

_NOTHING = "Nothing in the documents answers that. Please ask in other words, or something else."
_FOLLOW_UP = re.compile(
    r"(and|but|what about|how about|what if|why not)\b"
    r"|.*\b(it|its|that|this|they|them|those|these)\b"
)
_FOLLOW_UP_WORDS = 8  # a longer question stands by itself
_ABBREVIATION_CHARS = 3  # faq, api: spelled out by a voice when in capitals
_DELTA = re.compile(r"(?:\S+\s*){1,4}")


class RetrievalLLM(llm.LLM[Literal["metrics_collected", "error"]]):
    """Answers small talk by itself, all else from what ``search`` finds, or says it cannot.

    Args:
        search: a question's passages; the more, the better, near or not.
        embed: the vectors of texts, as the passages' own.
        max_sentences: the longest answer.
        min_similarity: what an answer must reach, a cosine; below, nothing is answered.
    """

    def __init__(
        self, search: Search, embed: Embed, *, max_sentences: int, min_similarity: float
    ) -> None:
        super().__init__()
        self._search = search
        self._embed = embed
        self._max_sentences = max_sentences
        self._min_similarity = min_similarity

    @property
    def model(self) -> str:
        """No model, but a name for the metrics."""
        return "documents"

    @property
    def provider(self) -> str:
        """The name that ``llm=retrieval`` has."""
        return "retrieval"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        """The reply to the caller's latest message. Tools are not called."""
        return _Reply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    async def reply(self, chat_ctx: llm.ChatContext) -> tuple[str, list[Passage]]:
        """What is said to the caller's latest message, and the passage that it is read from.

        Raises:
            APIConnectionError: search or embeddings did not serve.
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
            raise APIConnectionError(f"retrieval: {error}", retryable=False) from error
        return _NOTHING, []

    async def _find(self, wordings: list[str]) -> Answer | None:
        passages = await self._search(wordings[0])
        found = await answer(wordings, passages, self._embed, self._max_sentences)
        return found if found and found.similarity >= self._min_similarity else None


class _Reply(llm.LLMStream):
    """The reply in groups of words, and its length in words for the usage.

    ``extra["passages"]`` of the first delta holds what the reply is read from.
    """

    async def _run(self) -> None:
        assert isinstance(self._llm, RetrievalLLM)  # only its `chat` makes one
        text, passages = await self._llm.reply(self._chat_ctx)
        request = utils.shortuuid("retrieval_")
        read_from = llm.ChoiceDelta(role="assistant", extra={"passages": passages})
        self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=read_from))
        for words in _DELTA.findall(text):
            delta = llm.ChoiceDelta(role="assistant", content=words)
            self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=delta))
        asked = sum(len(text.split()) for text in _said(self._chat_ctx)[-1:])
        answered = len(text.split())
        usage = llm.CompletionUsage(
            prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered
        )
        self._event_ch.send_nowait(llm.ChatChunk(id=request, usage=usage))


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
