"""A streamed answer: its events, its words without thoughts, its tool calls, its end."""

import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from livekit.agents import llm

from runner.providers.completion import Completion
from runner.providers.events import Event, events
from runner.providers.failure import Failure, Reason
from runner.providers.refusals import Asked, of_error
from runner.providers.thoughts import Thoughts
from runner.providers.toolcalls import ToolCalls

ASKED = Asked("llama", "SOME_KEY", "", ())
HI = '{"choices":[{"delta":{"content":"Hi"}}]}'


async def read(*pieces: bytes) -> list[Event]:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [event async for event in events(body())]


@pytest.mark.parametrize(
    "body",
    [
        b"data: one\n\ndata: two\n\n",
        b"data:one\n\ndata:two\n\n",
        b"data: one\r\n\r\ndata: two\r\n\r\n",
        b"data: one\r\rdata: two\r\r",
        b"\xef\xbb\xbfdata: one\n\ndata: two\n\n",
        b": keep-alive\n\ndata: one\n\n:\n\n: more\ndata: two\n\n",
        b"id: 7\nretry: 10\ndata: one\n\nunheard: of\ndata: two\n\ndata: cut short",
    ],
)
async def test_an_event_is_the_same_in_every_spelling_and_however_it_is_cut(body: bytes) -> None:
    wanted = [Event("", "one"), Event("", "two")]
    assert await read(body) == wanted
    assert await read(*(bytes([byte]) for byte in body)) == wanted


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_lines_of_one_event_are_joined(end: bytes) -> None:
    body = end.join([b"event: news", b"data: one", b"data: two", b"", b""])
    assert await read(body) == [Event("news", "one\ntwo")]
    assert await read(*(bytes([byte]) for byte in body)) == [Event("news", "one\ntwo")]


async def test_an_error_line_of_llama_cpp_is_an_event() -> None:
    assert await read(b'error: {"code":500}\n\n') == [Event("error", '{"code":500}')]


@pytest.mark.parametrize(
    "body", [b'{"error":\n"no"}', b' \n{"error":\n"no"}\n', b'[{"error":\n1}]']
)
async def test_a_body_of_json_is_one_event(body: bytes) -> None:
    for pieces in ([body], [bytes([byte]) for byte in body]):
        [event] = await read(*pieces)
        assert json.loads(event.data) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"data: \xff\n\n",
        b"data: " + b"x" * 1_100_000,
        b"<html>\n",
        b"{" + b"\n".ljust(1000) * 1_100,
    ],
)
async def test_what_is_no_stream_of_events_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"decode|too long|web page"):
        await read(body)


# Thoughts.


def without_thoughts(pieces: list[str]) -> str:
    thoughts = Thoughts()
    return "".join(map(thoughts.spoken, pieces)) + thoughts.rest()


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("<think>secret</think>Hello", "Hello"),
        ("Hello <think>secret</think>you", "Hello you"),
        ("1 < 2, <b> and </ but <thin", "1 < 2, <b> and </ but <thin"),
        ("<think>never ends", ""),
        ("Hello<think>a</think><think>b</think>!", "Hello!"),
        ("</think>Hello", "Hello"),
    ],
)
def test_thoughts_are_never_spoken_wherever_they_are_cut(text: str, spoken: str) -> None:
    assert without_thoughts([text]) == spoken
    assert without_thoughts(list(text)) == spoken
    for at in range(len(text)):
        assert without_thoughts([text[:at], text[at:]]) == spoken


def test_words_without_a_mark_are_handed_on_at_once() -> None:
    assert Thoughts().spoken("Hello") == "Hello"


# Tool calls.


def calls(*pieces: dict[str, Any]) -> list[tuple[str, str, str]]:
    gathered = ToolCalls()
    for piece in pieces:
        gathered.add(piece)
    return [(call.call_id, call.name, call.arguments) for call in gathered.whole()]


def piece(
    index: int | None, arguments: str, call_id: str | None = None, name: str | None = None
) -> dict[str, Any]:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def test_calls_are_gathered_by_their_index() -> None:
    assert calls(
        piece(0, '{"a":', "x", "look"),
        piece(1, "", "y", "find"),
        piece(0, "1}"),
        piece(1, '{"b":2}'),
    ) == [("x", "look", '{"a":1}'), ("y", "find", '{"b":2}')]


def test_two_calls_with_one_index_are_two() -> None:
    assert calls(piece(0, '{"a":1}', "x", "look"), piece(0, '{"a":2}', "y", "look")) == [
        ("x", "look", '{"a":1}'),
        ("y", "look", '{"a":2}'),
    ]


def test_an_id_that_is_repeated_is_the_same_call() -> None:
    assert calls(piece(None, '{"a":', "x", "look"), piece(None, "1}", "x", "look")) == [
        ("x", "look", '{"a":1}')
    ]


def test_a_call_without_an_id_is_given_one() -> None:
    [(call_id, *_)] = calls(piece(0, "", None, "look"))
    assert call_id.startswith("call_")


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "hello"])
def test_a_call_that_was_cut_is_none(arguments: str) -> None:
    with pytest.raises(ValueError, match=r"unfinished|Expecting"):
        calls(piece(0, arguments, "x", "look"))


def test_calls_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        calls(*(piece(at, "", f"{at}", "look") for at in range(100)))


# Answers.


def completed(*datas: str | Event, goes_on: bool = False) -> list[llm.ChatChunk]:
    def failure(reason: Reason, what: str) -> Failure:
        return Failure(reason, f"vllm: {what}")

    def run() -> Iterator[llm.ChatChunk]:
        for data in datas:
            yield from completion.take(data if isinstance(data, Event) else Event("", data))
        yield from completion.end()
        yield from completion.usage_chunk()

    completion = Completion(failure, partial(of_error, "vllm", ASKED), goes_on=goes_on)
    return list(run())


def said(*datas: str | Event, goes_on: bool = False) -> str:
    chunks = completed(*datas, goes_on=goes_on)
    return "".join(chunk.delta.content or "" for chunk in chunks if chunk.delta)


def delta(content: object = None, finish: str | None = None, **more: object) -> str:
    return json.dumps(
        {"choices": [{"delta": {"content": content, **more}, "finish_reason": finish}]}
    )


END = delta(finish="stop")


def test_words_are_handed_on_until_the_end() -> None:
    assert said(delta("", role="assistant"), delta("Hello"), delta(" you."), END, "[DONE]") == (
        "Hello you."
    )


def test_parts_of_content_are_joined_without_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": "secret"}, {"type": "text", "text": "Hi"}]
    assert said(delta(parts), END) == "Hi"


def test_reasoning_is_not_spoken() -> None:
    thought = delta(None, reasoning="secret", reasoning_content="secret")
    assert said(thought, delta("<think>\nsecret"), delta("</think>\n\nHi"), END) == "Hi"


def test_a_whole_answer_that_was_not_streamed_is_taken() -> None:
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    assert said(json.dumps(body)) == "Hi"


def test_a_space_before_the_first_word_counts_where_a_message_is_gone_on_with() -> None:
    assert said(delta(" "), delta("there"), END) == "there"
    assert said(delta(" "), delta("there"), END, goes_on=True) == " there"


def test_only_the_first_of_several_choices_is_spoken() -> None:
    two = {
        "choices": [
            {"index": 0, "delta": {"content": "a"}},
            {"index": 1, "delta": {"content": "b"}},
        ]
    }
    assert said(json.dumps(two), END) == "a"


def test_usage_comes_last_and_bad_counts_are_left_out() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": "x", "prompt_tokens_details": None}
    *_, last = completed(HI, END, json.dumps({"choices": [], "usage": usage}))
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (7, 0)
    assert last.usage.total_tokens == 7


def test_tool_calls_come_whole_before_the_usage() -> None:
    chunks = completed(
        delta(tool_calls=[piece(0, '{"a":', "x", "look")]),
        delta(tool_calls=[piece(0, "1}")], finish="tool_calls"),
    )
    [call] = [call for chunk in chunks if chunk.delta for call in chunk.delta.tool_calls]
    assert (call.name, call.arguments, call.call_id) == ("look", '{"a":1}', "x")


@pytest.mark.parametrize(
    ("datas", "reason"),
    [
        ([HI], Reason.CUT),
        ([HI, "[DONE]"], Reason.CUT),
        ([], Reason.CUT),
        ([HI, delta(finish="abort")], Reason.CUT),
        ([HI, delta(finish="error")], Reason.BROKEN),
        ([HI, '{"error":{"message":"boom"}}'], Reason.BROKEN),
        ([HI, '{"error":"boom"}'], Reason.BROKEN),
        ([HI, '{"error":{"code":502,"message":"boom"},"choices":[]}'], Reason.BROKEN),
        (['{"error":{"code":429}}'], Reason.BUSY),
        (['{"error":{"code":"401"}}'], Reason.REFUSED),
        (['{"error":{"type":"authentication_error"}}'], Reason.REFUSED),
        (['{"object":"error","message":"too long","code":400}'], Reason.REJECTED),
        ([Event("error", '{"code":500,"message":"boom"}')], Reason.BROKEN),
        ([Event("error", "overloaded")], Reason.BROKEN),
        ([HI, "{not json"], Reason.MALFORMED),
        ([HI, "7"], Reason.MALFORMED),
        ([HI, "[" * 100_000], Reason.MALFORMED),
        ([HI, '{"choices":[7]}'], Reason.MALFORMED),
        ([HI, '{"choices":[{"delta":{"content":7}}]}'], Reason.MALFORMED),
        ([delta(tool_calls=[{"function": 7}]), END], Reason.MALFORMED),
        ([delta(tool_calls=[piece(0, '{"a":', "x", "look")], finish="length")], Reason.MALFORMED),
        ([END], Reason.EMPTY),
        ([delta(" \n"), END], Reason.EMPTY),
        ([delta("<think>so"), delta(finish="length")], Reason.EMPTY),
        ([delta(finish="content_filter")], Reason.EMPTY),
    ],
)
def test_an_answer_that_is_none_is_a_failure(datas: list[str | Event], reason: Reason) -> None:
    with pytest.raises(Failure) as failed:
        completed(*datas)
    assert failed.value.reason is reason


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "eos"])
def test_these_are_ends(finish: str) -> None:
    assert said(HI, delta(finish=finish)) == "Hi"
