"""The LiveKit worker: takes jobs up to its limit and runs each call in a process of its own."""

import asyncio
import logging
import signal
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import aiohttp
from livekit import api, rtc
from livekit.agents import (
    AgentServer,
    AutoSubscribe,
    CloseEvent,
    JobContext,
    JobProcess,
    JobRequest,
)
from livekit.agents.voice.room_io import RoomOptions, TextOutputOptions

from runner import build, logs, rehearsal, stalls
from runner.calls import Caller
from runner.captions import Captions
from runner.config import Config
from runner.conversation import conversation
from runner.languages import ATTRIBUTE, caller_language
from runner.line import connect
from runner.livekit_server import Keys
from runner.loudspeaker import Loudspeaker
from runner.microphone import Microphone
from runner.sessions import UserSession
from runner.subtitles import Subtitles

log = logging.getLogger(__name__)

TURN_TOPIC = "runner.turn"
"""Text stream on which the page is told who served an answer, from what, and how fast."""

_SINCE = "runner.since"
_FULL_LOAD = 0.999
_TARGET_LOAD = 0.7  # LiveKit's server gives no job to a worker with so much (agents.target_load)
_MOST_TOLD = 0.99  # of that
_RECONNECTS = 1_000_000  # a LiveKit server that comes back after a night is joined again


@dataclass(frozen=True)
class Entry:
    """What a job runs; it travels to the job's process by pickle."""

    config: Config
    postgres_socket: str | None
    switchboard: Path
    worker_id: uuid.UUID

    async def __call__(self, ctx: JobContext) -> None:
        """One call, from joining the room to the caller's leaving."""
        stack = AsyncExitStack()
        room = ctx.job.room.name
        line = await connect(self.switchboard)
        line.begin(room)
        stack.push_async_callback(line.aclose)
        stack.enter_context(stalls.watched(f"the call in {room}", line.stalled))
        await ctx.connect(
            auto_subscribe=AutoSubscribe.AUDIO_ONLY,
            single_peer_connection=True,  # half of the memory and the timers
        )
        _Place(ctx)
        loudspeaker = Loudspeaker(ctx.room)
        stack.push_async_callback(loudspeaker.aclose)
        caller = await ctx.wait_for_participant()
        user = UserSession(
            room_id=room,
            participant_id=caller.identity,
            llm_provider=self.config.llm.name,
            worker_id=str(self.worker_id),
            job_id=ctx.job.id,
            language=caller_language(caller.attributes.get(ATTRIBUTE)),
        )

        async def publish(turn: str) -> None:
            line.turn(turn)
            await ctx.room.local_participant.send_text(turn, topic=TURN_TOPIC)

        call = await stack.enter_async_context(
            conversation(self.config, self.postgres_socket, line, user, publish)
        )
        line.introduce(
            Caller(str(user.session_id), user.participant_id, user.llm_provider, user.language)
        )

        async def leave() -> None:
            await stack.aclose()

        def on_close(event: CloseEvent) -> None:
            if ctx.room.isconnected():  # else it is gone, or another agent's
                ctx.delete_room()
            ctx.shutdown(event.reason.value)

        ctx.add_shutdown_callback(leave)
        call.session.on("close", on_close)
        call.session.on("agent_state_changed", lambda event: line.be(event.new_state))
        call.session.on("user_state_changed", lambda _: loudspeaker.stay())
        microphone = Microphone(ctx.room, user.participant_id, call.hear)
        stack.callback(microphone.close)
        call.session.input.audio, call.session.output.audio = microphone, loudspeaker
        captions = Captions(line.caption)
        call.session.on("user_input_transcribed", captions.on_transcript)
        call.session.on("conversation_item_added", captions.on_item)
        await call.session.start(
            call.agent,
            room=ctx.room,
            room_options=RoomOptions(
                audio_input=False,
                audio_output=False,
                text_output=TextOutputOptions(sync_transcription=False, next_in_chain=captions),
            ),
            session_host=False,  # else any participant may ask for the prompt and the history
            record=False,
        )
        shown = call.session.output.transcription
        assert shown is not None
        subtitles = call.session.output.transcription = Subtitles(shown)
        stack.callback(subtitles.close)
        loudspeaker.show(subtitles)
        await call.greet()


class Worker:
    """A worker under the agent's name, to which the jobs of ``entry`` belong."""

    def __init__(self, entry: Entry, keys: Keys) -> None:
        config = entry.config
        self._max_calls = config.livekit.max_calls
        self._drain_s = config.livekit.drain_s
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
            job_memory_warn_mb=0,
            job_memory_limit_mb=config.limits.call_memory_mb,
            setup_fnc=partial(_set_up_process, config=config),
            preload_modules=[
                __name__,
                *build.client_modules(config),
                *rehearsal.announce(config),
            ],
        )
        self.server.rtc_session(
            entry, agent_name=config.livekit.agent_name, on_request=self._accept
        )
        self.server.on("worker_registered", self._on_registered)

    @property
    def rooms(self) -> list[str]:
        """Where calls are in progress."""
        return [info.job.room.name for info in self.server.active_jobs]

    async def drain(self) -> None:
        """Takes no new calls, and waits until the others have ended; for a while at most."""
        log.info("no new calls; %d are on, and have %g s to end", len(self.rooms), self._drain_s)
        try:
            async with asyncio.timeout(self._drain_s):
                await self.server.drain(timeout=None)
        except TimeoutError:
            log.warning(
                "%d calls did not end in livekit.drain_s and are ended now", len(self.rooms)
            )

    def refusal(self, room: str) -> str | None:
        """Why no call can be taken in ``room`` now, or None. One that is on already goes on."""
        if not self.registered.is_set():
            return "The agent is still connecting to the LiveKit server. Try again in a moment."
        if room in self.rooms:
            return None
        if self.server.draining:
            return "The agent is being stopped and takes no new calls."
        if len(self.rooms) >= self._max_calls:
            return (
                "All lines are busy. Try again when a call has ended; whoever runs the agent "
                "can raise livekit.max_calls."
            )
        return None

    def killed(self, room: str) -> bool:
        """Whether it was this worker that killed the call in ``room``: for its memory, or because
        it did not answer for a minute."""
        return any(
            process.running_job
            and process.running_job.job.room.name == room
            and getattr(process, "killed", False)
            for process in self.server._proc_pool.processes  # noqa: SLF001  nobody else knows
        )

    def _on_registered(self, *_: object) -> None:
        self.registered.set()

    def _load(self, server: AgentServer) -> float:
        """Calls, as a share of what they may be; never so many that LiveKit's server would not ask:
        it hears of loads every few seconds, and a line that is free again serves at once."""
        share = len(server.active_jobs) / self._max_calls
        return min(share, _MOST_TOLD) * _TARGET_LOAD

    async def _accept(self, request: JobRequest) -> None:
        if len(self.rooms) < self._max_calls:
            await request.accept(attributes={_SINCE: str(time.time())})
        else:
            await request.reject()


class _Place:
    """One agent a room: of two, the one that was sent later puts the other out. A job may be dead,
    or believed to be, and LiveKit does not notice for a while."""

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self._tasks: set[asyncio.Task[None]] = set()
        ctx.room.on("participant_connected", self._on_participant)
        for participant in ctx.room.remote_participants.values():
            self._on_participant(participant)

    def _on_participant(self, other: rtc.RemoteParticipant) -> None:
        if other.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT and _since(other) < _since(
            self._ctx.room.local_participant
        ):
            task = asyncio.create_task(self._put_out(other.identity), name="put out")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _put_out(self, identity: str) -> None:
        request = api.RoomParticipantIdentity(room=self._ctx.room.name, identity=identity)
        try:
            await self._ctx.api.room.remove_participant(request)
        except (api.ServerError, aiohttp.ClientError, TimeoutError) as error:
            log.info("an earlier agent is in the room, or left it just now: %s", error)


def _since(agent: rtc.Participant) -> float:
    """When an agent was sent, on the clock of the machine that sent it; 0: nobody knows."""
    try:
        return float(agent.attributes.get(_SINCE, "0"))
    except ValueError:
        return 0.0


def _set_up_process(_: JobProcess, *, config: Config) -> None:
    """Runs in each idle process, before it is given a call.

    SIGUSR1 comes half a second before livekit-agents kills a process; its handler is not there in a
    process that was forked, which the signal would end too early for `Worker.killed`.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    logs.set_up(config.log)
    for name in build.client_modules(config):
        import_module(name)
