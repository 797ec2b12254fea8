"""Drills: what they say is true, worded as in the tasks, and the loss is on what has to be found out."""

import functools
import itertools
import json
import re
from pathlib import Path

import pytest

from configs import base
from model.text import tokenizer
from model.text.chat import Chat
from rl.warmstart import drills, sft, tiny
from synth.trees import domains, workflow

TOKENIZER = Path(__file__).parents[3] / "model" / "tiny_qwen3"
LENGTH = 336
CHECK = re.compile(
    r'"(\w+)": ("?\w+"?), rule "\1" (is|at most|at least) ("?\w+"?), else (decline|transfer): (yes|no)\.'
)


@functools.cache
def chat():
    return Chat(tokenizer.load(TOKENIZER))


def decode(tokens):
    return chat().tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def trained(item):
    """The stretches of text under the loss mask, in order."""
    runs = itertools.groupby(zip(item.tokens, item.loss_mask), key=lambda pair: pair[1])
    return [decode([token for token, _ in run]).strip() for mask, run in runs if mask]


def holds(actual, how, limit):
    return actual == limit if how == "is" else actual <= limit if how == "at most" else actual >= limit


def test_exercises_are_worded_and_decided_as_transcripts_are():
    flows = workflow.roots("base", 20, domains.select(tiny.DOMAINS), 0)
    verdicts, decisions = [], []
    for index in range(100):
        item = drills.exercise(flows, chat(), 0, index)
        assert item == drills.exercise(flows, chat(), 0, index)
        record, owner = (json.loads(m["content"]) for m in item.messages if m["role"] == "tool")
        calls = [m["tool_calls"][0]["function"] for m in item.messages if m["role"] == "assistant"]
        arguments = [json.loads(call["arguments"]) for call in calls]
        assert set(arguments[0].items()) <= set(record.items()) and set(arguments[1].items()) <= set(owner.items())
        assert list(arguments[1].values())[0] in record.values(), "the owner's id stands in the record"
        found = CHECK.findall(" ".join(m["content"] for m in item.messages if m["role"] == "assistant"))
        assert len(found) == len(item.messages[0]["content"].splitlines())
        for field, value, how, limit, outcome, verdict in found:
            actual, limit = (record | owner)[field], json.loads(limit)
            assert actual == json.loads(value)
            assert holds(actual, how, limit) == (verdict == "yes")
            rule = next(line for line in item.messages[0]["content"].splitlines() if f'"{field}" {how}' in line)
            assert rule.endswith(f"{json.dumps(limit)}, else {outcome}.")
            verdicts.append(verdict == "yes")
        field, _, _, _, outcome, verdict = found[-1]
        decisions.append(verdict == "yes")
        if verdict == "no":
            assert (calls[2]["name"], arguments[2]) == (outcome, {"reason": field})
        else:
            assert calls[2]["name"] not in ("decline", "transfer")
            copied, choice = list(arguments[2].values())[1:]
            assert copied in record.values() and f'"{choice}"' in item.messages[1]["content"]
        assert decode(item.tokens).startswith("<|im_start|>system\n" + item.messages[0]["content"])
    assert 0.4 < sum(decisions) / len(decisions) < 0.6 and 0.5 < sum(verdicts) / len(verdicts) < 0.65


def made(kind, index):
    bare = domains.select(tiny.DOMAINS), chat(), LENGTH, 0, index
    item = drills.comparisons(*bare, 0.5) if kind == "comparisons" else getattr(drills, kind)(*bare)
    assert LENGTH / 2 < len(item.tokens) <= LENGTH and len(item.loss_mask) == len(item.tokens)
    return item


def test_checks_are_right_and_trained_on_what_is_copied_and_concluded():
    for index in range(20):
        answers, rules = iter(trained(item := made("checks", index))), set()
        lines = iter(decode(item.tokens).strip("\n").split("\n"))
        for line in lines:
            if line.startswith("Only if"):
                rules.add(line)
                continue
            record, said = json.loads(line), next(lines)
            for sentence in re.findall(r'"\w+": [^.]*\.', said):
                if not (found := CHECK.fullmatch(sentence)):
                    key, value = re.fullmatch(r'"(\w+)": "(\w+)"\.', sentence).groups()
                    assert record[key] == value == next(answers)
                    continue
                field, value, how, limit, outcome, verdict = found.groups()
                assert json.dumps(record[field]) == value
                assert holds(record[field], how, json.loads(limit)) == (verdict == "yes")
                for answer in (value, limit, outcome, verdict):
                    assert next(answers) == answer.strip('"')
                rules.remove(f'Only if "{field}" {how} {limit}, else {outcome}.')
            assert not rules
        assert next(answers, None) is None


def test_copies_are_copies():
    for index in range(20):
        text = decode((item := made("copies", index)).tokens)
        lines = text.strip().split("\n")
        answers = iter(trained(item))
        for told, said in zip(lines[::2], lines[1::2]):
            pairs = re.findall(r'"(\w+)": "(\w+)"\.', said)
            assert dict(pairs) == json.loads(told) and len(pairs) == len(set(pairs))
            assert [value for _, value in pairs] == [next(answers) for _ in pairs]
        assert next(answers, None) is None


def test_comparisons_are_right_and_trained_on_the_verdict_alone():
    numbers = verdicts = count = 0
    for index in range(20):
        item = made("comparisons", index)
        found = CHECK.findall(decode(item.tokens))
        for _, value, how, limit, _, verdict in found:
            assert holds(json.loads(value), how, json.loads(limit)) == (verdict == "yes")
            numbers, verdicts, count = numbers + value.isdigit(), verdicts + (verdict == "yes"), count + 1
        assert trained(item) == [verdict for *_, verdict in found]
    assert 0.4 < verdicts / count < 0.6 and 0.45 < numbers / count < 0.7


@pytest.mark.parametrize("kind", ["checks", "copies", "comparisons"])
def test_drills_are_a_function_of_seed_and_index(kind):
    assert made(kind, 3) == made(kind, 3)
    assert made(kind, 3).tokens != made(kind, 4).tokens


def test_the_base_is_taught_in_phases():
    config = base.get_config()
    config.rl.update(
        {"sft_episodes": 8, "sft_drill_steps": 1, "sft_comparison_steps": 1, "sft_clean_steps": 3, "sft_steps": 4}
    )
    data = sft.Demonstrations(config, chat())
    kinds = [[item.task_id.split("/")[0] for item in data.batch(step)] for step in range(4)]
    assert set(kinds[0]) == {"checks", "copies"} and set(kinds[1]) == {"comparisons"}
    drilled = [kind for kind in kinds[2] if not kind.startswith("base-")]
    assert len(drilled) == 4 and {"comparisons", "copies", "exercise"} == set(drilled)
    assert all(item.reward == 1.0 for item in data.batch(2))
    assert all(kind.startswith("base-") for kind in kinds[3]) and min(i.reward for i in data.batch(3)) < 1
