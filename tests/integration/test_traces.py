"""Traces of turns, taken by a server that stands for a collector."""

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from runner.calls import Call, Caller
from runner.traces import Traces

CALL = Call("call-1", who=Caller("a-session", "caller-1", "vllm", "en"))
TOLD = {
    "role": "assistant",
    "text": "my account number is four two",
    "interrupted": False,
    "spoken_s": 2.0,
    "stages_s": {
        "stt": 0.2,
        "end_of_turn": 0.4,
        "retrieval": 0.05,
        "llm_ttft": 0.3,
        "tts_ttfb": 0.1,
        "e2e": 0.8,
    },
    "services": {
        "llm": {
            "provider": "ollama",
            "model": "qwen3",
            "failovers": [{"provider": "vllm", "reason": "cut"}],
            "tokens": {"prompt": 20, "completion": 5},
        }
    },
}


@pytest.fixture
async def collector() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its address, and the bodies that it took."""
    taken: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        encoded = request.headers.get("Content-Encoding") == "gzip"
        taken.append(gzip.decompress(body) if encoded else body)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", taken
    await runner.cleanup()


def spans(body: bytes) -> dict[str, object]:
    request = ExportTraceServiceRequest.FromString(body)
    return {span.name: span for span in request.resource_spans[0].scope_spans[0].spans}


async def test_a_turn_is_a_span_with_its_stages_in_it(collector):
    endpoint, taken = collector
    ended = 1_700_000_000.0
    traces = Traces(endpoint, clock=lambda: ended)
    traces.turn(CALL, TOLD)
    traces.turn(CALL, {"role": "user", "text": "Hi"})
    await traces.aclose()
    found = spans(taken[0])
    turn = found.pop("turn")
    first_sound = ended - 2.0

    def lies(span) -> tuple[float, float]:
        begin, end = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        return round(begin - first_sound, 3), round(end - first_sound, 3)

    assert {name: lies(span) for name, span in found.items()} == {
        "stt": (-0.8, -0.6),
        "end_of_turn": (-0.8, -0.4),
        "retrieval": (-0.4, -0.35),
        "llm": (-0.4, -0.1),
        "tts": (-0.1, 0.0),
        "speech": (0.0, 2.0),
    }
    assert lies(turn) == (-0.8, 2.0)
    assert {span.parent_span_id for span in found.values()} == {turn.span_id}


async def test_a_trace_says_who_served_and_not_what_was_said(collector):
    endpoint, taken = collector
    traces = Traces(endpoint)
    traces.turn(CALL, TOLD)
    await traces.aclose()
    attributes = {pair.key: pair.value for pair in spans(taken[0])["turn"].attributes}
    assert attributes["runner.llm.provider"].string_value == "ollama"
    assert attributes["runner.failovers"].int_value == 1
    assert attributes["runner.tokens.prompt"].int_value == 20
    assert b"account number" not in taken[0]


async def test_a_greeting_for_which_nobody_waited_has_its_voice_alone(collector):
    endpoint, taken = collector
    traces = Traces(endpoint)
    told = {"role": "assistant", "stages_s": {"tts_ttfb": 0.1}, "services": {}, "spoken_s": 1.0}
    traces.turn(CALL, told)
    await traces.aclose()
    assert spans(taken[0]).keys() == {"turn", "tts", "speech"}
