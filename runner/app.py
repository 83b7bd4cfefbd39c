"""argv → Hydra → typed configuration → task."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import hydra
from dotenv import load_dotenv
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from runner import checks, config, logs
from runner.config import Config
from runner.errors import RunnerError
from runner.folders import RESOURCES

_INTERRUPTED = 130
Value = float | tuple[float, ...]
"""What a Hydra sweeper that optimises is given of a job: of one objective, or of several."""

_ELSEWHERE = {"models": "runner.models.server", "bench": "runner.bench.bench"}


def main() -> None:
    """The console script: exit status 0, 1 with one message, or 130 when interrupted."""
    load_dotenv(".env")
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")  # jobs hold no model
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # of LiveKit's SDK: a call is one caller
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # glibc's: a heap a thread is memory of each job
    os.environ.setdefault("LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS", "0")  # runner.stalls costs nothing
    launch = hydra.main(
        config_path=str(RESOURCES / "conf"), config_name="config", version_base="1.3"
    )(_run)
    launch()


def _run(composed: DictConfig) -> Value | None:
    """One composition; what it was worth, where its task tells that. Errors end here: past this
    point Hydra would print the overrides."""
    try:
        done = run(composed)
    except RunnerError as error:
        print(error, file=sys.stderr)
        done = 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        done = _INTERRUPTED
    if not isinstance(done, int):
        return done
    if done:  # a sweep goes on after a success
        sys.exit(done)
    return None


def run(composed: DictConfig) -> int | Value:
    """Checks the configuration and performs its task; the exit status, or a success' value.

    Raises:
        RunnerError: with the one message to print.
    """
    settings = config.load(composed)
    checks.check(settings, sweep=HydraConfig.get().mode is RunMode.MULTIRUN)
    logs.set_up(settings.log)
    return asyncio.run(_ended_by_sigterm(settings))


async def _ended_by_sigterm(settings: Config) -> int | Value:
    """The task; SIGTERM ends it as Ctrl-C does, so that it takes down what it started."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await _task(settings)(settings)


def _task(settings: Config) -> Callable[[Config], Coroutine[Any, Any, int | Value]]:
    """The task's coroutine. Its module is imported only now: a call imports no indexer."""
    name = settings.task.name
    module = _ELSEWHERE.get(name, f"runner.{name}")
    task: Callable[[Config], Coroutine[Any, Any, int | Value]] = import_module(module).main
    return task
