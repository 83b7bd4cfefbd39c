"""Connections that are there before they are needed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import UserStateChangedEvent

from runner import build
from runner.config import Config
from runner.warmth import Warmth
from tests.composed import composed

SPEAKS = UserStateChangedEvent(old_state="listening", new_state="speaking")


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, list[tuple[str, object]]]]:
    """Its base URL, and its requests: the method, and the caller's end of the connection."""
    requests: list[tuple[str, object]] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport
        requests.append((request.method, request.transport.get_extra_info("peername")))
        if request.method == "OPTIONS":
            return web.Response(status=405, text="Method Not Allowed")
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as running:
        yield f"{str(running.make_url('/')).rstrip('/')}/v1", requests


async def settled(warmth: Warmth) -> None:
    async with asyncio.timeout(10):
        while warmth._opening:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_the_turn_s_request_takes_the_connection_that_was_opened_as_the_caller_spoke() -> (
    None
):
    async with server() as (url, requests), aiohttp.ClientSession() as http:
        warmth = Warmth(http, [url, url])
        warmth.on_state(SPEAKS)
        await settled(warmth)
        await asyncio.gather(*(ask(http, url) for _ in range(2)))
    opened = {end for method, end in requests if method == "OPTIONS"}
    assert len(opened) == 2
    assert {end for method, end in requests if method == "POST"} == opened


async def ask(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/audio/speech") as answer:
        await answer.read()


async def test_nothing_is_opened_for_a_caller_who_falls_silent() -> None:
    async with server() as (url, requests), aiohttp.ClientSession() as http:
        warmth = Warmth(http, [url])
        warmth.on_state(UserStateChangedEvent(old_state="speaking", new_state="listening"))
        await settled(warmth)
    assert requests == []


async def test_a_server_that_is_not_there_costs_nothing(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as http:
        warmth = Warmth(http, [f"http://127.0.0.1:{unused_tcp_port}/v1"])
        warmth.on_state(SPEAKS)
        await settled(warmth)


@pytest.mark.parametrize(
    ("overrides", "far"),
    [
        pytest.param([], [], id="near"),
        pytest.param(
            ["llm.base_url=https://far.example/v1", "gpu.tts.speaches_gpu=https://voice.example"],
            ["https://far.example/v1", "https://voice.example/v1"],
            id="far",
        ),
        pytest.param(["llm=google_realtime", "gpu.stt.speaches_gpu=https://x"], [], id="live"),
        pytest.param(["fallback.ollama.base_url=https://far.example"], [], id="asked-later"),
    ],
)
def test_only_those_are_opened_that_are_far_and_asked_first(
    overrides: list[str], far: list[str]
) -> None:
    config: Config = composed("gpu=split", "stt_tts=speaches", *overrides)
    assert build.far_servers(config) == far
