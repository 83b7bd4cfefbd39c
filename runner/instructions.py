"""``task=instructions``: what the agent is told and how it greets, looked after by language.

SQL does as well: the database keeps the history of every change, whoever makes it.
"""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runner.config import Config, InstructionsTask
from runner.errors import RunnerError
from runner.personas import Draft, Persona, Personas, Version
from runner.search import printable
from runner.stack import Need, database_pool

_LONGEST_BYTES = 256 * 1024  # an LLM's context is a fraction of it
_SHOWN_CHARS = 60
_TASK = "python -m runner task=instructions task.action"
_FIELDS = ("name", "language", "initial_greeting", "instructions", "is_active", "is_local_mode")


async def main(config: Config) -> int:
    """Prints what is there, or what has been done.

    Raises:
        RunnerError: the database does not serve, the row is not there, or the file cannot be read.
    """
    task = config.task
    assert isinstance(task, InstructionsTask)
    draft = Draft(task.persona, _text(task), task.greeting, task.language)
    wanted = frozenset({Need.POSTGRES})
    async with database_pool(config, wanted, task="instructions", pool_size=1) as engine:
        personas = Personas(engine)
        match task.action:
            case "list":
                Console().print(_listed(await personas.all()))
            case "history":
                Console().print(_history(await personas.versions(task.id)))
            case "show" if task.version:
                _show_version(await _version(personas, task.version))
            case "show":
                _show(await _row(personas, task.id))
            case "add":
                print(await _add(personas, draft, config.agent.language))
            case _:
                print(await _change(personas, task, draft))
    return 0


async def _add(personas: Personas, draft: Draft, language: str) -> str:
    draft = Draft(draft.name, draft.instructions, draft.greeting, draft.language or language)
    number = await personas.add(draft)
    return f"Added as {number}. Callers get it after: {_TASK}=activate task.id={number}"


async def _change(personas: Personas, task: InstructionsTask, draft: Draft) -> str:
    """Carries out what changes a row that is there; what has been done."""
    if task.action == "restore":
        assert task.version is not None
        await _version(personas, task.version)
        number = await personas.restore(task.version)
        return f"Row {number} is as it was in version {task.version}."
    row = await _row(personas, task.id)
    match task.action:
        case "edit":
            await personas.edit(row.id, draft)
            return f"Row {row.id} is changed. Undo it with: {_TASK}=history task.id={row.id}"
        case "deactivate":
            return await _deactivate(personas, row)
        case _:
            return await _activate(personas, row)


async def _activate(personas: Personas, row: Persona) -> str:
    if not row.is_local_mode:
        raise RunnerError(
            f"Row {row.id} has is_local_mode false, so this runner does not use it. Add one with "
            f"{_TASK}=add, or set is_local_mode with SQL."
        )
    before = await personas.activate(row.id)
    instead = f" in place of {', '.join(map(printable, before))}" if before else ""
    said = row.language or "any language"
    return f"The next caller gets {printable(row.name)} ({said}){instead}."


async def _deactivate(personas: Personas, row: Persona) -> str:
    if not row.is_active:
        return f"Row {row.id} was not active."
    if not await personas.deactivate(row.id):
        raise RunnerError(
            f"Row {row.id} is the last active one, and without any the next start would add that "
            f"of conf/agent. Activate another one instead: {_TASK}=activate task.id=…"
        )
    return f"Row {row.id} is not active any more."


def _text(task: InstructionsTask) -> str | None:
    """The instructions of the command line, or of the file."""
    if not task.file:
        return task.text
    try:
        with Path(task.file).expanduser().open("rb") as file:
            content = file.read(_LONGEST_BYTES + 1)
        text = content.decode().strip()
    except OSError as error:
        raise RunnerError(f"{task.file} (task.file) cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RunnerError(f"{task.file} (task.file) is not a text in UTF-8.") from None
    if not text or len(content) > _LONGEST_BYTES:
        what = "is empty" if not text else f"is longer than {_LONGEST_BYTES // 1024} KiB"
        raise RunnerError(f"{task.file} (task.file) {what}.")
    return text


async def _row(personas: Personas, number: int | None) -> Persona:
    rows = {row.id: row for row in await personas.all()}
    if number not in rows:
        there = ", ".join(map(str, sorted(rows)))
        raise RunnerError(f"agent_instructions has no row {number} (task.id). It has: {there}.")
    return rows[number]


async def _version(personas: Personas, number: int) -> Version:
    if found := await personas.version(number):
        return found
    raise RunnerError(
        f"There is no version {number} (task.version). Those that there are: {_TASK}=history"
    )


def _show(row: Persona) -> None:
    state = "in use" if row.in_use else "active" if row.is_active else "not active"
    print(f"{row.id}: {printable(row.name)}, {row.language or 'any language'}, {state}")
    print(f"Greeting: {row.greeting or ''}\n\n{row.instructions}")


def _show_version(version: Version) -> None:
    content = version.content
    print(f"Version {version.version} of row {version.instructions_id}, {version.changed_at}")
    print(f"Greeting: {content.get('initial_greeting') or ''}\n\n{content.get('instructions')}")


def _listed(rows: list[Persona]) -> Table:
    table = _table("id", "name", "language", "state", "greeting", "changed")
    for row in rows:
        state = "in use" if row.in_use else "active" if row.is_active else ""
        table.add_row(
            str(row.id),
            _cell(row.name),
            row.language or "any",
            state if row.is_local_mode else "not local",
            _cell(row.greeting),
            f"{row.updated_at:%Y-%m-%d %H:%M}" if row.updated_at else "",
        )
    return table


def _history(versions: list[Version]) -> Table:
    table = _table("version", "row", "when", "who", "what")
    for version in versions:
        table.add_row(
            str(version.version),
            str(version.instructions_id),
            f"{version.changed_at:%Y-%m-%d %H:%M:%S}" if version.changed_at else "",
            _cell(version.changed_by),
            Text(_changes(version)),
        )
    return table


def _changes(version: Version) -> str:
    """Which fields changed, and from what to what, on a line each."""
    if version.change != "changed" or version.before is None:
        return f"{version.change}: {printable(str(version.content.get('name')))}"
    lines = []
    for name in _FIELDS:
        old, new = version.before.get(name), version.content.get(name)
        if old != new:
            lines.append(f"{name}: {_short(old)} → {_short(new)}")
    return "\n".join(lines)


def _short(value: object) -> str:
    said = printable(str(value))
    return said if len(said) <= _SHOWN_CHARS else f"{said[: _SHOWN_CHARS - 1]}…"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cell(said: str | None) -> Text:
    """What people wrote, shown as it is: neither markup nor control signs act."""
    return Text(_short(said or ""))
