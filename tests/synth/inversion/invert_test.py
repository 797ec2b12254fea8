"""Inversion: for every branch of randomly grown trees exactly its leaf is right, and nothing says beforehand which."""

import operator
import random

import pytest

from rl.warmstart import tiny
from synth import operators, personas
from synth.inversion import invert
from synth.trees import domains, expr, tree, workflow

COMPARE = {"eq": operator.eq, "le": operator.le, "ge": operator.ge}
OPERATORS = operators.select(tiny.OPERATORS)  # the others: tests/synth/growth_test.py
PAIRS = [(d, a) for d in domains.DOMAINS.values() for a in d.actions]


def grown(index):
    """A workflow of every domain and action in turn, grown by 0 to 6 random operators."""
    domain, action = PAIRS[index % len(PAIRS)]
    split = personas.SPLITS[index % 3]
    root = f"{split}-{index:04d}-{domain.name}-{action.verb}"
    found = workflow.Workflow(f"{root}@r0", root, "", "", 0, split, domain.name, action.verb, workflow.linear(domain))
    rng = random.Random(index)
    for _ in range(rng.randint(0, 6)):
        options = [o for o in OPERATORS if o.applies(found)]
        found = operators.expand(found, rng.choice(options), rng.randrange(100))
    return found


WORKFLOWS = [grown(index) for index in range(3 * len(PAIRS))]
TASKS = [
    [invert.invert(flow, branch, variant, seed=3) for branch in tree.branches(flow.tree) for variant in range(2)]
    for flow in WORKFLOWS
]
EVERY_TASK = [task for tasks in TASKS for task in tasks]


def records(task):
    """{entity kind: the record in play}, found by following the owner's id from the record the user named."""
    domain = domains.DOMAINS[task.domain]
    record = task.state[domain.record.collection][task.user["record_id"]]
    owner = task.state[domain.owner.collection][record[domain.owner.key]]
    return {domain.record.kind: record, domain.owner.kind: owner}


def true(condition, found):
    """A leaf condition evaluated on the records in play, without synth.expr."""
    entity, field = condition["field"].split(".")
    return COMPARE[condition["op"]](found[entity][field], condition["value"])


def truthful_path(task):
    """Ids of the nodes an agent meets that knows state and user, and that reads the tree as data."""
    found, node, ids = records(task), task.tree, []
    slot = next(iter(task.user["slots"]))
    while True:
        ids.append(node["id"])
        if node["kind"] == "terminal":
            return ids
        edge = {
            "action": lambda spec: "done",
            "guard": lambda spec: "holds" if true(spec["condition"], found) else "fails",
            "ask": lambda spec: "given" if f'"{slot}"' in task.user["request"] else "missing",
            "confirm": lambda spec: "accepted" if task.user["accepts"] else "refused",
        }[node["kind"]](node["spec"])
        node = next(child["node"] for child in node["children"] if child["when"] == edge)


def all_nodes(node):
    """Every node of a tree as data."""
    yield node
    for child in node["children"]:
        yield from all_nodes(child["node"])


def test_the_trees_have_every_kind_of_leaf():
    ends = {(n["spec"]["outcome"]) for t in EVERY_TASK for n in all_nodes(t.tree) if n["kind"] == "terminal"}
    assert ends == set(tree.OUTCOMES)
    assert max(len(tree.branches(flow.tree)) for flow in WORKFLOWS) == 8


def test_exactly_the_leaf_of_the_branch_is_right():
    for task in EVERY_TASK:
        assert truthful_path(task) == task.branch, task.id


def test_at_most_one_rule_of_the_policy_fails():
    for task in EVERY_TASK:
        rules = {n["spec"]["condition"]["field"]: n for n in all_nodes(task.tree) if n["kind"] == "guard"}
        failing = [field for field, n in rules.items() if not true(n["spec"]["condition"], records(task))]
        leaf = next(n for n in all_nodes(task.tree) if n["id"] == task.branch[-1])
        reason = leaf["spec"]["reason"]
        assert [field.split(".")[1] for field in failing] == ([reason] if reason else [])


def test_legal_says_whether_the_branch_ends_in_the_write():
    for task in EVERY_TASK:
        leaf = next(n for n in all_nodes(task.tree) if n["id"] == task.branch[-1])
        assert task.legal == (leaf["spec"]["outcome"] == "write")
    assert {task.legal for task in EVERY_TASK} == {True, False}


def test_the_policy_is_the_same_for_all_branches_of_a_tree():
    for flow, tasks in zip(WORKFLOWS, TASKS, strict=True):
        assert {task.policy for task in tasks} == {invert.policy_text(flow)}
        assert len({str(task.tools) for task in tasks}) == 1
        assert len({str(task.effects) for task in tasks}) == 1


def test_the_policy_states_every_rule_and_nothing_of_the_case():
    for task in EVERY_TASK:
        lines = task.policy.split("\n")
        guards = {n["spec"]["condition"]["field"]: n["spec"] for n in all_nodes(task.tree) if n["kind"] == "guard"}
        consent = any(n["kind"] == "confirm" for n in all_nodes(task.tree))
        assert len(lines) == 1 + len(guards) + consent
        for spec in guards.values():
            said = [line for line in lines if expr.render(spec["condition"]) in line]
            assert len(said) == 1
            assert said[0].endswith(f"else {spec['otherwise']}.")
        ids = [record_id for collection in task.state.values() for record_id in collection]
        names = {tool["function"]["name"] for tool in task.tools} - {"decline", "transfer"}
        for secret in (*ids, *names, task.persona, *task.user["slots"]):
            assert secret not in task.policy.replace('"', " ").split()


def test_the_request_gives_the_detail_as_the_branch_has_it():
    unreached = set()  # whether the detail is withheld where the tree asks but the branch never comes to it
    for task in EVERY_TASK:
        ((slot, value),) = task.user["slots"].items()
        flow = tree.from_dict(task.tree)
        missing = any(a.id in task.branch and b.id in task.branch for a, b in missing_edges(flow))
        asks = [node.id for node in tree.nodes(flow) if node.kind == "ask"]
        if asks and not set(asks) & set(task.branch):
            missing = bool(task.user["withheld"])
            unreached.add(missing)
        assert task.user["withheld"] == ([slot] if missing else [])
        assert (f'"{slot}": "{value}"' in task.user["request"]) is not missing
        assert (f'"{value}"' in task.user["request"]) is not missing
        assert f' "{task.user["record_id"]}"' in task.user["request"]
        write = next(t["function"] for t in task.tools if slot in t["function"]["parameters"]["properties"])
        assert value in write["parameters"]["properties"][slot]["enum"]
    assert unreached == {True, False}  # so that a withheld detail says nothing about the rules


def missing_edges(root):
    """(ask node, the node after a missing detail) for every question of a tree."""
    return [(node, node.child("missing")) for node in tree.nodes(root) if node.kind == "ask"]


def test_the_state_is_whole_and_the_record_in_play_has_no_special_place():
    places = set()
    for task in EVERY_TASK:
        domain = domains.DOMAINS[task.domain]
        for entity in (domain.record, domain.owner):
            collection = task.state[entity.collection]
            assert len(collection) == 1 + invert.DISTRACTORS
            for record_id, record in collection.items():
                assert record[entity.key] == record_id
                assert all(record[field] in values for field, values in entity.fields.items())
        owners = [record[domain.owner.key] for record in task.state[domain.record.collection].values()]
        assert sorted(owners) == sorted(task.state[domain.owner.collection])
        ids = [record_id for collection in task.state.values() for record_id in collection]
        assert len(set(ids)) == len(ids)
        places.add(list(task.state[domain.record.collection]).index(task.user["record_id"]))
    assert places == set(range(1 + invert.DISTRACTORS))


def test_variants_differ_and_the_same_arguments_give_the_same_bytes():
    for flow, tasks in zip(WORKFLOWS[:10], TASKS[:10], strict=True):
        assert len({str(task.state) for task in tasks}) == len(tasks)
        assert len({task.id for task in tasks}) == len(tasks)
        branch = tree.branches(flow.tree)[-1]
        assert invert.invert(flow, branch, 1, seed=3).to_json() == tasks[-1].to_json()
        assert invert.invert(flow, branch, 1, seed=4).state != tasks[-1].state


def test_an_unreachable_branch_is_an_error_that_names_its_leaf():
    flow = next(f for f in WORKFLOWS if f.tree.child("done").kind == "guard")
    guard = flow.tree.child("done")
    field = guard.spec["condition"]["field"]
    never = {**guard.spec, "condition": {"op": "eq", "field": field, "value": "no such value"}}
    changed = tree.rewrite(
        flow.tree, lambda node: node.kind == "guard", lambda node: tree.Node("guard", never, node.children, node.id)
    )
    broken = flow.grown(changed, "guard")
    fails = next(b for b in tree.branches(broken.tree) if b[-1][0].spec["reason"] == field.split(".")[1])
    invert.invert(broken, fails, 0, seed=0)
    legal = next(b for b in tree.branches(broken.tree) if b[-1][0].spec["outcome"] == "write")
    with pytest.raises(ValueError, match=f"{broken.id}: no state satisfies the branch to {legal[-1][0].id}"):
        invert.invert(broken, legal, 0, seed=0)
