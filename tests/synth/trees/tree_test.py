"""Behaviour trees: round trip, numbering, branches and rewriting of random trees, errors that name the node."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.trees import tree
from synth.trees.tree import Node

RULE = {"condition": {"op": "le", "field": "order.amount", "value": 40}, "otherwise": "decline"}
SPECS = {
    "action": st.builds(lambda e: {"entity": e}, st.sampled_from(("order", "customer"))),
    "guard": st.builds(lambda hidden: {**RULE, "hidden": hidden}, st.booleans()),
    "ask": st.just({"slot": "method"}),
    "confirm": st.just({}),
    "find": st.just({"entity": "order"}),
    "review": st.just({}),
    "attempt": st.just({}),
    "terminal": st.builds(lambda o: {"outcome": o, "reason": ""}, st.sampled_from(tree.OUTCOMES)),
}


@st.composite
def trees(draw, depth=4):
    """Any well-formed tree of at most `depth` levels, without ids."""
    kind = "terminal" if depth == 1 else draw(st.sampled_from(tuple(SPECS)))
    children = tuple(draw(trees(depth=depth - 1)) for _ in tree.EDGES[kind])
    return Node(kind, draw(SPECS[kind]), children)


def shape(node):
    """A tree without its ids."""
    return (node.kind, node.spec, [shape(child) for child in node.children])


def leaves(node):
    """Terminals from left to right, found without tree.branches."""
    return [node] if not node.children else [leaf for child in node.children for leaf in leaves(child)]


@settings(max_examples=50)
@given(trees())
def test_round_trip_through_json_text(root):
    root = tree.number(root)
    assert tree.from_dict(json.loads(json.dumps(tree.to_dict(root)))) == root


@settings(max_examples=50)
@given(trees())
def test_numbering_is_preorder_and_changes_nothing_else(root):
    numbered = tree.number(root)
    ids = [node.id for node in tree.nodes(numbered)]
    assert ids == [f"n{i}" for i in range(len(ids))]
    assert shape(numbered) == shape(root)
    assert tree.number(numbered) == numbered
    parents = [(node, child) for node in tree.nodes(numbered) for child in node.children]
    assert all(int(node.id[1:]) < int(child.id[1:]) for node, child in parents)


@settings(max_examples=50)
@given(trees())
def test_branches_are_the_paths_to_the_leaves(root):
    root = tree.number(root)
    found = tree.branches(root)
    assert [branch[-1][0] for branch in found] == leaves(root)
    for branch in found:
        assert branch[0][0] is root
        assert branch[-1][1] == ""
        for (node, edge), (below, _) in zip(branch, branch[1:]):
            assert node.child(edge) is below
            assert edge in tree.EDGES[node.kind]
    assert len({tuple((node.id, edge) for node, edge in branch) for branch in found}) == len(found)
    assert tree.depth(root) == max(len(branch) for branch in found)


@settings(max_examples=50)
@given(trees(), st.sampled_from(tuple(SPECS)))
def test_rewrite_changes_the_first_match_of_every_path_once(root, kind):
    def mark(node):
        return Node("action", {"entity": "mark"}, (node,))

    changed = tree.rewrite(root, lambda node: node.kind == kind, mark)
    for before, after in zip(tree.branches(root), tree.branches(changed), strict=True):
        kinds = [node.kind for node, _ in before]
        marks = [i for i, (node, _) in enumerate(after) if node.spec == {"entity": "mark"}]
        assert marks == ([kinds.index(kind)] if kind in kinds else [])
        assert [shape(node)[:2] for i, (node, _) in enumerate(after) if i not in marks] == [
            shape(node)[:2] for node, _ in before
        ]


def test_rewrite_without_a_match_gives_an_equal_tree():
    root = Node("confirm", {}, (tree.terminal("write"), tree.terminal("stop")))
    assert tree.rewrite(root, lambda node: node.kind == "ask", lambda node: tree.terminal("stop")) == root


def test_child_is_found_by_its_edge():
    root = Node("guard", {}, (tree.terminal("write"), tree.terminal("decline", "status")))
    assert root.child("fails").spec == {"outcome": "decline", "reason": "status"}
    with pytest.raises(ValueError):
        root.child("done")


def goals(child, count=2):
    return Node("goals", {"count": count, "together": True}, (child,))


def test_branches_of_several_goals_by_hand():
    """Every path for the first goal, one per ending for the next, none behind a transfer."""
    ask = Node("ask", {"slot": "method"}, (tree.terminal("write"), tree.terminal("write")))
    root = tree.number(goals(Node("guard", {**RULE, "hidden": False}, (ask, tree.terminal("transfer", "amount")))))
    found = [[node.id for node, _ in branch] for branch in tree.branches(root)]
    given, missing, refused = ["n0", "n1", "n2", "n3"], ["n0", "n1", "n2", "n4"], ["n0", "n1", "n5"]
    assert found == [given + given, given + refused, missing + given, missing + refused, refused]
    parts = tree.segments(tree.branches(root)[1])
    assert [[node.id for node, _ in part] for part in parts] == [given[1:], refused[1:]]
    assert tree.outcomes(tree.branches(root)[1]) == ["write", "transfer"]
    assert len(tree.branches(dataclasses.replace(root, spec={"count": 3, "together": False}))) == 2 * (2 + 1) + 1


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Node("loop", {}, (), "n7"), "'n7': unknown kind 'loop'"),
        (lambda: Node("guard", {}, (tree.terminal("write"),), "n7"), "'n7': guard has edges .* got 1 children"),
        (lambda: Node("terminal", {"outcome": "shrug"}, (), "n7"), "'n7': outcome 'shrug'"),
        (lambda: Node("terminal", {}, (), "n7"), "'n7': outcome None"),
        (lambda: Node("goals", {"count": 1}, (tree.terminal("write"),), "n7"), "'n7': goals count two or more"),
        (lambda: goals(goals(tree.terminal("write"))), "'': goals count two or more"),
    ],
)
def test_malformed_nodes_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def broken(**changes):
    """A confirm node as data, with changes."""
    root = tree.number(Node("confirm", {}, (tree.terminal("write"), tree.terminal("stop"))))
    return {**tree.to_dict(root), **changes}


WRITE = {"id": "n1", "kind": "terminal", "spec": {"outcome": "write", "reason": ""}, "children": []}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (broken(kind="loop"), "'n0': expected id, kind"),
        (broken(extra=1), "'n0': expected id, kind"),
        ({"id": "n0", "kind": "confirm"}, "'n0': expected id, kind"),
        (broken(children=[]), r"'n0': edges \(\)"),
        (broken(children=[{"when": "refused", "node": WRITE}, {"when": "accepted", "node": WRITE}]), "'n0': edges"),
        (broken(children=[{"when": "accepted"}, {"when": "refused"}]), "'n0': expected id, kind"),
        (broken(spec=None), "'n0': expected id, kind"),
        (broken(spec={"slot": "x"}), "'n0': spec of confirm must have nothing, got"),
        (None, "None: expected id, kind"),
        (
            broken(children=[{"when": "accepted", "node": {**WRITE, "spec": {}}}, {"when": "refused", "node": WRITE}]),
            r"'n1': spec of terminal must have outcome \(str\), reason \(str\), got \{\}",
        ),
    ],
)
def test_malformed_data_is_named(data, named):
    with pytest.raises(ValueError, match=named):
        tree.from_dict(data)
