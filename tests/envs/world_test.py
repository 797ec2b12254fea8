"""The executable world: reward computed from state deltas and events, and episodes that never share state."""

import asyncio
import copy
import dataclasses
import random

import pytest

from envs import actors, world
from synth.inversion import dialect, script
from synth.trees import domains
from tests.support.worlds import (
    CONSENT,
    DECLINE,
    LINEAR,
    MISSING,
    OWNER,
    REFUSED,
    TASKS,
    TRANSFER,
    call,
    kinds,
    names,
    play,
    reward,
    say,
    scrambled,
    steps_of,
)


def test_the_reset_shows_policy_and_request():
    env = world.make(OWNER)
    messages = asyncio.run(env.reset())
    assert messages == [{"role": "system", "content": OWNER.policy}, {"role": "user", "content": OWNER.user["request"]}]
    assert env.tools == OWNER.tools


def test_the_oracle_changes_exactly_what_is_declared():
    score, _ = play(LINEAR, steps_of(LINEAR))
    _, _, write, copied, slot, record_id, args = names(LINEAR)
    domain, verb = domains.DOMAINS[LINEAR.domain], LINEAR.user["verb"]
    prefix = f"{domain.record.collection}/{record_id}/{verb}_"
    assert score.delta == {prefix + copied: [None, args[copied]], prefix + slot: [None, args[slot]]}
    assert (score.reward, score.violations, score.node, score.error) == (1.0, [], None, None)
    assert score.subgoals == {f"read_{domain.record.kind}": True, write: True}


def test_partial_credit_is_the_weighted_share():
    # Subgoals: read record 1, read owner 1, write 2.
    record_read, owner_read, write, done = steps_of(OWNER)
    score, _ = play(OWNER, [record_read, write, done])
    owner = domains.DOMAINS[OWNER.domain].owner.kind
    assert score.reward == 3 / 4
    assert [name for name, met in score.subgoals.items() if not met] == [f"read_{owner}"]
    assert score.node == OWNER.branch[1], "the episode left its branch where the owner was to be read"
    assert reward(OWNER, [record_read, done, done]) == 1 / 4
    assert reward(OWNER, [done, done]) == 0.0


def test_an_undeclared_change_makes_the_reward_zero():
    # Violations are taken away: what is left is the state.
    task = dataclasses.replace(LINEAR, violations=[])
    read, key, write, _, _, record_id, args = names(task)
    collection = domains.DOMAINS[task.domain].record.collection
    other = next(i for i in task.state[collection] if i != record_id)
    good = [call((read, {key: record_id})), call((write, args))]
    assert reward(task, [*good, say("Done.")]) == 1.0
    score, _ = play(task, [*good, call((write, {**args, key: other})), say("Done.")])
    assert score.reward == 0.0 and all(score.subgoals.values())
    assert len(score.violations) == 2
    assert all(name.startswith(f"undeclared:{collection}/{other}/") for name in score.violations)


@pytest.mark.parametrize(
    ("task", "messages", "violation", "node"),
    [
        (LINEAR, lambda n: [call((n[2], n[6]))], "write_before_read", 0),
        (LINEAR, lambda n: [call((n[0], {n[1]: n[5]})), call((n[2], {**n[6], n[3]: 1}))], "other_write", -1),
        (LINEAR, lambda n: [call((n[0], {n[1]: n[5]})), call(("decline", {"reason": "status"}))], "wrong_decline", -1),
        (LINEAR, lambda n: [call((n[0], {n[1]: n[5]})), call(("transfer", {"reason": ""}))], "wrong_transfer", -1),
        (DECLINE, lambda n: [call((n[0], {n[1]: n[5]})), call((n[2], n[6]))], "forbidden_write", 1),
        (DECLINE, lambda n: [call((n[0], {n[1]: n[5]})), call(("decline", {"reason": "no"}))], "wrong_decline", -1),
        (DECLINE, lambda n: [call(("transfer", {"reason": "no"}))], "transfer_before_read", 0),
        (CONSENT, lambda n: [call((n[0], {n[1]: n[5]})), call((n[2], n[6]))], "write_without_consent", 1),
        (MISSING, lambda n: [call((n[0], {n[1]: n[5]})), call((n[2], n[6]))], "invented_argument", 1),
        (REFUSED, lambda n: [call((n[0], {n[1]: n[5]})), say(f"Confirm {n[5]}?"), call((n[2], n[6]))],
         "forbidden_write", 1),
    ],
)  # fmt: skip
def test_a_violation_makes_the_reward_zero_and_names_its_node(task, messages, violation, node):
    score, _ = play(task, [*messages(names(task)), say("Done.")])
    assert score.reward == 0.0
    assert violation in score.violations
    assert score.node == task.branch[node]


@pytest.mark.parametrize("after", ["decline", "transfer"])
def test_refusing_after_the_write_is_a_violation(after):
    messages = steps_of(OWNER)[:-1]
    field = next(iter(domains.DOMAINS[OWNER.domain].owner.fields))
    for reason in ("", "policy", field):
        assert reward(OWNER, [*messages, call((after, {"reason": reason})), say("Done.")]) == 0.0


def test_the_other_refusal_of_the_right_reason_is_wrong():
    for task, other in ((DECLINE, "transfer"), (TRANSFER, "decline")):
        reason = next(step["args"]["reason"] for step in task.oracle if step.get("call") in ("decline", "transfer"))
        read = steps_of(task)[0]
        assert reward(task, [read, call((other, {"reason": reason})), say("Sorry.")]) == 0.0
        assert reward(task, steps_of(task)) == 1.0


def test_an_episode_that_has_not_ended_earns_nothing():
    messages = steps_of(LINEAR)
    score, _ = play(LINEAR, messages[:-1])
    assert (score.reward, score.violations) == (0.0, [])
    assert all(score.subgoals.values())
    assert score.node == LINEAR.branch[-1]


def test_stepping_past_the_end_is_an_error_of_the_caller():
    async def run():
        env = world.make(TRANSFER)
        for message in steps_of(TRANSFER):
            step = await env.step(message)
        assert step.done
        await env.step(say("Hello?"))

    with pytest.raises(RuntimeError, match=f"{TRANSFER.id}: step after the episode ended .transfer."):
        asyncio.run(run())


def test_constant_policies_pass_where_they_happen_to_be_right():
    passes = {name: [world.reward(t, script.constant(t, name)) == 1.0 for t in TASKS] for name in script.CONSTANTS}
    for task, passed in zip(TASKS, passes["read_ask_confirm_write"]):
        assert passed == (task.legal or task.oracle[-1].get("say") == dialect.TINY.closings["stop"]), task.id
    for task, passed in zip(TASKS, passes["read_then_write"]):
        assert passed == (task.legal and "confirm" not in kinds(task) and not task.user["withheld"])
    for task, passed in zip(TASKS, passes["read_then_refuse"]):
        # Where the tree has no rule, it asks for consent, takes it as refused, and is right if it was.
        rules = kinds(task).count("guard")
        first_rule_fails = rules == 1 and kinds(task)[-2] == "guard"
        assert passed == (not task.legal and (first_rule_fails or rules == 0))


def test_concurrent_episodes_never_share_state():
    rng = random.Random(1)
    scripts = [(task, scrambled(task, rng) if i % 2 else steps_of(task)) for i, task in enumerate(TASKS[::4] * 3)]
    before = copy.deepcopy([task for task, _ in scripts])

    async def episode(task, messages):
        env, answers = world.make(task), []
        await env.reset()
        for message in messages:
            await asyncio.sleep(0)  # lets every other episode take its step
            step = await env.step(message)
            answers.append(step.messages)
            if step.done:
                break
        return await env.score(), answers

    async def everyone():
        return await asyncio.gather(*(episode(task, messages) for task, messages in scripts))

    together = asyncio.run(everyone())
    assert together == [play(task, messages) for task, messages in scripts]
    assert [task for task, _ in scripts] == before, "playing must not change the task"
    assert {score.reward for score, _ in together} >= {0.0, 1.0}


def test_scripted_actors_play_in_turn_and_then_say_they_are_done():
    actor = actors.scripted([{"say": "one"}, {"call": "get", "args": {"a": 1}, "say": "two"}])
    said = [asyncio.run(actor([])) for _ in range(3)]
    assert said[0] == {"role": "assistant", "content": "one"}
    function = {"name": "get", "arguments": '{"a": 1}'}
    assert said[1]["tool_calls"] == [{"id": "call_1_0", "type": "function", "function": function}]
    assert said[2]["content"] == "Done."


def test_worlds_are_played_from_within_a_running_loop():
    async def cell() -> float:  # of a notebook
        return world.reward(CONSENT, CONSENT.oracle)

    assert asyncio.run(cell()) == 1.0


def test_play_cuts_an_endless_episode_off():
    async def chatter(messages):
        return say(f"confirm {len(messages)}?")  # never the right id: the user keeps answering

    messages, score = asyncio.run(actors.play(world.make(CONSENT), chatter, max_turns=5))
    assert sum(m["role"] == "assistant" for m in messages) == 5
    assert score.reward == 0.0


def test_state_delta_by_hand():
    before = {"orders": {"1": {"a": 1, "b": 2}, "2": {"a": 5}}, "old": {"9": {"x": 1}}}
    after = {"orders": {"1": {"a": 1, "b": 3, "c": 4}, "3": {"a": 0}}, "old": {"9": {"x": 1}}}
    assert world.state_delta(before, after) == {
        "orders/1/b": [2, 3], "orders/1/c": [None, 4], "orders/2/a": [5, None], "orders/3/a": [None, 0],
    }  # fmt: skip
    assert world.state_delta(before, copy.deepcopy(before)) == {}


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"type": "read"}, True),
        ({"type": "read", "id": "1"}, True),
        ({"type": "read", "id": "2"}, False),
        ({"type": "write"}, False),
        ({"reason": "x"}, False),
        ({"id": {"not_in": ["2", "3"]}}, True),
        ({"id": {"not_in": ["1"]}}, False),
        ({"reason": {"not_in": ["x"]}}, False),
        ({"args": {"a": 1}}, True),
        ({"args": {"not_in": [{"a": 1}]}}, False),
    ],
)
def test_matches_by_hand(match, expected):
    assert world.matches({"type": "read", "id": "1", "args": {"a": 1}}, match) is expected
