"""The three models, loaded and warm. Importing this module imports the native libraries."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.config import Models
from runner.models import weights
from runner.models.audio import HEARD_RATE_HZ
from runner.models.minilm import MiniLM
from runner.models.piper import Piper
from runner.models.weights import Report
from runner.models.whisper import Whisper

_WARM_UP = "Ready."


@dataclass(frozen=True)
class Engines:
    """What the server serves. ``tts`` belongs to one thread at a time, the others to any."""

    stt: Whisper
    tts: Piper
    embedding: MiniLM


def load(models: Models, cache_dir: Path, report: Report) -> Engines:
    """Load the models side by side, and run each of them once.

    Raises:
        ModelError: weights cannot be had or are not the known ones.
    """

    def stt() -> Whisper:
        folder = weights.ensure(weights.WHISPER[models.whisper], cache_dir, report)
        whisper = Whisper(folder, models.threads)
        whisper.hear(np.zeros(HEARD_RATE_HZ, np.float32), "en")
        return whisper

    def tts() -> Piper:
        piper = Piper(weights.ensure(weights.PIPER, cache_dir, report), models.threads)
        list(piper.speak(_WARM_UP, 1.0, piper.rate_hz))
        return piper

    def embedding() -> MiniLM:
        minilm = MiniLM(weights.ensure(weights.MINILM, cache_dir, report))
        minilm.embed(_WARM_UP)
        return minilm

    with ThreadPoolExecutor(3, "load") as pool:
        one, two, three = pool.submit(stt), pool.submit(tts), pool.submit(embedding)
        return Engines(one.result(), two.result(), three.result())
