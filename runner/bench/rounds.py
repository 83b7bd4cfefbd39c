"""One round: callers of one arm at a set rate, and what it took."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from runner.bench import load
from runner.bench.arms import Arm
from runner.bench.caller import Answered, Caller, Microphones
from runner.bench.turns import Round, Turn, void_reasons
from runner.bench.voices import Utterance, Voices
from runner.bench.watch import Watch, drift_s, made_s
from runner.config import BenchTask, Config, OpenAILLM
from runner.simulator.service import SETTINGS

_STRIDE = 3  # callers say the same things, but not at the same time
_SETTLE_S = 3.0  # jobs of the round before are ended, and others are kept ready


@dataclass(frozen=True)
class Bench:
    """What all rounds of a run have in common. ``on_turn`` is called after each turn."""

    run: str
    config: Config
    task: BenchTask
    voices: Voices
    watch: Watch
    on_turn: Callable[[], None]

    async def round(self, arm: Arm, number: int) -> tuple[Round, list[Turn]]:
        """Measures nobody, calls, warms up, measures the turns and the rest, and hangs up."""
        async with Microphones() as microphones:
            pid = arm.pid()
            await asyncio.sleep(_SETTLE_S if self.task.transport == "room" else 0)
            idle_mb = load.memory_mb(pid)
            with load.shares({"arm": pid}) as idle:
                await asyncio.sleep(self.task.rest_s)
            async with _calls(arm, self.task.callers, microphones) as callers:
                await asyncio.gather(*(self._warm_up(caller) for caller in callers))
                await self.watch.reset()
                pids = {"arm": pid, "simulator": self._simulator()}
                microphones.late_s, own_s = 0.0, load.own_cpu_s()
                with load.shares(pids) as busy:
                    answered = await self._talk(callers)
                driver = (load.own_cpu_s() - own_s) / busy.seconds
                late_s, memory_mb = microphones.late_s, load.memory_mb(pid)
                with load.shares(pids) as rest:
                    await asyncio.sleep(self.task.rest_s)
        requests = await self.watch.requests()
        facts = Round(
            run=self.run,
            arm=arm.name,
            callers=self.task.callers,
            round=number,
            seconds=round(busy.seconds, 2),
            cpu=round(busy.cpu["arm"], 4),
            at_rest=round(rest.cpu["arm"], 4),
            idle=round(idle.cpu["arm"], 4),
            simulator_cpu=round(busy.cpu["simulator"], 4),
            driver_cpu=round(driver, 4),
            driver_late_s=round(late_s, 4),
            drift_s=round(drift_s(requests), 4),
            memory=round(memory_mb, 1),
            memory_idle=round(idle_mb, 1),
        )
        turns = [
            self._turn(arm, number, said, made_s(requests, said.answered))
            for said in sorted(answered, key=lambda said: said.answered.began_at)
        ]
        reasons = void_reasons(facts, turns, in_rooms=self.task.transport == "room")
        return replace(facts, void=reasons), turns

    def _simulator(self) -> int | None:
        """The process of ours, among those of others."""
        if self.config.simulate is None:
            return None
        told = SETTINGS.dump_json(self.config.simulate).decode()
        return load.process_of("runner.simulator", told)

    def _turn(self, arm: Arm, number: int, said: "_Said", made: dict[str, float]) -> Turn:
        answered, utterance = said.answered, self.voices.utterances[said.utterance]
        heard_at, told = answered.heard_at, answered.told
        e2e_s = None if answered.cut or heard_at is None else heard_at - answered.ended_at
        return Turn(
            run=self.run,
            arm=arm.name,
            callers=self.task.callers,
            round=number,
            caller=said.caller,
            turn=said.turn,
            utterance=said.utterance,
            hesitates=utterance.hesitates,
            e2e_s=None if e2e_s is None else round(e2e_s, 4),
            cut=answered.cut,
            wrong=e2e_s is not None and not self._right(answered.text),
            made_s={
                name: round(seconds, 4)
                for name, seconds in made.items()
                if self.task.callers == 1 and e2e_s is not None
            },
            told_s=told.get("stages_s", {}),
            failovers=sum(len(one["failovers"]) for one in told.get("services", {}).values()),
        )

    def _right(self, text: str) -> bool:
        """Whether it is what the simulated LLM answers; nobody knows it of a real one."""
        answers = expected(self.config)
        known = bool(answers) and self.task.transport == "memory"  # rooms tell no text
        return not known or any(_plain(answer) in _plain(text) for answer in answers)

    async def _warm_up(self, caller: Caller) -> None:
        for at in range(self.task.warm_up):
            utterance = self._utterances()[at % len(self._utterances())]
            await caller.turn(utterance, self.task.reply_timeout_s)

    def _utterances(self) -> list[Utterance]:
        return [one for one in self.voices.utterances if not one.hesitates]

    async def _talk(self, callers: list[Caller]) -> list["_Said"]:
        """Turns are dealt to the callers; each begins one every so many seconds."""
        counts = [
            max(math.ceil((self.task.turns - at) / len(callers)), 1) for at in range(len(callers))
        ]
        talks = [
            self._converse(caller, at, counts[at], at / len(callers))
            for at, caller in enumerate(callers)
        ]
        return [said for talk in await asyncio.gather(*talks) for said in talk]

    async def _converse(
        self, caller: Caller, number: int, turns: int, phase: float
    ) -> list["_Said"]:
        loop, period_s = asyncio.get_running_loop(), 60 / self.task.turns_per_minute
        due = loop.time() + phase * period_s
        said = []
        for turn in range(turns):
            await asyncio.sleep(max(due - loop.time(), 0))
            due = max(due, loop.time() - period_s) + period_s
            at = (number * _STRIDE + turn) % len(self.voices.utterances)
            utterance = self.voices.utterances[at]
            answered = await caller.turn(utterance, self.task.reply_timeout_s)
            said.append(_Said(number, turn, at, answered))
            self.on_turn()
        return said


@dataclass(frozen=True)
class _Said:
    caller: int
    turn: int
    utterance: int
    answered: Answered


def expected(config: Config) -> list[str]:
    """The answers of the simulated LLM that is asked first, where they do not depend on what is
    said; empty: it is real."""
    if config.simulate is None or not isinstance(config.llm, OpenAILLM):
        return []
    port = urlsplit(config.llm.base_url).port
    servers = [one for one in config.simulate.servers.values() if one.port == port]
    answers = [answer for server in servers for answer in server.answers]
    return [
        answer if isinstance(answer, str) else getattr(answer, "text", "") for answer in answers
    ]


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()


@asynccontextmanager
async def _calls(arm: Arm, count: int, microphones: Microphones) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as exits:
        callers = []
        for _ in range(count):
            callers.append(await arm.call(microphones))
            exits.push_async_callback(callers[-1].aclose)
        yield callers
