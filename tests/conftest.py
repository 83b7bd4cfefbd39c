"""Fixtures of all tests: a Postgres that they share, and in it a database for each."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import postgres
from runner.config import Agent, Database
from runner.database import engine as open_engine
from runner.database import prepare
from runner.dbserver import EMBEDDED_PORT, EMBEDDED_USER
from runner.services import Supervisor

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def new_data_dir() -> Iterator[Callable[[], Path]]:
    """Makes data folders. Not tmp_path: root's is closed to the account that Postgres runs as."""
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as root:
        Path(root).chmod(0o755)
        yield lambda: Path(root, str(next(_NUMBERS)))


@pytest.fixture
def data_dir(new_data_dir: Callable[[], Path]) -> Path:
    """A data folder that is not there yet."""
    return new_data_dir()


@pytest.fixture(scope="session")
def postgres_socket(new_data_dir: Callable[[], Path]) -> Iterator[str]:
    """The socket's folder of an embedded Postgres."""
    folder = new_data_dir()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        stack = AsyncExitStack()
        supervisor = Supervisor(lambda *_: None, ready_timeout_s=60)
        loop.run(stack.enter_async_context(supervisor))
        loop.run(supervisor.start([postgres.service(folder)]))
        yield postgres.socket_dir(folder)
        loop.run(stack.aclose())


@pytest.fixture(scope="session")
def agent() -> Agent:
    """The persona that databases are seeded with."""
    return Agent(
        name="assistant",
        instructions="You are a voice assistant.",
        greeting="Hello!",
        apology="I am sorry.",
        not_heard="Pardon?",
        back="Here I am again.",
        language="en",
    )


@pytest.fixture(scope="session")
def template(postgres_socket: str, agent: Agent) -> Database:
    """A prepared database to clone; host and port have no effect."""
    config = Database(
        host="localhost",
        port=5432,
        name="runner_template",
        user="postgres",
        password_env="RUNNER_TEST_PASSWORD",
        min_connections=5,
        max_connections=30,
        connect_timeout_s=5,
    )
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
        loop.run(prepare(config, postgres_socket, agent))
    return config


@pytest.fixture
def database(postgres_socket: str, template: Database) -> Iterator[Database]:
    """A prepared database of the test's own at ``postgres_socket``, dropped afterwards."""
    config = replace(template, name=f"test_{next(_NUMBERS)}")
    own, original = Identifier(config.name), Identifier(template.name)
    with _superuser(postgres_socket, "postgres") as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(own, original))
        yield config
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(own))


@pytest.fixture
def superuser(postgres_socket: str, database: Database) -> Iterator[psycopg.Connection]:
    """A connection to ``database`` past everything that is tested, in autocommit."""
    with _superuser(postgres_socket, database.name) as connection:
        yield connection


@pytest.fixture
async def engine(postgres_socket: str, database: Database) -> AsyncIterator[AsyncEngine]:
    """A pool for ``database``."""
    pool = open_engine(database, postgres_socket, pool_size=5, application_name="test")
    yield pool
    await pool.dispose()


def _superuser(socket_dir: str, name: str) -> psycopg.Connection:
    return psycopg.connect(
        host=socket_dir, port=EMBEDDED_PORT, user=EMBEDDED_USER, dbname=name, autocommit=True
    )
