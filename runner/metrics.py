"""What the runner counts, for Prometheus: named by stage, kept by the worker for all its calls."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runner.calls import Call, Calls, Told
from runner.outcome import Key, Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10)
_SEARCH_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_STAGES = {
    "stt": "From the caller's last sound to the transcript",
    "end_of_turn": "From the caller's last sound to the end of the turn",
    "retrieval": "Search in the documents",
    "llm_ttft": "The LLM's first token, search included",
    "tts_ttfb": "The TTS' first sound",
    "e2e": "From the caller's last sound to the first of the answer",
}


@dataclass(frozen=True)
class Spool:
    """What calls have said and the database does not have yet: files, entries in them, bytes."""

    files: int = 0
    entries: int = 0
    size: int = 0


class Metrics:
    """One registry, not Prometheus' global one: two workers in a test do not share their counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "runner_requests",
            "Requests to providers; outcome: served, lost (to a quicker one) or why it failed",
            ["capability", "provider", "outcome"],
            registry=self._registry,
        )
        self._failovers = Counter(
            "runner_failovers",
            "Requests that another provider served, by the one that failed, and why",
            ["capability", "provider", "served_by", "reason"],
            registry=self._registry,
        )
        self._breaker = Gauge(
            "runner_breaker_open",
            "1: the provider is left alone",
            ["capability", "provider"],
            registry=self._registry,
        )
        self.permit_wait = Histogram(
            "runner_llm_permit_wait_seconds",
            "How long a request waited for its permit",
            buckets=_WAIT_BUCKETS_S,
            registry=self._registry,
        )
        self.missed_searches = Counter(
            "runner_searches_missed",
            "Answers that went out without passages, because the search took too long",
            registry=self._registry,
        )
        self.stalls = Counter(
            "runner_event_loop_stalls",
            "Times in which an event loop did nothing else for half a second or longer",
            ["process"],
            registry=self._registry,
        )
        self._permits = Gauge(
            "runner_llm_permits", "LLM requests, by state", ["state"], registry=self._registry
        )
        self._off = Gauge(
            "runner_provider_off",
            "1: the operator has switched the provider off",
            ["capability", "provider"],
            registry=self._registry,
        )
        self._count_turns()
        self._watch_the_rest()

    def _count_turns(self) -> None:
        self._turns = Counter("runner_turns", "Answers", registry=self._registry)
        self._tokens = Counter(
            "runner_tokens",
            "What answers cost, as the providers count",
            ["provider", "kind"],
            registry=self._registry,
        )
        self._stages = {
            stage: Histogram(
                f"runner_{stage}_seconds",
                meaning,
                buckets=_SEARCH_BUCKETS_S if stage == "retrieval" else _STAGE_BUCKETS_S,
                registry=self._registry,
            )
            for stage, meaning in _STAGES.items()
        }

    def _watch_the_rest(self) -> None:
        self._calls = Gauge("runner_calls_active", "Calls that are on", registry=self._registry)
        self._calls_begun = Counter("runner_calls", "Calls that began", registry=self._registry)
        self._spool = Gauge(
            "runner_outbox",
            "What calls have said and the database does not have yet: files, entries, bytes",
            ["of"],
            registry=self._registry,
        )
        self._documents = Gauge(
            "runner_documents", "Documents that are indexed", registry=self._registry
        )
        self._chunks = Gauge("runner_chunks", "Their chunks", registry=self._registry)
        self.lag = Histogram(
            "runner_event_loop_lag_seconds",
            "How late the runner's event loop is when it wakes up each second",
            buckets=_LAG_BUCKETS_S,
            registry=self._registry,
        )

    def watch_permits(self, **counts: Callable[[], int]) -> None:
        """The permits in each state are counted whenever they are asked for."""
        for state, count in counts.items():
            self._permits.labels(state).set_function(count)

    def watch_calls(self, calls: Calls) -> None:
        """The same of the calls."""
        self._calls.set_function(lambda: len(calls))

    def begun(self) -> None:
        """Counts a call."""
        self._calls_begun.inc()

    def turn(self, _: Call, told: Told) -> None:
        """Counts an answer, what it cost, and how long its stages took."""
        if told["role"] != "assistant":
            return
        self._turns.inc()
        for stage in _STAGES.keys() & told["stages_s"].keys():
            self._stages[stage].observe(told["stages_s"][stage])
        llm = told["services"].get("llm", {})
        for kind, count in llm.get("tokens", {}).items():
            self._tokens.labels(llm["provider"] or "", kind).inc(count)

    def spool(self, found: Spool) -> None:
        """What is in the outbox now."""
        for part, value in vars(found).items():
            self._spool.labels({"size": "bytes"}.get(part, part)).set(value)

    def documents(self, documents: int, chunks: int) -> None:
        """What is indexed now."""
        self._documents.set(documents)
        self._chunks.set(chunks)

    def switched(self, key: Key, *, off: bool) -> None:
        """Whether the operator lets a provider be asked."""
        self._off.labels(*key).set(off)

    def outcome(self, outcome: Outcome) -> None:
        """Counts a request to a provider."""
        capability, provider = outcome.key
        ended = "lost" if outcome.lost else str(outcome.reason or "served")
        self._requests.labels(capability, provider, ended).inc()
        for failed, reason in outcome.instead_of:
            self._failovers.labels(capability, failed, provider, str(reason)).inc()

    def breaker(self, key: Key, *, closed: bool) -> None:
        """Whether a provider is asked."""
        self._breaker.labels(*key).set(0 if closed else 1)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
