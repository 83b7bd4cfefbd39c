"""The results in a folder: JSONL that is appended to, CSV made from it, and who was measured.

A line is written whole when its round is over, so an abort loses the round that was running.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runner.bench.turns import Round, Turn
from runner.errors import RunnerError


@dataclass(frozen=True)
class Run:
    """What was the same for all rounds with its fingerprint ``run``. ``overrides``: of Hydra,
    which make it again."""

    run: str
    overrides: list[str]
    digest: str
    machine: str
    version: str
    endpointing_delay_s: float


@dataclass
class Results:
    """Everything in a folder."""

    runs: dict[str, Run] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def has(self, run: str, arm: str, callers: int, number: int) -> bool:
        """Whether that round was measured."""
        wanted = (run, arm, callers, number)
        return any((r.run, r.arm, r.callers, r.round) == wanted for r in self.rounds)

    def labels(self) -> dict[str, str]:
        """What tells the runs apart: the overrides that not all of them have."""
        all_of = [set(run.overrides) for run in self.runs.values()]
        common = set.intersection(*all_of) if all_of else set()
        return {
            name: ", ".join(one for one in run.overrides if one not in common) or "as configured"
            for name, run in self.runs.items()
        }

    def valid(self) -> set[tuple[str, str, int, int]]:
        """The rounds that count."""
        return {(r.run, r.arm, r.callers, r.round) for r in self.rounds if not r.void}


class Folder:
    """``runs``, ``rounds`` and ``turns`` as JSONL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for name in ("runs", "rounds", "turns"):
            _drop_unfinished(path / f"{name}.jsonl")

    def read(self) -> Results:
        """Raises:
        RunnerError: a line is not what was written here.
        """
        rounds = self._lines("rounds", Round)
        known = {(r.run, r.arm, r.callers, r.round) for r in rounds}
        turns = [
            turn
            for turn in self._lines("turns", Turn)
            if (turn.run, turn.arm, turn.callers, turn.round) in known
        ]
        runs = {run.run: run for run in self._lines("runs", Run)}
        return Results(runs, rounds, turns)

    def add_run(self, run: Run) -> None:
        if run.run not in self.read().runs:
            self._append("runs", [run])

    def add_round(self, facts: Round, turns: list[Turn]) -> None:
        """The turns first: a round is there when its own line is."""
        self._append("turns", turns)
        self._append("rounds", [facts])

    def forget(self, run: str, callers: int, arms: Sequence[str]) -> None:
        """Takes out what was measured of these arms of ``run`` with so many callers."""
        for name, kind in (("rounds", Round), ("turns", Turn)):
            kept = [
                row
                for row in self._lines(name, kind)
                if (row.run, row.callers) != (run, callers) or row.arm not in arms
            ]
            path = self.path / f"{name}.jsonl"
            path.write_text("".join(_line(row) for row in kept))

    def write_csv(self) -> None:
        """The same, for spreadsheets."""
        results = self.read()
        for name, kind, rows in (("turns", Turn, results.turns), ("rounds", Round, results.rounds)):
            with (self.path / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, [one.name for one in fields(kind)])
                writer.writeheader()
                writer.writerows(_flat(asdict(row)) for row in rows)

    def _append(self, name: str, rows: Iterable[Any]) -> None:
        with (self.path / f"{name}.jsonl").open("a") as file:
            file.write("".join(_line(row) for row in rows))

    def _lines(self, name: str, kind: type[Any]) -> list[Any]:
        path, adapter = self.path / f"{name}.jsonl", TypeAdapter(kind)
        if not path.exists():
            return []
        rows = []
        with path.open() as file:
            for number, line in enumerate(file, 1):
                try:
                    rows.append(adapter.validate_json(line))
                except ValidationError:
                    raise RunnerError(
                        f"Line {number} of {path} is no result of this version. Set task.out to "
                        "another folder, or delete this one."
                    ) from None
        return rows


def _drop_unfinished(path: Path) -> None:
    """A last line that was being written when the program was ended."""
    if path.exists():
        whole, newline, _ = path.read_bytes().rpartition(b"\n")
        path.write_bytes(whole + newline)


def _line(row: Any) -> str:
    return json.dumps(asdict(row)) + "\n"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value) if isinstance(value, dict | list | tuple) else value
        for name, value in row.items()
    }
