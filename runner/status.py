"""What the call page shows beside the call: who stands in for whom, and what may be spoken."""

import asyncio
import logging
import time

from runner import probes
from runner.config import Config
from runner.errors import DatabaseError
from runner.languages import caller_language
from runner.probes import StandIn
from runner.stack import Running
from runner.store import Store

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_AGE_S = 5.0  # an answer serves all pages for so long


class Status:
    """The answer of ``GET /api/status``, made anew when the last one is too old."""

    def __init__(self, config: Config, running: Running, store: Store) -> None:
        self._config = config
        self._store = store
        self.notes = list(running.endpoints.notes)
        self._lock = asyncio.Lock()
        self._asked_at = -_AGE_S
        self._stand_ins: list[StandIn] = []
        self._languages: list[str] = []

    async def stand_ins(self) -> list[StandIn]:
        """Who stands in for whom, as probes found it."""
        await self._refresh()
        return self._stand_ins

    async def __call__(self) -> dict[str, object]:
        """The JSON of ``GET /api/status``."""
        await self._refresh()
        return {
            "agent": self._config.livekit.agent_name,
            "languages": self._languages,
            "notes": self.notes,
            "stand_ins": [
                {
                    "for": found.capability,
                    "provider": found.provider,
                    "instead_of": found.instead_of,
                    "reason": found.reason,
                }
                for found in self._stand_ins
            ],
        }

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._asked_at < _AGE_S:
                return
            self._stand_ins, self._languages = await asyncio.gather(
                probes.stand_ins(self._config, _TIMEOUT_S), self._spoken()
            )
            self._asked_at = time.monotonic()

    async def _spoken(self) -> list[str]:
        """The languages that callers may choose, the configuration's own first; without a
        database those that were known last."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                rows = await self._store.languages()
        except (DatabaseError, TimeoutError) as error:
            log.info("the languages are not known anew: %s", error)
            return self._languages
        tags = {tag for row in rows if (tag := caller_language(row))}
        return sorted(tags, key=lambda tag: (tag != self._config.agent.language, tag))
