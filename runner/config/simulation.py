"""Providers that are played."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator

from runner.config.bounds import (
    EMBEDDING_DIMENSIONS,
    Count,
    Delay,
    Name,
    OpenAIBaseURL,
    Port,
    Strict,
)


def one_group(pattern: str) -> str:
    """``pattern``, a regular expression with one group; or it is empty.

    Raises:
        ValueError: it is none.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"a regular expression is expected: {error}") from None
    if pattern and groups != 1:
        raise ValueError("a regular expression with one group (...) is expected")
    return pattern


FaultKind = Literal[
    "refuse",
    "status",
    "hang",
    "keepalive_only",
    "stall_after",
    "truncate",
    "cut",
    "malformed",
    "error_chunk",
    "slow",
    "empty",
    "wrong_rate",
    "garbage",
    "silence",
    "go_away",
]
"""What a simulated server can do wrong; docs/simulator.md says what each looks like."""


@dataclass(frozen=True)
class Fault(Strict):
    """One thing that a simulated server does wrong.

    ``at``: at which requests, from 1; empty: at every one. ``after``: tokens of text or bytes of
    sound that come before. ``seconds``: how long it lasts; null: as long as the client waits.
    ``endpoint``: the only one that it strikes, whose requests alone are counted; null: any.
    """

    kind: FaultKind
    at: list[Count] = field(default_factory=list)
    after: Annotated[int, Ge(0)] = 0
    status: Annotated[int, Ge(400), Le(599)] = 503
    retry_after_s: Delay | None = None
    seconds: Delay | None = None
    body: Literal["noise", "mp3", "html"] = "noise"
    endpoint: Literal["chat", "transcriptions", "speech", "embeddings"] | None = None


@dataclass(frozen=True)
class ToolAnswer(Strict):
    """An answer that calls a tool."""

    tool: Name
    arguments: dict[str, Any] = field(default_factory=dict)
    when: str = ""


@dataclass(frozen=True)
class TextAnswer(Strict):
    """What a simulated LLM says where the last message holds the words ``when``; empty: in turn.

    ``recalls``: a regular expression. What its group last matched in the words of the user, in this
    request and no other, takes the place of ``{}`` in the text; "nothing": it matches nowhere.
    """

    text: str
    when: str = ""
    recalls: Annotated[str, AfterValidator(one_group)] = ""


@dataclass(frozen=True)
class SimulatedServer(Strict):
    """A server that speaks a provider's wire shapes, on a port of its own.

    ``api_key``: no secret, a key that clients must show; empty: none. ``realtime_factor``: seconds
    that a second of sound takes to make. ``upstream``: the real server that speech is relayed
    from; null: speech is played too. docs/simulator.md says what each key does.
    ``tls_port``: of Google's Live API; ``certificate``: the file that its certificate is written
    to, for clients to trust.
    """

    speaks: Literal["openai", "openrouter", "ollama", "google"]
    port: Port
    models: Annotated[list[Name], Len(1)]
    api_key: str = ""
    first_s: Delay = 0.1
    per_token_s: Delay = 0.01
    jitter: Annotated[float, Ge(0), Le(1)] = 0.0
    seed: int = 1
    context_tokens: Annotated[int, Ge(16)] = 4096
    parallel: Count | None = None
    continues: bool = True
    manners: Literal["exact", "repeats_words", "restarts"] = "exact"
    answers: list[str | TextAnswer | ToolAnswer] = field(default_factory=list)
    transcripts: list[str] = field(default_factory=list)
    sample_rate: Annotated[int, Ge(8_000), Le(48_000)] = 24_000
    realtime_factor: Delay = 0.0
    dimensions: Annotated[int, Ge(1), Le(4096)] = EMBEDDING_DIMENSIONS
    upstream: OpenAIBaseURL | None = None
    tls_port: Port | None = None
    certificate: str = ""
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Simulation(Strict):
    """Providers that are played, by name; each listens on loopback.

    ``port``: where they are watched and their faults are changed, also while they refuse.
    """

    port: Port
    servers: Annotated[dict[str, SimulatedServer], Len(1)]
