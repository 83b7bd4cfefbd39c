"""The texts under sql/."""

import re
from pathlib import Path

import pytest

from runner import sql
from runner.folders import RESOURCES

FILES = [path.name for path in (RESOURCES / "sql").glob("*.sql") if path.name != "schema.sql"]
HEADER = re.compile(r"^-- name: \w+\n-- \S.*\n(?:-- .*\n)*[A-Z]", re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_every_query_has_a_name_of_its_own_and_a_line_on_what_it_is_for(file: str) -> None:
    text = sql.script(file)
    assert len(sql.queries(file)) == text.count("-- name:") == len(HEADER.findall(text)) > 0


@pytest.mark.parametrize("file", FILES)
def test_queries_come_without_comments_and_semicolons(file: str) -> None:
    for query in sql.queries(file).values():
        assert query
        assert "--" not in query
        assert not query.endswith(";")


def test_every_query_of_the_runner_is_used() -> None:
    package = Path(sql.__file__).parent
    code = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert [name for name in sql.queries() if f'"{name}"' not in code] == []


def test_every_percent_sign_of_the_runner_s_queries_begins_a_placeholder() -> None:
    for name, query in sql.queries().items():
        assert "%" not in re.sub(r"%\(\w+\)s", "", query), name


def test_a_script_comes_as_it_is() -> None:
    assert sql.script("schema.sql") == (RESOURCES / "sql" / "schema.sql").read_text()
