"""Settings that change while calls run: rows of ``system_config`` whose keys are those of the
configuration. Every new session has the latest; calls in progress keep theirs.
"""

import difflib
import logging
import reprlib
from collections.abc import Mapping

from runner import checks
from runner.config import Config, change
from runner.errors import ConfigError, DatabaseError
from runner.store import Store

log = logging.getLogger(__name__)

LIVE = {
    "llm.temperature": "how freely the LLM answers, 0 to 2",
    "llm.max_tokens": "its longest answer",
    "llm.first_token_s": "time for its first word",
    "llm.stall_s": "longest pause in its answer",
    "fallback.*.temperature": "the same of an LLM of the failover, such as fallback.ollama",
    "fallback.*.max_tokens": "its longest answer",
    "fallback.*.first_token_s": "time for its first word",
    "fallback.*.stall_s": "longest pause in its answer",
    "failover.tries": "rounds over a chain in which nobody answered",
    "failover.backoff_s": "wait before the second round",
    "failover.hedge_after_s": "after so long the next provider is asked, too; null: never",
    "failover.patience_s": "for a provider that has nobody behind it",
    "failover.total_s": "longest answer, with all that it took",
    "stt_tts.stt.timeout_s": "time for a transcript",
    "stt_tts.tts.first_audio_s": "time for the first sound",
    "stt_tts.tts.stall_s": "longest pause in the sound",
    "stt_tts.tts.speed": "how fast the voice speaks",
    "turn.endpointing_delay_s": "silence after which a turn is over",
    "turn.vad_silence_s": "silence after which speech has ended",
    "turn.transcribe_after_s": "silence after which it is transcribed ahead",
    "turn.preemptive_generation": "think ahead, before the turn is over",
    "turn.min_interruption_s": "speech that is shorter does not interrupt",
    "rag.enabled": "answers come from the documents; true needs a runner that indexed them",
    "rag.hybrid": "search by rare words, too",
    "rag.top_k": "passages given to the LLM",
    "rag.min_similarity": "passages that are farther off are not given",
    "rag.deadline_ms": "time for the search",
    "sessions.timeout_minutes": "without a word for so long, a session ends; for all sessions",
    "log.level": "of a call's own lines",
    "log.transcripts": "what callers say may appear in the log",
}
"""Every key that may stand in ``system_config``, and what it does. ``*``: any one part."""


def overlay(config: Config, settings: Mapping[str, object]) -> tuple[Config, list[str]]:
    """``settings`` laid over ``config``, and a sentence for each that is ignored. The others hold:
    each is checked alone, as at the start of the program."""
    ignored = []
    for key, value in sorted(settings.items()):
        if not _is_live(key):
            ignored.append(f"system_config: {key} is ignored: {_unknown(key)}.")
            continue
        try:
            changed = change(config, key, value)
            checks.check_contexts(changed)
        except ConfigError as error:
            allowed = error.problems[0].allowed
            ignored.append(
                f"system_config: {key} is ignored: it is {reprlib.repr(value)}, and must be "
                f"{allowed}."
            )
        else:
            config = changed
    return config, ignored


async def live_config(store: Store, config: Config) -> Config:
    """``config`` with the settings of this moment; as it is while the database is away. What is
    ignored is told by `Settings`, not again by each call."""
    try:
        return overlay(config, await store.live_settings())[0]
    except DatabaseError as error:
        log.warning("the settings are the configuration's: %s", error)
        return config


class Settings:
    """What ``system_config`` says, watched by the worker: it tells each change once."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._composed = config
        self._rows: dict[str, object] = {}
        self._told: set[str] = set()
        self.config = config
        """The configuration of the next call."""

    async def look(self) -> None:
        """Reads them anew, and logs what is new and what of it is ignored.

        Raises:
            DatabaseError: they cannot be read; they stay as they were.
        """
        rows = await self._store.live_settings()
        if rows == self._rows:
            return
        self._rows = rows
        self.config, ignored = overlay(self._composed, rows)
        for sentence in ignored:
            if sentence not in self._told:
                log.warning("%s", sentence)
        self._told = set(ignored)
        in_use = sorted(key for key in rows if not any(f" {key} is" in said for said in ignored))
        log.info("new calls have these settings of system_config: %s", ", ".join(in_use) or "none")


def _is_live(key: str) -> bool:
    parts = key.split(".")
    return any(
        len(parts) == len(known)
        and all(of_known in ("*", part) for part, of_known in zip(parts, known, strict=True))
        for known in (live.split(".") for live in LIVE)
    )


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, LIVE, n=1)
    if near:
        return f"no such setting changes while calls run; {near[0]} does"
    return "no such setting changes while calls run; docs/configuration.md lists those that do"
