"""What strangers and callers may try, and where secrets might get out: real runners and rooms."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import aiohttp
import psutil
import psycopg
import pytest
from livekit import api
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import pgwheel
from runner.config import Database
from runner.folders import RESOURCES
from runner.rag.shelf import Entry, Shelf
from runner.store import Opening, Store
from tests.calls.conftest import ROOT, Runner
from tests.faults.caller import ask_token, calling
from tests.faults.conftest import CANARIES, SECRET

DAY_S = 86_400
FLOOD = 60
ALLOWED = 30  # web.tokens_per_minute
FLOODER = "127.0.0.2"
QUESTION = "Are you there?"
PASSWORD = "canary-password-7f3a"


async def test_32_a_flood_of_requests_for_tokens_is_turned_away_and_the_call_goes_on(
    running: Runner,
) -> None:
    async with calling(running) as caller:
        answers = await asyncio.gather(*(ask_token(running, FLOODER) for _ in range(FLOOD)))
        statuses = [status for status, _ in answers]
        assert set(statuses) == {201, 429}
        assert statuses.count(201) <= ALLOWED
        assert await caller.ask(QUESTION)


def forged(token: str, **changes: object) -> str:
    """The same token with other claims, and the old signature."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return ".".join([head, packed(claims | changes), signature])


def packed(claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def unsigned(token: str) -> str:
    """The token with the algorithm that signs nothing."""
    return f"{packed({'alg': 'none', 'typ': 'JWT'})}.{token.split('.')[1]}."


def signed(secret: str, room: str, ttl_s: int = 60) -> str:
    """A token for somebody else's room."""
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken("key", secret).with_identity("thief").with_grants(grants)
    return token.with_ttl(timedelta(seconds=ttl_s)).to_jwt()


async def admitted(runner: Runner, token: str) -> bool:
    """Whether the LiveKit server would let somebody in with ``token``."""
    [url] = [item.partition("=")[2] for item in runner.overrides if "livekit.url" in item]
    url = url.replace("ws://", "http://") + "/rtc/validate"
    async with aiohttp.request("GET", url, params={"access_token": token}) as answer:
        return answer.status == 200


async def test_33_no_other_token_than_ours_opens_a_room(running: Runner) -> None:
    async with calling(running) as caller:
        token, room = caller.token, caller.room.name
        assert await admitted(running, token)
        for wrong in (
            forged(token, video={"roomJoin": True, "room": "another"}),
            forged(token, sub="thief"),
            unsigned(token),
            signed("another-secret-of-forty-characters-xxxxx", room),
            signed(SECRET, room, ttl_s=-DAY_S),
            "",
            "no.token.atall",
        ):
            assert not await admitted(running, wrong), wrong
            status, answer = await resume(running, wrong)
            assert status == 403, answer
        assert not await admitted(running, signed(SECRET, room, ttl_s=-60))
        assert await caller.ask(QUESTION)


async def resume(runner: Runner, token: str) -> tuple[int, dict[str, object]]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{runner.url}/api/token", json={"resume": token}) as answer,
    ):
        return answer.status, await answer.json()


async def test_33_a_caller_s_token_opens_no_other_door(running: Runner) -> None:
    async with calling(running) as caller, calling(running) as other:
        [url] = [item.partition("=")[2] for item in running.overrides if "livekit.url" in item]
        headers = {"Authorization": f"Bearer {caller.token}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for method, body in (
                ("ListRooms", {}),
                ("ListParticipants", {"room": other.room.name}),
                ("DeleteRoom", {"room": other.room.name}),
                ("DeleteRoom", {"room": caller.room.name}),
                ("SendData", {"room": other.room.name, "data": "aGk="}),
                ("CreateRoom", {"name": "mine"}),
            ):
                door = f"{url.replace('ws://', 'http://')}/twirp/livekit.RoomService/{method}"
                async with http.post(door, json=body) as answer:
                    assert answer.status in (401, 403), (method, answer.status)
        assert await other.ask(QUESTION)


METACHARACTERS = "Robert'); DROP TABLE agent_sessions; -- \" %s %(x)s :name $1 \\ {} ; */ .md"


async def test_37_metacharacters_are_stored_as_they_are(
    engine: AsyncEngine, superuser: psycopg.Connection, postgres_socket: str, database: Database
) -> None:
    session, store = uuid.uuid4(), Store(engine)
    opening = Opening(
        room_id=METACHARACTERS,
        participant_id=METACHARACTERS,
        llm_provider=METACHARACTERS[:50],
        context={METACHARACTERS: METACHARACTERS},
    )
    await store.open_session(session, opening)
    metadata: dict[str, object] = {METACHARACTERS: [METACHARACTERS]}
    await store.add_message(
        session, uuid.uuid4(), role="user", content=METACHARACTERS, metadata=metadata
    )
    chunk = Entry(METACHARACTERS, [0.1] * 384, {"heading": METACHARACTERS})
    await Shelf(engine).replace(METACHARACTERS, "hash", [chunk])

    [row] = superuser.execute(
        "SELECT room_id, participant_id, llm_provider, context FROM agent_sessions"
    ).fetchall()
    assert row == (METACHARACTERS, METACHARACTERS, METACHARACTERS[:50], opening.context)
    [row] = superuser.execute("SELECT content, metadata FROM conversation_messages").fetchall()
    assert row == (METACHARACTERS, metadata)
    assert await Shelf(engine).documents() == {METACHARACTERS: "hash"}

    shown = monitored(postgres_socket, database, session_id=str(session), filename=METACHARACTERS)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count(METACHARACTERS) >= 4
    await Shelf(engine).remove([METACHARACTERS])
    assert await Shelf(engine).documents() == {}


def monitored(
    socket: str, database: Database, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What ``sql/monitoring.sql`` prints for these values."""
    return subprocess.run(
        [
            str(pgwheel.binaries(Path(), shared=False) / "psql"),
            *("-h", socket, "-U", "postgres", "-d", database.name, "-X", "-At"),
            *(f"--set={name}={value}" for name, value in variables.items()),
            *("-v", "ON_ERROR_STOP=1", "-f", str(RESOURCES / "sql" / "monitoring.sql")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


async def test_37_what_a_caller_writes_is_stored_as_it_is(running: Runner) -> None:
    async with calling(running) as caller:
        assert await caller.ask(METACHARACTERS)
        room = caller.room.name
    row = running.until(
        "SELECT message.content FROM conversation_messages AS message "
        f"JOIN agent_sessions USING (session_id) WHERE room_id = '{room}' AND role = 'user'"
    )
    assert row["content"] == METACHARACTERS


def told(text: str) -> list[str]:
    """The secrets that ``text`` gives away."""
    return [secret for secret in (*CANARIES.values(), PASSWORD, SECRET) if secret in text]


async def test_38_no_secret_gets_out_of_a_call_in_which_providers_fail(running: Runner) -> None:
    faults = {"vllm": {"kind": "status", "status": 401}, "speaches_gpu": {"kind": "malformed"}}
    await play(running, faults)
    async with calling(running) as caller:
        assert await caller.ask(QUESTION)
    await play(running, dict.fromkeys(faults))
    status, answer = await ask_token(running)
    assert told(f"{status} {answer}") == []
    for url in (
        f"{running.url}/api/status",
        *(f"http://127.0.0.1:{running.operator_port}/{path}" for path in OPERATOR_PATHS),
    ):
        async with aiohttp.request("GET", url) as page:
            assert told(await page.text()) == [], url
    assert "vllm" in "".join(running.output)
    assert told("".join(running.output)) == []
    assert told("\n".join(command_lines(running))) == []
    assert told("\n".join(rows(running))) == []


OPERATOR_PATHS = (
    *("metrics", "openapi.json", "api/providers", "api/documents", "api/configuration"),
    *("api/settings", "api/health", "api/calls", "api/sessions", "api/audit", "api/instructions"),
)


async def play(runner: Runner, faults: dict[str, dict[str, object] | None]) -> None:
    """From now on the simulated servers do this; None: they serve."""
    [port] = [item.partition("=")[2] for item in runner.overrides if "simulate.port" in item]
    for server, fault in faults.items():
        url = f"http://127.0.0.1:{port}/{server}/_simulator/faults"
        async with aiohttp.request("POST", url, json=[fault] if fault else []) as answer:
            assert answer.status == 200, await answer.text()


def command_lines(runner: Runner) -> Iterator[str]:
    """What ``ps`` shows of the runner and all that it started."""
    process = psutil.Process(runner.process.pid)
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            yield " ".join(each.cmdline())


def rows(runner: Runner) -> Iterator[str]:
    """Everything that is stored."""
    for table in runner.query(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
    ):
        for row in runner.query(f"SELECT t::text AS line FROM {table['name']} AS t"):
            yield str(row["line"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--cfg", "job", "--resolve"], "llm_concurrency", id="configuration"),
        pytest.param(["task=doctor"], "could NOT be served", id="doctor"),
        pytest.param(["task=call", "task.audio=[no.wav]"], "no.wav", id="a failed call"),
        pytest.param(["llm=nonsense"], "nonsense", id="a wrong option"),
        pytest.param(["web.port=-1"], "web.port", id="a wrong key"),
        pytest.param(
            ["--multirun", "task=retention", "sessions.retention_days=1,2", "llm=vllm,ollama"],
            "refused",
            id="a sweep",
        ),
    ],
)
def test_38_no_secret_is_printed_or_written(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "runner", *arguments, "llm.api_key_env=VLLM_API_KEY"),
            *(f"deployment.data_dir={tmp_path}/data", f"hydra.sweep.dir={tmp_path}/sweep"),
            *("database.port=1", "livekit.url=ws://127.0.0.1:1", "deployment.start_postgres=false"),
        ],
        env=os.environ
        | CANARIES
        | {
            "PYTHONPATH": str(ROOT),
            "LIVEKIT_API_SECRET": SECRET,
            "POSTGRES_PASSWORD": PASSWORD,
            "DATABASE_URL": f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/nothing",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert says in done.stdout + done.stderr
    assert told(done.stdout + done.stderr) == []
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert told("\n".join(written)) == []
