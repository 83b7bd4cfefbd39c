"""What is always said in the same words is heard though every voice is dead."""

import numpy as np
import pytest

from runner.config import Fault
from tests.faults.talk import Talk, talk

VOICES = ("speaches_gpu", "speaches_cpu")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"deployment.data_dir={tmp_path_factory.mktemp('data')}"


async def say(call: Talk, text: str) -> np.ndarray:
    """What is heard of a sentence that is said."""
    call.ear.heard.clear()
    await call.session.say(text)
    return np.concatenate(call.ear.heard)


async def kill(call: Talk, *servers: str) -> None:
    for server in servers:
        await call.fail(server, Fault("refuse"))


async def test_a_greeting_is_asked_of_a_voice_once(folder: str) -> None:
    async with talk(folder, keeps=True) as call:
        greeting = call.config.agent.greeting
        first = await say(call, greeting)
        asked = call.spoken()
        assert asked == greeting  # cut as it is kept, and each piece once
        async with talk(beside=call, keeps=True) as other:
            again = await say(other, greeting)
            assert other.session.tts.chain.taken().speaker == "kept"
        assert call.spoken() == asked
        np.testing.assert_array_equal(again, first)


async def test_the_apology_is_heard_when_no_llm_and_no_voice_answers(folder: str) -> None:
    async with talk(folder, keeps=True) as call:
        apology = call.config.agent.apology
        usual = await say(call, apology)
        before = call.metrics.page()
        await kill(call, "vllm", "ollama", "openrouter", *VOICES)
        async with talk(beside=call, keeps=True) as other:
            assert await other.ask() == apology
            np.testing.assert_array_equal(np.concatenate(other.ear.heard), usual)
            record = other.session.tts.chain.taken()
            assert (record.speaker, record.failed) == ("kept", [])
        assert tts_counts(call.metrics.page()) == tts_counts(before)


async def test_an_answer_that_nobody_can_speak_is_apologised_for(folder: str) -> None:
    async with talk(folder, keeps=True) as call:
        apology = call.config.agent.apology
        usual = await say(call, apology)
        await kill(call, *VOICES)
        async with talk(beside=call, keeps=True) as other:
            assert await other.ask() == ""
            assert await other.until("assistant") == apology
            np.testing.assert_array_equal(np.concatenate(other.ear.heard), usual)
            await other.fail(VOICES[0])
            assert (await other.ask()).startswith("It opens")


async def test_an_apology_that_is_not_kept_is_not_said_again_and_again(folder: str) -> None:
    async with talk(folder, keeps=True) as call:
        await kill(call, *VOICES)
        states = []
        call.session.on("agent_state_changed", lambda event: states.append(event.new_state))
        assert await call.ask() == ""
        await call.session.say("An end.")  # after what is said before
        assert states.count("thinking") == 1
        assert call.ear.heard == []


def tts_counts(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if 'capability="TTS"' in line]
