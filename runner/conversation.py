"""One conversation, put together: session row, persona, chains, agent, recorder.

A call in a room and a chat in the terminal are the same conversation with other ears.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from livekit.agents import (
    Agent,
    AgentSession,
    APIConnectOptions,
    llm,
)
from livekit.agents.voice.agent_session import SessionConnectOptions

from runner import build, database, logs
from runner.agent import VoiceAgent, turn_handling
from runner.chains import STTChain
from runner.clauses import Speech
from runner.config import Agent as Persona
from runner.config import Config, GoogleRealtimeLLM, Turn
from runner.detector import Detector
from runner.errors import DatabaseError
from runner.fingerprint import fingerprint, of_session
from runner.folders import outbox_dir
from runner.kept import Kept
from runner.languages import spoken
from runner.live import live_config
from runner.mute import Mute
from runner.native_audio import Hear
from runner.outbox import Entry, Outbox
from runner.rag import embedding
from runner.rag.search import Search
from runner.record import Record
from runner.sessions import Publish, Recorder, UserSession
from runner.store import Instructions, Opening, Store
from runner.switchboard import Desk
from runner.warmth import Warmth

if TYPE_CHECKING:  # it loads Google's client, which only its own calls need
    from runner.realtime import Lifeline

log = logging.getLogger(__name__)

_POOL_SIZE = 2  # a call writes one message at a time and searches once a turn
_ONCE = APIConnectOptions(max_retry=0)  # the chains try again by themselves
_RECALLED_MESSAGES = 200  # what does not fit into the LLM's context is left out later
_OPENING_S = 1.5  # for what is read before the greeting
_SLOW = f"PostgreSQL did not answer within {_OPENING_S:g} s"
_KEPT_S = 120.0  # a connection that nobody uses: callers think for longer than aiohttp's 15 s
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

    @property
    def hear(self) -> Hear | None:
        """What takes the caller's sound; None: the session itself, which passes it on to a
        speech-to-speech model."""
        detector = self.session.vad
        return None if self.lifeline or not isinstance(detector, Detector) else detector.hear

    async def greet(self) -> None:
        """Says the greeting; a speech-to-speech model is asked to say it. A caller who was cut off
        after a question is given the answer."""
        if self.lifeline:
            self.lifeline.start(self.greeting)
        elif self.user.history and self.user.history[-1].role == "user":
            self.session.generate_reply()
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
    """Opens the session's row, or goes on with the one of a caller who was cut off, and reads its
    persona at this moment; on leaving, writes what is still queued and ends the row. ``desk``: the
    permits and breakers that it shares.

    Raises:
        ProviderError: no LLM of the chain has its key.
    """
    async with AsyncExitStack() as stack:
        connections = aiohttp.TCPConnector(keepalive_timeout=_KEPT_S)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connections))
        engine = database.engine(
            config.database, postgres_socket, pool_size=_POOL_SIZE, application_name="runner-call"
        )
        stack.push_async_callback(engine.dispose)
        store = Store(engine)
        config, persona = await _at_this_moment(store, config, user.language)
        embedder = embedding.embedder(config.rag)
        stack.push_async_callback(embedder.aclose)
        search = Search(engine, embedder, config.rag, on_miss=desk.missed_search)
        stack.push_async_callback(search.aclose)
        if config.rag.enabled:
            search.warm()
        kept = await build.kept(config, persona.greeting or "")
        session = agent_session(config, desk, http, search.candidates, embedder.embed, kept)
        warmth = Warmth(http, build.far_servers(config))
        stack.callback(warmth.close)
        session.on("user_state_changed", warmth.on_state)

        opening = user.opening({"configuration": fingerprint(config), "language": persona.language})
        await _recall(store, user, opening, config.sessions.grace_s)
        outbox = Outbox(store, outbox_dir(config.deployment) / f"{uuid.uuid4()}.jsonl")
        stack.push_async_callback(outbox.aclose)
        session_id = str(user.session_id)
        outbox.put(Entry("configuration", session_id, of_session(config)))
        outbox.put(Entry("open", session_id, asdict(opening)))
        stack.callback(lambda: outbox.put(Entry("end", session_id, {"job_id": user.job_id})))
        searched = search if config.rag.enabled else None
        history = user.chat_context()
        lifeline = _lifeline(config, session, persona.instructions, history, searched)
        agent = (
            lifeline.agent
            if lifeline
            else VoiceAgent(
                instructions=persona.instructions,
                history=history,
                search=searched and searched.in_time,
                search_ahead=searched.ahead if searched else None,
                apology=config.agent.apology,
                transcribe_after_s=config.turn.transcribe_after_s,
            )
        )
        recorder = Recorder(user, outbox, partial(_services, session), publish, search.taken_s)
        stack.push_async_callback(recorder.aclose)
        session.on("conversation_item_added", recorder.on_item)
        greeting = config.agent.back if user.history else persona.greeting or ""
        yield Conversation(user, session, agent, greeting, lifeline)


async def _recall(store: Store, user: UserSession, opening: Opening, grace_s: int) -> None:
    """Gives ``user`` the session in which they were cut off, and what was said in it."""
    if user.worker_id is None:
        return  # nobody comes back to a terminal
    try:
        async with asyncio.timeout(_OPENING_S):
            if found := await store.resume_session(opening, grace_s):
                user.session_id = found
                user.history = await store.recall(found, _RECALLED_MESSAGES)
    except (DatabaseError, TimeoutError) as error:
        log.warning("whether the caller was here before is not known: %s", error or _SLOW)


async def _at_this_moment(
    store: Store, config: Config, language: str | None
) -> tuple[Config, Persona | Instructions]:
    """The persona that a caller of ``language`` gets now, and the configuration for the persona's
    language with the settings that the database has now."""
    live: Config = config
    persona: Persona | Instructions = config.agent
    try:
        async with asyncio.timeout(_OPENING_S):
            live, persona = await asyncio.gather(
                live_config(store, config), _persona(store, config.agent, language)
            )
    except TimeoutError:
        log.warning("settings or instructions are the configuration's: %s", _SLOW)
    if live.log != config.log:
        logs.set_up(live.log)
    return spoken(live, persona.language), persona


async def _persona(store: Store, agent: Persona, language: str | None) -> Persona | Instructions:
    """The database's; the configuration's while the database has none or is away."""
    try:
        return await store.instructions(language or agent.language, agent.language) or agent
    except DatabaseError as error:
        log.warning("the instructions are the configuration's: %s", error)
        return agent


def agent_session(
    config: Config,
    desk: Desk,
    http: aiohttp.ClientSession,
    search: build.Search,
    embed: build.Embed,
    kept: Kept | None = None,
) -> AgentSession[None]:
    """The AgentSession of the configuration, with its chains. A caller whose words nobody could
    write down is asked to say them again; one whose answer nobody could speak hears the apology.
    ``kept``: the sentences that no TTS is asked for."""
    common: dict[str, Any] = {
        "turn_handling": turn_handling(config),
        "vad": _detector(config.turn),
        "conn_options": SessionConnectOptions(
            stt_conn_options=_ONCE,
            llm_conn_options=_ONCE,
            tts_conn_options=_ONCE,
            max_unrecoverable_errors=_NO_END,
        ),
        "user_away_timeout": None,
        "aec_warmup_duration": config.turn.echo_warmup_s or None,
        "session_close_transcript_timeout": _LAST_WORDS_S,
    }
    if isinstance(config.llm, GoogleRealtimeLLM):
        common["turn_handling"] = {"turn_detection": "realtime_llm"}
        return AgentSession(llm=build.realtime_model(config.llm), **common)
    stt, tts = build.stt_chain(config, desk, http), build.tts_chain(config, desk, http, kept)
    session: AgentSession[None] = AgentSession(
        stt=stt,
        llm=build.llm_chain(config, desk, http, search, embed),
        tts=Speech(tts),
        **common,
    )
    stt.on_deaf = partial(_ask_again, session, config.agent.not_heard)
    tts.on_mute = Mute(session, config.agent.apology).lost
    return session


def _detector(turn: Turn) -> Detector:
    return Detector(
        silence_s=turn.vad_silence_s, longest_s=turn.max_turn_s, pause_s=turn.endpointing_delay_s
    )


def _ask_again(session: AgentSession[None], sentence: str) -> None:
    with suppress(RuntimeError):  # the call is about to end
        session.say(sentence)


def _lifeline(
    config: Config,
    session: AgentSession[None],
    instructions: str,
    history: llm.ChatContext,
    search: Search | None,
) -> "Lifeline | None":
    """What a speech-to-speech model needs around it, its agent included; None for a chain."""
    if not isinstance(config.llm, GoogleRealtimeLLM):
        return None
    from runner.realtime import Lifeline

    return Lifeline(config.llm, session, instructions, history, search)


def _services(session: AgentSession[None]) -> dict[str, Record]:
    """Who heard and who spoke the latest turn; of a speech-to-speech model there is no record."""
    services: dict[str, Record] = {}
    if isinstance(session.stt, STTChain):
        services["stt"] = session.stt.record
    if isinstance(session.tts, Speech):
        services["tts"] = session.tts.chain.taken()
    return services
