"""``task=eval``: how often search and answers are right, over a corpus whose answers are known."""

import re
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from livekit.agents import llm
from omegaconf import OmegaConf
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database
from runner.config import Config, EvalTask, RetrievalLLM
from runner.errors import RunnerError
from runner.folders import RESOURCES
from runner.progress import Progress
from runner.providers.retrieval import Retrieval
from runner.rag.document_embedding import document_embedder
from runner.rag.embedding import Embedder, embedder
from runner.rag.index import index
from runner.rag.search import Search
from runner.search import printable
from runner.stack import needs, stack

_POOL_SIZE = 8  # as task=index
_SEEN = 5  # hits that count, whatever rag.top_k is
_WARM_UP = "Is anybody there?"


@dataclass(frozen=True)
class Question:
    """What is asked; the document that answers it, and the answer in one or more spellings.

    Without a ``file`` the corpus has no answer.
    """

    question: str
    file: str = ""
    fact: list[str] = field(default_factory=list)

    def answered_by(self, text: str) -> bool:
        """Whether ``text`` holds the fact."""
        return any(_plain(fact) in _plain(text) for fact in self.fact)


@dataclass(frozen=True)
class Outcome:
    """What became of a question. ``rank``: of the first hit from its document, from 1; 0: none.

    ``given``: the hits hold the fact; ``answer``: of the LLM ``retrieval``, None: declined.
    """

    question: Question
    rank: int
    given: bool
    answer: str | None
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the answer holds the fact, or was declined where there is none."""
        if not self.question.file:
            return self.answer is None
        return self.answer is not None and self.question.answered_by(self.answer)


async def main(config: Config) -> int:
    """Indexes the corpus into a database of its own, asks, and prints the figures.

    Raises:
        RunnerError: the questions cannot be read, or a part that this needs is not there.
    """
    task = config.task
    assert isinstance(task, EvalTask)
    asked = questions(shipped(task.questions))
    async with AsyncExitStack() as exits:
        with Progress() as progress:
            wanted = needs(config, calls=False)
            running = await exits.enter_async_context(stack(config, wanted, progress))
            engine = await _database(config, running.endpoints.postgres_socket, exits)
            await _index(config, engine, shipped(task.corpus), progress)
        client = embedder(config.rag)
        exits.push_async_callback(client.aclose)
        outcomes = await _ask(config, engine, client, asked)
    Console().print(figures(outcomes))
    if task.misses:
        print("\n".join(printable(line) for line in _misses(outcomes)))
    return 0


def shipped(name: str) -> Path:
    """A path as seen from here, else what comes with the program."""
    here = Path(name).expanduser()
    return here.resolve() if here.exists() else RESOURCES / name


def questions(path: Path) -> list[Question]:
    """What a YAML file asks.

    Raises:
        RunnerError: it cannot be read, or is no list of questions.
    """
    try:
        listed = OmegaConf.to_container(OmegaConf.load(path))
        return TypeAdapter(list[Question]).validate_python(listed)
    except Exception as error:  # OmegaConf lets the errors of its YAML parser through
        reason = str(error).splitlines()[0]
        raise RunnerError(
            f"{path} (task.questions) is not a list of questions with file and fact: {reason}"
        ) from error


async def _database(config: Config, socket: str | None, exits: AsyncExitStack) -> AsyncEngine:
    """A database beside the user's, kept for the next evaluation, which indexes only changes."""
    own = replace(config.database, name=f"{config.database.name}_eval")
    await database.prepare(own, socket, config.agent)
    engine = database.engine(own, socket, pool_size=_POOL_SIZE, application_name="runner-eval")
    exits.push_async_callback(engine.dispose)
    return engine


async def _index(config: Config, engine: AsyncEngine, corpus: Path, progress: Progress) -> None:
    client = document_embedder(config.rag)
    try:
        summary = await index(
            engine, client, config.rag, corpus, lambda line: progress("documents", line)
        )
    finally:
        await client.aclose()
    for name, reason in summary.failed:
        print(f"{name} is not indexed: {reason}")


async def _ask(
    config: Config, engine: AsyncEngine, client: Embedder, asked: list[Question]
) -> list[Outcome]:
    search = Search(engine, client, replace(config.rag, top_k=_SEEN))
    configured = _retrieval(config)
    model = Retrieval(
        search.candidates,
        client.embed,
        max_sentences=configured.max_sentences,
        min_similarity=configured.min_similarity,
    )
    try:
        await search(_WARM_UP)
        return [await _outcome(question, search, model) for question in asked]
    finally:
        await search.aclose()


async def _outcome(question: Question, search: Search, model: Retrieval) -> Outcome:
    began = time.perf_counter()
    hits = await search(question.question)
    seconds = time.perf_counter() - began
    names = [hit.filename for hit in hits]
    chat = llm.ChatContext.empty()
    chat.add_message(role="user", content=question.question)
    text, passages = await model.reply(chat)
    return Outcome(
        question,
        rank=names.index(question.file) + 1 if question.file in names else 0,
        given=any(question.answered_by(hit.content) for hit in hits),
        answer=text if passages else None,
        seconds=seconds,
    )


def _retrieval(config: Config) -> RetrievalLLM:
    """The LLM ``retrieval`` as it is configured, wherever it stands."""
    placed = (config.llm, config.stand_in.llm, *config.fallback.values())
    found = [one for one in placed if isinstance(one, RetrievalLLM)]
    return found[0] if found else RetrievalLLM("retrieval", "retrieval")


def figures(outcomes: list[Outcome]) -> Table:
    """The evaluation as rows of name, share and count."""
    known = [one for one in outcomes if one.question.file]
    unknown = [one for one in outcomes if not one.question.file]
    table = Table("", "share", "of", show_header=False)

    def row(name: str, counted: float, of: int) -> None:
        table.add_row(name, f"{counted / max(of, 1):.3f}", f"{counted:g} of {of}")

    row("hit@1", sum(one.rank == 1 for one in known), len(known))
    row(f"hit@{_SEEN}", sum(one.rank > 0 for one in known), len(known))
    reciprocal = statistics.fmean(1 / one.rank if one.rank else 0 for one in known) if known else 0
    table.add_row("MRR", f"{reciprocal:.3f}", f"{len(known)} questions")
    row(f"fact in the {_SEEN} hits", sum(one.given for one in known), len(known))
    row("retrieval says the fact", sum(one.right for one in known), len(known))
    row("retrieval declines", sum(one.right for one in unknown), len(unknown))
    p50, p95 = percentiles([one.seconds for one in outcomes])
    table.add_row("search, ms", f"{p50 * 1000:.1f}", f"median; 95th percentile {p95 * 1000:.1f}")
    return table


def percentiles(values: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    if len(values) < 2:
        return (values or [0.0])[0], (values or [0.0])[0]
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]


def _misses(outcomes: list[Outcome]) -> list[str]:
    lines = []
    for one in outcomes:
        if one.question.file and not one.rank:
            lines.append(f"not found: {one.question.question} ({one.question.file})")
        elif not one.right:
            wanted = " or ".join(one.question.fact) or "nothing"
            said = one.answer or "declined"
            lines.append(f"wrong: {one.question.question} [{wanted}] {said}")
    return lines


def _plain(text: Any) -> str:
    """For comparing: small letters, without markup and doubled spaces."""
    return " ".join(re.sub(r"[*_`|\\]+", " ", str(text)).casefold().split())
