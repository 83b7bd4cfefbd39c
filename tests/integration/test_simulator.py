"""The simulated servers over real sockets: what each fault looks like on the wire."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
from aiohttp import web

from runner import checks
from runner.config import Fault, RetrievalLLM, SimulatedServer, Simulation, ToolAnswer
from runner.errors import ConfigError, ServiceError
from runner.folders import RESOURCES
from runner.providers.request import instruction_to_continue
from runner.services import Supervisor
from runner.simulator import service
from runner.simulator.answers import tokens
from runner.simulator.server import Simulator
from tests.composed import composed
from tests.ports import free_port

ANSWER = "One two three, four five — sechs Überraschungen! Seven eight."
QUICK = SimulatedServer("openai", 0, ["m"], first_s=0, per_token_s=0, answers=[ANSWER])
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Count."}]}
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def simulated(**servers: SimulatedServer) -> AsyncIterator["Client"]:
    """Servers by name, at free ports; the first one is asked."""
    async with (
        asyncio.timeout(PATIENCE_S),
        Simulator(Simulation(0, servers)) as simulator,
        aiohttp.ClientSession() as http,
    ):
        yield Client(simulator, http, next(iter(servers)))


class Client:
    """Asks one server, as its clients do."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession, name: str) -> None:
        self.simulator, self.http, self.name = simulator, http, name

    def at(self, name: str) -> "Client":
        return Client(self.simulator, self.http, name)

    def post(self, path: str, **body: Any) -> Any:
        return self.http.post(f"{self.simulator.url(self.name)}/v1{path}", json=body)

    async def complete(self, **more: Any) -> dict[str, Any]:
        async with self.post("/chat/completions", **ASK | more) as answer:
            result: dict[str, Any] = await answer.json()
            return {"status": answer.status} | result

    async def stream(self, **more: Any) -> list[str]:
        """The events of an answer, without their "data: "."""
        async with self.post("/chat/completions", **ASK | more, stream=True) as answer:
            assert answer.status == 200
            text = (await answer.read()).decode()
        return [event.removeprefix("data: ") for event in text.split("\n\n") if event]

    async def say(self, **more: Any) -> str:
        """The text of a streamed answer."""
        return text_of(await self.stream(**more))

    async def control(self, path: str, body: object = None) -> dict[str, Any]:
        url = f"{self.simulator.url(self.name)}/_simulator/{path}"
        asked = self.http.get(url) if path == "log" else self.http.post(url, json=body)
        async with asked as answer:
            assert answer.status == 200, await answer.text()
            result: dict[str, Any] = await answer.json()
            return result

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which an answer was asked for."""
        body = json.dumps(ASK | {"stream": True}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
        url = urlsplit(self.simulator.url(self.name))
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return reader, writer


def text_of(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event.startswith("{")]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def until_ended(client: Client) -> dict[str, Any]:
    """The last request, once it has ended."""
    while True:
        log = await client.control("log")
        if log["in_flight"] == 0 and log["requests"][-1]["end"]:
            last: dict[str, Any] = log["requests"][-1]
            return last


async def test_a_stream_ends_with_its_finish_reason_its_usage_and_done() -> None:
    async with simulated(vllm=QUICK) as client:
        *_, finish, usage, done = await client.stream(stream_options={"include_usage": True})
        assert json.loads(finish)["choices"][0]["finish_reason"] == "stop"
        assert json.loads(usage)["usage"]["completion_tokens"] == len(answer_tokens())
        assert done == "[DONE]"
        assert await client.say() == ANSWER


async def test_the_same_answer_comes_whole_where_no_stream_is_asked_for() -> None:
    async with simulated(vllm=QUICK) as client:
        answer = await client.complete()
        assert answer["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    ("kind", "last"),
    [("truncate", " three"), ("malformed", '{"content":" "}'), ("error_chunk", '{"error":')],
)
async def test_a_stream_that_breaks_has_said_so_many_tokens_and_no_end(
    kind: Any, last: str
) -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault(kind, after=3)])) as client:
        events = await client.stream()
        assert last in events[-1]
        whole = [event for event in events if is_json(event)]
        assert text_of(whole) == "One two three"
        assert "[DONE]" not in events
        assert (await until_ended(client))["ended"] == "fault"


async def test_a_cut_stream_is_a_reset_after_so_many_tokens() -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault("cut", after=3)])) as client:
        reader, writer = await client.raw()
        assert b" two" in await reader.readuntil(b" three")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (await until_ended(client))["tokens"] == 3


@pytest.mark.parametrize("kind", ["stall_after", "keepalive_only", "hang"])
async def test_a_silent_server_notices_that_the_client_has_gone(kind: Any) -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault(kind, after=3)])) as client:
        asking = asyncio.create_task(client.stream())
        while (await client.control("log"))["in_flight"] == 0:
            pass
        asking.cancel()
        last = await until_ended(client)
        assert last["fault"] == kind
        assert last["tokens"] <= 3


async def test_a_client_that_hangs_up_on_a_healthy_server_is_told_from_a_fault() -> None:
    async with simulated(vllm=replace(QUICK, per_token_s=60)) as client:
        async with client.post("/chat/completions", **ASK, stream=True) as answer:
            await answer.content.readline()
            answer.close()
        last = await until_ended(client)
        assert (last["ended"], last["tokens"]) == ("hung up", 1)


async def test_comments_come_instead_of_tokens() -> None:
    fault = Fault("keepalive_only", seconds=0.5)
    async with simulated(vllm=replace(QUICK, faults=[fault])) as client:
        events = await client.stream()
        assert events[:3] == [": keep-alive"] * 3
        assert text_of(events) == ANSWER


async def test_an_empty_answer_has_an_end_and_no_word() -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault("empty")])) as client:
        events = await client.stream()
        assert text_of(events) == ""
        assert events[-1] == "[DONE]"


async def test_a_status_comes_with_its_retry_after_at_its_request_alone() -> None:
    fault = Fault("status", at=[2], status=429, retry_after_s=7)
    async with simulated(vllm=replace(QUICK, faults=[fault])) as client:
        assert await client.say() == ANSWER
        async with client.post("/chat/completions", **ASK) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert await client.say() == ANSWER


async def test_nothing_listens_while_the_script_refuses_and_the_log_is_reached_elsewhere() -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault("refuse", at=[2])])) as client:
        assert await client.say() == ANSWER
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.say()
        listener = client.simulator.control_url
        async with client.http.get(f"{listener}/vllm/_simulator/log") as answer:
            assert len((await answer.json())["requests"]) == 1
        async with client.http.post(f"{listener}/vllm/_simulator/faults", json=[]) as answer:
            assert answer.status == 200
        assert await client.say() == ANSWER


async def test_a_server_that_refuses_for_a_time_is_back_at_the_same_port() -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault("refuse", seconds=0.2)])) as client:
        url = client.simulator.url("vllm")
        refused = 0
        while True:
            try:
                assert await client.say() == ANSWER
            except aiohttp.ClientConnectorError:
                refused += 1
                await asyncio.sleep(0.02)
            else:
                break
        assert refused
        assert client.simulator.url("vllm") == url


async def test_faults_are_changed_while_it_runs_and_a_wrong_one_is_refused() -> None:
    async with simulated(vllm=QUICK) as client:
        await client.control("faults", [{"kind": "empty", "at": [1]}])
        assert await client.say() == ""
        assert await client.say() == ANSWER
        url = f"{client.simulator.url('vllm')}/_simulator/faults"
        async with client.http.post(url, json=[{"kind": "explode"}]) as answer:
            assert answer.status == 400
            assert "0.kind" in await answer.text()


async def test_a_reset_forgets_the_log_and_brings_the_first_faults_back() -> None:
    async with simulated(vllm=replace(QUICK, faults=[Fault("empty", at=[1])])) as client:
        assert await client.say() == ""
        await client.control("reset")
        assert await client.say() == ""
        assert [entry["number"] for entry in (await client.control("log"))["requests"]] == [1]


async def test_the_log_tells_who_was_in_flight_and_what_was_asked() -> None:
    async with simulated(vllm=replace(QUICK, first_s=0.2)) as client:
        await asyncio.gather(*(client.say() for _ in range(5)))
        log = await client.control("log")
        assert (log["peak"], log["in_flight"]) == (5, 0)
        entry = log["requests"][0]
        assert entry["asked"] == ["user: Count."]
        assert entry["begin"] + 0.2 <= entry["first_byte"] <= entry["end"]
        assert (entry["ended"], entry["tokens"]) == ("whole", len(answer_tokens()))


async def test_ollama_answers_one_at_a_time_unless_told_otherwise() -> None:
    ollama = replace(QUICK, speaks="ollama", first_s=0.05, per_token_s=0.002)
    async with simulated(ollama=ollama) as client:
        await asyncio.gather(*(client.say() for _ in range(3)))
        entries = (await client.control("log"))["requests"]
        by_start = sorted(entries, key=lambda entry: entry["first_byte"])
        for one, next_one in itertools.pairwise(by_start):
            assert next_one["first_byte"] >= one["end"] + 0.05


async def test_ollama_knows_one_of_the_two_names_for_the_longest_answer() -> None:
    async with simulated(ollama=replace(QUICK, speaks="ollama"), vllm=QUICK) as client:
        assert await client.say(max_completion_tokens=2) == ANSWER
        assert await client.say(max_tokens=2) == "One two"
        assert await client.at("vllm").say(max_completion_tokens=2) == "One two"


async def test_a_prompt_past_the_context_is_refused_by_vllm_and_cut_by_ollama() -> None:
    small = replace(QUICK, context_tokens=60)
    long = [{"role": "user", "content": "x" * 100} for _ in range(4)]
    async with simulated(ollama=replace(small, speaks="ollama"), vllm=small) as client:
        assert await client.say(messages=long) == ANSWER
        assert (await client.control("log"))["requests"][0]["dropped"] == 2
        refused = await client.at("vllm").complete(messages=long)
        assert refused["status"] == 400
        assert "maximum context length is 60" in refused["error"]["message"]


@pytest.mark.parametrize(
    ("speaks", "status"), [("openai", 404), ("ollama", 404), ("openrouter", 400)]
)
async def test_an_unknown_model_is_refused(speaks: Any, status: int) -> None:
    async with simulated(server=replace(QUICK, speaks=speaks)) as client:
        refused = await client.complete(model="other")
        assert refused["status"] == status
        assert "other" in refused["error"]["message"]


async def test_a_wrong_key_gets_a_401_at_the_models_too() -> None:
    async with simulated(vllm=replace(QUICK, api_key="right")) as client:
        assert (await client.complete())["status"] == 401
        async with client.http.get(f"{client.simulator.url('vllm')}/v1/models") as answer:
            assert answer.status == 401
        client.http.headers["Authorization"] = "Bearer right"
        assert await client.say() == ANSWER


SAID = [*ASK["messages"], {"role": "assistant", "content": "One two three,"}]
FLAGS = {"continue_final_message": True, "add_generation_prompt": False}


async def test_vllm_goes_on_where_its_flags_say_so_and_refuses_both() -> None:
    async with simulated(vllm=QUICK) as client:
        rest = await client.say(messages=SAID, **FLAGS)
        assert f"One two three,{rest}" == ANSWER
        refused = await client.complete(messages=SAID, continue_final_message=True)
        assert refused["status"] == 400
        assert await client.say(messages=SAID) == ANSWER


async def test_ollama_goes_on_with_a_final_assistant_message() -> None:
    ollama = replace(QUICK, speaks="ollama")
    async with simulated(ollama=ollama, other=replace(ollama, continues=False)) as client:
        assert f"One two three,{await client.say(messages=SAID)}" == ANSWER
        assert await client.at("other").say(messages=SAID) == ANSWER


async def test_a_model_that_is_told_to_go_on_may_begin_with_words_that_were_said() -> None:
    told = [*SAID, {"role": "user", "content": instruction_to_continue("One two three,")}]
    clumsy = replace(QUICK, speaks="openrouter", manners="repeats_words")
    async with simulated(openrouter=clumsy) as client:
        assert await client.say(messages=told) == ANSWER


async def test_openrouter_says_that_it_is_at_work_and_ends_with_an_error_event() -> None:
    broken = replace(QUICK, speaks="openrouter", faults=[Fault("error_chunk", after=1)])
    async with simulated(openrouter=broken) as client:
        first, *_, last = await client.stream()
        assert first == ": OPENROUTER PROCESSING"
        chunk = json.loads(last)
        assert chunk["choices"][0]["finish_reason"] == "error"
        assert chunk["error"]["code"] == 502


@pytest.mark.parametrize("speaks", ["openai", "ollama"])
async def test_a_tool_call_arrives_with_its_arguments(speaks: Any) -> None:
    call = ToolAnswer("search", {"query": "Öffnungszeiten"})
    tools = [{"type": "function", "function": {"name": "search"}}]
    async with simulated(server=replace(QUICK, speaks=speaks, answers=[call, "Nine."])) as client:
        chunks = [json.loads(e) for e in (await client.stream(tools=tools))[:-1]]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert calls[0]["function"]["name"] == "search"
        arguments = "".join(call["function"]["arguments"] for call in calls)
        assert json.loads(arguments) == {"query": "Öffnungszeiten"}
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_transcripts_are_given_in_turn_and_equal_sound_is_told_by_its_hash() -> None:
    async with simulated(stt=replace(QUICK, transcripts=["Hello.", "Goodbye."])) as client:
        heard = [await transcribe(client, b"RIFF") for _ in range(2)]
        assert heard == [{"text": "Hello."}, {"text": "Goodbye."}]
        first, second = (await client.control("log"))["requests"]
        assert first["asked"] == second["asked"] != []


@pytest.mark.parametrize(
    ("fault", "rate", "size"),
    [
        (None, 24_000, 48_000),
        (Fault("wrong_rate"), 16_000, 32_000),
        (Fault("truncate", after=1001), 24_000, 1001),
        (Fault("empty"), 24_000, 0),
        (Fault("silence"), 24_000, 48_000),
        (Fault("garbage"), 24_000, 48_000),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
async def test_a_voice_speaks_fifteen_characters_a_second_as_far_as_its_fault_lets_it(
    fault: Fault | None, rate: int, size: int
) -> None:
    async with simulated(tts=replace(QUICK, faults=[fault] if fault else [])) as client:
        kind, sound = await speak(client)
        assert kind == f"audio/pcm;rate={rate}"
        assert len(sound) == size
        assert (sound == bytes(size)) == (fault is not None and fault.kind in ("silence", "empty"))


async def test_a_wav_names_the_rate_that_it_has_and_not_the_one_asked_for() -> None:
    async with simulated(tts=replace(QUICK, faults=[Fault("wrong_rate")])) as client:
        _, sound = await speak(client, response_format="wav", sample_rate=16_000)
        assert sound[:4] == b"RIFF"
        assert int.from_bytes(sound[24:28], "little") == 24_000
        assert len(sound) == 44 + 48_000


@pytest.mark.parametrize(("body", "begins"), [("mp3", b"ID3"), ("html", b"<!DOCTYPE")])
async def test_garbage_is_what_broken_servers_send(body: Any, begins: bytes) -> None:
    async with simulated(tts=replace(QUICK, faults=[Fault("garbage", body=body)])) as client:
        _, sound = await speak(client)
        assert sound.startswith(begins)


async def test_speech_is_relayed_from_the_server_behind_and_fails_by_the_script() -> None:
    async with behind() as upstream:
        relay = replace(QUICK, upstream=upstream, faults=[Fault("truncate", at=[3], after=5)])
        async with simulated(relay=relay) as client:
            assert await transcribe(client, b"RIFF") == {"text": "heard 4 bytes"}
            assert (await speak(client, speed=1.5))[1] == b"pcm 24000 1.5 "
            assert (await speak(client, speed=1.5))[1] == b"pcm 2"


async def test_a_voice_can_fail_beside_ears_that_are_well() -> None:
    deaf = Fault("empty", endpoint="speech")
    async with simulated(both=replace(QUICK, transcripts=["Hello."], faults=[deaf])) as client:
        assert await transcribe(client, b"RIFF") == {"text": "Hello."}
        assert (await speak(client))[1] == b""


async def test_a_relay_without_its_server_is_a_bad_gateway() -> None:
    nobody = replace(QUICK, upstream=f"http://127.0.0.1:{free_port()}/v1")
    async with simulated(relay=nobody) as client:
        async with client.post("/audio/speech", model="m", input="Hi.") as answer:
            assert answer.status == 400  # mp3 is OpenAI's default, and not what is spoken here
        body = {"model": "m", "input": "Hi.", "response_format": "pcm"}
        async with client.post("/audio/speech", **body) as answer:
            assert answer.status == 502


async def test_equal_texts_have_equal_vectors_of_length_one() -> None:
    async with (
        simulated(embedding=replace(QUICK, dimensions=8)) as client,
        client.post("/embeddings", model="m", input=["a", "b", "a"]) as answer,
    ):
        vectors = [item["embedding"] for item in (await answer.json())["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert [round(sum(x * x for x in vector), 9) for vector in vectors] == [1.0] * 3


async def test_the_process_is_ready_when_its_ports_listen_and_plays_other_faults() -> None:
    server = replace(QUICK, port=free_port())
    simulation = Simulation(free_port(), {"vllm": server})
    assert not await service.play(simulation)
    async with Supervisor(lambda *_: None, PATIENCE_S) as supervisor, aiohttp.ClientSession() as h:
        await supervisor.start([service.service(simulation)])
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        async with h.post(url, json=ASK) as answer:
            assert answer.status == 200
        other = replace(server, faults=[Fault("status", status=500)])
        assert await service.play(replace(simulation, servers={"vllm": other}))
        async with h.post(url, json=ASK) as answer:
            assert answer.status == 500
    assert not await service.play(simulation)


async def test_a_taken_port_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"{port}.*simulate\.servers\.vllm\.port"):
            async with simulated(vllm=replace(QUICK, port=port)):
                pass


def test_the_process_ends_with_a_parent_that_is_killed() -> None:
    simulation = Simulation(free_port(), {"vllm": replace(QUICK, port=free_port())})
    program = f"""
        import asyncio, sys
        from runner.services import Supervisor
        from runner.simulator.service import SETTINGS, service
        async def main():
            async with Supervisor(lambda *_: None, {PATIENCE_S}) as supervisor:
                simulation = SETTINGS.validate_json(sys.argv[1])
                await supervisor.start([service(simulation)])
                print("ready", flush=True)
                await asyncio.sleep(10_000)
        asyncio.run(main())
    """
    settings = service.SETTINGS.dump_json(simulation).decode()
    argv = [sys.executable, "-c", textwrap.dedent(program), settings]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert any("runner.simulator" in child.cmdline() for child in children)
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive


PRESETS = sorted(path.stem for path in (RESOURCES / "conf/simulate").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_points_the_chains_at_servers_that_know_their_models(preset: str) -> None:
    settings = composed(f"simulate={preset}")
    checks.check(settings)
    servers = {} if settings.simulate is None else settings.simulate.servers
    models = {
        address: server.models
        for server in servers.values()
        for address in (
            f"http://127.0.0.1:{server.port}/v1",  # OpenAI's shapes
            f"http://127.0.0.1:{server.port}",  # Google's
            f"https://127.0.0.1:{server.tls_port}",  # the Live API
        )
    }
    llms = [settings.llm, *(settings.fallback[name] for name in settings.failover.order)]
    for llm in llms if servers else []:
        assert not isinstance(llm, RetrievalLLM)
        assert llm.model in models[llm.base_url]
    for url in settings.gpu.stt.values() if "speaches_gpu" in servers else []:
        assert {settings.stt_tts.stt.model, settings.stt_tts.tts.model} <= {*models[url]}


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "off"])
def test_a_preset_is_headed_by_its_command_and_explained_in_the_manual(preset: str) -> None:
    text = (RESOURCES / f"conf/simulate/{preset}.yaml").read_text()
    assert f"#   python -m runner simulate={preset}\n" in text
    assert f"| `{preset}` |" in (RESOURCES / "docs/simulator.md").read_text()


def test_two_servers_at_one_port_are_refused() -> None:
    settings = composed("simulate=healthy", "simulate.servers.ollama.port=18001")
    with pytest.raises(ConfigError, match=r"simulate\.servers\.ollama\.port"):
        checks.check(settings)


def answer_tokens() -> list[str]:
    return tokens(ANSWER)


def is_json(event: str) -> bool:
    try:
        return isinstance(json.loads(event), dict)
    except ValueError:
        return False


async def transcribe(client: Client, sound: bytes) -> dict[str, Any]:
    form = aiohttp.FormData()
    form.add_field("model", "m")
    form.add_field("file", sound, filename="a.wav")
    url = f"{client.simulator.url(client.name)}/v1/audio/transcriptions"
    async with client.http.post(url, data=form) as answer:
        result: dict[str, Any] = await answer.json()
        return result


async def speak(client: Client, **more: Any) -> tuple[str, bytes]:
    """The content type and the body of fifteen characters: a second of sound."""
    body = {"model": "m", "input": "fifteen letters", "response_format": "pcm"} | more
    async with client.post("/audio/speech", **body) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.read()


@contextlib.asynccontextmanager
async def behind() -> AsyncIterator[str]:
    """A server that tells what it was asked."""

    async def transcriptions(request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        return web.json_response({"text": f"heard {len(upload.file.read())} bytes"})

    async def speech(request: web.Request) -> web.Response:
        asked = await request.json()
        text = f"{asked['response_format']} {asked['sample_rate']} {asked['speed']} "
        return web.Response(body=text.encode())

    app = web.Application()
    app.router.add_post("/v1/audio/transcriptions", transcriptions)
    app.router.add_post("/v1/audio/speech", speech)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()
