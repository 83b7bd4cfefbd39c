"""One deployment, whole; and the edge between what Hydra composed and the program."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from runner.config import address as _resolver  # noqa: F401  registers ${from_url:…}
from runner.config.bounds import (
    Count,
    Delay,
    Language,
    LiveKitURL,
    Name,
    OpenAIBaseURL,
    OptionalVariable,
    PlainURL,
    Port,
    Seconds,
    Strict,
    Variable,
)
from runner.config.providers import GPU, LLM, Failover, Speech, StandIn
from runner.config.simulation import Simulation
from runner.config.tasks import Task
from runner.errors import ConfigError, Problem


@dataclass(frozen=True)
class Sentences(Strict):
    """What is said when nothing else can be, and to a caller who comes back."""

    apology: Name
    not_heard: Name
    back: str


@dataclass(frozen=True)
class Agent(Strict):
    """The persona that seeds an empty ``agent_instructions``; from then on the table rules.
    ``languages``: the sentences for callers of other languages.
    """

    name: Name
    instructions: Name
    greeting: str
    apology: Name
    not_heard: Name
    back: str
    language: Language
    languages: dict[Language, Sentences] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn(Strict):
    """When the caller's turn is over, and what stops the agent's."""

    endpointing_delay_s: Delay
    vad_silence_s: Seconds
    transcribe_after_s: Seconds
    max_turn_s: Annotated[float, Ge(5), Le(600)]
    preemptive_generation: bool
    min_interruption_s: Delay
    echo_warmup_s: Delay


@dataclass(frozen=True)
class RAG(Strict):
    """Documents: where they lie, how they are cut, how many are given to the LLM."""

    enabled: bool
    docs_dir: Name
    chunk_size: Annotated[int, Ge(50), Le(100_000)]
    chunk_overlap: Annotated[int, Ge(0)]
    top_k: Annotated[int, Ge(1), Le(50)]
    deadline_ms: Count
    min_similarity: Annotated[float, Ge(-1), Le(1)]
    embedding_url: OpenAIBaseURL
    embedding_model: Name
    embedding_api_key_env: OptionalVariable = ""
    embedder: Literal["server", "local"] = "server"
    index: Literal["auto", "exact", "hnsw", "ivfflat"] = "auto"
    hybrid: bool = True
    exclude: list[str] = field(default_factory=list)
    parser_timeout_s: Seconds = 120
    parser_memory_mb: Count = 2000
    docling_models: str = ""


@dataclass(frozen=True)
class Database(Strict):
    """PostgreSQL with pgvector: its own (embedded) or the one at host and port. ``url_env``: the
    NAME of the variable with a whole URL, whose parts come before those that are given one by one.
    """

    host: Name
    port: Port
    name: Name
    user: Name
    password_env: Variable
    min_connections: Count
    max_connections: Count
    connect_timeout_s: Seconds
    url_env: OptionalVariable = ""


@dataclass(frozen=True)
class LiveKit(Strict):
    """The LiveKit server, and the agent's name at it."""

    url: LiveKitURL
    tcp_port: Port
    udp_port: Port
    api_key_env: Variable
    api_secret_env: Variable
    agent_name: Name
    max_calls: Count
    drain_s: Delay
    idle_processes: Annotated[int, Ge(0)]
    media_over_tcp: bool = False


@dataclass(frozen=True)
class Web(Strict):
    """The call page and its API."""

    host: Name
    port: Port
    tokens_per_minute: Count
    token_ttl_s: Annotated[int, Ge(30), Le(86_400)]


@dataclass(frozen=True)
class Operator(Strict):
    """Who runs the agent looks here, and changes what may change. ``token_env``: the NAME of the
    variable with the token that must be shown; off loopback it must be set."""

    host: Name
    port: Port
    token_env: Variable
    requests_per_minute: Count


@dataclass(frozen=True)
class Models(Strict):
    """Our own model server: Whisper, Piper and MiniLM behind OpenAI's shapes."""

    host: Name
    port: Port
    whisper: Literal["tiny.en", "base"]
    threads: Count
    max_waiting: Count


@dataclass(frozen=True)
class Sessions(Strict):
    """Lifetimes of a caller's session."""

    timeout_minutes: Count
    idle_check_s: Seconds
    grace_s: Annotated[int, Ge(1), Le(3600)]
    retention_days: Count | None
    archive: Literal["none", "jsonl", "table"]


@dataclass(frozen=True)
class Limits(Strict):
    """Bounds that hold over all calls of a worker, and the one that holds for each."""

    llm_concurrency: Count
    call_memory_mb: Annotated[int, Ge(200)]


@dataclass(frozen=True)
class Deployment(Strict):
    """What this program starts by itself, and where it keeps what must last."""

    name: Literal["local"]
    start_livekit: bool
    start_postgres: bool
    start_models: bool
    data_dir: str
    cache_dir: str
    ready_timeout_s: Seconds


@dataclass(frozen=True)
class Log(Strict):
    """What is written to the terminal, a line an event: for people, or as JSON for programs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    transcripts: bool
    format: Literal["console", "json"] = "console"


@dataclass(frozen=True)
class Telemetry(Strict):
    """Traces of turns by OTLP over HTTP, sent to ``endpoint``; empty: none are made."""

    endpoint: PlainURL


@dataclass(frozen=True)
class Config(Strict):
    """One deployment, whole. Frozen, picklable, free of secrets."""

    llm: LLM
    fallback: dict[str, LLM]
    failover: Failover
    stand_in: StandIn
    stt_tts: Speech
    gpu: GPU
    agent: Agent
    turn: Turn
    rag: RAG
    database: Database
    livekit: LiveKit
    web: Web
    operator: Operator
    models: Models
    sessions: Sessions
    limits: Limits
    deployment: Deployment
    log: Log
    telemetry: Telemetry
    task: Task
    simulate: Simulation | None = None


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


def load(composed: DictConfig) -> Config:
    """The typed configuration of what Hydra composed.

    Raises:
        ConfigError: with every value that does not fit, not only the first.
    """
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "?")
        reason = str(error).splitlines()[0].rpartition("resolving interpolation: ")[2]
        raise ConfigError([Problem(key, "an interpolation", f"resolvable: {reason}")]) from None
    return _typed(values)


def change(config: Config, key: str, value: object) -> Config:
    """``config`` with another value under ``key``, a dotted path to one that is there.

    Raises:
        ConfigError: the key is not there, or the value does not fit.
    """
    whole: Any = plain(config)
    *path, last = key.split(".")
    at = whole
    for part in path:
        at = at.get(part) if isinstance(at, dict) else None
    if not isinstance(at, dict) or last not in at:
        raise ConfigError([Problem(key, value, "left out: this configuration has no such key")])
    at[last] = value
    return _typed(whole)


def plain(config: Config) -> dict[str, Any]:
    """``config`` as dictionaries, lists and values."""
    whole: dict[str, Any] = _ADAPTER.dump_python(config)
    return whole


def _typed(values: object) -> Config:
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise ConfigError([_problem(detail) for detail in error.errors()]) from None


def _problem(detail: Any) -> Problem:
    """Pydantic's account of one misfit in this project's words."""
    tags = {"openai", "google", "google_realtime", "retrieval"}
    path = [str(part) for part in detail["loc"]]
    if len(path) > 1 and path[0] == "task":
        del path[1]
    key = ".".join(part for at, part in enumerate(path) if not (part in tags and _is_tag(path, at)))
    match detail["type"]:
        case "missing":
            return Problem(key, None, "set", f"Add {key}=… or give it in the YAML.")
        case "value_error" if path[-1].endswith("_env"):  # it may be the secret itself
            return Problem(key, "(not shown)", str(detail["ctx"]["error"]))
        case "unexpected_keyword_argument":
            return Problem(key, detail["input"], "left out: no such key exists")
        case _:
            allowed = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            return Problem(key, detail["input"], allowed, f"Set {key}=… on the command line.")


def _is_tag(path: list[str], at: int) -> bool:
    """Whether the part at ``at`` is the union's tag that pydantic puts into a path of an LLM."""
    return path[:at] in (["llm"], ["stand_in", "llm"]) or (
        path[0] == "fallback" and at == 2  # fallback.<name>.<tag>.<key>
    )
