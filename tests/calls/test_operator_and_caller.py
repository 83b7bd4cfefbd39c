"""An operator and callers at once, each with a page in a real Chromium, at one runner."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from fpdf import FPDF
from playwright.async_api import Browser, async_playwright, expect

from tests.calls.conftest import (
    RECORD,
    Runner,
    start_runner,
    transcribe,
    write_recording,
)
from tests.calls.words import word_error_rate
from tests.chromium import CHROMIUM, FLAGS
from tests.integration.acted import PATIENCE_S, Visit

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREETING = "Good morning from the coffee garden."
FACT = "The rowing boats are kept in the red shed."
RULES = "Members wear a life jacket on deck. " * 50  # more than a passage
AGAIN_MS = 200
Open = Callable[[str], Awaitable[Visit]]


@pytest.fixture(scope="module")
def runner(
    new_data_dir: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    """One with a single line, and without documents."""
    running = start_runner(
        new_data_dir(),
        f"rag.docs_dir={tmp_path_factory.mktemp('documents')}",
        "livekit.max_calls=1",
        "livekit.idle_processes=1",
        "agent.greeting=Hello.",
    )
    yield running
    running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(silent: str) -> AsyncIterator[Browser]:
    """Its callers say nothing."""
    async with async_playwright() as browsers:
        running = await browsers.chromium.launch(
            executable_path=CHROMIUM,
            args=[*FLAGS, silent],
        )
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser) -> AsyncIterator[Open]:
    """Opens a page for one more person; who still calls at the end hangs up."""
    visits: list[Visit] = []

    async def opened(url: str) -> Visit:
        context = await browser.new_context()
        visits.append(Visit(await context.new_page()))
        await visits[-1].tab.goto(url)
        return visits[-1]

    yield opened
    for page in visits:
        if await page.part("hangup").is_visible():
            await page.part("hangup").click()
            await expect(page.part("call")).to_be_visible()
        await page.tab.context.close()


@pytest.fixture
def operator(runner: Runner, visit: Open) -> Open:
    """Opens a section of the operator's page."""
    return lambda section: visit(f"http://127.0.0.1:{runner.operator_port}/#{section}")


@pytest.fixture
def caller(runner: Runner, visit: Open) -> Callable[[], Awaitable[Visit]]:
    """Opens the call page."""
    return partial(visit, runner.url)


async def dial(page: Visit) -> bool:
    """Presses Call; whether a line was free."""
    async with page.tab.expect_response("**/api/token") as answer:
        await page.part("call").click()
    return (await answer.value).ok


async def call(page: Visit) -> None:
    """Presses Call until a line is free, and hears the greeting out."""
    async with asyncio.timeout(PATIENCE_S):
        while not await dial(page):
            await page.tab.wait_for_timeout(AGAIN_MS)  # the call before is still being ended
    await expect(page.tab.locator("[data-role=assistant]")).to_have_count(1)
    await expect(page.part("state")).to_have_attribute("data-state", "listening")


async def test_the_next_caller_hears_the_new_greeting_and_is_cited_the_new_pdf_with_its_page(
    runner, operator, caller, tmp_path
):
    library = await operator("documents")
    handbook = two_pages(tmp_path / "handbook.pdf")
    await library.tab.get_by_label("Drop files here").set_input_files(handbook)
    await edit_greeting(operator)
    page = await caller()
    await page.tab.evaluate(RECORD)
    await call(page)
    heard = await transcribed(runner, page, tmp_path / "heard.wav")
    assert word_error_rate(GREETING, heard) <= 0.2, heard
    await expect(library.part("document")).to_contain_text("chunks")
    await page.part("chat-input").fill("Where are the rowing boats kept?")
    await page.part("chat-input").press("Enter")
    source = page.part("sources")
    await source.locator("summary").click()
    await expect(source.locator("figcaption")).to_have_text("handbook.pdfpage 2")
    await expect(source.locator("mark")).to_contain_text(FACT)


async def edit_greeting(operator: Open) -> None:
    desk = await operator("instructions/1")
    await desk.tab.get_by_label("Greeting").fill(GREETING)
    await desk.tab.get_by_role("button", name="Save").click()
    await expect(desk.tab.get_by_text("is changed.")).to_be_visible()


async def transcribed(runner: Runner, page: Visit, path: Path) -> str:
    """What the caller has received."""
    write_recording(path, *await page.tab.evaluate("[recorded(), rate]"))
    return await asyncio.to_thread(transcribe, runner, path)


def two_pages(path: Path) -> Path:
    """A PDF that says where the boats are in the midst of its second page."""
    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    for text in (RULES, f"{RULES}{FACT} {RULES}"):
        pdf.add_page()
        pdf.multi_cell(0, 5, text)
    pdf.output(str(path))
    return path


async def test_who_finds_the_line_busy_is_told_so_and_gets_it_after_the_other_has_hung_up(caller):
    first, second = await caller(), await caller()
    await call(first)
    assert not await dial(second)
    await expect(second.part("notice")).to_contain_text("lines are busy")
    await expect(second.part("notice")).to_contain_text("Try again when a call has ended")
    await first.part("hangup").click()
    await call(second)


async def test_a_call_that_the_operator_ends_is_over_for_the_caller(runner, operator, caller):
    page = await caller()
    await call(page)
    desk = await operator("calls")
    await desk.part("call").get_by_role("button").click()
    await desk.tab.get_by_role("button", name="End the call").last.click()
    await expect(page.part("notice")).to_have_text("The call was ended at the other side.")
    await expect(page.part("summary")).to_be_visible()
    await expect(desk.tab.get_by_text("The call is ended.")).to_be_visible()
    latest = "SELECT status FROM agent_sessions ORDER BY id DESC LIMIT 1"
    assert runner.query(latest) == [{"status": "ended"}]
    await expect(desk.tab.get_by_text("Nobody is calling.")).to_be_visible()
