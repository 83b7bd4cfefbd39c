"""End to end, one caller: how long a turn takes and what a call weighs.

Start a runner first (``make run``), then ``.venv/bin/python benchmarks/turns.py 30``. It asks the
manual's questions in Piper's voice over a real room, and prints the percentiles of what a caller
waits (last sound said → first sound heard) with the stages as the agent measured them, and the
memory of each process: alone, with one call, with two.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import psutil

MODELS = "http://127.0.0.1:8010/v1"
QUESTIONS = [
    "How do I change the greeting?",
    "Which port does the page use?",
    "What is the capital of France?",
    "How do I add my own documents?",
    "How many people can call at once?",
    "Where is my data stored?",
    "How do I stop the runner?",
    "Do I need a graphics card?",
    "How do I turn the documents off?",
    "Thank you very much.",
]
_MB = 1024 * 1024


async def record(folder: Path) -> list[Path]:
    """The questions as WAV files."""
    paths = []
    async with aiohttp.ClientSession() as http:
        for number, text in enumerate(QUESTIONS):
            request = {"model": "piper", "input": text, "response_format": "wav"}
            request["voice"] = "en_US-joe-medium"
            async with http.post(f"{MODELS}/audio/speech", json=request) as answer:
                answer.raise_for_status()
                paths.append(folder / f"{number}.wav")
                paths[-1].write_bytes(await answer.read())
    return paths


def call(audio: list[Path]) -> subprocess.Popen[str]:
    """A caller with these questions."""
    files = ",".join(str(path) for path in audio)
    command = [sys.executable, "-m", "runner", "task=call", f"task.audio=[{files}]"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def percentiles(name: str, values: list[float]) -> str:
    """A row: how many, median, 95th percentile."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return f"{name:<14}{len(values):>4}{cuts[9]:>9.3f}{cuts[18]:>9.3f}"


def memory() -> dict[str, float]:
    """PSS in MB by process, the runner's whole family."""
    parent = next(p for p in psutil.process_iter(["cmdline"]) if _serves(p.info["cmdline"] or []))
    family = [parent, *parent.children(recursive=True)]
    return {f"{p.pid} {_name(p)}": p.memory_full_info().pss / _MB for p in family}


def _serves(command: list[str]) -> bool:
    words = " ".join(command)
    return "-m runner" in words and "task=" not in words and "python" in command[0]


def _name(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    kinds = {"runner.models": "models", "forkserver": "job", "resource_tracker": "tracker"}
    kinds |= {"livekit-server": "livekit", "guard.py": "guard", "postgres": "postgres"}
    return next((kind for sign, kind in kinds.items() if sign in words), "runner")


def summed(rows: dict[str, float]) -> dict[str, float]:
    """By kind of process."""
    kinds: dict[str, float] = {}
    for name, megabytes in rows.items():
        kind = name.split()[1]
        kinds[kind] = kinds.get(kind, 0) + megabytes
    return kinds


def main(turns: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        questions = asyncio.run(record(Path(folder)))
        weights = [summed(memory())]
        caller = call((questions * turns)[:turns])
        assert caller.stdout
        lines = []
        for line in caller.stdout:
            lines.append(json.loads(line))
            if len(lines) == 1:
                weights.append(summed(memory()))
        other = [call(questions[:2]), call(questions[:2])]
        for one in other:
            assert one.stdout
            one.stdout.readline()
        weights.append(summed(memory()))
        for one in other:
            one.communicate()
    print(f"{'seconds':<14}{'n':>4}{'p50':>9}{'p95':>9}")
    print(percentiles("caller waits", [line["e2e_s"] for line in lines]))
    for stage in ("stt", "end_of_turn", "llm_ttft", "tts_ttfb", "e2e"):
        print(percentiles(stage, [line["stages_s"][stage] for line in lines]))
    print(f"\n{'MB (PSS)':<14}{'idle':>9}{'1 call':>9}{'2 calls':>9}")
    for kind in weights[0]:
        print(f"{kind:<14}" + "".join(f"{row.get(kind, 0):>9.0f}" for row in weights))
    print(f"{'all':<14}" + "".join(f"{sum(row.values()):>9.0f}" for row in weights))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
