"""``task=bench`` as its users start it: two turns without a room, the report, the second start."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from runner.bench.results import Folder
from tests.chromium import CHROMIUM
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SWEEPER = """
import json, os
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class Told(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        [done] = self.launcher.launch([arguments], initial_job_idx=0)
        with open(os.environ["TOLD"], "w") as file:
            json.dump(done.return_value, file)


node = {"_target_": "hydra_plugins.told.Told"}
ConfigStore.instance().store(group="hydra/sweeper", name="told", node=node)
"""
"""A sweeper that measures once, and writes down what it is told of that."""

SERVERS = ("vllm", "ollama", "openrouter", "speaches_gpu", "speaches_cpu", "voice")


@dataclass(frozen=True)
class Measured:
    out: Path
    overrides: list[str]
    ended: subprocess.CompletedProcess[str]


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments, "+experiment=bench"],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(
    new_data_dir: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    out = tmp_path_factory.mktemp("bench")
    overrides = [
        f"simulate.port={free_port()}",
        *(f"simulate.servers.{name}.port={free_port()}" for name in SERVERS),
        f"deployment.data_dir={new_data_dir()}",
        "database.port=1",
        f"task.out={out}",
        "task.rounds=1",
        "task.turns=2",
        "task.warm_up=1",
        "task.turns_per_minute=60",
        "task.rest_s=0.1",
        'simulate.servers.vllm.answers=["It opens at nine."]',  # callers hear it to its end
    ]
    return Measured(out, overrides, bench(*overrides))


def test_a_round_tells_what_callers_waited_and_where_the_time_went(
    measured: Measured,
) -> None:
    assert measured.ended.returncode == 0, measured.ended.stderr
    results = Folder(measured.out).read()
    [facts] = results.rounds
    assert (facts.arm, facts.callers) == ("runner", 1)
    assert facts.cpu > 0
    assert facts.simulator_cpu > 0
    assert facts.memory > 0
    assert len(results.turns) == 2
    for turn in results.turns:
        assert (turn.lost, turn.wrong, turn.cut) == (False, False, False)
        assert turn.e2e_s
        assert 0 < turn.made_s["stt"] < turn.made_s["llm"] < turn.made_s["tts"] <= turn.e2e_s
    assert "report.html" in measured.ended.stdout


async def test_the_report_loads_nothing(
    measured: Measured,
) -> None:
    asked, complaints = [], []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        address = (measured.out / "report.html").as_uri()
        await page.goto(address)
        plots = await page.locator("svg path").count()
        heads = await page.locator("figcaption").all_inner_texts()
        await browser.close()
    assert (asked, complaints) == ([address], [])
    assert plots > 10
    assert "Where a turn's time goes, medians" in heads


def test_a_sweep_does_not_measure_again_what_is_there(measured: Measured) -> None:
    before = (measured.out / "turns.jsonl").read_bytes()
    ended = bench(
        "--multirun", *measured.overrides, "task.callers=1", f"hydra.sweep.dir={measured.out}"
    )
    assert ended.returncode == 0, ended.stderr
    assert "report.html" in ended.stdout
    assert (measured.out / "turns.jsonl").read_bytes() == before


def test_a_sweeper_that_optimises_is_told_the_objectives(
    measured: Measured, tmp_path: Path
) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/told.py").write_text(SWEEPER)
    ended = bench(
        *("--multirun", "hydra/sweeper=told", *measured.overrides),
        *("task.objectives=[p50_s,memory_mb]", f"hydra.sweep.dir={tmp_path}"),
        TOLD=str(tmp_path / "told.json"),
        PYTHONPATH=str(tmp_path),
    )
    assert ended.returncode == 0, ended.stderr
    wait_s, memory_mb = json.loads((tmp_path / "told.json").read_text())
    results = Folder(measured.out).read()
    assert wait_s == pytest.approx(statistics.median(turn.e2e_s or 0 for turn in results.turns))
    assert memory_mb == results.rounds[0].memory


def test_a_peer_that_is_not_installed_is_named_with_its_key() -> None:
    ended = bench("task.arms=[pipecat]", "task.peers.pipecat.python=/nowhere/python")
    assert ended.returncode == 1
    assert "task.peers.pipecat.python" in ended.stderr
