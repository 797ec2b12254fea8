"""Operators on every domain and action: what each adds, where it stands on the spine, when there is no more to add."""

import random
import re
from collections import Counter

import pytest

from rl.warmstart import tiny
from synth import operators
from synth.trees import domains, expr, tree, workflow
from synth.trees.workflow import Workflow

OPERATORS = operators.select(tiny.OPERATORS)  # the others: tests/synth/growth_test.py
ACTIONS = [(d, a) for d in domains.DOMAINS.values() for a in d.actions]
each_action = pytest.mark.parametrize(
    ("domain", "action"), ACTIONS, ids=lambda part: part.name if isinstance(part, domains.Domain) else part.verb
)


def linear(domain, action):
    """A round-0 workflow of this action."""
    root = f"train-0000-{domain.name}-{action.verb}"
    return Workflow(f"{root}@r0", root, "", "", 0, "train", domain.name, action.verb, workflow.linear(domain))


def growth(start, seed):
    """[(operator name, workflow before, workflow after)]: operators in random order until none applies."""
    rng, found = random.Random(seed), []
    while options := [o for o in OPERATORS if o.applies(start)]:
        operator = rng.choice(options)
        grown = operators.expand(start, operator, seed)
        found.append((operator.name, start, grown))
        start = grown
    return found


def spine(branch, domain):
    """A branch as letters: R and O read record and owner, g and h rules on them, a asks, c confirms, capital end."""
    letters = {"action": lambda n: "R" if n.spec["entity"] == domain.record.kind else "O", "ask": lambda n: "a",
               "guard": lambda n: "h" if n.spec["hidden"] else "g", "confirm": lambda n: "c",
               "terminal": lambda n: {"write": "W", "stop": "S"}.get(n.spec["outcome"], "X")}  # fmt: skip
    return "".join(letters[node.kind](node) for node, _ in branch)


def rule_paths(root):
    """For every path to a write or a stop: its rules in order."""
    ends = [b for b in tree.branches(root) if b[-1][0].spec["outcome"] in ("write", "stop")]
    return [[node.spec for node, _ in branch if node.kind == "guard"] for branch in ends]


@each_action
def test_every_step_of_a_growth_keeps_the_tree_right(domain, action):
    names = Counter()
    for seed in range(3):
        for name, before, after in growth(linear(domain, action), seed):
            names[name] += 1
            kinds = Counter(node.kind for node, _ in max(tree.branches(after.tree), key=len))
            # A rule ends one path; a question and a consent each double what comes after them.
            count = kinds["guard"] + (1 + kinds["ask"]) * (1 + kinds["confirm"])
            assert len(tree.branches(after.tree)) == count
            for branch in tree.branches(after.tree):
                assert re.fullmatch(r"Rg*(Oh+)?a?(W|c[WS])|Rg+X|Rg*Oh+X", spine(branch, domain))
            check_rules(domain, before, after, added=name in ("guard", "hidden"))
            assert tree.number(after.tree) == after.tree
            assert (after.root, after.parent, after.operator) == (before.root, before.id, name)
            assert (after.round, after.id) == (before.round + 1, f"{before.root}@r{before.round + 1}")
    assert set(names) == {operator.name for operator in OPERATORS}


def check_rules(domain, before, after, added):
    """The same rules on all paths: those of before in their order, and at most one more."""
    old, new = rule_paths(before.tree)[0], rule_paths(after.tree)
    assert all(path == new[0] for path in new)
    assert [rule for rule in new[0] if rule in old] == old
    assert len(new[0]) == len(old) + added
    fields = [rule["condition"]["field"] for rule in new[0]]
    assert len(set(fields)) == len(fields)
    for node in tree.nodes(after.tree):
        if node.kind == "guard":
            entity, field = node.spec["condition"]["field"].split(".")
            assert entity == (domain.owner.kind if node.spec["hidden"] else domain.record.kind)
            assert node.child("fails").spec == {"outcome": node.spec["otherwise"], "reason": field}
            expr.check(node.spec["condition"])
            values = domain.entity(entity).fields[field]
            verdicts = {expr.holds(node.spec["condition"], {f"{entity}.{field}": value}) for value in values}
            assert verdicts == {True, False}, "a rule that nothing meets or nothing breaks"


@each_action
def test_growth_ends_with_everything_in_place(domain, action):
    steps = growth(linear(domain, action), seed=7)
    final = steps[-1][2]
    assert Counter(name for name, _, _ in steps).keys() == {operator.name for operator in OPERATORS}
    assert len(rule_paths(final.tree)[0]) == domains.DOMAINS["orders"].most_rules
    assert len(steps) == domains.DOMAINS["orders"].most_rules + 2
    assert len(tree.branches(final.tree)) == domains.DOMAINS["orders"].most_rules + 4
    for operator in OPERATORS:
        with pytest.raises(ValueError, match=f"{operator.name} does not apply to {final.id}"):
            operators.expand(final, operator, 0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("guard", {"RgW", "RgX"}),
        ("hidden", {"ROhW", "ROhX"}),
        ("missing", {"RaW"}),
        ("confirm", {"RcW", "RcS"}),
        ("confirm,missing", {"RacW", "RacS"}),
        ("missing,confirm", {"RacW", "RacS"}),
        ("hidden,guard", {"RgX", "RgOhX", "RgOhW"}),
        ("hidden,hidden,confirm,guard", {"RgX", "RgOhX", "RgOhhX", "RgOhhcW", "RgOhhcS"}),
    ],
)
def test_operators_stand_at_their_place_whatever_the_order(names, expected):
    domain, action = ACTIONS[0]
    grown = linear(domain, action)
    for name in names.split(","):
        grown = operators.expand(grown, operators.OPERATORS[name], 0)
    assert {spine(branch, domain) for branch in tree.branches(grown.tree)} == expected


def test_missing_asks_for_the_slot_of_the_action():
    domain, action = ACTIONS[1]
    grown = operators.expand(linear(domain, action), operators.OPERATORS["missing"], 0)
    ask = next(node for node in tree.nodes(grown.tree) if node.kind == "ask")
    assert ask.spec == {"slot": action.slot}
    assert [branch[0][1] for branch in tree.branches(grown.tree)] == ["done", "done"]
    assert [branch[1][1] for branch in tree.branches(grown.tree)] == ["given", "missing"]


def test_expand_is_a_function_of_seed_and_workflow():
    domain, action = ACTIONS[0]
    guard, start = operators.OPERATORS["guard"], linear(domain, action)
    assert operators.expand(start, guard, 5) == operators.expand(start, guard, 5)
    drawn = {str(tree.to_dict(operators.expand(start, guard, seed).tree)) for seed in range(20)}
    assert len(drawn) > 10


def test_round_trip_of_a_grown_workflow():
    domain, action = ACTIONS[3]
    for _, _, after in growth(linear(domain, action), seed=1):
        assert Workflow.from_dict(after.to_dict()) == after
        kept = after.kept()
        assert (kept.tree, kept.parent, kept.operator, kept.round) == (after.tree, after.id, "", after.round + 1)


def test_select_names_what_it_does_not_know():
    assert [o.name for o in operators.select(" confirm, guard")] == ["confirm", "guard"]
    with pytest.raises(ValueError, match="branchify"):
        operators.select("guard,branchify")
    with pytest.raises(ValueError, match="synth.operators"):
        operators.select(" ,")


@each_action
def test_names_leave_no_room_for_two_readings(domain, action):
    """The scripted user tells questions by words, and reasons are bare field names: none may stand for two things."""
    domains.check(domain)
    record, owner = domain.record.fields, domain.owner.fields
    assert not set(record) & set(owner), "a reason would not say whose field it means"
    assert action.slot not in {*record, *owner}, "a check of the field would read as a question for the slot"
    assert isinstance(record[action.copied][0], int)
    words = {*record, *owner, action.slot, action.verb, domain.record.kind, domain.owner.kind}
    words |= {str(v) for values in (*record.values(), *owner.values(), action.choices) for v in values}
    assert "confirm" not in words, "the user would take the text for a request for consent"
    assert all(re.fullmatch(r"\w+", word) and word == word.lower() for word in words)
    written = {f"{action.verb}_{action.copied}", f"{action.verb}_{action.slot}"}
    assert len(written) == 2 and not written & {*record, domain.record.key, domain.owner.key}
    assert len({a.verb for a in domain.actions}) == len(domain.actions)
