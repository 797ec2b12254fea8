"""Problems: two ways to every answer, text read back as the same graph, operators, charges, gates, the same bytes."""

import dataclasses
import os
import random
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.problems import catalogue, charge, generate, grammar, graph, growth, operators, trades
from synth.problems.catalogue import OPERATIONS
from synth.problems.graph import Problem
from synth.question import Question

REPOSITORY = Path(__file__).parents[3]
ADA = trades.Persona("Ada", "baker", trades.OPENINGS[0], 0)
ALL = list(operators.OPERATORS.values())


def node(op, args, items, want):
    return {"op": op, "args": args, "items": items, "want": want}


def rounds(count, numbers, seed):
    """(questions of every round, the last patterns) as the flywheel makes them for a policy that fails everywhere."""
    patterns, found = growth.roots("train", count, catalogue.select("all"), seed), []
    for number in range(numbers):
        if number:
            patterns = growth.grow(patterns, {}, ALL, 1.0, seed)
        found += generate.questions(patterns, 2, seed)
    return found, patterns


STOCK = node(
    "stock", {"start": 20}, [{"kind": "gain", "n": 4}, {"kind": "share", "n": 3}, {"kind": "times", "n": 5}], "left"
)
WORD = node("word", {"word": "marble", "n": {"ref": 0}}, [{"kind": "reverse"}], "word")
CHAIN = Problem([{**STOCK, "want": "came"}, WORD], [{"kind": "hats", "n": 7, "node": 1}], ADA)


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5))
@settings(max_examples=12)
def test_two_ways_agree_and_text_is_read_back(name, seed, size):
    rng = random.Random(seed)
    made = operators.draw_node(name, rng, size, {})
    operation = OPERATIONS[name]
    values, checked = operation.solve(made["args"], made["items"])[0], operation.check(made["args"], made["items"])
    assert values == checked
    for want in rng.sample(sorted(values), min(3, len(values))):
        problem = Problem([{**made, "want": want}], [], rng.choice(trades.personas("heldout")))
        read = grammar.parse(grammar.render(problem))
        assert read["nodes"] == problem.nodes
        assert (read["name"], read["trade"]) == (problem.persona.name, problem.persona.trade)


@pytest.mark.parametrize(
    ("made", "answer"),  # worked out by hand
    [
        (STOCK, 40),
        (
            node(
                "journey",
                {"done": 4},
                [
                    {"kind": "leg", "t": {"n": 90, "unit": "minutes"}, "v": 60},
                    {"kind": "rest", "t": {"n": 1, "unit": "hours"}},
                ],
                "mean",
            ),
            36,
        ),
        (
            node(
                "work",
                {"jobs": 1},
                [{"kind": "worker", "name": "Ben", "n": 3}, {"kind": "worker", "name": "Uma", "n": 6}],
                "hours",
            ),
            2,
        ),
        (
            node(
                "bills",
                {"fee": 1},
                [
                    {"kind": "bill", "basket": [[1, "fig"], [1, "nut"]], "total": 8},
                    {"kind": "bill", "basket": [[2, "fig"]], "total": 7},
                ],
                "price:nut",
            ),
            4,
        ),
        (
            node(
                "remainders",
                {"low": 10},
                [{"kind": "remainder", "m": 3, "r": 2}, {"kind": "remainder", "m": 5, "r": 3}],
                "least",
            ),
            23,
        ),
        (node("divisors", {"n": 12}, [{"kind": "other", "n": 18}], "count"), 4),
        (node("teams", {"n": 5}, [{"kind": "team", "k": 2}, {"kind": "roles", "k": 2}], "ways"), 60),
        (node("row", {"names": ["Ada", "Ben", "Uma"]}, [{"kind": "apart", "a": "Ada", "b": "Ben"}], "orders"), 2),
        (node("dice", {"dice": 2, "faces": 6}, [{"kind": "at_least", "n": 11}], "chance"), Fraction(1, 12)),
        (
            node(
                "field",
                {"scale": 2},
                [
                    {"kind": "corner", "x": 0, "y": 0},
                    {"kind": "corner", "x": 4, "y": 0},
                    {"kind": "corner", "x": 0, "y": 3},
                ],
                "area",
            ),
            24,
        ),
        (node("recurrence", {"last": 5, "first": 1, "second": 1, "p": 1, "q": 1}, [], "last"), 5),
        (node("account", {"start": 100}, [{"kind": "interest", "n": 10}, {"kind": "fee", "n": 10}], "balance"), 100),
        (
            node("load", {"empty": 1}, [{"kind": "part", "n": 3, "each": {"n": 500, "unit": "grams"}}], "mass"),
            Fraction(5, 2),
        ),
        (
            node(
                "tasks",
                {"delay": 1},
                [{"kind": "free", "task": "dry", "t": 2}, {"kind": "waits", "task": "pack", "t": 3, "after": ["dry"]}],
                "end",
            ),
            6,
        ),
        (
            node(
                "houses",
                {"first": 5, "names": ["Ada", "Ben"], "animals": ["owl", "cat"]},
                [{"kind": "left", "a": "Ben", "b": "Ada"}, {"kind": "keeps", "a": "Ada", "x": "cat"}],
                "keeper:owl",
            ),
            "Ben",
        ),
        (
            node(
                "roads",
                {"toll": 1},
                [{"kind": "road", "a": "Ash", "b": "Elm", "d": 3}, {"kind": "road", "a": "Elm", "b": "Oak", "d": 4}],
                "shortest:Ash-Oak",
            ),
            9,
        ),
        (
            node("word", {"word": "marble", "n": 1}, [{"kind": "reverse"}, {"kind": "append", "w": "ed"}], "word"),
            "melbraed",
        ),
    ],
)
def test_values_worked_out_by_hand(made, answer):
    problem = Problem([made], [], ADA)
    assert graph.solve(problem).values == [answer] and graph.check(problem) == answer


def test_a_chain_of_nodes_is_told_and_read():
    text = grammar.render(CHAIN)
    assert "Let A be the total number of loaves that arrived after the start." in text
    assert "move its first letter to the end, A times over." in text and "worn out 7 hats" in text
    assert grammar.parse(text)["nodes"] == CHAIN.nodes and grammar.parse(text)["distractors"] == CHAIN.distractors
    assert graph.solve(CHAIN).values == [4, "bramel"]  # 4 letters of "marble" go to the end: "lemarb", backwards


def test_text_that_says_something_else_or_two_things_is_refused(monkeypatch):
    text = grammar.render(CHAIN)
    assert grammar.parse(text.replace("4 more", "5 more"))["nodes"] != CHAIN.nodes
    for wrong in (
        text.replace("Then 4 more", "Then some more"),
        text[:-1],
        text + " Then 4 more loaves arrive.",
        "Hi.",
    ):
        with pytest.raises(ValueError):
            grammar.parse(wrong)
    gain = OPERATIONS["stock"].items["gain"]
    twice = dataclasses.replace(OPERATIONS["stock"], items={**OPERATIONS["stock"].items, "again": gain})
    monkeypatch.setitem(OPERATIONS, "stock", twice)
    with pytest.raises(ValueError, match="has 2 readings"):
        grammar.parse(text)


def test_problems_without_one_answer_are_refused():
    bill = {"kind": "bill", "basket": [[1, "fig"], [1, "nut"]], "total": 8}
    clue = {"kind": "left", "a": "Ben", "b": "Ada"}
    for made in (
        node("bills", {"fee": 1}, [bill, {**bill, "basket": [[2, "fig"], [2, "nut"]], "total": 15}], "all"),
        node("houses", {"first": 5, "names": ["Ada", "Ben"], "animals": ["owl", "cat"]}, [clue], "keeper:owl"),
        node("remainders", {"low": 1}, [{"kind": "remainder", "m": 4, "r": r} for r in (1, 2)], "least"),
        node("word", {"word": "marble", "n": 9}, [{"kind": "drop", "n": 2}, {"kind": "rotate", "n": 4}], "word"),
        node("roads", {"toll": 1}, [{"kind": "road", "a": "Ash", "b": "Elm", "d": d} for d in (3, 4)], "walks:Ash-Elm"),
    ):
        with pytest.raises(ValueError):
            graph.solve(Problem([made], [], ADA))
        with pytest.raises(ValueError):
            graph.check(Problem([made], [], ADA))
    for made in (node("stock", {"start": 20}, [{"kind": "share", "n": 3}], "left"), {**STOCK, "want": "colour"}):
        with pytest.raises(ValueError):
            graph.solve(Problem([made], [], ADA))
    with pytest.raises(ValueError, match="word.n: 'bramel' is no whole number"):
        graph.solve(Problem([*CHAIN.nodes, {**WORD, "args": {"word": "copper", "n": {"ref": 1}}}], [], ADA))


@pytest.mark.parametrize("name", operators.OPERATORS)
def test_operators_do_what_they_are_called(name):
    changed = 0
    for pattern in growth.roots("train", 28, catalogue.select("all"), 3):
        before, rng = pattern.problem, random.Random(pattern.id)
        try:
            after = operators.OPERATORS[name].apply(before, rng, "train", "")
        except ValueError:
            continue
        changed += 1
        assert grammar.parse(grammar.render(after))["nodes"] == after.nodes
        assert graph.check(after) == graph.solve(after).values[-1]
        items = [len(p.nodes[0]["items"]) for p in (before, after)]
        if name == "constrain":
            assert items[1] > items[0] or before.nodes[0]["op"] == "houses"
        elif name == "compose":
            assert len(after.nodes) == 2 and {"ref": 0} in after.nodes[1]["args"].values()
            assert after.families[0] != after.families[1]
        elif name == "unknown":
            assert (
                after.nodes[0]["want"] != before.nodes[0]["want"] and after.nodes[0]["args"] == before.nodes[0]["args"]
            )
        elif name == "distract":
            assert len(after.distractors) == 1
        elif name == "move":
            assert after.persona.trade != before.persona.trade and after.persona in trades.personas("train")
        assert after.nodes != before.nodes
    assert changed >= 20


def test_moving_changes_units():
    made = node("load", {"empty": 1}, [{"kind": "part", "n": 3, "each": {"n": 2, "unit": "kilograms"}}], "mass")
    moved = [
        operators.OPERATORS["move"].apply(Problem([made], [], ADA), random.Random(seed), "train", "")
        for seed in range(20)
    ]
    quantities = [problem.nodes[0]["items"][0]["each"] for problem in moved]
    assert any(q["unit"] == "grams" and q["n"] % 1000 == 0 and q["n"] <= 20_000 for q in quantities)
    assert any(q["unit"] == "kilograms" for q in quantities)


def test_constrain_aims_at_the_operation_that_failed():
    for seed in range(8):
        grown = operators.OPERATORS["constrain"].apply(CHAIN, random.Random(seed), "train", "word")
        assert len(grown.nodes[1]["items"]) == 2 and len(grown.nodes[0]["items"]) == 3


@pytest.mark.parametrize(
    ("said", "answer", "expected"),
    [
        (["20 + 4 = 24"], None, ("stock", "step")),  # came as far as the first item
        (["24, then 8, then 40, so A is 4"], "marble", ("word", "link")),  # never got into the second problem
        (["24 8 40 4 lemarb bramel"], "x", ("word", "answer")),
        (["no idea"], None, None),
        ([], Fraction(6), ("word", "unknown")),  # the length of the word
    ],
)
def test_failures_are_charged_to_the_operation(said, answer, expected):
    problem = CHAIN
    assert charge.charge(problem, said, answer) == expected


def test_an_answer_in_the_wrong_unit_is_charged_to_units():
    made = node("load", {"empty": 1}, [{"kind": "part", "n": 3, "each": {"n": 500, "unit": "grams"}}], "mass")
    assert charge.charge(Problem([made], [], ADA), [], Fraction(2500)) == ("load", "unit")


def test_failures_choose_the_operator():
    (pattern,) = growth.roots("train", 1, ["arithmetic"], 0)
    for kind, fitting in (("link", {"compose"}), ("unit", {"move"}), ("unknown", {"unknown"})):
        failed = {pattern.id: growth.Outcome(8, 2, (f"stock/{kind}",) * 5)}
        grown = {growth.grow([pattern], failed, ALL, 1.0, seed)[0].operator for seed in range(10)}
        assert grown == fitting


def test_a_share_of_the_twenty_thousand():
    """Every answer verified, every rendering read back, nothing twice, over all families and four rounds."""
    questions, patterns = rounds(56, 4, 5)
    marks = Counter(generate.fingerprint(question) for question in questions)
    problems = [generate.check(question, set()) for question in questions]
    assert problems == [None] * len(questions) and len(questions) > 400
    assert sum(count - 1 for count in marks.values()) <= 2  # which the gate removes
    assert {family for p in patterns for family in p.problem.families} == set(catalogue.FAMILIES)
    assert max(len(p.problem.nodes) for p in patterns) >= 2 and len(catalogue.FAMILIES) >= 12
    assert Counter(p.round for p in patterns) == {3: 56}


def test_gates_name_what_is_wrong():
    question = rounds(1, 1, 0)[0][0]
    assert generate.check(question, set()) is None
    assert generate.check(dataclasses.replace(question, answer="17.5"), set()).startswith(
        "answer: 17.5, but recomputed"
    )
    swapped = dataclasses.replace(question, prompt=question.prompt.replace("loaves", "hats").replace("a", "A", 1))
    assert generate.check(swapped, set()).startswith("rendering: ")
    leaked = generate.evaluation_ngrams([f"Before. {question.prompt.upper()} After."])
    assert generate.check(question, leaked).startswith("overlap: '")
    short = " ".join(question.prompt.split()[: generate.NGRAM - 1])
    assert generate.check(question, generate.evaluation_ngrams([short])) is None


def test_patterns_and_questions_survive_json():
    questions, patterns = rounds(6, 2, 1)
    assert [growth.Pattern.from_dict(p.to_dict()) for p in patterns] == patterns
    assert [Question.from_json(q.to_json()) for q in questions] == questions
    with pytest.raises(ValueError, match=r"missing fields \['answer'\], unknown \['reply'\]"):
        Question.from_json(questions[0].to_json().replace('"answer"', '"reply"'))


def test_splits_share_no_persona_and_no_root():
    found = {split: set(trades.personas(split)) for split in ("base", "train", "heldout")}
    assert sum(map(len, found.values())) == len(set().union(*found.values()))
    train, heldout = (growth.roots(split, 30, catalogue.select("all"), 0) for split in ("train", "heldout"))
    grown = growth.grow(train, {}, ALL, 1.0, 0)
    for split, patterns in (("train", grown), ("heldout", growth.grow_like(heldout, grown, 0))):
        for question in generate.questions(patterns, 2, 0):
            assert question.root.startswith(split)
            assert Problem.from_dict(question.source["problem"]).persona in found[split]


PROGRAM = """
import hashlib
from tests.synth.problems import problems_test
questions, _ = problems_test.rounds(20, 3, 9)
print(hashlib.sha256("".join(q.to_json() for q in questions).encode()).hexdigest())
"""


def test_two_processes_write_the_same_bytes():
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", PROGRAM]
        digests.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="reasoning.families: unknown .*'maths'"):
        catalogue.select("maths")
    with pytest.raises(ValueError, match="reasoning.operators: unknown .*'harder'"):
        operators.select("harder,move")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        trades.personas("test")
