"""A Postgres that may be killed: it is started again, as the runner's own is."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runner import database, postgres
from runner.config import Agent, Database
from runner.services import Supervisor


@asynccontextmanager
async def own_postgres(data_dir: Path, settings: Database, agent: Agent) -> AsyncIterator[str]:
    """A prepared database in ``data_dir``; gives the folder of its socket."""
    async with Supervisor(lambda *_: None, ready_timeout_s=60) as supervisor:
        await supervisor.start([postgres.service(data_dir)])
        socket = postgres.socket_dir(data_dir)
        await database.prepare(settings, socket, agent)
        yield socket


def kill_postgres(data_dir: Path) -> None:
    """As a crash: SIGKILL."""
    [pid_file] = data_dir.rglob("postmaster.pid")
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
