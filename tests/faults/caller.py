"""A caller in a real room who writes instead of speaking, and reads what is said."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from livekit import rtc

from runner.worker import TURN_TOPIC
from tests.calls.conftest import Runner

_CHAT_TOPIC = "lk.chat"
PATIENCE_S = 60


@dataclass
class Caller:
    """In a room of their own."""

    room: rtc.Room
    token: str
    said: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    """What the agent said, a message each."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the room is gone."""

    async def ask(self, text: str) -> str:
        """The agent's next message."""
        await self.write(text, _CHAT_TOPIC)
        return await self.heard()

    async def write(self, text: str, topic: str) -> None:
        """Writes on a text stream."""
        await self.room.local_participant.send_text(text, topic=topic)

    async def heard(self) -> str:
        """What the agent says next."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.said.get()

    def listen(self, reader: rtc.TextStreamReader, _: str) -> None:
        """Takes a line about a turn."""
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: rtc.TextStreamReader) -> None:
        line = json.loads(await reader.read_all())
        if line["role"] == "assistant":
            self.said.put_nowait(line["text"])


async def ask_token(runner: Runner, address: str = "127.0.0.1") -> tuple[int, dict[str, Any]]:
    """What ``POST /api/token`` answers to somebody at ``address``."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as http,
        http.post(f"{runner.url}/api/token", json={}) as answer,
    ):
        return answer.status, await answer.json()


@asynccontextmanager
async def calling(runner: Runner) -> AsyncIterator[Caller]:
    """A call, once it was greeted."""
    status, answer = await ask_token(runner)
    assert status == 201, answer
    caller = Caller(rtc.Room(), answer["participant_token"])
    caller.room.register_text_stream_handler(TURN_TOPIC, caller.listen)
    caller.room.on("disconnected", lambda *_: caller.left.set())
    await caller.room.connect(answer["server_url"], caller.token)
    try:
        assert await caller.heard()
        yield caller
    finally:
        await caller.room.disconnect()
