"""Worked questions: careful agents earn everything with what they see, slips cost it, drills are copies."""

import functools
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from configs import reasoning_base, reasoning_tiny
from envs import search
from envs.sandbox import python_tool
from model.text import tokenizer
from model.text.chat import Chat
from rl.warmstart import tiny, worked
from synth import personas, question
from synth.corpora import facts
from synth.problems import generate, graph, growth, operators, programs
from synth.problems.graph import Problem

TOKENIZER = Path(__file__).parents[3] / "model" / "tiny_reasoner"


@functools.cache
def chat():
    return Chat(tokenizer.load(TOKENIZER))


@functools.cache
def questions():
    drawn = worked.Questions("base", tiny.WEIGHTS, tiny.FAMILIES, tiny.PROBLEM_OPERATORS, 30, 0)
    return [drawn.draw(index) for index in range(24)]


def decode(tokens):
    return chat().tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def passed(rates):
    """World -> share of the questions that agents with these slips pass."""
    found = defaultdict(list)
    for q in questions():
        found[q.env].append(worked.demonstrate(q, rates, chat(), 0).passed)
    return {env: np.mean(values) for env, values in found.items()}


def test_careful_agents_earn_everything_and_slips_cost_it():
    assert {q.env for q in questions()} == set(question.ENVS) and {q.round for q in questions()} == {0, 1}
    assert passed({}) == dict.fromkeys(question.ENVS, 1.0)
    for slip in question.SLIPS:
        assert max(passed({slip: 1.0}).values()) < 0.7, slip
    assert max(passed({"guess": 1.0}).values()) == 0.0


def test_demonstrated_questions_come_from_neither_side_of_the_split():
    for q in questions():
        assert q.root.startswith("base-")
        if q.env == "search":
            names = set(facts.names("base"))
            assert set(facts.corpus(**q.source["corpus"]).kinds) <= names
    split = [set(facts.names(name)) for name in personas.SPLITS]
    assert not split[0] & split[1] and not split[1] & split[2] and not split[0] & split[2]


def test_a_transcript_is_what_the_policy_would_see_and_say():
    for q in questions()[:12]:
        item = worked.demonstrate(q, {}, chat(), 0)
        said = chat().tokenizer.apply_chat_template(item.messages, tools=item.tools, tokenize=False)
        assert decode(item.tokens) + "\n" == said and len(item.tokens) == len(item.loss_mask)
        bare = worked.demonstrate(q, {}, chat(), 0, bare=True)
        trained = [[t for t, m in zip(i.tokens, i.loss_mask) if m] for i in (item, bare)]
        assert trained[0] == trained[1] and len(bare.tokens) < len(item.tokens) - 60
        assert decode(bare.tokens).startswith(f"<|im_start|>user\n{q.prompt}")


def test_names_and_numbers_have_the_same_tokens_wherever_they_stand():
    encode = chat().tokenizer.encode
    for name in facts.names("heldout")[:50]:
        tokens = encode(name)
        for text in (f"of {name}?", f"by {name}.", f'"title": "{name} (person', f'"query": "{name} register"'):
            found = encode(text)
            assert any(found[i : i + len(tokens)] == tokens for i in range(len(found))), (name, text)
    assert len(encode("10")) == 1, "two digits are one token, where there were enough of them to learn that"
    for number in ("4711", "380", "7", "1905"):
        assert encode(f"; s += {number};")[1:-1] == encode(number), number


def test_programs_end_in_the_answer():
    """Every operation and want that there is a program for, grown as the flywheel grows them."""
    tool, seen = python_tool.shared(), set()
    for index, pattern in enumerate(growth.roots("train", 36, tiny.FAMILIES.split(","), 3)):
        if index % 2:
            (pattern,) = growth.grow([pattern], {}, operators.select(tiny.PROBLEM_OPERATORS), 1.0, index)
        for q in generate.questions([pattern], 2, 0):
            problem = Problem.from_dict(q.source["problem"])
            result = tool.run(programs.program(problem))
            assert result.ok and result.text == q.answer == graph.answer_text(graph.check(problem)), q.prompt
            seen.add((problem.nodes[0]["op"], problem.nodes[0]["want"]))
    assert len(seen) == 8
    other = growth.roots("train", 1, ["geometry"], 0)[0].problem
    with pytest.raises(ValueError, match="no program for .*, expected one of stock, account, load"):
        programs.program(other)


def test_questions_about_pages_are_read_back():
    for q in facts.questions("train", 20, 1, 2, 0):
        start, relations = facts.read(q.prompt)
        found = facts.corpus(**q.source["corpus"])
        pages = [start]
        for relation in relations:
            pages.append(found.facts[pages[-1], relation.name])
        assert pages[-1] == q.answer and [found.page[name] for name in pages[:-1]] == q.source["evidence"]
        (hit,) = search._index(json.dumps(q.source["corpus"], sort_keys=True)).search(f"{start} register", 1)
        assert hit["id"] == q.source["evidence"][0]
    with pytest.raises(ValueError, match="asks for no relation"):
        facts.read("What is the name of Kalor?")


def test_copies_are_copies():
    for index in range(10):
        item = worked.copies(facts.names("base"), chat(), 220, 0, index)
        assert item == worked.copies(facts.names("base"), chat(), 220, 0, index) and 120 < len(item.tokens) <= 220
        told, *again = decode(item.tokens).splitlines()
        pairs = re.findall(r"\w+ is p?\d+\.", told)
        assert len(pairs) == 5 and len(again) == 3
        assert all(sorted(re.findall(r"\w+ is p?\d+\.", line)) == sorted(pairs) for line in again)
        assert not any(item.loss_mask[: len(chat().tokenizer.encode(told))])
        # In a repeated line only the first tokens of the pairs cannot be known.
        rest = len(item.tokens) - len(chat().tokenizer.encode(told + "\n"))
        assert sum(item.loss_mask) == rest - 5 * 3


def test_the_base_is_taught_in_phases():
    config = reasoning_base.get_config()
    config.rl.update({"sft_episodes": 8, "sft_drill_steps": 1, "sft_clean_steps": 2})
    data = worked.Worked(config, chat())
    batches = [data.batch(step) for step in range(3)]
    assert [len(batch) for batch in batches] == [8] * 3
    assert [item.task_id.startswith("copies/") for item in batches[0]] == [True] * 6 + [False] * 2
    begun = [[decode(item.tokens[:2]).endswith("user") for item in batch] for batch in batches]
    assert begun[0][6:] == [True] * 2 and begun[1] == [True] * 4 + [False] * 4 and not any(begun[2])
    assert {item.reward for item in batches[1]} == {1.0} and min(item.reward for item in batches[2]) < 1
    assert data.batch(2) == batches[2]


def test_configs_agree_on_what_the_base_knows():
    for config in (reasoning_base.get_config(), reasoning_tiny.get_config()):
        c = config.reasoning
        assert (c.weights, c.families, c.operators) == (tiny.WEIGHTS, tiny.FAMILIES, tiny.PROBLEM_OPERATORS)
    for module in (reasoning_base, reasoning_tiny):
        with pytest.raises(ValueError, match="unknown argument 'x'"):
            module.get_config("x")
