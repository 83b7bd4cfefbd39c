"""The benchmark's figures, rules and files."""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from omegaconf import OmegaConf

from runner.bench import knee, objectives, pareto, report
from runner.bench.caller import Answered, Heard
from runner.bench.figures import difference, percentile, ratio
from runner.bench.plots import Bar, Series, bars, lines, shares
from runner.bench.results import Folder, Results, Run
from runner.bench.summary import against, groups, names
from runner.bench.turns import Round, Turn, void_reasons
from runner.bench.watch import Request, drift_s, made_s
from runner.errors import RunnerError

RUN = Run("run", ["llm=vllm", "turn.vad_silence_s=0.2"], "audio", "machine", "0.1.0", 0.4)
ROUND = Round(
    run="run",
    arm="runner",
    callers=1,
    round=1,
    seconds=60,
    cpu=0.05,
    at_rest=0.03,
    idle=0.01,
    simulator_cpu=0.01,
    driver_cpu=0.02,
    driver_late_s=0.001,
    drift_s=0.001,
    memory=120,
    memory_idle=100,
)
TURN = Turn(
    run="run",
    arm="runner",
    callers=1,
    round=1,
    caller=0,
    turn=0,
    utterance=0,
    hesitates=False,
    e2e_s=0.8,
)


def measured(*waits: float, arm: str = "runner", run: str = "run", callers: int = 1) -> Results:
    facts = replace(ROUND, arm=arm, run=run, callers=callers)
    turns = [
        replace(TURN, arm=arm, run=run, callers=callers, turn=at, e2e_s=wait)
        for at, wait in enumerate(waits)
    ]
    return Results({run: replace(RUN, run=run)}, [facts], turns)


def joined(*several: Results) -> Results:
    return Results(
        {name: run for one in several for name, run in one.runs.items()},
        [facts for one in several for facts in one.rounds],
        [turn for one in several for turn in one.turns],
    )


def test_an_interval_holds_the_true_percentile_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(7)
    found = [percentile(list(draw.normal(1.0, 0.1, 60)), 50) for _ in range(100)]
    assert 85 <= sum(one.low <= 1.0 <= one.high for one in found) <= 100


def test_more_turns_make_a_narrower_interval() -> None:
    draw = np.random.default_rng(7)
    few, many = (percentile(list(draw.normal(1.0, 0.1, count)), 50) for count in (20, 500))
    assert many.high - many.low < few.high - few.low


def test_a_difference_is_that_of_the_medians() -> None:
    found = difference([5.0, 6.0, 7.0], [1.0, 2.0, 3.0], 50)
    assert found.value == 4
    assert 2 <= found.low < 4 < found.high <= 6


def test_a_ratio_is_of_percentiles_and_has_an_interval_around_it() -> None:
    found = ratio([0.6, 0.7, 0.8], [1.2, 1.4, 1.6], 50)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"simulator_cpu": 0.2}, "simulator took 20%"),
        ({"driver_cpu": 0.15}, "callers took 15%"),
        ({"drift_s": 0.006}, "6 ms off"),
    ],
)
def test_a_round_that_was_measured_badly_is_void(changed: dict[str, float], word: str) -> None:
    facts = replace(ROUND, **changed)
    assert [word in reason for reason in void_reasons(facts, [TURN], in_rooms=False)] == [True]


def test_callers_in_rooms_may_take_cpu() -> None:
    facts = replace(ROUND, driver_cpu=0.9)
    assert not void_reasons(facts, [TURN], in_rooms=True)


def test_a_wrong_answer_or_a_turn_cut_early_makes_a_round_void() -> None:
    wrong, cut = replace(TURN, wrong=True), replace(TURN, cut=True, e2e_s=None)
    reasons = void_reasons(ROUND, [wrong, cut], in_rooms=False)
    assert reasons == ("1 wrong answers", "1 turns cut early")


def test_a_hesitation_that_is_cut_is_counted_and_voids_nothing() -> None:
    cut = replace(TURN, hesitates=True, cut=True, e2e_s=None)
    assert not void_reasons(ROUND, [cut], in_rooms=False)
    results = Results({"run": RUN}, [ROUND], [TURN, cut])
    [group] = groups(results)
    assert (group.cut, group.lost, group.waits_s) == (1, 0, [0.8])


def test_turns_of_a_void_round_are_in_no_figure() -> None:
    results = measured(0.8, 0.9)
    results.rounds[0] = replace(results.rounds[0], void=("1 wrong answers",))
    [group] = groups(results)
    assert (group.waits_s, group.wait(50), group.counted) == ([], None, [])


def test_a_call_costs_what_it_adds() -> None:
    [group] = groups(measured(0.8, callers=2))
    assert group.cpu_s_per_call_minute == pytest.approx(60 * 0.04 / 2)
    assert group.rest_cpu_s_per_call_minute == pytest.approx(60 * 0.02 / 2)
    assert group.memory_per_call_mb == pytest.approx(10)


def test_arms_are_compared_within_a_run_and_a_load() -> None:
    results = joined(
        measured(0.6, 0.6), measured(1.2, 1.2, arm="peer"), measured(9, 9, arm="peer", run="other")
    )
    found = groups(results)
    times = against(found[0], found, "peer", 50)
    assert times
    assert times.value == pytest.approx(0.5)


def test_a_simulator_is_calibrated_by_what_it_meant_to_wait() -> None:
    asked = [Request("speech", 1.0, 1.203, 0.2), Request("speech", 2.0, 2.201, 0.2)]
    assert drift_s(asked) == pytest.approx(0.002)


def test_stages_are_those_of_the_answer_that_was_heard() -> None:
    thrown_away = [
        Request("transcriptions", 8.6, 8.75, 0.15),
        Request("completions", 8.75, 8.9, 0.1),
    ]
    asked = [
        *thrown_away,
        Request("transcriptions", 10.2, 10.351, 0.15),  # … whose end is logged once it was read
        Request("completions", 10.35, 10.45, 0.1),
        Request("speech", 10.55, 10.75, 0.2),
        Request("speech", 10.9, 11.1, 0.2),
    ]
    turn = Answered(8.0, 10.0, 10.8, cut=False, text="", told={})
    assert made_s(asked, turn) == pytest.approx({"stt": 0.351, "llm": 0.45, "tts": 0.75})
    assert made_s(asked, replace(turn, heard_at=None)) == {}


def test_a_sound_that_was_heard_before_its_server_had_noted_it_is_the_answers() -> None:
    asked = [
        Request("transcriptions", 10.1, 10.25, 0.15),
        Request("completions", 10.25, 10.35, 0.1),
        Request("speech", 10.4, 10.602, 0.2),
    ]
    turn = Answered(8.0, 10.0, 10.6, cut=False, text="", told={})
    assert made_s(asked, turn) == pytest.approx({"stt": 0.25, "llm": 0.35, "tts": 0.6})
    assert made_s(asked, replace(turn, heard_at=10.5)) == {}


def test_an_answer_is_over_when_it_was_said_and_played() -> None:
    heard = Heard()
    heard.hear(np.full(2400, 9000, np.int16), 24_000, played_at=10.0)
    assert not heard.over(9.0, 11.0)
    heard.said.append((10.1, "assistant", "Yes."))
    assert not heard.over(9.0, 10.2)
    assert heard.over(9.0, 11.0)
    assert heard.first_after(9.0) == 10.0


def test_an_agent_that_speaks_or_answers_before_the_end_has_cut_the_turn() -> None:
    spoke, asked_twice, fine = Heard(sounds=[8.0]), Heard(), Heard(sounds=[10.0])
    asked_twice.said = [(9.5, "user", "I would"), (9.9, "user", "like")]
    fine.said = [(9.5, "user", "I would like")]
    assert [one.cut(9.0) for one in (spoke, asked_twice, fine)] == [True, True, False]


def test_a_round_is_there_once_it_was_written_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add_run(RUN)
    folder.add_round(ROUND, [TURN])
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write('{"run": "run", "arm": "peer", "cal')
    again = Folder(tmp_path)
    again.add_round(replace(ROUND, round=2), [replace(TURN, round=2)])
    results = again.read()
    assert [one.round for one in results.rounds] == [1, 2]
    assert results.has("run", "runner", 1, 2)
    assert not results.has("run", "runner", 1, 3)
    assert not results.has("run", "runner", 5, 1)


def test_turns_whose_round_was_aborted_are_not_read(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add_round(ROUND, [TURN])
    folder._append("turns", [replace(TURN, round=2)])
    assert [turn.round for turn in folder.read().turns] == [1]


def test_what_is_measured_anew_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for arm, callers in (("runner", 1), ("runner", 5), ("pipecat", 1)):
        folder.add_round(replace(ROUND, arm=arm, callers=callers), [])
    folder.forget("run", 1, ["runner"])
    assert [(one.arm, one.callers) for one in folder.read().rounds] == [
        ("runner", 5),
        ("pipecat", 1),
    ]


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "rounds.jsonl").write_text('{"hello": 1}\n')
    with pytest.raises(RunnerError, match=r"Line 1 of .*rounds.jsonl"):
        Folder(tmp_path).read()


def test_the_csv_has_a_line_for_each_turn(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.add_round(ROUND, [TURN, replace(TURN, turn=1)])
    folder.write_csv()
    head, *lines = (tmp_path / "turns.csv").read_text().splitlines()
    assert head.startswith("run,arm,callers,round")
    assert len(lines) == 2


def test_runs_are_called_by_what_they_do_not_share() -> None:
    one = replace(RUN, run="a", overrides=["llm=vllm", "rag=on"])
    other = replace(RUN, run="b", overrides=["llm=vllm", "rag=off"])
    assert Results({"a": one, "b": other}).labels() == {"a": "rag=on", "b": "rag=off"}


def offer(callers: int, p95_s: float, cpu_s: float) -> pareto.Offer:
    return pareto.Offer("run", "", callers, p95_s, cpu_s)


def test_what_another_betters_in_everything_is_not_on_the_front() -> None:
    quick, cheap, worse = offer(5, 0.8, 3.0), offer(5, 1.2, 2.0), offer(5, 1.3, 2.5)
    assert pareto.front([quick, cheap, worse]) == [quick, cheap]


def test_the_pick_carries_the_most_callers_that_keep_their_time() -> None:
    one, five, twenty = offer(1, 0.8, 3.0), offer(5, 0.9, 3.0), offer(20, 2.0, 3.0)
    assert pareto.pick([one, five, twenty], p95_s=1.5) == five
    assert pareto.pick([twenty], p95_s=1.5) is None


def test_the_pick_is_a_preset_with_the_command_that_measured_it() -> None:
    overrides = ["+experiment=bench", "llm=vllm", "rag=on", "turn.vad_silence_s=0.2", "task.out=x"]
    overrides.append(r"llm.base_url=http\://localhost\:8000")  # as sweepers write it
    text = pareto.preset(offer(5, 0.9, 3.0), overrides, p95_s=1.5)
    assert text.startswith("# @package _global_\n")
    assert (
        "python -m runner +experiment=bench llm=vllm rag=on turn.vad_silence_s=0.2 task.out=x "
        r"'llm.base_url=http\://localhost\:8000' task.callers=5"
    ) in text
    assert OmegaConf.create(text) == {
        "defaults": [{"override /llm": "vllm"}, {"override /rag": "on"}, "_self_"],
        "turn": {"vad_silence_s": 0.2},
        "llm": {"base_url": "http://localhost:8000"},
    }


def test_a_distribution_ends_at_a_hundred_per_cent() -> None:
    points = shares([0.8, 0.6])
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (0.8, 100.0)


def by_load(*p95_s: float, void: int = 0) -> Results:
    """1, 2, 3 … callers who all wait so long; the round with ``void`` callers does not count."""
    several = joined(
        *(measured(wait, wait, callers=callers) for callers, wait in enumerate(p95_s, 1))
    )
    several.rounds = [
        replace(one, cpu=0.3 * one.callers, void=("the callers took 15% of a core",) * (at == void))
        for at, one in enumerate(several.rounds, 1)
    ]
    return several


def test_the_knee_is_the_first_load_with_over_twice_one_callers_p95() -> None:
    found = groups(by_load(0.6, 0.7, 1.3, 1.25))
    bend = knee.knee(found)
    assert bend
    assert bend.callers == 3
    [told] = knee.sentences(found, {("run", "runner"): "runner"})
    assert told.startswith("runner: the knee is at 3 callers; their p95 is 1.30 s, 2.17 times")
    assert "the agent 0.90 of a core, the simulator 0.01, the callers 0.02" in told


def test_twice_is_no_knee_and_the_last_load_that_counts_is_told() -> None:
    found = groups(by_load(0.6, 1.2, 9.0, void=3))
    assert knee.knee(found) is None
    [told] = knee.sentences(found, {("run", "runner"): "runner"})
    assert told.startswith("runner: no knee up to 2 callers; their p95 is 1.20 s, 2.00 times")
    *_, last = knee.rows(found, {("run", "runner"): "runner"})
    assert last == ["runner", "3", "-", "-", "0.90", "0.01", "0.02", "1", "1 of 1", ""]


def test_without_one_callers_rounds_or_with_them_alone_nothing_is_said_of_a_knee() -> None:
    called = {("run", "runner"): "runner"}
    for results in (measured(0.6), joined(measured(0.6, callers=2), measured(2.0, callers=5))):
        assert not list(knee.sentences(groups(results), called))
        assert not list(knee.rows(groups(results), called))


def test_a_sweeper_is_told_one_objective_as_a_number_and_several_in_their_order() -> None:
    results = measured(0.8, 0.9)
    results.turns += [
        replace(TURN, hesitates=True, cut=cut, e2e_s=None if cut else 0.8) for cut in (True, False)
    ]
    found, key = groups(results), ("run", "runner", 1)
    assert objectives.value(found, key, ["p50_s"]) == pytest.approx(0.85)
    several = objectives.value(found, key, ["false_ends", "cpu_s", "memory_mb", "p95_s"])
    assert several == pytest.approx((0.5, 2.4, 120, 0.895))


def test_what_loses_a_turn_or_was_not_measured_is_never_a_sweepers_best() -> None:
    lost = joined(measured(0.8), Results(turns=[replace(TURN, e2e_s=None)]))
    assert objectives.value(groups(lost), ("run", "runner", 1), ["p95_s"]) == math.inf
    assert objectives.value([], ("run", "runner", 1), ["p95_s", "cpu_s"]) == (math.inf, math.inf)
    void = by_load(0.8, void=1)
    assert objectives.value(groups(void), ("run", "runner", 1), ["p50_s"]) == math.inf


def test_each_plot_of_the_report_is_a_file_too(tmp_path: Path) -> None:
    results = by_load(0.6, 1.3)
    moments, told = {"stt": 0.2, "llm": 0.3, "tts": 0.5}, {"stt": 0.25, "end_of_turn": 0.4}
    results.turns = [replace(one, made_s=moments, told_s=told) for one in results.turns]
    results.turns[0] = replace(results.turns[0], failovers=1)
    page = report.write(results, tmp_path).read_text()
    files = {path.stem: path.read_text().strip() for path in tmp_path.glob("*.svg")}
    assert files.keys() == {
        *("wait-1", "wait-2", "stages-runner", "stages", "wait", "agent"),
        *("cpu", "cores", "memory", "failovers"),
    }
    for svg in files.values():
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert svg in page
    assert "the knee is at 2 callers" in page


def test_plots_of_several_runs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    several = joined(measured(0.6), measured(0.7, run="other"))
    several.runs["other"] = replace(RUN, run="other", overrides=["x=" + 300 * "y"])
    several.turns = [
        replace(one, made_s={"stt": 0.2, "llm": 0.3, "tts": 0.5}) for one in several.turns
    ]
    report.write(several, tmp_path)
    assert {path.name for path in tmp_path.glob("stages-*.svg")} == {
        "stages-runner-1.svg",
        "stages-runner-2.svg",
    }


def test_a_plot_shows_names_as_they_are_and_of_nothing_there_is_none() -> None:
    hostile = "<script>&amp;"
    drawn = lines([Series(hostile, [(1.0, 2.0)], "#000")], "x", "y")
    drawn += bars([Bar(hostile, [(hostile, 1.0)])], "x")
    assert "<script" not in drawn
    assert "&lt;script&gt;&amp;amp;" in drawn
    assert (lines([], "x", "y"), bars([], "x")) == ("", "")


def test_callers_are_counted_in_whole_numbers_on_their_axis() -> None:
    drawn = lines([Series("", [(1.0, 1.0), (2.0, 1.0)], "#000")], "callers", "y", whole_x=True)
    texts = [one.text for one in ET.fromstring(drawn).iter() if one.tag.endswith("text")]
    assert texts[:3] == ["0", "1", "2"]


def test_arms_of_several_runs_are_told_apart_by_what_the_runs_do_not_share() -> None:
    several = joined(measured(0.6), measured(0.7, run="other"))
    several.runs["other"] = replace(several.runs["other"], overrides=["llm=vllm", "rag=off"])
    assert list(names(groups(several), several).values()) == [
        "runner (turn.vad_silence_s=0.2)",
        "runner (rag=off)",
    ]
    assert names(groups(measured(0.6)), measured(0.6)) == {("run", "runner"): "runner"}
