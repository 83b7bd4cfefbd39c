"""The composed configuration, which most units are given: composed once for each choice."""

import os
from collections.abc import Callable
from functools import cache

import pytest

from runner.config import Config
from tests.composed import composed as compose


@cache
def _composed(*overrides: str) -> Config:
    given = {name: os.environ.pop(name) for name in _SETTING if name in os.environ}
    try:
        return compose(*overrides)
    finally:
        os.environ.update(given)


_SETTING = (
    *("LLM_PROVIDER", "LIVEKIT_URL", "RAG_ENABLED"),
    *("DATABASE_URL", "POSTGRES_HOST", "POSTGRES_PORT"),
)
"""Variables of the environment that would change what units rely on."""


@pytest.fixture(scope="session")
def composed() -> Callable[..., Config]:
    """The configuration with these overrides, whatever the environment says."""
    return _composed


@pytest.fixture(scope="session")
def settings(composed: Callable[..., Config]) -> Config:
    """The configuration as it comes."""
    return composed()
