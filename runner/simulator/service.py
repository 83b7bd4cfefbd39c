"""The simulated servers as a child process."""

import sys
from functools import partial

import aiohttp
from pydantic import TypeAdapter

from runner.child import Command
from runner.config import Fault, Simulation
from runner.health import health
from runner.services import Report, Service

NAME = "simulator"
HOST = "127.0.0.1"
SETTINGS: TypeAdapter[Simulation] = TypeAdapter(Simulation)

_TIMEOUT = aiohttp.ClientTimeout(total=2)
_FAULTS: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


def service(simulation: Simulation) -> Service:
    """All servers of ``simulation`` in one process; ready when their ports listen."""
    return Service(NAME, partial(_prepare, simulation), partial(_ready, simulation))


async def play(simulation: Simulation) -> bool:
    """Have a simulator that runs already play these faults; False: none of these servers runs.

    The faults' requests count from 1 again.
    """
    if not await _ready(simulation):
        return False
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        for name, server in simulation.servers.items():
            url = f"http://{HOST}:{simulation.port}/{name}/_simulator/faults"
            async with http.post(url, data=_FAULTS.dump_json(server.faults)) as answer:
                answer.raise_for_status()
    return True


async def _prepare(simulation: Simulation, _: Report) -> Command:
    argv = (sys.executable, "-m", "runner.simulator", SETTINGS.dump_json(simulation).decode())
    return Command(argv)


async def _ready(simulation: Simulation) -> bool:
    told = await health(HOST, simulation.port)
    return told.get("simulated") == list(simulation.servers)
