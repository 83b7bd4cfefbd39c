"""Each provider's YAML against the simulated server of its kind: what it answers when it is well,
and the sentences that doctor and the log have for it when it is not."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from livekit import rtc
from livekit.agents import APIError, llm

from runner import build, measure, probes
from runner.chains import LLMChain
from runner.config import Config, Fault, OpenAILLM, SimulatedServer, Simulation
from runner.metrics import Metrics
from runner.simulator.answers import Message, size, tokens
from runner.simulator.server import Simulator
from tests.composed import composed

LLMS = {"vllm": "openai", "ollama": "ollama", "openrouter": "openrouter", "google": "google"}
KEY = "sk-simulated"
QUESTION, ANSWER = "When does it open?", "It opens at nine."


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENROUTER_API_KEY", "GOOGLE_API_KEY", "SPEACHES_API_KEY"):
        monkeypatch.setenv(variable, KEY)


@asynccontextmanager
async def llm_at_its_server(
    name: str, *faults: Fault, models: list[str] | None = None
) -> AsyncIterator[tuple[Config, LLMChain]]:
    """The provider of ``conf/llm/<name>.yaml`` alone, at a simulated server of its kind."""
    settings = composed(f"llm={name}", "failover.order=[]", "stand_in.llm=null", "failover.tries=1")
    server = SimulatedServer(
        LLMS[name],  # type: ignore[arg-type]
        port=0,
        models=models or [settings.llm.model],
        first_s=0,
        per_token_s=0,
        answers=[ANSWER],
        faults=list(faults),
    )
    async with Simulator(Simulation(0, {name: server})) as simulator:
        tail = "/v1" if isinstance(settings.llm, OpenAILLM) else ""
        own = replace(settings.llm, base_url=f"{simulator.url(name)}{tail}")
        settings = replace(settings, llm=own)
        http = aiohttp.ClientSession()
        async with http, build.switchboard(settings, http, Metrics()) as desk:
            yield settings, build.llm_chain(settings, desk, http, nothing, nothing)


async def nothing(_: object) -> list[object]:
    return []


async def answer(chain: LLMChain) -> str:
    context = llm.ChatContext.empty()
    context.add_message(role="user", content=QUESTION)
    return (await chain.chat(chat_ctx=context).collect()).text


@pytest.mark.parametrize("name", LLMS)
async def test_an_llm_that_is_well_answers_and_doctor_finds_nothing(name: str) -> None:
    async with llm_at_its_server(name) as (settings, chain):
        assert await answer(chain) == ANSWER
        assert chain.chain.latest.metadata()["tokens"] == {
            "prompt": size([Message("user", QUESTION)]),
            "completion": len(tokens(ANSWER)),
        }
        [finding] = await probes.probe_llms(settings, timeout_s=5)
        assert finding.trouble is None


UNREACHABLE = (Fault("refuse"),)
WRONG_KEY = (Fault("status", status=401),)
BROKEN = (Fault("status", status=500),)


@pytest.mark.parametrize("name", LLMS)
@pytest.mark.parametrize(
    ("faults", "words"),
    [
        pytest.param(UNREACHABLE, "connection refused", id="unreachable"),
        pytest.param(WRONG_KEY, "key", id="401"),
        pytest.param(BROKEN, "it failed (HTTP 500", id="500"),
    ],
)
async def test_doctor_and_the_log_say_the_same(
    name: str, faults: tuple[Fault, ...], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with llm_at_its_server(name, *faults) as (settings, chain):
        with pytest.raises(APIError):
            await answer(chain)
        [finding] = await probes.probe_llms(settings, timeout_s=5)
        logged = next(r.message for r in caplog.records if r.message.startswith(f"LLM: {name} at"))
        for sentence in (logged, finding.sentence):
            assert words in sentence
        if faults is WRONG_KEY and name in ("openrouter", "google"):
            assert settings.llm.api_key_env in logged
            assert KEY not in caplog.text


@pytest.mark.parametrize("name", LLMS)
async def test_a_model_that_it_does_not_have_is_named(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with llm_at_its_server(name, models=["another"]) as (settings, chain):
        with pytest.raises(APIError):
            await answer(chain)
        [finding] = await probes.probe_llms(settings, timeout_s=5)
        for sentence in (caplog.text, finding.sentence):
            assert f"it has no model {settings.llm.model}" in sentence


@pytest.mark.parametrize("name", LLMS)
async def test_an_empty_answer_has_its_sentence(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with llm_at_its_server(name, Fault("empty")) as (settings, chain):
        with pytest.raises(APIError):
            await answer(chain)
        assert "without a word" in caplog.text
        with pytest.raises(APIError, match="without a word"):  # what doctor prints
            await measure.first_word(settings)


SPEECH = ["speaches", "embedded"]
SILENCE = rtc.AudioFrame(bytes(2 * 16000), 16000, 1, 16000)


@asynccontextmanager
async def speech_at_its_server(
    name: str, *faults: Fault, models: Callable[[Config], list[str]] | None = None
) -> AsyncIterator[tuple[Config, build.STTChain, build.TTSChain]]:
    """STT and TTS of ``conf/stt_tts/<name>.yaml`` at one simulated server."""
    settings = composed(f"stt_tts={name}", "stand_in.speech=null", "failover.tries=1")
    listed = (
        models(settings) if models else [settings.stt_tts.stt.model, settings.stt_tts.tts.model]
    )
    server = SimulatedServer("openai", 0, listed, first_s=0, faults=list(faults))
    async with Simulator(Simulation(0, {name: server})) as simulator:
        address = {name: f"{simulator.url(name)}/v1"}
        port = int(simulator.url(name).rsplit(":", 1)[1])
        settings = replace(
            settings,
            gpu=replace(settings.gpu, stt=address, tts=address),
            models=replace(settings.models, port=port),
        )
        http = aiohttp.ClientSession()
        async with http, build.switchboard(settings, http, Metrics()) as desk:
            stt = build.stt_chain(settings, desk, http)
            yield settings, stt, build.tts_chain(settings, desk, http)


@pytest.mark.parametrize("name", SPEECH)
async def test_speech_that_is_well_hears_and_speaks(name: str) -> None:
    async with speech_at_its_server(name) as (settings, stt, tts):
        assert (await stt.recognize(SILENCE)).alternatives[0].text
        assert (await tts.synthesize("It opens at nine.").collect()).duration > 1
        heard, spoken = await probes.probe_speech(settings, timeout_s=5)
        assert [finding.trouble for finding in (*heard, *spoken)] == [None, None]


@pytest.mark.parametrize("name", SPEECH)
@pytest.mark.parametrize(
    ("faults", "models", "words"),
    [
        pytest.param(UNREACHABLE, None, "connection refused", id="unreachable"),
        pytest.param(WRONG_KEY, None, "key", id="401"),
        pytest.param((), lambda _: ["another"], "it has no model", id="unknown-model"),
    ],
)
async def test_doctor_and_the_log_say_the_same_of_speech(
    name: str,
    faults: tuple[Fault, ...],
    models: Callable[[Config], list[str]] | None,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with speech_at_its_server(name, *faults, models=models) as (settings, stt, tts):
        await stt.recognize(SILENCE)
        with pytest.raises(APIError):
            await tts.synthesize("It opens at nine.").collect()
        for capability in ("STT", "TTS"):
            assert any(
                record.message.startswith(f"{capability}: {name} at") and words in record.message
                for record in caplog.records
            )
        heard, spoken = await probes.probe_speech(settings, timeout_s=5)
        assert all(words in finding.sentence for finding in (*heard, *spoken))


@pytest.mark.parametrize("name", SPEECH)
async def test_a_voice_without_a_sound_has_its_sentence(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with speech_at_its_server(name, Fault("empty")) as (_, _, tts):
        with pytest.raises(APIError):
            await tts.synthesize("It opens at nine.").collect()
        assert "its answer holds no audio" in caplog.text
