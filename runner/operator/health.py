"""How the parts are, as ``task=doctor`` tells it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import AwareDatetime

from runner import doctor
from runner.operator.routes import Route, Shown

_AGE_S = 15.0  # an answer serves all pages for so long

Examine = Callable[[], Awaitable[list[doctor.Line]]]
"""Looks at everything."""


class Line(Shown):
    """A part: what it is, how it is, what to do. ``vital``: without it no call is served."""

    part: str
    state: doctor.State
    detail: str
    mend: str
    vital: bool


class Health(Shown):
    """``served``: whether a call would be."""

    served: bool
    checked_at: AwareDatetime
    lines: list[Line]


class Live(Shown):
    """It answers."""

    status: str


class HealthApi:
    """Examined anew when somebody asks, but not more often than every quarter of a minute."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._lock = asyncio.Lock()
        self._at = -_AGE_S
        self._found: Health | None = None

    def routes(self) -> list[Route]:
        """What is served of it."""
        return [
            Route("GET", "/api/health", self.health),
            Route("GET", "/api/health/live", self.live, public=True),
        ]

    async def health(self) -> Health:
        """Every part, without a word that costs a model its time."""
        async with self._lock:
            if self._found is None or time.monotonic() - self._at > _AGE_S:
                lines = await self._examine()
                self._at = time.monotonic()
                self._found = Health(
                    served=not any(line.vital and line.state == "broken" for line in lines),
                    checked_at=datetime.now(UTC),
                    lines=[Line.model_validate(line) for line in lines],
                )
            return self._found

    async def live(self) -> Live:
        """Whether the runner answers at all."""
        return Live(status="ok")
