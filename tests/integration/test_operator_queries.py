"""The operator's queries, sql/monitoring.sql and sql/cleanup.sql, on a data set whose answers are
known.

One transaction a test: NOW() stands still in it, so every time is exact.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from runner import sql

MONITORING, CLEANUP = sql.queries("monitoring.sql"), sql.queries("cleanup.sql")
IDS = {name: uuid.UUID(int=number) for number, name in enumerate("ABCDEFGH", 1)}
TODAY, LATE_YESTERDAY = "NOW()", "CURRENT_DATE - INTERVAL '1 hour'"

SESSIONS = [
    # provider, status, messages, begun, minutes since the last word, days since the end, room
    ("A", "vllm", "active", 4, TODAY, 1, None, "room-a"),
    ("B", "vllm", "active", 2, TODAY, 4, None, "room-b"),
    ("C", "ollama", "active", 3, TODAY, 6, None, "room-b"),
    ("D", "openrouter", "active", 0, LATE_YESTERDAY, 31, None, "chat"),
    ("E", "vllm", "ended", 6, "CURRENT_DATE - INTERVAL '6 days'", 8640, 6, "room-e"),
    ("F", "ollama", "ended", 9, "CURRENT_DATE - INTERVAL '8 days'", 11520, 8, "room-f"),
    ("G", "google", "ended", 4, "CURRENT_DATE - INTERVAL '9 days'", 12960, 9, "room-g"),
    ("H", "openrouter", "active", 4, LATE_YESTERDAY, 10, None, "chat"),
]

ANSWERS = [
    # session, model, response time, tokens, hours ago
    ("A", "llama", 0.5, {"prompt": 100, "completion": 10}, 0),
    ("A", "llama", 1.5, {"prompt": 200, "completion": 20}, 0),
    ("B", "llama", None, None, 1),
    ("C", "gemma", 2.0, {"completion": 7}, 2),
    ("E", "llama", 9.0, {"prompt": 1, "completion": 1}, 25),
]

CHUNKS = [
    # file, chunk, of, text, the first two numbers of its vector, days since it was indexed
    ("product prices.md", 0, 3, "It is free.", (1, 0), 0),
    ("product prices.md", 1, 3, "It stays free.", (1, 1), 2),
    ("menu.md", 0, 1, "Soup.", (0, 1), 29),
    ("old.md", 0, 2, "Long ago.", (-1, 0), 31),
    ("old.md", 1, 2, "Longer ago.", None, 40),
]


@pytest.fixture
def data(superuser: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The data set, in a transaction."""
    with superuser.transaction(force_rollback=True):
        for row in SESSIONS:
            add_session(superuser, *row)
        for name, model, response_s, tokens, hours in ANSWERS:
            service = {"provider": "vllm", "model": model} | ({"tokens": tokens} if tokens else {})
            metadata = {"services": {"llm": service}, "response_s": response_s}
            add_message(superuser, name, "assistant", f"{model} {response_s}", hours, metadata)
        add_message(superuser, "F", "user", "second", 200)
        add_message(superuser, "F", "user", "first", 201)
        for row in CHUNKS:
            add_chunk(superuser, *row)
        yield superuser


def add_session(connection: psycopg.Connection, name: str, *rest: Any) -> None:
    provider, status, messages, begun, idle_min, ended_days, room = rest
    connection.execute(
        "INSERT INTO agent_sessions (session_id, llm_provider, status, message_count, created_at, "
        f"last_activity, ended_at, room_id, participant_id) VALUES (%s, %s, %s, %s, {begun}, "
        "NOW() - make_interval(mins => %s), NOW() - make_interval(days => %s), %s, 'p')".encode(),
        [IDS[name], provider, status, messages, idle_min, ended_days, room],
    )


def add_message(
    connection: psycopg.Connection,
    name: str,
    role: str,
    content: str,
    hours: int,
    metadata: dict[str, object] | None = None,
) -> None:
    connection.execute(
        "INSERT INTO conversation_messages (session_id, role, content, created_at, metadata) "
        "VALUES (%s, %s, %s, NOW() - make_interval(hours => %s), %s)",
        [IDS[name], role, content, hours, Jsonb(metadata)],
    )


def add_chunk(connection: psycopg.Connection, *row: Any) -> None:
    filename, index, total, content, head, days = row
    vector = f"[{','.join(map(str, head))}{',0' * 382}]" if head else None
    connection.execute(
        "INSERT INTO rag_documents (filename, chunk_index, total_chunks, content, embedding, "
        "created_at) VALUES (%s, %s, %s, %s, %s, NOW() - make_interval(days => %s))",
        [filename, index, total, content, vector, days],
    )


def ask(connection: psycopg.Connection, query: str, **values: str) -> list[tuple[Any, ...]]:
    """The rows of a query; ``values`` as psql puts them in."""
    for name, value in values.items():
        query = query.replace(f":'{name}'", f"'{value}'")
    cursor = connection.execute(query.encode())
    return cursor.fetchall() if cursor.description else []


def names(rows: list[tuple[Any, ...]], column: int = 0) -> str:
    """The sessions of ``rows``, by their letters."""
    letters = {session_id: name for name, session_id in IDS.items()}
    return "".join(letters[row[column]] for row in rows)


def now(connection: psycopg.Connection) -> datetime:
    """The time of the transaction, as the tables hold it."""
    [(moment,)] = ask(connection, "SELECT NOW()::timestamp")
    return moment


def days(midnight: datetime, count: int) -> datetime:
    return midnight - timedelta(days=count)


def expected(connection: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The answer to every query that is asked nothing, as it was counted by hand."""
    moment = now(connection)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    [persona] = ask(connection, "SELECT id, instructions FROM agent_instructions")
    return {
        "active_users": [(2,)],
        "documents": [
            ("product prices.md", 2, 3, moment),
            ("menu.md", 1, 1, days(moment, 29)),
            ("old.md", 2, 2, days(moment, 31)),
        ],
        "messages_per_session": [(4, 9, 8)],
        "sessions_by_provider": [
            ("google", 1, 4),
            ("ollama", 2, 6),
            ("openrouter", 2, 2),
            ("vllm", 3, 4),
        ],
        "busiest_hours": [
            (moment.replace(minute=0, second=0, microsecond=0), 3),
            (midnight - timedelta(hours=1), 2),
            (days(midnight, 6), 1),
        ],
        "response_times": [
            ("vllm", "llama", 3, 1.0, 1.45, 300, 30),
            ("vllm", "gemma", 1, 2.0, 2.0, None, 7),
        ],
        "sessions_today": [(3,)],
        "messages_per_session_today": [(3,)],
        "providers_today": [("ollama", 1), ("vllm", 2)],
        "instructions": [(persona[0], "assistant", "en", True, "Hello!", persona[1])],
        "mixed_sessions": [],
        "shared_rooms": [("room-b", 2)],
    }


UNORDERED = ("sessions_by_provider", "providers_today")
ASKED_ELSEWHERE = {
    *("active_sessions", "idle_sessions", "conversation", "configuration"),
    *("similar_chunks", "chunks_by_filename", "session_latency", "search_latency"),
}


def test_every_query_without_a_value_gives_the_known_answer(data: psycopg.Connection) -> None:
    answers = expected(data)
    assert answers.keys() | ASKED_ELSEWHERE == MONITORING.keys()
    for name, rows in answers.items():
        found = ask(data, MONITORING[name])
        assert (sorted(found) if name in UNORDERED else found) == rows, name


def test_active_sessions_come_with_the_liveliest_first(data: psycopg.Connection) -> None:
    rows = ask(data, MONITORING["active_sessions"])
    assert names(rows, column=1) == "ABCHD"
    assert rows[0][2:] == ("room-a", "p", "vllm", 4, now(data) - timedelta(minutes=1))


def test_idle_sessions_are_those_that_should_have_been_ended(data: psycopg.Connection) -> None:
    [row] = ask(data, MONITORING["idle_sessions"])
    assert row == (IDS["D"], "chat", now(data) - timedelta(minutes=31))


def test_a_session_that_is_there_twice_is_found(data: psycopg.Connection) -> None:
    assert ask(data, MONITORING["mixed_sessions"]) == []
    data.execute("ALTER TABLE agent_sessions DROP CONSTRAINT agent_sessions_session_id_key CASCADE")
    add_session(data, *SESSIONS[0])
    assert ask(data, MONITORING["mixed_sessions"]) == [(IDS["A"], 2)]


def test_a_conversation_comes_in_its_order_and_alone(data: psycopg.Connection) -> None:
    add_message(data, "A", "user", "and thanks", 0)
    rows = ask(data, MONITORING["conversation"], session_id=str(IDS["A"]))
    assert [row[:2] for row in rows] == [
        ("assistant", "llama 0.5"),
        ("assistant", "llama 1.5"),
        ("user", "and thanks"),
    ]
    rows = ask(data, MONITORING["conversation"], session_id=str(IDS["F"]))
    assert [row[1] for row in rows] == ["first", "second"]


def test_the_configuration_of_a_conversation_is_found_by_its_fingerprint(
    data: psycopg.Connection,
) -> None:
    values = ('{"configuration": "feed"}', IDS["A"])
    data.execute("UPDATE agent_sessions SET context = %s WHERE session_id = %s", values)
    data.execute(
        "INSERT INTO system_config (key, value) VALUES ('configuration:feed', '{\"llm\": 1}'), "
        "('configuration:beef', '{\"llm\": 2}')"
    )
    query = MONITORING["configuration"]
    assert ask(data, query, session_id=str(IDS["A"])) == [({"llm": 1},)]
    assert ask(data, query, session_id=str(IDS["B"])) == []


def test_chunks_come_by_their_nearness_to_a_file_s_first(data: psycopg.Connection) -> None:
    rows = ask(data, MONITORING["similar_chunks"], filename="product")
    assert [row[1] for row in rows] == ["It is free.", "It stays free.", "Soup.", "Long ago."]
    assert [row[3] for row in rows] == pytest.approx([1, 0.5**0.5, 0, -1])


def test_chunks_come_by_a_word_of_their_file_s_name(data: psycopg.Connection) -> None:
    assert ask(data, MONITORING["chunks_by_filename"], filename="product") == [
        ("product prices.md", 0, "It is free."),
        ("product prices.md", 1, "It stays free."),
    ]


@pytest.mark.parametrize("name", ["session_latency", "search_latency"])
def test_a_latency_is_told_by_the_database(data: psycopg.Connection, name: str) -> None:
    assert "Execution Time" in ask(data, MONITORING[name])[-1][0]


def test_the_clean_up_ends_archives_and_forgets_what_is_old_and_nothing_else(
    data: psycopg.Connection,
) -> None:
    for query in CLEANUP.values():
        ask(data, query)
    left = ask(data, "SELECT session_id, status, ended_at FROM agent_sessions ORDER BY session_id")
    assert names(left) == "ABCDEH"
    assert "".join(row[1][0] for row in left) == "aaaeea"
    assert left[3][2] == now(data)
    assert left[4][2] == days(now(data), 6)
    messages = ask(data, "SELECT DISTINCT session_id FROM conversation_messages ORDER BY 1")
    assert names(messages) == "ABCE"
    archived = ask(data, "SELECT session_id, session FROM conversation_archive ORDER BY session_id")
    assert names(archived) == "FG"
    assert [said["content"] for said in archived[0][1]["messages"]] == ["first", "second"]
    files = ask(data, "SELECT DISTINCT filename FROM rag_documents ORDER BY filename")
    assert files == [("menu.md",), ("product prices.md",)]
