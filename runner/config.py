"""The typed configuration: what Hydra composed, turned into frozen dataclasses in one step.

YAML under ``conf/`` holds every key with its default and a comment; this module holds the
types and the bounds. ``load`` is the only edge between the two: past it there is no DictConfig,
and a value that does not fit is reported together with all the others (`ConfigError`).

Secrets never enter: a key that ends in ``_env`` holds the NAME of an environment variable,
which is read where the client is built.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, ConfigDict, Discriminator, TypeAdapter, ValidationError

from runner.errors import ConfigError, Problem

EMBEDDING_DIMENSIONS = 384  # the specification's vector(384); sql/schema.sql holds the same number


def with_v1(url: str) -> str:
    """An OpenAI-shaped base URL with its ``/v1``, whether or not it was written with one."""
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https://")
    return url if url.endswith("/v1") else f"{url}/v1"


def ws_url(url: str) -> str:
    """A LiveKit address; http is accepted for ws, as LiveKit's own clients do."""
    url = url.rstrip("/").replace("http://", "ws://").replace("https://", "wss://")
    if not url.startswith(("ws://", "wss://")):
        raise ValueError("a URL that begins with ws:// or wss://")
    return url


def plain_url(url: str) -> str:
    """A base URL without its last slash, or nothing."""
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https://, or nothing")
    return url.rstrip("/")


PlainURL = Annotated[str, AfterValidator(plain_url)]
OpenAIBaseURL = Annotated[str, AfterValidator(with_v1)]
LiveKitURL = Annotated[str, AfterValidator(ws_url)]
Port = Annotated[int, Ge(1), Le(65535)]
Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]
Delay = Annotated[float, Ge(0)]
Name = Annotated[str, Len(1)]
Temperature = Annotated[float, Ge(0), Le(2)]


class Strict:
    """Base of every section: an unknown key is a mistake, not a comment."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Routing(Strict):
    """OpenRouter's choice among the models and the companies that run them."""

    models: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    allow_fallbacks: bool = True
    data_collection: Literal["allow", "deny"] = "allow"
    sort: Literal["price", "throughput", "latency"] | None = None


Continuation = Literal["continue_final_message", "final_message", "instruction"]
"""How a server goes on with an answer that another began: vLLM's flag, an assistant message that
ends the request, or words that ask for it."""


@dataclass(frozen=True)
class OpenAILLM(Strict):
    """Any LLM behind ``/v1/chat/completions``: vLLM, Ollama, OpenRouter and the like."""

    kind: Literal["openai"]
    name: Name
    base_url: OpenAIBaseURL
    model: Name
    api_key_env: str = ""
    temperature: Temperature | None = None
    max_tokens: Count | None = None
    context_tokens: Annotated[int, Ge(256)] = 4096
    first_token_s: Seconds = 2.0
    stall_s: Seconds = 1.0
    continuation: Continuation = "instruction"
    headers: dict[str, str] = field(default_factory=dict)
    routing: Routing | None = None
    hint: str = ""


@dataclass(frozen=True)
class GoogleLLM(Strict):
    """Google Gemini through ``streamGenerateContent``. ``base_url`` empty: Google's own."""

    kind: Literal["google"]
    name: Name
    model: Name
    api_key_env: str
    base_url: PlainURL = ""
    temperature: Temperature | None = None
    max_tokens: Count | None = None
    context_tokens: Annotated[int, Ge(256)] = 1_000_000
    first_token_s: Seconds = 2.0
    stall_s: Seconds = 1.0
    hint: str = ""


@dataclass(frozen=True)
class GoogleRealtimeLLM(Strict):
    """Google's Live API, speech to speech: it needs neither STT nor TTS.

    ``base_url`` empty: Google's own. ``ca_file``: a certificate that is trusted beside the
    system's, for a proxy or a simulated server.
    """

    kind: Literal["google_realtime"]
    name: Name
    model: Name
    api_key_env: str
    voice: Literal["Puck", "Charon", "Kore", "Fenrir", "Aoede"]
    base_url: PlainURL = ""
    ca_file: str = ""
    temperature: Temperature | None = None
    hint: str = ""


@dataclass(frozen=True)
class RetrievalLLM(Strict):
    """No model: the sentences of the documents that answer best, with their source."""

    kind: Literal["retrieval"]
    name: Name
    max_sentences: Annotated[int, Ge(1), Le(5)] = 2
    min_similarity: Annotated[float, Ge(-1), Le(1)] = 0.42


LLM = Annotated[
    OpenAILLM | GoogleLLM | GoogleRealtimeLLM | RetrievalLLM,
    Discriminator("kind"),
]


@dataclass(frozen=True)
class STT(Strict):
    """What is asked of every transcription endpoint of the chain."""

    model: Name
    language: Name
    timeout_s: Seconds


@dataclass(frozen=True)
class TTS(Strict):
    """What is asked of every speech endpoint of the chain."""

    model: Name
    voice: Name
    first_audio_s: Seconds
    stall_s: Seconds
    speed: Annotated[float, Ge(0.25), Le(4)]


@dataclass(frozen=True)
class Speech(Strict):
    """STT and TTS. ``server``: Speaches at the addresses of ``gpu``, or our own model server."""

    server: Literal["speaches", "embedded"]
    api_key_env: str
    hint: str
    stt: STT
    tts: TTS


@dataclass(frozen=True)
class GPU(Strict):
    """Where Speaches runs: name to base URL, in order of preference."""

    stt: Annotated[dict[str, OpenAIBaseURL], Len(1)]
    tts: Annotated[dict[str, OpenAIBaseURL], Len(1)]


@dataclass(frozen=True)
class Breaker(Strict):
    """When a provider is left alone, and when it is tried again. One for all calls."""

    failures: Count
    window_s: Seconds
    probe_after_s: Seconds
    probe_longest_s: Seconds


@dataclass(frozen=True)
class Failover(Strict):
    """What happens when a provider does not answer.

    ``order``: the LLMs asked after the chosen one, by their names in ``fallback``.
    """

    order: list[str]
    tries: Annotated[int, Ge(1), Le(3)]
    backoff_s: Seconds
    hedge_after_s: Seconds | None
    patience_s: Seconds
    total_s: Seconds
    breaker: Breaker


@dataclass(frozen=True)
class StandIn(Strict):
    """What steps in last when nothing else of a chain answers; null: nothing does."""

    llm: LLM | None
    speech: Speech | None


@dataclass(frozen=True)
class Agent(Strict):
    """The persona that seeds an empty ``agent_instructions``; from then on the table rules."""

    name: Name
    instructions: Name
    greeting: str
    apology: Name
    not_heard: Name
    language: Name


@dataclass(frozen=True)
class Turn(Strict):
    """When the caller's turn is over, and what stops the agent's."""

    endpointing_delay_s: Delay
    vad_silence_s: Seconds
    preemptive_generation: bool
    min_interruption_s: Delay


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
    embedding_api_key_env: str = ""
    embedder: Literal["server", "local"] = "server"
    index: Literal["auto", "exact", "hnsw", "ivfflat"] = "auto"
    hybrid: bool = True
    exclude: list[str] = field(default_factory=list)
    parser_timeout_s: Seconds = 120
    parser_memory_mb: Count = 2000
    docling_models: str = ""


@dataclass(frozen=True)
class Database(Strict):
    """PostgreSQL with pgvector: its own (embedded) or the one at host and port."""

    host: Name
    port: Port
    name: Name
    user: Name
    password_env: Name
    min_connections: Count
    max_connections: Count
    connect_timeout_s: Seconds


@dataclass(frozen=True)
class LiveKit(Strict):
    """The LiveKit server, and the agent's name at it."""

    url: LiveKitURL
    tcp_port: Port
    udp_port: Port
    api_key_env: Name
    api_secret_env: Name
    agent_name: Name
    max_calls: Count
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
    """Who runs the agent looks here: metrics, and the state of the providers."""

    host: Name
    port: Port


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
    retention_days: Count | None
    archive: Literal["none", "jsonl", "table"]


@dataclass(frozen=True)
class Limits(Strict):
    """Bounds that hold over all calls of a worker."""

    llm_concurrency: Count


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
    """What a simulated LLM says where the last message holds the words ``when``; empty: in turn."""

    text: str
    when: str = ""


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
    """What is written to the terminal."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    transcripts: bool


@dataclass(frozen=True)
class ServeTask(Strict):
    """Take calls until interrupted."""

    name: Literal["serve"]


@dataclass(frozen=True)
class CallTask(Strict):
    """Call a running agent with recorded audio."""

    name: Literal["call"]
    audio: Annotated[list[str], Len(1)]
    out: str
    reply_timeout_s: Seconds
    url: str


@dataclass(frozen=True)
class ChatTask(Strict):
    """Type to the agent."""

    name: Literal["chat"]


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
class ModelsTask(Strict):
    """Serve the models alone."""

    name: Literal["models"]


Task = Annotated[
    ServeTask
    | CallTask
    | ChatTask
    | DoctorTask
    | IndexTask
    | SearchTask
    | EvalTask
    | RetentionTask
    | ModelsTask,
    Discriminator("name"),
]


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
    task: Task
    simulate: Simulation | None = None


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)


def load(composed: DictConfig) -> Config:
    """The typed configuration of what Hydra composed.

    Raises:
        ConfigError: with every value that does not fit, not only the first.
    """
    try:
        plain: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "?")
        reason = str(error).splitlines()[0]
        raise ConfigError([Problem(key, "an interpolation", f"resolvable: {reason}")]) from None
    try:
        return _ADAPTER.validate_python(plain)
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
