"""RL on a set of tasks: which tasks a step takes, advantages around faults, what becomes of a batch."""

import dataclasses
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import default
from envs.base import Score
from rl import train, trajectory
from rl.learn import algorithms, packing
from rl.reports import show
from rl.rollouts import measure, rollout
from synth.question import Question


def tasks(prefix, count):
    return [f"{prefix}{i}" for i in range(count)]


def episode(reward, task="a", member=0, reason=trajectory.ENDED, violations=(), mask=(0, 1)):
    score = Score(reward, {}, list(violations))
    tokens = list(range(len(mask)))
    logprobs = [-1.0 * m for m in mask]
    return trajectory.Trajectory(task, member, tokens, list(mask), logprobs, 0, reason, score, [], [], 2)


COUNTS = st.tuples(st.integers(1, 30), st.integers(0, 12), st.integers(1, 12), st.sampled_from([0.0, 0.25, 0.5, 0.9]))


@settings(max_examples=60)
@given(COUNTS, st.integers(0, 3), st.integers(0, 9))
def test_a_steps_tasks_stand_once_and_depend_on_nothing_else(counts, seed, step):
    current, earlier, count, share = counts
    arguments = (tasks("new", current), tasks("old", earlier), count, share, seed, step)
    found = train.step_tasks(*arguments)
    assert found == train.step_tasks(*arguments) and len(set(found)) == len(found)
    old = [task for task in found if task.startswith("old")]
    assert len(old) == min(round(share * count), count - 1, earlier)
    assert len(found) - len(old) == min(count - len(old), current) >= 1


@settings(max_examples=60)
@given(COUNTS, st.integers(0, 3))
def test_every_task_comes_once_before_any_comes_again(counts, seed):
    """Over the steps of a round, with one seed: the k-th epoch's places hold every task exactly once."""
    current, earlier, count, share = counts
    taken = []
    for step in range(3 * current):
        found = train.step_tasks(tasks("new", current), tasks("old", earlier), count, share, seed, step)
        taken += [task for task in found if task.startswith("new")]
    for epoch in range(3):
        assert sorted(taken[epoch * current : (epoch + 1) * current]) == sorted(tasks("new", current))


def test_epochs_differ_and_seeds_differ():
    current = tasks("new", 8)
    orders = {tuple(train.step_tasks(current, [], 8, 0.25, seed, step)) for seed in (0, 1) for step in range(4)}
    assert len(orders) == 8
    replays = {tuple(train.step_tasks(current, tasks("old", 8), 8, 0.5, 0, step)[4:]) for step in range(4)}
    assert len(replays) == 4


def test_group_advantages_by_hand():
    """Groups of 4: half right; all right; one fault among right and wrong; faults only."""
    rewards = [1, 0, 0, 1] + [1, 1, 1, 1] + [None, 1, 0, 0] + [None] * 4
    items = [episode(reward, task=f"t{i // 4}", member=i % 4) for i, reward in enumerate(rewards)]
    plain, signal = algorithms.group_advantages(measure.rewards_of(items), 4, "dr_grpo")
    expected = [0.5, -0.5, -0.5, 0.5] + [0] * 4 + [0, 2 / 3, -1 / 3, -1 / 3] + [0] * 4
    np.testing.assert_allclose(plain, expected, atol=1e-6)
    assert signal.tolist() == [True, False, True, False]
    scaled, _ = algorithms.group_advantages(measure.rewards_of(items), 4, "grpo")
    deviation = math.sqrt(2) / 3  # of 1, 0, 0
    expected = [1, -1, -1, 1] + [0] * 4 + [0, 2 / 3 / deviation, -1 / 3 / deviation, -1 / 3 / deviation] + [0] * 4
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    # Without groups the one that is all right learns that it did better than the rest.
    _, signal = algorithms.group_advantages(measure.rewards_of(items), 4, "reinforce++")
    assert signal.tolist() == [True, True, True, False]


def test_rollout_metrics_leave_faults_out_of_the_rates():
    said = [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get", "arguments": text}}]}
        for text in ('{"a": 1}', '<tool_call>{"name": "get"', "{}")
    ]
    items = [
        dataclasses.replace(episode(1.0, member=0, mask=(0, 1, 1)), messages=said),
        episode(0.5, member=1, reason=trajectory.LENGTH, mask=(0, 1, 1, 1, 1)),
        episode(0.0, member=2, violations=["a", "b"]),
        episode(None, member=3, reason=trajectory.ERROR, mask=(0, 1, 1, 1, 1, 1, 1)),
    ]
    stats = rollout.Stats(
        turns=6, retries=4, paused=2, prefill_tokens=8, shared_tokens=5, sampled_tokens=30, slot_steps=48,
        prefill_seconds=0.25, decode_seconds=1.0, env_seconds=0.5, seconds=2.0,
    )  # fmt: skip
    found = measure.of_rollouts(items, 2, stats)
    expected = {
        "reward": 0.5, "reward_std": (0.25 + 0.0) / 2, "pass_rate": 1 / 3, "mixed_groups": 0.5, "violations": 1 / 3,
        "truncated": 1 / 3, "faults": 1, "retries": 4, "paused": 2, "turns": 2, "tool_calls": 1, "invalid_calls": 1 / 3,
        "response_tokens": (2 + 4 + 1) / 3, "turn_tokens": (2 + 4 + 1) / 6, "tokens_per_second": 15.0,
        "prefill_seconds": 0.25, "decode_seconds": 1.0, "env_seconds": 0.5, "slot_occupancy": 0.5, "shared_tokens": 5,
        "prefill_tokens": 8,
    }  # fmt: skip
    assert found == pytest.approx(expected)
    faults = measure.of_rollouts(items[3:], 1, stats)
    unknown = ("reward", "reward_std", "pass_rate", "violations", "truncated", "turns", "response_tokens")
    assert faults["faults"] == 1 and [faults[name] for name in unknown] == [None] * 7  # 0 would be a measurement
    assert "reward -  pass - %  mixed groups 0 %  entropy -  15 tok/s" in show.step(0, 1, 4, faults)


def test_a_step_without_a_signal_is_told_apart():
    """From one in which some group has one, and from metrics of before, which do not say."""
    metrics = {"reward": 1.0, "signal_groups": 0}
    assert show.step(0, 1, 4, metrics).endswith("s  NO UPDATE: no group has a signal")
    assert show.step(0, 1, 4, metrics | {"mixed_groups": None}).endswith("s  NO UPDATE: no group is complete")
    for other in ({"reward": 1.0, "signal_groups": 2}, {"reward": 1.0}):
        assert "NO UPDATE" not in show.step(0, 1, 4, other)


def test_metrics_are_what_json_can_hold():
    found = measure.finite({"loss": math.nan, "norm": math.inf, "reward": 0.5, "mfu": None, "faults": 0})
    assert found == {"loss": None, "norm": None, "reward": 0.5, "mfu": None, "faults": 0}


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        ({"mean": 1.0, "low": 0.5, "high": 1.0}, "100.0 % [50.0, 100.0]"),
        ({"mean": 1.0, "low": 0.5, "high": 1.0, "episodes": 4, "faults": 0}, "100.0 % [50.0, 100.0]"),
        (
            {"mean": 1.0, "low": 0.5, "high": 1.0, "episodes": 1, "faults": 9, "greedy": 0.5, "greedy_faults": 2},
            "100.0 % [50.0, 100.0] (9 of 10 faulted), greedy 50.0 % (2 faulted)",
        ),
    ],
)
def test_a_rate_says_what_it_lacks(rate, text):
    assert show.percent(rate) == text


def test_environments_have_rates_of_their_own():
    """Two questions of one world, one of another; a fault counts for nothing, and without anything else for None."""
    worlds = {"a": "search", "b": "data", "c": "search", "d": "reasoning", "unused": "data"}
    tasks = [Question(name, name, "", "", 0, 0, env, "", "", {}) for name, env in worlds.items()]
    items = [episode(1.0, "a"), episode(0.5, "a"), episode(None, "c"), episode(0.0, "c"), episode(0.9, "b")]
    found = measure.by_environment([*items, episode(None, "d")], tasks)
    assert found == pytest.approx({
        "reward/search": 0.5, "pass_rate/search": 1 / 3, "reward/data": 0.9, "pass_rate/data": 0.0,
        "reward/reasoning": None, "pass_rate/reasoning": None,
    })  # fmt: skip


def test_faults_are_counted_out_loud(capsys):
    score = Score(None, {}, [], error="step: ConnectionError('gone')\nTraceback ...")
    failed = dataclasses.replace(episode(None, task="b", member=2), score=score)
    show.faults([episode(1.0)])
    assert capsys.readouterr().out == ""
    show.faults([episode(1.0), failed, episode(None)])
    assert "2 of 3 episodes faulted" in (said := capsys.readouterr().out)
    assert said.endswith("b, member 2: step: ConnectionError('gone')\n")


def test_refills_are_new_tasks_and_depend_on_nothing_else():
    current = [SimpleNamespace(id=f"new{i}") for i in range(6)]
    taken = [current[1], current[4], SimpleNamespace(id="old0")]
    found = train.refill_tasks(current, taken, 3, seed=0, step=2)
    assert found == train.refill_tasks(current, taken, 3, seed=0, step=2)
    assert len({task.id for task in found} - {"new1", "new4"}) == 3
    assert {task.id for task in train.refill_tasks(current, taken, 9, 0, 2)} == {"new0", "new2", "new3", "new5"}
    assert train.refill_tasks(current, current, 2, 0, 2) == []
    assert len({tuple(t.id for t in train.refill_tasks(current, [], 6, 0, step)) for step in range(5)}) > 1


class Recorder:
    """Stands for rollouts, packing and the learner, and writes down what they are given."""

    def __init__(self, rewards, minibatches, **settings):
        items = [episode(reward, task=f"t{i // 4}", member=i % 4) for i, reward in enumerate(rewards)]
        self.batches, self.calls = [], []
        config = default.get_config()
        config.rl.update(group_size=4, minibatches=minibatches, algorithm="dr_grpo", **settings)

        def run(params, chosen, members, version, seed, on_progress):
            self.calls.append((params, list(chosen), list(members), version, seed))
            return [item for item in items if item.task_id in chosen] if settings else items

        def update(state, batch):
            self.batches.append(batch)
            return dataclasses.replace(state, step=state.step + 1), {"loss": float(len(self.batches))}

        parts = SimpleNamespace(config=config, play=run, stats=rollout.Stats(sampled_tokens=5, seconds=1.0))
        parts.peak, parts.work = 1e9, lambda batch: (10, 2e6)
        state = State("parameters", 3, 0)
        self.trainer = train.Trainer(parts, state, update, lambda some, weights: list(zip(some, weights, strict=True)))


@dataclasses.dataclass(frozen=True)
class State:
    params: str
    step: int
    skipped: int


def test_a_step_trains_on_mixed_groups_without_faults():
    """Five groups, three of them mixed, two minibatches: 2 + 1 groups, the fault left out, advantages beside them."""
    rewards = [1, 0, 0, 0] + [1] * 4 + [0, 0, None, 1] + [0] * 4 + [1, 1, 0, 0]
    recorder = Recorder(rewards, minibatches=2)
    items, metrics = recorder.trainer.step(["x", "y"], seed=9)
    assert len(items) == 20 and recorder.calls == [("parameters", ["x", "y"], [0, 1, 2, 3], 3, 9)]
    trained = [[(item.task_id, item.member, round(weight, 3)) for item, weight in batch] for batch in recorder.batches]
    assert trained == [
        [("t0", 0, 0.75), ("t0", 1, -0.25), ("t0", 2, -0.25), ("t0", 3, -0.25)]
        + [("t2", 0, -0.333), ("t2", 1, -0.333), ("t2", 3, 0.667)],
        [("t4", 0, 0.5), ("t4", 1, 0.5), ("t4", 2, -0.5), ("t4", 3, -0.5)],
    ]
    assert metrics["updates"] == 2 and metrics["loss"] == 1.5 and recorder.trainer.state.step == 5
    assert metrics["mixed_groups"] == 0.6 and metrics["faults"] == 1
    assert metrics["learner_tokens_per_second"] == pytest.approx(20 / metrics["learner_seconds"])
    assert metrics["mfu"] == pytest.approx(4e6 / metrics["learner_seconds"] / 1e9)


def test_a_step_without_any_mixed_group_is_no_update():
    recorder = Recorder([1] * 4 + [0] * 4 + [None] * 4, minibatches=2)
    _, metrics = recorder.trainer.step(["x"], seed=0)
    assert metrics["updates"] == 0 and recorder.batches == [] and recorder.trainer.state.step == 3
    assert "loss" not in metrics and metrics["mixed_groups"] == 0 and metrics["mfu"] is None


def test_groups_without_a_signal_are_sampled_anew():
    """t0 and t3 say nothing; t2 in the place of one says nothing either; t1 does; then the refills are used up."""
    recorder = Recorder([1] * 4 + [0, 1, 1, 1] + [0] * 4 + [1] * 4, minibatches=1, max_refills=2)
    asked = []

    def more(taken, count):
        asked.append((list(taken), count))
        return [["t2"], ["t1"], ["t9"]][len(asked) - 1]

    items, metrics = recorder.trainer.step(["t0", "t3"], seed=9, more=more)
    assert asked == [(["t0", "t3"], 2), (["t0", "t3", "t2"], 2)]
    assert [call[1] for call in recorder.calls] == [["t0", "t3"], ["t2"], ["t1"]]
    assert [(item.task_id, item.member) for item in items] == [(f"t{i}", m) for i in range(4) for m in range(4)]
    assert [item.task_id for item, _ in recorder.batches[0]] == ["t1"] * 4 and metrics["updates"] == 1
    assert metrics["signal_groups"] == 1
    assert metrics["refills"] == 2 and metrics["mixed_groups"] == 0.25 and metrics["tokens_per_second"] == 5.0
    recorder = Recorder([1] * 8, minibatches=1, max_refills=5)
    _, metrics = recorder.trainer.step(["t0", "t1"], seed=9, more=lambda taken, count: [])
    assert metrics["refills"] == 0 and metrics["updates"] == 0 and metrics["signal_groups"] == 0


def test_groups_under_way_are_trained_on_when_they_have_ended():
    """Two tasks, one of which takes two steps; it is not begun again meanwhile, and its version counts."""
    recorder = Recorder([1, 0, 0, 0, 1, 1, 0, 0], minibatches=1, partial_turns=3, max_staleness=2)
    first, second = (SimpleNamespace(id=name) for name in ("t0", "t1"))
    items = [episode(float(m == 0), task=f"t{i}", member=m) for i in range(2) for m in range(4)]
    played, answers = [], [items[:4], [], [dataclasses.replace(item, versions=[3, 4]) for item in items[4:]]]

    def play(params, chosen, members, version, seed, on_progress, **pause):
        played.append(([task.id for task in chosen], version, pause))
        return answers[len(played) - 1]

    recorder.trainer.parts.play = play
    pause = {"turns": 3, "pauses": 2}
    _, metrics = recorder.trainer.step([first, second], 0, whole=False)
    assert played[-1] == (["t0", "t1"], 3, pause) and list(recorder.trainer.under_way) == ["t1"]
    found, metrics = recorder.trainer.step([second], 1, whole=False)
    assert played[-1] == ([], 4, pause) and found == [] and metrics["updates"] == 0 and metrics["reward"] is None
    _, metrics = recorder.trainer.step([first, second], 2, whole=True)
    assert played[-1] == (["t0"], 4, {}) and metrics["staleness"] == 0.5 and not recorder.trainer.under_way
    assert [len(batch) for batch in recorder.batches] == [4, 4]


def test_penalties_come_off_the_reward():
    """Two right answers, one of which used up all but 16 of 64 tokens, 32 of which are the buffer: it is the worse."""
    recorder = Recorder([1, 1], minibatches=1, max_refills=0)
    c = recorder.trainer.parts.config
    c.sampler.context, c.rl.overlong_buffer, c.rl.group_size = 64, 32, 2
    items = [episode(1.0, mask=[0] + [1] * 19), episode(1.0, member=1, mask=[0] + [1] * 47)]
    advantages, signal, _ = recorder.trainer._advantages(items, [])
    np.testing.assert_allclose(advantages, [0.25, -0.25])
    assert signal.tolist() == [True]


def test_with_a_teacher_every_token_answers_for_itself():
    """Rewards play no part, but a fault still leaves its episode out."""
    recorder = Recorder([1] * 4 + [0, 1, None, 1], minibatches=1, teacher="somewhere")
    recorder.trainer.pack = functools.partial(packing.pack, row_length=8, rows=2, micro_batches=2)
    recorder.trainer.parts.teacher = lambda batch: np.full(batch.tokens.shape, -0.25, np.float32)
    _, metrics = recorder.trainer.step(["t0", "t1"], seed=9)
    (batch,) = recorder.batches
    assert metrics["signal_groups"] == 2  # whatever the rewards are, unless there is none
    assert batch.sequences == 7 and metrics["updates"] == 1 and metrics["mixed_groups"] == 0.5
    np.testing.assert_array_equal(batch.advantages, 0.75 * batch.loss_mask)  # the sampler's are -1


def test_step_seeds_are_distinct():
    seeds = {train.step_seed(*key) for key in [(s, k, i) for s in range(3) for k in range(4) for i in range(20)]}
    assert len(seeds) == 240 and all(0 <= seed < 2**31 for seed in seeds)
