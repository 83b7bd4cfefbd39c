"""The line for questions beside ``/v1/embeddings``: both of its ends over a real socket."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import numpy as np
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.test_utils import TestServer

from runner.errors import ProviderError
from runner.models.api import refusals
from runner.models.embeddings import Embeddings
from runner.models.lanes import Lane
from runner.models.minilm import Embedding
from runner.rag.embedding import Embedder

MODEL = "all-MiniLM-L6-v2"
LINE = f"/v1/embeddings/line?model={MODEL}"


class Lengths:
    """A model whose vectors tell how long the text was."""

    def embed(self, text: str) -> Embedding:
        return Embedding(np.full(384, len(text), np.float32), 1)


class Served:
    """The model server's embeddings alone; ``asked`` counts requests by method."""

    def __init__(self) -> None:
        self.lane = Lane("embedding", 1, 0)
        self.asked: Counter[str] = Counter()
        self.server = self._server()

    def _server(self, port: int | None = None) -> TestServer:
        embeddings = Embeddings(Lengths(), self.lane, self.lane)  # type: ignore[arg-type]
        app = web.Application(middlewares=[self._count, refusals])
        embeddings.add_to(app)
        return TestServer(app, port=port)

    @web.middleware
    async def _count(self, request: web.Request, handler) -> web.StreamResponse:  # type: ignore[no-untyped-def]
        self.asked[request.method] += 1
        return await handler(request)

    async def again(self) -> None:
        """Down, and up at the same port."""
        port = self.server.port
        await self.server.close()
        self.server = self._server(port)
        await self.server.start_server()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.server.start_server()
    yield served
    await served.server.close()
    served.lane.close()


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Embedder]:
    client = Embedder(str(served.server.make_url("/v1")), MODEL)
    yield client
    await client.aclose()


@pytest.fixture
async def http(served: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(served.server.make_url("/")) as http:
        yield http


async def length(client: Embedder, text: str) -> float:
    [vector] = await client.embed([text])
    assert len(vector) == 384
    assert len(set(vector)) == 1
    return vector[0]


async def test_questions_share_one_line(client: Embedder, served: Served) -> None:
    texts = ["Who?", "What is it?", "Who?", "é" * 300]
    assert [await length(client, text) for text in texts] == [4, 11, 4, 300]
    assert served.asked == {"GET": 1}


async def test_each_of_several_at_once_has_its_own_answer(client: Embedder) -> None:
    texts = ["?" * n for n in range(1, 30)]
    await length(client, "Open?")
    assert await asyncio.gather(*(length(client, text) for text in texts)) == list(range(1, 30))


async def test_texts_of_an_index_come_by_http(client: Embedder, served: Served) -> None:
    assert [vector[0] for vector in await client.embed(["One.", "Three."])] == [4, 6]
    assert served.asked == {"POST": 1}


async def test_the_line_is_opened_again_after_the_server_was_down(
    client: Embedder, served: Served
) -> None:
    await length(client, "Before?")
    await served.again()
    assert await length(client, "While it is found out?") == 22
    assert await length(client, "After?") == 6
    assert served.asked == {"GET": 2, "POST": 1}


async def test_who_gives_up_does_not_leave_his_answer_to_the_next(
    client: Embedder, served: Served
) -> None:
    await length(client, "Before?")
    with served.lane.place():
        asked = asyncio.create_task(client.embed(["?" * 100]))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    assert await length(client, "After?") == 6


async def test_a_full_lane_is_told_of_by_http(client: Embedder, served: Served) -> None:
    long = "x" * 300  # a short one has no need of the lane
    with served.lane.place(), pytest.raises(ProviderError, match="status 503"):
        await client.embed([long])
    assert await length(client, long) == 300


async def test_a_server_without_a_line_is_asked_for_it_once() -> None:
    asked: Counter[str] = Counter()

    async def post(request: web.Request) -> web.Response:
        asked["POST"] += 1
        texts = (await request.json())["input"]
        data = [{"index": at, "embedding": [len(text)] * 384} for at, text in enumerate(texts)]
        return web.json_response({"data": data})

    async def line(_: web.Request) -> web.Response:
        asked["GET"] += 1
        return web.Response(status=404)

    app = web.Application()
    app.router.add_post("/v1/embeddings", post)
    app.router.add_get("/v1/embeddings/line", line)
    async with TestServer(app) as server:
        client = Embedder(str(server.make_url("/v1")), MODEL)
        assert [await length(client, "?" * n) for n in (1, 2, 3)] == [1, 2, 3]
        await client.aclose()
    assert asked == {"GET": 1, "POST": 3}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"123", "not that of an embedding server"),
        (np.ones(383, "<f4").tobytes(), "383 numbers"),
        (np.zeros(384, "<f4").tobytes(), "zeros"),
        (np.full(384, np.nan, "<f4").tobytes(), "no number"),
        ("text", "status 404"),
        (b"", "status 404"),
    ],
)
async def test_what_is_no_vector_is_refused(answer: bytes | str, reason: str) -> None:
    async def line(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            await (socket.send_str if isinstance(answer, str) else socket.send_bytes)(answer)  # type: ignore[arg-type]
        return socket

    app = web.Application()
    app.router.add_get("/v1/embeddings/line", line)
    async with TestServer(app) as server:
        client = Embedder(str(server.make_url("/v1")), MODEL)
        with pytest.raises(ProviderError, match=reason):
            await client.embed(["Who?"])
        await client.aclose()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (LINE, {"Origin": "http://example.com"}, 403),
        (LINE, {"Origin": "null"}, 403),
        ("/v1/embeddings/line?model=other", {}, 404),
        ("/v1/embeddings/line", {}, 404),
    ],
)
async def test_pages_and_other_models_get_no_line(
    http: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(path, headers=headers)
    assert refused.value.status == status


@pytest.mark.parametrize("asked", ["", b"bytes", "x" * 70_000])
async def test_what_is_no_question_ends_the_line(
    http: aiohttp.ClientSession, asked: str | bytes
) -> None:
    async with http.ws_connect(LINE) as socket:
        await (socket.send_str if isinstance(asked, str) else socket.send_bytes)(asked)  # type: ignore[arg-type]
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_a_full_lane_ends_the_line_until_later(
    http: aiohttp.ClientSession, served: Served
) -> None:
    async with http.ws_connect(LINE) as socket:
        with served.lane.place():
            await socket.send_str("x" * 300)
            assert (await socket.receive()).data == WSCloseCode.TRY_AGAIN_LATER


async def test_lines_end_with_the_server(http: aiohttp.ClientSession, served: Served) -> None:
    async with http.ws_connect(LINE) as socket:
        await socket.send_str("Who?")
        await socket.receive_bytes()
        closing = asyncio.create_task(served.server.close())
        assert (await socket.receive()).data == WSCloseCode.GOING_AWAY
        await closing
