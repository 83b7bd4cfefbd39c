"""Gemini through livekit's plugin and Google's SDK, against a simulated server over sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import llm

from runner import probes
from runner.config import Fault, GoogleLLM, SimulatedServer, Simulation, ToolAnswer
from runner.providers.failure import Failure, Reason
from runner.providers.google import GeminiAnswers
from runner.providers.request import Request
from runner.simulator import google, live
from runner.simulator.exchange import State
from runner.simulator.server import Simulator
from tests.composed import composed

KEY = "AIzaSimulatedKeyThatNobodyMaySee"
ANSWER = "The library opens at nine, and it closes at six."


def simulated(*faults: Fault, **fields: Any) -> SimulatedServer:
    settings: dict[str, Any] = {
        "models": ["gemini-2.0-flash"],
        "api_key": KEY,
        "first_s": 0.0,
        "per_token_s": 0.0,
        "answers": [ANSWER],
    }
    return SimulatedServer(speaks="google", port=0, faults=list(faults), **(settings | fields))


def provider_at(url: str, key: str = KEY, **settings: Any) -> GeminiAnswers:
    fields: dict[str, Any] = {"model": "gemini-2.0-flash", "max_tokens": 512, "base_url": url}
    section = GoogleLLM(
        kind="google", name="google", api_key_env="GOOGLE_API_KEY", **(fields | settings)
    )
    return GeminiAnswers(section, key)


@asynccontextmanager
async def gemini(
    server: SimulatedServer, **settings: Any
) -> AsyncIterator[tuple[GeminiAnswers, State]]:
    simulation = Simulation(port=0, servers={"google": server})
    async with Simulator(simulation) as simulator:
        provider = provider_at(simulator.url("google"), **settings)
        try:
            yield provider, simulator.states["google"]
        finally:
            await provider.aclose()


def asked(*messages: tuple[str, str]) -> llm.ChatContext:
    items = [llm.ChatMessage(role=role, content=[text]) for role, text in messages]
    return llm.ChatContext(items)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.01)


QUESTION = asked(("system", "Be kind."), ("user", "When does it open?"))


async def said(
    provider: GeminiAnswers, request: Request | None = None
) -> tuple[str, Failure | None]:
    """What was heard of the answer, and what became of it."""
    text = ""
    try:
        async for chunk in provider.answer(request or Request(QUESTION)):
            text += (chunk.delta and chunk.delta.content) or ""
    except Failure as failure:
        return text, failure
    return text, None


async def failure_of(*faults: Fault, **settings: Any) -> tuple[str, Failure]:
    async with gemini(simulated(*faults), **settings) as (provider, state):
        text, failure = await said(provider)
        assert failure is not None
        assert len(state.journal.entries) == 1, "it was asked more than once"
        assert KEY not in str(failure)
        return text, failure


async def test_an_answer_comes_word_by_word_with_its_cost() -> None:
    async with gemini(simulated()) as (provider, state):
        chunks = [chunk async for chunk in provider.answer(Request(QUESTION))]
    texts = [chunk.delta.content for chunk in chunks if chunk.delta and chunk.delta.content]
    assert "".join(texts) == ANSWER
    assert len(texts) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(texts)
    assert state.journal.entries[0].asked == ["Be kind.", "When does it open?"]


async def test_the_longest_answer_is_an_end() -> None:
    async with gemini(simulated(), max_tokens=3) as (provider, _):
        text, failure = await said(provider)
    assert failure is None
    assert text == "The library opens"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.REJECTED),
        (401, Reason.REFUSED),
        (403, Reason.REFUSED),
        (404, Reason.REFUSED),
        (500, Reason.BROKEN),
        (503, Reason.BROKEN),
        (504, Reason.BROKEN),
    ],
)
async def test_each_status_has_its_reason_and_is_asked_once(status: int, reason: Reason) -> None:
    text, failure = await failure_of(Fault("status", status=status))
    assert (text, failure.reason) == ("", reason)
    assert f"HTTP {status}" in str(failure)
    assert str(failure).startswith("google at http://127.0.0.1:")


async def test_a_busy_server_says_when_to_come_again() -> None:
    _, failure = await failure_of(Fault("status", status=429, retry_after_s=7))
    assert (failure.reason, failure.retry_after_s) == (Reason.BUSY, 7.0)


async def test_a_wrong_key_is_told_from_a_wrong_request() -> None:
    _, failure = await failure_of(key="AIzaWrong")
    assert failure.reason is Reason.REFUSED
    assert "GOOGLE_API_KEY" in str(failure)
    assert "API_KEY_INVALID" in str(failure)
    assert "AIzaWrong" not in str(failure)


async def test_a_model_that_is_not_there_is_named() -> None:
    _, failure = await failure_of(model="gemini-9")
    assert failure.reason is Reason.REFUSED
    assert "it has no model gemini-9" in str(failure)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncate", Reason.CUT),
        ("cut", Reason.CUT),
        ("malformed", Reason.MALFORMED),
        ("error_chunk", Reason.BROKEN),
    ],
)
async def test_an_answer_that_breaks_off_keeps_its_words_and_fails(
    kind: Any, reason: Reason
) -> None:
    text, failure = await failure_of(Fault(kind, after=3))
    assert (text, failure.reason) == ("The library opens", reason)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", Reason.UNREACHABLE),
        ("malformed", Reason.MALFORMED),
        ("error_chunk", Reason.BROKEN),
        ("empty", Reason.EMPTY),
    ],
)
async def test_nothing_at_all_fails_at_once(kind: Any, reason: Reason) -> None:
    text, failure = await failure_of(Fault(kind))
    assert (text, failure.reason) == ("", reason)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with gemini(simulated()) as (provider, _):
        pass
    text, failure = await said(provider)
    assert (text, failure and failure.reason) == ("", Reason.UNREACHABLE)
    assert "connection refused" in str(failure)


@pytest.mark.parametrize("after", [0, 3])
async def test_closing_the_answer_ends_the_request(after: int) -> None:
    faults = [Fault("stall_after", after=after)]
    async with gemini(simulated(*faults)) as (provider, state):
        answer = provider.answer(Request(QUESTION))
        for _ in range(after):
            await anext(answer)
        waiting = asyncio.ensure_future(anext(answer))
        await until(lambda: state.journal.in_flight == 1)
        await until(lambda: state.journal.entries[0].tokens == after)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await answer.aclose()
        await until(lambda: state.journal.in_flight == 0)


async def test_what_was_said_is_told_and_not_repeated() -> None:
    async with gemini(simulated()) as (provider, state):
        text, failure = await said(provider, Request(QUESTION, said="The library opens"))
    assert failure is None
    assert text == "at nine, and it closes at six."
    assert "<said>The library opens</said>" in state.journal.entries[0].asked[-1]


async def test_a_tool_is_called_whole_and_its_result_is_sent_back() -> None:
    @llm.function_tool
    async def opening_hours(day: str) -> str:
        """When the library opens."""
        return day

    server = simulated(answers=[ToolAnswer("opening_hours", {"day": "Monday"}), ANSWER])
    async with gemini(server) as (provider, state):
        request = Request(QUESTION, tools=[opening_hours])
        chunks = [chunk async for chunk in provider.answer(request)]
        calls = [call for chunk in chunks if chunk.delta for call in chunk.delta.tool_calls]
        assert [(call.name, call.arguments) for call in calls] == [
            ("opening_hours", '{"day": "Monday"}')
        ]
        call_id = calls[0].call_id
        results = [
            llm.FunctionCall(call_id=call_id, name="opening_hours", arguments='{"day": "Monday"}'),
            llm.FunctionCallOutput(
                call_id=call_id, name="opening_hours", output="at nine", is_error=False
            ),
        ]
        chat_ctx = llm.ChatContext([*QUESTION.items, *results])
        assert await said(provider, Request(chat_ctx, tools=[opening_hours])) == (ANSWER, None)
        assert "at nine" in state.journal.entries[1].asked[-1]


def events(*bodies: dict[str, Any]) -> Any:
    """A server that answers with these events and nothing else."""

    async def generate(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for body in bodies:
            await response.write(google._event(body))
        return response

    return generate


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **more}]}


@pytest.mark.parametrize(
    ("bodies", "text", "reason"),
    [
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], "", Reason.REJECTED),
        ([part("Hm."), part("", finishReason="SAFETY")], "Hm.", Reason.REJECTED),
        ([part("Hm."), part("", finishReason="OTHER")], "Hm.", Reason.CUT),
        ([part("", finishReason="MALFORMED_FUNCTION_CALL")], "", Reason.MALFORMED),
        ([part("Hm.", finishReason="STOP") | {"promptFeedback": {}}], "Hm.", None),
        ([], "", Reason.CUT),
    ],
)
async def test_how_an_answer_finishes_decides(
    bodies: list[dict[str, Any]], text: str, reason: Reason | None
) -> None:
    app = web.Application()
    app.router.add_post("/{version}/models/{model}:streamGenerateContent", events(*bodies))
    async with TestServer(app) as listening:
        provider = provider_at(str(listening.make_url("")).rstrip("/"))
        heard, failure = await said(provider)
        await provider.aclose()
    assert (heard, failure and failure.reason) == (text, reason)


async def doctor_says(server: SimulatedServer | None, *overrides: str) -> str:
    """The sentence about the first LLM; without a server nobody listens."""
    simulation = Simulation(port=0, servers={"google": server or simulated()})
    async with Simulator(simulation) as simulator, AsyncExitStack() as exits:
        url = simulator.url("google")
        if server is None:
            await simulator.__aexit__(None, None, None)
        elif "llm=google_realtime" in overrides:
            port = await exits.enter_async_context(live.tls(simulator.states["google"]))
            url = f"https://127.0.0.1:{port}"
        settings = composed(*overrides, f"llm.base_url={url}")
        finding, *_ = await probes.probe_llms(settings, timeout_s=5)
        return finding.sentence.replace(url, "URL")


@pytest.mark.parametrize("llm_name", ["google", "google_realtime"])
async def test_doctor_says_what_is_wrong_with_google(
    llm_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    trusted = str(tmp_path / "live.pem")
    models = ["gemini-2.0-flash", "gemini-2.0-flash-live-001"]
    server = simulated(certificate=trusted, models=models)
    chosen = [f"llm={llm_name}", *([f"llm.ca_file={trusted}"] if "realtime" in llm_name else [])]
    assert await doctor_says(server, *chosen) == f"{llm_name} at URL: ok"
    unknown = await doctor_says(server, *chosen, "llm.model=gemini-9")
    assert unknown.startswith(f"{llm_name} at URL: it has no model gemini-9; ")
    assert await doctor_says(None, f"llm={llm_name}") == f"{llm_name} at URL: connection refused"
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaWrong")
    assert (
        await doctor_says(server, *chosen)
        == f"{llm_name} at URL: it refuses the key in GOOGLE_API_KEY; set a valid one "
        "(HTTP 400 API_KEY_INVALID)"
    )


async def test_an_empty_answer_has_its_sentence() -> None:
    _, failure = await failure_of(Fault("empty"))
    assert str(failure).endswith(": it answered without a word")
