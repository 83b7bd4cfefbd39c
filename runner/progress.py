"""How far each service is: lines that change in place on a terminal, plain elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress as Lines
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from runner.services import READY


class Progress:
    """A `runner.services.Report` that shows itself on stderr while its ``with`` block lasts.

    What is reported later is printed as a plain line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, emoji=False)
        self._lines: Lines | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._lines = _lines(self._console)
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lines:
            self._lines.stop()
            self._lines = None

    def __call__(self, name: str, message: str) -> None:
        """Show ``message`` as the newest one of the service ``name``."""
        if self._lines:
            self._change(self._lines, name, message)
        elif self._last.get(name) != message:
            self._console.print(f"{name}: {message}", markup=False, soft_wrap=True)
        self._last[name] = message

    def _change(self, lines: Lines, name: str, message: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = lines.add_task("", total=1, service=name)
        task, ready = self._tasks[name], message.startswith(READY)
        if not ready and lines.tasks[task].finished:
            lines.reset(task)
        lines.update(task, description=message, completed=int(ready))


def _lines(console: Console) -> Lines:
    message = Column(no_wrap=True, overflow="ellipsis")
    return Lines(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.fields[service]}", style="bold", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False, table_column=message),
        console=console,
    )
