"""The rules that hold between keys. Types and bounds of single keys are in ``config``.

Every rule is a function that yields its problems; `check` raises them all at once.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pathspec import GitIgnoreSpec

from runner.candidates import llm_candidates, secret
from runner.config import (
    BenchTask,
    CallTask,
    Config,
    DbTask,
    GoogleLLM,
    GoogleRealtimeLLM,
    InstructionsTask,
    OpenAILLM,
    Operator,
)
from runner.errors import ConfigError, Problem, RunnerError
from runner.folders import data_dir

_SWEEPABLE = {
    *("bench", "call", "db", "doctor", "eval", "index"),
    *("instructions", "retention", "search"),
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TOKEN_CHARS = 20  # of the operator's token
_WHOLE_MACHINE = {"0.0.0.0", "::", ""}  # noqa: S104  (named to be refused)


def check(config: Config, *, sweep: bool = False) -> None:
    """Raises:
    ConfigError: with every rule that ``config`` breaks.
    RunnerError: a task that does not end was started under ``--multirun``.
    """
    if sweep and config.task.name not in _SWEEPABLE:
        raise RunnerError(
            f"task={config.task.name} does not end by itself, so --multirun would run the "
            "configurations one after another for ever. Start it without --multirun, or sweep "
            f"one of: {', '.join(sorted(_SWEEPABLE))}."
        )
    problems = [problem for rule in _RULES for problem in rule(config)]
    if problems:
        raise ConfigError(problems)


def check_contexts(config: Config) -> None:
    """The one rule that settings may break which change while calls run.

    Raises:
        ConfigError: an answer may take more of a context than there is.
    """
    if problems := list(_contexts(config)):
        raise ConfigError(problems)


def without_effect(config: Config) -> list[str]:
    """Sentences: which keys change nothing with this LLM, and why."""
    if not isinstance(config.llm, GoogleRealtimeLLM):
        return []
    name = config.llm.name
    turn = (
        "turn.endpointing_delay_s, turn.max_turn_s, turn.preemptive_generation and "
        "turn.min_interruption_s"
    )
    sentences = [
        f"stt_tts and gpu have no effect: {name} hears and speaks by itself.",
        f"fallback, failover and stand_in.llm have no effect: nothing steps in for {name}.",
        f"limits.llm_concurrency has no effect: livekit.max_calls bounds the calls of {name}.",
        f"{turn} have no effect: Google decides when a turn is over and what interrupts.",
        "agent.apology and agent.not_heard have no effect: nothing is there to say them.",
    ]
    if config.rag.enabled:
        sentences.append(
            "rag.deadline_ms has no effect: the documents are searched when the model asks for it."
        )
    return sentences


def _chunks(config: Config) -> Iterator[Problem]:
    if config.rag.chunk_overlap >= config.rag.chunk_size:
        yield Problem(
            "rag.chunk_overlap",
            config.rag.chunk_overlap,
            f"less than rag.chunk_size ({config.rag.chunk_size})",
            "Set rag.chunk_overlap=200 rag.chunk_size=1000.",
        )


def _exclude(config: Config) -> Iterator[Problem]:
    for pattern in config.rag.exclude:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError:
            yield Problem("rag.exclude", pattern, "a pattern as in a .gitignore")


def _pool(config: Config) -> Iterator[Problem]:
    low, high = config.database.min_connections, config.database.max_connections
    if low > high:
        yield Problem(
            "database.min_connections",
            low,
            f"at most database.max_connections ({high})",
            "Set POSTGRES_MIN_CONN or POSTGRES_MAX_CONN.",
        )


def _ports(config: Config) -> Iterator[Problem]:
    uses = {
        "livekit.url": urlsplit(config.livekit.url).port or 7880,
        "livekit.tcp_port": config.livekit.tcp_port,
        "livekit.udp_port": config.livekit.udp_port,
        "web.port": config.web.port,
        "operator.port": config.operator.port,
        "models.port": config.models.port,
    }
    if config.simulate:
        uses |= {"simulate.port": config.simulate.port}
        for name, server in config.simulate.servers.items():
            uses[f"simulate.servers.{name}.port"] = server.port
            if server.tls_port:
                uses[f"simulate.servers.{name}.tls_port"] = server.tls_port
    by_port: dict[int, list[str]] = defaultdict(list)
    for key, port in uses.items():
        by_port[port].append(key)
    for port, keys in by_port.items():
        if len(keys) > 1:
            yield Problem(keys[1], port, f"another port than {keys[0]}", f"Set {keys[1]}=….")


def _chain(config: Config) -> Iterator[Problem]:
    known = sorted(config.fallback)
    for name in config.failover.order:
        if name not in config.fallback:
            yield Problem(
                "failover.order",
                name,
                f"one of {', '.join(known)}",
                f"Place the provider with +llm@fallback.{name}={name}.",
            )
    for key, member in (
        *((f"fallback.{name}", llm) for name, llm in config.fallback.items()),
        ("stand_in.llm", config.stand_in.llm),
    ):
        if isinstance(member, GoogleRealtimeLLM):
            yield Problem(key, member.name, "an LLM that answers text", "It speaks by itself.")


def _contexts(config: Config) -> Iterator[Problem]:
    """What an LLM is sent must leave room for what it answers; headers are lines."""
    for key, member in (
        ("llm", config.llm),
        *((f"fallback.{name}", member) for name, member in config.fallback.items()),
    ):
        if isinstance(member, OpenAILLM | GoogleLLM):
            longest, context = member.max_tokens or 0, member.context_tokens
            if longest > context // 2:
                allowed = f"at most half of {key}.context_tokens ({context})"
                yield Problem(f"{key}.max_tokens", longest, allowed, "The rest is for the history.")
        if isinstance(member, OpenAILLM):
            for name, value in member.headers.items():
                if not (f"{name}{value}".isprintable() and name.isascii()):
                    yield Problem(f"{key}.headers", name, "a header of one printable line")


def _keys(config: Config) -> Iterator[Problem]:
    """An LLM must be left to ask when those without their keys are skipped."""
    if any(name not in config.fallback for name in config.failover.order):
        return
    chain = llm_candidates(config)
    alone = isinstance(config.llm, GoogleRealtimeLLM)
    candidates = chain[:1] if alone else chain
    if all(candidate.missing_key for candidate in candidates):
        variable = candidates[0].missing_key
        yield Problem("llm", config.llm.name, f"usable: {variable} is not set", f"Set {variable}.")


def _live(config: Config) -> Iterator[Problem]:
    """The Live API is a websocket over TLS, whatever the address begins with."""
    if isinstance(config.llm, GoogleRealtimeLLM) and config.llm.base_url.startswith("http:"):
        yield Problem("llm.base_url", config.llm.base_url, "one that begins with https://")


def _hosts(config: Config) -> Iterator[Problem]:
    for key, host in (("web.host", config.web.host), ("models.host", config.models.host)):
        if host in _WHOLE_MACHINE:
            yield Problem(
                key, host, "one address, not all of them", f"Set {key}=127.0.0.1, or name one."
            )
    yield from _token(config.operator)


def _token(operator: Operator) -> Iterator[Problem]:
    """Who may reach the operator's port from elsewhere must show a token."""
    variable = operator.token_env
    token = secret(variable)
    if token and len(token) < _TOKEN_CHARS:
        mend = f"Set {variable} to the output of: openssl rand -hex 32"
        yield Problem(
            "operator.token_env", variable, f"a variable of {_TOKEN_CHARS} characters or more", mend
        )
    if not token and operator.host not in _LOOPBACK:
        yield Problem(
            "operator.host",
            operator.host,
            f"one of {', '.join(_LOOPBACK)} while there is no token to it",
            f"Set operator.host=127.0.0.1, or {variable} to the output of: openssl rand -hex 32",
        )


def _files(config: Config) -> Iterator[Problem]:
    if isinstance(config.task, CallTask):
        for name in config.task.audio:
            if not Path(name).is_file():
                yield Problem("task.audio", name, "a WAV file that exists")
    if isinstance(config.task, DbTask) and config.task.action != "url" and not config.task.file:
        yield Problem("task.file", "", "the file of the backup", "Set task.file=agent.zip.")
    folder = data_dir(config.deployment)
    if folder.exists() and not folder.is_dir():
        yield Problem("deployment.data_dir", str(folder), "a folder")


def _instructions(config: Config) -> Iterator[Problem]:
    """What an action of task=instructions needs."""
    task = config.task
    if not isinstance(task, InstructionsTask):
        return
    match task.action:
        case "show" if task.id is None and task.version is None:
            yield _needed("task.id")
        case "edit" | "activate" | "deactivate" if task.id is None:
            yield _needed("task.id")
        case "restore" if task.version is None:
            yield _needed("task.version")
        case "add" if task.persona is None:
            yield _needed("task.persona")
    if task.action == "add" and task.text is None and not task.file:
        yield _needed("task.text")
    changes = (task.persona, task.language, task.greeting, task.text)
    if task.action == "edit" and not task.file and all(change is None for change in changes):
        yield Problem("task.text", None, "set, or another of what may change", "Add task.text=….")
    if task.text is not None and task.file:
        yield Problem("task.file", task.file, "empty where task.text is set")


def _needed(key: str) -> Problem:
    return Problem(key, None, "set for this task.action", f"Add {key}=….")


def _bench(config: Config) -> Iterator[Problem]:
    """Who is called must be known, and the pick's name is a file's."""
    task = config.task
    if not isinstance(task, BenchTask):
        return
    known = ["runner", *task.peers]
    for name in task.arms:
        if name not in known:
            yield Problem("task.arms", name, f"one of {', '.join(known)}")
    if task.pick and not task.pick.isidentifier():
        yield Problem("task.pick", task.pick, "a name of letters, digits and underscores")
    if task.transport == "memory" and isinstance(config.llm, GoogleRealtimeLLM):
        yield Problem("task.transport", "memory", "room: this LLM hears and speaks by itself")


_RULES = (
    *(_chunks, _exclude, _pool, _ports, _chain, _contexts, _keys, _live, _hosts, _files),
    *(_instructions, _bench),
)
