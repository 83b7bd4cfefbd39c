"""Personas by language, their history, and the settings of new calls, against a real server."""

import json

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.errors import DatabaseError
from runner.instructions import _changes
from runner.personas import Draft, Personas


@pytest.fixture
def personas(engine: AsyncEngine) -> Personas:
    return Personas(engine)


async def added(personas: Personas, name: str, language: str | None, *, active: bool = True) -> int:
    number = await personas.add(Draft(name, f"You are {name}.", f"Here is {name}.", language))
    if active:
        await personas.activate(number)
    return number


async def in_use(personas: Personas) -> dict[str | None, str]:
    return {row.language: row.name for row in await personas.all() if row.in_use}


# By language.


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("pt-BR", "brazilian"),
        ("pt-br", "brazilian"),
        ("pt-PT", "portuguese"),
        ("pt", "portuguese"),
        ("es", "mexican"),
        ("es-AR", "mexican"),
        ("fr", "assistant"),
        ("", "assistant"),
        ("'; DROP TABLE agent_instructions; --", "assistant"),
    ],
)
async def test_the_nearest_language_is_found(personas: Personas, language: str, name: str) -> None:
    for persona, its in (
        ("brazilian", "pt_BR"),
        ("portuguese", "pt"),
        ("mexican", "es-MX"),
        ("latest", "de"),
    ):
        await added(personas, persona, its)
    found = await personas.instructions(language, "en")
    assert found
    assert found.name == name


async def test_a_row_without_a_language_serves_all_that_have_none_of_their_own(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        "INSERT INTO agent_instructions (name, instructions, is_local_mode, language) "
        "VALUES ('polyglot', 'Speak as the caller does.', true, NULL)"
    )
    for language, name in (("fr-CA", "polyglot"), ("en-GB", "assistant")):
        found = await personas.instructions(language, "en")
        assert found
        assert (found.name, found.language) == (name, "fr-ca" if name == "polyglot" else "en")


# Activating.


async def test_one_persona_of_a_language_is_in_use(personas: Personas) -> None:
    await added(personas, "first", "es")
    second = await added(personas, "second", "ES", active=False)
    assert await in_use(personas) == {"en": "assistant", "es": "first"}
    assert await personas.activate(second) == ["first"]
    assert await in_use(personas) == {"en": "assistant", "ES": "second"}
    assert await personas.activate(second) == []


async def test_a_persona_of_another_system_is_not_touched(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        "INSERT INTO agent_instructions (id, name, instructions) VALUES (77, 'c', 'd')"
    )
    assert await personas.activate(77) == []
    await added(personas, "local", "en")
    rows = {row.id: row for row in await personas.all()}
    assert (rows[77].is_active, rows[77].is_local_mode, rows[77].in_use) == (True, False, False)


async def test_the_last_active_persona_stays(personas: Personas) -> None:
    assert not await personas.deactivate(1)
    number = await added(personas, "other", "es")
    assert await personas.deactivate(1)
    assert not await personas.deactivate(number)


# The history.


async def test_a_change_by_plain_sql_is_in_the_history_and_can_be_undone(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute("SET application_name = 'psql'")
    superuser.execute("UPDATE agent_instructions SET initial_greeting = 'Oops.' WHERE id = 1")
    last, first = await personas.versions(1)
    assert (first.change, last.change, last.changed_by) == ("added", "changed", "postgres, psql")
    assert _changes(last) == "initial_greeting: Hello! → Oops."
    await personas.restore(first.version)
    found = await personas.instructions("en")
    assert found
    assert found.greeting == "Hello!"
    assert [version.change for version in await personas.versions(None)] == [
        "changed",
        "changed",
        "added",
    ]


async def test_a_persona_that_was_deleted_comes_back_inactive(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    number = await added(personas, "gone", "es")
    superuser.execute("DELETE FROM agent_instructions WHERE id = %s", [number])
    removed, *_ = await personas.versions(number)
    assert (removed.change, removed.content["name"]) == ("removed", "gone")
    assert await personas.restore(removed.version) == number
    row = {row.id: row for row in await personas.all()}[number]
    assert (row.name, row.greeting, row.is_active) == ("gone", "Here is gone.", False)


async def test_a_change_sets_its_time_and_no_change_leaves_no_trace(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute("UPDATE agent_instructions SET instructions = 'x', updated_at = '2001-01-01'")
    fresh = "SELECT updated_at > NOW() - INTERVAL '1 hour' FROM agent_instructions"
    assert superuser.execute(fresh).fetchall() == [(True,)]
    superuser.execute("UPDATE agent_instructions SET instructions = 'x'")
    await personas.edit(1, Draft(None, None, None, None))
    assert len(await personas.versions(1)) == 2


async def test_who_may_change_the_instructions_needs_no_right_to_the_history(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute("CREATE ROLE editor")
    try:
        superuser.execute("GRANT SELECT, UPDATE ON agent_instructions TO editor")
        superuser.execute("SET ROLE editor")
        superuser.execute("UPDATE agent_instructions SET instructions = 'Edited.'")
        superuser.execute("RESET ROLE")
        assert len(await personas.versions(1)) == 2
    finally:
        superuser.execute("RESET ROLE")
        superuser.execute("DROP OWNED BY editor")
        superuser.execute("DROP ROLE editor")


async def test_what_was_there_before_the_history_is_its_first_version(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    from runner import sql

    superuser.execute("DROP TABLE agent_instructions_history")
    superuser.execute("DROP TRIGGER agent_instructions_changed ON agent_instructions")
    superuser.execute("DROP TRIGGER agent_instructions_remembered ON agent_instructions")
    superuser.execute("DROP TRIGGER agent_instructions_versioned ON agent_instructions")
    for _ in range(2):
        superuser.execute(sql.script("schema.sql").encode())
    [version] = await personas.versions(1)
    assert (version.change, version.content["name"]) == ("added", "assistant")


# The settings.


async def test_settings_are_read_without_what_the_program_keeps_there(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    await personas.keep_configuration("abc", {"llm": {}})
    superuser.execute(
        "INSERT INTO rag_documents (filename, content, chunk_index) VALUES ('a','b',0)"
    )
    for key, value in (("rag.top_k", 3), ("failover.hedge_after_s", None), ("mine", {"a": [1]})):
        superuser.execute(
            "INSERT INTO system_config (key, value) VALUES (%s, %s::jsonb)",
            [key, json.dumps(value)],
        )
    assert await personas.live_settings() == {
        "failover.hedge_after_s": None,
        "mine": {"a": [1]},
        "rag.top_k": 3,
    }


async def test_a_table_that_cannot_be_read_is_told_in_a_sentence(
    personas: Personas, superuser: psycopg.Connection
) -> None:
    superuser.execute("DROP TABLE agent_instructions_history")
    with pytest.raises(DatabaseError, match="agent_instructions_history"):
        await personas.versions(1)
