"""What stands in for what, and why, in words."""

from runner.probes import Finding, _stand_in


def finding(name: str, trouble: str | None = None) -> Finding:
    return Finding(name, f"http://{name}", "model", False, None, trouble)


def test_a_chain_whose_first_member_serves_has_no_stand_in() -> None:
    assert _stand_in("LLM", [finding("vllm"), finding("ollama", "refused")]) is None


def test_the_first_that_serves_stands_in_for_all_before_it() -> None:
    found = _stand_in(
        "LLM", [finding("vllm", "refused"), finding("ollama", "no model"), finding("retrieval")]
    )
    assert found is not None
    assert (found.provider, found.instead_of) == ("retrieval", ["vllm", "ollama"])
    assert found.reason == "vllm at http://vllm: refused; ollama at http://ollama: no model"


def test_when_nobody_serves_it_is_said() -> None:
    found = _stand_in("TTS", [finding("speaches", "refused")])
    assert found is not None
    assert found.provider is None
    assert str(found) == "TTS: nobody answers. speaches at http://speaches: refused."


def test_speech_to_speech_needs_no_chain() -> None:
    assert _stand_in("STT", []) is None
