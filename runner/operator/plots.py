"""What is drawn over time."""

import time
from typing import Annotated

from pydantic import Field

from runner.operator.routes import Given, Route, Shown
from runner.timeline import STEP_S, Timeline


class Span(Given):
    """The last minutes: six hours at most."""

    minutes: Annotated[int, Field(ge=1, le=360)] = 60


class Plots(Shown):
    """Series of the same length: a value each ``step_s`` seconds since ``from``, in seconds since
    1970. Null: nothing was measured."""

    step_s: int
    since: Annotated[float, Field(serialization_alias="from")]
    series: dict[str, list[float | None]]


class PlotsApi:
    """What the worker remembers of its calls."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._seen = 0

    def routes(self) -> list[Route]:
        """What is served of it."""
        return [Route("GET", "/api/plots", self.plots)]

    async def plots(self, query: Span) -> Plots:
        """Turns, failovers, those who wait, and how long the stages of turns took."""
        return Plots.model_validate(self._timeline.plots(query.minutes))

    async def if_changed(self) -> Plots | None:
        """Those of the last hour; None: no step has ended since they were asked last."""
        step = int(time.time()) // STEP_S
        if step == self._seen:
            return None
        self._seen = step
        return await self.plots(Span())
