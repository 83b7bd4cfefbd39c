"""The switchboard: permits and breakers of a worker, one of each for all its calls.

It lives in the worker. A call in a process of its own reaches it by a line (`runner.line`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, Self

from runner.breaker import Breaker, State
from runner.config import Breaker as Settings
from runner.metrics import Metrics
from runner.outcome import Key, Outcome
from runner.providers.failure import Failure, Reason
from runner.tally import Tally

log = logging.getLogger(__name__)

Probe = Callable[[Key], Awaitable[None]]
"""Asks a provider something small; raises Failure where it does not serve."""

_PROBE_TIMEOUT_S = 5.0


class Desk(Protocol):
    """What a chain asks: the switchboard itself, or the line to it."""

    def permit(self) -> AbstractAsyncContextManager[float]:
        """Holds a permit for the block, in the order of asking; the value is the seconds that
        were waited for it."""
        ...

    def state(self, key: Key) -> State:
        """The state of the provider's breaker."""
        ...

    def report(self, outcome: Outcome) -> None:
        """Takes note of how a request ended. Never waits."""
        ...

    def missed_search(self) -> None:
        """Counts a search that an answer did not wait for."""
        ...


class Switchboard:
    """The `Desk` of a worker. ``probe`` is asked for providers that are left alone.

    Breakers are probed for as long as its ``async with`` block lasts.
    """

    def __init__(self, permits: int, settings: Settings, probe: Probe, metrics: Metrics) -> None:
        self._settings = settings
        self._probe = probe
        self._metrics = metrics
        self._free = asyncio.Semaphore(permits)
        self.permits = permits
        self.in_flight = 0
        self.waiting = 0
        self._breakers: dict[Key, Breaker] = {}
        self._tallies: dict[Key, Tally] = {}
        self._off: set[Key] = set()
        self._reviving: dict[Key, asyncio.Task[None]] = {}
        self._listeners: set[Callable[[], None]] = set()
        metrics.watch_permits(
            in_flight=lambda: self.in_flight,
            waiting=lambda: self.waiting,
            allowed=lambda: self.permits,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._reviving.values():
            task.cancel()
        await asyncio.gather(*self._reviving.values(), return_exceptions=True)

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[float]:
        began = time.perf_counter()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            waited_s = time.perf_counter() - began
            self._metrics.permit_wait.observe(waited_s)
            yield waited_s
        finally:
            self.in_flight -= 1
            self._free.release()

    def state(self, key: Key) -> State:
        return State.OFF if key in self._off else self.breaker_state(key)

    def breaker_state(self, key: Key) -> State:
        """The same, whether or not it is switched off."""
        return self._breakers[key].state if key in self._breakers else State.CLOSED

    def is_off(self, key: Key) -> bool:
        """Whether the operator has switched it off."""
        return key in self._off

    def reason(self, key: Key) -> Reason | None:
        """Why the provider's breaker is not closed."""
        return self._breakers[key].reason if key in self._breakers else None

    def tally(self, key: Key) -> Tally:
        """How the provider's latest requests ended."""
        return self._tallies.get(key) or Tally()

    def known(self) -> Iterator[Key]:
        """Each provider of which something is known."""
        yield from sorted(self._breakers.keys() | self._off)

    def switch(self, key: Key, *, off: bool) -> None:
        """Whether calls may ask a provider; those that are on know it at once."""
        if off == (key in self._off):
            return
        (self._off.add if off else self._off.discard)(key)
        log.warning("%s %s is switched %s", *key, "off" if off else "on")
        self._metrics.switched(key, off=off)
        self._tell()

    def report(self, outcome: Outcome) -> None:
        self._metrics.outcome(outcome)
        if outcome.lost:
            return
        self._tallies.setdefault(outcome.key, Tally()).add(outcome.reason)
        breaker = self._breakers.setdefault(outcome.key, Breaker(self._settings))
        if outcome.reason is None:
            changed = breaker.served()
        else:
            changed = breaker.failed(outcome.reason, time.monotonic(), outcome.retry_after_s)
        if changed:
            self._changed(outcome.key, breaker)

    def missed_search(self) -> None:
        self._metrics.missed_searches.inc()

    def stalled(self) -> None:
        """Counts a stall of a call's event loop."""
        self._metrics.stalls.labels("call").inc()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """``listener`` is called when a breaker changes; the result takes it off again."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _changed(self, key: Key, breaker: Breaker) -> None:
        capability, name = key
        match breaker.state:
            case State.CLOSED:
                log.info("%s %s is asked again", capability, name)
            case State.RESTING:
                log.warning("%s %s asked for a pause, and gets it", capability, name)
            case State.OPEN:
                log.warning("%s %s is left alone (%s)", capability, name, breaker.reason)
            case State.HALF_OPEN | State.OFF:
                pass
        self._metrics.breaker(key, closed=breaker.closed)
        self._tell()
        if not breaker.closed and key not in self._reviving:
            task = asyncio.create_task(self._revive(key, breaker), name=f"revive {name}")
            self._reviving[key] = task
            task.add_done_callback(lambda _: self._reviving.pop(key, None))

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    async def _revive(self, key: Key, breaker: Breaker) -> None:
        """Waits, and probes, until ``breaker`` is closed."""
        while not breaker.closed:
            await asyncio.sleep(max(breaker.probe_at - time.monotonic(), 0))
            if breaker.state is State.RESTING:
                breaker.rested(time.monotonic())
            elif breaker.state is State.OPEN:
                breaker.probing()
                breaker.probed(await self._ask(key), time.monotonic())
            if breaker.closed:
                self._reviving.pop(key, None)
                self._changed(key, breaker)

    async def _ask(self, key: Key) -> Reason | None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._probe(key)
        except TimeoutError:
            return Reason.SILENT
        except Failure as failure:
            return failure.reason
        except Exception:
            log.exception("the probe of %s %s went wrong", *key)
            return Reason.BROKEN
        return None
