"""What is wrong with a database, in a sentence; no server is asked."""

import pickle
from dataclasses import replace

import pytest

from runner import database
from runner.config import Database
from runner.dbserver import SCHEMA_VERSION, Server, State

CONFIG = Database(
    host="db.example",
    port=6543,
    name="voice_agent",
    user="app",
    password_env="APP_PASSWORD",
    min_connections=5,
    max_connections=30,
    connect_timeout_s=2.5,
)
WHOLE = State(
    has_vector=True,
    vector_available=True,
    may_create_vector=False,
    may_create_tables=False,
    missing_tables=[],
    version=SCHEMA_VERSION,
)
TWO_TABLES = ["rag_documents", "system_config"]


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("APP_PASSWORD", "opensesame")
    return "opensesame"


def test_a_whole_database_has_nothing_wrong_with_it() -> None:
    server = Server(CONFIG, None)
    assert server.obstacle(WHOLE) is None
    assert server.lack(WHOLE) is None


def test_a_server_without_pgvector_says_which_package_to_install() -> None:
    sentence = Server(CONFIG, None).obstacle(
        replace(WHOLE, has_vector=False, vector_available=False)
    )
    assert sentence == (
        "PostgreSQL at db.example:6543 is without pgvector. Install it there (Debian: the package "
        "postgresql-<version>-pgvector), or set database.host and database.port (POSTGRES_HOST, "
        "POSTGRES_PORT) to a server that has it."
    )


def test_a_user_who_may_not_create_the_extension_is_told_what_a_superuser_types() -> None:
    sentence = Server(CONFIG, None).obstacle(replace(WHOLE, has_vector=False))
    assert sentence == (
        "The database voice_agent in PostgreSQL at db.example:6543 is without the extension "
        "vector, and the user app may not create it. Let a superuser run in that database: "
        "CREATE EXTENSION vector;"
    )


def test_a_user_who_may_not_create_tables_is_told_which_are_missing() -> None:
    sentence = Server(CONFIG, None).obstacle(replace(WHOLE, missing_tables=TWO_TABLES))
    assert sentence == (
        "The database voice_agent in PostgreSQL at db.example:6543 is without the table "
        "rag_documents, the table system_config, and the user app may not create tables. Let its "
        'owner run sql/schema.sql there, or: GRANT CREATE ON SCHEMA public TO "app";'
    )


def test_what_the_next_start_creates_is_a_lack_and_no_obstacle() -> None:
    state = replace(WHOLE, missing_tables=TWO_TABLES, may_create_tables=True)
    server = Server(CONFIG, None)
    assert server.obstacle(state) is None
    assert server.lack(state) == (
        "The database voice_agent still lacks the table rag_documents, the table system_config. "
        "`python -m runner` creates what is missing."
    )


def test_the_address_is_the_configuration_s_with_the_password_of_the_environment() -> None:
    url = database.url(CONFIG, None)
    assert url.drivername == "postgresql+psycopg"
    assert url.query == {"host": "db.example", "port": "6543"}
    assert (url.username, url.password, url.database) == ("app", "opensesame", "voice_agent")


def test_the_embedded_server_is_entered_as_its_superuser_without_a_password() -> None:
    url = database.url(CONFIG, "/var/lib/x/run")
    assert url.query == {"host": "/var/lib/x/run", "port": "5432"}
    assert (url.username, url.password, url.database) == ("postgres", None, "voice_agent")


def test_the_password_is_not_in_what_can_be_printed_or_pickled(password: str) -> None:
    server = Server(CONFIG, None)
    engine = database.engine(CONFIG, None, pool_size=1, application_name="test")
    for text in (str(server), repr(server), repr(engine), repr(engine.url), str(engine.url)):
        assert password not in text
    assert password.encode() not in pickle.dumps(server)
