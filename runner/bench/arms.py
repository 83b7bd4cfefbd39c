"""Who is called: this project's agent, or a peer's script, each in a process of its own."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from runner.bench import load, wire
from runner.bench.caller import Caller, LineCaller, Microphones
from runner.bench.room import RoomCaller, Rooms
from runner.bench.turns import OURS
from runner.candidates import stt_candidates, tts_candidates
from runner.child import Command
from runner.config import BenchTask, Config, OpenAILLM, Peer, ServeTask
from runner.errors import RunnerError
from runner.folders import RESOURCES
from runner.services import Report, Service


@dataclass(frozen=True)
class Arm:
    """One that is called; ``ready`` tells whether it takes calls."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    call: Callable[[Microphones], Awaitable[Caller]]

    def service(self) -> Service:
        """Its process."""
        return Service(self.name, self._prepare, self.ready)

    async def _prepare(self, _: Report) -> Command:
        return Command(self.argv, env=dict(self.env))

    def pid(self) -> int | None:
        """Of its process."""
        return load.process_of(*self.argv)


def arms(
    config: Config, postgres_socket: str | None, folder: Path, rooms: Rooms | None
) -> list[Arm]:
    """Those of ``task.arms``; in ``rooms``, or without them at sockets in ``folder``.

    Raises:
        RunnerError: a peer does not speak the configuration's protocol.
    """
    task = config.task
    assert isinstance(task, BenchTask)
    if rooms:
        return [_in_rooms(name, config, rooms) for name in task.arms]
    return [_at_socket(name, config, folder / name, postgres_socket or "") for name in task.arms]


def check_installed(task: BenchTask) -> None:
    """Raises:
    RunnerError: a peer of ``task.arms`` is not installed.
    """
    for name in task.arms:
        if name != OURS and not (python := _found(task.peers[name].python)).exists():
            raise RunnerError(
                f"The peer {name} is not installed: {python} (task.peers.{name}.python) is not "
                "there. docs/benchmark.md says how to install it."
            )


def _at_socket(name: str, config: Config, socket: Path, postgres_socket: str) -> Arm:
    ready, call = partial(_answers, socket), partial(_dial, socket)
    if name == OURS:
        told = to_json(asdict(replace(config, task=ServeTask("serve")))).decode()
        ours = (sys.executable, "-m", "runner.bench.arm", str(socket), postgres_socket)
        return Arm(name, ours, {"BENCH_SETTINGS": told}, ready, call)
    argv, env = _peer(name, config)
    return Arm(name, (*argv, str(socket)), env, ready, call)


def _in_rooms(name: str, config: Config, rooms: Rooms) -> Arm:
    """Ours is the runner as its users start it; a peer is a worker called as its arm."""
    agent = config.livekit.agent_name if name == OURS else name
    ready, call = partial(RoomCaller.finds, rooms, agent), partial(_join, rooms, agent)
    if name == OURS:
        ours = (sys.executable, "-m", "runner", *rooms.overrides, "task=serve")
        return Arm(name, ours, {}, ready, call)
    argv, env = _peer(name, config)
    return Arm(name, (*argv, "room", name), {**env, **rooms.environment()}, ready, call)


def _peer(name: str, config: Config) -> tuple[tuple[str, str], dict[str, str]]:
    """Command and environment of a peer's script."""
    task = config.task
    assert isinstance(task, BenchTask)
    peer = task.peers[name]
    python, script = _found(peer.python), _found(peer.script)
    told = to_json(settings(config, peer)).decode()
    return (str(python), str(script)), {"BENCH_SETTINGS": told, "PYTHONPATH": str(RESOURCES)}


def _found(name: str) -> Path:
    """As seen from here, else beside the program."""
    here = Path(name).absolute()
    return here if here.exists() else RESOURCES / name


def settings(config: Config, peer: Peer) -> dict[str, Any]:
    """What a peer is told: the first provider of each chain, the persona, when a turn is over.

    Raises:
        RunnerError: the LLM does not speak OpenAI's protocol.
    """
    if not isinstance(config.llm, OpenAILLM):
        raise RunnerError(
            f"Peers speak OpenAI's protocol; llm={config.llm.name} does not. Leave them out of "
            "task.arms, or choose another llm."
        )
    ears, voice, turn = stt_candidates(config)[0], tts_candidates(config)[0], config.turn
    silences = {
        "endpointing_delay_s": turn.endpointing_delay_s,
        "vad_silence_s": turn.vad_silence_s,
    }
    return {
        "stt": {"base_url": ears.base_url, "model": ears.speech.stt.model},
        "tts": {
            "base_url": voice.base_url,
            "model": voice.speech.tts.model,
            "voice": voice.speech.tts.voice,
        },
        "llm": {"base_url": config.llm.base_url, "model": config.llm.model},
        "instructions": config.agent.instructions,
        "turn": silences if peer.turn == "same" else None,
    }


async def _dial(socket: Path, microphones: Microphones) -> Caller:
    return LineCaller(await wire.dial(str(socket)), microphones)


async def _answers(socket: Path) -> bool:
    try:
        line = await wire.dial(str(socket))
    except OSError:
        return False
    await line.aclose()
    return True


async def _join(rooms: Rooms, agent: str, _: Microphones) -> Caller:
    return await RoomCaller.join(rooms, agent)
