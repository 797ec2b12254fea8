"""Behaviour trees: what an agent has to do in every situation of one workflow.

Node kinds, their `spec` and their edges:
  goals     {"count", "together"}                 several requests, one tree each  edges: each
  find      {"entity"}                            look the record up by its owner  edges: one, several
  choose    {"field", "most"}                     take the extreme of several      edges: chosen
  action    {"entity"}                            read that entity's record        edges: done
  guard     {"condition", "otherwise", "hidden"}  a condition the policy states    edges: holds, fails
  ask       {"slot"}                              a detail the user may leave out  edges: given, missing
  tell      {}                                    an amount that the user is told  edges: told
  confirm   {}                                    the user's consent to the write  edges: accepted, refused
  review    {}                                    consent that may change a detail edges: accepted, refused, amended
  attempt   {}                                    what becomes of the first write  edges: done, failed, lost, down
  terminal  {"outcome", "reason"}                 write | decline | transfer | stop  no edges
A guard's spec may also hold marks:
  boundary   a numeric rule; the value is drawn at its limit or right beside it
  urgent     a rule that comes before every other rule
  claim      the user says that the rule is met
  exception  excuses the failed guard above it; if it fails as well, that guard's outcome follows
A branch is a root-to-leaf path. Under `goals` a branch is a concatenation of such paths, one per request, each
beginning with the goals node; it stops early at a path that ends in a transfer.
Trees are immutable; `number` assigns node ids in preorder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

EDGES = {
    "goals": ("each",),
    "find": ("one", "several"),
    "choose": ("chosen",),
    "action": ("done",),
    "guard": ("holds", "fails"),
    "ask": ("given", "missing"),
    "tell": ("told",),
    "confirm": ("accepted", "refused"),
    "review": ("accepted", "refused", "amended"),
    "attempt": ("done", "failed", "lost", "down"),
    "terminal": (),
}
OUTCOMES = ("write", "decline", "transfer", "stop")
SPECS: dict[str, dict[str, type]] = {  # kind -> what its spec holds
    "goals": {"count": int, "together": bool},
    "find": {"entity": str},
    "choose": {"field": str, "most": bool},
    "action": {"entity": str},
    "guard": {"condition": dict, "otherwise": str, "hidden": bool},
    "ask": {"slot": str},
    "terminal": {"outcome": str, "reason": str},
}
MARKS = ("boundary", "urgent", "claim", "exception")  # optional keys of a guard's spec, true or false


@dataclasses.dataclass(frozen=True)
class Node:
    """A node with its subtrees: `children[i]` is under edge `EDGES[kind][i]`.

    Raises ValueError for an unknown kind, a wrong number of children, or a malformed goals or terminal spec.
    """

    kind: str
    spec: dict[str, Any]
    children: tuple[Node, ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        if self.kind not in EDGES:
            raise ValueError(f"tree node {self.id!r}: unknown kind {self.kind!r}, expected one of {', '.join(EDGES)}")
        if len(self.children) != len(EDGES[self.kind]):
            count = len(self.children)
            raise ValueError(f"tree node {self.id!r}: {self.kind} has edges {EDGES[self.kind]}, got {count} children")
        nested = self.kind == "goals" and any(node.kind == "goals" for node in nodes(self.children[0]))
        if self.kind == "goals" and (nested or self.spec.get("count", 0) < 2):
            raise ValueError(f"tree node {self.id!r}: goals count two or more, and none of them has goals of its own")
        if self.kind == "terminal" and self.spec.get("outcome") not in OUTCOMES:
            raise ValueError(f"tree node {self.id!r}: outcome {self.spec.get('outcome')!r}, expected one of {OUTCOMES}")

    def child(self, edge: str) -> Node:
        """The subtree under `edge`. Raises ValueError if this kind of node has no such edge."""
        return self.children[EDGES[self.kind].index(edge)]


Branch = list[tuple[Node, str]]  # (node, edge taken); the terminal comes last with edge ""


def terminal(outcome: str, reason: str = "") -> Node:
    """A leaf with one of OUTCOMES. Raises ValueError for another outcome."""
    return Node("terminal", {"outcome": outcome, "reason": reason})


def number(root: Node) -> Node:
    """The same tree with ids n0, n1, ... in preorder."""
    counter = iter(range(1_000_000))

    def visit(node: Node) -> Node:
        name = f"n{next(counter)}"
        return dataclasses.replace(node, id=name, children=tuple(visit(c) for c in node.children))

    return visit(root)


def nodes(root: Node) -> Iterator[Node]:
    """All nodes in preorder."""
    yield root
    for child in root.children:
        yield from nodes(child)


def branches(root: Node) -> list[Branch]:
    """All branches, leaves from left to right.

    Of several goals, the first goal takes every path, and each later goal takes one path to each ending, the leftmost:
    the first goal's paths already cover the others.
    """
    if root.kind == "terminal":
        return [[(root, "")]]
    if root.kind == "goals":
        return _goals(root)
    return [[(root, edge), *rest] for edge in EDGES[root.kind] for rest in branches(root.child(edge))]


def _goals(root: Node) -> list[Branch]:
    """The branches of a goals node. Nothing follows a transfer, because it hands over the whole conversation."""
    paths = [[(root, "each"), *path] for path in branches(root.child("each"))]
    endings: dict[tuple[str, str], Branch] = {}
    for path in paths:
        endings.setdefault(ending(path), path)
    found = paths
    for _ in range(root.spec["count"] - 1):
        found = [
            [*path, *more] for path in found for more in (endings.values() if ending(path)[0] != "transfer" else [[]])
        ]
    return found


def ending(branch: Branch) -> tuple[str, str]:
    """(outcome, reason) of a branch's leaf; with several goals, of the last goal's leaf."""
    return branch[-1][0].spec["outcome"], branch[-1][0].spec["reason"]


def segments(branch: Branch) -> list[Branch]:
    """The branch split after every leaf: one path per goal, each without the goals node."""
    found: list[Branch] = [[]]
    for node, edge in branch:
        if node.kind != "goals":
            found[-1].append((node, edge))
        elif found[-1]:
            found.append([])
    return found


def outcomes(branch: Branch) -> list[str]:
    """The outcome of every goal, in order."""
    return [segment[-1][0].spec["outcome"] for segment in segments(branch)]


def depth(root: Node) -> int:
    """The number of nodes on the longest root-to-leaf path."""
    return 1 + max((depth(c) for c in root.children), default=0)


def rewrite(root: Node, applies: Callable[[Node], bool], change: Callable[[Node], Node]) -> Node:
    """The tree in which, on every path, `change(node)` replaces the first node for which `applies` is true."""
    if applies(root):
        return change(root)
    return dataclasses.replace(root, children=tuple(rewrite(c, applies, change) for c in root.children))


def to_dict(node: Node) -> dict[str, Any]:
    """The tree as JSON data: {"id", "kind", "spec", "children": [{"when", "node"}]}."""
    children = [{"when": edge, "node": to_dict(c)} for edge, c in zip(EDGES[node.kind], node.children)]
    return {"id": node.id, "kind": node.kind, "spec": node.spec, "children": children}


def from_dict(data: dict[str, Any]) -> Node:
    """Inverse of `to_dict`. Raises ValueError naming the node that is malformed."""
    name = data.get("id") if isinstance(data, dict) else data
    whole = _has(data, {"id": str, "kind": str, "spec": dict, "children": list}) and data["kind"] in EDGES
    if not whole or not all(_has(child, {"when": str, "node": dict}) for child in data["children"]):
        raise ValueError(f"tree node {name!r}: expected id, kind ({', '.join(EDGES)}), spec, children (when, node)")
    kind, spec = data["kind"], data["spec"]
    if (edges := tuple(child["when"] for child in data["children"])) != EDGES[kind]:
        raise ValueError(f"tree node {name!r}: edges {edges}, expected {EDGES[kind]}")
    wanted = SPECS.get(kind, {}) | {mark: bool for mark in MARKS if kind == "guard" and mark in spec}
    if not _has(spec, wanted):
        told = ", ".join(f"{key} ({value.__name__})" for key, value in wanted.items())
        raise ValueError(f"tree node {name!r}: spec of {kind} must have {told or 'nothing'}, got {spec}")
    return Node(kind, spec, tuple(from_dict(c["node"]) for c in data["children"]), name)


def _has(record: Any, types: dict[str, type]) -> bool:
    """Whether `record` is a dict with exactly these keys, each with a value of exactly the given type."""
    return (
        isinstance(record, dict)
        and record.keys() == types.keys()
        and all(type(record[key]) is wanted for key, wanted in types.items())
    )
