"""One call does harm, or is harmed, and the others do not notice: real rooms, real processes."""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil

from tests.calls.conftest import PATIENCE_S, ROOT, Runner
from tests.faults.caller import calling
from tests.faults.conftest import MEMORY_MB
from tests.faults.hurt import TOPIC

QUESTION = "Are you there?"


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  another process makes it so
            await asyncio.sleep(0.05)


def logged(runner: Runner, text: str) -> bool:
    return any(text in line for line in runner.output)


async def metric(runner: Runner, line: str) -> float:
    """A value of the operator's page."""
    url = f"http://127.0.0.1:{runner.operator_port}/metrics"
    async with aiohttp.request("GET", url) as answer:
        found = re.search(rf"^{re.escape(line)} (.*)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_23_a_blocked_call_is_named_and_the_others_go_on(
    running: Runner, release: Path
) -> None:
    async with calling(running) as blocked, calling(running) as other:
        await blocked.write("stall", TOPIC)
        await until(lambda: logged(running, "is blocked since"))
        assert await other.ask(QUESTION)
        assert not logged(running, "goes on, after")
        release.touch()
        await until(lambda: logged(running, "goes on, after"))
        assert await blocked.ask(QUESTION)
    assert logged(running, "think_very_hard")
    stalls = [line for line in running.output if "is blocked since" in line]
    assert len(stalls) == 1
    assert blocked.room.name in stalls[0]
    assert await metric(running, 'runner_event_loop_stalls_total{process="call"}') == 1
    assert await metric(running, 'runner_event_loop_stalls_total{process="runner"}') == 0


async def test_24_a_call_that_takes_too_much_memory_is_ended_and_no_other(running: Runner) -> None:
    async with calling(running) as greedy, calling(running) as other:
        await greedy.write("eat", TOPIC)
        async with asyncio.timeout(PATIENCE_S):
            await greedy.left.wait()
        assert await other.ask(QUESTION)
        assert not other.left.is_set()
    sentence = f"the call in {greedy.room.name} was ended: it took more than {MEMORY_MB} MB"
    assert logged(running, sentence)
    assert not logged(running, "another agent goes on")
    [row] = running.query("SELECT status FROM agent_sessions WHERE room_id = %s", greedy.room.name)
    assert row["status"] == "ended"


VANISHING = """
import asyncio, sys
from tests.calls.conftest import Runner
from tests.faults.caller import calling

async def main():
    async with calling(Runner(None, [], None, int(sys.argv[1]), 0, 0)) as caller:
        print(caller.room.name, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_28_of_a_caller_who_vanishes_nothing_is_left(running: Runner) -> None:
    runner = psutil.Process(running.process.pid)
    outbox = next(running.data_dir.rglob("outbox"))
    await until(lambda: not list(outbox.iterdir()))
    threads, files = runner.num_threads(), runner.num_fds()
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VANISHING, str(running.page_port)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert caller.stdout
    room = (await caller.stdout.readline()).decode().strip()
    [job] = [process for process in jobs(runner) if has_open(process, outbox)]
    caller.kill()
    await caller.wait()
    running.until(f"SELECT 1 FROM agent_sessions WHERE room_id = '{room}' AND status = 'ended'")
    await until(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)
    await until(lambda: not list(outbox.iterdir()))
    await until(lambda: runner.num_threads() <= threads)
    await until(lambda: runner.num_fds() <= files)
    assert not logged(running, f"the agent in {room} died")


def jobs(runner: psutil.Process) -> list[psutil.Process]:
    return [child for child in runner.children(recursive=True) if child.is_running()]


def has_open(process: psutil.Process, folder: Path) -> bool:
    try:
        return any(Path(file.path).parent == folder for file in process.open_files())
    except psutil.Error:
        return False
