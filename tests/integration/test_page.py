"""The call page in a real Chromium: against a real LiveKit server, with an agent that is acted."""

import json
import re

import jwt
import pytest
from livekit import api
from playwright.async_api import expect

from tests.integration.acted import (
    ANSWER,
    KEYS,
    TURN,
    Visit,
    Worker,
    joined,
)
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = (
    "<img src=https://evil.example/x onerror=ran=1><script>ran=1</script>"
    "<a href=javascript:ran=1>'; DROP TABLE agent_sessions; --</a>"
)


async def test_the_page_lists_what_stands_in_and_its_policy_stops_nothing_of_it(opened, livekit):
    async with opened(livekit) as page:
        await expect(page.part("standins")).to_contain_text("retrieval instead of vllm, ollama")
        await expect(page.part("call")).to_be_enabled()
        assert page.complaints == []


async def test_a_call_that_the_worker_refuses_is_refused_in_its_words(opened, livekit):
    async with opened(livekit, Worker("All lines are busy. Call again in a minute.")) as page:
        await page.part("call").click()
        await expect(page.part("notice")).to_have_text(
            "All lines are busy. Call again in a minute."
        )
        await expect(page.part("call")).to_be_focused()


async def test_a_call_beyond_the_rate_is_told_when_to_try_again(opened, livekit):
    async with opened(livekit, tokens_per_minute=1) as page:
        await page.call()
        await page.part("hangup").click()
        await page.part("call").click()
        await expect(page.part("notice")).to_contain_text(re.compile(r"Try again in \d+ seconds"))


async def test_a_runner_that_is_gone_is_named_with_what_to_do(opened, livekit):
    async with opened(livekit) as page:
        await page.tab.route("**/api/token", lambda route: route.abort("connectionrefused"))
        await page.part("call").click()
        await expect(page.part("notice")).to_contain_text("Start it again with “make run”")


async def test_a_livekit_server_that_is_not_there_is_named_with_what_to_do(opened):
    async with opened(f"ws://127.0.0.1:{free_port()}") as page:
        await page.call()
        await expect(page.part("notice")).to_contain_text("The LiveKit server cannot be reached")
        await expect(page.part("notice")).to_contain_text("task=doctor")


async def test_a_call_that_no_agent_takes_says_so_until_one_comes_and_when_it_leaves(
    opened, livekit
):
    async with opened(livekit) as page:
        claims = await page.call()
        await expect(page.part("notice")).to_contain_text("No agent has joined")
        async with joined(page, livekit, claims):
            await expect(page.part("notice")).to_be_empty()
        await expect(page.part("notice")).to_contain_text("The agent has left")


async def test_both_sides_are_shown_as_text_with_the_source_of_an_answer(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            for state in ("thinking", "speaking"):
                await agent.be(state)
                await expect(page.part("state")).to_have_text(state.capitalize())
            lines = page.part("transcript").get_by_role("listitem")
            await agent.write("How do I", "first", of=agent.caller, final="false")
            await expect(lines).to_contain_text(["How do I"])
            await agent.write(ANSWER, "second")
            await expect(lines).to_contain_text(["How do I", ANSWER])
            await agent.write("How do I <u>switch</u>?", "first", of=agent.caller)
            await agent.tell(TURN)
            await expect(lines).to_contain_text(["How do I <u>switch</u>?", ANSWER])
            await expect(lines.nth(0)).to_have_attribute("data-role", "user")
            await expect(lines.nth(1)).to_have_attribute("data-role", "assistant")
            await expect(lines.nth(1)).to_contain_text(
                "answered by retrieval in 0.7 s, after vllm (cut)"
            )
            await page.part("sources").locator("summary").click()
            await expect(page.part("sources")).to_contain_text(TURN["sources"][0]["passage"])
        await page.part("hangup").click()
        await expect(page.part("call")).to_be_visible()
        await expect(page.part("transcript")).to_contain_text(ANSWER)
        assert page.complaints == []


async def test_a_call_that_is_ended_at_the_other_side_leaves_its_transcript(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await agent.write("Goodbye!", "first")
            await expect(page.part("transcript")).to_contain_text("Goodbye!")
            async with api.LiveKitAPI(livekit, KEYS.api_key, KEYS.api_secret) as server:
                await server.room.delete_room(api.DeleteRoomRequest(room=agent.room.name))
            await expect(page.part("notice")).to_contain_text("ended at the other side")
            await expect(page.part("transcript")).to_contain_text("Goodbye!")


async def test_an_answer_that_could_not_be_spoken_can_be_read(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await agent.write("Hello!", "greeting")
            await agent.tell(TURN)
            lines = page.part("transcript").get_by_role("listitem")
            await expect(lines).to_contain_text(["Hello!", ANSWER])
            await expect(lines.nth(1).get_by_test_id("sources")).to_be_visible()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "The microphone is blocked"),
        ("NotFoundError", "No microphone was found"),
        ("NotReadableError", "in use by another program"),
    ],
)
async def test_without_a_microphone_the_page_says_why_and_takes_text(
    opened, livekit, error, sentence
):
    refuse = (
        "navigator.mediaDevices.getUserMedia = async () => "
        f"{{ throw new DOMException('', '{error}') }}"
    )
    async with opened(livekit, before=refuse) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            typed = agent.message()
            await expect(page.part("notice")).to_contain_text(sentence)
            await page.part("chat-input").fill("Which models are there?")
            await page.tab.keyboard.press("Enter")
            assert await typed == "Which models are there?"
            await expect(page.part("transcript")).to_contain_text("Which models are there?")


async def test_the_microphone_is_silent_to_the_room_while_muted(opened, livekit):
    async with opened(livekit) as page:
        claims = await page.call()
        async with joined(page, livekit, claims) as agent:
            await expect(page.part("mute")).to_have_text("Mute")
            muted, unmuted = agent.event("track_muted"), agent.event("track_unmuted")
            await page.part("mute").click()
            await muted
            await expect(page.part("mute")).to_have_text("Unmute")
            await page.part("mute").click()
            await unmuted
            await expect(page.part("mute")).to_have_text("Mute")


async def test_a_caller_chooses_a_language_where_there_are_several(opened, livekit):
    async with opened(livekit, languages=["en", "de", "<b>"]) as page:
        await expect(page.part("language")).to_have_value("en")
        options = page.part("language").get_by_role("option")
        await expect(options).to_have_text(["English", "Deutsch", "<b>"])
        await page.part("language").select_option("de")
        assert (await page.call())["attributes"] == {"language": "de"}


async def test_nobody_chooses_a_language_where_there_is_one(opened, livekit):
    async with opened(livekit, languages=["de"]) as page:
        await expect(page.part("language")).to_have_count(0)
        assert (await page.call())["attributes"] == {}


async def test_the_keyboard_does_what_the_mouse_does(opened, livekit):
    async with opened(livekit) as page:
        await page.part("call").focus()
        async with page.tab.expect_response("**/api/token") as answer:
            await page.tab.keyboard.press("Enter")
        token = (await (await answer.value).json())["participant_token"]
        claims = jwt.decode(token, KEYS.api_secret, algorithms=["HS256"])
        async with joined(page, livekit, claims):
            await expect(page.part("state")).to_be_focused()
            await expect(page.part("mute")).to_have_text("Mute")
            await page.tab.keyboard.press("m")
            await expect(page.part("mute")).to_have_text("Unmute")
            await page.tab.keyboard.press("t")
            await page.tab.keyboard.type("them")
            await expect(page.part("chat-input")).to_have_value("them")
            await expect(page.part("mute")).to_have_text("Unmute")


async def test_what_was_said_can_be_taken_along(opened, livekit):
    async with opened(livekit) as page:
        await page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        async with joined(page, livekit, await page.call()) as agent:
            await agent.write("How do I switch?", "first", of=agent.caller)
            await agent.write(ANSWER, "second")
            await agent.tell(TURN)
            await expect(page.part("sources")).to_be_visible()
            await page.part("hangup").click()
        await page.part("copy").click()
        await expect(page.tab.get_by_text("Copied.")).to_be_visible()
        copied = await page.tab.evaluate("navigator.clipboard.readText()")
        assert copied == await downloaded(page, "text")
        assert f"You: How do I switch?\n\nAgent: {ANSWER}\n  [providers.md, Switching]" in copied
        record = json.loads(await downloaded(page, "json"))
        assert [message["role"] for message in record["messages"]] == ["user", "assistant"]
        assert record["messages"][1]["sources"] == TURN["sources"]
        assert (record["turns"], record["median_s"]) == (1, TURN["stages_s"]["e2e"])
        assert (record["providers"], record["sources"]) == (["retrieval"], ["providers.md"])


async def downloaded(page: Visit, name: str) -> str:
    async with page.tab.expect_download() as started:
        await page.part(name).click()
    return (await (await started.value).path()).read_text("utf-8")


async def test_what_others_wrote_does_nothing_on_the_page(opened, livekit):
    reason = f"{HOSTILE} connection refused"
    stand_in = {"for": HOSTILE, "provider": HOSTILE, "instead_of": [HOSTILE], "reason": reason}
    source = {"filename": HOSTILE, "heading": HOSTILE, "quote": HOSTILE, "passage": f"A {HOSTILE}"}
    failed = {"provider": HOSTILE, "reason": HOSTILE}
    turn = TURN | {
        "text": HOSTILE,
        "sources": [source],
        "served_by": {"stt": HOSTILE, "llm": HOSTILE, "tts": HOSTILE},
        "services": {"llm": {"failovers": [failed]}},
    }
    async with opened(livekit, stand_ins=[stand_in]) as page:
        async with joined(page, livekit, await page.call()) as agent:
            await agent.write(HOSTILE, "first", of=agent.caller)
            await page.part("chat-input").fill(HOSTILE)
            await page.tab.keyboard.press("Enter")
            await agent.tell(turn)
            await page.part("sources").locator("summary").click()
            await page.part("service").locator("summary").click()
            lines = page.part("transcript").get_by_role("listitem")
            await expect(lines).to_contain_text([HOSTILE, HOSTILE, HOSTILE])
            await inert(page)
            await page.part("hangup").click()
        await expect(page.part("summary")).to_contain_text(HOSTILE)
        await inert(page)


async def test_the_source_of_an_answer_opens_by_the_keyboard_at_what_was_read(opened, livekit):
    before, after = "Not this. " * 80, " Nor this." * 80
    passages = [before + after, before + ANSWER + after]
    sources = [TURN["sources"][0] | {"passage": passage} for passage in passages]
    async with opened(livekit) as page, joined(page, livekit, await page.call()) as agent:
        await agent.tell(TURN | {"sources": sources})
        await page.part("sources").locator("summary").press("Enter")
        mark = page.part("sources").locator("mark")
        await expect(mark).to_have_text(ANSWER)
        await expect(mark).to_be_in_viewport(ratio=1)
        whole = page.part("sources").locator("blockquote").last
        await expect(whole).to_have_text(passages[1])
        at = await whole.evaluate("passage => passage.scrollTop")
        await whole.press("PageDown")
        await expect(whole).not_to_have_js_property("scrollTop", at)


async def inert(page: Visit) -> None:
    """Nothing of it became an element, was run, or was asked for."""
    assert await page.tab.locator("img, iframe, body script[src*=evil], a[href^=java]").count() == 0
    assert await page.tab.evaluate("window.ran === undefined")
    assert page.complaints == []
