"""What Google's answers mean where they differ from everybody else's. It loads no client."""

import json
from collections.abc import Iterator
from typing import Any

from runner.providers.failure import Failure, Reason
from runner.providers.refusals import Asked, of_response

NO_KEY = "none"  # the clients insist on one; an address of one's own may ask for none
GOOGLE_URL = "https://generativelanguage.googleapis.com"


def of_google(place: str, asked: Asked, status: int, body: object) -> Failure:
    """The failure that an error of Google means.

    Args:
        place: the provider with its address.
        asked: with what.
        status: the HTTP status; of an error inside a stream, its code.
        body: the JSON that came: ``{"error": {"status", "message", "details"}}``, or anything.
    """
    for reason in _reasons(body):
        if reason.startswith("API_KEY_"):  # a wrong key is a 400, as a wrong request is
            words = f"it refuses the key in {asked.key_env}; set a valid one"
            return Failure(Reason.REFUSED, f"{place}: {words} (HTTP {status} {reason})")
    return of_response(place, asked, status, {}, json.dumps(body))


def serves(model: object, method: str) -> bool:
    """Whether the description of a model names ``method``; one that names none may."""
    methods = model.get("supportedGenerationMethods") if isinstance(model, dict) else None
    return not isinstance(methods, list) or not methods or method in methods


def _reasons(body: object) -> Iterator[str]:
    """Each ``reason`` among the details of an error."""
    if isinstance(body, list) and body:
        body = body[0]
    error: Any = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str):
            yield detail["reason"]
