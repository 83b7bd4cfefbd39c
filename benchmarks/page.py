"""What the first load of the call page costs: bytes, first paint, and until it can be used.

    make page && .venv/bin/python benchmarks/page.py        # five loads with an empty cache

Served by the runner's own server on loopback to a headless Chromium, which is asked over CDP. Bytes
are those of every answer with its headers. Interactive: React has taken over the button that calls,
and no task of 50 ms or more is running. What comes only when the microphone or that button is
reached for, LiveKit's client, is not part of the first load and is printed beside it.
"""

import asyncio
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, CDPSession, async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner.config import Web
from runner.web import Access, start_page
from tests.chromium import CHROMIUM, FLAGS

LIMIT_KB, LIMIT_S = 250, 1.5
WATCH = """() => {
  window.lastTask = 0;
  new PerformanceObserver(list => list.getEntries().forEach(
    task => { window.lastTask = task.startTime + task.duration; }
  )).observe({type: "longtask", buffered: true});
  window.takenOver = new Promise(done => {
    const look = () => {
      const button = document.querySelector("[data-testid=call]");
      if (button && Object.keys(button).some(key => key.startsWith("__reactProps")))
        done(performance.now());
      else requestAnimationFrame(look);
    };
    look();
  });
}"""
TIMES = """async () => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  interactive: Math.max(await window.takenOver, window.lastTask),
})"""


class Idle:
    """A worker that takes every call."""

    def refusal(self, _: str) -> str | None:
        return None


async def status() -> dict[str, object]:
    """As of a runner in which nothing stands in."""
    return {"agent": "voice-agent", "stand_ins": [], "notes": [], "languages": ["en"]}


@dataclass(frozen=True)
class Load:
    """What one load cost; ``call_kb``: what a call needs beside it."""

    first_kb: float
    call_kb: float
    paint_s: float
    interactive_s: float


async def load(browser: Browser, url: str, encoding: str) -> Load:
    """One load with an empty cache, and then the call's part."""
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.add_init_script(f"({WATCH})()")
        cdp = await context.new_cdp_session(page)
        await page.set_extra_http_headers({"Accept-Encoding": encoding})
        sizes = await _sizes(cdp)
        await page.goto(url)
        await page.wait_for_load_state("networkidle")
        times = await page.evaluate(TIMES)
        first = sum(sizes)
        async with page.expect_response("**/*.js"):
            await page.get_by_test_id("call").focus()
        await page.wait_for_load_state("networkidle")
        await page.wait_for_timeout(500)
    finally:
        await context.close()
    kilobytes = (first / 1000, (sum(sizes) - first) / 1000)
    return Load(*kilobytes, times["paint"] / 1000, times["interactive"] / 1000)


async def _sizes(cdp: CDPSession) -> list[float]:
    """The size of each answer from now on, as it came over the wire."""
    sizes: list[float] = []
    cdp.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    await cdp.send("Network.enable")
    return sizes


async def main(loads: int) -> None:
    """Prints the medians of ``loads`` for each way of compressing."""
    access = Access("ws://127.0.0.1:7880", "key", "secret", "voice-agent", grace_s=30)
    server = await start_page(Web("127.0.0.1", 0, 30, 600), access, Idle(), status)
    url = f"http://127.0.0.1:{server.addresses[0][1]}/"
    async with async_playwright() as browsers:
        browser = await browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        await load(browser, url, "gzip")  # the browser itself gets warm
        for encoding in ("gzip", "br"):
            found = [await load(browser, url, encoding) for _ in range(loads)]
            print(f"{encoding:>4}: {_told(found)}")
        await browser.close()
    await server.cleanup()
    print(f"allowed: {LIMIT_KB} kB gzipped, interactive after {LIMIT_S:g} s")


def _told(found: list[Load]) -> str:
    first, call, paint, interactive = (
        statistics.median(getattr(one, name) for one in found)
        for name in ("first_kb", "call_kb", "paint_s", "interactive_s")
    )
    slowest = max(one.interactive_s for one in found)
    return (
        f"first load {first:.0f} kB, first contentful paint {paint:.2f} s, "
        f"interactive {interactive:.2f} s (slowest {slowest:.2f} s); "
        f"for the call {call:.0f} kB more"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
