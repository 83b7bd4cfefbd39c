"""Fixtures that files of this folder share."""

from tests.integration.acted import browser, livekit, opened  # noqa: F401
from tests.integration.operator_port import port, serve, settings  # noqa: F401
