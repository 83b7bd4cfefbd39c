"""This project's agent as one that a benchmark calls: all of it but the room."""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
from pydantic import TypeAdapter

from runner import build, logs
from runner.bench.session_io import connect, listen
from runner.bench.wire import Line, answer
from runner.config import Config
from runner.conversation import conversation
from runner.metrics import Metrics
from runner.sessions import UserSession
from runner.switchboard import Desk

CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


@dataclass(frozen=True)
class Agent:
    """Answers calls. ``desk``: the permits and breakers that they share."""

    config: Config
    postgres_socket: str | None
    desk: Desk

    async def __call__(self, line: Line) -> None:
        """One call; it begins when the session listens, and nobody is greeted."""

        async def publish(turn: str) -> None:
            line.say(**json.loads(turn))

        user = UserSession("bench", "caller", self.config.llm.name)
        async with conversation(
            self.config, self.postgres_socket, self.desk, user, publish
        ) as talk:
            ear = connect(talk.session, line)
            await talk.session.start(talk.agent, record=False, session_host=False)
            await listen(line, ear)
            await talk.session.aclose()


async def main(path: str, config: Config, postgres_socket: str | None) -> None:
    """Takes calls at the socket ``path`` until it is ended."""
    async with AsyncExitStack() as exits:
        http = await exits.enter_async_context(aiohttp.ClientSession())
        desk = await exits.enter_async_context(build.switchboard(config, http, Metrics()))
        await answer(path, Agent(config, postgres_socket, desk))


if __name__ == "__main__":
    told = CONFIG.validate_json(os.environ["BENCH_SETTINGS"])
    logs.set_up(told.log)
    asyncio.run(main(sys.argv[1], told, sys.argv[2] or None))
