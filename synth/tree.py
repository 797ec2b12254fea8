"""Behaviour trees: what a right agent does in every situation of one workflow.

Node kinds and their `spec`:
  action    {"entity"}                            read that entity's record        edges: done
  guard     {"condition", "otherwise", "hidden"}  a condition the policy states    edges: holds, fails
  ask       {"slot"}                              a detail the user may leave out  edges: given, missing
  confirm   {}                                    the user's consent to the write  edges: accepted, refused
  terminal  {"outcome", "reason"}                 write | decline | transfer | stop  no edges
A branch is a root-to-leaf path. Trees are immutable; node ids are assigned in preorder by `number`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

EDGES = {
    "action": ("done",),
    "guard": ("holds", "fails"),
    "ask": ("given", "missing"),
    "confirm": ("accepted", "refused"),
    "terminal": (),
}
OUTCOMES = ("write", "decline", "transfer", "stop")


@dataclasses.dataclass(frozen=True)
class Node:
    """A node with its subtrees, `children[i]` under edge `EDGES[kind][i]`."""

    kind: str
    spec: dict[str, Any]
    children: tuple["Node", ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        if self.kind not in EDGES:
            raise ValueError(f"tree node {self.id!r}: unknown kind {self.kind!r}, expected one of {', '.join(EDGES)}")
        if len(self.children) != len(EDGES[self.kind]):
            count = len(self.children)
            raise ValueError(f"tree node {self.id!r}: {self.kind} has edges {EDGES[self.kind]}, got {count} children")
        if self.kind == "terminal" and self.spec.get("outcome") not in OUTCOMES:
            raise ValueError(f"tree node {self.id!r}: outcome {self.spec.get('outcome')!r}, expected one of {OUTCOMES}")

    def child(self, edge: str) -> "Node":
        """The subtree under `edge`."""
        return self.children[EDGES[self.kind].index(edge)]


Branch = list[tuple[Node, str]]  # (node, edge taken); the terminal comes last with edge ""


def terminal(outcome: str, reason: str = "") -> Node:
    """A leaf."""
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
    """All root-to-leaf paths, leaves from left to right."""
    if root.kind == "terminal":
        return [[(root, "")]]
    return [[(root, edge), *rest] for edge in EDGES[root.kind] for rest in branches(root.child(edge))]


def depth(root: Node) -> int:
    """Nodes on the longest branch."""
    return 1 + max((depth(c) for c in root.children), default=0)


def rewrite(root: Node, applies: Callable[[Node], bool], change: Callable[[Node], Node]) -> Node:
    """Replaces, on every path, the first node for which `applies` is true by `change(node)`."""
    if applies(root):
        return change(root)
    return dataclasses.replace(root, children=tuple(rewrite(c, applies, change) for c in root.children))


def to_dict(node: Node) -> dict[str, Any]:
    """The tree as JSON data: {"id", "kind", "spec", "children": [{"when", "node"}]}."""
    children = [{"when": edge, "node": to_dict(c)} for edge, c in zip(EDGES[node.kind], node.children)]
    return {"id": node.id, "kind": node.kind, "spec": node.spec, "children": children}


def from_dict(data: dict[str, Any]) -> Node:
    """Inverse of `to_dict`. Raises ValueError naming the node that is malformed."""
    if set(data) != {"id", "kind", "spec", "children"} or data["kind"] not in EDGES:
        raise ValueError(f"tree node {data.get('id')!r}: expected id, kind ({', '.join(EDGES)}), spec, children")
    edges = tuple(child.get("when") for child in data["children"] if "node" in child)
    if edges != EDGES[data["kind"]]:
        raise ValueError(f"tree node {data['id']!r}: edges {edges}, expected {EDGES[data['kind']]}")
    return Node(data["kind"], data["spec"], tuple(from_dict(c["node"]) for c in data["children"]), data["id"])
