"""The fingerprint of a configuration: which one a conversation ran with."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from runner.config import Config

_LENGTH = 16  # hexadecimal digits


def of_configuration(config: Config) -> dict[str, Any]:
    """What a conversation depends on: all but the task. It names secrets and holds none."""
    whole = asdict(config)
    del whole["task"]
    return whole


def of_session(config: Config) -> dict[str, Any]:
    """The configuration of a session, and the fingerprint under which it is stored."""
    return {"fingerprint": fingerprint(config), "configuration": of_configuration(config)}


def fingerprint(config: Config) -> str:
    """The same for the same configuration, whatever its order: 16 hexadecimal digits of the
    SHA-256 of its JSON."""
    text = json.dumps(of_configuration(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
