"""Turn-level credit: worlds played again by hand, returns that add up, one turn as if there were no credit."""

import dataclasses

import numpy as np
import pytest

from envs import base, world
from envs.base import Score
from rl import trajectory
from rl.learn import algorithms, credit
from synth.inversion import dialect
from synth.question import Question
from tests.support import worlds


def _played(task, steps, member=0, reward=None):
    """The trajectory of scripted steps in the task's world: two tokens a turn, one between turns."""
    messages, score = world.play_steps(task, steps)
    turns = sum(message["role"] == "assistant" for message in messages)
    mask = [0, *([1, 1, 0] * turns)]
    score = score if reward is None else Score(reward, score.subgoals, score.violations)
    tokens, logprobs = [7] * len(mask), [-1.0 * m for m in mask]
    return trajectory.Trajectory(task.id, member, tokens, mask, logprobs, 0, "ended", score, messages, [], turns)


@pytest.mark.parametrize("task", [worlds.LINEAR, worlds.OWNER, worlds.CONSENT, worlds.MISSING], ids=lambda t: t.id)
def test_progress_rises_with_the_oracles_turns(task):
    """The oracle ends with everything; each subgoal is credited in the turn after which the world first has it."""
    item = _played(task, task.oracle)
    assert item.reward == 1.0
    (before,) = credit.progress([item], {task.id: task}, world.make)
    assert len(before) == item.turns and before[0] == 0.0 and before == sorted(before) and before[-1] > 0
    weights = {goal["name"]: goal["weight"] for goal in task.subgoals}
    answers = [i for i, message in enumerate(item.messages) if message["role"] == "assistant"]
    for turn, expected in enumerate(before):

        async def replay(count=turn):
            env = world.make(task)
            await env.reset()
            for index in answers[:count]:
                await env.step(item.messages[index])
            return await env.score()

        reached = base.run(replay()).subgoals
        assert expected == pytest.approx(sum(weights[n] for n, met in reached.items() if met) / sum(weights.values()))


def test_what_has_no_progress_falls_back_to_its_reward():
    """A question, which has no weighted subgoals; a step whose episodes all failed at once."""
    item = _played(worlds.LINEAR, worlds.LINEAR.oracle)
    question = Question("q", "root", "", "", 0, 0, "reasoning", "?", "1", {})
    asked = dataclasses.replace(item, task_id="q", score=Score(1.0, {"answered": True}, []))
    assert credit.progress([asked], {"q": question}, world.make) == [[0.0] * item.turns]
    lost = trajectory.Trajectory("q", 0, [], [], [], 0, "error", Score(None, {}, []), [], [], 0)
    found, signal = credit.advantages([lost] * 4, np.full(4, np.nan, np.float32), [[]] * 4, 2, "grpo")
    assert [x.size for x in found] == [0] * 4 and signal.tolist() == [False, False]


def test_an_environment_that_fails_now_is_named():
    """And closed. Another process may have played it: a fallback here would train it on another batch."""
    task, made = worlds.LINEAR, []

    class Broken:
        def __init__(self, task):
            self.env, self.closed = world.make(task), False
            made.append(self)

        async def reset(self):
            return await self.env.reset()

        async def step(self, message):
            raise ConnectionError("backend lost")

        def close(self):
            self.closed = True

    with pytest.raises(ConnectionError, match="backend lost") as caught:
        credit.progress([_played(task, task.oracle, member=3)], {task.id: task}, Broken)
    assert f"{task.id!r}, member 3" in caught.value.__notes__[0] and made[0].closed


def test_a_turn_is_not_credited_with_what_came_before():
    """Two members read; one then writes, the other gives up. That the second has read is no merit of its last turn."""
    task = worlds.LINEAR
    good, bad = (
        _played(task, task.oracle),
        _played(task, [task.oracle[0], {"say": dialect.TINY.closings["stop"]}], member=1),
    )
    assert good.reward == 1.0 and 0 < bad.reward < 1.0
    before = credit.progress([good, bad], {task.id: task}, world.make)
    rewards = np.array([good.reward, bad.reward], np.float32)
    found, signal = credit.advantages([good, bad], rewards, before, 2, "dr_grpo")
    assert signal.tolist() == [True]
    first = (good.reward - bad.reward) / 2
    np.testing.assert_allclose(found[0][1:3], first, rtol=1e-6)
    np.testing.assert_allclose(found[1][1:3], -first, rtol=1e-6)
    second = ((good.reward - before[0][1]) - (bad.reward - before[1][1])) / 2
    np.testing.assert_allclose(found[0][4:6], second, rtol=1e-6)
    assert all(not x[np.array(item.loss_mask) == 0].any() for x, item in zip(found, (good, bad)))


def _episode(turns, reward, member, task="t0"):
    mask = [0, *([1, 0] * turns)]
    score = Score(reward, {}, [], error=None if reward is not None else "gone")
    tokens, logprobs = [1] * len(mask), [0.0] * len(mask)
    return trajectory.Trajectory(task, member, tokens, mask, logprobs, 0, "ended", score, [], [], turns)


@pytest.mark.parametrize("name", algorithms.ADVANTAGES)
def test_one_turn_has_the_episodes_advantage(name):
    """Faults included; and without subgoals every turn has its own baseline, of the members that got so far."""
    rewards = np.array([1.0, 0.0, np.nan, 0.5, 1.0, 1.0, 1.0, 1.0], np.float32)
    items = [_episode(1, None if np.isnan(r) else float(r), i % 4, f"t{i // 4}") for i, r in enumerate(rewards)]
    before = credit.progress(items, {}, world.make)
    found, signal = credit.advantages(items, rewards, before, 4, name)
    expected, carries = algorithms.group_advantages(rewards, 4, name)
    np.testing.assert_array_equal([x[1] for x in found], expected)
    assert signal.tolist() == carries.tolist()


def test_turns_by_hand():
    """Returns 1, 0.5 | 0 | 0.5, 0.25, 0: means 0.5, 0.375 and 0 over those that have the turn."""
    items = [_episode(2, 1.0, 0), _episode(1, 0.0, 1), _episode(3, 0.5, 2)]
    before = [[0.0, 0.5], [0.0], [0.0, 0.25, 0.5]]
    found, signal = credit.advantages(items, np.array([1.0, 0.0, 0.5], np.float32), before, 3, "dr_grpo")
    expected = [[0, 0.5, 0, 0.125, 0], [0, -0.5, 0], [0, 0, 0, -0.125, 0, 0, 0]]
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert signal.tolist() == [True]
    with pytest.raises(ValueError, match="member 0: 2 stretches of sampled tokens in 5 turns"):
        broken = dataclasses.replace(items[0], turns=5)
        credit.advantages([broken], np.ones(1, np.float32), [[0.0] * 5], 1, "grpo")
