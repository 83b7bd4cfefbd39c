"""What a simulated server does wrong, and how fast it is. Pure: it knows no socket and no clock."""

import random
from collections import Counter
from collections.abc import Sequence

from runner.config import Fault, SimulatedServer


class Script:
    """Which fault strikes at which request. Requests are counted from 1, from the time on when
    the faults were set; where several faults name the same request, the first listed strikes."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.set(faults)

    def set(self, faults: Sequence[Fault]) -> None:
        """Other faults from now on; the next request is number 1 again."""
        self.faults = tuple(faults)
        self._asked: Counter[str | None] = Counter()  # by endpoint; None: at all of them

    def strike(self, endpoint: str = "") -> Fault | None:
        """Count a request; what it meets. Never ``refuse``: such a request does not arrive."""
        self._asked.update((None, endpoint))
        here = (fault for fault in self.faults if fault.endpoint in (None, endpoint))
        answered = (fault for fault in here if fault.kind != "refuse")
        return next((fault for fault in answered if self._names(fault, 0)), None)

    def standing(self) -> Fault | None:
        """What a glance at the server meets (a probe of its models): it is not counted, so only
        the faults of every request can strike it, and of these those that come before an answer.
        """
        standing = (fault for fault in self.faults if not fault.at and fault.endpoint is None)
        return next((fault for fault in standing if fault.kind in ("status", "hang")), None)

    def refusal(self) -> Fault | None:
        """The fault that keeps the next request from connecting."""
        refusals = (fault for fault in self.faults if fault.kind == "refuse")
        return next((fault for fault in refusals if self._names(fault, 1)), None)

    def end_refusal(self, fault: Fault) -> None:
        """The server is back: the request that was refused counts as asked."""
        if fault.at:
            self._asked.update({None, fault.endpoint})
        self.faults = tuple(other for other in self.faults if fault.at or other is not fault)

    def _names(self, fault: Fault, ahead: int) -> bool:
        """Whether the request of now, or so many ahead, is among those of ``fault``."""
        return not fault.at or self._asked[fault.endpoint] + ahead in fault.at


class Pace:
    """How long an answer takes; the same seed gives the same waits in the same order."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._random = random.Random(server.seed)  # noqa: S311  waits, no secrets

    def first_s(self) -> float:
        """From the request to the first of the answer."""
        return self._jittered(self._server.first_s)

    def token_s(self) -> float:
        """From one token to the next."""
        return self._jittered(self._server.per_token_s)

    def _jittered(self, wait_s: float) -> float:
        if not self._server.jitter:
            return wait_s
        return wait_s * self._random.uniform(1 - self._server.jitter, 1 + self._server.jitter)
