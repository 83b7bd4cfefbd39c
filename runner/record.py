"""The record of a request: who was asked, who failed and why, who served."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from runner.providers.failure import Failure, Reason


@dataclass(frozen=True)
class Attempt:
    """One asking of one provider. ``reason``: why it did not serve to the end; None: it did."""

    provider: str
    model: str
    after_s: float
    reason: Reason | None
    message: str = ""


@dataclass
class Record:
    """The record of one request: who was asked, who served. Times from ``began``."""

    attempts: list[Attempt] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    speaker: str | None = None
    """Whose output is being handed on, or was handed on last."""
    model: str = ""
    permit_wait_s: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    """What an LLM's answer cost, ``prompt`` and ``completion``, as who ended it counted; empty: it
    did not say."""
    first_output_s: float | None = None
    complete: bool = False
    """Nothing may follow what was handed on, such as a tool call: a failure after it is an end."""

    @property
    def begun(self) -> bool:
        """Whether anything was handed on."""
        return self.first_output_s is not None

    @property
    def age_s(self) -> float:
        """The time since it began."""
        return time.perf_counter() - self.began

    def served(self, provider: str, model: str) -> None:
        """Takes note that a provider served to the end."""
        self.attempts.append(Attempt(provider, model, self.age_s, None))

    @property
    def failed(self) -> list[Attempt]:
        """The attempts that did not serve."""
        return [attempt for attempt in self.attempts if attempt.reason is not None]

    @property
    def left(self) -> bool:
        """Whether who handed on last has failed since, and nobody has gone on yet."""
        return any(attempt.provider == self.speaker for attempt in self.failed)

    def metadata(self) -> dict[str, object]:
        """What is stored with the message and shown on the page."""
        known = {"tokens": self.tokens} if self.tokens else {}
        return {
            "provider": self.speaker,
            "model": self.model,
            "attempts": len(self.attempts),
            "failovers": [
                {"provider": tried.provider, "reason": str(tried.reason)} for tried in self.failed
            ],
            "permit_wait_s": round(self.permit_wait_s, 4),
            **known,
        }


def counted(prompt: int, completion: int) -> dict[str, int]:
    """Tokens as a provider counts them; it writes 0 for what it did not count."""
    counts = {"prompt": prompt, "completion": completion}
    return {side: count for side, count in counts.items() if count}


def together(records: Iterable[Record]) -> Record:
    """One record of several requests that made one answer, such as its sentences."""
    whole = Record()
    for record in records:
        whole.attempts += record.attempts
        whole.speaker = record.speaker or whole.speaker
        whole.model = record.model or whole.model
    return whole


class Exhausted(Failure):
    """Nobody of a chain served; the message has every reason."""

    def __init__(self, capability: str, record: Record) -> None:
        reasons = dict.fromkeys(attempt.message for attempt in record.failed)
        told = "; ".join(reasons) or "each has asked for a pause, or is switched off"
        super().__init__(Reason.BROKEN, f"no {capability} answered ({told})")
        self.record = record
