"""A breaker: whether a provider may be asked, judged by what befell the latest requests.

Pure: time is given, nothing waits here. `Switchboard` keeps one for each provider and asks the
probes; calls only read whether it is closed.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from runner.config import Breaker as Settings
from runner.providers.failure import Reason

NOT_ITS_FAULT = {Reason.REJECTED, Reason.EMPTY}
"""What says more of the request than of the provider."""


class State(StrEnum):
    """``closed``: asked. ``open``: left alone. ``half-open``: a probe decides. ``resting``: it
    asked for a pause, and is asked again when that is over. ``off``: no breaker's state, but the
    operator's word: it is not asked, whoever else is left."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    RESTING = "resting"
    OFF = "off"


@dataclass
class Breaker:
    """One provider's. Times are seconds of a monotonic clock."""

    settings: Settings
    state: State = State.CLOSED
    reason: Reason | None = None
    """Why it is not closed."""
    probe_at: float = 0.0
    """When the next probe is due (open), or the pause is over (resting)."""
    _failed_at: deque[float] = field(default_factory=deque)
    _probe_wait_s: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether requests are let through."""
        return self.state is State.CLOSED

    def failed(self, reason: Reason, now: float, retry_after_s: float | None = None) -> bool:
        """Takes note of a failed request; whether the state changed."""
        if reason in NOT_ITS_FAULT or self.state in (State.OPEN, State.HALF_OPEN):
            return False
        if reason is Reason.BUSY and retry_after_s is not None:
            return self._rest(reason, now + retry_after_s)
        self._failed_at.append(now)
        while self._failed_at[0] <= now - self.settings.window_s:
            self._failed_at.popleft()
        if reason is Reason.REFUSED or len(self._failed_at) >= self.settings.failures:
            self._open(reason, now)
            return True
        return False

    def served(self) -> bool:
        """Takes note of a request that was served; whether the state changed.

        One that was asked although it was open, because nobody else was left, closes it. While it
        is closed, a success takes back no failure: a provider that fails every other request opens.
        """
        if self.state is State.CLOSED:
            return False
        self._close()
        return True

    def probing(self) -> None:
        """A probe is on its way."""
        self.state = State.HALF_OPEN

    def probed(self, reason: Reason | None, now: float) -> None:
        """What the probe found: None closes; a failure doubles the wait for the next. When a call
        was served in the meantime, that has decided already."""
        if self.closed:
            return
        if reason is None:
            self._close()
            return
        self.state, self.reason = State.OPEN, reason
        self._probe_wait_s = min(self._probe_wait_s * 2, self.settings.probe_longest_s)
        self.probe_at = now + self._probe_wait_s

    def rested(self, now: float) -> bool:
        """Closes when a pause is over; whether it did."""
        if self.state is State.RESTING and now >= self.probe_at:
            self._close()
            return True
        return False

    def _rest(self, reason: Reason, until: float) -> bool:
        changed = self.state is not State.RESTING
        self.state, self.reason = State.RESTING, reason
        self.probe_at = max(self.probe_at, until) if not changed else until
        return changed

    def _open(self, reason: Reason, now: float) -> None:
        self.state, self.reason = State.OPEN, reason
        self._probe_wait_s = self.settings.probe_after_s
        self.probe_at = now + self._probe_wait_s

    def _close(self) -> None:
        self.state, self.reason = State.CLOSED, None
        self._failed_at.clear()
