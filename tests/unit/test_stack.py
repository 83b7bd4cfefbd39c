"""What a configuration needs, and when the embedded Postgres may step in."""

from pathlib import Path

import pytest

from runner import stack as module
from runner.config import Agent, Database
from runner.errors import DatabaseError, ServiceError
from runner.services import Service
from runner.stack import Need, needs
from tests.composed import composed

REFUSAL = "PostgreSQL at localhost:5432 refused the connection."


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_PASSWORD", raising=False)
    monkeypatch.delenv("POSTGRES_HOST", raising=False)


def test_a_call_needs_everything_by_default() -> None:
    assert needs(composed()) == set(Need) - {Need.SIMULATOR}


def test_a_conversation_in_text_needs_no_livekit() -> None:
    assert Need.LIVEKIT not in needs(composed(), calls=False)


@pytest.mark.parametrize(
    ("overrides", "calls", "needed"),
    [
        (["stt_tts=embedded", "rag=off", "stand_in.llm=null"], True, True),
        (["stt_tts=embedded", "rag=off", "stand_in.llm=null"], False, False),
        (["stand_in.speech=null", "stand_in.llm=null", "rag=off"], True, False),
        (["stand_in.speech=null", "stand_in.llm=null", "rag=on"], True, True),
        (["stand_in.speech=null", "llm=retrieval", "rag=off"], True, True),
        (["llm=google_realtime", "rag=off", "stand_in.llm=null"], True, False),
        (["llm=google_realtime", "rag=on"], True, True),
    ],
)
def test_the_model_server_is_needed_where_a_chain_or_a_search_ends_in_it(
    overrides: list[str], *, calls: bool, needed: bool
) -> None:
    assert (Need.MODELS in needs(composed(*overrides), calls=calls)) is needed


def test_embeddings_from_another_server_need_none_of_ours() -> None:
    elsewhere = "rag.embedding_url=http://localhost:8003/v1"
    assert Need.MODELS not in needs(composed("stand_in.speech=null", elsewhere))


def test_localhost_and_127_0_0_1_are_the_same_server() -> None:
    here = "rag.embedding_url=http://localhost:8010/v1"
    assert Need.MODELS in needs(composed("stand_in.speech=null", here))


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres that does not let us in, and an embedded one that nobody runs."""

    async def prepare(_: Database, __: str | None, ___: Agent) -> None:
        raise DatabaseError(REFUSAL)

    monkeypatch.setattr(module.database, "prepare", prepare)
    monkeypatch.setattr(module.postgres, "find_running", lambda _: None)


@pytest.mark.usefixtures("refused")
async def test_the_embedded_postgres_steps_in_and_the_reason_is_noted(tmp_path: Path) -> None:
    part = await module._postgres(composed(f"deployment.data_dir={tmp_path}"))
    assert isinstance(part.service, Service)
    assert part.postgres_socket
    assert REFUSAL in part.note


@pytest.mark.usefixtures("refused")
async def test_the_embedded_postgres_of_another_runner_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.postgres, "find_running", lambda _: "/its/socket")
    part = await module._postgres(composed(f"deployment.data_dir={tmp_path}"))
    assert (part.service, part.postgres_socket) == (None, "/its/socket")


async def test_a_postgres_that_lets_us_in_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def prepare(_: Database, __: str | None, ___: Agent) -> None: ...

    monkeypatch.setattr(module.database, "prepare", prepare)
    part = await module._postgres(composed())
    assert (part.service, part.postgres_socket, part.note) == (None, None, "")


@pytest.mark.usefixtures("refused")
async def test_a_password_means_that_postgres_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2")
    with pytest.raises(ServiceError, match="POSTGRES_PASSWORD is set") as told:
        await module._postgres(composed())
    assert REFUSAL in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("database.host=db.example.org", "database.host is db.example.org"),
        ("deployment.start_postgres=false", "deployment.start_postgres is false"),
    ],
)
async def test_no_embedded_postgres_steps_in_against_the_configuration(
    override: str, reason: str
) -> None:
    with pytest.raises(ServiceError, match=reason):
        await module._postgres(composed(override))
