"""The operator's port as it is served in tests: over HTTP, with a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientSession, FormData
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.calls import Call, Caller, Calls
from runner.config import Breaker, Config
from runner.doctor import Line, State
from runner.gauges import Seen
from runner.indexing import Indexing
from runner.metrics import Metrics
from runner.operator.api import Office, operator_api
from runner.origins import Composition
from runner.outcome import Key
from runner.rag.search import Search
from runner.switchboard import Switchboard
from runner.timeline import Timeline
from tests.composed import composed
from tests.ports import free_port

CHANGE = {"X-Runner": "1"}
HOSTILE = "<script>alert(1)</script>'; DROP TABLE agent_sessions; --"
ANSWER = {
    "role": "assistant",
    "text": "Hello!",
    "stages_s": {"stt": 0.2, "retrieval": 0.02, "llm_ttft": 0.3, "e2e": 0.9},
    "served_by": {"llm": "ollama"},
    "services": {
        "llm": {
            "provider": "ollama",
            "failovers": [{"provider": "vllm", "reason": "cut"}],
            "tokens": {"prompt": 20, "completion": 5},
        }
    },
}


async def never(_: Key) -> None:
    await asyncio.Event().wait()


class Rooms:
    """Remembers which were closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def close(self, room: str) -> None:
        self.closed.append(room)


class Embedder:
    """Everything means the same to it."""

    async def embed(self, texts: list[str]) -> list[list[float]]:
        return [[0.1] * 384 for _ in texts]


@dataclass
class Port:
    """A served operator's port, and what lies behind it."""

    office: Office
    client: ClientSession
    rooms: Rooms
    folder: Path
    url: str
    examined: list[int] = field(default_factory=list)

    async def get(self, path: str, **headers: str) -> tuple[int, object]:
        return await self._ask("GET", path, headers=headers)

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, object]:
        return await self._ask("POST", path, json=body, headers=CHANGE | headers)

    async def put(self, path: str, body: object) -> tuple[int, object]:
        return await self._ask("PUT", path, json=body, headers=CHANGE)

    async def delete(self, path: str) -> tuple[int, object]:
        return await self._ask("DELETE", path, headers=CHANGE)

    async def upload(self, name: str, content: bytes) -> tuple[int, object]:
        form = FormData(quote_fields=False)
        form.add_field("file", content, filename=name)
        return await self._ask("POST", "/api/documents", data=form, headers=CHANGE)

    async def changes(self) -> list[tuple[str, str, object, object]]:
        _, answer = await self.get("/api/audit")
        return [
            (entry["who"], entry["what"], entry["before"], entry["after"])
            for entry in answer["entries"]
        ]

    async def _ask(self, method: str, path: str, **rest: object) -> tuple[int, object]:
        async with self.client.request(method, path, **rest) as response:
            return response.status, await response.json()


Serve = Callable[..., Awaitable[Port]]


@pytest.fixture(scope="session")
def settings() -> Config:
    """The configuration as it comes."""
    return composed()


@pytest.fixture
async def serve(
    settings: Config, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Serve]:
    """Serves a port; ``operator``: other values of its section."""
    monkeypatch.setattr("runner.operator.site._SHUTDOWN_TIMEOUT_S", 0.1)  # pages are gone by then
    async with AsyncExitStack() as exits:

        async def start(**operator: object) -> Port:
            folder = tmp_path / "documents"
            folder.mkdir(exist_ok=True)
            changed = replace(
                settings,
                rag=replace(settings.rag, docs_dir=str(folder)),
                operator=replace(settings.operator, **{"port": free_port()} | operator),
            )
            metrics, timeline, rooms = Metrics(), Timeline(), Rooms()
            examined: list[int] = []

            async def examine() -> list[Line]:
                examined.append(1)
                return [Line("livekit", State.BROKEN, "it is away", "Start it.", vital=True)]

            calls = Calls(metrics.turn, timeline.turn, begun=metrics.begun)
            metrics.watch_calls(calls)
            office = Office(
                config=changed,
                engine=engine,
                rooms=rooms,
                switchboard=Switchboard(20, Breaker(1, 30, 60, 60), never, metrics),
                seen=Seen(calls, metrics, timeline),
                indexing=Indexing(changed, None, lambda *_: None),
                search=Search(engine, Embedder(), changed.rag),
                examine=examine,
                composition=Composition(("rag.top_k=3",), {"llm": "vllm"}, ()),
            )
            await exits.enter_async_context(operator_api(office))
            url = f"http://127.0.0.1:{changed.operator.port}"
            jar = aiohttp.CookieJar(unsafe=True)
            client = await exits.enter_async_context(ClientSession(url, cookie_jar=jar))
            return Port(office, client, rooms, folder, url, examined)

        yield start


@pytest.fixture
async def port(serve: Serve) -> Port:
    """As it is served on loopback."""
    return await serve()


def call(port: Port, room: str = "call-1") -> Call:
    began = port.office.seen.calls.begin(room)
    port.office.seen.calls.introduce(began, Caller("a-session", "caller-1", "vllm", "en"))
    return began
