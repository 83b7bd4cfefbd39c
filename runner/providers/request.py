"""What a chain asks of an LLM, whoever answers it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from livekit.agents import llm


@dataclass(frozen=True)
class Request:
    """One answer to be written.

    ``said``: the words of it that another provider has already handed on to speech; they stand,
    and what is written now comes after them. It ends with a whole word, without a space.
    """

    chat_ctx: llm.ChatContext
    tools: list[llm.Tool] = field(default_factory=list)
    tool_choice: llm.ToolChoice | None = None
    said: str = ""


class Answerer(Protocol):
    """An LLM as a chain sees it: it is asked once, the chain tries again and keeps the time."""

    model: str
    continues: bool
    """True: what follows ``Request.said`` follows it exactly. False: it was asked to go on in
    words, so it may begin with some of them again."""

    def answer(self, request: Request) -> AsyncGenerator[llm.ChatChunk, None]:
        """The answer in pieces, ended by the provider's own mark of an end.

        Tool calls come whole. Closing the generator ends the request at once.

        Raises:
            Failure: the provider did not serve, or stopped before the end.
        """
        ...

    async def aclose(self) -> None:
        """Gives back what it holds."""
        ...


def instruction_to_continue(said: str) -> str:
    """What a provider that cannot go on with a message is told to do."""
    return (
        "You were cut off in the middle of your answer. The caller has already heard this much "
        f"of it:\n<said>{said}</said>\nWrite only what comes after it, beginning with the next "
        "word. Do not repeat any of it, do not apologize, do not mention the interruption."
    )
