"""Chains: the first that answers serves, and what was heard stands."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIStatusError, llm, stt
from livekit.agents.types import APIConnectOptions

from runner.failover import LLMChain, Member, STTChain, TTSChain
from runner.limits import Permits

FOREVER_S = 60.0


class ScriptedLLM(llm.LLM):
    """Says its words; an exception among them is raised, a number is waited for in seconds, None
    for ever."""

    def __init__(self, *script: str | float | Exception | None) -> None:
        super().__init__()
        self.script = script
        self.asked = 0

    def chat(self, *, chat_ctx, tools=None, conn_options, **_):
        self.asked += 1
        return _ScriptedStream(self, chat_ctx=chat_ctx, tools=[], conn_options=conn_options)


class _ScriptedStream(llm.LLMStream):
    async def _run(self) -> None:
        for step in self._llm.script:
            if step is None:
                await asyncio.sleep(FOREVER_S)
            elif isinstance(step, Exception):
                raise step
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                delta = llm.ChoiceDelta(role="assistant", content=step)
                self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=delta))


def chain_of(*scripts: Sequence[str | Exception | None], deadline_s: float = FOREVER_S) -> LLMChain:
    members = [
        Member(f"llm{at}", ScriptedLLM(*script), deadline_s) for at, script in enumerate(scripts)
    ]
    return LLMChain(members, Permits(Path(tempfile.mkdtemp()), 1))


async def answer(chain: LLMChain) -> str:
    async with chain.chat(chat_ctx=llm.ChatContext.empty()) as stream:
        return "".join([chunk.delta.content async for chunk in stream if chunk.delta])


REFUSED = APIConnectionError("connection refused")
UNAUTHORIZED = APIStatusError("wrong key", status_code=401)


async def test_the_first_llm_serves_and_the_second_is_not_asked() -> None:
    chain = chain_of(["hello ", "you"], ["never"])
    assert await answer(chain) == "hello you"
    assert chain.chain.served_by == "llm0"
    assert chain.chain.members[1].provider.asked == 0


@pytest.mark.parametrize("failure", [REFUSED, UNAUTHORIZED], ids=["refused", "401"])
async def test_an_llm_that_fails_is_asked_once_and_the_next_serves(failure: Exception) -> None:
    chain = chain_of([failure], ["second"])
    assert await answer(chain) == "second"
    assert chain.chain.served_by == "llm1"
    assert chain.chain.members[0].provider.asked == 1


async def test_an_llm_without_a_word_by_its_deadline_is_left() -> None:
    assert await answer(chain_of([None], ["second"], deadline_s=0.02)) == "second"


async def test_the_deadline_ends_with_the_first_word() -> None:
    slow = chain_of(["first ", 0.1, "second"], ["never"], deadline_s=0.05)
    assert await answer(slow) == "first second"


async def test_an_empty_answer_counts_as_a_failure() -> None:
    assert await answer(chain_of([], ["second"])) == "second"


async def test_what_was_said_stands_when_the_llm_dies_after_it() -> None:
    chain = chain_of(["half a ", REFUSED], ["another answer"])
    said = chain.chat(chat_ctx=llm.ChatContext.empty())
    assert (await anext(said)).delta.content == "half a "
    with pytest.raises(APIConnectionError):
        await anext(said)
    assert chain.chain.members[1].provider.asked == 0


async def test_when_nobody_answers_every_reason_is_told() -> None:
    with pytest.raises(
        APIConnectionError, match=r"no LLM answered .*llm0: connection refused.*llm1"
    ):
        await answer(chain_of([REFUSED], [UNAUTHORIZED]))


class ScriptedSTT(stt.STT):
    def __init__(self, outcome: str | Exception | None) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.outcome = outcome
        self.heard: list[object] = []

    async def _recognize_impl(self, buffer, *, language, conn_options) -> stt.SpeechEvent:
        self.heard.append(buffer)
        if self.outcome is None:
            await asyncio.sleep(FOREVER_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        data = stt.SpeechData(language="en", text=self.outcome)
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[data])


SECOND_OF_SILENCE = rtc.AudioFrame(bytes(2 * 16000), 16000, 1, 16000)


@pytest.mark.parametrize("failure", [REFUSED, None], ids=["refused", "silent"])
async def test_the_next_stt_gets_the_same_audio(failure: Exception | None) -> None:
    first, second = ScriptedSTT(failure), ScriptedSTT("heard")
    chain = STTChain([Member("a", first, 0.02), Member("b", second, FOREVER_S)])
    event = await chain.recognize(SECOND_OF_SILENCE, conn_options=APIConnectOptions(max_retry=0))
    assert event.alternatives[0].text == "heard"
    assert second.heard == first.heard == [SECOND_OF_SILENCE]
    assert chain.chain.served_by == "b"


class ScriptedVoice:
    model = "voice"

    def __init__(self, *script: bytes | Exception) -> None:
        self.script = script

    async def pcm(self, text: str) -> AsyncIterator[bytes]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            yield step


TENTH_OF_A_SECOND = bytes(4800)


async def test_the_next_voice_speaks_the_sentence_when_the_first_fails() -> None:
    chain = TTSChain(
        [
            Member("a", ScriptedVoice(REFUSED), FOREVER_S),
            Member("b", ScriptedVoice(TENTH_OF_A_SECOND * 3), FOREVER_S),
        ]
    )
    frame = await chain.synthesize("A sentence.").collect()
    assert frame.duration == pytest.approx(0.3, abs=0.02)  # the emitter pads its last frame
    assert chain.chain.served_by == "b"


async def test_a_sentence_that_broke_off_is_not_spoken_twice() -> None:
    chain = TTSChain(
        [
            Member("a", ScriptedVoice(TENTH_OF_A_SECOND, REFUSED), FOREVER_S),
            Member("b", ScriptedVoice(TENTH_OF_A_SECOND), FOREVER_S),
        ]
    )
    with pytest.raises(APIConnectionError):
        await chain.synthesize("A sentence.").collect()
    assert chain.chain.served_by is None
