"""What doctor, the page and the log say of each provider that does not serve."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from runner import probes
from runner.config import Config, OpenAILLM
from tests.composed import composed

LISTED = '{"data":[{"id":"one"},{"id":"two"},{"id":"three"},{"id":"four"}]}'


class Server:
    status = 200
    body = LISTED
    url = ""

    async def handle(self, _: web.Request) -> web.StreamResponse:
        if not self.status:
            await asyncio.Event().wait()
        return web.Response(status=self.status, text=self.body, content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    told = Server()
    app = web.Application()
    app.router.add_get("/{any:.*}", told.handle)
    async with TestServer(app, handler_cancellation=True) as running:
        told.url = str(running.make_url("")).rstrip("/")
        yield told


@pytest.fixture
def asking(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Config]:
    """The configuration with this LLM alone, at the server, with a key."""

    def configured(llm: str) -> Config:
        for variable in ("OPENROUTER_API_KEY", "GOOGLE_API_KEY"):
            monkeypatch.setenv(variable, "sk-1")
        overrides = [f"llm={llm}", "failover.order=[]", "stand_in.llm=null"]
        settings = composed(*overrides)
        tail = "/v1" if isinstance(settings.llm, OpenAILLM) else ""
        return replace(settings, llm=replace(settings.llm, base_url=f"{server.url}{tail}"))

    return configured


async def trouble(settings: Config, timeout_s: float = 5) -> str | None:
    [finding] = await probes.probe_llms(settings, timeout_s)
    return finding.trouble


@pytest.mark.parametrize("llm", ["vllm", "ollama", "openrouter"])
async def test_a_model_that_is_not_there_is_named_with_some_that_are(
    asking: Callable[[str], Config], llm: str
) -> None:
    settings = asking(llm)
    assert await trouble(settings) == (
        f"it has no model {settings.llm.model}; it lists one, two, three …"
    )


@pytest.mark.parametrize(
    ("llm", "status", "body", "words"),
    [
        ("vllm", 401, "",
         "it wants a key; set api_key_env to the name of a variable that holds one (HTTP 401)"),
        ("ollama", 500, '{"error":"disk full"}', "it failed (HTTP 500: disk full)"),
        ("openrouter", 401, '{"error":{"message":"No auth"}}',
         "it refuses the key in OPENROUTER_API_KEY; set a valid one (HTTP 401: No auth)"),
        ("google", 403, '{"error":{"message":"denied"}}',
         "it refuses the key in GOOGLE_API_KEY; set a valid one (HTTP 403: denied)"),
        ("google", 404, "",
         "it has no model gemini-2.0-flash; set another model, or the right base_url (HTTP 404)"),
        ("vllm", 404, "", "it has no such address; set the right base_url (HTTP 404)"),
        ("vllm", 200, "<html>", "its answer is no JSON object"),
        ("vllm", 0, "", "no answer within 0.05 s"),
    ],
)  # fmt: skip
async def test_a_server_that_does_not_serve_is_told_in_a_sentence(
    asking: Callable[[str], Config], server: Server, llm: str, status: int, body: str, words: str
) -> None:
    server.status, server.body = status, body
    assert await trouble(asking(llm), 5 if status else 0.05) == words


@pytest.mark.parametrize("llm", ["vllm", "ollama", "openrouter", "google", "google_realtime"])
async def test_nobody_at_the_address(
    asking: Callable[[str], Config], server: Server, llm: str
) -> None:
    server.url = f"http://127.0.0.1:{unused_port()}"
    assert await trouble(asking(llm)) == "connection refused"


async def test_a_server_that_lists_nothing_may_have_the_model(
    asking: Callable[[str], Config], server: Server
) -> None:
    server.body = "{}"
    assert await trouble(asking("vllm")) is None
