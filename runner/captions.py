"""What is said in a call, while it is said: for an operator who listens."""

from collections.abc import Callable

from livekit.agents import ConversationItemAddedEvent, UserInputTranscribedEvent, llm
from livekit.agents.voice import io

Tell = Callable[[str, str], None]
"""Told a role, and what it said so far."""


class Captions(io.TextOutput):
    """The agent's words as they are heard, given as LiveKit gives them to the caller's page, and
    the caller's as they are written down."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(label="captions", next_in_chain=None)
        self._tell = tell
        self._spoken = ""  # by the agent
        self._heard = ""  # of the caller's turn, for good

    async def capture_text(self, text: str) -> None:
        self._spoken += text
        self._tell("assistant", self._spoken)

    def flush(self) -> None:
        self._spoken = ""

    def on_transcript(self, event: UserInputTranscribedEvent) -> None:
        """Takes what the caller said; it may be heard otherwise later, unless it is final."""
        words = f"{self._heard} {event.transcript}".strip()
        if event.is_final:
            self._heard = words
        if words:
            self._tell("user", words)

    def on_item(self, event: ConversationItemAddedEvent) -> None:
        """A message is whole: what the caller says next is another one."""
        if isinstance(event.item, llm.ChatMessage) and event.item.role == "user":
            self._heard = ""
