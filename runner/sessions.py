"""UserSession: one caller's conversation, and its way into the database and onto the page.

What is said is only queued here: the audio path waits for nothing.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import ConversationItemAddedEvent, llm

from runner.outbox import Entry, Outbox
from runner.rag.search import Hit
from runner.record import Record
from runner.store import Message, Opening

log = logging.getLogger(__name__)

Publish = Callable[[str], Awaitable[None]]
"""Sends a line of JSON to the caller's page."""

Services = Callable[[], dict[str, Record]]
"""The records of who heard and who spoke the latest turn, by capability."""

_QUOTE_CHARS = 400
_PASSAGE_CHARS = 2000  # twice a chunk of the default size; of longer ones what is around the quote
_BEGINNING_CHARS = 24  # of an answer, enough to find it in the passage that it was read from
_WAITING_LINES = 1000
_LAST_LINES_S = 1.0


@dataclass
class UserSession:
    """A caller alone: who they are, which room they are in, and what has been said.

    ``session_id`` and ``history`` (the oldest message first) are new, or those with which a caller
    goes on who was cut off. ``language``: as they named it. ``worker_id`` and ``job_id`` answer for
    it; the terminal has none.
    """

    room_id: str
    participant_id: str
    llm_provider: str
    worker_id: str | None = None
    job_id: str = ""
    language: str | None = None
    session_id: uuid.UUID = field(default_factory=uuid.uuid4)
    history: list[Message] = field(default_factory=list)

    def opening(self, context: dict[str, object]) -> Opening:
        """How it is stored."""
        return Opening(
            room_id=self.room_id,
            participant_id=self.participant_id,
            llm_provider=self.llm_provider,
            context=context,
            worker_id=self.worker_id,
            job_id=self.job_id,
        )

    def chat_context(self) -> llm.ChatContext:
        """The history as an LLM is given it."""
        context = llm.ChatContext.empty()
        for message in self.history:
            context.add_message(role=message.role, content=message.content)
        return context


@dataclass(frozen=True)
class Turn:
    """A message as it is stored and shown. ``sources``: as `source` makes them. ``services``: for
    each capability who was asked and who served, of the LLM with its tokens. ``stages_s`` in
    seconds; absent: not measured. ``spoken_s``: how long the agent spoke."""

    role: str
    text: str
    interrupted: bool
    sources: list[dict[str, object]]
    services: dict[str, dict[str, object]]
    stages_s: dict[str, float]
    spoken_s: float | None = None

    def metadata(self) -> dict[str, object]:
        """The JSONB beside the message. ``response_s``: from the caller's last sound to the first
        of the answer; null: nobody waited, as at a greeting, or it was not heard."""
        return {
            "interrupted": self.interrupted,
            "sources": [_quoted(passage) for passage in self.sources],
            "served_by": {name: service["provider"] for name, service in self.services.items()},
            "services": self.services,
            "stages_s": self.stages_s,
            "response_s": self.stages_s.get("e2e"),
            "spoken_s": self.spoken_s,
        }

    def facts(self) -> dict[str, object]:
        """The same as `__str__` for programs."""
        told = self.metadata()
        kept = ("interrupted", "served_by", "services", "stages_s", "spoken_s")
        return {"role": self.role} | {name: told[name] for name in kept}

    def __str__(self) -> str:
        """One line for the log, without a word of what was said."""
        parts = [f"{name} {_told(service)}" for name, service in self.services.items()]
        times = [f"{stage} {seconds:.2f} s" for stage, seconds in self.stages_s.items()]
        return f"{self.role}: {', '.join([*parts, *times]) or 'text'}"

    def line(self) -> str:
        """The JSON that the page and ``task=call`` read: with whole passages."""
        said = {"role": self.role, "text": self.text}
        return json.dumps(said | self.metadata() | {"sources": self.sources})


class Recorder:
    """Turns what the session emits into rows and into lines for the page. ``searched_s``: how long
    the search of the latest turn took."""

    def __init__(
        self,
        session: UserSession,
        outbox: Outbox,
        services: Services,
        publish: Publish,
        searched_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._session = session
        self._searched_s = searched_s
        self._outbox = outbox
        self._services = services
        self._publish = publish
        self._lines: asyncio.Queue[str] = asyncio.Queue(_WAITING_LINES)
        self._end_of_turn: dict[str, float] = {}
        self._publisher = asyncio.create_task(self._tell(), name="page")

    def on_item(self, event: ConversationItemAddedEvent) -> None:
        """Takes a message that was said. Never waits, and does the work when the session, which
        calls it in the middle of a turn, has gone on."""
        if isinstance(event.item, llm.ChatMessage):
            asyncio.get_running_loop().call_soon(self._keep, event.item)

    def _keep(self, message: llm.ChatMessage) -> None:
        """Stores and tells a message, with what is known of it at that moment."""
        turn = self._turn(message)
        log.info("%s", turn, extra={"turn": turn.facts()})
        values = {"role": turn.role, "content": turn.text, "metadata": turn.metadata()}
        self._outbox.put(Entry("message", str(self._session.session_id), values))
        with suppress(asyncio.QueueFull):  # a page that does not read
            self._lines.put_nowait(turn.line())

    async def aclose(self) -> None:
        """Tells the page the last lines, for a moment at most, and stops."""
        await asyncio.sleep(0)  # what was said last is kept
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lines.join(), _LAST_LINES_S)
        self._publisher.cancel()

    def _turn(self, message: llm.ChatMessage) -> Turn:
        metrics = message.metrics
        answered = message.role == "assistant"
        if not answered:
            self._end_of_turn = _seconds(
                stt=metrics.get("transcription_delay"),
                end_of_turn=metrics.get("end_of_turn_delay"),
            )
        stages = self._end_of_turn | _seconds(
            retrieval=self._searched_s() if answered else None,
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
            spoken_s=_spoken_s(message) if answered else None,
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

    async def _tell(self) -> None:
        while True:
            line = await self._lines.get()
            try:
                await self._publish(line)
            except Exception as error:  # noqa: BLE001  a page that is gone is told nothing more
                log.info("the page was not told: %s", error)
            finally:
                self._lines.task_done()


def _told(service: dict[str, Any]) -> str:
    failed = [f"{tried['provider']} ({tried['reason']})" for tried in service["failovers"]]
    return " > ".join([*failed, service["provider"] or "nobody"])


def _seconds(**values: float | None) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items() if value is not None}


def _spoken_s(message: llm.ChatMessage) -> float | None:
    began = message.metrics.get("started_speaking_at")
    ended = message.metrics.get("stopped_speaking_at")
    return None if began is None or ended is None else round(ended - began, 4)


def source(hit: Hit, said: str) -> dict[str, object]:
    """A passage as it is shown: quoted from where ``said`` was read, else from its beginning."""
    at = max(hit.content.find(said[:_BEGINNING_CHARS]), 0)
    begins = max(at - _PASSAGE_CHARS // 2, 0)
    return {
        "filename": hit.filename,
        "heading": hit.heading,
        "page": hit.page,
        "quote": hit.content[at : at + _QUOTE_CHARS],
        "passage": hit.content[begins : begins + _PASSAGE_CHARS],
        "similarity": round(hit.similarity, 4),
    }


def _quoted(source: dict[str, object]) -> dict[str, object]:
    """As it is stored: the passage itself is among the documents."""
    return {name: value for name, value in source.items() if name != "passage"}
