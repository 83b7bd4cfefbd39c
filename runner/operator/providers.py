"""Providers: how they are, how often they fail, and whether they may be asked."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from runner.candidates import llm_candidates, stt_candidates, tts_candidates
from runner.config import Config, GoogleRealtimeLLM
from runner.operator.archive import Archive
from runner.operator.routes import Actor, Done, Given, Plain, Refused, Route, Shown
from runner.outcome import Key
from runner.switchboard import Switchboard
from runner.tally import WINDOW_S


class ProviderKey(Given):
    """Of a provider, as the list names it."""

    capability: Literal["LLM", "STT", "TTS"]
    name: Annotated[Plain, StringConstraints(max_length=255)]


class Switch(Given):
    """``off``: no call asks it."""

    off: bool


class Permits(Shown):
    """Requests to LLMs."""

    allowed: int
    in_flight: int
    waiting: int


class Provider(Shown):
    """A member of a chain. ``state``: of its breaker. The rest is of the last minutes."""

    capability: str
    name: str
    state: str
    reason: str | None
    off: bool
    requests: int
    failures: int
    error_rate: float
    errors: dict[str, int]


class ProviderList(Shown):
    """All of them, and the time of which the errors are."""

    permits: Permits
    window_s: float
    providers: list[Provider]


class Providers:
    """Those of the configuration."""

    def __init__(self, config: Config, switchboard: Switchboard, archive: Archive) -> None:
        self._switchboard = switchboard
        self._archive = archive
        self._speaks_alone = isinstance(config.llm, GoogleRealtimeLLM)
        self._members: list[Key] = [
            *(("LLM", found.name) for found in llm_candidates(config)),
            *(("STT", found.name) for found in stt_candidates(config)),
            *(("TTS", found.name) for found in tts_candidates(config)),
        ]

    def routes(self) -> list[Route]:
        """What is served of them."""
        refusals = {
            404: "There is no such provider in this configuration.",
            409: "It speaks by itself: no call could do without it.",
        }
        return [
            Route("GET", "/api/providers", self.all),
            Route("PUT", "/api/providers/{capability}/{name}", self.switch, refusals),
        ]

    async def all(self) -> ProviderList:
        """The permits, and each provider of the configuration."""
        board = self._switchboard
        keys = [*self._members, *(key for key in board.known() if key not in self._members)]
        return ProviderList(
            permits=Permits.model_validate(
                {"allowed": board.permits, "in_flight": board.in_flight, "waiting": board.waiting}
            ),
            window_s=WINDOW_S,
            providers=[self._provider(key) for key in keys],
        )

    async def switch(self, place: ProviderKey, body: Switch, by: Actor) -> Done:
        """Switch a provider off or on, for all calls of this worker until it ends."""
        key = (place.capability, place.name)
        if key not in self._members:
            raise Refused(404, "There is no such provider in this configuration.")
        if self._speaks_alone:
            raise Refused(409, "A model that speaks by itself cannot be switched off.")
        before = {"off": self._switchboard.is_off(key)}
        await self._archive.note(by, "switch", " ".join(key), before, {"off": body.off})
        self._switchboard.switch(key, off=body.off)
        return Done(done=f"{place.name} is {'off' if body.off else 'on'}.")

    def _provider(self, key: Key) -> Provider:
        board, tally = self._switchboard, self._switchboard.tally(key)
        requests, errors = tally.requests, tally.errors
        failures = sum(errors.values())
        return Provider(
            capability=key[0],
            name=key[1],
            state=str(board.breaker_state(key)),
            reason=(reason := board.reason(key)) and str(reason),
            off=board.is_off(key),
            requests=requests,
            failures=failures,
            error_rate=round(failures / requests, 4) if requests else 0.0,
            errors=errors,
        )
