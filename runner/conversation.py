"""One conversation, put together: session row, persona, chains, agent, recorder.

A call in a room and a chat in the terminal are the same conversation with other ears.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from livekit.agents import (
    Agent,
    AgentSession,
    APIConnectOptions,
    UserInputTranscribedEvent,
    inference,
)
from livekit.agents.voice.agent_session import SessionConnectOptions

from runner import build, database
from runner.agent import VoiceAgent, turn_handling
from runner.chains import STTChain, TTSChain
from runner.config import Agent as Persona
from runner.config import Config, GoogleRealtimeLLM
from runner.errors import DatabaseError
from runner.fingerprint import fingerprint
from runner.folders import outbox_dir
from runner.outbox import Entry, Outbox
from runner.rag import embedding
from runner.rag.search import Search
from runner.record import Record
from runner.sessions import Publish, Recorder, UserSession
from runner.store import Instructions, Store
from runner.switchboard import Desk

if TYPE_CHECKING:  # it loads Google's client, which only its own calls need
    from runner.realtime import Lifeline

log = logging.getLogger(__name__)

_POOL_SIZE = 2  # a call writes one message at a time and searches once a turn
_ONCE = APIConnectOptions(max_retry=0)  # the chains try again by themselves
_LAST_WORDS_S = 0.5  # for what was said right before hanging up
_NO_END = 1_000_000  # failed turns in a row after which LiveKit would hang up: the call lives on


@dataclass(frozen=True)
class Conversation:
    """What is left to do: start ``session`` with ``agent``, and greet."""

    user: UserSession
    session: AgentSession[None]
    agent: Agent
    greeting: str
    lifeline: "Lifeline | None" = None

    async def greet(self) -> None:
        """Says the greeting; a speech-to-speech model is asked to say it."""
        if self.lifeline:
            self.lifeline.start(self.greeting)
        elif self.greeting:
            self.session.say(self.greeting)


@asynccontextmanager
async def conversation(
    config: Config,
    postgres_socket: str | None,
    desk: Desk,
    user: UserSession,
    publish: Publish,
) -> AsyncIterator[Conversation]:
    """Opens the session's row and reads its persona at this moment; on leaving, writes what is
    still queued and ends the row. ``desk``: the permits and breakers that it shares.

    Raises:
        ProviderError: no LLM of the chain has its key.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        engine = database.engine(
            config.database, postgres_socket, pool_size=_POOL_SIZE, application_name="runner-call"
        )
        stack.push_async_callback(engine.dispose)
        embedder = embedding.embedder(config.rag)
        stack.push_async_callback(embedder.aclose)
        search = Search(engine, embedder, config.rag, on_miss=desk.missed_search)
        session = agent_session(config, desk, http, search.candidates, embedder.embed)

        store = Store(engine)
        outbox = Outbox(store, outbox_dir(config.deployment) / f"{user.session_id}.jsonl")
        stack.push_async_callback(outbox.aclose)
        outbox.put(Entry("open", str(user.session_id), _opening(config, user)))
        stack.callback(lambda: outbox.put(Entry("end", str(user.session_id))))
        persona = await _persona(store, config)
        searched = search if config.rag.enabled else None
        lifeline = _lifeline(config, session, persona.instructions, searched)
        agent = (
            lifeline.agent
            if lifeline
            else VoiceAgent(
                instructions=persona.instructions,
                search=searched and searched.in_time,
                apology=config.agent.apology,
            )
        )
        recorder = Recorder(user, outbox, partial(_services, session), publish)
        stack.push_async_callback(recorder.aclose)
        session.on("conversation_item_added", recorder.on_item)
        if searched:
            session.on("user_input_transcribed", partial(_search_ahead, searched))
        yield Conversation(user, session, agent, persona.greeting or "", lifeline)


def _search_ahead(search: Search, event: UserInputTranscribedEvent) -> None:
    """The search begins with the words, before anybody asks for what it finds."""
    search.ahead(event.transcript)


def _opening(config: Config, user: UserSession) -> dict[str, object]:
    return {
        "room_id": user.room_id,
        "participant_id": user.participant_id,
        "llm_provider": user.llm_provider,
        "context": {"configuration": fingerprint(config)},
    }


async def _persona(store: Store, config: Config) -> Persona | Instructions:
    """The database's at this moment; the configuration's while the database has none or is away."""
    try:
        return await store.instructions(config.agent.language) or config.agent
    except DatabaseError as error:
        log.warning("the instructions are the configuration's: %s", error)
        return config.agent


def agent_session(
    config: Config,
    desk: Desk,
    http: aiohttp.ClientSession,
    search: build.Search,
    embed: build.Embed,
) -> AgentSession[None]:
    """The AgentSession of the configuration, with its chains. A caller whose words nobody could
    write down is asked to say them again."""
    common: dict[str, Any] = {
        "turn_handling": turn_handling(config),
        "vad": inference.VAD(model="silero", min_silence_duration=config.turn.vad_silence_s),
        "conn_options": SessionConnectOptions(
            stt_conn_options=_ONCE,
            llm_conn_options=_ONCE,
            tts_conn_options=_ONCE,
            max_unrecoverable_errors=_NO_END,
        ),
        "user_away_timeout": None,
        "session_close_transcript_timeout": _LAST_WORDS_S,
    }
    if isinstance(config.llm, GoogleRealtimeLLM):
        common["turn_handling"] = {"turn_detection": "realtime_llm"}
        return AgentSession(llm=build.realtime_model(config.llm), **common)
    stt = build.stt_chain(config, desk, http)
    session: AgentSession[None] = AgentSession(
        stt=stt,
        llm=build.llm_chain(config, desk, http, search, embed),
        tts=build.tts_chain(config, desk, http),
        **common,
    )
    stt.on_deaf = partial(_ask_again, session, config.agent.not_heard)
    return session


def _ask_again(session: AgentSession[None], sentence: str) -> None:
    with suppress(RuntimeError):  # the call is about to end
        session.say(sentence)


def _lifeline(
    config: Config, session: AgentSession[None], instructions: str, search: Search | None
) -> "Lifeline | None":
    """What a speech-to-speech model needs around it, its agent included; None for a chain."""
    if not isinstance(config.llm, GoogleRealtimeLLM):
        return None
    from runner.realtime import Lifeline

    return Lifeline(config.llm, session, instructions, search)


def _services(session: AgentSession[None]) -> dict[str, Record]:
    """Who heard and who spoke the latest turn; of a speech-to-speech model there is no record."""
    services: dict[str, Record] = {}
    if isinstance(session.stt, STTChain):
        services["stt"] = session.stt.record
    if isinstance(session.tts, TTSChain):
        services["tts"] = session.tts.taken()
    return services
