"""``task=bench``: starts what is called, measures round after round, and tells the results."""

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runner import __version__, database
from runner.bench import knee, objectives, pareto, report
from runner.bench.arms import arms, check_installed
from runner.bench.results import Folder, Results, Run
from runner.bench.room import Rooms
from runner.bench.rounds import Bench
from runner.bench.summary import groups, names, table
from runner.bench.voices import Voices, voices
from runner.bench.watch import Watch
from runner.config import BenchTask, Config
from runner.fingerprint import of_configuration
from runner.folders import RESOURCES, cache_dir, documents_dir
from runner.progress import Progress as Parts
from runner.rag.document_embedding import document_embedder
from runner.rag.index import index
from runner.services import Supervisor
from runner.stack import Need, needs, stack

_POOL_SIZE = 8  # as task=index
_TABLE_WIDTH = 130  # a narrow terminal wraps it, which is better than columns of a letter
_MEASURES = ("transport", "turns", "turns_per_minute", "warm_up", "rest_s", "peers")


async def main(config: Config) -> float | tuple[float, ...]:
    """Measures the rounds that are missing, and writes the report over all that is in the folder.
    Returns ``task.objectives`` of what was asked for.

    Raises:
        RunnerError: a part is not there, or a peer is not installed.
    """
    task = config.task
    assert isinstance(task, BenchTask)
    check_installed(task)
    said = await voices(cache_dir(config.deployment))
    folder, run = Folder(Path(task.out)), _run(config, task, said)
    if not task.resume:
        folder.forget(run.run, task.callers, task.arms)
    folder.add_run(run)
    missing = [
        (number, name)
        for number in range(1, task.rounds + 1)
        for name in task.arms
        if not folder.read().has(run.run, name, task.callers, number)
    ]
    if missing:
        await _measure(config, task, said, folder, run, missing)
    folder.write_csv()
    results = folder.read()
    Console(width=max(Console().width, _TABLE_WIDTH)).print(table(results))
    found = groups(results)
    for line in knee.sentences(found, names(found, results)):
        print(line)
    print(f"The report: {report.write(results, folder.path)}")
    if task.pick:
        _pick(results, task)
    return objectives.value(found, (run.run, task.arms[0], task.callers), task.objectives)


def _pick(results: Results, task: BenchTask) -> None:
    """Of all that the folder has by now; after a sweep's last run it is the sweep's."""
    path = RESOURCES / "conf/experiment" / f"{task.pick}.yaml"
    best = pareto.pick(pareto.offers(results), task.p95_s)
    if best is None:
        print(f"No pick: nobody keeps a p95 of {task.p95_s:g} s (task.p95_s).")
        return
    pareto.write(best, results, task.p95_s, path)
    print(f"The pick: {path}. Serve it: python -m runner +experiment={task.pick}")


async def _measure(
    config: Config,
    task: BenchTask,
    said: Voices,
    folder: Folder,
    run: Run,
    missing: list[tuple[int, str]],
) -> None:
    async with AsyncExitStack() as exits:
        sockets = Path(exits.enter_context(TemporaryDirectory(prefix="bench-")))
        with Parts() as progress:
            in_rooms = task.transport == "room"
            wanted = needs(config) - (set() if in_rooms else {Need.LIVEKIT})
            running = await exits.enter_async_context(stack(config, wanted, progress))
            socket = running.endpoints.postgres_socket
            await database.prepare(config.database, socket, config.agent)
            rooms = Rooms(config, running.keys, _without_task(run)) if in_rooms else None
            if config.rag.enabled and not in_rooms:  # in rooms the runner does it itself
                await _index(config, socket, progress)
            supervisor = Supervisor(progress, config.deployment.ready_timeout_s)
            await exits.enter_async_context(supervisor)
            called = {arm.name: arm for arm in arms(config, socket, sockets, rooms)}
            await supervisor.start([arm.service() for arm in called.values()])
        with _bar(len(missing) * task.turns) as (bar, on_turn):
            bench = Bench(run.run, config, task, said, Watch(config.simulate), on_turn)
            for number, name in missing:
                bar(f"{name}, {task.callers} callers, round {number}")
                facts, turns = await bench.round(called[name], number)
                folder.add_round(facts, turns)


async def _index(config: Config, socket: str | None, progress: Parts) -> None:
    """Brings the documents up to date, as task=index does."""
    engine = database.engine(
        config.database, socket, pool_size=_POOL_SIZE, application_name="runner-bench"
    )
    embedder = document_embedder(config.rag)
    try:
        folder = documents_dir(config.rag.docs_dir)
        await index(engine, embedder, config.rag, folder, lambda line: progress("documents", line))
    finally:
        await embedder.aclose()
        await engine.dispose()


def _without_task(run: Run) -> list[str]:
    return [one for one in run.overrides if not one.lstrip("+").startswith("task")]


def _run(config: Config, task: BenchTask, said: Voices) -> Run:
    """Who is measured, and by what: rounds with the same fingerprint may be put together."""
    hydra = HydraConfig.get()
    overrides = [one for one in hydra.overrides.task if not one.startswith("task.callers")]
    measured = {name: value for name, value in asdict(task).items() if name in _MEASURES}
    whole = [of_configuration(config), measured, said.digest, __version__]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
    return Run(
        run=digest,
        overrides=overrides,
        digest=said.digest,
        machine=f"{platform.machine()} {platform.system()}",
        version=__version__,
        endpointing_delay_s=config.turn.endpointing_delay_s,
    )


@contextmanager
def _bar(total: int) -> Iterator[tuple]:  # type: ignore[type-arg]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        job = bars.add_task("", total=total)
        yield (
            lambda text: bars.update(job, description=text),
            lambda: bars.advance(job),
        )
