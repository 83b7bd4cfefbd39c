"""How a request to a provider ended, as the worker is told."""

from dataclasses import dataclass

from runner.providers.failure import Reason

Key = tuple[str, str]
"""Capability and provider, such as ("LLM", "vllm")."""


@dataclass(frozen=True)
class Outcome:
    """How a request to a provider ended.

    ``reason``: why it did not serve; None: it did. ``instead_of``: who failed before it served,
    and why. ``lost``: it was asked beside another, which was quicker.
    """

    key: Key
    reason: Reason | None = None
    retry_after_s: float | None = None
    instead_of: tuple[tuple[str, Reason], ...] = ()
    lost: bool = False
