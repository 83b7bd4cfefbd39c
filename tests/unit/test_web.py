"""The page's server: who gets a token, for what, and what every answer carries."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest
from aiohttp import ClientResponse, ClientSession

from runner.config import Web
from runner.errors import ServiceError
from runner.tokens import RateLimit, Seat, caller_token
from runner.web import Access, start_page

SECRET = "a-secret-that-is-thirty-two-bytes"
ACCESS = Access("ws://localhost:7880", "key", SECRET, "voice-agent", grace_s=30)
CONFIG = Web(host="127.0.0.1", port=0, tokens_per_minute=2, token_ttl_s=600)
SCRIPT = "go()"
HASH = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
STATUS = {"agent": "voice-agent", "stand_ins": []}


@dataclass
class Worker:
    sentence: str | None = None

    def refusal(self, _: str) -> str | None:
        return self.sentence


async def status() -> dict[str, object]:
    return dict(STATUS)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built page of three files, with a secret beside it."""
    folder = tmp_path / "web" / "out"
    (folder / "_next" / "static").mkdir(parents=True)
    (folder / "index.html").write_text(f"<script>{SCRIPT}</script>")
    (folder / "404.html").write_text("nothing is here")
    (folder / "_next" / "static" / "a1b2.js").write_text("go = () => {}")
    (folder / "csp.json").write_text(json.dumps({"index.html": [HASH], "404.html": []}))
    (tmp_path / "web" / "secret.txt").write_text(SECRET)
    (folder / "link.txt").symlink_to(tmp_path / "web" / "secret.txt")
    monkeypatch.setattr("runner.web.RESOURCES", tmp_path)
    return folder


@asynccontextmanager
async def page(
    config: Web = CONFIG,
    worker: Worker | None = None,
    answer: Callable[[], Awaitable[dict[str, object]]] = status,
) -> AsyncIterator[ClientSession]:
    """A client of a page that is served."""
    runner = await start_page(config, ACCESS, worker or Worker(), answer)
    try:
        async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
            yield client
    finally:
        await runner.cleanup()


async def port_of(client: ClientSession) -> int:
    async with client.get("/api/health") as response:
        return response.url.port or 0


async def sentence(response: ClientResponse) -> str:
    """The error that the page would show."""
    return str((await response.json())["error"])


@pytest.mark.usefixtures("out")
class TestToken:
    async def test_admits_to_one_new_room_with_a_microphone_and_nothing_else(self) -> None:
        async with page() as client, client.post("/api/token", json={}) as response:
            answer = await response.json()
            assert response.status == 201
        assert answer["server_url"] == ACCESS.server_url
        claims = jwt.decode(answer["participant_token"], SECRET, algorithms=["HS256"])
        assert claims["video"] == {
            "roomJoin": True,
            "room": claims["video"]["room"],
            "canPublish": True,
            "canPublishSources": ["microphone"],
            "canPublishData": True,
            "canSubscribe": True,
            "canUpdateOwnMetadata": False,
            "canManageAgentSession": False,
        }
        assert claims["roomConfig"]["agents"] == [{"agentName": "voice-agent"}]
        assert claims["exp"] - time.time() == pytest.approx(CONFIG.token_ttl_s, abs=30)

    async def test_ignores_every_wish_of_the_caller(self) -> None:
        wish = {
            "room_name": "another-call",
            "participant_identity": "agent",
            "participant_metadata": "wish",
            "participant_attributes": {"lk.agent.state": "wish"},
            "room_config": {"agents": [{"agent_name": "wish"}]},
        }
        async with page() as client, client.post("/api/token", json=wish) as response:
            token = (await response.json())["participant_token"]
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        assert claims["video"]["room"].startswith("call-")
        assert claims["sub"].startswith("caller-")
        assert "wish" not in json.dumps(claims)

    def test_is_for_another_room_and_identity_each_time(self) -> None:
        tokens = [caller_token(ACCESS, Seat(), 600) for _ in range(50)]
        claims = [jwt.decode(token, SECRET, algorithms=["HS256"]) for token in tokens]
        assert len({claim["video"]["room"] for claim in claims}) == 50
        assert len({claim["sub"] for claim in claims}) == 50

    async def test_of_a_call_that_was_cut_off_leads_back_to_it(self) -> None:
        wish = {"participant_attributes": {"language": "pt-BR"}}
        async with page() as client:
            async with client.post("/api/token", json=wish) as response:
                first = (await response.json())["participant_token"]
            late = jwt.decode(first, SECRET, algorithms=["HS256"]) | {"exp": time.time() - 3600}
            again = {"resume": jwt.encode(late, SECRET, algorithm="HS256")}
            async with client.post("/api/token", json=again) as response:
                second = (await response.json())["participant_token"]
        one, other = (jwt.decode(token, SECRET, algorithms=["HS256"]) for token in (first, second))
        assert (one["sub"], one["video"], one["attributes"]) == (
            other["sub"],
            other["video"],
            {"language": "pt-BR"},
        )
        assert other["exp"] > time.time()
        assert other["roomConfig"]["departureTimeout"] == ACCESS.grace_s

    @pytest.mark.parametrize("way", ["garbage", "forged", "none", "old", "of_an_agent"])
    async def test_is_refused_to_whoever_was_not_in_that_call(self, way: str) -> None:
        claims = jwt.decode(caller_token(ACCESS, Seat(), 600), SECRET, algorithms=["HS256"])
        tokens = {
            "garbage": "x.y.z",
            "forged": jwt.encode(claims, "another" * 8, algorithm="HS256"),
            "none": jwt.encode(claims, "", algorithm="none"),
            "old": jwt.encode(claims | {"exp": 1}, SECRET, algorithm="HS256"),
            "of_an_agent": jwt.encode(claims | {"video": {"agent": True}}, SECRET, "HS256"),
        }
        again = {"resume": tokens[way]}
        async with page() as client, client.post("/api/token", json=again) as response:
            assert response.status == 403
            assert "cannot be taken up again" in await sentence(response)

    @pytest.mark.parametrize("language", ["de\n", "<b>", "x" * 50, 5, None, ["de"]])
    async def test_takes_no_language_that_is_none(self, language: object) -> None:
        wish = {"participant_attributes": {"language": language}}
        async with page() as client, client.post("/api/token", json=wish) as response:
            token = (await response.json())["participant_token"]
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        assert claims.get("attributes", {}) == {}

    async def test_is_refused_in_the_workers_words_when_no_call_can_be_taken(self) -> None:
        worker = Worker("All 20 lines are busy.")
        async with page(worker=worker) as client, client.post("/api/token", json={}) as response:
            assert response.status == 503
            assert await sentence(response) == "All 20 lines are busy."

    async def test_is_refused_beyond_the_rate_with_the_time_to_wait(self) -> None:
        async with page() as client:
            codes = []
            for _ in range(CONFIG.tokens_per_minute + 1):
                async with client.post("/api/token", json={}) as response:
                    codes.append(response.status)
                    wait_s = response.headers.get("Retry-After")
                    answer = await response.json()
        assert codes == [201, 201, 429]
        assert f"Try again in {wait_s} seconds" in answer["error"]

    async def test_is_not_counted_while_the_worker_refuses(self) -> None:
        worker = Worker("Busy.")
        async with page(worker=worker) as client:
            for _ in range(CONFIG.tokens_per_minute + 1):
                await client.post("/api/token", json={})
            worker.sentence = None
            async with client.post("/api/token", json={}) as response:
                assert response.status == 201

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 16_000])
    async def test_wants_a_json_object(self, body: bytes) -> None:
        async with page() as client, client.post("/api/token", data=body) as response:
            assert response.status == 400
            assert await sentence(response) == "The body must be a JSON object."

    async def test_reads_no_more_than_16_kib(self) -> None:
        body = json.dumps({"room_name": "x" * 16 * 1024})
        async with page() as client, client.post("/api/token", data=body) as response:
            assert response.status == 413
            assert "16 KiB" in await sentence(response)

    async def test_is_given_to_a_post_only(self) -> None:
        async with page() as client, client.put("/api/token", json={}) as response:
            assert response.status == 405

    def test_of_an_access_that_is_printed_shows_no_secret(self) -> None:
        assert SECRET not in repr(ACCESS)


@pytest.mark.usefixtures("out")
class TestOrigin:
    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1"])
    async def test_of_another_site_is_refused(self, origin: str) -> None:
        headers = {"Origin": origin}
        async with page() as client:
            async with client.post("/api/token", json={}, headers=headers) as response:
                assert response.status == 403
            async with client.get("/api/status", headers=headers) as response:
                assert response.status == 403

    async def test_of_the_page_itself_is_served(self) -> None:
        async with page() as client:
            headers = {"Origin": "http://Localhost:3000", "Host": "localhost:3000"}
            async with client.post("/api/token", json={}, headers=headers) as response:
                assert response.status == 201

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example:3000", "[", "", "192.168.0.1"]
    )
    async def test_under_a_foreign_name_is_refused_on_loopback(self, host: str) -> None:
        async with page() as client, client.get("/", headers={"Host": host}) as response:
            assert response.status == 403
            assert "Open http://127.0.0.1" in await sentence(response)

    @pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1", "[::1]:3000"])
    async def test_under_any_name_of_loopback_is_served(self, host: str) -> None:
        async with page() as client, client.get("/", headers={"Host": host}) as response:
            assert response.status == 200

    async def test_under_any_name_is_served_where_the_network_may_reach_it(self) -> None:
        open_to_all = replace(CONFIG, host="0.0.0.0")
        headers = {"Host": "voice.example"}
        async with page(open_to_all) as client, client.get("/", headers=headers) as response:
            assert response.status == 200


@pytest.mark.usefixtures("out")
class TestFiles:
    async def test_of_the_page_run_listed_scripts_and_reach_livekit_only(self) -> None:
        async with page() as client, client.get("/") as response:
            assert await response.text() == f"<script>{SCRIPT}</script>"
            policy = response.headers["Content-Security-Policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == f"'self' '{HASH}'"
        assert rules["connect-src"] == "'self' ws://localhost:7880 http://localhost:7880"
        assert rules["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy

    @pytest.mark.parametrize(
        "path", ["/", "/_next/static/a1b2.js", "/api/health", "/api/token", "/missing"]
    )
    async def test_and_answers_carry_the_security_headers(self, path: str) -> None:
        async with page() as client, client.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Permissions-Policy"].startswith("microphone=(self)")
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "aiohttp" not in response.headers["Server"]

    async def test_named_by_their_content_are_kept_and_pages_are_not(self) -> None:
        async with page() as client:
            async with client.get("/_next/static/a1b2.js") as response:
                assert "immutable" in response.headers["Cache-Control"]
            async with client.get("/") as response:
                assert response.headers["Cache-Control"] == "no-cache"
            async with client.get("/_next/static/gone.js") as response:
                assert response.headers["Cache-Control"] == "no-cache"
            async with client.get("/api/status") as response:
                assert response.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        "path",
        ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "//secret.txt", "_next/", "%00",
         "link.txt", "csp.json", "_next/static/../../../secret.txt"],
    )  # fmt: skip
    async def test_outside_the_page_do_not_exist(self, path: str) -> None:
        async with page() as client:
            reply = await raw(client, f"GET /{path} HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert reply.split(b" ", 2)[1] in (b"400", b"404")
        assert SECRET.encode() not in reply

    async def test_that_do_not_exist_are_answered_with_the_pages_own_words(self) -> None:
        async with page() as client:
            async with client.get("/missing") as response:
                assert response.status == 404
                assert await response.text() == "nothing is here"
            async with client.get("/api/missing") as response:
                assert response.status == 404
                assert await sentence(response) == "Not Found."

    @pytest.mark.parametrize(
        ("accepted", "encoding"),
        [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("identity", None)],
    )
    async def test_are_sent_as_the_browser_takes_them(
        self, out: Path, accepted: str, encoding: str | None
    ) -> None:
        script = out / "_next" / "static" / "a1b2.js"
        for suffix in (".br", ".gz"):
            script.with_name(f"a1b2.js{suffix}").write_bytes(suffix.encode())
        headers = {"Accept-Encoding": accepted}
        async with page() as client:
            path = "/_next/static/a1b2.js"
            async with client.get(path, headers=headers, auto_decompress=False) as response:
                assert response.headers.get("Content-Encoding") == encoding
                assert response.headers["Vary"] == "Accept-Encoding"
                assert response.headers["Content-Type"].partition(";")[0].endswith("/javascript")
                assert "immutable" in response.headers["Cache-Control"]
            async with client.get(f"{path}.br") as response:
                assert response.status == 404

    @pytest.mark.parametrize(
        "path", ["/operator", "/operator/", "/operator.html", "/operator/x.txt", "/operator.txt"]
    )
    async def test_of_the_operators_page_are_not_served_to_callers(
        self, out: Path, path: str
    ) -> None:
        (out / "operator").mkdir()
        for name in ("operator.html", "operator.txt", "operator/index.html", "operator/x.txt"):
            (out / name).write_text(SECRET)
        async with page() as client, client.get(path) as response:
            assert response.status == 404
            assert SECRET not in await response.text()

    async def test_and_every_other_answer_hold_no_key_and_no_prompt(self) -> None:
        async with page() as client:
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                for path in ("/", "/x", "/api/token", "/api/status", "/api/health", "/api/x"):
                    async with client.request(method, path) as response:
                        told = await response.text() + str(response.headers)
                        assert SECRET not in told
                        assert "participant_token" not in told
                        assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def raw(client: ClientSession, request: str) -> bytes:
    """The answer to a request that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(client))
    writer.write(request.encode())
    reply = await reader.read()
    writer.close()
    return reply


@pytest.mark.usefixtures("out")
class TestStart:
    async def test_answers_health_and_the_workers_status(self) -> None:
        async with page() as client:
            async with client.get("/api/health") as response:
                assert await response.json() == {"status": "ok"}
            async with client.get("/api/status") as response:
                assert await response.json() == STATUS

    async def test_hides_what_went_wrong_inside(self, caplog: pytest.LogCaptureFixture) -> None:
        async def broken() -> dict[str, object]:
            raise RuntimeError(f"no route to {SECRET}")

        async with page(answer=broken) as client, client.get("/api/status") as response:
            assert response.status == 500
            assert SECRET not in await response.text()
        assert "GET /api/status failed" in caplog.text

    async def test_names_another_runner_on_the_port_and_the_key(self) -> None:
        async with page() as client:
            taken = await port_of(client)
            with pytest.raises(ServiceError, match=f"Port {taken} is taken by another runner"):
                await start_page(replace(CONFIG, port=taken), ACCESS, Worker(), status)

    async def test_names_the_key_of_a_port_that_something_else_has(self) -> None:
        other = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        taken = other.sockets[0].getsockname()[1]
        async with other:
            with pytest.raises(ServiceError, match=rf"Port {taken} is taken\. .* web\.port="):
                await start_page(replace(CONFIG, port=taken), ACCESS, Worker(), status)

    async def test_names_the_keys_of_an_address_that_is_not_here(self) -> None:
        elsewhere = replace(CONFIG, host="192.0.2.1")
        with pytest.raises(ServiceError, match=r"Set web\.host"):
            await start_page(elsewhere, ACCESS, Worker(), status)

    async def test_says_how_to_build_a_page_that_is_not_there(self, out: Path) -> None:
        (out / "csp.json").unlink()
        with pytest.raises(ServiceError, match="make page"):
            await start_page(CONFIG, ACCESS, Worker(), status)


class TestRateLimit:
    def setup_method(self) -> None:
        self.now = 0.0
        self.limit = RateLimit(2, lambda: self.now)

    def test_slides_with_the_time_of_each_grant(self) -> None:
        waits = []
        for self.now in (0.0, 50.0, 59.0, 60.0, 61.0, 110.0):
            waits.append(self.limit.wait_s("192.0.2.1"))
        assert waits == [0, 0, 1, 0, 49, 0]

    def test_counts_addresses_apart_but_a_home_with_ipv6_as_one(self) -> None:
        for address in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "2001:db8::2"):
            assert self.limit.wait_s(address) == 0
        assert self.limit.wait_s("192.0.2.1") > 0
        assert self.limit.wait_s("2001:db8::3") > 0
        assert self.limit.wait_s("192.0.2.2") == 0
        assert self.limit.wait_s("2001:db8:0:1::1") == 0

    def test_remembers_no_more_than_its_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runner.tokens._MAX_ADDRESSES", 3)
        for last in (1, 2, 1, 3, 4):  # the fourth address pushes out 2, idle longest
            self.limit.wait_s(f"192.0.2.{last}")
        assert self.limit.wait_s("192.0.2.1") > 0
        assert [self.limit.wait_s("192.0.2.2") for _ in range(3)] == [0, 0, 60]
