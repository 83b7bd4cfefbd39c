"""The simulated providers as the benchmark sees them: when they had what ready, and how exactly."""

import statistics
from dataclasses import dataclass
from typing import Any

import aiohttp

from runner.bench.caller import Answered
from runner.config import Simulation
from runner.simulator.service import HOST

_STAMPED_S = 0.005  # a server notes what it has sent; by then it may have been heard
_STT, _LLM, _TTS = "transcriptions", "completions", "speech"


@dataclass(frozen=True)
class Request:
    """One request in a simulated server's log, in seconds of the monotonic clock. ``first_s``:
    how long the server meant to think."""

    kind: str
    begin: float
    first: float
    first_s: float


class Watch:
    """The logs of all simulated servers; without a simulation there is nothing to see."""

    def __init__(self, simulation: Simulation | None) -> None:
        self._simulation = simulation

    async def reset(self) -> None:
        """Forgets what was asked until now."""
        await self._each("POST", "reset")

    async def requests(self) -> list[Request]:
        """All that were answered since the reset, in the order of their first output."""
        found = []
        for name, log in (await self._each("GET", "log")).items():
            assert self._simulation
            first_s = self._simulation.servers[name].first_s
            found += [
                Request(entry["path"].rsplit("/", 1)[-1], entry["begin"], first, first_s)
                for entry in log["requests"]
                if (first := entry["first_byte"] or _whole(entry)) is not None
            ]
        return sorted(found, key=lambda request: request.first)

    async def _each(self, method: str, what: str) -> dict[str, dict[str, Any]]:
        if self._simulation is None:
            return {}
        answers = {}
        async with aiohttp.ClientSession() as http:
            for name in self._simulation.servers:
                url = f"http://{HOST}:{self._simulation.port}/{name}/_simulator/{what}"
                async with http.request(method, url) as answer:
                    answer.raise_for_status()
                    answers[name] = await answer.json()
        return answers


def _whole(entry: dict[str, Any]) -> float | None:
    """When an answer was sent that is not streamed."""
    done = entry["ended"] == "whole" and entry["status"] == 200
    return entry["end"] if done and entry["path"].endswith(_STT) else None


def drift_s(requests: list[Request]) -> float:
    """The median of how much longer the servers thought than they meant to."""
    late = [asked.first - asked.begin - asked.first_s for asked in requests if asked.first_s]
    return statistics.median(late) if late else 0.0


def made_s(requests: list[Request], turn: Answered) -> dict[str, float]:
    """For one caller alone: seconds from their last sound until the transcript, the first token
    and the first sound were ready that they were answered with; empty: not seen."""
    if turn.heard_at is None:
        return {}
    before = [r for r in requests if turn.began_at < r.first < turn.heard_at + _STAMPED_S]
    thought = _last(before, _LLM)
    heard = _last([r for r in before if thought and r.first < thought.first], _STT)
    spoken = next(
        (r for r in before if thought and r.kind == _TTS and r.begin > thought.begin), None
    )
    if not (heard and thought and spoken):
        return {}
    return {
        "stt": heard.first - turn.ended_at,
        "llm": thought.first - turn.ended_at,
        "tts": min(spoken.first, turn.heard_at) - turn.ended_at,
    }


def _last(requests: list[Request], kind: str) -> Request | None:
    return next((r for r in reversed(requests) if r.kind == kind), None)
