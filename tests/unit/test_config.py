"""The configuration: every combination composes, every mistake is told, all at once."""

import pytest

from runner import checks
from runner.config import Config
from runner.errors import ConfigError, RunnerError
from tests.composed import composed


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_PROVIDER", "VLLM_BASE_URL", "POSTGRES_MAX_CONN", "RAG_ENABLED"):
        monkeypatch.delenv(name, raising=False)


def load(*overrides: str) -> Config:
    settings = composed(*overrides)
    checks.check(settings)
    return settings


def problems(*overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_the_defaults_are_the_specification_s() -> None:
    settings = load()
    assert settings.llm.base_url == "http://localhost:8000/v1"
    assert settings.llm.model == "unsloth/Llama-3.2-1B-Instruct"
    assert settings.fallback["ollama"].base_url == "http://localhost:11434/v1"
    assert settings.fallback["ollama"].model == "llama3.2:latest"
    assert settings.fallback["openrouter"].model == "openai/gpt-4o"
    assert settings.failover.order == ["ollama", "openrouter"]
    assert settings.gpu.stt == {
        "speaches_gpu": "http://localhost:8003/v1",
        "speaches_cpu": "http://localhost:8002/v1",
    }
    assert settings.stt_tts.stt.model == "Systran/faster-whisper-base.en"
    assert settings.stt_tts.tts.model == "speaches-ai/Kokoro-82M-v1.0-ONNX"
    assert settings.stt_tts.tts.voice == "af_heart"
    assert (settings.database.min_connections, settings.database.max_connections) == (5, 30)
    assert settings.limits.llm_concurrency == 20
    assert (settings.rag.chunk_size, settings.rag.chunk_overlap, settings.rag.top_k) == (
        1000,
        200,
        5,
    )
    assert settings.sessions.timeout_minutes == 30
    assert settings.livekit.url == "ws://localhost:7880"
    assert (settings.livekit.tcp_port, settings.web.port) == (7881, 3000)


def test_google_s_defaults_are_the_specification_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "not-a-key")
    assert load("llm=google").llm.model == "gemini-2.0-flash"
    live = load("llm=google_realtime").llm
    assert (live.model, live.voice) == ("gemini-2.0-flash-live-001", "Puck")


ENVIRONMENT = {
    "LLM_PROVIDER": ("vllm", lambda c: c.llm.name),
    "VLLM_MODEL": ("some/model", lambda c: c.llm.model),
    "VLLM_BASE_URL": ("http://gpu:8000/v1", lambda c: c.llm.base_url),
    "LLM_MAX_CONCURRENT": (7, lambda c: c.limits.llm_concurrency),
    "OLLAMA_BASE_URL": ("http://box:1/v1", lambda c: c.fallback["ollama"].base_url),
    "OLLAMA_MODEL": ("tiny", lambda c: c.fallback["ollama"].model),
    "OPENROUTER_MODEL": ("x/y", lambda c: c.fallback["openrouter"].model),
    "POSTGRES_HOST": ("db", lambda c: c.database.host),
    "POSTGRES_PORT": (5433, lambda c: c.database.port),
    "POSTGRES_DB": ("other", lambda c: c.database.name),
    "POSTGRES_USER": ("someone", lambda c: c.database.user),
    "POSTGRES_MIN_CONN": (2, lambda c: c.database.min_connections),
    "POSTGRES_MAX_CONN": (44, lambda c: c.database.max_connections),
    "RAG_ENABLED": (False, lambda c: c.rag.enabled),
    "RAG_CHUNK_SIZE": (900, lambda c: c.rag.chunk_size),
    "RAG_CHUNK_OVERLAP": (100, lambda c: c.rag.chunk_overlap),
    "EMBEDDING_MODEL": ("mini", lambda c: c.rag.embedding_model),
    "WHISPER_LOCAL_URL": ("http://gpu:8003/v1", lambda c: c.gpu.stt["speaches_gpu"]),
    "WHISPER_LOCAL_MODEL": ("w", lambda c: c.stt_tts.stt.model),
    "SPEACHES_TTS_URL": ("http://gpu:8003/v1", lambda c: c.gpu.tts["speaches_gpu"]),
    "SPEACHES_TTS_MODEL": ("k", lambda c: c.stt_tts.tts.model),
    "SPEACHES_TTS_VOICE": ("v", lambda c: c.stt_tts.tts.voice),
    "SESSION_TIMEOUT_MINUTES": (5, lambda c: c.sessions.timeout_minutes),
    "LIVEKIT_URL": ("ws://sfu:7880", lambda c: c.livekit.url),
}


def test_the_environment_of_the_specification_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, (value, _) in ENVIRONMENT.items():
        monkeypatch.setenv(name, str(value))
    settings = load()
    seen = {name: read(settings) for name, (_, read) in ENVIRONMENT.items()}
    assert seen == {name: value for name, (value, _) in ENVIRONMENT.items()}


def test_google_s_environment_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "not-a-key")
    monkeypatch.setenv("GOOGLE_MODEL", "gemini-x")
    monkeypatch.setenv("GOOGLE_REALTIME_MODEL", "gemini-live-x")
    monkeypatch.setenv("GOOGLE_REALTIME_VOICE", "Kore")
    assert load("llm=google").llm.model == "gemini-x"
    live = load("llm=google_realtime").llm
    assert (live.model, live.voice) == ("gemini-live-x", "Kore")


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "ollama")
    monkeypatch.setenv("RAG_CHUNK_SIZE", "900")
    settings = load("llm=vllm", "rag.chunk_size=800")
    assert (settings.llm.name, settings.rag.chunk_size) == ("vllm", 800)


@pytest.mark.parametrize("url", ["http://host:9/v1", "http://host:9", "http://host:9/v1/"])
def test_a_base_url_works_with_and_without_v1(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", url)
    assert load().llm.base_url == "http://host:9/v1"


def test_all_misfits_are_reported_at_once_with_key_value_and_what_is_allowed() -> None:
    found = problems(
        "llm.max_tokens=0",
        "rag.top_k=many",
        "web.port=99999",
        "models.whisper=huge",
        "stand_in.llm.max_sentences=9",
        "fallback.ollama.base_url=nowhere",
        "livekit.url=nowhere",
    )
    assert found.keys() == {
        "llm.max_tokens",
        "rag.top_k",
        "web.port",
        "models.whisper",
        "stand_in.llm.max_sentences",
        "fallback.ollama.base_url",
        "livekit.url",
    }
    assert "'huge'" in found["models.whisper"]
    assert "'tiny.en' or 'base'" in found["models.whisper"]


def test_all_broken_rules_are_reported_at_once() -> None:
    found = problems(
        "rag.chunk_overlap=1000",
        "database.min_connections=31",
        "web.port=7880",
        "failover.order=[ollama,nobody]",
        "models.host=0.0.0.0",
        "operator.host=192.168.0.1",
    )
    assert found.keys() == {
        "rag.chunk_overlap",
        "database.min_connections",
        "web.port",
        "failover.order",
        "models.host",
        "operator.host",
    }
    assert "ollama, openrouter" in found["failover.order"]


def test_the_operator_s_port_is_opened_to_others_with_a_token_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = "operator.host=192.168.0.1"
    monkeypatch.delenv("OPERATOR_TOKEN", raising=False)
    assert "OPERATOR_TOKEN" in problems(elsewhere)["operator.host"]
    monkeypatch.setenv("OPERATOR_TOKEN", "opensesame")
    found = problems(elsewhere)
    assert found.keys() == {"operator.token_env"}
    assert "opensesame" not in str(found)
    monkeypatch.setenv("OPERATOR_TOKEN", "x" * 32)
    assert load(elsewhere).operator.host == "192.168.0.1"


def test_an_unknown_voice_gets_the_list_of_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "not-a-key")
    found = problems("llm=google_realtime", "llm.voice=Nobody")
    for voice in ("Puck", "Charon", "Kore", "Fenrir", "Aoede"):
        assert voice in found["llm.voice"]


def test_a_key_that_is_missing_is_named_when_nothing_else_could_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    assert "GOOGLE_API_KEY" in problems("llm=google_realtime")["llm"]


def test_a_key_that_is_missing_is_no_mistake_where_something_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    assert load("llm=openrouter").llm.name == "openrouter"


@pytest.mark.parametrize("task", ["serve", "chat", "models"])
def test_a_task_that_does_not_end_is_refused_under_multirun(task: str) -> None:
    with pytest.raises(RunnerError, match="--multirun"):
        checks.check(composed(f"task={task}"), sweep=True)


def test_no_secret_is_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENROUTER_API_KEY", "GOOGLE_API_KEY", "POSTGRES_PASSWORD", "LIVEKIT_API_SECRET"):
        monkeypatch.setenv(name, "hunter2")
    assert "hunter2" not in repr(load("llm=google"))


def test_an_answer_leaves_room_for_the_history() -> None:
    found = problems("llm.max_tokens=3000", "fallback.ollama.context_tokens=512")
    assert "at most half of llm.context_tokens (4096)" in found["llm.max_tokens"]
    assert "fallback.ollama.context_tokens (512)" in found["fallback.ollama.max_tokens"]


def test_a_header_is_one_line() -> None:
    found = problems("+fallback.openrouter.headers={X-Title: 'a\nb'}".replace("\\n", "\n"))
    assert "one printable line" in found["fallback.openrouter.headers"]


@pytest.mark.parametrize("key", ["llm.api_key_env", "database.password_env"])
def test_a_secret_in_place_of_a_variable_s_name_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(f"{key}=sk-or-v1-hush")
    assert f"{key} is '(not shown)'; it must be the NAME of an environment variable" in str(
        refused.value
    )
    assert "hush" not in str(refused.value)
