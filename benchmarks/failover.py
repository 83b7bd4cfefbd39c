"""What failing providers cost: a table a part, against livekit-agents' own FallbackAdapter.

    .venv/bin/python benchmarks/failover.py death     # the LLM dies at a random token, 50 runs
    .venv/bin/python benchmarks/failover.py silent    # the LLM is silent: how much later
    .venv/bin/python benchmarks/failover.py cost      # what the chain costs when nothing fails
    .venv/bin/python benchmarks/failover.py permits   # how long a permit takes, and a dead call's
    .venv/bin/python benchmarks/failover.py storm     # 10,000 requests, 30 % of which meet a fault

Real AgentSessions, real chains and real sockets; the providers are simulated, in this process.
"""

import asyncio
import gc
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil
from livekit.agents import Agent, llm
from livekit.plugins import openai

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import build
from runner.calls import Calls
from runner.config import Config, Fault, FaultKind, OpenAILLM
from runner.line import Line, connect, open_switchboard
from runner.metrics import Metrics
from runner.providers.chat import ChatAnswers
from runner.providers.request import Request
from runner.switchboard import Switchboard
from tests.faults.talk import Talk, composed, nothing, simulator_of, talk

ANSWER = (
    "The library opens at nine in the morning and closes at six in the evening. On Saturdays it "
    "opens an hour later, and on Sundays the doors stay shut."
)
_ANSWER_TOKENS = 32
_AT_ONCE = 5
_STORM_AT_ONCE = 50
_MB = 1024 * 1024
_NO_BREAKER = "failover.breaker.failures=1000000"  # each run is a first time
_REAL_PACE = (
    "++simulate.servers.vllm.first_s=0.1",
    "++simulate.servers.vllm.per_token_s=0.01",
    "++simulate.servers.ollama.first_s=0.1",
    "++simulate.servers.ollama.per_token_s=0.01",
    "++simulate.servers.ollama.parallel=50",
    "++simulate.servers.openrouter.first_s=0.1",
    "++simulate.servers.openrouter.per_token_s=0.01",
    "++simulate.servers.speaches_gpu.first_s=0.2",
    *(
        f"++simulate.servers.{name}.realtime_factor=0.1"
        for name in ("speaches_gpu", "speaches_cpu")
    ),
    f'simulate.servers.vllm.answers=["{ANSWER}"]',
)


def fallback_adapter(config: Config, *, again: bool) -> Agent:
    """The same two LLMs behind livekit-agents' own adapter; ``again``: its option to ask the next
    one also after a chunk was sent."""
    llms: list[llm.LLM[Any]] = [
        openai.LLM(model=one.model, base_url=one.base_url, api_key="none", max_retries=0)
        for one in (config.llm, config.fallback["ollama"])
        if isinstance(one, OpenAILLM)
    ]
    adapter = llm.FallbackAdapter(llms, attempt_timeout=1.0, retry_on_chunk_sent=again)
    return Agent(instructions="Be brief.", llm=adapter)


Arm = tuple[str, tuple[str, ...], Callable[[Config], Agent] | None]
DEATH_ARMS: list[Arm] = [
    ("runner, the next goes on", ("failover.order=[ollama]",), None),
    ("runner, the next is told to", ("failover.order=[openrouter]",), None),
    (
        "runner, and it repeats",
        ("failover.order=[openrouter]", "++simulate.servers.openrouter.manners=repeats_words"),
        None,
    ),
    (
        "runner, and it restarts",
        ("failover.order=[openrouter]", "++simulate.servers.openrouter.manners=restarts"),
        None,
    ),
    ("FallbackAdapter", (), lambda config: fallback_adapter(config, again=False)),
    (
        "FallbackAdapter, retry_on_chunk_sent",
        (),
        lambda config: fallback_adapter(config, again=True),
    ),
]


async def death(runs: int) -> None:
    """The first LLM dies at a random token, in a random way: what is heard, and how long the
    longest silence is."""
    dice = random.Random(1)
    ways: tuple[FaultKind, ...] = ("cut", "truncate", "stall_after", "malformed", "error_chunk")
    deaths = [
        Fault(dice.choice(ways), at=[at], after=dice.randrange(1, _ANSWER_TOKENS))
        for at in range(1, runs + 1)
    ]
    print(f"{'':<38}{'runs':>5}{'lost':>6}{'twice':>6}{'gap p50':>9}{'worst':>7}  (words; s)")
    for name, overrides, agent in DEATH_ARMS:
        heard = await _heard(runs, deaths, overrides, agent)
        lost, twice, gaps = zip(*heard, strict=True)
        print(
            f"{name:<38}{runs:>5}{sum(lost):>6}{sum(twice):>6}"
            f"{statistics.median(gaps):>9.2f}{max(gaps):>7.2f}",
            flush=True,
        )


async def _heard(
    runs: int,
    deaths: list[Fault],
    overrides: tuple[str, ...],
    agent: Callable[[Config], Agent] | None,
) -> list[tuple[int, int, float]]:
    """Words lost, words said twice and the longest silence, of each run."""
    results: list[tuple[int, int, float]] = []
    async with talk(*_REAL_PACE, _NO_BREAKER, *overrides) as host:
        await host.fail("vllm", *deaths)

        async def one() -> None:
            persona = agent(host.config) if agent else None
            async with talk(beside=host, agent=persona, pace=1.0) as call:
                said = await _ask(call)
                results.append((*_compare(said), max(call.ear.gaps_s, default=0.0)))

        for begun in range(0, runs, _AT_ONCE):
            await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, runs - begun))))
    return results


async def _ask(call: Talk) -> str:
    try:
        return await call.ask()
    except Exception:  # noqa: BLE001  an arm that gives up has said what it has said
        await asyncio.sleep(1)
        return " ".join(m.text_content or "" for m in call.messages if m.role == "assistant")


def _compare(said: str) -> tuple[int, int]:
    """How many words of the answer are missing, how many are there too often."""
    wanted, got = Counter(ANSWER.split()), Counter(said.split())
    return (wanted - got).total(), (got - wanted).total()


async def silent(runs: int) -> None:
    """How much later an answer is heard when the first LLM sends keep-alives only."""
    waits: dict[str, list[float]] = {"healthy": [], "silent": []}
    async with talk(*_REAL_PACE, _NO_BREAKER, "failover.order=[ollama]") as host:
        for _ in range(runs):
            for name, faults in (("healthy", []), ("silent", [Fault("keepalive_only")])):
                await host.fail("vllm", *faults)
                async with talk(beside=host) as call:
                    began = time.monotonic()
                    await call.ask()
                    assert call.ear.first_at
                    waits[name].append(call.ear.first_at - began)
    for name, values in waits.items():
        print(f"{name:<10}{len(values):>4} runs, first sound after {_percentiles(values)} s")
    later = [s - h for s, h in zip(waits["silent"], waits["healthy"], strict=True)]
    print(f"{'later by':<10}{'':>4}                         {_percentiles(later)} s")


async def cost(runs: int) -> None:
    """Time to the first token and to the last: the chain, our client alone, the openai plugin."""
    settings = composed(*_REAL_PACE[:2], "failover.order=[ollama]")
    times: dict[str, list[tuple[float, float]]] = {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulator_of(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        desk = await stack.enter_async_context(build.switchboard(settings, http, Metrics()))
        chain = build.llm_chain(settings, desk, http, nothing, nothing)
        assert isinstance(settings.llm, OpenAILLM)
        client = ChatAnswers(settings.llm, "", http)
        plugin = openai.LLM(
            model=client.model, base_url=settings.llm.base_url, api_key="none", max_retries=0
        )
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="When does the library open?")
        arms: dict[str, Callable[[], AsyncIterator[llm.ChatChunk]]] = {
            "chain": lambda: _stream(chain.chat(chat_ctx=context)),
            "client alone": lambda: client.answer(Request(context)),
            "openai plugin": lambda: _stream(plugin.chat(chat_ctx=context)),
        }
        for run in range(runs + 5):
            for name, ask in arms.items():
                taken = await _timed(ask())
                if run >= 5:  # the first ones open connections
                    times.setdefault(name, []).append(taken)
    print(f"{'ms, p50 / p95':<16}{'first token':>20}{'last token':>20}")
    for name, pairs in times.items():
        first, last = zip(*pairs, strict=True)
        print(f"{name:<16}{_ms(first):>20}{_ms(last):>20}")
    for other in ("client alone", "openai plugin"):
        more = [c[0] - o[0] for c, o in zip(times["chain"], times[other], strict=True)]
        later_ms = statistics.median(more) * 1000
        print(f"the chain against {other}: {later_ms:+.2f} ms to the first token")


async def _stream(stream: llm.LLMStream) -> AsyncIterator[llm.ChatChunk]:
    async with stream:
        async for chunk in stream:
            yield chunk


async def _timed(chunks: AsyncIterator[llm.ChatChunk]) -> tuple[float, float]:
    began = time.perf_counter()
    first = last = 0.0
    async for chunk in chunks:
        if chunk.has_response():
            last = time.perf_counter() - began
            first = first or last
    return first, last


KINDS = ("status", "stall_after", "truncate", "cut", "malformed", "error_chunk", "empty", "hang")


@asynccontextmanager
async def _storm_chain() -> AsyncIterator[tuple[Any, Any, Any]]:
    settings = composed(
        *(f"++simulate.servers.{name}.first_s=0" for name in ("vllm", "ollama")),
        *(f"++simulate.servers.{name}.per_token_s=0" for name in ("vllm", "ollama")),
        "++simulate.servers.ollama.parallel=1000",
        "failover.order=[ollama]",
        "llm.first_token_s=0.2",
        "llm.stall_s=0.2",
        "fallback.ollama.first_token_s=0.2",
        "fallback.ollama.stall_s=0.2",
        "failover.patience_s=0.5",
        _NO_BREAKER,
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulator_of(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        desk = await stack.enter_async_context(build.switchboard(settings, http, Metrics()))
        for seed, name in enumerate(("vllm", "ollama")):
            dice = random.Random(seed)
            struck: dict[str, list[int]] = {kind: [] for kind in KINDS}
            for number in range(1, 20_000):
                if dice.random() < 0.3:
                    struck[dice.choice(KINDS)].append(number)
            faults = [
                Fault(kind, at=at, after=dice.randrange(1, 12), status=500)  # type: ignore[arg-type]
                for kind, at in struck.items()
            ]
            simulator.states[name].script.set(faults)
        yield build.llm_chain(settings, desk, http, nothing, nothing), desk, simulator


async def storm(requests: int) -> None:
    """Whether permits, tasks or memory are left behind."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="When does the library open?")
    outcomes: Counter[str] = Counter()
    async with _storm_chain() as (chain, desk, simulator):
        numbers = iter(range(requests))
        wanted = (await chain.chat(chat_ctx=context).collect()).text

        async def caller() -> None:
            for _ in numbers:
                try:
                    text = (await chain.chat(chat_ctx=context).collect()).text
                except Exception as error:  # noqa: BLE001
                    outcomes[type(error).__name__] += 1
                else:
                    outcomes["right" if text == wanted else "wrong"] += 1

        tasks = asyncio.all_tasks()
        for part in range(5):
            numbers = iter(range(requests // 5))
            await asyncio.gather(*(caller() for _ in range(_STORM_AT_ONCE)))
            for state in simulator.states.values():
                state.journal.reset()  # the simulator's memory of its requests is not the runner's
            gc.collect()
            memory = psutil.Process().memory_info().rss / _MB
            print(
                f"{(part + 1) * requests // 5:>6} requests: {dict(outcomes)}, permits held "
                f"{desk.in_flight}, waiting {desk.waiting}, {memory:.0f} MB",
                flush=True,
            )
        await asyncio.sleep(1)
        left = Counter(_coroutine(task) for task in asyncio.all_tasks() - tasks)
        print(f"tasks left: {dict(left)}; RequestHandler.start is a connection to the simulator")


async def permits(runs: int) -> None:
    """How long a permit takes over a call's line, and until a killed call's is another's."""
    asked: list[float] = []
    freed: list[float] = []
    settings = composed().failover.breaker
    with TemporaryDirectory() as folder:
        path = Path(folder, "switchboard")
        board = Switchboard(1, settings, nothing, Metrics())  # type: ignore[arg-type]
        async with board, open_switchboard(board, Calls(), path, lambda _: None):
            line = await connect(path)
            for _ in range(runs):
                for _ in range(20):
                    async with line.permit() as waited_s:
                        asked.append(waited_s)
                holder = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _HOLDER, str(path), stdout=asyncio.subprocess.PIPE
                )
                assert holder.stdout
                await holder.stdout.readline()
                waiting = asyncio.create_task(_once(line))
                while board.waiting == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                killed_at = time.perf_counter()
                holder.kill()
                freed.append(await waiting - killed_at)
                await holder.wait()
            await line.aclose()
    print(f"permit, asked and given: ms p50 / p95 {_ms(asked)}")
    print(f"kill -9 of its holder to the next in line: ms p50 / p95 {_ms(freed)}")


async def _once(line: Line) -> float:
    async with line.permit():
        return time.perf_counter()


_HOLDER = """
import asyncio, pathlib, sys
from runner.line import connect

async def main():
    async with (await connect(pathlib.Path(sys.argv[1]))).permit():
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def _coroutine(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", str(task.get_coro()))


def _percentiles(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return f"p50 {cuts[9]:.3f}, p95 {cuts[18]:.3f}"


def _ms(values: Any) -> str:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return f"{cuts[9] * 1000:.2f} / {cuts[18] * 1000:.2f}"


PARTS = {
    "death": (death, 50),
    "silent": (silent, 20),
    "cost": (cost, 200),
    "storm": (storm, 10_000),
    "permits": (permits, 20),
}

if __name__ == "__main__":
    part, runs = PARTS[sys.argv[1]]
    asyncio.run(part(int(sys.argv[2]) if len(sys.argv) > 2 else runs))
