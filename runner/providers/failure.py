"""Why a provider did not serve: the words in which every client tells the chains."""

from enum import StrEnum

from livekit.agents import APIError


class Reason(StrEnum):
    """What went wrong, as metrics and the record of an answer name it."""

    UNREACHABLE = "unreachable"
    """No connection: refused, reset, no such host."""
    BUSY = "busy"
    """429, or 503 with Retry-After: not now."""
    BROKEN = "broken"
    """5xx, or an error in place of an answer."""
    REFUSED = "refused"
    """401, 402, 403, 404: the operator must mend a key, an account or a model's name."""
    REJECTED = "rejected"
    """400, 413, 422: this request, not the provider, is at fault."""
    SILENT = "silent"
    """No first output by the deadline; keep-alives are no output."""
    STALLED = "stalled"
    """It stopped in the middle."""
    CUT = "cut"
    """The answer ended without its end."""
    MALFORMED = "malformed"
    """What came is not what was asked for: no JSON, no audio, a wrong sample rate."""
    EMPTY = "empty"
    """An answer without a word."""


class Failure(APIError):  # noqa: N818  it is often no error: the next provider serves
    """A provider did not serve.

    ``retry_after_s``: how long it asked to be left alone, if it did.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retryable=False)
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


def of_status(status: int, message: str, retry_after_s: float | None = None) -> Failure:
    """The failure that an HTTP status of 400 or more means."""
    if status == 429 or (status == 503 and retry_after_s is not None):
        reason = Reason.BUSY
    elif status in (401, 402, 403, 404):
        reason = Reason.REFUSED
    elif status in (400, 413, 422):
        reason = Reason.REJECTED
    else:
        reason = Reason.BROKEN
    return Failure(reason, message, retry_after_s=retry_after_s)
