"""The sentences that are always the same are spoken once, before a caller waits for them.

In the background of the runner, a sentence at a time. The endpoints are asked by themselves, not as
a chain: what becomes of it counts for no breaker and no failover.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

import aiohttp

from runner import build
from runner.breaker import State
from runner.candidates import tts_candidates
from runner.config import Config, GoogleRealtimeLLM
from runner.errors import DatabaseError
from runner.kept import Kept
from runner.languages import caller_language, spoken
from runner.live import live_config
from runner.outcome import Key
from runner.providers.failure import Failure
from runner.providers.speech import EndpointTTS
from runner.store import Store

log = logging.getLogger(__name__)

_AGAIN_S, _LONGEST_PAUSE_S = 60.0, 1800.0  # the voice that is preferred may be there by then
_SENTENCE_S = 60.0  # of a small machine that is busy


class Studio:
    """Keeps the greeting and the other sentences of ``config`` in each language that has one.

    ``state``: of a provider's breaker; nobody is asked who is left alone.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        http: aiohttp.ClientSession,
        state: Callable[[Key], State],
    ) -> None:
        self._config = config
        self._store = store
        self._http = http
        self._state = state

    async def record(self) -> None:
        """Returns when the first voice of the chain has spoken them all. Until then the others
        do."""
        if isinstance(self._config.llm, GoogleRealtimeLLM):
            return  # it speaks by itself
        pause_s = _AGAIN_S
        while not await self.session():
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def session(self) -> bool:
        """Asks for what is missing, once; whether the first voice has spoken all of it."""
        try:
            live = await live_config(self._store, self._config)
            tags = {live.agent.language, *await self._store.languages()}
            return all([await self._in_language(live, tag) for tag in sorted(tags)])
        except DatabaseError as error:
            log.info("the greetings are not known: %s", error)
            return False

    async def _in_language(self, live: Config, tag: str) -> bool:
        agent, language = live.agent, caller_language(tag) or live.agent.language
        persona = await self._store.instructions(language, agent.language) or agent
        config = spoken(live, persona.language)
        kept = await build.kept(config, persona.greeting or "")
        for place, candidate in enumerate(tts_candidates(config)):
            if self._state(("TTS", candidate.name)) is State.CLOSED:
                voice = build.tts_endpoint(candidate, self._http)
                if await _speak_all(kept, candidate.name, voice):
                    return place == 0
        return False


async def _speak_all(kept: Kept, provider: str, voice: EndpointTTS) -> bool:
    """Whether there is a sound of each sentence now."""
    for sentence in kept.missing(provider):
        try:
            async with asyncio.timeout(_SENTENCE_S), aclosing(voice.pcm(sentence)) as pieces:
                samples = b"".join([piece async for piece in pieces])
        except (Failure, TimeoutError) as error:
            log.debug("%s speaks nothing ahead: %s", provider, error)
            return False
        await kept.write(sentence, provider, samples)
    return True
