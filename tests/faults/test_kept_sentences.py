"""What is always said in the same words is heard though every voice is dead."""

import aiohttp
import numpy as np
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import Fault
from runner.store import Store
from runner.studio import Studio
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
            assert await other.ask() == apology
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


async def test_the_runner_has_them_spoken_ahead_by_who_is_there(
    folder: str, engine: AsyncEngine, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        "INSERT INTO agent_instructions "
        "(name, instructions, initial_greeting, language, is_local_mode) "
        "VALUES ('bibliotecario', 'Sé breve.', 'Hola, dígame qué desea.', 'es', true)"
    )
    async with talk(folder, keeps=True) as call, aiohttp.ClientSession() as http:
        studio = Studio(call.config, Store(engine), http, call.switchboard.state)
        first, second = VOICES
        await kill(call, first)
        assert not await studio.session()
        assert sorted(texts(call, second)) == sorted(set(texts(call, second)))
        assert {"Hola, dígame qué desea.", "Hello!"} <= set(texts(call, second))
        await call.fail(first)
        assert await studio.session()
        assert sorted(texts(call, first)) == sorted(texts(call, second))
        assert await studio.session()
        assert sorted(texts(call, first)) == sorted(texts(call, second))  # nobody is asked twice
        assert tts_counts(call.metrics.page()) == []
        await kill(call, *VOICES)
        assert len(await say(call, call.config.agent.back)) > 0


def texts(call: Talk, server: str) -> list[str]:
    return [entry.asked[0] for entry in call.requests(server)]


def tts_counts(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if 'capability="TTS"' in line]
