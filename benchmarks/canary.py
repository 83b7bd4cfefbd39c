"""25 callers at once in real rooms, each with a secret word of its own: whether any leaks.

    .venv/bin/python benchmarks/canary.py          # 25 callers, 10 turns each, Postgres dies twice
    .venv/bin/python benchmarks/canary.py 10 5 1   # callers, turns, deaths of Postgres

A whole runner with real voices; the language model is played. Each word is told by voice and asked
back in writing; every answer is spoken and what arrives at the caller is transcribed.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.calls.canary import canary


def main(callers: int, turns: int, kills: int) -> None:
    """Runs it and prints what was found."""
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as root:
        Path(root).chmod(0o755)  # root's Postgres runs as another account
        began = time.monotonic()
        found = canary(Path(root, "data"), callers, turns, kills)
    print(f"{callers} callers, {found.turns} turns, Postgres killed {kills} times, ", end="")
    print(f"in {time.monotonic() - began:.0f} s")
    print(f"{found.rows} rows, {found.prompts} prompts, {found.turns} spoken answers")
    for name in ("leaks", "lost_or_doubled", "misheard"):
        lines = getattr(found, name)
        print(f"{name}: {len(lines)}", *lines[:20], sep="\n  ")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:4]]
    main(*(given + [25, 10, 2][len(given) :]))
