"""Sentences whose sound is kept: when they are asked of nobody, and what is never kept."""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from livekit.agents import APIError

from runner import kept as shelf
from runner.breaker import State
from runner.chains import TTSChain
from runner.clauses import cut
from runner.config import Failover
from runner.failover import Chain, Member
from runner.kept import KEPT, Kept, Voice
from runner.providers.failure import Failure, Reason

GREETING = "Hello there."
VOICE = Voice("a", "localhost:8003/v1", "kokoro", "af_heart", 1.0, 24_000)
VOICES = {"a": VOICE, "b": replace(VOICE, provider="b")}
SECOND = b"\x01\x02" * 24_000
OTHER_SECOND = b"\x03\x04" * 24_000
DEAD = Failure(Reason.UNREACHABLE, "connection refused")


class Desk:
    """Keeps what it is told; providers in ``alone`` are left alone."""

    def __init__(self) -> None:
        self.reports: list[object] = []
        self.alone: set[str] = set()

    def state(self, key: tuple[str, str]) -> State:
        return State.OPEN if key[1] in self.alone else State.CLOSED

    def report(self, outcome: object) -> None:
        self.reports.append(outcome)


class Speaker:
    """A TTS that speaks so, or fails; it keeps what it was asked."""

    model = "kokoro"

    def __init__(self, *script: bytes | Exception) -> None:
        self.script = script
        self.asked: list[str] = []

    async def pcm(self, text: str) -> AsyncGenerator[bytes, None]:
        self.asked.append(text)
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            yield step


@pytest.fixture
def policy() -> Failover:
    return Failover(
        order=[],
        tries=1,
        backoff_s=0.01,
        hedge_after_s=None,
        patience_s=5,
        total_s=10,
        breaker=None,  # type: ignore[arg-type]  the desk has none
    )


def keeper(folder: Path) -> Kept:
    return Kept(folder, VOICES, [GREETING])


def chain(policy: Failover, desk: Desk, kept: Kept, *speakers: Speaker) -> TTSChain:
    members = [
        Member(name, speaker, speaker.model, 5, 5)
        for name, speaker in zip("ab", speakers, strict=False)
    ]
    return TTSChain(Chain("TTS", members, desk, policy), kept)


async def said(voices: TTSChain, text: str) -> bytes:
    frame = await voices.synthesize(text).collect()
    return bytes(frame.data).rstrip(b"\0")


async def until_kept(folder: Path, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(list(folder.glob("*.pcm"))) < count:  # noqa: ASYNC110  a thread writes it
            await asyncio.sleep(0.005)


async def test_a_kept_sentence_is_asked_once_and_then_said_by_nobody(
    policy: Failover, tmp_path: Path
) -> None:
    desk, speaker = Desk(), Speaker(SECOND)
    assert await said(chain(policy, desk, keeper(tmp_path), speaker), GREETING) == SECOND
    await until_kept(tmp_path)
    again = chain(policy, desk, keeper(tmp_path), speaker)
    assert await said(again, GREETING) == SECOND
    assert speaker.asked == [GREETING]
    assert len(desk.reports) == 1
    record = again.taken().metadata()
    assert (record["provider"], record["model"], record["failovers"]) == (KEPT, "kokoro", [])


async def test_it_is_said_when_every_voice_is_dead(policy: Failover, tmp_path: Path) -> None:
    await keeper(tmp_path).write(GREETING, "b", SECOND)
    voices = chain(policy, Desk(), keeper(tmp_path), Speaker(DEAD), Speaker(DEAD))
    assert await said(voices, GREETING) == SECOND
    record = voices.taken().metadata()
    assert record["provider"] == KEPT
    assert [tried["provider"] for tried in record["failovers"]] == ["a", "b"]


async def test_the_first_voice_is_preferred_to_the_kept_sound_of_the_second(
    policy: Failover, tmp_path: Path
) -> None:
    desk, first = Desk(), Speaker(OTHER_SECOND)
    await keeper(tmp_path).write(GREETING, "b", SECOND)
    voices = chain(policy, desk, keeper(tmp_path), first, Speaker(DEAD))
    assert await said(voices, GREETING) == OTHER_SECOND
    desk.alone = {"a"}
    (tmp_path / f"{VOICE.key(GREETING)}.pcm").unlink(missing_ok=True)
    assert await said(chain(policy, desk, keeper(tmp_path), first), GREETING) == OTHER_SECOND


async def test_the_second_s_is_said_while_the_first_is_left_alone(
    policy: Failover, tmp_path: Path
) -> None:
    desk, first = Desk(), Speaker(OTHER_SECOND)
    desk.alone = {"a"}
    await keeper(tmp_path).write(GREETING, "b", SECOND)
    voices = chain(policy, desk, keeper(tmp_path), first, Speaker(DEAD))
    assert await said(voices, GREETING) == SECOND
    assert first.asked == []


async def test_nothing_else_is_kept(policy: Failover, tmp_path: Path) -> None:
    voices = chain(policy, Desk(), keeper(tmp_path), Speaker(SECOND))
    await said(voices, "Your account number is 12.")
    await said(voices, GREETING)
    await until_kept(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{VOICE.key(GREETING)}.pcm"]


async def test_not_even_when_it_is_told_to(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    kept.keep("Your account number is 12.", "a", SECOND)
    kept.keep(GREETING, "a", SECOND)
    await until_kept(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{VOICE.key(GREETING)}.pcm"]


async def test_a_sentence_that_broke_off_is_not_kept(policy: Failover, tmp_path: Path) -> None:
    cut_off = Failure(Reason.CUT, "the connection broke")
    kept = keeper(tmp_path)
    await said(chain(policy, Desk(), kept, Speaker(SECOND, cut_off)), GREETING)
    await said(chain(policy, Desk(), kept, Speaker(OTHER_SECOND)), GREETING)
    await until_kept(tmp_path)
    voices = chain(policy, Desk(), kept, Speaker(DEAD))
    assert await said(voices, GREETING) == OTHER_SECOND


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "b"},
        {"address": "elsewhere:8003/v1"},
        {"model": "piper"},
        {"voice": "af_bella"},
        {"speed": 1.1},
        {"rate_hz": 16_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_makes_another_sound_is_kept_apart(change: dict[str, object]) -> None:
    assert replace(VOICE, **change).key(GREETING) != VOICE.key(GREETING)
    assert VOICE.key(GREETING) != VOICE.key("Hello there!")


async def test_what_nobody_can_speak_is_told_unless_it_is_a_kept_sentence(
    policy: Failover, tmp_path: Path
) -> None:
    told: list[str] = []
    for sentence in ("An answer.", GREETING):
        voices = chain(policy, Desk(), keeper(tmp_path), Speaker(DEAD))
        voices.on_mute = lambda sentence=sentence: told.append(sentence)
        with pytest.raises(APIError, match="no TTS answered"):
            await said(voices, sentence)
    assert told == ["An answer."]


async def test_the_folder_keeps_what_was_played_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_FOLDER_FILES", 2)
    kept = Kept(tmp_path, VOICES, ["One.", "Two.", "Three."])
    for age_s, sentence in ((20, "One."), (10, "Two.")):
        await kept.write(sentence, "a", SECOND)
        path = tmp_path / f"{VOICE.key(sentence)}.pcm"
        os.utime(path, (path.stat().st_atime - age_s, path.stat().st_mtime - age_s))
    assert await kept.find("One.", ["a"])
    await kept.write("Three.", "a", SECOND)
    assert kept.missing("a") == ["Two."]
    monkeypatch.setattr(shelf, "_FOLDER_BYTES", len(SECOND))
    await kept.write("Two.", "a", SECOND)
    assert len(kept.missing("a")) == 2


async def test_a_folder_that_cannot_be_written_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    kept = keeper(taken)
    await kept.write(GREETING, "a", SECOND)
    assert await kept.find(GREETING, ["a"]) is None
    assert "is not kept" in caplog.text


async def test_a_text_is_cut_as_it_is_spoken() -> None:
    assert await cut("**Hello**, dear caller: how are you today? \N{WAVING HAND SIGN} Ask me.") == [
        "Hello, dear caller:",
        "how are you today?  Ask me.",
    ]
    assert await cut("") == []
