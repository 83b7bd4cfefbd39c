"""``task=doctor``: a line for each part of the composed configuration, and whether a call could
be served. What ``serve`` would start is started for the time of the check."""

import importlib.util
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum

import psutil
from livekit.agents import APIError
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import checks, database, measure, probes
from runner.config import Config, DoctorTask
from runner.errors import RunnerError
from runner.folders import data_dir, documents_dir
from runner.probes import Finding
from runner.progress import Progress
from runner.rag.chunks import amount
from runner.stack import Running, needs, stack

_SLOW_QUERY_MS = 10.0  # the specification's figures: queries under 10 ms, search under 50 ms
_SLOW_SEARCH_MS = 50.0
_SLOW_WORD_MS = 1000.0
_LEAST_FREE_DISK_MB = 500
_LEAST_FREE_MEMORY_MB = 500
_REALTIME = 1.0
_MB = 1024 * 1024


class State(StrEnum):
    """``broken`` may be harmless where another member of the chain serves."""

    OK = "ok"
    STAND_IN = "stand-in"
    SLOW = "slow"
    BROKEN = "broken"


@dataclass(frozen=True)
class Line:
    """One part: what it is, how it is, what to do. ``vital``: without it no call is served."""

    part: str
    state: State
    detail: str
    mend: str = ""
    vital: bool = False

    def __str__(self) -> str:
        text = f"{self.state:<9} {self.part:<22} {self.detail}"
        return f"{text}\n{'':<33}→ {self.mend}" if self.mend else text


async def main(config: Config) -> int:
    """Prints the lines; exit status 1 if a call could not be served."""
    lines = [line async for line in _lines(config)]
    for line in lines:
        print(line)
    served = not any(line.vital and line.state is State.BROKEN for line in lines)
    print("\nA call would be served." if served else "\nA call could NOT be served.")
    return 0 if served else 1


async def _lines(config: Config) -> AsyncIterator[Line]:
    for line in _machine(config):
        yield line
    for sentence in checks.without_effect(config):
        yield Line("no effect", State.OK, sentence)
    async with AsyncExitStack() as exits:
        try:
            with Progress() as progress:
                running = await exits.enter_async_context(stack(config, needs(config), progress))
                socket = running.endpoints.postgres_socket
                await database.prepare(config.database, socket, config.agent)
        except RunnerError as error:
            yield Line("services", State.BROKEN, str(error), vital=True)
        else:
            for line in await _services(config, running):
                yield line
        task = config.task
        assert isinstance(task, DoctorTask)
        lines, served = await _chains(config, task.timeout_s)
        for line in lines:
            yield line
        if served:
            for line in (*await _answers(config), await _speech(config)):
                yield line


async def of_running(config: Config, running: Running, timeout_s: float) -> list[Line]:
    """The same of what runs already, without a word that costs a model its time: calls go on."""
    lines, _ = await _chains(config, timeout_s)
    return [*_machine(config), *await _services(config, running), *lines]


def _machine(config: Config) -> list[Line]:
    """Memory, disk, packages: what makes everything else fail in odd ways."""
    lines = []
    memory_mb = psutil.virtual_memory().available // _MB
    short = memory_mb < _LEAST_FREE_MEMORY_MB
    mend = "Lower livekit.idle_processes and database.max_connections, or end other programs."
    lines.append(_line("memory", f"{memory_mb} MB free", mend if short else ""))
    folder = data_dir(config.deployment)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    disk_mb = shutil.disk_usage(existing).free // _MB
    full = disk_mb < _LEAST_FREE_DISK_MB
    mend = f"Free some space, or set deployment.data_dir to another disk than {folder}."
    lines.append(_line("disk", f"{disk_mb} MB free at {folder}", mend if full else ""))
    if config.rag.enabled:
        docling = importlib.util.find_spec("docling") is not None
        mend = "Install it: pip install voice-agent-runner"
        lines.append(
            _line("docling", "installed" if docling else "missing", "" if docling else mend)
        )
        lines.append(_documents_folder(config))
    return lines


def _documents_folder(config: Config) -> Line:
    folder = documents_dir(config.rag.docs_dir)
    if not folder.is_dir():
        return _line("documents folder", f"{folder} is missing", "Create it, or set rag.docs_dir.")
    return _line("documents folder", str(folder), "")


async def _services(config: Config, running: Running) -> list[Line]:
    """What the stack holds: database with its contents, LiveKit."""
    socket = running.endpoints.postgres_socket
    lines = [Line("note", State.STAND_IN, note) for note in running.endpoints.notes]
    trouble = await database.probe(config.database, socket)
    if trouble:
        return [*lines, Line("database", State.BROKEN, trouble, vital=True)]
    engine = database.engine(config.database, socket, pool_size=1, application_name="doctor")
    try:
        where = "embedded" if socket else f"{config.database.host}:{config.database.port}"
        lines += await _database(config, engine, where)
    finally:
        await engine.dispose()
    lines.append(Line("livekit", State.OK, f"{config.livekit.url}, key accepted"))
    return lines


async def _database(config: Config, engine: AsyncEngine, where: str) -> list[Line]:
    lines = []
    facts = await measure.database(engine)
    detail = f"PostgreSQL {facts.version}, pgvector {facts.vector}, {where}"
    mend = "REINDEX TABLE agent_sessions; and look for other load on the database."
    lines.append(_measured("database", detail, facts.query_ms, _SLOW_QUERY_MS, mend))
    mend = (
        "No row of agent_instructions is active in local mode; the YAML's agent is used. "
        "UPDATE agent_instructions SET is_active = true, is_local_mode = true WHERE id = …;"
    )
    lines.append(
        _line("instructions", f"{facts.instructions} active", "" if facts.instructions else mend)
    )
    mend = "Restart the runner: two calls share a session_id, which the schema forbids."
    shared = facts.shared_sessions
    lines.append(_line("sessions", f"{shared} shared by calls", mend if shared else ""))
    if config.rag.enabled:
        mend = f"Put .md or .txt files into {documents_dir(config.rag.docs_dir)}, then task=index."
        detail = f"{amount(facts.documents, 'document')} in {amount(facts.chunks)}"
        lines.append(_line("documents", detail, "" if facts.chunks else mend))
        lines.append(await _search(config, engine))
    return lines


async def _search(config: Config, engine: AsyncEngine) -> Line:
    try:
        search_ms = await measure.search(config, engine)
    except RunnerError as error:
        return Line("search", State.BROKEN, str(error), "Answers go out without documents.")
    mend = "Look at the load of the embedding server (rag.embedding_url) and the database."
    return _measured("search", config.rag.embedding_url, search_ms, _SLOW_SEARCH_MS, mend)


async def _chains(config: Config, timeout_s: float) -> tuple[list[Line], bool]:
    """Each member of the chains; a chain is broken when none of its members serves. And whether
    there are any that hear and speak."""
    llms = await probes.probe_llms(config, timeout_s)
    stt, tts = await probes.probe_speech(config, timeout_s)
    lines = [*_chain("LLM", llms), *_chain("STT", stt), *_chain("TTS", tts)]
    return lines, bool(stt and tts)


def _chain(capability: str, chain: list[Finding]) -> list[Line]:
    nobody = all(finding.trouble for finding in chain)
    return [_member(capability, finding, vital=nobody) for finding in chain]


def _member(capability: str, finding: Finding, *, vital: bool) -> Line:
    part = f"{capability} {finding.name}"
    if finding.trouble:
        return Line(part, State.BROKEN, finding.sentence, finding.hint, vital)
    took = "" if finding.latency_ms is None else f", {finding.latency_ms:.0f} ms"
    detail = f"{finding.address} {finding.model}".strip() or "reads from the documents"
    return Line(part, State.STAND_IN if finding.stand_in else State.OK, detail + took)


async def _answers(config: Config) -> list[Line]:
    """A greeting answered: a server that lists a model may still take seconds to speak, or say
    nothing."""
    try:
        name, took_ms, odd = await measure.first_word(config)
    except (APIError, RunnerError) as error:
        return [Line("answer", State.BROKEN, str(error), "See the lines of LLM.", vital=True)]
    mend = "Lower vLLM's --max-model-len, take a smaller model, or another llm."
    served = _measured("answer", f"first word of {name}", took_ms, _SLOW_WORD_MS, mend)
    return [*(Line("answer", State.BROKEN, sentence) for sentence in odd), served]


async def _speech(config: Config) -> Line:
    """A sentence spoken and heard again: a server that lists a model may still fail to run it."""
    try:
        facts = await measure.speech(config)
    except APIError as error:
        return Line("speech", State.BROKEN, str(error), "See the lines of STT and TTS.", vital=True)
    detail = (
        f"{facts.tts} speaks after {facts.first_audio_ms:.0f} ms at {facts.realtime_factor:.2f} of "
        f"real time, {facts.stt} hears in {facts.transcribed_ms:.0f} ms: {facts.heard!r}"
    )
    if facts.realtime_factor < _REALTIME:
        return Line("speech", State.OK, detail)
    mend = "Too slow to talk with; use a GPU (gpu=split) or stt_tts=embedded."
    return Line("speech", State.SLOW, detail, mend)


def _line(part: str, detail: str, mend: str) -> Line:
    """Ok without a mend, else broken, though a call may still be served."""
    return Line(part, State.BROKEN if mend else State.OK, detail, mend)


def _measured(part: str, detail: str, took_ms: float, most_ms: float, mend: str) -> Line:
    slow = took_ms > most_ms
    state = State.SLOW if slow else State.OK
    return Line(part, state, f"{detail}, {took_ms:.1f} ms", mend if slow else "")
