"""A caller at the page who was cut off goes on with the same call."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.calls.conftest import Runner
from tests.chromium import CHROMIUM, FLAGS
from tests.faults.test_rescue import ANSWER, BACK, GREETING, jobs, livekit_server, simulated

PATIENCE_MS = 60_000
NOTE_STATES = """() => {
    const { body } = document;
    const note = (changes) => changes.forEach(({ target }) => {
        body.dataset.states = `${body.dataset.states} ${target.dataset.state}`;
    });
    new MutationObserver(note).observe(body, { subtree: true, attributeFilter: ["data-state"] });
}"""


@pytest.fixture(scope="module")
def runner(new_data_dir: Callable[[], Path]) -> Iterator[Runner]:
    running = simulated(new_data_dir)
    yield running
    running.stop()


@pytest.fixture
def page(runner: Runner, silent: str) -> Iterator[Page]:
    """The page of a caller who has been greeted, and has asked once."""
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, silent])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(runner.url)
        page.get_by_test_id("call").click()
        says(page, GREETING)
        ask(page, "Does the first question count?")
        yield page
        browser.close()


def says(page: Page, text: str, times: int = 1) -> None:
    """Waits until the page shows that the agent said that so often, and listens."""
    spoken = page.locator("[data-testid=transcript] [data-role=assistant]", has_text=text)
    expect(spoken).to_have_count(times, timeout=PATIENCE_MS)
    listening = page.get_by_test_id("state")
    expect(listening).to_have_attribute("data-state", "listening", timeout=PATIENCE_MS)


def ask(page: Page, text: str, answers: int = 1) -> None:
    page.get_by_test_id("chat-input").fill(text)
    page.get_by_test_id("chat-input").press("Enter")
    says(page, ANSWER, answers)


def said(runner: Runner) -> list[str]:
    """What is stored of the latest session."""
    rows = runner.query(
        "SELECT content FROM conversation_messages WHERE session_id = "
        "(SELECT session_id FROM agent_sessions ORDER BY id DESC LIMIT 1) ORDER BY created_at, id"
    )
    return [str(row["content"]) for row in rows]


def test_after_a_reload(page: Page, runner: Runner) -> None:
    page.reload()
    page.get_by_test_id("resume").click()
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "listening")
    ask(page, "And the second one?")
    question, second = "Does the first question count?", "And the second one?"
    assert said(runner) == [GREETING, question, ANSWER, second, ANSWER]
    page.get_by_test_id("hangup").click()
    page.reload()
    expect(page.get_by_test_id("resume")).to_have_count(0)


def test_after_its_agent_died(page: Page, runner: Runner) -> None:
    [job] = jobs(runner)
    job.kill()
    says(page, BACK)
    ask(page, "And the second one?", answers=2)
    assert said(runner)[-3:] == [BACK, "And the second one?", ANSWER]


def test_after_the_livekit_server_died(page: Page, runner: Runner) -> None:
    page.evaluate(NOTE_STATES)  # a server that is back at once is missed for a moment only
    livekit_server(runner).kill()
    states, reconnecting = page.locator("body"), re.compile("reconnecting")
    expect(states).to_have_attribute("data-states", reconnecting, timeout=PATIENCE_MS)
    state = page.get_by_test_id("state")
    expect(state).to_have_attribute("data-state", "listening", timeout=PATIENCE_MS)
    while said(runner)[-1] != ANSWER or said(runner).count(ANSWER) < 2:
        page.get_by_test_id("chat-input").fill("And the second one?")  # may come before the agent
        page.get_by_test_id("chat-input").press("Enter")
        page.wait_for_timeout(3000)
    assert GREETING not in said(runner)[1:]


def test_and_calls_anew_in_a_language_that_has_become_active_meanwhile(
    page: Page, runner: Runner
) -> None:
    page.get_by_test_id("hangup").click()
    expect(page.get_by_test_id("summary")).to_contain_text("vllm")
    expect(page.get_by_test_id("language")).to_have_count(0)
    runner.query(
        "INSERT INTO agent_instructions "
        "(name, instructions, initial_greeting, language, is_active, is_local_mode) "
        "VALUES ('German', 'Answer in German.', 'Guten Tag.', 'de', true, true) RETURNING id"
    )
    page.locator("summary", has_text="Microphone and language").click()
    page.get_by_test_id("language").select_option(label="Deutsch")
    page.get_by_test_id("call").click()
    says(page, "Guten Tag.")
