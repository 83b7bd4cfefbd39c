"""A real call in headless Chromium, with a WAV file as its microphone."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.calls.conftest import RECORD, Runner, write_recording
from tests.calls.words import word_error_rate, words
from tests.chromium import CHROMIUM, FLAGS

QUESTION = "How do I change the greeting?"
SILENCE_S = 9.0  # the file starts with the microphone; the agent joins and greets first
PATIENCE_MS = 60_000


@dataclass
class Call:
    """What was on the page when the answer was there, and what came out of the speaker."""

    lines: list[tuple[str, str]]
    sources: str
    stand_ins: str
    complaints: list[str]
    heard: str


@pytest.fixture(scope="module")
def call(
    runner: Runner,
    say: Callable[..., Path],
    hear: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Call:
    """One call by voice from the first click to hanging up."""
    microphone = say(QUESTION, silence_s=SILENCE_S)
    recording = tmp_path_factory.mktemp("browser") / "heard.wav"
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}%noloop"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else 0)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(runner.url)
        expect(page.get_by_test_id("standins")).to_contain_text("instead of", timeout=PATIENCE_MS)
        stand_ins = page.get_by_test_id("standins").inner_text()
        page.evaluate(RECORD)
        page.get_by_test_id("call").click()
        expect(page.get_by_test_id("sources").last).to_be_visible(timeout=PATIENCE_MS)
        lines = _lines(page)
        page.get_by_test_id("sources").last.locator("summary").click()
        expect(page.get_by_test_id("sources").last).to_have_attribute("open", "")
        sources = page.get_by_test_id("sources").last.inner_text()
        expect(page.get_by_test_id("state")).to_have_attribute(
            "data-state", "listening", timeout=PATIENCE_MS
        )
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "call.png")
        received = page.evaluate("recorded()"), page.evaluate("rate")
        page.get_by_test_id("hangup").click()
        browser.close()
    write_recording(recording, *received)
    return Call(lines, sources, stand_ins, complaints, hear(recording))


def _lines(page: Page) -> list[tuple[str, str]]:
    found = page.locator("[data-testid=transcript] [data-role]")
    return [(line.get_attribute("data-role") or "", line.inner_text()) for line in found.all()]


def test_the_page_shows_what_was_said_on_both_sides(call: Call) -> None:
    asked = [text for role, text in call.lines if role == "user"]
    answered = [text for role, text in call.lines if role == "assistant"]
    assert word_error_rate(QUESTION, " ".join(asked)) <= 0.34
    assert len(answered) == 2
    assert "greeting" in answered[-1].lower()


def test_the_answer_is_heard(call: Call) -> None:
    assert "voice assistant" in call.heard.lower()
    assert {"greeting", "update"} <= set(words(call.heard))


def test_the_source_of_the_answer_can_be_opened(call: Call) -> None:
    assert "faq.md" in call.sources


def test_the_page_says_what_stands_in_and_why(call: Call) -> None:
    assert "retrieval" in call.stand_ins
    assert "http://localhost:8000/v1: connection refused" in call.stand_ins


def test_the_browser_has_nothing_to_complain_about(call: Call) -> None:
    assert call.complaints == []


def test_the_call_is_stored_and_ended(call: Call, runner: Runner) -> None:
    assert call.lines
    row = runner.query(
        "SELECT s.status, count(m.*) AS messages FROM agent_sessions s "
        "JOIN conversation_messages m USING (session_id) GROUP BY s.id ORDER BY s.id DESC LIMIT 1"
    )[0]
    assert row["messages"] >= 3
