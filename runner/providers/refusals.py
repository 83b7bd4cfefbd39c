"""What a server's error says, in a sentence that names what to mend, and never in its own words
where they repeat what was asked: a caller's words belong into no log."""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.providers.failure import Failure, of_status

_SHOWN_CHARS = 200
_ECHO_WORDS = 3  # so many words in a row that were also sent: an echo
_LONGEST_WAIT_S = 3600.0

# OpenAI's names of errors, for servers that put no number into an error within a stream.
_STATUS_OF = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
}
_WAITS = (
    (re.compile(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"'), 1.0),  # Google
    (re.compile(r'"retry_after(?:_seconds)?"\s*:\s*"?(\d+(?:\.\d+)?)'), 1.0),
    (re.compile(r"try again in (\d+(?:\.\d+)?)ms"), 0.001),  # OpenAI and Groq
    (re.compile(r"try again in (\d+(?:\.\d+)?)s"), 1.0),
)
_NO_MODEL = re.compile(r"not a valid model|model_not_found", re.IGNORECASE)  # OpenRouter: a 400
_RESET_AT_MS = re.compile(r'"X-RateLimit-Reset"\s*:\s*"?(\d{12,14})')  # OpenRouter


@dataclass(frozen=True)
class Asked:
    """What a server was asked with: the model, the name of the key's variable, the key, and the
    texts that no message may repeat."""

    model: str
    key_env: str
    key: str
    private: tuple[str, ...]


def of_response(
    place: str, asked: Asked, status: int, headers: Mapping[str, str], body: str
) -> Failure:
    """The failure that an answer with a status of 300 or more means."""
    wait_s = _wait_s(headers, body)
    detail = _joined(f"HTTP {status}", wait_s, _words(body, asked))
    meant = 404 if status == 400 and _NO_MODEL.search(body) else status
    words = f"{place}: {_what(meant, asked)} ({detail})"
    return of_status(meant if meant >= 400 else 404, words, wait_s)  # a redirect: mend the address


def of_error(place: str, asked: Asked, error: object) -> Failure:
    """The failure that an error object in an answer with status 200 means."""
    body = json.dumps({"error": error})
    status, wait_s = _status(error), _wait_s({}, body)
    detail = _joined(f"error {status}", wait_s, _words(body, asked))
    return of_status(status, f"{place}: {_what(status, asked)} ({detail})", wait_s)


def shown(text: str) -> str:
    """Foreign text for a log: a line of printable characters, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:4096]).split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}…"


def _what(status: int, asked: Asked) -> str:
    if status in (401, 403):
        return _what_key(asked)
    if 300 <= status < 400:
        return "it redirects to another address; set base_url to that"
    if status == 404 and not asked.model:
        return "it has no such address; set the right base_url"
    whats = {
        400: "it rejects the request",
        402: f"the account of {asked.key_env or 'this key'} has no credit; top it up",
        404: f"it has no model {asked.model}; set another model, or the right base_url",
        413: "it rejects the request",
        422: "it rejects the request",
        429: "it has too many requests",
    }
    return whats.get(status, "it failed")


def _what_key(asked: Asked) -> str:
    if asked.key and asked.key_env:
        return f"it refuses the key in {asked.key_env}; set a valid one"
    if asked.key_env:
        return f"it wants a key; set {asked.key_env}"
    return "it wants a key; set api_key_env to the name of a variable that holds one"


def _joined(status: str, wait_s: float | None, words: str) -> str:
    wait = "" if wait_s is None else f", again in {wait_s:g} s"
    return f"{status}{wait}: {words}" if words else f"{status}{wait}"


def _status(error: object) -> int:
    """An HTTP status as a number, as digits, or by OpenAI's name; else 500."""
    fields = error if isinstance(error, dict) else {}
    for value in (fields.get("code"), fields.get("status"), fields.get("type")):
        if isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) == 3:
            return max(int(value), 400)
        if isinstance(value, str) and value in _STATUS_OF:
            return _STATUS_OF[value]
    return 500


def _words(body: str, asked: Asked) -> str:
    """The message of an error's JSON, or nothing: no field that echoes the input, no web page."""
    try:
        message = _message(json.loads(body))
    except (ValueError, RecursionError):
        message = "" if body.lstrip().startswith(("<", "{", "[")) else body
    line = shown(message.replace(asked.key, "***") if asked.key else message)
    return "" if _echoes(message, asked.private) else line


def _message(answer: Any) -> str:
    """OpenAI's ``error.message``, vLLM's ``message``, FastAPI's ``detail``, Google's list."""
    match answer:
        case [first, *_]:
            return _message(first)
        case {"error": (dict() | str()) as error}:
            return _message(error)
        case {"message": str(message)} | {"detail": str(message)} | {"msg": str(message)}:
            return message
        case {"detail": [first, *_]}:
            return _message(first)
        case str(message):
            return message
        case _:
            return ""


def _echoes(message: str, private: tuple[str, ...]) -> bool:
    told = _runs(message, _ECHO_WORDS)
    for text in private:
        count = min(_ECHO_WORDS, len(re.findall(r"\w+", text)))
        if count and not (told if count == _ECHO_WORDS else _runs(message, count)).isdisjoint(
            _runs(text, count)
        ):
            return True
    return False


def _runs(text: str, count: int) -> set[tuple[str, ...]]:
    """Every ``count`` words in a row."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[at : at + count]) for at in range(len(words) - count + 1)}


def _wait_s(headers: Mapping[str, str], body: str) -> float | None:
    """How long the server asks to be left alone: ``Retry-After``, else what its body says."""
    told = _header_wait_s(headers)
    if told is None:
        told = next(
            (float(match[1]) * unit for wait, unit in _WAITS if (match := wait.search(body))), None
        )
    if told is None and (reset := _RESET_AT_MS.search(body)):
        told = int(reset[1]) / 1000 - time.time()
    return None if told is None else round(min(max(told, 0.0), _LONGEST_WAIT_S), 3)


def _header_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds or an HTTP date, as RFC 9110 has it; milliseconds, as OpenAI has them."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", wait_ms := headers.get("retry-after-ms", "")):
        return float(wait_ms) / 1000
    wait = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", wait):
        return float(wait)
    try:
        return email.utils.parsedate_to_datetime(wait).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
