"""The calls and sessions that the operator's port shows, over HTTP, with a real database."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest

from runner.store import Opening, Store
from tests.integration.operator_port import ANSWER, HOSTILE, call

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


async def test_what_changes_is_told_once(port, monkeypatch):
    monkeypatch.setattr("runner.operator.plots.STEP_S", 10**9)  # no step ends meanwhile
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
