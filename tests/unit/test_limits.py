"""Permits: never more holders than permits, and none is lost."""

import asyncio
import subprocess
import sys
from pathlib import Path

from runner.limits import Permits


async def test_one_more_than_there_are_waits_until_one_is_free(tmp_path: Path) -> None:
    permits, entered = Permits(tmp_path, 2), asyncio.Event()

    async def third() -> None:
        async with permits.permit():
            entered.set()

    async with permits.permit():
        async with permits.permit():
            waiting = asyncio.create_task(third())
            await asyncio.sleep(0.03)
            assert not entered.is_set()
        await waiting
    assert entered.is_set()


async def test_a_permit_is_free_when_its_holder_is_cancelled(tmp_path: Path) -> None:
    permits = Permits(tmp_path, 1)

    async def hold() -> None:
        async with permits.permit():
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    holder.cancel()
    async with asyncio.timeout(5), permits.permit():
        pass


async def test_a_permit_is_free_when_its_holder_s_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from runner.limits import Permits\n"
        "async def hold():\n"
        "    async with Permits(pathlib.Path(sys.argv[1]), 1).permit():\n"
        "        print('held', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(hold())\n"
    )
    holder = subprocess.Popen(  # noqa: ASYNC220  nothing else runs here
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    permits = Permits(tmp_path, 1)
    assert permits._take() is None
    holder.kill()
    holder.wait()
    async with asyncio.timeout(5), permits.permit():
        pass
