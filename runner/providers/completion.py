"""One streamed answer of ``/v1/chat/completions``: from its events to words, calls and usage."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from livekit.agents import llm, utils

from runner.providers.events import Event
from runner.providers.failure import Failure, Reason
from runner.providers.thoughts import Thoughts
from runner.providers.toolcalls import ToolCalls

DONE = "[DONE]"
_ABORTED = ("abort", "aborted", "cancelled")  # vLLM and SGLang, when they shut down


class Completion:
    """Reads events until the server's own mark of an end, ``finish_reason``.

    Args:
        failure: makes a failure of this server of a reason and what happened.
        refused: makes one of an error object.
        goes_on: whether it goes on with a message, so that a space at its beginning counts.
    """

    def __init__(
        self,
        failure: Callable[[Reason, str], Failure],
        refused: Callable[[object], Failure],
        *,
        goes_on: bool,
    ) -> None:
        self.finish = ""
        self.usage: llm.CompletionUsage | None = None
        self._failure = failure
        self._refused = refused
        self._goes_on = goes_on
        self._id = utils.shortuuid("chat_")
        self._thoughts = Thoughts()
        self._calls = ToolCalls()
        self._spoke = False
        self._blank = ""

    def take(self, event: Event) -> Iterator[llm.ChatChunk]:
        """The words that an event holds, if any.

        Raises:
            Failure: it is an error, or nothing that can be read.
        """
        if event.data == DONE:
            return
        if event.name == "error":
            raise self._refused(_error(event.data))
        try:
            data = json.loads(event.data)
            if data.get("error") or data.get("object") == "error":
                raise self._refused(data.get("error") or data)
            self.usage = _usage(data.get("usage")) or self.usage
            for choice in data.get("choices") or []:
                if not choice.get("index"):
                    yield from self._take_choice(choice)
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise self._malformed("an event of its answer cannot be read") from None

    def end(self) -> Iterator[llm.ChatChunk]:
        """What was kept until the answer's end: tool calls, whole.

        Raises:
            Failure: there was no end, or nothing before it.
        """
        self._check_finish()
        yield from self._said(self._thoughts.rest())
        try:
            calls = self._calls.whole()
        except (ValueError, RecursionError):
            raise self._malformed("a tool call is cut or no JSON") from None
        if calls:
            yield self._chunk(llm.ChoiceDelta(role="assistant", tool_calls=calls))
        elif not self._spoke:
            advice = "; max_tokens was used up, raise it" if self.finish == "length" else ""
            raise self._failure(Reason.EMPTY, f"an answer without a word{advice}")

    def usage_chunk(self) -> Iterator[llm.ChatChunk]:
        """What the answer cost, if the server said it."""
        if self.usage:
            yield llm.ChatChunk(id=self._id, usage=self.usage)

    def _take_choice(self, choice: dict[str, Any]) -> Iterator[llm.ChatChunk]:
        delta = choice.get("delta") or choice.get("message") or {}
        yield from self._said(self._thoughts.spoken(_text(delta.get("content"))))
        for piece in delta.get("tool_calls") or []:
            self._calls.add(piece)
        self.finish = str(choice.get("finish_reason") or self.finish)

    def _said(self, text: str) -> Iterator[llm.ChatChunk]:
        """Blanks wait for a word: an answer of them alone is empty."""
        if not self._spoke:
            self._blank += text
            if not self._blank.strip():
                return
            text = self._blank if self._goes_on else self._blank.lstrip()
            self._spoke = True
        if text:
            yield self._chunk(llm.ChoiceDelta(role="assistant", content=text))

    def _check_finish(self) -> None:
        if not self.finish:
            raise self._failure(Reason.CUT, "its answer ended without an end")
        if self.finish == "error":
            raise self._failure(Reason.BROKEN, "it failed in the middle of its answer")
        if self.finish in _ABORTED:
            raise self._failure(Reason.CUT, "it gave its answer up")

    def _malformed(self, what: str) -> Failure:
        return self._failure(Reason.MALFORMED, what)

    def _chunk(self, delta: llm.ChoiceDelta) -> llm.ChatChunk:
        return llm.ChatChunk(id=self._id, delta=delta)


def _error(data: str) -> object:
    """What an event of the name "error" holds: an object, some have another one in it."""
    try:
        error = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return error.get("error", error) if isinstance(error, dict) else error


def _text(content: object) -> str:
    """The words of a delta: a text, or parts of which some are thoughts.

    Raises:
        TypeError: it is something else.
    """
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            return "".join(_text(part.get("text")) for part in content if part["type"] == "text")
        case _:
            raise TypeError("content of another shape")


def _usage(usage: object) -> llm.CompletionUsage | None:
    """Tokens, as far as they are numbers: who counts wrong may still answer right."""
    if not isinstance(usage, dict):
        return None

    def count(table: object, key: str) -> int:
        value = table.get(key) if isinstance(table, dict) else None
        return value if isinstance(value, int) and value >= 0 else 0

    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens")
    return llm.CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        prompt_cached_tokens=cached,
        reasoning_tokens=count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        total_tokens=count(usage, "total_tokens") or prompt + completion,
    )
