"""The operator's page in a real Chromium: against its real API, with a real database."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from runner.config import Database
from runner.database import engine as open_engine
from runner.folders import RESOURCES
from tests.operator_desk import HOSTILE, SCAN, SESSION, Desk, answer, desk, fill

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 30  # for what must come at all
TOKEN = "a-token-of-thirty-two-characters"
AXE = RESOURCES / "web" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = os.environ.get("OPERATOR_SHOTS")  # a folder: the pictures of docs/operator.md
SECTIONS = {
    "calls": "caller-7f21",
    "calls/call-1b83": "Agent",
    "plots": "Turns a minute",
    "providers": "openrouter",
    "health": "A call would be served.",
    "instructions/1": "Greeting",
    "documents": SCAN,
    "settings": "temperature",
    "configuration": "rag.docs_dir",
    "sessions": "Show older ones",
    f"sessions/{SESSION}": "vllm failed (cut)",
    "audit": "set llm.temperature",
}
LOOKS = {
    "wide-light": ("light", 1200),
    "phone-dark": ("dark", 390),
    **({"wide-dark": ("dark", 1200), "phone-light": ("light", 390)} if SHOTS else {}),
}

expect.set_options(timeout=PATIENCE_S * 1000)


@pytest_asyncio.fixture(loop_scope="module")
async def filled(
    postgres_socket: str, database: Database, superuser: psycopg.Connection, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A desk that is not served yet."""
    folder = tmp_path / "documents"
    folder.mkdir()
    fill(superuser, folder)
    engine = open_engine(database, postgres_socket, pool_size=5, application_name="test")
    yield desk(engine, folder)
    await engine.dispose()


@dataclass
class Visit:
    """The page, open. ``complaints``: the console's errors and warnings."""

    desk: Desk
    tab: Page
    complaints: list[str] = field(default_factory=list)

    async def open(self, section: str) -> None:
        await self.tab.goto(f"{self.desk.url}/#{section}")

    async def listen(self, room: str) -> None:
        """Open a call's captions, and wait until they would come."""
        async with self.tab.expect_response(f"**/api/calls/{room}/captions"):
            await self.open(f"calls/{room}")
        await self.told("Nothing was said since you opened it.")

    def part(self, name: str) -> Locator:
        return self.tab.get_by_test_id(name)

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.tab.get_by_role("button", name=name)

    async def told(self, sentence: str) -> None:
        """Wait until the server's sentence is on the page."""
        await expect(self.tab.get_by_text(sentence).first).to_be_visible()


@pytest_asyncio.fixture(loop_scope="module")
async def look() -> tuple[str, int]:
    return "light", 1200


@pytest_asyncio.fixture(loop_scope="module")
async def page(filled: Desk, browser: Browser, look: tuple[str, int]) -> AsyncIterator[Visit]:
    """The page of a desk that is served, in a browser that looks as ``look`` says."""
    async with AsyncExitStack() as exits:
        await exits.enter_async_context(filled.served())
        scheme, width = look
        context = await browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB"
        )
        exits.push_async_callback(context.close)
        visit = Visit(filled, await context.new_page())
        visit.tab.on(
            "console",
            lambda entry: (
                visit.complaints.append(entry.text) if entry.type in ("error", "warning") else None
            ),
        )
        visit.tab.on("pageerror", lambda error: visit.complaints.append(str(error)))
        yield visit


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_every_section_can_be_used_by_all_and_its_policy_stops_nothing_of_it(page, look):
    call = page.desk.call("call-1b83", "caller-7f21")
    page.desk.calls.turn(call, answer(0.71))
    other = page.desk.call("call-90aa", HOSTILE, provider="ollama")
    page.desk.calls.turn(other, answer(1.62, "vllm"))
    await page.open("settings")
    await page.tab.get_by_label("temperature").first.fill("0.5")
    await page.button("Set").first.click()
    await page.told("Every new call has the new llm.temperature.")
    for section, sign in SECTIONS.items():
        if section == "calls/call-1b83":
            await page.listen("call-1b83")
            page.desk.calls.turn(call, answer(0.71))
            page.desk.calls.caption(call, "user", "And shoes that I")
        await page.open(section)
        await expect(page.tab.get_by_role("main").get_by_text(sign).first).to_be_visible()
        await page.tab.evaluate(AXE.read_text("utf-8"))
        found = await page.tab.evaluate("axe.run()")
        assert [broken["id"] for broken in found["violations"]] == [], section
        assert await page.tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await photograph(page, section, look)
    assert page.complaints == []


async def photograph(page: Visit, section: str, look: tuple[str, int]) -> None:
    if SHOTS:
        name = section.split("/", maxsplit=1)[0] + ("-open" if "/" in section else "")
        size = "wide" if look[1] > 1000 else "phone"
        await page.tab.mouse.move(0, 0)
        folder = page.tab.locator(".lead code")  # a temporary one
        await folder.evaluate_all("all => all.forEach(one => { one.textContent = '/srv/docs' })")
        await page.tab.screenshot(path=Path(SHOTS, f"{name}-{size}-{look[0]}.png"))


async def test_a_call_is_seen_from_its_beginning_until_it_is_ended_after_a_question(page):
    await page.open("calls")
    await page.told("Nobody is calling.")
    call = page.desk.call("call-1b83", HOSTILE)
    item = page.part("call")
    await expect(item).to_contain_text(HOSTILE)
    await expect(item).to_contain_text("listening")
    page.desk.calls.turn(call, answer(0.71))
    page.desk.calls.be(call, "speaking")
    await expect(item).to_contain_text("1 turn")
    await expect(item.get_by_role("img")).to_have_attribute(
        "aria-label", re.compile("0.71 s: transcript 0.21 s, end of turn 0.19 s, search 20 ms")
    )
    await item.get_by_role("button").click()
    assert page.desk.rooms.closed == []
    await page.button("End the call").last.click()
    await page.told("The call is ended.")
    await page.told("Nobody is calling.")
    assert page.desk.rooms.closed == ["call-1b83"]


async def test_captions_come_while_they_are_said_and_stay_text(page):
    call = page.desk.call("call-1b83", "caller-7f21")
    await page.listen("call-1b83")
    captions = page.tab.get_by_role("log")
    said = {"role": "user", "text": f"Is {HOSTILE} open?", "sources": [], "stages_s": {}}
    lines = captions.get_by_role("listitem")
    page.desk.calls.caption(call, "user", f"Is {HOSTILE}")
    await expect(lines).to_contain_text([f"Is {HOSTILE}"])
    page.desk.calls.turn(call, said)
    page.desk.calls.caption(call, "assistant", "You can")
    page.desk.calls.caption(call, "assistant", "You can return")
    await expect(lines).to_contain_text([said["text"], "You can return"])
    await expect(lines.last).to_have_attribute("aria-busy", "true")
    page.desk.calls.turn(call, answer(1.62, "vllm"))
    await expect(captions).to_contain_text("LLM: vllm failed (cut), ollama served")
    await expect(captions.locator("[aria-busy]")).to_have_count(0)
    page.desk.calls.end(call)
    await page.told("This call is over.")
    await expect(captions).to_contain_text("thirty days")
    assert "owned" not in await page.tab.title()


async def test_sessions_are_paged_searched_and_replayed(page):
    await page.open("sessions")
    rows = page.tab.get_by_role("row")
    await expect(rows).to_have_count(51)
    await page.button("Show older ones").click()
    await expect(rows).to_have_count(61)
    await expect(page.button("Show older ones")).to_have_count(0)
    await page.tab.get_by_role("searchbox").fill("return shoes")
    await expect(rows).to_have_count(2)
    await rows.last.get_by_role("link").click()
    await expect(page.tab.get_by_role("article")).to_contain_text("vllm failed (cut)")
    await expect(page.tab.get_by_role("article")).to_contain_text(HOSTILE)
    assert "owned" not in await page.tab.title()


async def test_a_document_is_put_there_found_and_taken_away(page, tmp_path):
    await page.open("documents")
    chosen = page.tab.get_by_label("Drop files here")
    await chosen.set_input_files({"name": "hours.md", "mimeType": "", "buffer": b"# Open"})
    await page.told("hours.md is there, and is being indexed.")
    assert (page.desk.folder / "hours.md").read_bytes() == b"# Open"
    await chosen.set_input_files({"name": "hours.exe", "mimeType": "", "buffer": b"MZ"})
    await page.told("Files of that format are not indexed")
    await page.button("Remove hours.md").click()
    await page.button("Remove it").click()
    await page.told("hours.md is gone.")
    assert not (page.desk.folder / "hours.md").exists()
    await page.tab.get_by_label("A question to the documents").fill("How long can I return them?")
    await page.button("Search").click()
    await expect(page.part("hit").first).to_contain_text("returned within thirty days")


async def test_a_greeting_is_edited_compared_and_put_back(page, superuser):
    def greeting() -> str:
        row = superuser.execute("SELECT initial_greeting FROM agent_instructions WHERE id = 1")
        return row.fetchone()[0]

    before = greeting()
    await page.open("instructions/1")
    await page.tab.get_by_label("Greeting").fill(f"Good evening! {HOSTILE}")
    await page.tab.get_by_role("tab", name="What changes").click()
    await expect(page.tab.locator("ins")).to_contain_text([HOSTILE])
    await page.button("Save").click()
    await page.told("is changed.")
    assert greeting() == f"Good evening! {HOSTILE}"
    await page.tab.get_by_role("tab", name="History").click()
    await page.part("version").last.get_by_role("button").click()
    await page.button("Put it back").click()
    await page.told("Row 1 is as it was in version 1.")
    assert greeting() == before


async def test_a_setting_is_refused_in_the_servers_words_then_set_then_the_configurations(page):
    await page.open("settings")
    field = page.part("setting").filter(has_text="temperature").first
    await field.get_by_role("textbox").fill("9")
    await field.get_by_role("button", name="Set").click()
    await page.told("system_config: llm.temperature is ignored: it is 9, and must be")
    await field.get_by_role("textbox").fill("0.3")
    await field.get_by_role("button", name="Set").click()
    await page.told("Every new call has the new llm.temperature.")
    await field.get_by_role("button", name="Back to").click()
    await page.told("Every new call has the configuration's llm.temperature.")


async def test_a_provider_is_switched_off_by_the_keyboard(page):
    await page.open("providers")
    switch = page.tab.get_by_role("switch", name="Ask vllm for LLM")
    await expect(switch).to_be_checked()
    await switch.press("Space")
    await page.told("vllm is off.")
    await expect(switch).not_to_be_checked()
    assert page.desk.office.switchboard.is_off(("LLM", "vllm"))


async def test_a_lost_connection_is_shown_until_it_is_there_again(filled, browser):
    async with AsyncExitStack() as exits:
        context = await browser.new_context()
        exits.push_async_callback(context.close)
        visit = Visit(filled, await context.new_page())
        async with filled.served():
            await visit.open("calls")
            await expect(visit.part("link")).to_have_text("Live")
        await expect(visit.part("link")).to_have_text("Connection lost")
        await visit.told("what is shown may be old")
        filled.call("call-1b83", "caller-7f21")
        await exits.enter_async_context(filled.served())
        await expect(visit.part("link")).to_have_text("Live")
        await expect(visit.part("call")).to_contain_text("caller-7f21")


class TestWithAToken:
    @pytest_asyncio.fixture(loop_scope="module")
    async def look(self, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
        monkeypatch.setenv("OPERATOR_TOKEN", TOKEN)
        return "light", 1200

    async def test_nothing_is_shown_before_it_was_given(self, page):
        page.desk.call("call-1b83", "caller-7f21")
        await page.open("calls")
        await page.tab.get_by_label("Token").fill("another")
        await page.tab.keyboard.press("Enter")
        await page.told("The token is wrong.")
        await expect(page.part("call")).to_have_count(0)
        await page.tab.get_by_label("Token").fill(TOKEN)
        await page.tab.keyboard.press("Enter")
        await expect(page.part("call")).to_contain_text("caller-7f21")
        await expect(page.part("link")).to_have_text("Live")
