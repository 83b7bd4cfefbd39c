"""Fixtures that files of this folder share."""

from tests.integration.operator_port import port, serve, settings  # noqa: F401
