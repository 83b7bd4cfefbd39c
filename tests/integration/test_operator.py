"""The operator's port over HTTP, with a real database: what it shows, and to whom."""

import asyncio
import re
import socket
import sys

import pytest

from runner.errors import ServiceError
from runner.operator.api import routes
from runner.operator.site import Doorman
from runner.outcome import Outcome
from runner.providers.failure import Reason
from tests.integration.operator_port import ANSWER, CHANGE, Port, Serve, call

TOKEN = "a-token-of-thirty-two-characters"


# Who may ask.


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=str
)
async def test_pages_of_other_sites_see_nothing(port, headers):
    status, answer = await port.get("/api/providers", **headers)
    assert status == 403
    assert answer.keys() == {"error"}


async def test_a_change_needs_a_header_that_no_other_site_can_send(port):
    call(port)
    async with port.client.post("/api/calls/call-1/end", json={}) as response:
        assert response.status == 403
        assert "X-Runner" in await response.text()
    assert port.rooms.closed == []


class TestWithAToken:
    @pytest.fixture
    async def port(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Port:
        monkeypatch.setenv("OPERATOR_TOKEN", TOKEN)
        return await serve()

    @pytest.mark.parametrize("path", ["/api/calls", "/metrics", "/openapi.json", "/api/nothing"])
    async def test_nothing_is_told_without_it(self, port, path):
        assert await port.get(path) == (
            401,
            {"error": "Log in with the token that operator.token_env names."},
        )

    async def test_it_opens_the_port(self, port):
        assert await port.get("/api/calls", Authorization=f"Bearer {TOKEN}") == (200, [])
        status, _ = await port.get("/api/calls", Authorization="Bearer another")
        assert status == 401

    async def test_whoever_logs_in_is_known_by_a_cookie_that_no_script_reads(self, port):
        status, _ = await port.post("/api/login", {"token": "another"})
        assert status == 401
        async with port.client.post(
            "/api/login", json={"token": TOKEN}, headers=CHANGE
        ) as response:
            assert response.status == 200
            cookie = response.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert await port.get("/api/calls") == (200, [])
        assert (await port.put("/api/settings/rag.top_k", {"value": 2}))[0] == 200
        assert [who for who, *_ in await port.changes()] == ["token"]

    async def test_guessing_is_slow(self, port):
        tries = [await port.post("/api/login", {"token": f"guess {n}"}) for n in range(11)]
        assert [status for status, _ in tries] == [401] * 10 + [429]

    async def test_that_it_lives_is_no_secret(self, port):
        assert await port.get("/api/health/live") == (200, {"status": "ok"})


async def test_who_asks_too_often_is_told_to_wait(serve):
    port = await serve(requests_per_minute=3)
    assert [(await port.get("/api/calls"))[0] for _ in range(4)] == [200, 200, 200, 429]


async def test_a_port_that_is_taken_is_named_with_its_key(serve):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(ServiceError, match=r"Set operator\.port"):
            await serve(port=holder.getsockname()[1])


async def test_every_answer_forbids_what_the_page_does_not_need(port):
    for path in ("/", "/api/calls", "/nothing"):
        async with port.client.get(path) as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


# Providers.


async def test_how_often_a_provider_failed_is_shown(port):
    port.office.switchboard.report(Outcome(("LLM", "vllm"), Reason.SILENT))
    port.office.switchboard.report(Outcome(("LLM", "vllm"), lost=True))
    port.office.switchboard.report(Outcome(("LLM", "ollama")))
    _, answer = await port.get("/api/providers")
    vllm, ollama, *_ = answer["providers"]
    assert (vllm["state"], vllm["reason"], vllm["errors"]) == ("open", "silent", {"silent": 1})
    assert (vllm["error_rate"], ollama["error_rate"], ollama["requests"]) == (1.0, 0.0, 1)
    assert answer["permits"] == {"allowed": 20, "in_flight": 0, "waiting": 0}


async def test_health_is_examined_once_for_all_pages(port):
    answers = [await port.get("/api/health") for _ in range(3)]
    assert port.examined == [1]
    assert answers[0][1]["served"] is False
    assert answers[0][1]["lines"][0]["mend"] == "Start it."


# Figures.


async def test_turns_are_counted_and_drawn(port):
    port.office.seen.calls.turn(call(port), ANSWER)
    _, plots = await port.get("/api/plots?minutes=5")
    series = plots["series"]
    assert {len(values) for values in series.values()} == {20}
    assert (series["turns_per_minute"][-1], series["failovers"][-1]) == (4.0, 1.0)
    assert (series["e2e_p95_s"][-1], series["e2e_p95_s"][0]) == (0.9, None)
    async with port.client.get("/metrics") as response:
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    for line in (
        "runner_calls_total 1.0",
        "runner_calls_active 1.0",
        "runner_turns_total 1.0",
        'runner_e2e_seconds_bucket{le="1.0"} 1.0',
        'runner_e2e_seconds_bucket{le="0.8"} 0.0',
        'runner_retrieval_seconds_bucket{le="0.02"} 1.0',
        'runner_tokens_total{kind="completion",provider="ollama"} 5.0',
    ):
        assert line in lines


@pytest.mark.parametrize(
    "path",
    ["/api/sessions?limit=0", "/api/sessions?before=99999999999", "/api/plots?minutes=x",
     "/api/sessions/none", "/api/audit?wrong=1", "/api/sessions?limit=1&limit=2"],
)  # fmt: skip
async def test_a_question_that_does_not_fit_is_refused(port, path):
    status, answer = await port.get(path)
    assert (status, answer.keys()) == (422, {"error"})


async def test_whatever_the_description_allows_is_answered_without_an_error_of_the_server(serve):
    port = await serve(requests_per_minute=1_000_000)
    options = ["--checks=not_a_server_error", "--phases=fuzzing", "--max-examples=6", "--seed=7"]
    tried = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{port.url}/openapi.json", *options),
        *("--exclude-path=/api/events", "--no-color", "--warnings=off", "--request-timeout=30"),
        stdout=asyncio.subprocess.PIPE,
        cwd=port.folder.parent,
    )
    output, _ = await tried.communicate()
    assert tried.returncode == 0, output.decode()


async def test_the_description_has_every_route_that_is_served(port):
    _, description = await port.get("/openapi.json")
    described = {
        (method.upper(), path)
        for path, methods in description["paths"].items()
        for method in methods
    }
    served = {
        (route.method, re.sub(r":[^}]*", "", route.path))
        for route in routes(port.office, Doorman(port.office.config.operator))
    }
    assert described == served
    assert len(served) > 25
