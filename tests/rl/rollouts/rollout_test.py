"""Group rollouts in small environments: token-exact records, every ending, faults contained, order irrelevant."""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from flax import nnx

from envs.base import Score, Step
from model.network import transformer
from model.sampling import sampler
from model.text import tokenizer
from model.text.chat import Chat
from rl import trajectory
from rl.reports import show
from rl.rollouts import rollout
from synth.task import Task

CONTEXT, BUDGET, MAX_TURNS = 500, 12, 4
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def task(name, steps=2, mode="", text="what is 1 + 2?"):
    """A task of SumEnv: over after `steps` answers; `mode` says what fails; `text` is the question."""
    unused = {field.name: None for field in dataclasses.fields(Task)}
    return Task(**{**unused, "id": name, "seed": steps, "domain": mode, "policy": text, "tools": TOOLS})


class SumEnv:
    """Answers every assistant message with a tool result and a user turn; scores 1 if it has heard three of them."""

    opened = []

    def __init__(self, task):
        self.task, self.tools, self.heard, self.closed = task, task.tools, [], False
        self.fail("make")
        SumEnv.opened.append(self)

    def fail(self, stage):
        """Raises if the task says so."""
        if stage in self.task.domain.split():
            raise ConnectionError(f"backend lost in {stage}")

    async def reset(self):
        self.fail("reset")
        return [{"role": "system", "content": "you add numbers"}, {"role": "user", "content": self.task.policy}]

    async def step(self, message):
        await asyncio.sleep(0)
        self.fail("step")
        self.heard.append(message)
        answer = [
            {"role": "tool", "tool_call_id": f"call_{len(self.heard) - 1}_0", "content": f"error {len(self.heard)}"},
            {"role": "user", "content": "again" if self.task.domain != "long" else "again and again " * 200},
        ]
        return Step(answer, done=len(self.heard) >= self.task.seed)

    async def score(self):
        self.fail("score")
        if self.task.domain == "masked":
            return Score(None, {}, [], error="teacher down")
        return Score(float(len(self.heard) == 3), {"heard": bool(self.heard)}, [])

    def close(self):
        self.closed = True
        self.fail("close")


@functools.cache
def parts():
    """(chat, config, graphdef, params): a tokenizer trained here and a random policy of its vocabulary."""
    texts = ["you add numbers what is 1 + 2? again error 1 user assistant tool system name arguments add"] * 3
    chat = Chat(tokenizer.train(texts, vocab_size=320))
    config = transformer.Config(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8
    )  # fmt: skip
    graphdef, params = nnx.split(transformer.Transformer(config, rngs=nnx.Rngs(0)))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)]
    return chat, config, graphdef, tree.unflatten(leaves)


LIMITS = {field.name for field in dataclasses.fields(rollout.Limits)}


def make_rollouts(slots=3, make_env=SumEnv, max_turns=MAX_TURNS, stops=5, **changes):
    """Rollouts whose turns end at every `stops`-th token, since a random policy would hardly ever say <|im_end|>."""
    chat, config, graphdef, _ = parts()
    stop_ids = set(chat.stop_ids) | set(range(0, 320, stops) if stops else ())
    sizes = dict(slots=slots, context=CONTEXT, prefill_chunk=32, max_new_tokens=BUDGET, stop_ids=stop_ids)
    limits = rollout.Limits(max_turns, **{name: changes.pop(name) for name in LIMITS & changes.keys()})
    engine = sampler.Engine(graphdef, config, **{**sizes, **changes})
    return rollout.Rollouts(engine, chat, make_env, limits, seed=3)


def runs_of(mask):
    """[(value, start, end)] of the runs of equal values."""
    edges = [0, *(i for i in range(1, len(mask)) if mask[i] != mask[i - 1]), len(mask)]
    return [(mask[a], a, b) for a, b in zip(edges, edges[1:])]


TASKS = [task("c", 2), task("a", 1), task("b", 9), task("d", 3)]


def test_record_is_token_exact():
    """Rebuilt from the messages: the mask is 1 on sampled turns, 0 on prompt and increments, and nothing is left over;
    the logprobs of sampled tokens are the learner's."""
    chat, config, graphdef, params = parts()
    rollouts, progress = make_rollouts(), []
    played = rollouts.run(params, TASKS, range(3), 7, on_progress=lambda *counts: progress.append(counts))
    assert [(t.task_id, t.member) for t in played] == [(name, member) for name in "abcd" for member in range(3)]
    rows = np.array([t.tokens + [0] * (CONTEXT - len(t.tokens)) for t in played])
    learner = jax.jit(lambda params, rows: jax.nn.log_softmax(nnx.merge(graphdef, params)(rows), axis=-1))
    for t, learnt in zip(played, np.asarray(learner(params, rows)), strict=True):
        assert len(t.tokens) == len(t.loss_mask) == len(t.logprobs) <= CONTEXT and t.policy_version == 7
        said = [i for i, message in enumerate(t.messages) if message["role"] == "assistant"]
        runs = runs_of(t.loss_mask)
        sampled = [(a, b) for value, a, b in runs if value]
        given = [t.tokens[a:b] for value, a, b in runs if not value]
        assert len(said) == len(sampled) == t.turns and runs[-1][0] == 1
        expected = [chat.prompt(t.messages[:2], TOOLS)]
        expected += [chat.increment(t.messages[a + 1 : b]) for a, b in zip(said, said[1:])]
        assert given == expected and t.tools == TOOLS
        for turn, (i, (a, b)) in enumerate(zip(said, sampled)):
            assert t.messages[i] == chat.parse(t.tokens[a:b], turn)
        logprobs = learnt[np.arange(len(t.tokens) - 1), t.tokens[1:]]
        np.testing.assert_allclose(t.logprobs, np.append(0.0, logprobs) * np.array(t.loss_mask), atol=1e-4)
    assert progress[-1] == (12, 12) and progress == sorted(progress)
    stats = rollouts.stats
    assert stats.episodes == 12 and stats.turns == sum(t.turns for t in played)
    assert stats.sampled_tokens == sum(sum(t.loss_mask) for t in played)
    # Four prompts for twelve episodes; every turn but the last of each is read back with what the environment answered.
    assert stats.prefill_tokens + stats.shared_tokens >= sum(len(t.tokens) - sum(t.loss_mask) for t in played)
    assert stats.shared_tokens > 0 and 0 < stats.occupancy <= 1
    assert 0 < stats.prefill_seconds + stats.decode_seconds + stats.env_seconds < stats.seconds


def test_every_ending():
    """Who ends an episode, and that a cut-off one is scored by its environment all the same."""
    params = parts()[3]
    by_name = {}
    for t in make_rollouts().run(params, [*TASKS, task("e", 9, "long")], range(4), 0):
        by_name.setdefault(t.task_id, []).append(t)
        assert t.score.reward == float(t.score.subgoals["heard"] and t.turns == 3 and t.reason != "length")
    for name, steps in (("a", 1), ("c", 2), ("d", 3)):
        for t in by_name[name]:
            assert t.reason == (trajectory.LENGTH if sum(t.loss_mask[-BUDGET:]) == BUDGET else trajectory.ENDED)
            assert t.reason == trajectory.LENGTH or (t.turns == steps and t.messages[-1]["role"] == "user")
    assert {t.reason for t in by_name["b"]} <= {trajectory.MAX_TURNS, trajectory.LENGTH}
    assert any(t.reason == trajectory.MAX_TURNS and t.turns == MAX_TURNS for t in by_name["b"])
    # The increment of "e" alone is longer than the context: its first answer is the last token.
    assert all(t.turns == 1 and t.loss_mask[-1] == 1 for t in by_name["e"])
    assert trajectory.CONTEXT in {t.reason for t in by_name["e"]}
    never_stops = make_rollouts(stops=0, max_new_tokens=CONTEXT).run(params, [task("f", 9)], [0], 0)[0]
    assert never_stops.reason == trajectory.CONTEXT and len(never_stops.tokens) == CONTEXT


def test_faults_end_only_their_own_episode():
    """Whatever stage raises; the others are as if the faulty ones had not been there."""
    params, modes = parts()[3], ("make", "reset", "step", "score", "close", "masked")
    alone = make_rollouts().run(params, TASKS, range(2), 0)
    SumEnv.opened.clear()
    faulty = [task(f"x {mode}", 2, mode) for mode in modes]
    beside = make_rollouts(stops=1).run(params, faulty, range(2), 0)
    for t in beside:
        mode = t.task_id.removeprefix("x ")
        assert t.reason == trajectory.ERROR and t.reward is None and not t.passed
        assert ("teacher down" if mode == "masked" else f"backend lost in {mode}") in t.score.error
        assert bool(t.tokens) == (mode not in ("make", "reset"))
    assert SumEnv.opened and all(env.closed for env in SumEnv.opened)
    mixed = make_rollouts().run(params, [*faulty, *TASKS], range(2), 0)
    healthy = [t for t in mixed if not t.task_id.startswith("x ")]
    assert [(t.tokens, t.reason, t.score) for t in healthy] == [(t.tokens, t.reason, t.score) for t in alone]


def test_a_fault_says_what_happened_and_hides_nothing():
    """Where it was raised; what failed before it; and what was known of an episode that fails when it is closed."""
    params = parts()[3]
    faults = ("step", "close", "step close")
    step, close, both = (make_rollouts().run(params, [task("x", 3, fault)], [0], 0)[0] for fault in faults)
    assert "step: ConnectionError('backend lost in step')" in step.score.error
    assert "Traceback" in step.score.error and "rollout_test.py" in step.score.error and "in fail" in step.score.error
    assert close.score.subgoals == {"heard": True} and close.reward is None
    assert close.score.error.startswith("after ended, reward 1.0 was due, close: ConnectionError(")
    first, second = (both.score.error.index(f"{stage}: ConnectionError") for stage in ("step", "close"))
    assert first < second and both.reward is None and both.reason == trajectory.ERROR


@pytest.mark.parametrize("temperature", [0.0, None])
def test_slots_and_order_do_not_matter(temperature):
    """Two slots, seven slots, tasks and members in another order: the same tokens, logprobs to 1e-4."""
    params = parts()[3]
    two = make_rollouts(slots=2).run(params, TASKS, range(2), 0, temperature=temperature)
    seven = make_rollouts(slots=7).run(params, TASKS[::-1], [1, 0], 0, temperature=temperature)
    assert [t.tokens for t in two] == [t.tokens for t in seven]
    for a, b in zip(two, seven, strict=True):
        assert (a.task_id, a.member, a.reason, a.messages) == (b.task_id, b.member, b.reason, b.messages)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    members_differ = two[0].tokens != two[1].tokens
    assert members_differ == (temperature is None)
    if temperature is None:
        other = make_rollouts(slots=2).run(params, TASKS, range(2), 0, seed=4)
        assert [t.tokens for t in two] != [t.tokens for t in other]


def test_environments_step_concurrently():
    """Three episodes whose steps wait for each other; one after the other they would wait for ever."""
    meeting = asyncio.Barrier(3)

    class MeetingEnv(SumEnv):
        async def step(self, message):
            await asyncio.wait_for(meeting.wait(), timeout=60)
            return await super().step(message)

    played = make_rollouts(make_env=MeetingEnv, stops=1).run(parts()[3], [task("a", 2)], range(3), 0)
    assert [(t.reason, t.turns) for t in played] == [(trajectory.ENDED, 2)] * 3


def test_a_prompt_that_does_not_fit_ends_its_episode():
    """It is scored where it stands, like whatever else a budget cuts off; the others are as if it were not there."""
    tasks = [task("fits", 2), task("too long", text="again " * 2000)]
    played = make_rollouts().run(parts()[3], tasks, range(2), 0)
    for t in played[2:]:
        assert t.task_id == "too long" and t.tokens == [] and t.reason == trajectory.CONTEXT
        assert t.reward == 0.0 and t.turns == 0 and len(t.messages) == 2
    assert played[:2] == make_rollouts().run(parts()[3], tasks[:1], range(2), 0) and played[0].tokens


def test_a_task_that_is_given_twice_is_refused():
    with pytest.raises(ValueError, match="'a', member 1 is given twice"):
        make_rollouts().run(parts()[3], [task("a"), task("a")], [1], 0)


def test_a_hanging_environment_never_delays_the_others():
    """It hangs until all others are over, in reset or in step; then it ends its own episode with the reason."""
    for stage in ("reset", "step"):
        over = asyncio.Event()

        class Hanging(SumEnv):
            async def reset(self, stage=stage):
                return await super().reset() if self.task.id != "hangs" or stage != "reset" else await self.hang()

            async def step(self, message):
                return await super().step(message) if self.task.id != "hangs" else await self.hang()

            async def hang(self, over=over):
                await over.wait()
                raise ConnectionError("the others are over")

        def on_progress(done, count, over=over):
            if done == count - 2:
                over.set()

        tasks = [*TASKS, task("hangs", 2)]
        played = make_rollouts(make_env=Hanging).run(parts()[3], tasks, range(2), 0, on_progress=on_progress)
        assert {t.task_id for t in played if t.reason == trajectory.ERROR} == {"hangs"}
        assert all("the others are over" in t.score.error for t in played if t.task_id == "hangs")
        assert [t for t in played if t.task_id != "hangs"] == make_rollouts().run(parts()[3], TASKS, range(2), 0)


def test_an_environment_that_is_too_late_ends_its_own_episode():
    class Late(SumEnv):
        async def step(self, message):
            return await (asyncio.Event().wait() if self.task.id == "b" else super().step(message))

    SumEnv.opened.clear()
    played = make_rollouts(make_env=Late, timeout=0.5, stops=1).run(parts()[3], TASKS, range(2), 0)
    late = [t for t in played if t.reason == trajectory.ERROR]
    assert {t.task_id for t in late} == {"b"} and all(t.reward is None for t in late)
    assert all("step took longer than env.timeout = 0.5 s" in t.score.error for t in late)
    assert all(env.closed for env in SumEnv.opened)


def test_a_failed_episode_is_played_again_as_if_nothing_had_been():
    """From its beginning, with the same tokens; when all attempts fail the record says how each of them did."""
    left = {"a": 1, "b": 2, "d": 5}

    class Flaky(SumEnv):
        async def step(self, message):
            if self.heard and left.get(self.task.id, 0):
                left[self.task.id] -= 1
                raise ConnectionError(f"{left[self.task.id]} to go")
            return await super().step(message)

    tasks = [task(name, 3) for name in "abcd"]
    calm = make_rollouts(stops=1).run(parts()[3], tasks, [0], 0)
    rollouts = make_rollouts(make_env=Flaky, stops=1, retries=2)
    played = rollouts.run(parts()[3], tasks, [0], 0)
    assert played[:3] == calm[:3] and rollouts.stats.retries == 1 + 2 + 2
    assert played[3].reward is None and all(f"{n} to go" in played[3].score.error for n in (4, 3, 2))
    assert rollouts.stats.sampled_tokens > sum(sum(t.loss_mask) for t in played)


def test_a_backend_that_is_down_stops_the_run():
    """After so many failures in a row, retries included; failures with successes between them do not."""
    SumEnv.opened.clear()
    down = [task(name, 2, "reset") for name in "vwxyz"]
    with pytest.raises(RuntimeError, match="4 attempts .* failed in a row .*env.max_faults.*backend lost in reset"):
        make_rollouts(max_faults=4, retries=1, concurrency=1).run(parts()[3], down, [0], 0)
    assert len(SumEnv.opened) == 4 and all(env.closed for env in SumEnv.opened)
    mixed = [task("a"), *down[:3], task("w2"), *down[3:]]
    played = make_rollouts(max_faults=4, concurrency=1).run(parts()[3], mixed, [0], 0)
    assert sum(t.reward is None for t in played) == 5


def test_no_more_environments_are_open_than_allowed():
    """And the episodes are the same."""
    counts = []

    class Counted(SumEnv):
        async def reset(self):
            counts.append(sum(not env.closed for env in SumEnv.opened))
            return await super().reset()

    SumEnv.opened.clear()
    few = make_rollouts(make_env=Counted, concurrency=2).run(parts()[3], TASKS, range(3), 0)
    assert max(counts) == 2 and few == make_rollouts().run(parts()[3], TASKS, range(3), 0)


@pytest.mark.parametrize("limit", ["max_turns", "concurrency", "timeout", "retries", "max_faults"])
def test_impossible_limits_are_named(limit):
    with pytest.raises(ValueError, match=f"env.{limit}"):
        rollout.Limits(**{"max_turns": 1, limit: -1})


def test_an_interrupted_run_leaves_nothing_open():
    """Environments are closed and slots empty, so the same engine can start over."""
    SumEnv.opened.clear()
    rollouts = make_rollouts()

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollouts.run(parts()[3], TASKS, range(2), 0, on_progress=interrupt)
    assert SumEnv.opened and all(env.closed for env in SumEnv.opened)
    assert [rollouts.engine.room(slot) for slot in range(3)] == [CONTEXT - 1] * 3
    again = rollouts.run(parts()[3], TASKS, range(2), 0)
    assert again == make_rollouts().run(parts()[3], TASKS, range(2), 0)


def test_a_cancelled_run_leaves_the_engine_only_when_its_step_is_over(monkeypatch):
    """And then the same engine plays as a fresh one does."""
    rollouts, inside, events = make_rollouts(), threading.Event(), []
    step = rollouts.engine.step

    def slow(params):
        inside.set()
        time.sleep(0.3)
        found = step(params)
        events.append("step over")
        return found

    async def play():
        running = asyncio.create_task(rollouts.collect(parts()[3], TASKS, range(2), 0))
        await asyncio.to_thread(inside.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        events.append("run over")

    with monkeypatch.context() as patch:
        patch.setattr(rollouts.engine, "step", slow)
        asyncio.run(play())
    assert events == ["step over", "run over"]
    assert all(env.closed for env in SumEnv.opened) and not rollouts.engine.busy
    assert rollouts.run(parts()[3], TASKS, range(2), 0) == make_rollouts().run(parts()[3], TASKS, range(2), 0)


def test_what_fails_at_the_same_time_is_told_together(monkeypatch):
    """Our own mistakes stop the run; every episode's are told, not the first's alone."""

    def parse(tokens, turn):
        raise ValueError(f"no message in {len(tokens)} tokens")

    rollouts = make_rollouts(stops=1, prefill_rows=3, share_prompts=False)  # all turns end at once
    monkeypatch.setattr(rollouts.chat, "parse", parse)
    with pytest.raises(ValueError, match="no message") as caught:
        rollouts.run(parts()[3], TASKS[:1], range(3), 0)
    assert "no message" in caught.value.__notes__[0]


class Hostile(Exception):
    """An exception that cannot be shown."""

    def __repr__(self):
        raise SystemExit("no text")

    __str__ = __repr__


async def cancelled():
    """Ends in a CancelledError that nobody outside asked for."""
    inner = asyncio.create_task(asyncio.sleep(60))
    inner.cancel()
    await inner


async def self_cancelled():
    """Cancels the task that it runs in, which is not its own."""
    asyncio.current_task().cancel()


async def exits(error):
    """Raises in a task of its own, as asyncio lets it pass to the whole loop."""

    async def inner():
        raise error

    await asyncio.create_task(inner())


def raises(error):
    raise error


# name -> (what the environment's step does, a part of the fault's line); None: what it hands back is in CORRUPT
RAISED = {
    "exit": (lambda: raises(SystemExit(3)), "step: SystemExit(3)"),
    "interrupt": (lambda: raises(KeyboardInterrupt()), "step: KeyboardInterrupt()"),
    "generator": (lambda: raises(GeneratorExit()), "step: GeneratorExit()"),
    "bare": (lambda: raises(BaseException("panic")), "step: BaseException('panic')"),
    "hostile": (lambda: raises(Hostile()), "step: Hostile, whose text cannot be shown (SystemExit in its __repr__)"),
    "surrogate": (lambda: raises(OSError("a \ud83d b")), "step: OSError('a \\ud83d b')"),
    "lines": (lambda: raises(OSError("a\nb")), "step: OSError('a\\nb')"),
    "cancelled": (cancelled, "step: CancelledError()"),
    "exit in a task": (lambda: exits(SystemExit(3)), "step: RuntimeError('SystemExit(3) in a task')"),
    "interrupt in a task": (lambda: exits(KeyboardInterrupt()), "step: RuntimeError('KeyboardInterrupt() in a task')"),
    "exit in a thread": (lambda: asyncio.to_thread(raises, SystemExit(3)), "step: SystemExit(3)"),
}


def test_whatever_is_raised_ends_its_own_episode():
    """Also what is no Exception; the record says so in one line, and can be written and read back."""

    class Raising(SumEnv):
        async def step(self, message):
            if self.task.id in RAISED and (found := RAISED[self.task.id][0]()) is not None:
                await found
            if self.task.id == "self-cancelled" and not self.heard:
                await self_cancelled()
            return await super().step(message)

    SumEnv.opened.clear()
    strange = [task(name, 2) for name in [*RAISED, "self-cancelled"]]
    played = make_rollouts(make_env=Raising, stops=1).run(parts()[3], [*strange, *TASKS], [0], 0)
    for t in played:
        if t.task_id in RAISED:
            assert t.reason == trajectory.ERROR and t.reward is None
            assert t.score.error.splitlines()[0].startswith(RAISED[t.task_id][1]), t.score.error
    healthy = [t for t in played if t.task_id in "abcd"]
    assert healthy == make_rollouts(stops=1).run(parts()[3], TASKS, [0], 0)
    assert next(t for t in played if t.task_id == "self-cancelled").reason in (trajectory.ENDED, trajectory.ERROR)
    assert all(env.closed for env in SumEnv.opened)


class Unreadable:
    def __repr__(self):
        raise OSError("not for you")


HALF = "a \ud83d b"  # half of a character, which UTF-8 cannot hold
# name -> (stage, what an environment hands back in it, a part of the fault's line)
CORRUPT = {
    "text": ("step", Step([{"role": "user", "content": HALF}], False), "messages[0].content: text that UTF-8 cannot"),
    "last": ("step", Step([{"role": "user", "content": HALF}], True), "messages[0].content: text that UTF-8 cannot"),
    "bytes": ("step", Step([{"role": "user", "content": b"a"}], True), "messages[0].content: expected JSON data, got"),
    "id": ("step", Step([{"role": "tool", "content": "", "tool_call_id": {1}}], True), "tool_call_id: expected JSON"),
    "nan": ("step", Step([{"role": "user", "content": "", "x": float("nan")}], True), "expected a finite number"),
    "keys": ("step", Step([{"role": "user", "content": "", 1: 2}], True), "expected text as keys, got int"),
    "role": ("step", Step([{"role": "assistant", "content": ""}], True), "a role that is text and not 'assistant'"),
    "number": ("step", Step([{"role": "user", "content": 7}], True), "expected content as a string, got int"),
    "done": ("step", Step([], "yes"), "done: expected True or False, got 'yes'"),
    "none": ("step", None, "expected an envs.base.Step, got NoneType"),
    "messages": ("reset", None, "messages: expected a list, got NoneType"),
    "first": ("reset", [{"role": "user", "content": HALF}], "messages[0].content: text that UTF-8 cannot hold"),
    "score": ("score", None, "expected an envs.base.Score, got NoneType"),
    "array": ("score", Score(np.ones(3), {}, []), "reward: expected JSON data, got ndarray"),
    "not a number": ("score", Score(float("nan"), {}, []), "reward: expected a finite number, got nan"),
    "infinite": ("score", Score(float("inf"), {}, []), "reward: expected a finite number, got inf"),
    "digits": ("score", Score("1.0", {}, []), "reward: expected a number in [0, 1] or None, got '1.0'"),
    "large": ("score", Score(1e30, {}, []), "reward: expected a number in [0, 1] or None, got 1e+30"),
    "above": ("score", Score(1.766, {}, []), "reward: expected a number in [0, 1] or None, got 1.766"),
    "below": ("score", Score(-0.5, {}, []), "reward: expected a number in [0, 1] or None, got -0.5"),
    "strange": ("score", Score(Unreadable(), {}, []), "reward: expected JSON data, got Unreadable"),
    "subgoals": ("score", Score(1.0, {"a": "yes"}, []), "subgoals.a: expected True or False, got 'yes'"),
    "violations": ("score", Score(1.0, {}, {"a"}), "violations: expected JSON data, got set"),
    "delta": ("score", Score(1.0, {}, [], delta={"a": {1}}), "delta.a: expected JSON data, got set"),
    "half": ("score", Score(None, {}, [], error=HALF), "error: text that UTF-8 cannot hold"),
}


def test_whatever_is_handed_back_ends_its_own_episode(tmp_path, capsys):
    """What no record can hold is a fault with one line; records are strict JSON and read back as they were."""

    class Corrupt(SumEnv):
        def corrupt(self, stage):
            return self.task.id in CORRUPT and CORRUPT[self.task.id][0] == stage

        async def reset(self):
            return CORRUPT[self.task.id][1] if self.corrupt("reset") else await super().reset()

        async def step(self, message):
            return CORRUPT[self.task.id][1] if self.corrupt("step") else await super().step(message)

        async def score(self):
            return CORRUPT[self.task.id][1] if self.corrupt("score") else await super().score()

    class Numpy(Corrupt):
        async def score(self):
            score = await super().score()
            if self.task.id not in "abcd":
                return score
            met = {name: np.bool_(met) for name, met in score.subgoals.items()}
            return dataclasses.replace(score, reward=np.float32(score.reward), subgoals=met)

    strange = [task(name, 1) for name in CORRUPT]
    played = make_rollouts(make_env=Numpy, stops=1).run(parts()[3], [*strange, *TASKS], [0], 0)
    for t in played:
        if t.task_id in CORRUPT:
            stage, _, expected = CORRUPT[t.task_id]
            line = t.score.error.splitlines()[0]
            assert t.reward is None and f"{stage}: ValueError(" in line and expected in line, line
    plain = make_rollouts(stops=1).run(parts()[3], TASKS, [0], 0)
    assert [t for t in played if t.task_id in "abcd"] == plain
    path = tmp_path / "rollouts.jsonl"
    rollout.write(played, path)
    assert rollout.read(path) == played
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=raises)
    show.faults(played)
    assert f"{len(CORRUPT)} of {len(CORRUPT) + 4} episodes faulted" in capsys.readouterr().out


def test_a_record_that_is_no_json_is_refused_and_nothing_is_written(tmp_path):
    played = make_rollouts(stops=1).run(parts()[3], TASKS[:1], [0], 0)
    broken = dataclasses.replace(played[0], logprobs=[float("nan")])
    with pytest.raises(ValueError, match="task 'c', member 0: no record can hold it"):
        rollout.write([*played, broken], tmp_path / "rollouts.jsonl")
    assert not (tmp_path / "rollouts.jsonl").exists()


@pytest.mark.parametrize("stage", ["reset", "step", "score"])
def test_an_environment_that_swallows_its_cancellation_is_left_behind(monkeypatch, stage):
    """It hangs for ever, in a coroutine or in a thread; the others go on, and so does the program."""
    monkeypatch.setattr("rl.rollouts.episode.PATIENCE", 0.2)
    monkeypatch.setattr("rl.rollouts.rollout.PATIENCE", 0.2)
    threads = []

    class Stubborn(SumEnv):
        async def hang(self, now):
            if now != stage:
                return
            if self.task.id == "thread":
                threads.append(threading.Event())
                await asyncio.to_thread(threads[-1].wait)
            while self.task.id == "stubborn":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

        async def reset(self):
            await self.hang("reset")
            return await super().reset()

        async def step(self, message):
            await self.hang("step")
            return await super().step(message)

        async def score(self):
            await self.hang("score")
            return await super().score()

    SumEnv.opened.clear()
    tasks = [*TASKS, task("stubborn", 2), task("thread", 2)]
    played = make_rollouts(make_env=Stubborn, timeout=0.5, stops=1).run(parts()[3], tasks, range(2), 0)
    hung = [t for t in played if t.task_id in ("stubborn", "thread")]
    assert len(hung) == 4 and all(t.reason == trajectory.ERROR and t.reward is None for t in hung)
    for t in hung:
        assert t.score.error.splitlines()[0].count(f"{stage} took longer than env.timeout = 0.5 s: ") == 1
        assert ("it goes on although its call was cancelled" in t.score.error) == (t.task_id == "stubborn")
    healthy = [t for t in played if t not in hung]
    assert healthy == make_rollouts(stops=1).run(parts()[3], TASKS, range(2), 0)
    assert all(env.closed for env in SumEnv.opened)
    for event in threads:
        event.set()
    alone = make_rollouts(make_env=Stubborn, timeout=0.5, stops=1).run(parts()[3], [task("stubborn", 2)], [0], 0)
    assert [t.reason for t in alone] == [trajectory.ERROR]


def test_an_answer_that_comes_after_the_cancellation_is_too_late():
    class Late(SumEnv):
        async def step(self, message):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600 if self.task.id == "b" else 0)
            return await super().step(message)

    played = make_rollouts(make_env=Late, timeout=0.3, stops=1).run(parts()[3], TASKS, [0], 0)
    late = [t for t in played if t.reason == trajectory.ERROR]
    assert [t.task_id for t in late] == ["b"] and "it answered only after its call was cancelled" in late[0].score.error


def test_the_users_interrupt_ends_the_run_and_does_not_wait_for_stubborn_environments(monkeypatch):
    """Ctrl-C while an environment works is not the environment's; everything is closed."""
    monkeypatch.setattr("rl.rollouts.rollout.PATIENCE", 0.2)

    class Interrupted(SumEnv):
        async def step(self, message):
            if self.task.id == "b":
                os.kill(os.getpid(), signal.SIGINT)
            while self.task.id == "c":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
            return await super().step(message)

    SumEnv.opened.clear()
    with pytest.raises(KeyboardInterrupt):
        make_rollouts(make_env=Interrupted, stops=1).run(parts()[3], TASKS, range(2), 0)
    assert SumEnv.opened and all(env.closed for env in SumEnv.opened)


@pytest.mark.parametrize("stage", ["reset", "step"])
def test_messages_that_cannot_be_said_end_their_own_episode(stage):
    class Wrong(SumEnv):
        async def reset(self):
            return await super().reset() + ([{"role": "user", "content": 7}] if self.wrong("reset") else [])

        async def step(self, message):
            return Step([{"role": "user", "content": 7}], False) if self.wrong("step") else await super().step(message)

        def wrong(self, now):
            return self.task.id == "b" and now == stage

    played = make_rollouts(make_env=Wrong).run(parts()[3], TASKS, range(2), 0)
    assert {t.task_id for t in played if t.reason == trajectory.ERROR} == {"b"}
    wrong = next(t for t in played if t.task_id == "b")
    assert wrong.reward is None and f"{stage}: ValueError" in wrong.score.error and "as a string" in wrong.score.error
    assert [t for t in played if t.task_id != "b"] == make_rollouts().run(
        parts()[3], [task for task in TASKS if task.id != "b"], range(2), 0
    )


def test_partial_episodes_go_on_under_new_parameters():
    """Put aside after two turns, at most twice: groups come when all members have ended, every turn has the logprobs
    of the parameters it names, and with one version all the way it is the episode that was never put aside."""
    chat, config, graphdef, params = parts()
    versions = [jax.tree.map(lambda x, scale=scale: scale * x, params) for scale in (1.0, 1.5, 0.5)]
    tasks = [task("a", 1), task("c", 2), task("d", 6), task("b", 9), task("e", 9, "step")]
    limits = dict(max_turns=8, stops=3)

    def play(params):
        SumEnv.opened.clear()
        rollouts, found, ended = make_rollouts(**limits), [], 0
        for number, tree in enumerate(params):
            new = rollouts.run(tree, tasks if not number else [], range(2), number, turns=2, pauses=2)
            assert new == sorted(new, key=lambda t: (t.task_id, t.member)) and len(new) % 2 == 0
            ended, found = ended + rollouts.stats.episodes, [*found, *new]
            assert rollouts.stats.paused == sum(not e.reason for e in rollouts.aside)
            assert sum(not env.closed for env in SumEnv.opened) == rollouts.stats.paused
        assert not rollouts.aside and ended == len(found) == 2 * len(tasks)
        return sorted(found, key=lambda t: (t.task_id, t.member))

    found, again, alone = play(versions), play(versions), play([params] * 3)
    assert found == again
    for paused, plain in zip(alone, make_rollouts(**limits).run(params, tasks, range(2), 0), strict=True):
        told = dataclasses.asdict(paused), dataclasses.asdict(plain)
        np.testing.assert_allclose(told[0].pop("logprobs"), told[1].pop("logprobs"), atol=1e-4)
        for one in told:
            del one["versions"], one["score"]["error"]  # a traceback names lines
        assert told[0] == told[1]
    learner = jax.jit(lambda params, row: jax.nn.log_softmax(nnx.merge(graphdef, params)(row), axis=-1)[0])
    assert {version for t in found for version in t.turn_versions} == {0, 1, 2}
    for t in found:
        assert len(t.turn_versions) == t.turns and t.turn_versions == sorted(t.turn_versions)
        row = np.array([t.tokens + [0] * (CONTEXT - len(t.tokens))])
        learnt = [np.asarray(learner(tree, row)) for tree in versions]
        sampled = [(a, b) for value, a, b in runs_of(t.loss_mask) if value]
        for (a, b), version in zip(sampled, t.turn_versions, strict=True):
            expected = learnt[version][np.arange(a - 1, b - 1), t.tokens[a:b]]
            np.testing.assert_allclose(t.logprobs[a:b], expected, atol=1e-4)


def test_write_appends_what_read_returns(tmp_path):
    """Bit for bit, and a broken line is named."""
    played = make_rollouts().run(parts()[3], [task("a", text="häßlich \u2028 ok?"), task("b", 1, "step")], [0], 0)
    path = tmp_path / "rollouts.jsonl"
    rollout.write(played[:1], path)
    rollout.write(played[1:], path, round=2, step=5)
    assert rollout.read(path) == played
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    tags = [(line["task_id"], line.get("round"), line.get("step")) for line in lines]
    assert tags == [("a", None, None), ("b", 2, 5)]
    with pytest.raises(ValueError, match="'turns'"):
        rollout.write(played, path, turns=1)
    with open(path, "a") as file:
        file.write('{"task_id": "a"\n')
    with pytest.raises(ValueError, match="rollouts.jsonl, line 3"):
        rollout.read(path)
