"""What a server's error says, in sentences that name the mend and repeat no caller."""

import json

import pytest

from runner.providers.failure import Failure, Reason
from runner.providers.refusals import Asked, of_error, of_response, shown

ASKED = Asked("llama", "SOME_KEY", "", ())


def refused(
    status: int, body: object = "", headers: dict[str, str] | None = None, asked: Asked = ASKED
) -> Failure:
    text = body if isinstance(body, str) else json.dumps(body)
    return of_response("vllm at http://v", asked, status, headers or {}, text)


@pytest.mark.parametrize(
    ("status", "body", "asked", "sentence"),
    [
        (401, {"error": {"message": "bad key"}}, Asked("m", "MY_KEY", "sk-1", ()),
         "it refuses the key in MY_KEY; set a valid one (HTTP 401: bad key)"),
        (401, "", Asked("m", "MY_KEY", "", ()), "it wants a key; set MY_KEY (HTTP 401)"),
        (403, "", Asked("m", "", "", ()),
         "it wants a key; set api_key_env to the name of a variable that holds one (HTTP 403)"),
        (404, {"message": "no such"}, Asked("llama", "", "", ()),
         "it has no model llama; set another model, or the right base_url (HTTP 404: no such)"),
        (400, {"error": {"code": "model_not_found"}}, ASKED,
         "it has no model llama; set another model, or the right base_url (HTTP 400)"),
        (402, "", Asked("m", "MY_KEY", "sk-1", ()),
         "the account of MY_KEY has no credit; top it up (HTTP 402)"),
        (307, "", ASKED, "it redirects to another address; set base_url to that (HTTP 307)"),
        (500, "<html>secret</html>", ASKED, "it failed (HTTP 500)"),
        (500, "out of memory", ASKED, "it failed (HTTP 500: out of memory)"),
        (400, [{"error": {"message": "API key not valid"}}], ASKED,
         "it rejects the request (HTTP 400: API key not valid)"),
        (422, {"detail": [{"msg": "too long", "input": "my secret"}]}, ASKED,
         "it rejects the request (HTTP 422: too long)"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_mend(
    status: int, body: object, asked: Asked, sentence: str
) -> None:
    assert str(refused(status, body, asked=asked)) == f"vllm at http://v: {sentence}"


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"Retry-After": "0.5"}, "", 0.5),
        ({"retry-after-ms": "250", "Retry-After": "1"}, "", 0.25),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", 0),
        ({"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, "", 3600),
        ({"Retry-After": "soon"}, "", None),
        ({}, {"error": {"details": [{"retryDelay": "7s"}]}}, 7),
        ({}, {"error": {"message": "Please try again in 1.2s."}}, 1.2),
        ({}, {"error": {"message": "Please try again in 20ms"}}, 0.02),
        ({}, {"error": {"metadata": {"retry_after_seconds": 3}}}, 3),
        ({}, {"error": {"metadata": {"headers": {"X-RateLimit-Reset": "1000000000000"}}}}, 0),
        ({}, "", None),
    ],
)
def test_a_wait_is_found_wherever_it_stands(
    headers: dict[str, str], body: object, wait_s: float | None
) -> None:
    failure = refused(429, body, headers)
    assert failure.reason is Reason.BUSY
    assert failure.retry_after_s == wait_s


def test_a_503_with_a_wait_is_busy_and_without_one_broken() -> None:
    assert refused(503, headers={"Retry-After": "1"}).reason is Reason.BUSY
    assert refused(503).reason is Reason.BROKEN


@pytest.mark.parametrize(
    "message",
    ["bad input: my PIN is 4711, sorry", "'my pin is'", "4711 is no tool", "sk-123 is no key"],
)
def test_a_message_repeats_neither_the_caller_nor_the_key(message: str) -> None:
    asked = Asked("m", "K", "sk-123", ("My pin is 4711.", "4711"))
    for failure in (
        refused(400, {"error": {"message": message}}, asked=asked),
        of_error("vllm", asked, {"message": message}),
    ):
        for secret in ("4711", "pin", "PIN", "sk-123"):
            assert secret not in str(failure)


def test_foreign_text_is_a_short_line_without_control_characters() -> None:
    text = shown("\x1b[31mred\nnext\x00 " + "long " * 1000)
    assert text.startswith("[31mred next")
    assert len(text) <= 201
    assert text.isprintable()
