"""The LiveKit worker: takes jobs up to its limit and runs each call in a process of its own."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from livekit.agents import AgentServer, AutoSubscribe, CloseEvent, JobContext, JobProcess, room_io

from runner import build, logs
from runner.config import Config
from runner.conversation import conversation
from runner.line import connect
from runner.livekit_server import Keys
from runner.sessions import UserSession

TURN_TOPIC = "runner.turn"
"""Text stream on which the page is told who served an answer, from what, and how fast."""

_FULL_LOAD = 0.999  # the worker reports calls / max_calls, and full is full
_RECONNECTS = 1_000_000  # a LiveKit server that comes back after a night is joined again


@dataclass(frozen=True)
class Entry:
    """What a job runs; it travels to the job's process by pickle."""

    config: Config
    postgres_socket: str | None
    switchboard: Path

    async def __call__(self, ctx: JobContext) -> None:
        """One call, from joining the room to the caller's leaving."""
        await ctx.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)
        caller = await ctx.wait_for_participant()
        user = UserSession(ctx.room.name, caller.identity, self.config.llm.name)

        async def publish(line: str) -> None:
            await ctx.room.local_participant.send_text(line, topic=TURN_TOPIC)

        stack = AsyncExitStack()
        line = await connect(self.switchboard)
        stack.push_async_callback(line.aclose)
        call = await stack.enter_async_context(
            conversation(self.config, self.postgres_socket, line, user, publish)
        )

        async def leave() -> None:
            await stack.aclose()

        def on_close(event: CloseEvent) -> None:
            ctx.shutdown(event.reason.value)

        ctx.add_shutdown_callback(leave)
        call.session.on("close", on_close)
        await call.session.start(
            call.agent,
            room=ctx.room,
            room_options=room_io.RoomOptions(delete_room_on_close=True),
            session_host=False,  # else any participant may ask for the prompt and the history
            record=False,
        )
        await call.greet()


class Worker:
    """This machine's worker under one agent name. ``switchboard``: the socket of its permits and
    breakers."""

    def __init__(
        self, config: Config, keys: Keys, postgres_socket: str | None, switchboard: Path
    ) -> None:
        self._max_calls = config.livekit.max_calls
        self.registered = asyncio.Event()
        self.server = AgentServer(
            ws_url=config.livekit.url,
            api_key=keys.api_key,
            api_secret=keys.api_secret,
            host="127.0.0.1",
            port=0,  # its health is the page's: /api/health
            num_idle_processes=config.livekit.idle_processes,
            load_fnc=self._load,
            load_threshold=_FULL_LOAD,
            max_retry=_RECONNECTS,
            setup_fnc=partial(_set_up_process, config=config),
            preload_modules=[__name__, *build.client_modules(config)],
        )
        self.server.rtc_session(
            Entry(config, postgres_socket, switchboard), agent_name=config.livekit.agent_name
        )
        self.server.on("worker_registered", self._on_registered)

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return len(self.server.active_jobs)

    def refusal(self) -> str | None:
        """Why no call can be taken now, or None."""
        if not self.registered.is_set():
            return "The agent is still connecting to the LiveKit server. Try again in a moment."
        if self.calls >= self._max_calls:
            return (
                f"All {self._max_calls} lines are busy. Try again when a call has ended, "
                "or raise livekit.max_calls."
            )
        return None

    def _on_registered(self, *_: object) -> None:
        self.registered.set()

    def _load(self, server: AgentServer) -> float:
        return len(server.active_jobs) / self._max_calls


def _set_up_process(_: JobProcess, *, config: Config) -> None:
    """Runs in each idle process, before it is given a call."""
    logs.set_up(config.log)
    for name in build.client_modules(config):
        import_module(name)
