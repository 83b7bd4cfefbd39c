"""A runner whose calls do harm to themselves when their caller asks for it.

``python -m tests.faults.hurt`` takes what ``python -m runner`` takes. A caller writes on the text
stream `TOPIC`: ``stall`` blocks the call's event loop until the file of `RELEASE` is there, ``eat``
takes memory without end.
"""

import asyncio
import os
import time
from pathlib import Path

from livekit import rtc
from livekit.agents import JobContext

from runner import app, serve
from runner.worker import Entry

TOPIC = "test.hurt"
RELEASE = "RUNNER_TEST_RELEASE"
_BITE_BYTES = 1024 * 1024
_LOOK_S = 0.02


class HurtEntry(Entry):
    """A call that obeys its caller in everything."""

    async def __call__(self, ctx: JobContext) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def heard(reader: rtc.TextStreamReader, _: str) -> None:
            tasks.add(asyncio.create_task(obey(reader)))

        ctx.room.register_text_stream_handler(TOPIC, heard)
        await super().__call__(ctx)


async def obey(reader: rtc.TextStreamReader) -> None:
    match await reader.read_all():
        case "stall":
            think_very_hard()
        case "eat":
            await asyncio.to_thread(eat)


def think_very_hard() -> None:
    while not Path(os.environ[RELEASE]).exists():
        time.sleep(_LOOK_S)


def eat() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * _BITE_BYTES)
        time.sleep(_LOOK_S)


def main() -> None:
    """The runner, with calls of this kind."""
    serve.Entry = HurtEntry  # type: ignore[misc]
    app.main()


if __name__ == "__main__":
    from tests.faults.hurt import main as importable  # what a job runs must have a module's name

    importable()
