"""Reading a workdir: rows, curves, rollouts, and their readable forms."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.base import Score
from rl.reports import report
from rl.trajectory import Trajectory
from synth.trees import tree

REPOSITORY = Path(__file__).parents[3]


def episode(index: int, reward: float | None) -> dict:
    """A line of rollouts/*.jsonl: a real Trajectory record with the round beside it."""
    call = {"id": "call_1_0", "type": "function", "function": {"name": "get_order", "arguments": '{"order_id":"A1"}'}}
    score = Score(
        reward=reward,
        subgoals={"refund": reward == 1.0},
        violations=[] if reward == 1.0 else ["refund_order"],
        error="teacher down" if reward is None else None,
        delta={"orders/A1/status": ["delivered", "refunded"]},
        node="n2",
    )
    messages = [
        {"role": "system", "content": "Policy.\nRefund only delivered orders."},
        {"role": "user", "content": f"Refund order A1 ({index})."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1_0", "content": '{"status":"delivered"}'},
    ]
    trajectory = Trajectory(f"orders-{index}", 3, [1, 2], [0, 1], [0.0, -0.5], 7, "ended", score, messages, [], 2)
    return {**trajectory.to_json(), "round": index % 2}


@pytest.fixture
def workdir(tmp_path) -> Path:
    rows = [{"round": i // 3, "step": i, "reward": i / 10, "pass_rate": i / 20, "loss": -0.1} for i in range(6)]
    rows.insert(3, {"round": 0, "pass_after": 0.5})  # an evaluation: no reward of a step
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rate = {"mean": 0.5, "low": 0.4, "high": 0.625}
    entry = {"flywheel": "agentic", "train_tasks": 64, "heldout_tasks": 48, "branches_mean": 2.25, "depth_mean": 3.0}
    rounds = [
        {"round": k, **entry, "pass_initial": rate, "pass_before": rate, "pass_after": {**rate, "mean": 0.6}}
        for k in range(2)
    ]
    (tmp_path / "summary.json").write_text(json.dumps({"seed": 0, "wall_seconds": 1.0, "rounds": rounds}))
    (tmp_path / "rollouts").mkdir()
    for k in range(2):
        lines = [json.dumps(episode(i, (1.0, 0.5, None)[i % 3])) + "\n" for i in range(k, 12, 2)]
        (tmp_path / "rollouts" / f"round{k}.jsonl").write_text("".join(lines))
    return tmp_path


def test_the_folder_of_a_sweep_names_a_run_in_it(tmp_path):
    for name in ("seed=1", "seed=0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="folder; 2 have written into folders in it, the first into .*/seed=0$"):
        report.overview(tmp_path)


def test_metrics_and_curves(workdir):
    rows = report.metrics(workdir)
    assert len(rows) == 7
    x, y = report.curve(rows, "reward", "step")
    np.testing.assert_array_equal(x, range(6))
    np.testing.assert_allclose(y, np.arange(6) / 10)
    np.testing.assert_array_equal(report.curve(rows, "pass_after")[0], [0])
    with pytest.raises(ValueError, match="no metrics row has step and rewrd; known keys: loss, pass_after,"):
        report.curve(rows, "rewrd", "step")


def test_line_being_written_is_left_out_and_a_broken_one_is_named(workdir):
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"round": 1, "st')
    assert len(report.metrics(workdir)) == 7
    path.write_text('{"round": 0}\n{"rou\n{"round": 1}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: not JSON"):
        report.metrics(workdir)


def test_rollouts_come_by_round_and_outcome(workdir):
    assert len(list(report.rollouts(workdir))) == 12
    odd = list(report.rollouts(workdir, round=1))
    assert [record["task_id"] for record in odd] == [f"orders-{i}" for i in range(1, 12, 2)]
    rewards = {
        outcome: [r["score"]["reward"] for r in report.select(report.rollouts(workdir), outcome)]
        for outcome in ("any", "pass", "fail")
    }
    assert rewards == {"any": rewards["any"], "pass": [1.0] * 4, "fail": [0.5] * 4} and rewards["any"].count(None) == 4
    with pytest.raises(ValueError, match="outcome 'won'"):
        report.select([], "won")
    with pytest.raises(FileNotFoundError, match="no rollout files"):
        list(report.rollouts(workdir / "rollouts"))


def test_sample_is_a_function_of_the_seed(workdir):
    records = list(report.rollouts(workdir))
    drawn = [[r["task_id"] for r in report.sample(records, 5, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 5
    assert len(report.sample(records, 99, 0)) == 12


def test_format_trajectory_shows_the_conversation_and_the_score():
    assert report.format_trajectory(episode(1, 0.5)).splitlines() == [
        "== task orders-1, member 3, round 1: 2 turns, ended by ended",
        "[system] Policy.",
        "    Refund only delivered orders.",
        "[user] Refund order A1 (1).",
        '[assistant] call_1_0: get_order({"order_id":"A1"})',
        '[tool call_1_0] {"status":"delivered"}',
        "-- reward 0.50",
        "   subgoals: refund MISSED",
        "   violations: refund_order",
        '   changed orders/A1/status: "delivered" -> "refunded"',
        "   left its branch at n2",
    ]
    assert report.format_trajectory(episode(2, None)).endswith("-- no reward, infrastructure failed: teacher down")


def test_format_tree_shows_every_node_under_its_edge():
    condition = {"op": "eq", "field": "order.status", "value": "delivered"}
    guard = {"condition": condition, "otherwise": "decline", "hidden": False}
    inner = tree.Node("guard", guard, (tree.terminal("write"), tree.terminal("decline", "not delivered")))
    ask = tree.Node("ask", {"slot": "reason"}, (inner, tree.terminal("stop")))
    assert report.format_tree(tree.to_dict(tree.number(ask))).splitlines() == [
        "n0 ask slot=reason",
        '├─ given: n1 guard "status" is "delivered" otherwise=decline',
        "│  ├─ holds: n2 terminal outcome=write",
        "│  └─ fails: n3 terminal outcome=decline reason=not delivered",
        "└─ missing: n4 terminal outcome=stop",
    ]


def test_table_by_hand(workdir):
    head, first, second = report.table(report.summary(workdir)["rounds"]).splitlines()
    assert head.split("  ")[0].strip() == "round" and len(head) == len(first) == len(second)
    cells = "agentic 64 48 2.2 3.0 50.0 [40.0, 62.5] 50.0 [40.0, 62.5] 60.0 [40.0, 62.5] +10.0"
    assert " ".join(second.split()) == f"1 {cells}"


def test_worlds_of_reasoning_rounds_have_lines_of_their_own(workdir):
    rounds = report.summary(workdir)["rounds"]
    assert report.world_table(rounds) == ""
    for phase, mean in (("pass_initial", 0.1), ("pass_before", 0.2), ("pass_after", 0.7)):
        rounds[1][phase]["worlds"] = {"data": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
    _, line = report.world_table(rounds).splitlines()
    assert " ".join(line.split()) == "1 data 10.0 [0.0, 20.0] 20.0 [10.0, 30.0] 70.0 [60.0, 80.0] +50.0"


def test_rates_that_lack_episodes_say_so(workdir):
    """And a phase in which all episodes of a world faulted has no rate."""
    rounds = report.summary(workdir)["rounds"][:1]
    rounds[0]["pass_before"] |= {"episodes": 1, "faults": 9}
    assert "50.0 [40.0, 62.5] (9 of 10 faulted)" in report.table(rounds)
    rate = {"mean": 0.5, "low": 0.5, "high": 0.5, "episodes": 3, "faults": 1}
    for phases, gain in ((("pass_initial", "pass_after"), "-"), (("pass_before", "pass_after"), "+0.0")):
        for phase in ("pass_initial", "pass_before", "pass_after"):
            rounds[0][phase]["worlds"] = {"data": rate} if phase in phases else {}
        _, line = report.world_table(rounds).splitlines()
        assert line.split()[-1] == gain and line.count("50.0 [50.0, 50.0] (1 of 4 faulted)") == 2


def test_plot_draws_the_curves(workdir):
    steps, rounds = report.plot(workdir).axes
    np.testing.assert_allclose(steps.lines[0].get_ydata(), np.arange(6) / 10)
    assert steps.lines[2].get_xdata()[0] == 2.5  # round 1 begins after the third step
    assert [text.get_text() for text in rounds.get_legend().get_texts()] == ["initial", "before", "after"]
    (workdir / "summary.json").unlink()
    assert len(report.plot(workdir).axes[1].lines) == 0
    with (workdir / "metrics.jsonl").open("a") as file:  # a step on two environments, one on the first of them
        for row in ({"pass_rate/a": 0.1, "pass_rate/b": 0.2}, {"pass_rate/a": 0.3}):
            file.write(json.dumps({"round": 2, "reward": 0.5, "pass_rate": 0.25, **row}) + "\n")
    lines = {line.get_label(): line for line in report.plot(workdir).axes[0].lines}
    assert lines["pass rate/a"].get_xdata().tolist() == [6, 7] and lines["pass rate/b"].get_xdata().tolist() == [6]


def test_command(workdir, capsys):
    report.main([f"--workdir={workdir}", "--random=2", "--outcome=pass", "--seed=3"])
    out = capsys.readouterr().out
    assert out.count("== task") == out.count("-- reward 1.00") == 2 and out.startswith("round")
    report.main([f"--workdir={workdir}", "--rollout=0", "--round=1"])
    assert "== task orders-1," in capsys.readouterr().out
    wrong = [sys.executable, "-m", "rl.reports.report", f"--workdir={workdir}", "--rollout=99"]
    done = subprocess.run(wrong, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (1, "rl.reports.report: --rollout=99: there are 12 matching rollouts\n")


def test_overview_of_a_run_without_a_finished_round(workdir):
    (workdir / "summary.json").unlink()
    assert report.overview(workdir).endswith(
        "no round is finished; 6 RL steps so far, the last in round 1 with reward 0.500"
    )
    (workdir / "metrics.jsonl").write_text("")
    assert report.overview(workdir).endswith("no RL step is finished")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workdir={}/missing"], "missing: no such folder"),
        (["--workdir={}/empty"], "empty: no run has written into this folder"),
        (["--workdir={}", "--random=1", "--round=9"], "no rollout matches --round=9"),
        (["--workdir={}", "--random=1", "--phase=after_greedy", "--outcome=pass"],
         "no rollout matches --phase=after_greedy, --outcome=pass"),
    ],
    ids=str,
)  # fmt: skip
def test_nothing_to_show_is_an_error_that_says_so(workdir, flags, said):
    (workdir / "empty").mkdir()
    with pytest.raises(SystemExit, match=said):
        report.main([flag.format(workdir) for flag in flags])
