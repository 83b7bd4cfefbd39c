"""What documents add to a turn: in one call every other question is searched.

    .venv/bin/python benchmarks/retrieval.py              # 40 turns
    .venv/bin/python benchmarks/retrieval.py --divided    # … with the cores divided

It is a round of task=bench, its providers played, everything that searches real: each question is
another one, and from its transcript to the first token of the answer is what is told. Divided, the
servers (embeddings, PostgreSQL, the players) have the last core and the call has the others: some
virtual machines pack what has little to do on one core, where the one waits for the other.
"""

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from livekit.agents import ModelSettings, llm

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import conversation
from runner.agent import VoiceAgent
from runner.app import main as runner
from runner.bench import arm, bench
from runner.bench.arms import Arm, arms
from runner.bench.figures import difference, percentile
from runner.eval import questions
from runner.folders import RESOURCES
from runner.rag.search import Hit, Search

TURNS = 40
LONGEST_MS = 300  # a turn whose search was not wanted again begins anew
FIRST = 2  # turns at which nothing is warm
TIMES = "RETRIEVAL_TIMES"  # the environment variable that names the file of the times
DIVIDED = "RETRIEVAL_DIVIDED"


class EveryOther(Search):
    """Finds nothing for every other transcript, at once; ``began`` when the latest came."""

    searches = False
    transcript = ""
    began = 0.0

    async def ahead(self, transcript: str) -> None:
        """Begins the search, or none."""
        if transcript == EveryOther.transcript:
            return
        EveryOther.transcript = transcript
        EveryOther.began = time.perf_counter()
        EveryOther.searches = not EveryOther.searches
        if EveryOther.searches:
            await super().ahead(transcript)

    async def in_time(self, question: str) -> list[Hit]:
        """What was found, or nothing."""
        return await super().in_time(question) if EveryOther.searches else []


class Timed(VoiceAgent):
    """Notes when the first token is there."""

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterator[Any]:
        """The answer."""
        first = True
        async for chunk in super().llm_node(chat_ctx, tools, model_settings):
            if first:
                first = False
                note((time.perf_counter() - EveryOther.began) * 1000)
            yield chunk


def note(took_ms: float) -> None:
    """Keeps it for `told`."""
    with Path(os.environ[TIMES]).open("a") as file:
        file.write(f"{EveryOther.searches:d} {took_ms:.3f}\n")


def call(socket: str, postgres_socket: str) -> None:
    """The agent of `runner.bench.arm`, with every other question searched."""
    conversation.Search = EveryOther  # type: ignore[attr-defined]
    conversation.VoiceAgent = Timed  # type: ignore[attr-defined]
    settings = arm.CONFIG.validate_json(os.environ["BENCH_SETTINGS"])
    asyncio.run(arm.main(socket, settings, postgres_socket))


def called(*given: Any) -> list[Arm]:
    """The arms, ours as this script. The servers have started by now."""
    if os.environ.get(DIVIDED):
        os.sched_setaffinity(0, set(range((os.cpu_count() or 2) - 1)))
    script = (sys.executable, str(Path(__file__).resolve()), "--call")
    return [replace(one, argv=(*script, *one.argv[-2:])) for one in arms(*given)]


def transcripts() -> str:
    """The evaluation's questions as a list of Hydra's, without those that it would read."""
    asked = (one.question for one in questions(RESOURCES / "eval" / "questions.yaml"))
    plain = [one for one in asked if not set(one) & set("'\"$\\{}[]")]
    return ",".join(f'"{one}"' for one in random.Random(1).sample(plain, len(plain)))


def told(times: Path) -> str:
    """The medians, and what lies between them with its 95 % interval."""
    rows = [line.split() for line in times.read_text().splitlines()]
    kept = [(one == "1", float(ms)) for one, ms in rows[FIRST:] if float(ms) < LONGEST_MS]
    on, off = ([ms for searched, ms in kept if searched is want] for want in (True, False))
    return (
        f"first token after {percentile(on, 50).text(1)} ms with documents ({len(on)} turns) and "
        f"{percentile(off, 50).text(1)} without ({len(off)}): "
        f"they add {difference(on, off, 50).text(1)} ms"
    )


def main() -> None:
    """Measures, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--divided", action="store_true", help="servers have the last core")
    if parser.parse_args().divided:
        os.environ[DIVIDED] = "yes"
        os.sched_setaffinity(0, {(os.cpu_count() or 2) - 1})
    bench.arms = called  # type: ignore[attr-defined,assignment]
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        os.environ[TIMES] = str(times)
        sys.argv = [
            "runner",
            "+experiment=bench",
            "rag=on",
            "task.rounds=1",
            f"task.turns={TURNS}",
            "task.turns_per_minute=30",
            f"task.out={folder}",
            'simulate.servers.vllm.answers=["It opens at nine."]',
            f"simulate.servers.speaches_gpu.transcripts=[{transcripts()}]",
        ]
        with contextlib.suppress(SystemExit):
            runner()
        print(told(times))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        call(*sys.argv[2:])
    else:
        main()
