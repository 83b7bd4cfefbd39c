"""LLMs as the chat client meets them: real sockets, a server that does what each test says."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import function_tool, llm
from omegaconf import OmegaConf

from runner import checkups, config
from runner.candidates import LLMCandidate
from runner.config import OpenAILLM, Routing
from runner.providers.chat import ChatAnswers
from runner.providers.failure import Failure, Reason
from runner.providers.request import Request

SECRET = "my account number is 4711"
HI = 'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
END = 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = 'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = stream(HI, END)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.json())
        try:
            return await self.answer(request)
        finally:
            self.left.set()


def stream(*pieces: str, then: Callable[[web.Request], Any] | None = None) -> Answer:
    """Answers with ``pieces``; ``then`` is awaited before the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece.encode())
        if then:
            await then(request)
        return response

    return answer


def refusal(status: int, text: str = "", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return answer


async def abort(request: web.Request) -> None:
    assert request.transport
    request.transport.abort()


async def wait_for_ever(_: web.Request) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    told = Server()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", told.handle)
    async with TestServer(app, handler_cancellation=True) as running:
        told.url = str(running.make_url("/v1"))
        yield told


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def settings_of(server: Server) -> OpenAILLM:
    return OpenAILLM("openai", "vllm", server.url, "llama", api_key_env="SOME_KEY")


def conversation(text: str = SECRET) -> llm.ChatContext:
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Be brief.")
    context.add_message(role="user", content=text)
    return context


async def chunks(answers: ChatAnswers, request: Request | None = None) -> list[llm.ChatChunk]:
    async with aclosing(answers.answer(request or Request(conversation()))) as answer:
        return [chunk async for chunk in answer]


async def said(answers: ChatAnswers, request: Request | None = None) -> str:
    deltas = [chunk.delta for chunk in await chunks(answers, request) if chunk.delta]
    return "".join(delta.content or "" for delta in deltas)


async def failed(answers: ChatAnswers) -> Failure:
    with pytest.raises(Failure) as failure:
        await chunks(answers)
    assert "4711" not in str(failure.value)
    assert str(failure.value).startswith("vllm at http://127.0.0.1:")
    return failure.value


async def test_what_is_asked_is_what_the_configuration_says(server, http, settings_of) -> None:
    routing = Routing(models=["b"], order=["x"], data_collection="deny", sort="latency")
    settings = replace(
        settings_of, temperature=0.0, max_tokens=64, headers={"X-Title": "Me"}, routing=routing
    )
    assert await said(ChatAnswers(settings, "sk-1", http)) == "Hi"
    [body], [headers] = server.bodies, server.headers
    assert body == {
        "model": "llama",
        "temperature": 0.0,
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
        "models": ["b"],
        "provider": {
            "allow_fallbacks": True,
            "data_collection": "deny",
            "order": ["x"],
            "sort": "latency",
        },
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": SECRET},
        ],
    }
    assert headers["Authorization"] == "Bearer sk-1"
    assert headers["X-Title"] == "Me"


async def test_what_is_not_set_is_not_sent(server, http, settings_of) -> None:
    await said(ChatAnswers(settings_of, "", http))
    assert set(server.bodies[0]) == {"model", "stream", "stream_options", "messages"}
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("continuation", "role", "flags"),
    [
        ("continue_final_message", "assistant", {"continue_final_message": True,
                                                 "add_generation_prompt": False}),
        ("final_message", "assistant", {}),
        ("instruction", "system", {}),
    ],
)  # fmt: skip
async def test_an_answer_that_another_began_is_gone_on_with(
    server, http, settings_of, continuation, role, flags
) -> None:
    answers = ChatAnswers(replace(settings_of, continuation=continuation), "", http)
    await said(answers, Request(conversation(), said="Once upon a"))
    [body] = server.bodies
    assert answers.continues is (role == "assistant")
    assert body["messages"][-1]["role"] == role
    assert "Once upon a" in body["messages"][-1]["content"]
    assert len(body["messages"]) == 3
    assert {key: body[key] for key in body if "final" in key or "generation" in key} == flags


@function_tool
async def look(word: str) -> str:
    """Looks a word up."""
    return word


async def test_a_tool_is_offered_and_its_call_comes_whole(server, http, settings_of) -> None:
    first = {"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"word"'}}
    second = {"index": 0, "function": {"arguments": ':"x"}'}}
    pieces = [
        f"data: {json.dumps({'choices': [{'delta': {'tool_calls': [call]}}]})}\n\n"
        for call in (first, second)
    ]
    server.answer = stream(*pieces, END, USAGE, "data: [DONE]\n\n")
    request = Request(conversation(), tools=[look], tool_choice="auto")
    called, usage = await chunks(ChatAnswers(settings_of, "", http), request)
    assert called.delta
    assert called.delta.tool_calls[0].arguments == '{"word":"x"}'
    assert usage.usage
    assert usage.usage.total_tokens == 9
    assert server.bodies[0]["tools"][0]["function"]["name"] == "look"
    assert server.bodies[0]["tool_choice"] == "auto"


async def test_a_long_history_is_cut_to_the_context(server, http, settings_of) -> None:
    long = conversation()
    for turn in range(200):
        long.add_message(role="assistant", content=f"answer {turn}")
        long.add_message(role="user", content=f"question {turn}")
    await said(ChatAnswers(replace(settings_of, max_tokens=100), "", http), Request(long))
    await said(
        ChatAnswers(replace(settings_of, max_tokens=100, context_tokens=256), "", http),
        Request(long),
    )
    whole, cut = (body["messages"] for body in server.bodies)
    assert len(whole) == 402
    assert len(cut) < 30
    assert (cut[0], cut[-1]) == (whole[0], whole[-1])


async def test_a_word_is_handed_on_as_soon_as_it_comes(server, http, settings_of) -> None:
    heard = asyncio.Event()
    server.answer = stream(": keep-alive\n\n", HI, then=lambda _: heard.wait())
    async with aclosing(ChatAnswers(settings_of, "", http).answer(Request(conversation()))) as it:
        chunk = await anext(it)
    assert chunk.delta
    assert chunk.delta.content == "Hi"


@pytest.mark.parametrize("pieces", [[], [": keep-alive\n\n"], [HI]])
async def test_closing_the_answer_closes_the_connection(server, http, settings_of, pieces) -> None:
    begun = asyncio.Event()

    async def begin(request: web.Request) -> None:
        begun.set()
        await wait_for_ever(request)

    server.answer = stream(*pieces, then=begin)
    task = asyncio.create_task(chunks(ChatAnswers(settings_of, "", http)))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    await server.left.wait()
    assert http.connector is not None
    assert len(http.connector._acquired) == 0


async def test_an_answer_is_over_though_the_server_forgets_to_close_it(
    server, http, settings_of
) -> None:
    server.answer = stream(HI, END, then=wait_for_ever)
    assert await said(ChatAnswers(settings_of, "", http)) == "Hi"


async def test_a_connection_that_breaks_after_the_end_has_cut_nothing(
    server, http, settings_of
) -> None:
    server.answer = stream(HI, END, then=abort)
    assert await said(ChatAnswers(settings_of, "", http)) == "Hi"


async def test_connections_are_kept_from_one_answer_to_the_next(server, http, settings_of) -> None:
    server.answer = stream(HI, END, USAGE, "data: [DONE]\n\n")
    answers = ChatAnswers(settings_of, "", http)
    for _ in range(3):
        assert await said(answers) == "Hi"
    assert http.connector is not None
    assert sum(map(len, http.connector._conns.values())) == 1


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (stream(HI), Reason.CUT, "ended without an end"),
        (stream(HI, "data: [DONE]\n\n"), Reason.CUT, "ended without an end"),
        (stream(HI, then=abort), Reason.CUT, "the connection broke"),
        (stream(then=abort), Reason.CUT, "the connection broke"),
        (stream(HI, "data: {oops\n\n", END), Reason.MALFORMED, "cannot be read"),
        (stream(HI, "data: \x00\n\n"), Reason.MALFORMED, "cannot be read"),
        (stream("<html>login</html>\n"), Reason.MALFORMED, "cannot be read"),
        (stream(HI, 'data: {"error":{"code":502,"message":"gone"}}\n\n'), Reason.BROKEN, "gone"),
        (stream(HI, 'error: {"code":500,"message":"boom"}\n\n'), Reason.BROKEN, "boom"),
        (refusal(200, '{"error":{"message":"out of memory"}}'), Reason.BROKEN, "out of memory"),
        (stream(END), Reason.EMPTY, "without a word"),
        (refusal(401, '{"error":{"message":"no such key"}}'), Reason.REFUSED,
         "it refuses the key in SOME_KEY; set a valid one (HTTP 401: no such key)"),
        (refusal(404, '{"error":{"message":"unknown"}}'), Reason.REFUSED, "it has no model llama"),
        (refusal(307, "", Location="http://elsewhere/"), Reason.REFUSED, "it redirects"),
        (refusal(400, f'{{"error":{{"message":"bad: {SECRET}"}}}}'), Reason.REJECTED, "HTTP 400"),
        (refusal(500, "<html>oops</html>"), Reason.BROKEN, "it failed (HTTP 500)"),
        (refusal(429, "", **{"Retry-After": "7"}), Reason.BUSY, "again in 7 s"),
    ],
)  # fmt: skip
async def test_a_server_that_does_not_serve_is_a_failure_in_a_sentence(
    server, http, settings_of, answer, reason, words
) -> None:
    server.answer = answer
    failure = await failed(ChatAnswers(settings_of, "sk-1", http))
    assert failure.reason is reason
    assert words in str(failure)
    assert len(server.bodies) == 1


async def test_the_wait_that_is_asked_for_is_handed_on(server, http, settings_of) -> None:
    server.answer = refusal(429, "", **{"Retry-After": "7"})
    assert (await failed(ChatAnswers(settings_of, "", http))).retry_after_s == 7


async def test_a_whole_answer_in_place_of_a_stream_is_taken(server, http, settings_of) -> None:
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    server.answer = refusal(200, json.dumps(body, indent=1))
    assert await said(ChatAnswers(settings_of, "", http)) == "Hi"


async def test_nobody_at_the_address(http, settings_of) -> None:
    nowhere = replace(settings_of, base_url="http://127.0.0.1:9/v1")
    failure = await failed(ChatAnswers(nowhere, "", http))
    assert failure.reason is Reason.UNREACHABLE
    assert str(failure) == "vllm at http://127.0.0.1:9/v1: connection refused"


async def test_a_server_that_hangs_up_without_an_answer(server, http, settings_of) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        await abort(request)
        return web.Response()

    server.answer = hang_up
    failure = await failed(ChatAnswers(settings_of, "", http))
    assert failure.reason is Reason.UNREACHABLE


async def test_a_key_with_a_line_break_is_not_sent(server, http, settings_of) -> None:
    failure = await failed(ChatAnswers(settings_of, "a\r\nX-Evil: 1", http))
    assert failure.reason is Reason.REFUSED
    assert "SOME_KEY" in str(failure)
    assert server.bodies == []


async def test_the_end_at_max_tokens_is_logged_once(server, http, settings_of, caplog) -> None:
    server.answer = stream(HI, END.replace("stop", "length"))
    answers = ChatAnswers(settings_of, "", http)
    with caplog.at_level("INFO", "runner.providers.chat"):
        assert await said(answers) + await said(answers) == "HiHi"
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "an answer ended at max_tokens; raise it for longer ones"
    ]


async def test_a_probe_costs_one_token_and_no_word_of_a_caller(server, http, settings_of) -> None:
    server.answer = refusal(200, '{"choices":[{"message":{"content":""}}]}')
    candidate = LLMCandidate(settings_of, stand_in=False)
    await checkups.revive_llm(candidate, http)
    assert server.bodies == [
        {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    ]
    server.answer = refusal(503)
    with pytest.raises(Failure, match="HTTP 503"):
        await checkups.revive_llm(candidate, http)


async def test_a_probe_of_a_silent_server_ends_at_the_deadline(server, http, settings_of) -> None:
    server.answer = stream(then=wait_for_ever)
    candidate = LLMCandidate(replace(settings_of, first_token_s=0.05), stand_in=False)
    with pytest.raises(Failure, match="no answer within") as failure:
        await checkups.revive_llm(candidate, http)
    assert failure.value.reason is Reason.SILENT


async def test_a_new_provider_is_a_file_and_no_python(server, http, tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    provider = {"kind": "openai", "name": "mine", "base_url": server.url, "model": "m-1"}
    (tmp_path / "llm/mine.yaml").write_text(yaml.safe_dump(provider))
    command = [sys.executable, "-m", "runner", "--config-dir", str(tmp_path), "llm=mine"]
    composed = await asyncio.to_thread(
        subprocess.run, [*command, "--cfg", "job"], capture_output=True, text=True, check=True
    )
    settings = config.load(OmegaConf.create(composed.stdout))
    assert isinstance(settings.llm, OpenAILLM)
    assert await said(ChatAnswers(settings.llm, "", http)) == "Hi"
    assert server.bodies[0]["model"] == "m-1"
