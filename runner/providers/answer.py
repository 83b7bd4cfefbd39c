"""The sentences of some passages that answer a question best, by embeddings."""

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runner.providers.sentences import Sentence, sentences

Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]

_EMBEDDED_SENTENCES = 12  # with their topics 18 texts: some 40 ms on two cores
_STEM_CHARS = 5  # "switching" and "switch", "licence" and "license" share them
_JOINED = 0.75  # a neighbour with this share of the best similarity is spoken with it


class Passage(Protocol):
    """A piece of a document that a search found; ``similarity`` is its cosine with the question.

    ``heading`` stands above its beginning; ``in_code``: it begins inside fenced code.
    """

    @property
    def filename(self) -> str: ...
    @property
    def chunk_index(self) -> int: ...
    @property
    def heading(self) -> str | None: ...
    @property
    def content(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def in_code(self) -> bool: ...


@dataclass(frozen=True)
class Answer:
    """Sentences that follow each other in one document; ``passage`` and ``similarity`` are the
    best one's."""

    text: str
    passage: Passage
    similarity: float


@dataclass(frozen=True)
class _Candidate:
    """A sentence and where it stands: the ``at``-th of all, in this passage."""

    at: int
    sentence: Sentence
    passage: Passage

    def is_next_to(self, other: "_Candidate") -> bool:
        """Whether nothing is known to be between the two, and they have one topic."""
        here, there = self.passage, other.passage
        return (
            abs(self.at - other.at) == 1
            and self.sentence.topic == other.sentence.topic
            and here.filename == there.filename
            and abs(here.chunk_index - there.chunk_index) <= 1
        )


async def answer(
    wordings: Sequence[str], passages: Sequence[Passage], embed: Embed, max_sentences: int
) -> Answer | None:
    """The best answer in ``passages``, however bad; None if they hold no sentence.

    ``wordings`` are those of one question: an answer must suit all of them.
    """
    candidates = _shortlist(" ".join(wordings), _candidates(passages))
    if not candidates:
        return None
    scores = await _similarities(wordings, [one.sentence for one in candidates], embed)
    best = int(np.argmax(scores))
    chosen = _neighbourhood(candidates, scores, best, max_sentences)
    return Answer(
        text=" ".join(one.sentence.text for one in chosen),
        passage=candidates[best].passage,
        similarity=scores[best],
    )


def _candidates(passages: Sequence[Passage]) -> list[_Candidate]:
    """Every sentence once, in the order of the documents."""
    found: dict[tuple[str, str], _Candidate] = {}
    for passage in sorted(passages, key=lambda one: (one.filename, one.chunk_index)):
        for sentence in sentences(
            passage.content,
            heading=passage.heading,
            in_code=passage.in_code,
            cut=passage.chunk_index > 0,
        ):
            candidate = _Candidate(len(found), sentence, passage)
            found.setdefault((passage.filename, sentence.text), candidate)
    return list(found.values())


def _shortlist(question: str, candidates: list[_Candidate]) -> list[_Candidate]:
    """The candidates worth an embedding: with rare words of the question, in near passages.

    Each brings its neighbours, so that an answer can be more than one sentence.
    """
    kept: set[int] = set()
    for one in _by_words(question, candidates):
        if len(kept) >= _EMBEDDED_SENTENCES:
            break
        around = candidates[max(one.at - 1, 0) : one.at + 2]
        kept |= {one.at, *(near.at for near in around if near.is_next_to(one))}
    return [candidates[at] for at in sorted(kept)]


def _by_words(question: str, candidates: list[_Candidate]) -> list[_Candidate]:
    """The most promising first: by shared words, rare ones weighing more, and by the passage."""
    texts = [_stems(f"{one.sentence.topic} {one.sentence.text}") for one in candidates]
    weights = {
        stem: math.log(1 + len(texts) / (1 + sum(stem in text for text in texts)))
        for stem in _stems(question)
    }
    shared = [sum(weights[stem] for stem in weights.keys() & text) for text in texts]
    most = max(shared, default=0) or 1
    promise = [
        words / most + one.passage.similarity for words, one in zip(shared, candidates, strict=True)
    ]
    return sorted(candidates, key=lambda one: -promise[one.at])


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARS] for word in re.findall(r"\w+", text.casefold())}


async def _similarities(
    wordings: Sequence[str], found: list[Sentence], embed: Embed
) -> list[float]:
    """How well each sentence answers: its own cosine, or its mean with that of its topic.

    The topic of an answer is often the question in other words; alone it would favour every
    sentence below it alike.
    """
    topics = sorted({sentence.topic for sentence in found if sentence.topic})
    texts = [*wordings, *(sentence.text for sentence in found), *topics]
    vectors = np.asarray(await embed(texts), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = len(wordings)
    cosines = (vectors[asked:] @ vectors[:asked].mean(axis=0)).tolist()
    own, of_topic = cosines[: len(found)], dict(zip(topics, cosines[len(found) :], strict=True))
    return [
        max(cosine, (cosine + of_topic.get(sentence.topic, cosine)) / 2)
        for sentence, cosine in zip(found, own, strict=True)
    ]


def _neighbourhood(
    candidates: list[_Candidate], scores: list[float], best: int, most: int
) -> list[_Candidate]:
    """The best one with the neighbours that are nearly as good, ``most`` in all."""
    enough = _JOINED * scores[best]
    first = last = best
    while last - first + 1 < most:
        near = [
            (scores[at], at)
            for at, edge in ((first - 1, first), (last + 1, last))
            if 0 <= at < len(scores) and candidates[at].is_next_to(candidates[edge])
        ]
        score, at = max(near, default=(-1.0, best))
        if score < enough:
            break
        first, last = min(first, at), max(last, at)
    return candidates[first : last + 1]
