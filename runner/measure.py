"""How fast the parts are right now: what doctor measures where a mere answer says too little."""

import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import llm
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import build, sql
from runner.config import Config
from runner.metrics import Metrics
from runner.providers.failure import Reason
from runner.rag import embedding
from runner.rag.search import Search

_TOLD_BY_PROBES = (Reason.UNREACHABLE, Reason.REFUSED)
_SENTENCE = "The quick brown fox jumps over the lazy dog."
_GREETING = "Hello"
_QUESTION = "How do I change the greeting?"


@dataclass(frozen=True)
class DatabaseFacts:
    """What the database holds. ``shared_sessions``: ids that two sessions carry; always 0."""

    version: str
    vector: str
    instructions: int
    documents: int
    chunks: int
    shared_sessions: int
    query_ms: float


@dataclass(frozen=True)
class SpeechFacts:
    """A sentence spoken and heard again. ``realtime_factor``: seconds of work a second of audio."""

    tts: str
    first_audio_ms: float
    realtime_factor: float
    stt: str
    transcribed_ms: float
    heard: str


async def database(engine: AsyncEngine) -> DatabaseFacts:
    """The counts, and the time of the specification's query for active sessions."""
    async with engine.connect() as connection:
        facts = (
            await connection.execute(text(sql.queries("doctor.sql")["database_facts"]))
        ).mappings()
        row = facts.one()
        begin = time.perf_counter()
        await connection.execute(text(sql.queries("doctor.sql")["latest_active_sessions"]))
        query_ms = (time.perf_counter() - begin) * 1000
    return DatabaseFacts(**row, query_ms=query_ms)


async def search(config: Config, engine: AsyncEngine) -> float:
    """Milliseconds of one search, from the question to its passages, once warm.

    Raises:
        ProviderError: the embedding server does not answer.
    """
    embedder = embedding.embedder(config.rag)
    search = Search(engine, embedder, config.rag)
    try:
        await search("warm up")
        begin = time.perf_counter()
        await search(_QUESTION)
        return (time.perf_counter() - begin) * 1000
    finally:
        await search.aclose()
        await embedder.aclose()


async def first_word(config: Config) -> tuple[str, float, list[str]]:
    """Who of the chain of LLMs answers a greeting, after how many milliseconds, and what the others
    did that were asked before it and seem to be there.

    Raises:
        APIError: none does.
        ProviderError: none of them has its key.
    """

    async def nothing(_: object) -> list[Any]:
        return []

    async with aiohttp.ClientSession() as http, build.switchboard(config, http, Metrics()) as desk:
        llms = build.llm_chain(config, desk, http, nothing, nothing)
        greeting = llm.ChatContext.empty()
        greeting.add_message(role="user", content=_GREETING)
        begin = time.perf_counter()
        async with aclosing(llms), llms.chat(chat_ctx=greeting) as stream:
            async for chunk in stream:
                if chunk.has_response():
                    break
            first_s = time.perf_counter() - begin
            record = llms.chain.latest
            odd = [tried.message for tried in record.failed if tried.reason not in _TOLD_BY_PROBES]
            return record.speaker or "", first_s * 1000, odd


async def speech(config: Config) -> SpeechFacts:
    """Speaks a sentence through the TTS chain and lets the STT chain hear it.

    Raises:
        APIError: no member of a chain served.
    """
    async with aiohttp.ClientSession() as http, build.switchboard(config, http, Metrics()) as desk:
        tts, stt = build.tts_chain(config, desk, http), build.stt_chain(config, desk, http)
        begin = time.perf_counter()
        frames: list[rtc.AudioFrame] = []
        first_audio_ms = 0.0
        async with tts.synthesize(_SENTENCE) as stream:
            async for audio in stream:
                first_audio_ms = first_audio_ms or (time.perf_counter() - begin) * 1000
                frames.append(audio.frame)
        spoken_s = time.perf_counter() - begin
        begin = time.perf_counter()
        event = await stt.recognize(frames)
        return SpeechFacts(
            tts=tts.chain.latest.speaker or "",
            first_audio_ms=first_audio_ms,
            realtime_factor=spoken_s / sum(frame.duration for frame in frames),
            stt=stt.chain.latest.speaker or "",
            transcribed_ms=(time.perf_counter() - begin) * 1000,
            heard=event.alternatives[0].text if event.alternatives else "",
        )
