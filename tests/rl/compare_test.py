"""--stage=compare on episodes written down here: what must be alike is, and nothing else in the workdir changes."""

import json

import jax
import numpy as np
import pytest

import main
from configs import validate
from envs.base import Score
from rl import compare, trajectory
from rl.learn import algorithms, losses, objective
from rl.rollouts import rollout
from tests.support import small_run


def _episodes(step):
    """Two groups of four; one episode without a reward, one group that is all right but for it at step 1."""
    rng, out = np.random.default_rng(step), []
    for i, reward in enumerate([1.0, 0.0, None, 0.5, *([1.0] * 4 if step else [0.0, 1.0, 1.0, 0.0])]):
        mask = [0] * 5 + [1] * int(rng.integers(2, 30))
        logprobs = [float(x) * m for x, m in zip(rng.normal(-5.5, 0.05, len(mask)), mask)]
        tokens = rng.integers(0, 200, len(mask)).tolist()
        score = Score(reward, {}, [], error=None if reward is not None else "gone")
        reason = trajectory.ENDED if reward is not None else trajectory.ERROR
        out.append(trajectory.Trajectory(f"t{i // 4}", i % 4, tokens, mask, logprobs, 0, reason, score, [], [], 1))
    return out


def _command(folder, workdir, *more):
    names = "dr_grpo,rloo,gspo"
    lengths = {"sampler__context": 64, "sampler__prefill_chunk": 32, "rl__row_length": 64}
    keys = small_run.arguments(folder, rl__compare=names, rl__sft_steps=0, **lengths)
    return [*keys, f"--workdir={workdir}", "--stage=compare", *more]


@pytest.mark.slow
def test_algorithms_that_differ_by_a_factor_have_one_direction(tmp_path, capsys, monkeypatch):
    one = jax.devices()[:1]  # programs for eight would take long to compile
    monkeypatch.setattr(jax, "devices", lambda: one)
    folder, workdir = small_run.folder(tmp_path / "policy"), tmp_path / "run"
    for name, phase in (("round_0", "train"), ("round_0_heldout_after", "after"), ("round_1", "train")):
        path = workdir / "rollouts" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        for step in (0, 1):
            rollout.write(_episodes(step), path, round=0, phase=phase, step=step)
    before = {path.name: path.read_bytes() for path in (workdir / "rollouts").iterdir()}
    assert main.main(_command(folder, workdir, "--config.rl.compare_step=0")) == 0
    assert {path.name: path.read_bytes() for path in (workdir / "rollouts").iterdir()} == before
    record = json.loads((workdir / "compare.json").read_text())
    assert (record["episodes"], record["faults"], record["updates"]) == (8, 1, 0)
    assert record["rollouts"].endswith("round_1.jsonl")
    found = {one["algorithm"]: one for one in record["algorithms"]}
    dr_grpo, rloo, gspo = (found[name] for name in ("dr_grpo", "rloo", "gspo"))
    assert dr_grpo["clip_fraction_low"] == rloo["clip_fraction_low"] and gspo["clip_fraction_low"] > 0
    # A fault leaves one group 3 / 2 where the whole one has 4 / 3, so their directions are not quite one.
    assert 0.99 < dr_grpo["cosine"]["rloo"] < 1 and abs(dr_grpo["cosine"]["gspo"]) < 0.99
    assert rloo["grad_norm"] / dr_grpo["grad_norm"] == pytest.approx(64 * (4 / 3 + 3 / 2) / 2, rel=0.07)
    assert all(row["cosine"][name] == pytest.approx(1, abs=1e-5) for name, row in found.items())
    text = capsys.readouterr().out
    assert "cos gspo" in text and f"8 episodes of {record['rollouts']}, 1 faults" in text


def test_wrong_rollouts_are_named(tmp_path):
    path = tmp_path / "round_0.jsonl"
    rollout.write(_episodes(0), path, round=0, phase="train", step=3)
    assert [item.task_id for item in compare.episodes(path, -1, 4)] == ["t0"] * 4 + ["t1"] * 4
    with pytest.raises(ValueError, match=r"rl.compare_step = 1: .*0.jsonl holds training episodes of steps \[3\]"):
        compare.episodes(path, 1, 4)
    with pytest.raises(ValueError, match="rl.group_size = 8: task 't0' has 4 episodes in .*round_0.jsonl"):
        compare.episodes(path, 3, 8)


def test_configs_know_the_algorithms():
    assert set(validate.ALGORITHMS) == set(algorithms.ALGORITHMS)
    for key, known in (
        ("rl.advantage", ["", *algorithms.ADVANTAGES]), ("rl.loss_aggregation", ["", *losses.AGGREGATIONS]),
        ("rl.kl_estimator", losses.KL_ESTIMATORS), ("rl.covariance", objective.COVARIANCES),
        ("rl.importance", objective.IMPORTANCES),
    ):  # fmt: skip
        possible, text = validate.RULES[key]
        assert all(possible(name) for name in known) and not possible("x"), text
        assert text.count("'") == 2 * len(known), text
    for chosen in algorithms.ALGORITHMS.values():
        assert chosen.advantage in algorithms.ADVANTAGES and chosen.aggregation in losses.AGGREGATIONS
        objective.Objective(chosen.loss)
