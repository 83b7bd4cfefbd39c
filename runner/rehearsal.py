"""A call without a caller, in the process from which the jobs of all calls are forked.

A job shares the memory that it only reads, but Python counts references in what it touches and
rewrites code that it runs often. What was run before the fork is shared by all of them: without
this module each call takes 6 MB more, of which its one answer saves 2. Nobody is asked anything: no
provider, no database.

LiveKit's worker has its forkserver import it, which can be told nothing but by the environment.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, replace

import aiohttp
from livekit import rtc
from livekit.agents.voice import io
from pydantic import TypeAdapter
from pydantic_core import to_json

from runner import build, database
from runner.agent import VoiceAgent
from runner.config import Config, GoogleRealtimeLLM
from runner.conversation import agent_session
from runner.detector import RATE_HZ, WINDOW_S
from runner.errors import RunnerError
from runner.fingerprint import of_session
from runner.live import live_config
from runner.metrics import Metrics
from runner.providers.speech import SPEECH_RATE_HZ
from runner.rag import embedding
from runner.rag.search import Search
from runner.store import Store

_VARIABLE = "RUNNER_REHEARSAL"
_NOWHERE = "/nonexistent"  # no PostgreSQL has its socket there
_FRAMES = 30  # a second of silence

log = logging.getLogger(__name__)


def announce(config: Config) -> list[str]:
    """The modules that a forkserver must import to rehearse a call of ``config``."""
    os.environ[_VARIABLE] = to_json(asdict(config)).decode()
    return [__name__]


class _Silence(io.AudioInput):
    """A caller who says nothing, and hangs up."""

    def __init__(self) -> None:
        super().__init__(label="rehearsal")
        self._left = _FRAMES

    async def __anext__(self) -> rtc.AudioFrame:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return rtc.AudioFrame.create(RATE_HZ, 1, int(RATE_HZ * WINDOW_S))


class _Loudspeaker(io.AudioOutput):
    """Plays in no time."""

    def __init__(self) -> None:
        super().__init__(label="rehearsal", capabilities=io.AudioOutputCapabilities(pause=False))
        self._position_s = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._position_s:
            self.on_playback_started(created_at=0)
        self._position_s += frame.duration

    def flush(self) -> None:
        super().flush()
        position_s, self._position_s = self._position_s, 0.0
        if position_s:
            self.on_playback_finished(playback_position=position_s, interrupted=False)

    def clear_buffer(self) -> None:
        self.flush()


class _Understudy(VoiceAgent):
    """Knows its words, and asks nobody."""

    async def llm_node(self, *_: object) -> AsyncIterator[str]:
        yield "The library opens at nine. "
        yield "It closes at six."

    async def tts_node(self, text: AsyncIterable[str], *_: object) -> AsyncIterator[rtc.AudioFrame]:
        async for _word in text:
            yield rtc.AudioFrame.create(SPEECH_RATE_HZ, 1, SPEECH_RATE_HZ // 10)


async def _rehearse(config: Config) -> None:
    if isinstance(config.llm, GoogleRealtimeLLM):
        return  # its session begins with a connection to Google
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(aiohttp.ClientSession())
        engine = database.engine(
            replace(config.database, url_env=""),
            _NOWHERE,
            pool_size=1,
            application_name="rehearsal",
        )
        exits.push_async_callback(engine.dispose)
        store = Store(engine)
        with suppress(RunnerError):
            await live_config(store, config)
        with suppress(RunnerError):
            await store.instructions(config.agent.language, config.agent.language)
        of_session(config)
        desk = await exits.enter_async_context(build.switchboard(config, http, Metrics()))
        embedder = embedding.embedder(config.rag)
        search = Search(engine, embedder, config.rag)
        exits.push_async_callback(search.aclose)
        session = agent_session(config, desk, http, search.candidates, embedder.embed)
        session.input.audio = _Silence()
        session.output.audio = _Loudspeaker()
        agent = _Understudy(instructions="", search=None, apology="")
        await session.start(agent, record=False, session_host=False)
        await session.generate_reply(user_input="When does the library open?")
        await session.aclose()


if _settings := os.environ.pop(_VARIABLE, ""):
    logging.disable()  # that nobody answers is no news
    try:
        asyncio.run(_rehearse(TypeAdapter(Config).validate_json(_settings)))
    except Exception as error:  # noqa: BLE001  calls work without it, and take more memory
        logging.disable(logging.NOTSET)
        log.warning("no call was rehearsed, so that each takes more memory: %s", error)
    finally:
        logging.disable(logging.NOTSET)
