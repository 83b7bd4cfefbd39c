"""What the runner counts, for Prometheus: named by stage, kept by the worker for all its calls."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:  # the switchboard counts here, and is counted
    from runner.switchboard import Key, Outcome, Switchboard

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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

    def watch_permits(self, switchboard: "Switchboard") -> None:
        """The permits' gauges are read from ``switchboard`` whenever they are asked for."""
        self._permits.labels("in_flight").set_function(lambda: switchboard.in_flight)
        self._permits.labels("waiting").set_function(lambda: switchboard.waiting)
        self._permits.labels("allowed").set_function(lambda: switchboard.permits)

    def outcome(self, outcome: "Outcome") -> None:
        """Counts a request to a provider."""
        capability, provider = outcome.key
        ended = "lost" if outcome.lost else str(outcome.reason or "served")
        self._requests.labels(capability, provider, ended).inc()
        for failed, reason in outcome.instead_of:
            self._failovers.labels(capability, failed, provider, str(reason)).inc()

    def breaker(self, key: "Key", *, closed: bool) -> None:
        """Whether a provider is asked."""
        self._breaker.labels(*key).set(0 if closed else 1)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
