"""Traces of turns: a span a turn and one a stage, by OTLP over HTTP. Made in the worker of what it
is told of each turn, so that no call does anything for them; without a word of what was said.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_span_in_context

from runner.calls import Call, Told

_SERVICE = "voice-agent-runner"
_PATH = "/v1/traces"
_EXPORT_TIMEOUT_S = 5.0

Span = tuple[str, float, float]
"""A stage's name, and when it began and ended: seconds before the first sound of the answer are
negative."""


class Traces:
    """Sends them to ``endpoint``, such as ``http://localhost:4318``, from a thread of its own."""

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.time) -> None:
        url = endpoint if endpoint.endswith(_PATH) else f"{endpoint}{_PATH}"
        exporter = OTLPSpanExporter(endpoint=url, timeout=_EXPORT_TIMEOUT_S)
        self._provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("runner")
        self._clock = clock

    def turn(self, call: Call, told: Told) -> None:
        """Takes an answer, at the moment in which it ended."""
        if told["role"] != "assistant":
            return
        spoken_s = told.get("spoken_s") or 0.0
        first_sound = self._clock() - spoken_s
        spans = list(stages(told["stages_s"], spoken_s))
        if not spans:
            return
        begin = first_sound + min(began for _, began, _ in spans)
        turn = self._tracer.start_span(
            "turn", start_time=_ns(begin), attributes=_attributes(call, told)
        )
        for name, began, ended in spans:
            span = self._tracer.start_span(
                name, context=set_span_in_context(turn), start_time=_ns(first_sound + began)
            )
            span.end(_ns(first_sound + ended))
        turn.end(_ns(first_sound + spoken_s))

    async def aclose(self) -> None:
        """Sends what is left, for a few seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _EXPORT_TIMEOUT_S):
                await asyncio.to_thread(self._provider.shutdown)


def stages(stages_s: dict[str, float], spoken_s: float) -> Iterator[Span]:
    """The stages of a turn around its first sound, as far as they were measured. What was thought
    ahead, before the turn was over, lies beside the end of the turn."""
    voice = -stages_s.get("tts_ttfb", 0.0)
    thought = voice - stages_s.get("llm_ttft", 0.0)
    if e2e := stages_s.get("e2e"):
        for name in ("stt", "end_of_turn"):
            if name in stages_s:
                yield name, -e2e, stages_s[name] - e2e
    if "retrieval" in stages_s:
        yield "retrieval", thought, thought + stages_s["retrieval"]
    if "llm_ttft" in stages_s:
        yield "llm", thought, voice
    if "tts_ttfb" in stages_s:
        yield "tts", voice, 0.0
    if spoken_s:
        yield "speech", 0.0, spoken_s


def _attributes(call: Call, told: Told) -> dict[str, str | int | bool]:
    services = told["services"]
    llm = services.get("llm", {})
    known = {
        "runner.room": call.room,
        "runner.session_id": call.who.session_id,
        "runner.llm.provider": llm.get("provider"),
        "runner.llm.model": llm.get("model"),
        "runner.failovers": sum(len(service["failovers"]) for service in services.values()),
        "runner.interrupted": told.get("interrupted"),
        **{f"runner.tokens.{kind}": count for kind, count in llm.get("tokens", {}).items()},
    }
    return {name: value for name, value in known.items() if value is not None}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
