"""What Google says, in words; what its Live API leaves without effect."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from runner import checks
from runner.config import Config, SimulatedServer, TextAnswer
from runner.providers.failure import Reason
from runner.providers.google_errors import of_google, serves
from runner.providers.refusals import Asked
from runner.simulator import google
from runner.simulator.ears import Ears
from runner.simulator.sound import tone

KEY = "AIzaKey"
ASKED = Asked("gemini-x", "GOOGLE_API_KEY", KEY, ())


def details(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 400, "status": "X", "message": "No.", "details": list(entries)}}


def test_a_wrong_key_is_a_400_with_a_reason() -> None:
    failure = of_google("google at x", ASKED, 400, details({"reason": "API_KEY_INVALID"}))
    assert failure.reason is Reason.REFUSED
    assert str(failure) == (
        "google at x: it refuses the key in GOOGLE_API_KEY; set a valid one "
        "(HTTP 400 API_KEY_INVALID)"
    )


@pytest.mark.parametrize("body", [None, "no", [], {}, {"error": 3}, {"error": {"details": [4]}}])
def test_a_400_without_a_reason_is_the_request_s_fault(body: object) -> None:
    assert of_google("google", ASKED, 400, body).reason is Reason.REJECTED


def test_the_wait_stands_in_the_body() -> None:
    body = details({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"})
    failure = of_google("google", ASKED, 429, body)
    assert (failure.reason, failure.retry_after_s) == (Reason.BUSY, 7.0)


def test_what_google_says_of_a_key_is_shown_without_it() -> None:
    body = {"error": {"message": f"Consumer 'api_key:{KEY}' has been suspended."}}
    assert KEY not in str(of_google("google", ASKED, 403, body))


def test_a_model_serves_what_it_lists() -> None:
    listed = {"supportedGenerationMethods": ["bidiGenerateContent"]}
    assert serves(listed, "bidiGenerateContent")
    assert not serves(listed, "generateContent")
    assert serves({}, "generateContent")
    assert serves(None, "generateContent")


def test_what_has_no_effect_is_said_for_the_live_api_alone(composed: Callable[..., Config]) -> None:
    assert checks.without_effect(composed()) == []
    told = " ".join(checks.without_effect(composed("llm=google_realtime")))
    for key in ("stt_tts", "gpu", "failover", "stand_in", "llm_concurrency", "turn.endpointing"):
        assert key in told
    assert "rag.deadline_ms" in told
    without = " ".join(checks.without_effect(composed("llm=google_realtime", "rag.enabled=false")))
    assert "rag" not in without


def test_the_live_api_is_not_spoken_without_tls(
    composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    settings = composed("llm=google_realtime", "llm.base_url=http://localhost:1")
    assert [problem.key for problem in checks._live(settings)] == ["llm.base_url"]


def test_ears_hear_a_beginning_and_an_end() -> None:
    ears = Ears()
    loud, silent = tone(16_000, 800), bytes(1600)
    heard = [ears.hear(piece) for piece in [silent] * 3 + [loud] * 6 + [silent] * 12]
    assert [event for event in heard if event] == ["began", "ended"]
    assert ears.hear(b"") is None
    assert ears.hear(b"\0") is None


def test_a_google_request_is_read_part_by_part() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "<instructions>x"}, {"text": "When?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"response": {"output": "nine"}}}]},
            {"role": "user", "parts": [{"text": "."}]},
        ],
    }
    told = [(message.role, message.text) for message in google.messages(body)]
    assert told == [
        ("system", "Be kind."),
        ("system", "<instructions>x"),
        ("user", "When?"),
        ("assistant", 'f({"a": 1})'),
        ("tool", '{"output": "nine"}'),
    ]


def test_a_google_answer_ends_with_its_reason_and_its_cost() -> None:
    answers = [TextAnswer("One two three.")]
    server = SimulatedServer(speaks="google", port=0, models=["m"], answers=answers)
    body = {"generationConfig": {"maxOutputTokens": 2}}
    events = google._events(server, body, google.messages(body))
    assert len(events.tokens) == 2
    end = json.loads(events.end.removeprefix(b"data: "))
    assert end["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert end["usageMetadata"]["candidatesTokenCount"] == 2
