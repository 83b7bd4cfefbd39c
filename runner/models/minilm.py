"""MiniLM: texts to vectors of 384 numbers that lie close together where the meanings do."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import tokenizers
from numpy.typing import NDArray

from runner.models.encoder import encoder

Vector = NDArray[np.float32]
"""A normalised embedding, shape (384,)."""

_LONGEST_TOKENS = 512  # the model's own limit; the rest of a text is not seen
_BATCH_TOKENS = 128  # with padding; sentences gain a quarter in batches, long texts lose


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
        self._session = onnxruntime.InferenceSession(
            encoder(folder / "model.safetensors"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_LONGEST_TOKENS)
        self._tokenizer.no_padding()

    def embed_one(self, text: str) -> Embedding:
        """The embedding of a short text, with the least around it: a caller waits for it."""
        ids = np.array([self._tokenizer.encode(text).ids])
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        [[hidden]] = self._session.run(["last_hidden_state"], inputs)
        total = hidden.sum(0)
        return Embedding(total / np.sqrt(total @ total), ids.size)

    def embed(self, texts: Sequence[str]) -> Iterator[dict[int, Embedding]]:
        """The embeddings of ``texts`` by their places, a batch at a time, short texts first."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        lengths = [len(one.ids) for one in encoded]
        for batch in batches(lengths):
            vectors = self._run([encoded[at].ids for at in batch])
            yield {
                at: Embedding(vector, lengths[at])
                for at, vector in zip(batch, vectors, strict=True)
            }

    def _run(self, rows: list[list[int]]) -> NDArray[np.float32]:
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : len(row)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        [hidden] = self._session.run(["last_hidden_state"], inputs)
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        norms = np.linalg.norm(mean, axis=1, keepdims=True)
        return np.asarray(mean / norms, dtype=np.float32)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts in batches of like length: one text, or at most 128 tokens with padding."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[at] * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


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
