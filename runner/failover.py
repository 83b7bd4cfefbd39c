"""A chain: providers of one capability in order of preference, of which one serves.

One type for LLM, STT and TTS. It knows nothing of words or sound: it is given a way to ask a
provider and a place to put what comes, and it keeps the time, the order and the record.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from runner.breaker import State
from runner.config import Failover
from runner.providers.failure import Failure, Reason
from runner.switchboard import Desk, Outcome

log = logging.getLogger(__name__)

P = TypeVar("P")
O = TypeVar("O")  # noqa: E741  an output: a chunk, a transcript, samples

_LONGEST_BACKOFF_S = 2.0
_SHY_S = 5.0  # a provider that failed is asked after the others for so long
_FINAL = {Reason.REFUSED, Reason.REJECTED}  # to ask the same again would change nothing


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


@dataclass(frozen=True)
class Attempt:
    """One asking of one provider. ``reason``: why it did not serve to the end; None: it did."""

    provider: str
    model: str
    after_s: float
    reason: Reason | None
    message: str = ""


@dataclass
class Service:
    """The record of one request: who was asked, who served. Times from ``began``."""

    attempts: list[Attempt] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    speaker: str | None = None
    """Whose output is being handed on, or was handed on last."""
    model: str = ""
    permit_wait_s: float = 0.0
    first_output_s: float | None = None
    complete: bool = False
    """Nothing may follow what was handed on, such as a tool call: a failure after it is an end."""

    @property
    def begun(self) -> bool:
        """Whether anything was handed on."""
        return self.first_output_s is not None

    @property
    def failed(self) -> list[Attempt]:
        """The attempts that did not serve."""
        return [attempt for attempt in self.attempts if attempt.reason is not None]

    def metadata(self) -> dict[str, object]:
        """What is stored with the message and shown on the page."""
        return {
            "provider": self.speaker,
            "model": self.model,
            "attempts": len(self.attempts),
            "failovers": [
                {"provider": tried.provider, "reason": str(tried.reason)} for tried in self.failed
            ],
            "permit_wait_s": round(self.permit_wait_s, 4),
        }


def together(services: Iterable[Service]) -> Service:
    """One record of several requests that made one answer, such as its sentences."""
    whole = Service()
    for service in services:
        whole.attempts += service.attempts
        whole.speaker = service.speaker or whole.speaker
        whole.model = service.model or whole.model
    return whole


class Exhausted(Failure):
    """Nobody of a chain served; the message has every reason."""

    def __init__(self, capability: str, service: Service) -> None:
        reasons = dict.fromkeys(attempt.message for attempt in service.failed)
        told = "; ".join(reasons) or "each has asked for a pause"
        super().__init__(Reason.BROKEN, f"no {capability} answered ({told})")
        self.service = service


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
        self.latest = Service()
        self._failed_at: dict[str, float] = {}
        self._told: set[tuple[str, Reason]] = set()

    async def serve(
        self,
        ask: Callable[[P], AsyncGenerator[O, None]],
        deliver: Callable[[O], bool],
        *,
        service: Service,
        resumes: bool = False,
    ) -> None:
        """Asks the members until one has served to its end.

        ``ask`` is called anew for each attempt. ``deliver`` takes an output and answers whether
        it was one: a keep-alive is none. ``resumes``: what ``ask`` gives after an output was
        delivered goes on from there, so a failure in the middle moves on as well.

        Raises:
            Exhausted: nobody did; nothing is tried after ``failover.total_s``.
        """
        self.latest = service
        tries = AsyncRetrying(
            stop=stop_after_attempt(self.policy.tries),
            wait=wait_exponential(multiplier=self.policy.backoff_s, max=_LONGEST_BACKOFF_S),
            retry=retry_if_exception_type(_AllFailed),
        )
        try:
            async with asyncio.timeout(self.policy.total_s):
                async for attempt in tries:
                    with attempt:
                        await _Round(self, ask, deliver, service, resumes=resumes).run()
        except (RetryError, TimeoutError):
            raise Exhausted(self.capability, service) from None
        finally:
            self._report_service(service)

    def in_order(self, service: Service) -> list[Member[P]]:
        """Whom to ask now: not those that refused this request for good or asked for a pause;
        those that are left alone only when nobody else is there; those that failed a moment ago
        last."""
        final = {attempt.provider for attempt in service.failed if attempt.reason in _FINAL}
        states = {
            member.name: self.desk.state((self.capability, member.name)) for member in self.members
        }
        left = [
            member
            for member in self.members
            if member.name not in final and states[member.name] is not State.RESTING
        ]
        asked = [member for member in left if states[member.name] is State.CLOSED] or left
        shy_since = time.monotonic() - _SHY_S
        return sorted(asked, key=lambda member: self._failed_at.get(member.name, -1) > shy_since)

    def note(self, member: Member[P], failure: Failure, service: Service) -> None:
        """Takes note of a failure; the log gets a provider's kinds once each."""
        message = str(failure)
        if member.name not in message:
            message = f"{member.name}: {message}"
        after_s = time.perf_counter() - service.began
        service.attempts.append(
            Attempt(member.name, member.model, after_s, failure.reason, message)
        )
        self._failed_at[member.name] = time.monotonic()
        self.desk.report(
            Outcome((self.capability, member.name), failure.reason, failure.retry_after_s)
        )
        kind = (member.name, failure.reason)
        level = logging.DEBUG if kind in self._told else logging.WARNING
        log.log(level, "%s: %s", self.capability, message)
        self._told.add(kind)

    def _report_service(self, service: Service) -> None:
        served = service.attempts[-1] if service.attempts else None
        if served is None or served.reason is not None:
            return
        instead_of = tuple(
            (attempt.provider, attempt.reason) for attempt in service.attempts if attempt.reason
        )
        self.desk.report(Outcome((self.capability, served.provider), instead_of=instead_of))


class _AllFailed(Exception):  # noqa: N818  not an error yet: it may be tried again
    """A round over the chain in which nobody began."""


class _Round(Generic[P, O]):
    """Once over the chain. More than one member is at work only while hedging."""

    def __init__(
        self,
        chain: Chain[P],
        ask: Callable[[P], AsyncGenerator[O, None]],
        deliver: Callable[[O], bool],
        service: Service,
        *,
        resumes: bool,
    ) -> None:
        self._chain = chain
        self._ask = ask
        self._deliver = deliver
        self._service = service
        self._resumes = resumes
        self._waiting = deque(chain.in_order(service))
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
        if self._service.begun:
            raise Exhausted(self._chain.capability, self._service)
        raise _AllFailed

    def _start_next(self) -> None:
        """The next member begins, unless one is at work that is not to be hedged."""
        if self._waiting and (not self._at_work or not self._service.begun):
            member = self._waiting.popleft()
            task = asyncio.create_task(self._relay(member), name=f"ask {member.name}")
            self._at_work[task] = member

    async def _until_somebody_ends(self) -> set[asyncio.Task[None]]:
        """The tasks that ended; empty when it is time to ask another beside them."""
        hedge_s = self._chain.policy.hedge_after_s
        while True:
            may_hedge = self._waiting and not self._service.begun and len(self._at_work) == 1
            done, _ = await asyncio.wait(
                self._at_work,
                timeout=hedge_s if may_hedge else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done or not self._service.begun:
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
        self._chain.note(member, failure, self._service)
        if self._service.complete:
            return True
        if self._service.speaker == member.name:
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
        now = asyncio.get_running_loop().time
        deadline = now() + self._wait_s(member.first_s)
        async with aclosing(self._ask(member.provider)) as outputs:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        output = await anext(outputs)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise self._late(member, stalled=speaking) from None
                if self._deliver_of(member, output, first=not speaking):
                    speaking = True
                    deadline = now() + self._wait_s(member.stall_s)
        if not speaking:
            raise Failure(Reason.EMPTY, f"{member.name}: the answer is empty")
        self._service.attempts.append(
            Attempt(member.name, member.model, time.perf_counter() - self._service.began, None)
        )

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
            service = self._service
            service.speaker, service.model = member.name, member.model
            if service.first_output_s is None:
                service.first_output_s = time.perf_counter() - service.began
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
