"""What one start of the program does."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len
from pydantic import Discriminator

from runner.config.bounds import Count, Delay, Language, Name, Seconds, Strict


@dataclass(frozen=True)
class ServeTask(Strict):
    """Take calls until interrupted."""

    name: Literal["serve"]


@dataclass(frozen=True)
class CallTask(Strict):
    """Call a running agent with recorded audio. ``language``: the caller's; null: unsaid."""

    name: Literal["call"]
    audio: Annotated[list[str], Len(1)]
    out: str
    reply_timeout_s: Seconds
    url: str
    language: Language | None = None


@dataclass(frozen=True)
class ChatTask(Strict):
    """Type to the agent. ``language``: the caller's; null: unsaid."""

    name: Literal["chat"]
    language: Language | None = None


@dataclass(frozen=True)
class DoctorTask(Strict):
    """Probe every part of the configuration."""

    name: Literal["doctor"]
    timeout_s: Seconds


@dataclass(frozen=True)
class IndexTask(Strict):
    """Index the documents and exit."""

    name: Literal["index"]


@dataclass(frozen=True)
class SearchTask(Strict):
    """Search the documents. ``filename``: only in those whose name holds it; empty: in all."""

    name: Literal["search"]
    query: Name
    filename: str = ""
    format: Literal["table", "json"] = "table"


@dataclass(frozen=True)
class EvalTask(Strict):
    """Measure search and answers over a corpus whose questions and answers are known."""

    name: Literal["eval"]
    corpus: Name
    questions: Name
    misses: bool = False


@dataclass(frozen=True)
class RetentionTask(Strict):
    """Delete old conversations."""

    name: Literal["retention"]
    dry_run: bool = False


@dataclass(frozen=True)
class InstructionsTask(Strict):
    """Look after the personas. ``persona`` (the name), ``language``, ``greeting`` and ``text``: of
    the row ``id``; null: as it is. ``file`` holds the text. ``version``: one of the history.
    """

    name: Literal["instructions"]
    action: Literal[
        "list", "show", "add", "edit", "activate", "deactivate", "history", "restore"
    ] = "list"
    id: Count | None = None
    version: Count | None = None
    persona: Annotated[str, Len(1, 255)] | None = None
    language: Annotated[Language, Len(2, 10)] | None = None
    greeting: str | None = None
    text: Name | None = None
    file: str = ""


@dataclass(frozen=True)
class DbTask(Strict):
    """The database's address, a copy of it, or the way back. ``file``: where the copy is."""

    name: Literal["db"]
    action: Literal["url", "backup", "restore"] = "url"
    file: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class ModelsTask(Strict):
    """Serve the models alone."""

    name: Literal["models"]


@dataclass(frozen=True)
class Peer(Strict):
    """Somebody else's agent that is called beside ours: ``python`` runs ``script``. ``turn``: it
    decides by its own defaults when a turn is over, or by our settings.
    """

    python: Name
    script: Name
    turn: Literal["defaults", "same"] = "defaults"


Objective = Literal["p50_s", "p95_s", "cpu_s", "memory_mb", "false_ends"]
"""What a sweep may make small: what callers wait, CPU seconds a call-minute, memory with all calls,
and the share of hesitations that are taken for the end of a turn."""


@dataclass(frozen=True)
class BenchTask(Strict):
    """Measure what callers wait for. ``arms``: who is called, in turn: ``runner`` is this agent,
    the others are ``peers``. ``pick``: the name of the preset that is written; empty: none.
    ``p95_s``: what a pick may take. ``objectives``: what a sweeper that optimises is told.
    """

    name: Literal["bench"]
    transport: Literal["memory", "room"]
    arms: Annotated[list[Name], Len(1)]
    peers: dict[str, Peer]
    callers: Annotated[int, Ge(1), Le(50)]
    turns_per_minute: Annotated[float, Gt(0), Le(60)]
    rounds: Count
    turns: Count
    warm_up: Annotated[int, Ge(0)]
    rest_s: Delay
    reply_timeout_s: Seconds
    out: Name
    resume: bool
    pick: str
    p95_s: Seconds
    objectives: Annotated[list[Objective], Len(1)]


Task = Annotated[
    ServeTask
    | CallTask
    | ChatTask
    | DoctorTask
    | IndexTask
    | SearchTask
    | EvalTask
    | RetentionTask
    | InstructionsTask
    | DbTask
    | ModelsTask
    | BenchTask,
    Discriminator("name"),
]
