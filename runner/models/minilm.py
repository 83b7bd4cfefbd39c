"""MiniLM: texts to vectors of 384 numbers that lie close together where the meanings do."""

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import tokenizers
from numpy.typing import NDArray

from runner.models.encoder import encoder

Vector = NDArray[np.float32]
"""A normalised embedding, shape (384,)."""

_NO_OVERFLOW = ("session.x64quantprecision", "1")  # half as slow again
_VNNI = {"avx512_vnni", "avx_vnni"}  # adds products of 8 bits in 32; without it 16 bits overflow
_CORES = Path("/proc/cpuinfo")
_LONGEST_TOKENS = 512  # the model's own limit; the rest of a text is not seen


@dataclass(frozen=True)
class Embedding:
    """A text's vector, and its length in tokens as the model saw it."""

    vector: Vector
    tokens: int


class MiniLM:
    """The model, made in half a second from the folder of its weights.

    It may run in several threads at once, each run takes one core.
    """

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False  # one a length of text: the memory would grow
        if overflows(_CORES.read_text() if _CORES.exists() else ""):
            options.add_session_config_entry(*_NO_OVERFLOW)
        self._session = onnxruntime.InferenceSession(
            encoder(folder / "model.safetensors"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_LONGEST_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, text: str) -> Embedding:
        """The embedding of ``text``, on the thread that asks: a question takes 2 to 4 ms, a text of
        512 tokens 80."""
        ids = np.array([self._tokenizer.encode(text).ids])
        [[vector]] = self._session.run(["embedding"], {"input_ids": ids})
        return Embedding(vector, ids.size)


def overflows(cores: str) -> bool:
    """Whether sums of 8-bit products may overflow on these ``cores``, as Linux tells of them; where
    nothing is told, they may."""
    flags = re.search(r"^flags\s*:(.*)", cores, re.MULTILINE)
    return flags is None or _VNNI.isdisjoint(flags[1].split())


class Cache:
    """The embeddings of the texts asked for last, of all callers together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()

    def get(self, text: str) -> Embedding | None:
        """The embedding of ``text``, if it is kept."""
        key = _key(text)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, text: str, embedding: Embedding) -> None:
        """Keep it; beyond ``size`` the one that was not asked for longest is dropped."""
        self._kept[_key(text)] = embedding
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
