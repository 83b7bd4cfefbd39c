"""``python -m runner.models '{"models": {…}, "cache_dir": "…"}'``: the model server's process."""

import asyncio
import logging
import signal
import sys

from pydantic import ValidationError

from runner.errors import RunnerError
from runner.models.server import serve
from runner.models.service import SETTINGS, Settings


def main() -> int:
    """Serve until SIGTERM or SIGINT. Exit status 1, with one sentence, if that cannot be."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("piper").setLevel(logging.ERROR)  # it logs what it is told to say
    try:
        settings = SETTINGS.validate_json(sys.argv[1])
    except (IndexError, ValidationError) as error:
        print(f"The model server's settings are wrong: {error}", file=sys.stderr)
        return 1
    try:
        asyncio.run(_until_signal(settings))
    except RunnerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _until_signal(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(serve(settings.models, settings.cache_dir))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    sys.exit(main())
