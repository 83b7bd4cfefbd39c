"""``python -m runner.simulator '{"port": …, "servers": {…}}'``: the simulator's process."""

import asyncio
import logging
import signal
import sys

from pydantic import ValidationError

from runner.config import Simulation
from runner.errors import RunnerError
from runner.simulator.server import Simulator
from runner.simulator.service import SETTINGS


def main() -> int:
    """Serve until SIGTERM or SIGINT. Exit status 1, with one sentence, if that cannot be."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        simulation = SETTINGS.validate_json(sys.argv[1])
    except (IndexError, ValidationError) as error:
        print(f"The simulator's settings are wrong: {error}", file=sys.stderr)
        return 1
    try:
        asyncio.run(_until_signal(simulation))
    except RunnerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _until_signal(simulation: Simulation) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with Simulator(simulation):
        await ended.wait()


if __name__ == "__main__":
    sys.exit(main())
