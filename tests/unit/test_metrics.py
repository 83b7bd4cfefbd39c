"""What is counted, and that whoever asks for it asks for what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from prometheus_client.parser import text_string_to_metric_families

from runner.calls import Call
from runner.metrics import Metrics, Spool

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/voice-agent-runner.json").read_text())
ALERTS = OmegaConf.to_container(OmegaConf.load(ROOT / "deploy/prometheus/alerts.yml"))
MANUAL = (ROOT / "docs/operating.md").read_text()
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def series() -> set[str]:
    """The names under which Prometheus knows what the runner counts."""
    families = text_string_to_metric_families(Metrics().page().decode())
    return {f"{family.name}{suffix}" for family in families for suffix in SUFFIXES[family.type]}


def asked() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for rule in ALERTS["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "query"), [*asked()])
def test_every_query_names_a_metric_that_exists(where, query):
    named = set(re.findall(r"\brunner_\w+", query))
    assert named
    assert named <= series(), where


@pytest.mark.parametrize(("where", "query"), [*asked()])
def test_every_query_names_labels_that_exist(where, query):
    known = {"le", "capability", "provider", "outcome", "served_by", "reason", "state", "kind"}
    known |= {"process", "of"}
    groups = ",".join(re.findall(r"by \(([^)]*)\)", query)).replace(" ", "").split(",")
    filters = re.findall(r"[{,](\w+)=", query)
    assert {*groups, *filters} - {""} <= known, where


def test_every_metric_is_drawn_and_explained():
    drawn = " ".join(query for _, query in asked())
    for family in text_string_to_metric_families(Metrics().page().decode()):
        if family.name.endswith("_created"):  # Prometheus' client adds them
            continue
        assert re.search(rf"\b{family.name}(_total|_bucket)?\b", drawn), family.name
        assert family.name in MANUAL


@pytest.mark.parametrize("rule", ALERTS["groups"][0]["rules"], ids=lambda rule: rule["alert"])
def test_every_alert_is_explained(rule):
    assert rule["alert"] in MANUAL
    assert rule["annotations"]["summary"].endswith(".") or "?" in rule["annotations"]["summary"]


def test_a_stage_that_nobody_knows_is_left_out():
    metrics = Metrics()
    told = {"role": "assistant", "stages_s": {"e2e": 0.7, "another": 1.0}, "services": {}}
    metrics.turn(Call("call-1"), told)
    metrics.turn(Call("call-1"), {"role": "user"})
    page = metrics.page().decode().splitlines()
    assert "runner_turns_total 1.0" in page
    assert "runner_e2e_seconds_count 1.0" in page


def test_the_outbox_is_shown_by_part():
    metrics = Metrics()
    metrics.spool(Spool(files=1, entries=2, size=300))
    page = metrics.page().decode().splitlines()
    for part, value in (("files", 1), ("entries", 2), ("bytes", 300)):
        assert f'runner_outbox{{of="{part}"}} {value}.0' in page
