"""Fixtures of the fault tests: a runner whose calls may be told to do harm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.models.piper import Piper
from runner.models.weights import PIPER, ensure
from tests.calls.conftest import Runner, start_runner
from tests.faults.hurt import RELEASE
from tests.faults.talk import QUESTION
from tests.ports import free_port

SECRET = "canary-livekit-secret-of-forty-characters"
CANARIES = {
    name: f"canary-{name.lower().replace('_', '-')}-7f3a"
    for name in (
        "OPENROUTER_API_KEY",
        "GOOGLE_API_KEY",
        "VLLM_API_KEY",
        "SPEACHES_API_KEY",
    )
}
"""What the variables hold that keys of the configuration name. The embedded Postgres has no
password."""

MEMORY_MB = 300
_SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is missing, a call that stalls goes on stalling."""
    return tmp_path_factory.mktemp("hurt") / "release"


def _simulated() -> list[str]:
    """Providers that say little."""
    return [
        "simulate=load",
        "rag=off",
        f"simulate.port={free_port()}",
        *(f"simulate.servers.{name}.port={free_port()}" for name in _SERVERS),
        'simulate.servers.vllm.answers=["Yes."]',
        "agent.greeting=Hi.",
        "llm.api_key_env=VLLM_API_KEY",
    ]


@pytest.fixture(scope="session")
def running(new_data_dir: Callable[[], Path], release: Path) -> Iterator[Runner]:
    """A runner whose calls may be told to do harm."""
    runner = start_runner(
        new_data_dir(),
        f"limits.call_memory_mb={MEMORY_MB}",
        "sessions.grace_s=1",
        *_simulated(),
        module="tests.faults.hurt",
        env={
            RELEASE: str(release),
            "LIVEKIT_API_KEY": "key",
            "LIVEKIT_API_SECRET": SECRET,
            **CANARIES,
        },
    )
    yield runner
    runner.stop()


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """Somebody who asks something, at 16 kHz."""
    folder = ensure(PIPER, tmp_path_factory.mktemp("weights"), lambda *_: None)
    pcm = b"".join(Piper(folder, threads=1).speak(QUESTION, 1.0, 16_000))
    return np.frombuffer(pcm, np.int16)
