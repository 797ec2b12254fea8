"""The paper's own mode: a model plays tools and user and judges; what it cannot say is no reward, and never 0."""

import dataclasses
import functools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import default
from envs import actors, base, registry, world
from envs.simulation import judge, simulated
from rl import setup
from rl.reports import agreement
from rl.rollouts import episode
from synth.teachers import llm
from tests.support import scripted_endpoint
from tests.support.worlds import CONSENT, DECLINE, LINEAR, TASKS, TRANSFER

server = scripted_endpoint.server
FAULTS = {
    "malformed": ["{not json", json.dumps({"reached": "all"}), ""],
    "a point that is not in the rubric": [json.dumps({"reached": ["nonsense"], "broken": []})] * 3,
    "status": [500] * 5,
    "cut off": [b'{"id": "x", "cho', b"<html>", b"[1]", b"", b'{"error": {}}'],
    "refused": [401],
    "drop": ["drop"] * 5,
}


@pytest.fixture
def client(server, tmp_path):
    return llm.Client("scripted", tmp_path, backoff=0.001)


def verdict(task, missing=(), broken=()):
    reached = [goal["name"] for goal in task.subgoals if goal["name"] not in missing]
    return {"reached": reached, "broken": list(broken), "reason": "as the rubric says"}


def play(task, client, steps, simulated=False):
    made = functools.partial(judge.make, client=client, simulated=simulated)
    env = registry.make(dataclasses.replace(task, reward_source="llm"), by_model=made)
    return base.run(actors.play(env, actors.scripted(steps)))


def test_a_verdict_becomes_a_reward_as_in_the_executable_world(server, client):
    server.answer = lambda question: verdict(LINEAR)
    _, score = play(LINEAR, client, LINEAR.oracle)
    assert (score.reward, score.code_reward, score.reward_source, score.error) == (1.0, 1.0, "llm", None)
    assert score.subgoals == {goal["name"]: True for goal in LINEAR.subgoals}
    text = server.requests[0][2]["messages"][-1]["content"]
    assert LINEAR.policy in text and all(goal["name"] in text for goal in LINEAR.subgoals)
    assert json.dumps(LINEAR.user["request"]) in text


def test_missing_points_are_weighted_and_a_broken_rule_is_worth_nothing(server, client):
    total = sum(goal["weight"] for goal in CONSENT.subgoals)
    for goal in CONSENT.subgoals:
        found = verdict(CONSENT, missing=[goal["name"]])
        server.answer = lambda question, found=found, goal=goal: {**found, "reason": goal["name"]}
        score = base.run(judge.judge(CONSENT, [{"role": "user", "content": goal["name"]}], True, client))
        assert score.reward == pytest.approx((total - goal["weight"]) / total) and score.node == goal["node"]
    rule = CONSENT.violations[0]
    server.answer = lambda question: verdict(CONSENT, broken=[rule["name"]])
    score = base.run(judge.judge(CONSENT, [], True, client))
    assert (score.reward, score.violations) == (0.0, [rule["name"]])


def test_a_conversation_that_nobody_ended_is_worth_nothing(server, client):
    server.answer = lambda question: verdict(LINEAR)
    assert base.run(judge.judge(LINEAR, [], False, client)).reward == 0.0


@pytest.mark.parametrize("kind", FAULTS)
def test_a_judge_that_fails_gives_no_reward(server, client, kind):
    faults = iter(FAULTS[kind])
    server.fault = lambda question, turns: next(faults)
    _, score = play(LINEAR, client, LINEAR.oracle)
    assert score.reward is None and score.error.startswith("judge: ") and score.code_reward == 1.0
    assert next(faults, None) is None, "everything was tried"


def test_a_malformed_verdict_is_sent_back_once_and_then_taken(server, client):
    server.answer = lambda question: verdict(LINEAR)
    server.fault = lambda question, turns: json.dumps({"reached": ["nonsense"], "broken": []}) if turns < 3 else None
    assert play(LINEAR, client, LINEAR.oracle)[1].reward == 1.0
    assert "'nonsense' is not one of" in server.requests[-1][2]["messages"][-1]["content"]


def simulate(question):
    """What a good model answers that plays tools and user, and then judges."""
    if "You play the tools" in question:
        found = re.findall(r"^(State|What|Calls|The call)[^:]*: (.*)$", question, re.M)
        parts = {name: json.loads(line) for name, line in found}
        effect, arguments = parts["What"][parts["The call"]["tool"]], parts["The call"]["arguments"]
        if effect["kind"] == "read":
            return {"result": parts["State"][effect["collection"]][arguments[effect["key"]]]}
        return {"result": {"ok": True}}
    if "You play the user" in question:
        last = json.loads(re.findall(r"^\{.*\}$", question, re.M)[-1])
        return {"message": "Yes.", "ends": False} if "?" in last["content"] else {"message": "", "ends": True}
    return {"reached": [], "broken": []}


def test_tools_and_user_are_played_from_the_state(server, client):
    server.answer = simulate
    for task in (LINEAR, DECLINE, TRANSFER, CONSENT):
        messages, score = play(task, client, task.oracle, simulated=True)
        assert (score.reward, score.code_reward, score.reward_source) == (0.0, None, "llm")
        real = [m for m in world.play_steps(task, task.oracle)[0] if m["role"] == "tool"]
        assert [m for m in messages if m["role"] == "tool"] == real
        # Of a task that hides everything but state, tools and user nothing else is asked: all answers are there.
        count = len(server.requests)
        blind = dataclasses.replace(task, branch=[], subgoals=[], violations=[], oracle=[], tree={}, policy="")
        base.run(actors.play(simulated.Simulated(blind, client), actors.scripted(task.oracle)))
        assert len(server.requests) == count > 2


def test_equal_conversations_get_equal_answers_and_are_paid_for_once(server, client):
    server.answer = simulate
    first = play(LINEAR, client, LINEAR.oracle, simulated=True)
    count = len(server.requests)
    assert play(LINEAR, client, LINEAR.oracle, simulated=True) == first and len(server.requests) == count


@pytest.mark.parametrize("kind", ["malformed", "status", "drop"])
def test_a_simulator_that_fails_ends_the_episode_without_a_reward(server, client, kind):
    """In an episode of a rollout, whose guard every environment stands behind."""
    faults = iter(FAULTS[kind])
    server.fault = lambda question, turns: next(faults)
    one = episode.Episode(dataclasses.replace(LINEAR, reward_source="llm"), 0)
    one.env = simulated.Simulated(LINEAR, client)

    async def go():
        await one.env.reset()
        await one.step(actors.to_message(LINEAR.oracle[0], 0), None, 9, 9)

    base.run(go())
    assert one.reason == "error" and one.score.reward is None
    assert "stayed malformed" in one.score.error if kind == "malformed" else "5 attempts" in one.score.error


def test_a_call_that_breaks_its_schema_needs_no_model(server, client):
    env = simulated.Simulated(LINEAR, client)

    async def go():
        await env.reset()
        return await env.step(actors.to_message({"call": "fly", "args": {}, "say": ""}, 0))

    (message,) = base.run(go()).messages
    assert "no tool 'fly'" in message["content"] and not server.requests


def test_marked_tasks_need_a_model_and_say_so_in_their_record():
    task = dataclasses.replace(LINEAR, reward_source="llm")
    assert json.loads(task.to_json())["reward_source"] == "llm" and type(task).from_json(task.to_json()) == task
    assert "reward_source" not in LINEAR.to_json() and type(task).from_json(LINEAR.to_json()) == LINEAR
    with pytest.raises(ValueError, match=f"{re.escape(task.id)}: needs a language model as judge, .*rl.reward"):
        registry.make(task)


def test_a_config_makes_the_mode(server, tmp_path):
    config = default.get_config()
    assert setup.Parts(config, None, None, None, None).by_model is None
    config.rl.reward, config.env.model = "llm", "scripted"
    for kind, inner in (("code", world.World), ("llm", simulated.Simulated)):
        config.env.simulator = kind
        parts = setup.Parts(config, None, None, None, None, answers=tmp_path)
        assert isinstance(parts.by_model(LINEAR)._env, inner)


def test_kappa_by_hand():
    # 35 of 50 agree; chance: 0.5 * 0.6 + 0.5 * 0.4 = 0.5, so (0.7 - 0.5) / (1 - 0.5).
    table = {(True, True): 20, (True, False): 5, (False, True): 10, (False, False): 15}
    assert agreement.kappa(table) == pytest.approx(0.4)
    # 60 of 100 agree; chance: 0.6 * 0.7 + 0.4 * 0.3 = 0.54, so 0.06 / 0.46.
    table = {(True, True): 45, (True, False): 15, (False, True): 25, (False, False): 15}
    assert agreement.kappa(table) == pytest.approx(0.06 / 0.46)
    assert agreement.kappa({(True, True): 4}) is None and agreement.kappa({}) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_kappa_is_one_for_equal_verdicts_and_symmetric(pairs):
    def table(pairs):
        return {pair: pairs.count(pair) for pair in pairs}

    same = agreement.kappa(table([(one, one) for one, _ in pairs]))
    assert same in (None, pytest.approx(1.0))
    swapped, found = agreement.kappa(table([pair[::-1] for pair in pairs])), agreement.kappa(table(pairs))
    assert found is None and swapped is None or found == pytest.approx(swapped)


def test_agreement_of_recorded_episodes(tmp_path, capsys):
    def record(source, reward, code):
        score = {"reward": reward, "reward_source": source, "code_reward": code}
        return {"score": score, "round": 0, "phase": "train"}

    rewards = [("llm", 1.0, 1.0), ("llm", 1.0, 0.5), ("llm", 0.25, 1.0), ("llm", 0.0, 0.0), ("llm", 0.5, 0.5),
               ("llm", None, 1.0), ("llm", 1.0, None), ("code", 1.0, None)]  # fmt: skip
    (tmp_path / "rollouts").mkdir()
    lines = [json.dumps(record(*found)) + "\n" for found in rewards]
    (tmp_path / "rollouts" / "round_0.jsonl").write_text("".join(lines))
    agreement.main([f"--workdir={tmp_path}"])
    # Three of five agree; chance: 0.4 * 0.4 + 0.6 * 0.6 = 0.52, so (0.6 - 0.52) / 0.48.
    assert json.loads(capsys.readouterr().out) == {
        "judged": 7, "without_verdict": 1, "without_code": 1, "both": 5, "passed_by_both": 1, "passed_by_judge_only": 1,
        "passed_by_code_only": 1, "passed_by_none": 2, "agreement": 0.6, "kappa": pytest.approx(0.08 / 0.48),
        "reward_difference": pytest.approx((0.5 + 0.75) / 5),
    }  # fmt: skip
    with pytest.raises(SystemExit, match="rl.reports.agreement: no rollout files"):
        agreement.main([f"--workdir={tmp_path / 'nowhere'}"])


def test_a_judge_that_reads_like_code_agrees_with_it(server, client):
    """Oracles and idle agents of many tasks, judged by one who is right about them: what the report is for."""
    records = []
    for task in TASKS[::20]:
        for steps, found in ((task.oracle, verdict(task)), ([], {"reached": [], "broken": []})):
            server.answer = lambda question, found=found: found
            records.append({"score": vars(play(task, client, steps)[1])})
    found = agreement.measure(records)
    assert (found["both"], found["agreement"], found["kappa"]) == (20, 1.0, 1.0)
