"""24 simulated hours of calls: what they leave behind, and how memory goes.

    .venv/bin/python benchmarks/day.py          # 2,000 sessions, 5 to 10 minutes
    .venv/bin/python benchmarks/day.py 480      # fewer

Real conversations, outbox, store and upkeep over a PostgreSQL of its own, which is killed every six
hours; every fourth hour a process with calls in it is. Providers are simulated, in this process.
"""

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.faults.day import HEAD, HOURS, Day, day, files_left


async def main(sessions: int, data_dir: Path) -> None:
    """Lives the day and prints a line every other hour or so."""
    began = time.monotonic()
    async with day(data_dir) as today:
        print(HEAD)
        printed = 0
        for hour in range(HOURS):
            count = sessions * (hour + 1) // HOURS - today.sessions
            await today.hour(count, kill_database=hour % 6 == 5, kill_process=hour % 4 == 3)
            if today.sessions >= printed + 200 or hour in (0, HOURS - 1):
                printed = today.sessions
                print(today.sample(), flush=True)
        report(today)
    print(f"in {time.monotonic() - began:.0f} s")


def report(today: Day) -> None:
    """What is left."""
    print(f"rows by state: {today.query(_STATES)}; without an end: {today.query(_OPEN)}")
    print(f"calls whose messages are not what was said: {len(today.lost_or_doubled())}")
    print(f"of {len(today.said)} calls, {sum(map(len, today.said.values()))} messages")
    print(f"files of the outbox: {len(files_left(today.config))}")
    print(f"live calls: {len(today.rooms.calls)}")


_STATES = "SELECT status, count(*) FROM agent_sessions GROUP BY status"
_OPEN = "SELECT count(*) FROM agent_sessions WHERE ended_at IS NULL"

if __name__ == "__main__":
    logging.disable()  # a database that dies is much talked of, and so is a caller who hangs up
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as root:
        Path(root).chmod(0o755)  # root's Postgres runs as another account
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, Path(root, "data")))
