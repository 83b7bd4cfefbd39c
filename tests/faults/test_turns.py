"""Callers who interrupt, and callers who do not stop: a real AgentSession hears a real voice."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.faults.talk import QUESTION, Talk, talk

Samples = np.ndarray[Any, Any]
SLOW_LLM = "++simulate.servers.vllm.per_token_s=0.5"
SLOW_SPEECH = "++simulate.servers.speaches_gpu.first_s=1.5"
ROOMY = "stt_tts.stt.timeout_s=10", "stt_tts.tts.first_audio_s=10"
RATE_HZ = 16_000
LONGEST_S = 5


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  another task makes it so
            await asyncio.sleep(0.005)


def in_flight(call: Talk, server: str) -> int:
    return call.simulator.states[server].journal.in_flight


@pytest.mark.parametrize(
    ("slow", "begun"),
    [
        pytest.param(SLOW_LLM, lambda call: call.switchboard.in_flight == 1, id="llm"),
        pytest.param(SLOW_SPEECH, lambda call: in_flight(call, "speaches_gpu") == 1, id="tts"),
        pytest.param("rag=off", lambda call: call.ear.first_at is not None, id="playback"),
    ],
)
async def test_30_who_speaks_is_not_spoken_over_and_no_permit_is_kept(
    slow: str, begun: Callable[[Talk], bool], voice: Samples
) -> None:
    async with talk(slow, *ROOMY, pace=1, hears=True) as call:
        handle = call.session.generate_reply(user_input=QUESTION)
        await until(lambda: begun(call))
        call.mic.say(np.tile(voice, 2))
        await until(lambda: handle.interrupted)
        heard, then = len(call.ear.heard), list[int]()
        call.session.on("conversation_item_added", lambda _: then.append(len(call.ear.heard)))
        await until(lambda: call.switchboard.in_flight == in_flight(call, "vllm") == 0)
        assert len(call.messages) <= 2  # the next turn has not begun
        await call.until("user", 2)
        assert set(then) == {heard}  # until then; the answer to it may begin at once


async def test_30_what_is_said_while_the_first_words_are_written_down_is_heard(
    voice: Samples,
) -> None:
    async with talk(SLOW_SPEECH, *ROOMY, hears=True) as call:
        call.mic.say(voice)
        await until(lambda: in_flight(call, "speaches_gpu") == 1)
        call.mic.say(voice)
        await until(lambda: words_of_the_caller(call).count("library") == 2)
        await call.until("assistant")
        await until(lambda: call.switchboard.in_flight == in_flight(call, "vllm") == 0)


def words_of_the_caller(call: Talk) -> str:
    return " ".join(
        message.text_content or "" for message in call.messages if message.role == "user"
    )


async def test_31_a_monologue_is_answered_and_no_more_of_it_is_kept(voice: Samples) -> None:
    spoken = voice[np.abs(voice) > 0]  # no pause in it
    monologue = np.tile(spoken, 1 + 4 * LONGEST_S * RATE_HZ // len(spoken))
    async with talk(f"turn.max_turn_s={LONGEST_S}", hears=True) as call:
        call.mic.say(monologue)
        assert await call.until("assistant")
        assert call.mic.speaks
        [sound] = [e for e in call.requests("speaches_gpu") if e.path.endswith("/transcriptions")]
        size = int(sound.asked[0].split()[-2])
        assert size == pytest.approx(2 * RATE_HZ * LONGEST_S, rel=0.05)
