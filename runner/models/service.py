"""The model server as a child process."""

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from pydantic import TypeAdapter

from runner.child import Command
from runner.config import Models
from runner.models import weights
from runner.services import Report, Service

_NAME = "models"
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}  # glibc's: a heap a thread would take 100 MB more
_READY_TIMEOUT = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True)
class Settings:
    """What the process is told, as JSON, by its only argument."""

    models: Models
    cache_dir: Path


SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def service(models: Models, cache_dir: Path) -> Service:
    """The model server at ``models.host`` and ``models.port``; ready when its models are warm.

    Preparing it raises ModelError where libraries or weights cannot be had.
    """
    return Service(_NAME, partial(_prepare, Settings(models, cache_dir)), partial(_ready, models))


async def _prepare(settings: Settings, report: Report) -> Command:
    """Fetch and check the weights here, where it is seen, rather than in the child."""
    weights.require_libraries()
    models, line = settings.models, partial(report, _NAME)
    for wanted in (weights.WHISPER[models.whisper], weights.PIPER, weights.MINILM):
        await asyncio.to_thread(weights.ensure, wanted, settings.cache_dir, line)
    argv = (sys.executable, "-m", "runner.models", SETTINGS.dump_json(settings).decode())
    return Command(argv, env=_ENVIRONMENT)


async def _ready(models: Models) -> bool:
    url = f"http://{models.host}:{models.port}/health"
    try:
        async with aiohttp.ClientSession(timeout=_READY_TIMEOUT) as http, http.get(url) as answer:
            return answer.ok
    except (aiohttp.ClientError, TimeoutError):
        return False
