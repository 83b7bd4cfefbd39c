"""A chain: providers of one capability in order of preference, of which one serves.

One type for LLM, STT and TTS. It knows nothing of words or sound: it is given a way to ask a
provider and a place to put what comes, and it keeps the time, the order and the record.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
)

from runner.breaker import NOT_ITS_FAULT, State
from runner.config import Failover
from runner.outcome import Outcome
from runner.providers.failure import Failure, Reason
from runner.record import Attempt, Exhausted, Record
from runner.switchboard import Desk

log = logging.getLogger(__name__)

P = TypeVar("P")
O = TypeVar("O")  # noqa: E741  an output: a chunk, a transcript, samples

_LONGEST_BACKOFF_S = 2.0
_SHY_S = 5.0  # a provider that failed is asked after the others for so long
_BUSY_S = 0.1  # a loop that is later than this for a timer did something else
_CATCH_UP_S = 0.25  # and has so long to read what arrived meanwhile
_FINAL = NOT_ITS_FAULT | {Reason.REFUSED}  # to ask the same again would change nothing


@dataclass(frozen=True)
class Member(Generic[P]):
    """A provider in a chain, and how long the caller may wait for it.

    ``first_s``: until its first output. ``stall_s``: between two outputs.
    """

    name: str
    provider: P
    model: str
    first_s: float
    stall_s: float


class Chain(Generic[P]):
    """Providers of one capability, asked in order. ``policy``: the times that hold for all."""

    def __init__(
        self, capability: str, members: Sequence[Member[P]], desk: Desk, policy: Failover
    ) -> None:
        if not members:
            raise ValueError(f"a chain of {capability} needs a member")
        self.capability = capability
        self.members = tuple(members)
        self.desk = desk
        self.policy = policy
        self.latest = Record()
        self._failed_at: dict[str, float] = {}
        self._told: set[tuple[str, Reason]] = set()

    async def serve(
        self,
        ask: Callable[[P], AsyncGenerator[O, None]],
        deliver: Callable[[O], bool],
        *,
        record: Record,
        resumes: bool = False,
    ) -> None:
        """Asks the members until one has served to its end.

        ``ask`` is called anew for each attempt. ``deliver`` takes an output and answers whether
        it was one: a keep-alive is none. ``resumes``: what ``ask`` gives after an output was
        delivered goes on from there, so a failure in the middle moves on as well.

        Raises:
            Exhausted: nobody did; nothing is tried after ``failover.total_s``.
        """
        self.latest = record
        tries = AsyncRetrying(
            stop=stop_after_attempt(self.policy.tries),
            wait=wait_exponential(multiplier=self.policy.backoff_s, max=_LONGEST_BACKOFF_S),
            retry=retry_if_exception(
                lambda error: isinstance(error, _AllFailed) and bool(self.in_order(record))
            ),
        )
        try:
            async with asyncio.timeout(self.policy.total_s):
                async for attempt in tries:
                    with attempt:
                        await _Round(self, ask, deliver, record, resumes=resumes).run()
        except (RetryError, _AllFailed, TimeoutError):
            raise Exhausted(self.capability, record) from None
        except asyncio.CancelledError:
            if record.speaker and not record.left:  # it served as far as it was wanted
                record.served(record.speaker, record.model)
            raise
        finally:
            self._report(record)

    def in_order(self, record: Record) -> list[Member[P]]:
        """Whom to ask now: not those that refused this request for good, asked for a pause or are
        switched off; those that are left alone only when nobody else is there; those that failed a
        moment ago last."""
        final = {attempt.provider for attempt in record.failed if attempt.reason in _FINAL}
        states = {
            member.name: self.desk.state((self.capability, member.name)) for member in self.members
        }
        left = [
            member
            for member in self.members
            if member.name not in final and states[member.name] not in (State.RESTING, State.OFF)
        ]
        asked = [member for member in left if states[member.name] is State.CLOSED] or left
        shy_since = time.monotonic() - _SHY_S
        return sorted(asked, key=lambda member: self._failed_at.get(member.name, -1) > shy_since)

    def note(self, member: Member[P], failure: Failure, record: Record) -> None:
        """Takes note of a failure; the log gets a provider's kinds once each."""
        message = str(failure)
        if member.name not in message:
            message = f"{member.name}: {message}"
        record.attempts.append(
            Attempt(member.name, member.model, record.age_s, failure.reason, message)
        )
        if failure.reason not in NOT_ITS_FAULT:
            self._failed_at[member.name] = time.monotonic()
        self.desk.report(
            Outcome((self.capability, member.name), failure.reason, failure.retry_after_s)
        )
        kind = (member.name, failure.reason)
        level = logging.DEBUG if kind in self._told else logging.WARNING
        log.log(level, "%s: %s", self.capability, message)
        self._told.add(kind)

    def _report(self, record: Record) -> None:
        served = record.attempts[-1] if record.attempts else None
        if served is None or served.reason is not None:
            return
        instead_of = tuple(
            (attempt.provider, attempt.reason) for attempt in record.attempts if attempt.reason
        )
        self.desk.report(Outcome((self.capability, served.provider), instead_of=instead_of))


class _Limit:
    """A time limit that cuts off nobody for what the loop itself was late with.

    When the loop was busy as the time ran out, an answer may lie unread in a socket. It is read
    first, or a machine out of breath would give up its providers one after the other.
    """

    def __init__(self, wait_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._due = self._loop.call_later(wait_s, self._ring)

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._due.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def restart(self, wait_s: float) -> None:
        """From now on, so much longer."""
        self._due.cancel()
        self._limit.reschedule(None)
        self._due = self._loop.call_later(wait_s, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        busy = now - self._due.when() > _BUSY_S
        self._limit.reschedule(now + _CATCH_UP_S if busy else now)


class _AllFailed(Exception):  # noqa: N818  not an error yet: it may be tried again
    """A round over the chain in which nobody began."""


class _Round(Generic[P, O]):
    """Once over the chain. More than one member is at work only while hedging."""

    def __init__(
        self,
        chain: Chain[P],
        ask: Callable[[P], AsyncGenerator[O, None]],
        deliver: Callable[[O], bool],
        record: Record,
        *,
        resumes: bool,
    ) -> None:
        self._chain = chain
        self._ask = ask
        self._deliver = deliver
        self._record = record
        self._resumes = resumes
        self._waiting = deque(chain.in_order(record))
        self._at_work: dict[asyncio.Task[None], Member[P]] = {}
        self._again: set[str] = set()

    async def run(self) -> None:
        """Raises:
        _AllFailed: nobody began.
        Failure: nobody went on with what was begun.
        """
        try:
            while self._waiting or self._at_work:
                self._start_next()
                done = await self._until_somebody_ends()
                if any(self._ended(task) for task in done):
                    return
        finally:
            await self._dismiss(list(self._at_work))
        if self._record.begun:
            raise Exhausted(self._chain.capability, self._record)
        raise _AllFailed

    def _start_next(self) -> None:
        """The next member begins, unless one is at work that is not to be hedged."""
        if self._waiting and (not self._at_work or not self._record.begun):
            member = self._waiting.popleft()
            task = asyncio.create_task(self._relay(member), name=f"ask {member.name}")
            self._at_work[task] = member

    async def _until_somebody_ends(self) -> set[asyncio.Task[None]]:
        """The tasks that ended; empty when it is time to ask another beside them."""
        hedge_s = self._chain.policy.hedge_after_s
        while True:
            may_hedge = self._waiting and not self._record.begun and len(self._at_work) == 1
            done, _ = await asyncio.wait(
                self._at_work,
                timeout=hedge_s if may_hedge else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done or not self._record.begun:
                return done

    def _ended(self, task: asyncio.Task[None]) -> bool:
        """Whether the round is over with this."""
        member = self._at_work.pop(task)
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return not task.cancelled()
        if not isinstance(failure, Failure):
            log.error("%s of %s went wrong", member.name, self._chain.capability, exc_info=failure)
            failure = Failure(Reason.BROKEN, f"{member.name}: {type(failure).__name__}")
        self._chain.note(member, failure, self._record)
        if self._record.complete:
            return True
        if self._record.speaker == member.name:
            self._after_a_death(member)
        return False

    def _after_a_death(self, member: Member[P]) -> None:
        """Who died while it spoke is asked once more, after the others: it may be alone."""
        if not self._resumes:
            self._waiting.clear()
        elif member.name not in self._again:
            self._again.add(member.name)
            self._waiting.append(member)

    async def _relay(self, member: Member[P]) -> None:
        """Hands on what ``member`` gives, for as long as it keeps its times."""
        speaking = False
        async with aclosing(self._ask(member.provider)) as outputs:
            try:
                async with _Limit(self._wait_s(member.first_s)) as limit:
                    async for output in outputs:
                        if self._deliver_of(member, output, first=not speaking):
                            speaking = True
                            limit.restart(self._wait_s(member.stall_s))
            except TimeoutError:
                raise self._late(member, stalled=speaking) from None
        if not speaking:
            raise Failure(Reason.EMPTY, f"{member.name}: the answer is empty")
        self._record.served(member.name, member.model)

    def _wait_s(self, own_s: float) -> float:
        """A provider with nobody behind it is given longer: to leave it helps nobody."""
        if self._waiting or len(self._at_work) > 1:
            return own_s
        return max(own_s, self._chain.policy.patience_s)

    def _deliver_of(self, member: Member[P], output: O, *, first: bool) -> bool:
        """Hands on an output; with the first one, whoever else is at work is dismissed."""
        if not self._deliver(output):
            return False
        if first:
            record = self._record
            record.speaker, record.model = member.name, member.model
            if record.first_output_s is None:
                record.first_output_s = record.age_s
            self._beat(member)
        return True

    def _beat(self, winner: Member[P]) -> None:
        for task, member in self._at_work.items():
            if member is not winner and not task.done():
                task.cancel()
                key = (self._chain.capability, member.name)
                self._chain.desk.report(Outcome(key, lost=True))

    def _late(self, member: Member[P], *, stalled: bool) -> Failure:
        if stalled:
            message = f"{member.name}: it stopped in the middle for {member.stall_s:g} s"
            return Failure(Reason.STALLED, message)
        return Failure(Reason.SILENT, f"{member.name}: nothing within {member.first_s:g} s")

    async def _dismiss(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
