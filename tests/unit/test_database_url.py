"""A database that is given by one URL in the environment."""

import pytest

from runner import database
from runner.dbserver import Server
from runner.errors import ConfigError
from runner.stack import _why_not_embedded
from tests.composed import composed

URL = "postgres://us%40er:hunter%202@db.example:6000/agents?sslmode=require&connect_timeout=1"


@pytest.fixture(autouse=True)
def url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("POSTGRES_HOST", "another.example")
    monkeypatch.setenv("POSTGRES_PASSWORD", "another")


def test_a_url_comes_before_the_single_variables() -> None:
    found = composed().database
    assert (found.host, found.port, found.name, found.user) == (
        "db.example",
        6000,
        "agents",
        "us@er",
    )
    assert Server(found, None).password == "hunter 2"


def test_the_command_line_comes_before_the_url() -> None:
    found = composed("database.host=here", "database.name=mine").database
    assert (found.host, found.port, found.name) == ("here", 6000, "mine")


def test_what_a_url_lacks_is_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg:///agents")
    found = composed().database
    assert (found.host, found.port, found.name, found.user) == (
        "another.example",
        5432,
        "agents",
        "postgres",
    )
    assert Server(found, None).password == "another"


def test_the_password_is_in_no_configuration_and_no_address() -> None:
    whole = composed()
    assert "hunter" not in repr(whole)
    assert "hunter" not in Server(whole.database, None).address
    assert "hunter" not in repr(database.url(whole.database, None))


def test_what_else_a_url_says_is_told_to_the_driver_except_what_is_ours() -> None:
    found = composed().database
    assert Server(found, None).parameters == {"sslmode": "require"}
    assert database.url(found, None).query["sslmode"] == "require"


def test_the_embedded_database_has_nothing_of_the_url() -> None:
    embedded = Server(composed().database, "/run/agent")
    assert (embedded.password, embedded.parameters) == (None, {})


def test_with_a_url_no_embedded_database_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_PASSWORD")
    assert _why_not_embedded(composed("database.host=localhost")) == (
        "DATABASE_URL is set (unset it to have an embedded one)"
    )


@pytest.mark.parametrize("url", ["mysql://a:hunter2@b/c", "host=a password=hunter2", "hunter2"])
def test_something_else_than_a_url_is_told_and_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ConfigError) as caught:
        composed()
    assert "DATABASE_URL holds no URL that begins with postgresql://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_url_that_cannot_be_read_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:hunter2@b/c?nonsense=hunter2")
    with pytest.raises(ConfigError) as caught:
        composed()
    assert "DATABASE_URL holds a PostgreSQL URL that cannot be read" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("db.example", "postgresql://us%40er@db.example:6000/agents"),
        ("::1", "postgresql://us%40er@[::1]:6000/agents"),
        ("/run/pg", "postgresql://us%40er@/agents?host=%2Frun%2Fpg&port=6000"),
    ],
)
def test_an_address_is_one_that_psql_takes(host: str, address: str) -> None:
    assert Server(composed(f"database.host='{host}'").database, None).address == address
