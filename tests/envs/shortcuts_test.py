"""No short cuts: several calls in one message, doing things too late, scrambled oracles."""

import json
import random

import pytest

from synth.trees import domains
from tests.support.worlds import (
    DECLINE,
    LINEAR,
    MISSING,
    TASKS,
    TRANSFER,
    call,
    names,
    pick,
    play,
    reward,
    say,
    scrambled,
    steps_of,
)


def test_calls_of_one_message_are_carried_out_in_order():
    read, key, write, _, _, record_id, args = names(LINEAR)
    domain = domains.DOMAINS[LINEAR.domain].record
    others = sorted(LINEAR.state[domain.collection])
    message = call(*((read, {key: i}) for i in others), (write, {**args, key: others[0]}), (read, {key: others[0]}))
    _, answers = play(LINEAR, [message])
    assert [m["tool_call_id"] for m in answers[0]] == [f"call_9_{i}" for i in range(5)]
    contents = [json.loads(m["content"]) for m in answers[0]]
    assert contents[:3] == [LINEAR.state[domain.collection][i] for i in others]
    assert contents[3] == {"ok": True}
    assert contents[4] != contents[0] and contents[4].items() >= contents[0].items()


def test_nothing_is_carried_out_after_a_transfer():
    read, key, write, _, _, record_id, args = names(TRANSFER)
    handover = steps_of(TRANSFER)[-1]
    message = {**handover, "tool_calls": [*handover["tool_calls"], *call((write, args))["tool_calls"]]}
    score, answers = play(TRANSFER, [steps_of(TRANSFER)[0], message, say("More?")])
    assert (score.reward, score.delta) == (1.0, {})
    assert len(answers) == 2 and len(answers[1]) == 1


def test_text_beside_calls_does_not_reach_the_user():
    read, key, write, _, slot, record_id, args = names(MISSING)
    score, answers = play(MISSING, [call((read, {key: record_id}), say=f'Which "{slot}"?')])
    assert [m["role"] for m in answers[0]] == ["tool"]
    assert not score.subgoals[f"asked_{slot}"]


@pytest.mark.parametrize("task", [LINEAR, DECLINE, TRANSFER], ids=["write", "decline", "transfer"])
def test_a_decision_in_the_message_that_reads_does_not_rest_on_the_record(task):
    read, decide, *closing = steps_of(task)
    together = {**read, "tool_calls": [*read["tool_calls"], *decide["tool_calls"]]}
    score, _ = play(task, [together, *closing])
    assert score.reward == 0.0
    assert [v.split("_", 1)[1] for v in score.violations] == ["before_read"]
    assert reward(task, [read, decide, *closing]) == 1.0


@pytest.mark.parametrize("legal", [True, False])
def test_reading_the_owner_after_deciding_meets_no_subgoal(legal):
    task = pick("action", "action", "guard", legal=legal)
    record_read, owner_read, decide, *closing = steps_of(task)
    if decide["tool_calls"][0]["function"]["name"] == "transfer":  # which ends the episode: nothing can come later
        late = [record_read, decide]
    else:
        late = [record_read, decide, owner_read, *closing]
    together = {**owner_read, "tool_calls": [*owner_read["tool_calls"], *decide["tool_calls"]]}
    for messages in (late, [record_read, together, *closing]):
        assert reward(task, messages) == 3 / 4
    assert reward(task, steps_of(task)) == 1.0


def referee(task, messages):
    """Whether messages that were paid in full did the job, judged from them (all calls valid) and the oracle alone."""
    made = [(turn, c["function"]["name"], json.loads(c["function"]["arguments"]))
            for turn, m in enumerate(messages) for c in m.get("tool_calls", ())]  # fmt: skip
    wanted = [(step["call"], step["args"]) for step in task.oracle if "call" in step]
    reads = [pair for pair in wanted if pair[0].startswith("get_")]
    decisions = [(turn, name, args) for turn, name, args in made if not name.startswith("get_")]
    first = min((turn for turn, _, _ in decisions), default=len(messages))
    spoken = {turn: m["content"] for turn, m in enumerate(messages) if not m.get("tool_calls")}
    asked = [step["say"].split()[-1] for step in task.oracle if "call" not in step and "?" in step["say"]]
    return (
        all((name, args) in [pair for pair in wanted if pair not in reads] for _, name, args in decisions)
        and bool(decisions) == any(pair not in reads for pair in wanted)
        and all(any((name, args) == pair and turn < first for turn, name, args in made) for pair in reads)
        and all(any(words in text and turn < first for turn, text in spoken.items()) for words in asked)
    )


def test_no_scrambled_oracle_is_paid_in_full_without_doing_the_job():
    rng, paid, unpaid = random.Random(0), 0, 0
    for task in TASKS[::2]:
        for _ in range(25):
            messages = scrambled(task, rng)
            score, answers = play(task, messages)
            if score.reward == 1.0:
                assert referee(task, messages[: len(answers)]), (task.id, messages)
                paid += 1
            else:
                unpaid += 1
    assert paid > 100 and unpaid > 1000
