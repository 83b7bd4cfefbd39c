"""Each state of the call page: by day and by night, wide and on a phone, for axe-core and the eye.

With ``SCREENSHOTS=docs/images`` the pictures of the manual are taken on the way.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Locator, WebSocketRoute, expect

from tests.integration.acted import Acted, Visit, Worker, joined

pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
SIZES = {"wide": (1280, 860), "phone": (390, 844)}
LOOKS = ("light", "dark")
QUESTION = "How do I change the greeting?"
REFUSED = (
    "navigator.mediaDevices.getUserMedia = async () => "
    "{ throw new DOMException('', 'NotAllowedError') }"
)
PASSAGE = (
    "## What is kept of a persona?\n\nThe table agent_instructions holds a row for each persona: "
    "its name, its language, the greeting that callers hear first, and the instructions that the "
    "LLM is given with every question. One row is active for each language. Every change is kept "
    "in the table agent_instructions_history, with who made it and when, so that an earlier "
    "version can be put back.\n\n## How do I change the greeting?\n\nTo change the greeting, "
    "update the column initial_greeting of the active row in the table agent_instructions. The "
    "next caller hears it; nothing has to be restarted.\n\n## How do I change the voice?\n\nThe "
    "key stt_tts.voice names it. A voice speaks one language, so each language has a voice of its "
    "own. The voices that are there are listed by task=doctor, and a voice that is not there is "
    "refused before the runner takes its first call."
)
GREETING = {
    "role": "assistant",
    "text": "Hello! I am your voice assistant. What would you like to know?",
    "interrupted": False,
    "sources": [],
    "served_by": {"tts": "embedded"},
    "services": {},
    "stages_s": {"tts_ttfb": 0.11},
}
ANSWER = {
    "role": "assistant",
    "text": "To change the greeting, update the column initial_greeting of the active row in the "
    "table agent_instructions.",
    "interrupted": False,
    "sources": [
        {
            "filename": "faq.md",
            "heading": "How do I change the greeting?",
            "quote": "To change the greeting, update the column initial_greeting of the active "
            "row in the table agent_instructions. The next caller hears it; nothing has to be "
            "restarted.",
            "passage": PASSAGE,
            "similarity": 0.86,
        }
    ],
    "served_by": {"stt": "embedded", "llm": "ollama", "tts": "embedded"},
    "services": {
        "stt": {"provider": "embedded", "failovers": []},
        "llm": {"provider": "ollama", "failovers": [{"provider": "vllm", "reason": "timeout"}]},
        "tts": {"provider": "embedded", "failovers": []},
    },
    "stages_s": {
        "stt": 0.13,
        "end_of_turn": 0.32,
        "retrieval": 0.03,
        "llm_ttft": 0.25,
        "tts_ttfb": 0.12,
        "e2e": 0.74,
    },
}


async def seen(page: Visit, name: str, folded: Locator | None = None) -> None:
    """Finds what hinders people in this state, in every look and size; takes its pictures. What is
    ``folded`` is opened in each size."""
    await page.tab.evaluate(AXE.read_text("utf-8"))
    found = {}
    for size, (width, height) in SIZES.items():
        await page.tab.set_viewport_size({"width": width, "height": height})
        if folded:
            await folded.press("Enter")
            await expect(page.tab.locator("mark")).to_be_in_viewport(ratio=1)
        for look in LOOKS:
            await page.tab.emulate_media(color_scheme=look, reduced_motion="reduce")
            result = await page.tab.evaluate("axe.run({resultTypes: ['violations']})")
            found |= {
                (rule["id"], size, look): [node["html"] for node in rule["nodes"]]
                for rule in result["violations"]
                if rule["impact"] in ("serious", "critical")
            }
            if folder := os.environ.get("SCREENSHOTS"):
                path = Path(folder, f"call-{name}-{size}-{look}.png")
                await page.tab.screenshot(path=path, full_page=size == "phone")
        if folded:
            await folded.press("Enter")
        across = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.tab.evaluate(across) == 0, f"{name} is wider than a {size} screen"
    assert found == {}


async def told(page: Visit, agent: Acted) -> None:
    """A conversation of three turns, whose last answer has a source."""
    await agent.write(str(GREETING["text"]), "greeting")
    await agent.tell(GREETING)
    await agent.write(QUESTION, "question", of=agent.caller)
    await agent.write(str(ANSWER["text"]), "answer")
    await agent.tell(ANSWER)
    await expect(page.part("sources")).to_be_visible()


async def test_before_a_call(opened, livekit):
    async with opened(livekit) as page:
        await expect(page.part("language")).to_be_visible()
        await seen(page, "before")


async def test_while_the_microphone_is_tested(opened, livekit):
    async with opened(livekit) as page:
        await page.part("test").click()
        await expect(page.tab.get_by_text("You can be heard.")).to_be_visible()
        await expect(page.part("level")).not_to_have_attribute("aria-valuenow", "0")
        await seen(page, "test")


async def test_in_a_call(opened, livekit):
    async with opened(livekit) as page, joined(page, livekit, await page.call()) as agent:
        await told(page, agent)
        await agent.write("And what does the next", "more", of=agent.caller, final="false")
        await page.part("service").last.locator("summary").click()
        await expect(page.part("quality")).to_be_visible()
        await seen(page, "talk", page.part("sources").locator("summary"))


async def test_with_a_microphone_that_is_blocked(opened, livekit):
    async with (
        opened(livekit, before=REFUSED) as page,
        joined(page, livekit, await page.call()),
    ):
        await expect(page.part("notice")).to_contain_text("The microphone is blocked")
        await seen(page, "blocked")


async def test_when_the_worker_is_full(opened, livekit):
    full = "All 20 lines are busy. Call again in a minute."
    async with opened(livekit, Worker(full)) as page:
        await page.part("call").click()
        await expect(page.part("notice")).to_have_text(full)
        await seen(page, "full")


async def test_when_the_runner_is_gone(opened, livekit):
    async with opened(livekit) as page:
        await page.tab.route("**/*", lambda route: route.abort("connectionrefused"))
        await page.part("call").click()
        await expect(page.part("notice")).to_contain_text("Start it again with “make run”")
        await seen(page, "gone")


async def test_while_the_connection_is_restored(opened, livekit):
    lines: list[WebSocketRoute] = []

    def connect(line: WebSocketRoute) -> None:
        if not lines:
            line.connect_to_server()
        lines.append(line)

    async with opened(livekit) as page:
        await page.tab.route_web_socket(re.compile("/rtc"), connect)
        async with joined(page, livekit, await page.call()) as agent:
            await told(page, agent)
            await lines[0].close(code=1011)
            await expect(page.part("notice")).to_contain_text("Stay on this page")
            await seen(page, "reconnecting")


async def test_when_the_agent_is_lost(opened, livekit):
    async with opened(livekit) as page:
        async with joined(page, livekit, await page.call()) as agent:
            await told(page, agent)
        await expect(page.part("notice")).to_contain_text("The agent was lost")
        await expect(page.part("notice")).to_contain_text("The agent has left")
        await seen(page, "lost")


async def test_after_a_call(opened, livekit):
    async with opened(livekit) as page:
        async with joined(page, livekit, await page.call()) as agent:
            await told(page, agent)
            await page.part("hangup").click()
        await expect(page.part("summary")).to_contain_text("ollama")
        await expect(page.part("summary")).to_contain_text("0.7 s")
        await seen(page, "after")
