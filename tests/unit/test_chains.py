"""The chains as LiveKit's session sees them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from livekit import rtc
from livekit.agents import NOT_GIVEN, APIError, llm

from runner.breaker import State
from runner.chains import LLMChain, STTChain, TTSChain
from runner.config import Config, Failover
from runner.failover import Chain, Member
from runner.providers.failure import Failure, Reason
from runner.providers.request import Request
from runner.rag.search import Hit

FOREVER_S = 60.0
HIT = Hit("map.md", 0, None, "It is over there.", 0.9)
DIED = Failure(Reason.CUT, "the answer has no end")
REFUSED = Failure(Reason.UNREACHABLE, "connection refused")


class Desk:
    """Lets everything through and counts the permits."""

    def __init__(self) -> None:
        self.in_flight = 0

    @asynccontextmanager
    async def permit(self):
        self.in_flight += 1
        try:
            yield 0.0
        finally:
            self.in_flight -= 1

    def state(self, _: object) -> State:
        return State.CLOSED

    def report(self, _: object) -> None:
        pass


class ScriptedLLM:
    """Says its words; an exception among them is raised, a tool call made, None waited for."""

    model = "scripted"

    def __init__(self, *script: object, continues: bool = True) -> None:
        self.script = script
        self.continues = continues
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> AsyncGenerator[llm.ChatChunk, None]:
        self.requests.append(request)
        for step in self.script:
            match step:
                case None:
                    await asyncio.Event().wait()
                case Exception():
                    raise step
                case llm.FunctionToolCall():
                    yield llm.ChatChunk(id="1", delta=llm.ChoiceDelta(tool_calls=[step]))
                case str():
                    yield llm.ChatChunk(id="1", delta=llm.ChoiceDelta(content=step))
                case llm.CompletionUsage():
                    yield llm.ChatChunk(id="1", usage=step)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def policy(settings: Config) -> Failover:
    return replace(settings.failover, tries=1, backoff_s=0.001)


def members(*providers: object) -> list[Member]:
    return [
        Member(name, provider, provider.model, FOREVER_S, FOREVER_S)
        for name, provider in zip("abc", providers, strict=False)
    ]


def llm_chain(policy: Failover, *providers: ScriptedLLM) -> LLMChain:
    return LLMChain(Chain("LLM", members(*providers), Desk(), policy))


async def collected(chain: LLMChain) -> llm.CollectedResponse:
    return await chain.chat(chat_ctx=llm.ChatContext.empty()).collect()


async def test_an_answer_goes_on_with_the_words_that_were_handed_on(policy: Failover) -> None:
    first = ScriptedLLM("The sky", " is bl", DIED)
    second = ScriptedLLM(" blue", ".")
    response = await collected(llm_chain(policy, first, second))
    assert response.text == "The sky is blue."
    assert second.requests[0].said == "The sky is"  # " bl" was held: it was not whole
    assert response.extra["service"]["failovers"] == [{"provider": "a", "reason": "cut"}]
    assert response.extra["service"]["provider"] == "b"


async def test_everything_is_ready_when_the_passages_come(policy: Failover) -> None:
    """They are found once, and told of once, however many are asked."""
    found = asyncio.Event()
    searches = []

    async def find() -> list[Hit]:
        searches.append(chain.chain.desk.in_flight)
        await found.wait()
        return [HIT]

    first, second = ScriptedLLM("Over", " there", DIED), ScriptedLLM(" there.")
    chain = llm_chain(policy, first, second)
    question = llm.ChatContext([llm.ChatMessage(role="user", content=["Where?"])])
    answer = asyncio.create_task(chain.answer(question, [], NOT_GIVEN, find).collect())
    async with asyncio.timeout(10):
        while not chain.chain.desk.in_flight:  # noqa: ASYNC110  another task makes it so
            await asyncio.sleep(0)
    assert first.requests == []
    found.set()
    response = await answer
    assert response.text == "Over there."
    assert response.extra["passages"] == [HIT]
    for asked in (first, second):
        [passages, latest] = asked.requests[0].chat_ctx.items
        assert HIT.content in passages.text_content
        assert latest.text_content == "Where?"
    assert len(searches) == 1


@pytest.mark.parametrize("script", [("Over", " there."), (DIED,)], ids=["answered", "died"])
async def test_passages_are_told_of_before_the_words_and_once_also_without_words(
    policy: Failover, script: tuple[str | Exception, ...]
) -> None:
    async def find() -> list[Hit]:
        return [HIT]

    told: list[object] = []
    chain = llm_chain(policy, ScriptedLLM(*script))
    with suppress(APIError):
        async with chain.answer(llm.ChatContext.empty(), [], NOT_GIVEN, find) as stream:
            async for chunk in stream:
                told += [(chunk.delta.extra or {}).get("passages"), chunk.delta.content]
    assert [one for one in told if one][:1] == [[HIT]]
    assert told.count([HIT]) == 1


async def test_one_that_repeats_what_was_said_is_heard_once(policy: Failover) -> None:
    first = ScriptedLLM("The sky is ", "often ", DIED)
    second = ScriptedLLM("The sky is often blue.", continues=False)
    assert (await collected(llm_chain(policy, first, second))).text == "The sky is often blue."
    assert second.requests[0].said == "The sky is often"


async def test_half_a_word_is_no_beginning_to_go_on_from(policy: Failover) -> None:
    second = ScriptedLLM("Hello there.", continues=False)
    response = await collected(llm_chain(policy, ScriptedLLM("Hel", DIED), second))
    assert response.text == "Hello there."
    assert second.requests[0].said == ""


async def test_a_tool_call_that_was_made_is_not_made_again(policy: Failover) -> None:
    call = llm.FunctionToolCall(name="book", arguments="{}", call_id="1")
    second = ScriptedLLM(call)
    response = await collected(llm_chain(policy, ScriptedLLM("Wait", call, DIED), second))
    assert [made.call_id for made in response.tool_calls] == ["1"]
    assert response.text == "Wait"
    assert second.requests == []


async def test_words_before_a_tool_call_are_handed_on_whole(policy: Failover) -> None:
    call = llm.FunctionToolCall(name="book", arguments="{}", call_id="1")
    response = await collected(llm_chain(policy, ScriptedLLM("One", " mo", "ment", call)))
    assert response.text == "One moment"


async def test_the_record_comes_even_when_nobody_answers(policy: Failover) -> None:
    chain = llm_chain(policy, ScriptedLLM(REFUSED), ScriptedLLM(REFUSED))
    stream = chain.chat(chat_ctx=llm.ChatContext.empty())
    service = (await anext(stream)).delta.extra["service"]
    assert (service["provider"], len(service["failovers"])) == (None, 2)
    with pytest.raises(APIError, match="a: connection refused; b: connection refused"):
        await anext(stream)


def usage(prompt: int, completion: int) -> llm.CompletionUsage:
    return llm.CompletionUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=0)


async def test_the_record_has_the_tokens_of_who_ended_the_answer(policy: Failover) -> None:
    dying = ScriptedLLM("The sky", usage(9, 2), DIED)
    counting = llm_chain(policy, dying, ScriptedLLM(" is blue.", usage(12, 3)))
    response = await collected(counting)
    assert response.extra["service"]["tokens"] == {"prompt": 12, "completion": 3}
    silent = llm_chain(policy, dying, ScriptedLLM(" is blue."))
    assert "tokens" not in (await collected(silent)).extra["service"]


async def test_tokens_that_were_not_counted_are_no_tokens(policy: Failover) -> None:
    chain = llm_chain(policy, ScriptedLLM("Blue.", usage(7, 0)))
    assert (await collected(chain)).extra["service"]["tokens"] == {"prompt": 7}


async def test_the_permit_is_free_after_the_answer_and_after_an_interruption(
    policy: Failover,
) -> None:
    chain = llm_chain(policy, ScriptedLLM("one", None))
    async with chain.chat(chat_ctx=llm.ChatContext.empty()) as stream:
        await anext(stream)
        assert chain.chain.desk.in_flight == 1
    assert chain.chain.desk.in_flight == 0
    await collected(llm_chain(policy, ScriptedLLM("done")))
    assert chain.chain.desk.in_flight == 0


class ScriptedSTT:
    model = "ears"

    def __init__(self, outcome: str | Exception) -> None:
        self.outcome = outcome
        self.heard: list[object] = []

    async def transcribe(self, buffer: object, language: str | None) -> str:
        self.heard.append(buffer)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


SECOND_OF_SILENCE = rtc.AudioFrame(bytes(2 * 16000), 16000, 1, 16000)
HEARD_NOTHING = Failure(Reason.EMPTY, "it heard nothing")


def stt_chain(policy: Failover, *outcomes: str | Exception) -> STTChain:
    return STTChain(Chain("STT", members(*map(ScriptedSTT, outcomes)), Desk(), policy), "en")


async def test_the_next_stt_gets_the_same_audio(policy: Failover) -> None:
    chain = stt_chain(policy, REFUSED, "heard")
    event = await chain.recognize(SECOND_OF_SILENCE)
    assert event.alternatives[0].text == "heard"
    first, second = (member.provider for member in chain.chain.members)
    assert first.heard == second.heard == [SECOND_OF_SILENCE]
    assert chain.record.metadata()["provider"] == "b"


async def test_an_empty_transcript_is_asked_of_the_next_and_is_no_failure(
    policy: Failover,
) -> None:
    assert (
        await stt_chain(policy, HEARD_NOTHING, "heard").recognize(SECOND_OF_SILENCE)
    ).alternatives[0].text == "heard"
    silent = stt_chain(policy, HEARD_NOTHING, HEARD_NOTHING)
    silent.on_deaf = lambda: pytest.fail("nobody spoke")
    assert (await silent.recognize(SECOND_OF_SILENCE)).alternatives == []


async def test_when_no_stt_answers_the_call_lives_on_and_says_so(policy: Failover) -> None:
    chain, told = stt_chain(policy, REFUSED, REFUSED), []
    chain.on_deaf = lambda: told.append("deaf")
    assert (await chain.recognize(SECOND_OF_SILENCE)).alternatives == []
    assert told == ["deaf"]


class ScriptedVoice:
    model = "voice"

    def __init__(self, *script: bytes | Exception) -> None:
        self.script = script

    async def pcm(self, text: str) -> AsyncGenerator[bytes, None]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            yield step


TENTH_OF_A_SECOND = bytes(4800)


def tts_chain(policy: Failover, *voices: ScriptedVoice) -> TTSChain:
    return TTSChain(Chain("TTS", members(*voices), Desk(), policy))


async def test_the_next_voice_speaks_the_sentence_when_the_first_fails(policy: Failover) -> None:
    chain = tts_chain(policy, ScriptedVoice(REFUSED), ScriptedVoice(TENTH_OF_A_SECOND * 3))
    frame = await chain.synthesize("A sentence.").collect()
    assert frame.duration == pytest.approx(0.3, abs=0.02)  # the emitter pads its last frame
    assert chain.taken().metadata()["provider"] == "b"


async def test_a_sentence_that_broke_off_is_left_so_and_the_next_is_another_voice_s(
    policy: Failover,
) -> None:
    dying = ScriptedVoice(TENTH_OF_A_SECOND, DIED)
    chain = tts_chain(policy, dying, ScriptedVoice(TENTH_OF_A_SECOND * 3))
    broken = await chain.synthesize("One.").collect()
    whole = await chain.synthesize("Two.").collect()
    assert broken.duration == pytest.approx(0.1, abs=0.02)
    assert whole.duration == pytest.approx(0.3, abs=0.02)
    record = chain.taken().metadata()
    assert record["provider"] == "b"
    assert record["failovers"] == [{"provider": "a", "reason": "cut"}]
    assert chain.taken().metadata()["attempts"] == 0


async def test_when_no_voice_speaks_it_is_an_error(policy: Failover) -> None:
    with pytest.raises(APIError, match="no TTS answered"):
        await tts_chain(policy, ScriptedVoice(REFUSED)).synthesize("One.").collect()
