"""How often a provider failed of late."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.providers.failure import Reason

WINDOW_S = 300.0
"""What is older is forgotten."""

_MOST_REQUESTS = 2000  # of one provider; of more, the latest are looked at


@dataclass
class Tally:
    """One provider's requests of the last five minutes."""

    clock: Callable[[], float] = time.monotonic
    _ended: deque[tuple[float, Reason | None]] = field(
        default_factory=lambda: deque(maxlen=_MOST_REQUESTS)
    )

    def add(self, reason: Reason | None) -> None:
        """A request ended; ``reason``: why it was not served."""
        self._ended.append((self.clock(), reason))

    @property
    def requests(self) -> int:
        """How many there were."""
        while self._ended and self._ended[0][0] < self.clock() - WINDOW_S:
            self._ended.popleft()
        return len(self._ended)

    @property
    def errors(self) -> dict[str, int]:
        """How many failed, by why."""
        _ = self.requests
        return dict(Counter(str(reason) for _, reason in self._ended if reason is not None))
