"""One conversation, put together: session row, persona, chains, agent, recorder.

A call in a room and a chat in the terminal are the same conversation with other ears.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from livekit.agents import AgentSession, APIConnectOptions, inference
from livekit.agents.voice.agent_session import SessionConnectOptions

from runner import build, database
from runner.agent import VoiceAgent, turn_handling
from runner.config import Config, GoogleRealtimeLLM
from runner.failover import Chain
from runner.rag.embedding import Embedder
from runner.rag.search import Search
from runner.sessions import Publish, Recorder, UserSession
from runner.store import Store

_POOL_SIZE = 2  # a call writes one message at a time and searches once a turn
_ONCE = APIConnectOptions(max_retry=0)  # the chains try again by themselves


@dataclass(frozen=True)
class Conversation:
    """What is left to do: start ``session`` with ``agent``, and greet."""

    user: UserSession
    session: AgentSession[None]
    agent: VoiceAgent
    greeting: str

    async def greet(self) -> None:
        """Says the greeting; a speech-to-speech model is asked to say it."""
        if not self.greeting:
            return
        if self.session.tts is None and self.session.output.audio is not None:
            self.session.generate_reply(instructions=f"Greet the caller with: {self.greeting}")
        else:
            self.session.say(self.greeting)


@asynccontextmanager
async def conversation(
    config: Config, postgres_socket: str | None, user: UserSession, publish: Publish
) -> AsyncIterator[Conversation]:
    """Opens the session's row and reads its persona at this moment; on leaving, writes what is
    still queued and ends the row.

    Raises:
        ProviderError: no LLM of the chain has its key.
        DatabaseError: the database is away.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        engine = database.engine(
            config.database, postgres_socket, pool_size=_POOL_SIZE, application_name="runner-call"
        )
        stack.push_async_callback(engine.dispose)
        embedder = Embedder(config.rag.embedding_url, config.rag.embedding_model)
        stack.push_async_callback(embedder.aclose)
        search = Search(engine, embedder, config.rag)
        session, chains = _session(config, http, search, embedder)

        store = Store(engine)
        await _open(store, user)
        stack.push_async_callback(store.end_session, user.session_id)
        persona = await store.instructions(config.agent.language)
        agent = VoiceAgent(
            instructions=persona.instructions if persona else config.agent.instructions,
            search=search if config.rag.enabled else None,
            deadline_s=config.rag.deadline_ms / 1000,
        )
        recorder = Recorder(user, store, chains, publish)
        stack.push_async_callback(recorder.aclose)
        session.on("conversation_item_added", recorder.on_item)
        greeting = persona.greeting if persona else config.agent.greeting
        yield Conversation(user, session, agent, greeting or "")


async def _open(store: Store, user: UserSession) -> None:
    await store.open_session(
        user.session_id,
        room_id=user.room_id,
        participant_id=user.participant_id,
        llm_provider=user.llm_provider,
        context={},
    )


def _session(
    config: Config, http: aiohttp.ClientSession, search: Search, embedder: Embedder
) -> tuple[AgentSession[None], dict[str, Chain[Any]]]:
    """The AgentSession of the configuration, and the chains whose members serve it."""
    common: dict[str, Any] = {
        "turn_handling": turn_handling(config),
        "vad": inference.VAD(model="silero", min_silence_duration=config.turn.vad_silence_s),
        "conn_options": SessionConnectOptions(
            stt_conn_options=_ONCE, llm_conn_options=_ONCE, tts_conn_options=_ONCE
        ),
        "user_away_timeout": None,
    }
    if isinstance(config.llm, GoogleRealtimeLLM):
        return AgentSession(llm=build.realtime_model(config.llm), **common), {}
    llm = build.llm_chain(config, search.candidates, embedder.embed)
    stt = build.stt_chain(config, http)
    tts = build.tts_chain(config, http)
    chains: dict[str, Chain[Any]] = {"stt": stt.chain, "llm": llm.chain, "tts": tts.chain}
    return AgentSession(stt=stt, llm=llm, tts=tts, **common), chains
