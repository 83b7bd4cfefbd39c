"""A call with a speech-to-speech model: documents as a tool, and a call that outlives its
connection.

There is no chain here: one model hears, thinks and speaks. What it has no place for is done
around it. It cannot be given passages before it answers, so it asks for them; and where its
connection dies, it is asked to go on from what the caller has heard.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from livekit.agents import (
    Agent,
    AgentSession,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    RunContext,
    llm,
)
from livekit.agents.metrics import RealtimeModelMetrics

from runner.candidates import secret
from runner.config import GoogleRealtimeLLM
from runner.passages import Search, delimited
from runner.providers.failure import Failure, Reason
from runner.providers.google_live import broke_off, failure_of
from runner.rag.search import Hit
from runner.record import counted

log = logging.getLogger(__name__)

_SEARCH_S = 2.0  # nobody speaks meanwhile
_TRIES = 6  # connections in a row that come to nothing; the call ends with the last
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 5.0
_SETTLE_S = 0.05  # from an answer's end to the error that ended it
_TOOL_REPLY_S = 4.0  # from a tool's result to the model's answer
_NOTHING_FOUND = "The documents hold nothing about that."
_NOT_SEARCHED = "The documents cannot be searched right now."
_SEARCH_TOOL = (
    "Searches the documents. Call it before you answer any question about facts, and answer from "
    "what it finds."
)


class RealtimeAgent(Agent):
    """Searches the documents when its model asks for it.

    What was found is kept in ``extra["passages"]`` of the answer that follows, as the other
    agents' is; ``extra["service"]`` says who spoke.
    """

    def __init__(
        self,
        *,
        instructions: str,
        history: llm.ChatContext,
        search: Search | None,
        service: dict[str, object],
    ) -> None:
        tool = llm.function_tool(
            self._search_documents, name="search_documents", description=_SEARCH_TOOL
        )
        super().__init__(
            instructions=instructions, chat_ctx=history, tools=[tool] if search else []
        )
        self._search = search
        self._service = service
        self._searches: dict[str, asyncio.Task[list[Hit] | None]] = {}
        self.passages: list[Hit] = []
        """What was found for the answer that is still to come."""
        self._cost: RealtimeModelMetrics | None = None

    def watch(self, session: AgentSession[None]) -> None:
        """From now on the session's messages carry their sources. Before anybody who reads them:
        handlers run in the order of their registration."""
        session.on("function_tools_executed", self._on_searched)
        session.on("conversation_item_added", self._on_item)

    async def _search_documents(self, context: RunContext[None], question: str) -> str:
        """A call is made once, however often the model's connection repeats it."""
        call_id = context.function_call.call_id
        if call_id not in self._searches:
            self._searches[call_id] = asyncio.create_task(self._find(question))
        hits = await asyncio.shield(self._searches[call_id])
        if hits is None:
            return _NOT_SEARCHED
        return delimited(hits) if hits else _NOTHING_FOUND

    async def _find(self, question: str) -> list[Hit] | None:
        """None: the search failed."""
        assert self._search is not None
        try:
            async with asyncio.timeout(_SEARCH_S):
                return await self._search(question)
        except Exception as error:  # noqa: BLE001  whatever it was, the call goes on
            log.warning("the search failed: %s", str(error) or type(error).__name__)
            return None

    def _on_searched(self, event: FunctionToolsExecutedEvent) -> None:
        for call in event.function_calls:
            search = self._searches.get(call.call_id)
            if search is not None and search.done() and not search.cancelled():
                self.passages += search.result() or []

    def on_cost(self, cost: RealtimeModelMetrics) -> None:
        """What an answer cost. It comes with the answer's end, before it was heard to the end."""
        self._cost = cost

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        message = event.item
        if not isinstance(message, llm.ChatMessage):
            return
        if message.role == "assistant":
            message.extra["service"] = self._service | self._tokens(message.id)
            if self.passages:
                message.extra["passages"] = self.passages
        self.passages = []  # an answer that was never heard leaves none to the next

    def _tokens(self, answer: str) -> dict[str, object]:
        cost = self._cost
        if cost is None or cost.request_id != answer:
            return {}
        return {"tokens": counted(cost.input_tokens, cost.output_tokens)}


class Lifeline:
    """Keeps a call alive whose model loses its connection.

    Args:
        config: the provider's section.
        session: not started yet; its LLM is `live_model`'s.
        instructions: the agent's.
        history: what was said before, to a caller who was cut off.
        search: the documents; None: there are none.
    """

    def __init__(
        self,
        config: GoogleRealtimeLLM,
        session: AgentSession[None],
        instructions: str,
        history: llm.ChatContext,
        search: Search | None,
    ) -> None:
        assert isinstance(session.llm, llm.RealtimeModelFallbackAdapter)
        self.agent = RealtimeAgent(
            instructions=instructions,
            history=history,
            search=search,
            service={
                "provider": config.name,
                "model": config.model,
                "attempts": 1,
                "failovers": [],
                "permit_wait_s": 0.0,
            },
        )
        self._config = config
        self._session = session
        self._model = session.llm
        self._broken = 0  # connections in a row that came to nothing
        self._answers = 0  # begun so far
        self._renewals = 0  # of the connection, by this object
        self._connected = asyncio.Event()
        self._connected.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.agent.watch(session)
        session.on("error", self._on_error)
        session.on("function_tools_executed", self._on_tool)
        session.on("close", self._on_close)

    def start(self, greeting: str) -> None:
        """Once the session has begun. The greeting is also the probe: a setup that is never
        answered shows in nothing else."""
        model_session = self.agent.realtime_llm_session
        model_session.on("generation_created", self._on_answer)
        model_session.on("metrics_collected", self.agent.on_cost)
        model_session.on("input_speech_stopped", self._on_answer_ended)
        if greeting:
            self._spawn(self._ask(f"Greet the caller with: {greeting}"))

    def _on_answer(self, _: object) -> None:
        self._answers += 1
        self._broken = 0

    def _on_answer_ended(self, _: object) -> None:
        if broke_off(self.agent.realtime_llm_session):
            self._spawn(self._go_on(self._answers))

    def _on_tool(self, _: object) -> None:
        self._spawn(self._after_tool(self._answers))

    def _on_error(self, event: ErrorEvent) -> None:
        """The plugin mends what it calls recoverable by itself; the rest is mended here, and only
        what the operator must mend ends the call."""
        error = event.error
        if not isinstance(error, llm.RealtimeModelError):
            return
        failure = failure_of(self._config, secret(self._config.api_key_env), error.error)
        if error.recoverable:
            log.warning("%s; it is connected again", failure)
            return
        self._broken += 1
        if failure.reason is Reason.REFUSED or self._broken > _TRIES:
            log.error("%s; the call ends", failure)
            return
        error.recoverable = True  # else the session closes
        self._connected.clear()
        self._spawn(self._reconnect(failure))

    def _on_close(self, _: CloseEvent) -> None:
        for task in self._tasks:
            task.cancel()

    async def _reconnect(self, failure: Failure) -> None:
        wait_s = min(_BACKOFF_S * 2 ** (self._broken - 1), _LONGEST_BACKOFF_S)
        log.warning("%s; connecting anew in %.1f s (%d)", failure, wait_s, self._broken)
        await asyncio.sleep(wait_s)
        if self._session.agent_state == "speaking":  # what has come is heard to its end
            await self._spoken()
        await self._renew()
        self._connected.set()

    async def _renew(self) -> None:
        """A new connection. What is being asked of the old one counts as interrupted."""
        self._renewals += 1
        await self._model.restart_session()

    async def _spoken(self) -> bool:
        """Waits until the agent is silent; whether it was left to finish."""
        speech = self._session.current_speech
        if speech is None:
            return True
        await speech
        return not speech.interrupted

    async def _go_on(self, answer: int) -> None:
        """The rest of an answer that broke off, unless the caller or another answer came first."""
        finished = await self._spoken()
        await asyncio.sleep(_SETTLE_S)
        if finished and self._answers == answer:
            await self._ask(_instruction_to_go_on(self._heard()) + self._found())

    async def _after_tool(self, answer: int) -> None:
        """A result that was lost with its connection is told again."""
        await asyncio.sleep(_TOOL_REPLY_S)
        if self._answers == answer and self.agent.passages:
            await self._ask("Answer the caller's last question." + self._found())

    async def _ask(self, instructions: str) -> None:
        """An answer to ``instructions``, by a new connection where the present one is mute."""
        for _ in range(_TRIES):
            await self._connected.wait()
            answers, renewals = self._answers, self._renewals
            speech = self._session.generate_reply(instructions=instructions)
            await speech
            if self._answers != answers:
                return
            if self._renewals != renewals or not self._connected.is_set():
                continue
            if speech.interrupted:  # by the caller
                return
            log.warning("%s does not answer; connecting anew", self._config.name)
            await self._renew()

    def _heard(self) -> str:
        """The end of the conversation, if it is the agent's."""
        for item in reversed(self._session.history.items):
            if isinstance(item, llm.ChatMessage):
                return item.text_content or "" if item.role == "assistant" else ""
        return ""

    def _found(self) -> str:
        return f"\n{delimited(self.agent.passages)}" if self.agent.passages else ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """``work`` beside the call; the session's end is its end."""
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except RuntimeError as error:  # the session closed meanwhile
        log.info("the call was not mended: %s", error)


def _instruction_to_go_on(heard: str) -> str:
    if not heard:
        return "Your connection broke before you answered. Answer the caller's last question."
    return (
        "Your connection broke in the middle of your answer. The caller has heard this much of "
        f"it:\n<said>{heard}</said>\nSay only what comes after it, beginning with the next word. "
        "Do not repeat any of it, do not apologize, do not mention the interruption."
    )
