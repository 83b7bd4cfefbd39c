"""Who hears, thinks and speaks, and what happens when they do not."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, Len
from pydantic import Discriminator

from runner.config.bounds import (
    Count,
    Language,
    Name,
    OpenAIBaseURL,
    OptionalVariable,
    PlainURL,
    Seconds,
    Strict,
    Temperature,
)


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
    api_key_env: OptionalVariable = ""
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
    api_key_env: OptionalVariable
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
    system's, for a proxy or a simulated server. ``language``: a code of Google's; empty: the model
    finds out. ``languages``: those codes for callers who name their language.
    """

    kind: Literal["google_realtime"]
    name: Name
    model: Name
    api_key_env: OptionalVariable
    voice: Literal["Puck", "Charon", "Kore", "Fenrir", "Aoede"]
    base_url: PlainURL = ""
    ca_file: str = ""
    language: str = ""
    languages: dict[Language, Name] = field(default_factory=dict)
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
    """What is asked of every transcription endpoint of the chain. ``multilingual_model``: asked in
    its place for callers of another language; empty: ``model`` knows them, too."""

    model: Name
    language: Name
    timeout_s: Seconds
    multilingual_model: str = ""


@dataclass(frozen=True)
class TTS(Strict):
    """What is asked of every speech endpoint of the chain."""

    model: Name
    voice: Name
    first_audio_s: Seconds
    stall_s: Seconds
    speed: Annotated[float, Ge(0.25), Le(4)]


@dataclass(frozen=True)
class Spoken(Strict):
    """How a language is heard (the STT's code for it) and which voice speaks it."""

    stt: Name
    voice: Name


@dataclass(frozen=True)
class Speech(Strict):
    """STT and TTS. ``server``: Speaches at the addresses of ``gpu``, or our own model server.
    ``languages``: what callers may speak beside ``stt.language``.
    """

    server: Literal["speaches", "embedded"]
    api_key_env: OptionalVariable
    hint: str
    stt: STT
    tts: TTS
    languages: dict[Language, Spoken] = field(default_factory=dict)


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
