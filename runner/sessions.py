"""UserSession: one caller's conversation, and its way into the database and onto the page.

What is said is queued here and written by a task of its own: the audio path waits for nothing.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import ConversationItemAddedEvent, llm

from runner.failover import Service
from runner.rag.search import Hit
from runner.store import Store

log = logging.getLogger(__name__)

Publish = Callable[[str], Awaitable[None]]
"""Sends a line of JSON to the caller's page."""

Services = Callable[[], dict[str, Service]]
"""The records of who heard and who spoke the latest turn, by capability."""

_QUOTE_CHARS = 400
_BEGINNING_CHARS = 24  # of an answer, enough to find it in the passage that it was read from
_OUTBOX_MESSAGES = 1000
_FLUSH_TIMEOUT_S = 5.0


@dataclass
class UserSession:
    """A caller alone: who they are, and what served their latest turn."""

    room_id: str
    participant_id: str
    llm_provider: str
    session_id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True)
class Turn:
    """A message as it is stored and shown. ``services``: for each capability who was asked and who
    served. ``stages_s`` in seconds; absent: not measured."""

    role: str
    text: str
    interrupted: bool
    sources: list[dict[str, object]]
    services: dict[str, dict[str, object]]
    stages_s: dict[str, float]

    def metadata(self) -> dict[str, object]:
        """The JSONB beside the message."""
        return {
            "interrupted": self.interrupted,
            "sources": self.sources,
            "served_by": {name: service["provider"] for name, service in self.services.items()},
            "services": self.services,
            "stages_s": self.stages_s,
        }

    def __str__(self) -> str:
        """One line for the log, without a word of what was said."""
        parts = [f"{name} {_told(service)}" for name, service in self.services.items()]
        times = [f"{stage} {seconds:.2f} s" for stage, seconds in self.stages_s.items()]
        return f"{self.role}: {', '.join([*parts, *times]) or 'text'}"

    def line(self) -> str:
        """The JSON that the page and ``task=call`` read."""
        return json.dumps({"role": self.role, "text": self.text, **self.metadata()})


class Recorder:
    """Turns what the session emits into rows and into lines for the page."""

    def __init__(
        self,
        session: UserSession,
        store: Store,
        services: Services,
        publish: Publish,
    ) -> None:
        self._session = session
        self._store = store
        self._services = services
        self._publish = publish
        self._outbox: asyncio.Queue[Turn] = asyncio.Queue(_OUTBOX_MESSAGES)
        self._end_of_turn: dict[str, float] = {}
        self._writer = asyncio.create_task(self._write(), name="outbox")

    def on_item(self, event: ConversationItemAddedEvent) -> None:
        """Queues a message that was said, with what is known of it at that moment."""
        if not isinstance(event.item, llm.ChatMessage):
            return
        turn = self._turn(event.item)
        log.info("%s", turn)
        try:
            self._outbox.put_nowait(turn)
        except asyncio.QueueFull:
            log.error(
                "the outbox is full: a message of session %s is lost", self._session.session_id
            )

    async def aclose(self) -> None:
        """Writes what is queued, for a few seconds at most, and stops."""
        try:
            await asyncio.wait_for(self._outbox.join(), _FLUSH_TIMEOUT_S)
        except TimeoutError:
            log.error("%d messages were not written in time", self._outbox.qsize())
        self._writer.cancel()

    def _turn(self, message: llm.ChatMessage) -> Turn:
        metrics = message.metrics
        answered = message.role == "assistant"
        if not answered:
            self._end_of_turn = _seconds(
                stt=metrics.get("transcription_delay"),
                end_of_turn=metrics.get("end_of_turn_delay"),
            )
        stages = self._end_of_turn | _seconds(
            llm_ttft=metrics.get("llm_node_ttft"),
            tts_ttfb=metrics.get("tts_node_ttfb"),
            e2e=metrics.get("e2e_latency"),
        )
        return Turn(
            role=message.role,
            text=message.text_content or "",
            interrupted=bool(message.interrupted),
            sources=[
                source(hit, message.text_content or "") for hit in message.extra.get("passages", [])
            ],
            services=self._served(message) if answered else {},
            stages_s=stages,
        )

    def _served(self, message: llm.ChatMessage) -> dict[str, dict[str, object]]:
        """Who heard, thought and spoke; the LLM's record came with the words."""
        services = {
            name: service.metadata()
            for name, service in self._services().items()
            if service.attempts
        }
        if answered := message.extra.get("service"):
            services["llm"] = answered
        return services

    async def _write(self) -> None:
        while True:
            turn = await self._outbox.get()
            try:
                await self._publish(turn.line())
                await self._store.add_message(
                    self._session.session_id, turn.role, turn.text, turn.metadata()
                )
            except Exception:
                log.exception("a message of session %s was not stored", self._session.session_id)
            finally:
                self._outbox.task_done()


def _told(service: dict[str, Any]) -> str:
    failed = [f"{tried['provider']} ({tried['reason']})" for tried in service["failovers"]]
    return " > ".join([*failed, service["provider"] or "nobody"])


def _seconds(**values: float | None) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items() if value is not None}


def source(hit: Hit, said: str) -> dict[str, object]:
    """A passage as it is shown: quoted from where ``said`` was read, else from its beginning."""
    at = max(hit.content.find(said[:_BEGINNING_CHARS]), 0)
    return {
        "filename": hit.filename,
        "heading": hit.heading,
        "quote": hit.content[at : at + _QUOTE_CHARS],
        "similarity": round(hit.similarity, 4),
    }
