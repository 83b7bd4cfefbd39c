"""``task=chat``: the same agent by text in the terminal. Its turns are stored as a call's are."""

import asyncio
import getpass
import json
import sys
from contextlib import AsyncExitStack

import aiohttp
from livekit.agents import RunResult

from runner import build, database
from runner.config import ChatTask, Config, GoogleRealtimeLLM
from runner.conversation import Conversation, conversation
from runner.errors import RunnerError
from runner.metrics import Metrics
from runner.progress import Progress
from runner.sessions import UserSession
from runner.stack import needs, stack

_ROOM = "chat"


async def main(config: Config) -> int:
    """Reads lines until the end of input, answers each.

    Raises:
        RunnerError: the configuration's LLM only speaks.
    """
    assert isinstance(config.task, ChatTask)
    if isinstance(config.llm, GoogleRealtimeLLM):
        raise RunnerError(
            f"llm={config.llm.name} hears and speaks, it does not read. Choose another llm for "
            "task=chat, such as llm=google."
        )
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            running = await exits.enter_async_context(
                stack(config, needs(config, calls=False), progress)
            )
            socket = running.endpoints.postgres_socket
            await database.prepare(config.database, socket, config.agent)
        user = UserSession(_ROOM, getpass.getuser(), config.llm.name, language=config.task.language)
        http = await exits.enter_async_context(aiohttp.ClientSession())
        desk = await exits.enter_async_context(build.switchboard(config, http, Metrics()))
        talk = await exits.enter_async_context(
            conversation(config, socket, desk, user, _show_sources)
        )
        talk.session.output.set_audio_enabled(False)
        await talk.session.start(talk.agent, session_host=False, record=False)
        exits.push_async_callback(talk.session.aclose)
        print(talk.greeting, flush=True)
        while (line := await asyncio.to_thread(_read_line)) is not None:
            if line:
                await _answer(talk, line)
    return 0


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


async def _answer(talk: Conversation, line: str) -> None:
    result: RunResult[None] = await talk.session.run(user_input=line)
    for event in result.events:
        if event.type == "message" and event.item.role == "assistant":
            print(event.item.text_content, flush=True)


async def _show_sources(line: str) -> None:
    turn = json.loads(line)
    if names := [source["filename"] for source in turn["sources"]]:
        served = turn["served_by"].get("llm")
        print(f"  ({served}, from {', '.join(dict.fromkeys(names))})", flush=True)
