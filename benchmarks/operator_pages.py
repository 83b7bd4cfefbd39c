"""What open operator's pages cost the callers: the wait of 20 calls, with five pages and without.

    .venv/bin/python benchmarks/operator_pages.py         # 20 callers, 5 pages, 3 times each
    .venv/bin/python benchmarks/operator_pages.py 10 5 1  # callers, pages, times

A whole runner whose models are played. Each caller asks in writing, in a real room, three times a
minute; the wait is from the question to the first sound of the answer. The pages are Chromium's,
each with the captions of a call, and are closed and opened in turn. CHROMIUM names the browser.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.async_api import Browser, async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner.bench.figures import percentile, ratio
from tests.calls.canary import Caller
from tests.calls.conftest import Runner
from tests.chromium import CHROMIUM, FLAGS
from tests.faults.test_rescue import simulated

PERIOD_S = 20.0
TURNS = 3  # of each caller, with the pages and without
LOUD = 0.01 * 32768
PAGES, CALM = "with pages", "without"


class Asking(Caller):
    """A caller who notes how long each answer takes to be heard."""

    async def wait_s(self) -> float:
        """Of one question."""
        self._frames.clear()
        asked_at = time.monotonic()
        await self.ask("Does it count?")
        loud = (at for at, samples in self._last if np.abs(samples).max() > LOUD)
        return next(loud) - asked_at

    async def _end(self, began: float) -> None:
        await self._until_answered()
        self._last = [(at, samples) for at, samples in self._frames if at > began]


async def measured(crowd: list[Asking]) -> list[float]:
    """The waits of some turns of all callers, which begin one after the other."""

    async def talk(number: int, caller: Asking) -> list[float]:
        await asyncio.sleep(PERIOD_S * number / len(crowd))
        waits = []
        for _ in range(TURNS):
            due = time.monotonic() + PERIOD_S
            waits.append(await caller.wait_s())
            await asyncio.sleep(max(due - time.monotonic(), 0))
        return waits

    talks = await asyncio.gather(*(talk(*each) for each in enumerate(crowd)))
    return [wait for waits in talks for wait in waits]


async def watch(browser: Browser, runner: Runner, pages: int) -> None:
    """Opens so many operator's pages, each with the captions of a call."""
    for number in range(pages):
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{runner.operator_port}")
        await page.get_by_test_id("call").nth(number).get_by_role("link").click()


async def compared(runner: Runner, callers: int, pages: int, times: int) -> dict[str, list[float]]:
    """The waits without the pages and with them."""
    waits: dict[str, list[float]] = {CALM: [], PAGES: []}
    crowd = [Asking(str(number)) for number in range(callers)]
    try:
        for caller in crowd:
            await caller.join(runner.url)
        async with async_playwright() as browsers:
            for _ in range(times):
                waits[CALM] += await measured(crowd)
                browser = await browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                await watch(browser, runner, pages)
                waits[PAGES] += await measured(crowd)
                await browser.close()
    finally:
        await asyncio.gather(*(caller.leave() for caller in crowd))
    return waits


def main(callers: int, pages: int, times: int) -> None:
    """Prints both waits, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as root:
        Path(root).chmod(0o755)  # root's Postgres runs as another account
        runner = simulated(
            lambda: Path(root, "data"), f"livekit.max_calls={callers}", "web.tokens_per_minute=1000"
        )
        try:
            waits = asyncio.run(compared(runner, callers, pages, times))
        finally:
            runner.stop()
    for name, taken in waits.items():
        p50, p95 = (percentile(taken, share).text(3) for share in (50, 95))
        print(f"{callers} callers, {name:<12} n = {len(taken):>3}: p50 {p50} s, p95 {p95} s")
    for share in (50, 95):
        print(f"ratio of p{share}: {ratio(waits[PAGES], waits[CALM], share).text(3)}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:4]]
    main(*(given + [20, 5, 3][len(given) :]))
