"""The operator's port over HTTP, with a real database: what it shows, changes, and to whom."""

import asyncio
import json
import re
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientSession, FormData
from hydra import compose, initialize_config_dir
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from runner import config
from runner.calls import Call, Caller, Calls
from runner.config import Breaker, Config
from runner.doctor import Line, State
from runner.errors import ServiceError
from runner.folders import RESOURCES
from runner.gauges import Seen
from runner.indexing import Indexing
from runner.metrics import Metrics
from runner.operator.api import Office, operator_api, routes
from runner.operator.site import Doorman
from runner.origins import Composition
from runner.providers.failure import Reason
from runner.rag.search import Search
from runner.store import Opening, Store
from runner.switchboard import Key, Outcome, Switchboard
from runner.timeline import Timeline

TOKEN = "a-token-of-thirty-two-characters"
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


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


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
    with initialize_config_dir(str(RESOURCES / "conf"), version_base="1.3"):
        return config.load(compose("config"))


@pytest.fixture
async def serve(settings: Config, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Serve]:
    """Serves a port; ``operator``: other values of its section."""
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


# Who may ask.


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=str
)
async def test_pages_of_other_sites_see_nothing(port, headers):
    status, answer = await port.get("/api/providers", **headers)
    assert status == 403
    assert answer.keys() == {"error"}


async def test_a_change_needs_a_header_that_no_other_site_can_send(port):
    call(port)
    async with port.client.post("/api/calls/call-1/end", json={}) as response:
        assert response.status == 403
        assert "X-Runner" in await response.text()
    assert port.rooms.closed == []


class TestWithAToken:
    @pytest.fixture
    async def port(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Port:
        monkeypatch.setenv("OPERATOR_TOKEN", TOKEN)
        return await serve()

    @pytest.mark.parametrize("path", ["/api/calls", "/metrics", "/openapi.json", "/api/nothing"])
    async def test_nothing_is_told_without_it(self, port, path):
        assert await port.get(path) == (
            401,
            {"error": "Log in with the token that operator.token_env names."},
        )

    async def test_it_opens_the_port(self, port):
        assert await port.get("/api/calls", Authorization=f"Bearer {TOKEN}") == (200, [])
        status, _ = await port.get("/api/calls", Authorization="Bearer another")
        assert status == 401

    async def test_whoever_logs_in_is_known_by_a_cookie_that_no_script_reads(self, port):
        status, _ = await port.post("/api/login", {"token": "another"})
        assert status == 401
        async with port.client.post(
            "/api/login", json={"token": TOKEN}, headers=CHANGE
        ) as response:
            assert response.status == 200
            cookie = response.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert await port.get("/api/calls") == (200, [])
        assert (await port.put("/api/settings/rag.top_k", {"value": 2}))[0] == 200
        assert [who for who, *_ in await port.changes()] == ["token"]

    async def test_guessing_is_slow(self, port):
        tries = [await port.post("/api/login", {"token": f"guess {n}"}) for n in range(11)]
        assert [status for status, _ in tries] == [401] * 10 + [429]

    async def test_that_it_lives_is_no_secret(self, port):
        assert await port.get("/api/health/live") == (200, {"status": "ok"})


async def test_who_asks_too_often_is_told_to_wait(serve):
    port = await serve(requests_per_minute=3)
    assert [(await port.get("/api/calls"))[0] for _ in range(4)] == [200, 200, 200, 429]


async def test_a_port_that_is_taken_is_named_with_its_key(serve):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(ServiceError, match=r"Set operator\.port"):
            await serve(port=holder.getsockname()[1])


async def test_every_answer_forbids_what_the_page_does_not_need(port):
    for path in ("/", "/api/calls", "/nothing"):
        async with port.client.get(path) as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


# Calls.


async def test_a_call_is_seen_from_its_beginning_to_its_end(port):
    on = call(port)
    port.office.seen.calls.be(on, "thinking")
    port.office.seen.calls.turn(on, {"role": "user", "text": "Hi"})
    port.office.seen.calls.turn(on, ANSWER)
    _, calls = await port.get("/api/calls")
    began_at = calls[0].pop("began_at")
    assert began_at.endswith("Z")
    assert calls == [
        {
            "session_id": "a-session",
            "room": "call-1",
            "caller": "caller-1",
            "state": "thinking",
            "provider": "ollama",
            "language": "en",
            "turns": 1,
            "last": {name: ANSWER[name] for name in ("stages_s", "served_by", "services")},
        }
    ]
    port.office.seen.calls.end(on)
    assert await port.get("/api/calls") == (200, [])


async def test_a_call_is_ended_for_all_and_its_session_with_it(port, engine, superuser):
    on, session_id = call(port), uuid.uuid4()
    await Store(engine).open_session(session_id, Opening("call-1", "caller-1", "vllm", {}))
    assert await port.post("/api/calls/call-1/end") == (200, {"done": "The call is ended."})
    assert port.rooms.closed == ["call-1"]
    assert superuser.execute("SELECT status FROM agent_sessions").fetchall() == [("ended",)]
    assert await port.changes() == [
        ("loopback", "end the call in call-1", {"session_id": "a-session", "turns": 0}, None)
    ]
    port.office.seen.calls.end(on)
    status, _ = await port.post("/api/calls/call-1/end")
    assert status == 404


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, object]]:
    name = ""
    async for line in response.content:
        kind, _, value = line.decode().strip().partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            yield name, json.loads(value)


async def test_what_is_said_is_heard_until_the_call_ends(port, monkeypatch):
    monkeypatch.setattr("runner.operator.streams._BEAT_S", 3600)
    on = call(port)
    async with asyncio.timeout(30), port.client.get("/api/calls/call-1/captions") as response:
        assert response.content_type == "text/event-stream"
        heard = events(response)
        port.office.seen.calls.turn(on, {"role": "user", "text": HOSTILE})
        assert await anext(heard) == ("message", {"role": "user", "text": HOSTILE})
        port.office.seen.calls.turn(on, ANSWER)
        assert await anext(heard) == ("message", ANSWER)
        port.office.seen.calls.end(on)
        assert [told async for told in heard] == []
    assert port.office.seen.calls._captions == {}


async def test_only_so_many_pages_listen_at_once(port, monkeypatch):
    monkeypatch.setattr("runner.operator.streams._MOST", 1)
    call(port)
    async with port.client.get("/api/calls/call-1/captions"):
        status, answer = await port.get("/api/calls/call-1/captions")
    assert (status, "Too many pages" in answer["error"]) == (503, True)


async def test_what_changes_is_told_once(port):
    async with port.client.get("/api/events") as response:
        told = events(response)
        names = {(await anext(told))[0] for _ in range(4)}
        assert names == {"calls", "providers", "documents", "plots"}
        call(port)
        name, data = await anext(told)
        assert (name, data[0]["room"]) == ("calls", "call-1")
        assert await anext(told) == ("sessions", {})


async def test_a_page_that_does_not_read_is_dropped(port, monkeypatch):
    monkeypatch.setattr("runner.operator.streams._SLOW_S", 0.1)
    on = call(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.office.config.operator.port)
    host = port.url.removeprefix("http://")
    writer.write(f"GET /api/calls/call-1/captions HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await reader.readuntil(b"hello")
    writer.transport.pause_reading()
    async with asyncio.timeout(30):
        while port.office.seen.calls._captions:
            port.office.seen.calls.turn(on, {"role": "user", "text": "x" * 200_000})
            await asyncio.sleep(0)
    writer.close()


# Sessions.


async def conversation(store: Store, room: str, *texts: str) -> uuid.UUID:
    session_id = uuid.uuid4()
    opening = Opening(room, f"caller-of-{room}", "vllm", {"language": "de"})
    await store.open_session(session_id, opening)
    for text in texts:
        metadata = {"stages_s": {"e2e": 0.7}}
        await store.add_message(
            session_id, uuid.uuid4(), role="user", content=text, metadata=metadata
        )
    return session_id


async def test_sessions_come_a_page_at_a_time_the_latest_first(port, engine):
    for number in range(5):
        await conversation(Store(engine), f"call-{number}", "Hello")
    rooms, before = [], ""
    for _ in range(3):
        _, page = await port.get(f"/api/sessions?limit=2{before}")
        rooms += [session["room"] for session in page["sessions"]]
        before = f"&before={page['next']}"
    assert rooms == ["call-4", "call-3", "call-2", "call-1", "call-0"]
    assert page["next"] is None
    assert page["sessions"][0]["messages"] == 1
    assert page["sessions"][0]["language"] == "de"


@pytest.mark.parametrize(
    "search", ["call-7", "OF-CALL-7", "switching provid", "Anbieter wechseln", HOSTILE]
)
async def test_a_session_is_found_by_its_names_and_by_what_was_said(port, engine, search):
    await conversation(Store(engine), "call-6", "Hello there", "and the opening hours")
    texts = ("How do I go about switching providers?", "Den Anbieter wechseln!", HOSTILE)
    wanted = await conversation(Store(engine), "call-7", *texts)
    async with port.client.get("/api/sessions", params={"search": search}) as response:
        found = (await response.json())["sessions"]
    assert [session["session_id"] for session in found] == [str(wanted)]


@pytest.mark.parametrize("search", ["nobody said this", "\\", "'':* | zz", "&!()", "%", "\x01"])
async def test_a_search_for_what_is_nowhere_finds_nothing(port, engine, search):
    await conversation(Store(engine), "call-6", "Hello there, a word")
    async with port.client.get("/api/sessions", params={"search": search}) as response:
        assert (response.status, (await response.json())["sessions"]) == (200, [])


async def test_a_conversation_is_replayed_as_it_was(port, engine):
    session_id = await conversation(Store(engine), "call-6", HOSTILE, "\u202egoodbye")
    _, replay = await port.get(f"/api/sessions/{session_id}")
    assert replay["session"]["caller"] == "caller-of-call-6"
    assert [message["content"] for message in replay["messages"]] == [HOSTILE, "\u202egoodbye"]
    assert replay["messages"][0]["metadata"] == {"stages_s": {"e2e": 0.7}}
    assert replay["messages"][0]["created_at"].endswith("Z")
    assert (await port.get(f"/api/sessions/{uuid.uuid4()}"))[0] == 404


# Documents.


async def test_a_document_is_put_into_the_folder_listed_and_taken_out(port, superuser):
    assert (await port.upload("Pricing list.md", b"# Prices\n\nA call costs a euro."))[0] == 200
    assert (port.folder / "Pricing list.md").read_bytes().startswith(b"# Prices")
    _, library = await port.get("/api/documents")
    (file,) = library["files"]
    assert (file["filename"], file["status"], file["chunks"]) == ("Pricing list.md", "waiting", 0)
    insert = (
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding, file_hash) "
        "VALUES ('Pricing list.md', 'A call costs a euro.', 0, %s::vector, 'x')"
    )
    superuser.execute(insert, [str([0.1] * 384)])
    _, library = await port.get("/api/documents")
    assert (library["files"][0]["status"], library["files"][0]["chunks"]) == ("indexed", 1)
    _, hits = await port.get("/api/search?query=what%20does%20it%20cost")
    assert [hit["content"] for hit in hits["hits"]] == ["A call costs a euro."]
    assert (await port.post("/api/documents/Pricing%20list.md/reindex"))[0] == 200
    assert superuser.execute("SELECT file_hash FROM rag_documents").fetchall() == [("",)]
    assert (await port.delete("/api/documents/Pricing%20list.md"))[0] == 200
    assert list(port.folder.iterdir()) == []
    assert [what for _, what, *_ in await port.changes()] == [
        "remove the document Pricing list.md",
        "index again Pricing list.md",
        "add the document Pricing list.md",
    ]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../out.md", 422),
        ("/etc/out.md", 422),
        (".hidden.md", 422),
        ("a\\b.md", 422),
        ("evil.exe", 422),
        ("x" * 300 + ".md", 422),
        ("there.md", 409),
    ],
)
async def test_a_file_that_is_no_document_does_not_get_into_the_folder(port, name, status):
    (port.folder / "there.md").write_text("mine")
    assert (await port.upload(name, b"content"))[0] == status
    assert [path.name for path in port.folder.iterdir()] == ["there.md"]
    assert (port.folder / "there.md").read_text() == "mine"
    assert not (port.folder.parent / "out.md").exists()


async def test_a_file_that_is_too_large_leaves_nothing_behind(port, monkeypatch):
    monkeypatch.setattr("runner.rag.documents._MAX_TEXT_BYTES", 10)
    status, answer = await port.upload("long.md", b"x" * 1_000_000)
    assert (status, list(port.folder.iterdir())) == (413, [])
    assert "larger than" in answer["error"]


@pytest.mark.parametrize("name", ["%2e%2e%2fsecret.md", "link.md", "nothing.md"])
async def test_only_what_is_listed_can_be_removed(port, name):
    secret = port.folder.parent / "secret.md"
    secret.write_text("secret")
    (port.folder / "link.md").symlink_to(secret)
    url = URL(f"{port.url}/api/documents/{name}", encoded=True)
    async with port.client.delete(url, headers=CHANGE) as response:
        assert response.status == 404
    assert secret.read_text() == "secret"


# Instructions.


async def test_instructions_are_added_edited_activated_and_put_back(port):
    new = {"name": "night", "language": "en", "greeting": "Good night!", "instructions": "Be calm."}
    _, added = await port.post("/api/instructions", new)
    row = f"/api/instructions/{added['id']}"
    assert (await port.put(row, {"greeting": HOSTILE}))[0] == 200
    assert (await port.post(f"{row}/activate"))[0] == 200
    _, listed = await port.get("/api/instructions")
    assert [(one["greeting"], one["in_use"]) for one in listed] == [
        ("Hello!", False),
        (HOSTILE, True),
    ]
    _, history = await port.get(f"{row}/history")
    greetings = [change["content"]["greeting"] for change in history]
    assert (greetings[0], greetings[-1]) == (HOSTILE, "Good night!")
    restore = f"/api/instructions/history/{history[-1]['version']}/restore"
    assert (await port.post(restore))[0] == 200
    _, listed = await port.get("/api/instructions")
    assert listed[1]["greeting"] == "Good night!"
    assert (await port.post(f"{row}/deactivate"))[0] == 409
    changes = await port.changes()
    assert (
        "loopback",
        f"edit instructions {added['id']} (night)",
        {"greeting": "Good night!"},
        {"greeting": HOSTILE},
    ) in changes


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "language": "en", "greeting": "", "instructions": ""},
        {"name": "a", "language": "<b>", "greeting": "", "instructions": "x"},
        {"name": "a\0", "language": "en", "greeting": "", "instructions": "x"},
        {"name": "a", "language": "en", "greeting": "", "instructions": "x", "more": 1},
        [],
    ],
)
async def test_what_is_no_instructions_is_refused(port, body):
    status, answer = await port.post("/api/instructions", body)
    assert (status, answer.keys()) == (422, {"error"})


# Settings, providers, configuration.


async def test_a_setting_is_set_for_new_calls_and_taken_back(port, engine):
    assert (await port.put("/api/settings/rag.top_k", {"value": 2}))[0] == 200
    assert await Store(engine).live_settings() == {"rag.top_k": 2}
    _, settings = await port.get("/api/settings")
    (found,) = [setting for setting in settings if setting["key"] == "rag.top_k"]
    assert (found["type"], found["composed"], found["live"]) == ("integer", 5, 2)
    assert (found["allowed"]["minimum"], found["allowed"]["maximum"]) == (1, 50)
    _, entries = await port.get("/api/configuration")
    origins = {entry["key"]: (entry["value"], entry["origin"]) for entry in entries}
    assert origins["rag.top_k"] == (2, "system_config")
    assert (await port.delete("/api/settings/rag.top_k"))[0] == 200
    _, entries = await port.get("/api/configuration")
    origins = {entry["key"]: (entry["value"], entry["origin"]) for entry in entries}
    assert origins["rag.top_k"] == (5, "command line")
    assert [what for _, what, *_ in await port.changes()] == ["unset rag.top_k", "set rag.top_k"]


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("rag.top_k", "many", 422),
        ("rag.top_k", 0, 422),
        ("llm.max_tokens", 10**6, 422),
        ("database.host", "elsewhere", 404),
    ],
)
async def test_a_setting_that_no_call_could_have_is_refused(port, engine, key, value, status):
    assert (await port.put(f"/api/settings/{key}", {"value": value}))[0] == status
    assert await Store(engine).live_settings() == {}
    assert await port.changes() == []


async def test_a_provider_that_is_off_is_told_to_all_calls(port):
    board, told = port.office.switchboard, []
    board.listen(lambda: told.append(board.state(("LLM", "vllm"))))
    assert (await port.put("/api/providers/LLM/vllm", {"off": True}))[0] == 200
    assert (await port.put("/api/providers/LLM/vllm", {"off": False}))[0] == 200
    assert [str(state) for state in told] == ["off", "closed"]
    assert (await port.put("/api/providers/LLM/nobody", {"off": True}))[0] == 404
    off, on = {"off": True}, {"off": False}
    assert [entry[2:] for entry in await port.changes()] == [(off, on), (on, off)]


async def test_how_often_a_provider_failed_is_shown(port):
    port.office.switchboard.report(Outcome(("LLM", "vllm"), Reason.SILENT))
    port.office.switchboard.report(Outcome(("LLM", "vllm"), lost=True))
    port.office.switchboard.report(Outcome(("LLM", "ollama")))
    _, answer = await port.get("/api/providers")
    vllm, ollama, *_ = answer["providers"]
    assert (vllm["state"], vllm["reason"], vllm["errors"]) == ("open", "silent", {"silent": 1})
    assert (vllm["error_rate"], ollama["error_rate"], ollama["requests"]) == (1.0, 0.0, 1)
    assert answer["permits"] == {"allowed": 20, "in_flight": 0, "waiting": 0}


async def test_health_is_examined_once_for_all_pages(port):
    answers = [await port.get("/api/health") for _ in range(3)]
    assert port.examined == [1]
    assert answers[0][1]["served"] is False
    assert answers[0][1]["lines"][0]["mend"] == "Start it."


# Figures.


async def test_turns_are_counted_and_drawn(port):
    port.office.seen.calls.turn(call(port), ANSWER)
    _, plots = await port.get("/api/plots?minutes=5")
    series = plots["series"]
    assert {len(values) for values in series.values()} == {20}
    assert (series["turns_per_minute"][-1], series["failovers"][-1]) == (4.0, 1.0)
    assert (series["e2e_p95_s"][-1], series["e2e_p95_s"][0]) == (0.9, None)
    async with port.client.get("/metrics") as response:
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    for line in (
        "runner_calls_total 1.0",
        "runner_calls_active 1.0",
        "runner_turns_total 1.0",
        'runner_e2e_seconds_bucket{le="1.0"} 1.0',
        'runner_e2e_seconds_bucket{le="0.8"} 0.0',
        'runner_retrieval_seconds_bucket{le="0.02"} 1.0',
        'runner_tokens_total{kind="completion",provider="ollama"} 5.0',
    ):
        assert line in lines


@pytest.mark.parametrize(
    "path",
    ["/api/sessions?limit=0", "/api/sessions?before=99999999999", "/api/plots?minutes=x",
     "/api/sessions/none", "/api/audit?wrong=1", "/api/sessions?limit=1&limit=2"],
)  # fmt: skip
async def test_a_question_that_does_not_fit_is_refused(port, path):
    status, answer = await port.get(path)
    assert (status, answer.keys()) == (422, {"error"})


async def test_a_database_that_is_away_is_told_as_that(port, superuser):
    superuser.execute("DROP TABLE operator_audit")
    status, answer = await port.put("/api/settings/rag.top_k", {"value": 2})
    assert (status, "operator_audit" in answer["error"]) == (500, True)
    rows = superuser.execute("SELECT key FROM system_config WHERE key = 'rag.top_k'").fetchall()
    assert rows == []  # no change without its row in the audit table


async def test_whatever_the_description_allows_is_answered_without_an_error_of_the_server(serve):
    port = await serve(requests_per_minute=1_000_000)
    options = ["--checks=not_a_server_error", "--phases=fuzzing", "--max-examples=6", "--seed=7"]
    tried = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{port.url}/openapi.json", *options),
        *("--exclude-path=/api/events", "--no-color", "--warnings=off", "--request-timeout=30"),
        stdout=asyncio.subprocess.PIPE,
        cwd=port.folder.parent,
    )
    output, _ = await tried.communicate()
    assert tried.returncode == 0, output.decode()


async def test_the_description_has_every_route_that_is_served(port):
    _, description = await port.get("/openapi.json")
    described = {
        (method.upper(), path)
        for path, methods in description["paths"].items()
        for method in methods
    }
    served = {
        (route.method, re.sub(r":[^}]*", "", route.path))
        for route in routes(port.office, Doorman(port.office.config.operator))
    }
    assert described == served
    assert len(served) > 25
