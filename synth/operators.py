"""Operators: how a behaviour tree grows. Each says when it applies and returns the grown tree.

Every tree keeps one spine (PLACES): find the record, read it, rules on it, read its owner, rules on the owner, the same
for what the owner is linked to, ask for what is missing, obtain consent, write. An operator inserts its node at its
place on the spine, on every path that gets there, or marks a node that is there. What a node or a mark means for state,
user, rubric and policy text is inversion's business (synth/invert.py, synth/rubric.py), the same for every tree.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from synth import domains, expr, tree
from synth.tree import Node
from synth.workflow import Workflow

MAX_RULES = 4  # rules per policy: beyond that the text outgrows what one read of the record can settle
MAX_BRANCHES = 64  # a tree that branches more is not doubled again

PLACES = (
    "goals", "find", "read record", "urgent rule", "rule on record", "read owner", "rule on owner", "read link",
    "rule on link", "ask", "consent", "attempt", "write",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operator:
    """`applies(workflow)`, `apply(workflow, rng) -> tree`; what failures call for it.

    answers: the node kinds whose failure calls for it. cures: the kinds of failure (synth/failures.py) that do.
    """

    name: str
    answers: tuple[str, ...]
    cures: tuple[str, ...]
    applies: Callable[[Workflow], bool]
    apply: Callable[[Workflow, random.Random], Node]


def _guards(workflow: Workflow) -> list[Node]:
    return [n for n in tree.nodes(workflow.tree) if n.kind == "guard"]


def _used(workflow: Workflow) -> set[str]:
    return {f for n in _guards(workflow) for f in expr.fields(n.spec["condition"])}


def _has(workflow: Workflow, *kinds: str) -> bool:
    return any(n.kind in kinds for n in tree.nodes(workflow.tree))


def _marked(workflow: Workflow, mark: str) -> bool:
    return any(n.spec.get(mark) for n in _guards(workflow))


def _reads(workflow: Workflow, kind: str) -> bool:
    return any(n.kind == "action" and n.spec["entity"] == kind for n in tree.nodes(workflow.tree))


def _roomy(workflow: Workflow) -> bool:
    """Whether the tree may still be doubled."""
    return len(tree.branches(workflow.tree)) <= MAX_BRANCHES // 2


def _place(node: Node, workflow: Workflow) -> str:
    """Where a node stands on the spine; "exit" for a leaf that is not the write."""
    level = {entity.kind: name for entity, name in zip(workflow.spec.entities, ("record", "owner", "link"))}
    if node.kind == "action":
        return f"read {level[node.spec['entity']]}"
    if node.kind == "guard":
        if node.spec.get("urgent"):
            return "urgent rule"
        return f"rule on {level[node.spec['condition']['field'].split('.')[0]]}"
    if node.kind == "terminal":
        return "write" if node.spec["outcome"] == "write" else "exit"
    return {"confirm": "consent", "review": "consent"}.get(node.kind, node.kind)


def _insert(workflow: Workflow, place: str, make: Callable[[Node], Node]) -> Node:
    """The tree with `make(rest)` in place of what follows `place`, on every path that gets there."""

    def follows(node: Node) -> bool:
        found = _place(node, workflow)
        return found != "exit" and PLACES.index(found) > PLACES.index(place)

    return tree.rewrite(workflow.tree, follows, make)


def _with_rule(workflow: Workflow, place: str, condition: expr.Expr, otherwise: str, **marks: bool) -> Node:
    """The tree with a rule at its place; what has to be read for it is read."""
    spec, kind = workflow.spec, condition["field"].split(".")[0]
    reason = condition["field"].split(".")[1]
    guard = {"condition": condition, "otherwise": otherwise, "hidden": kind != spec.record.kind, **marks}
    needed = {spec.record.kind: [], spec.owner.kind: [spec.owner], spec.link.kind: [spec.owner, spec.link]}[kind]

    def insert(rest: Node) -> Node:
        found = Node("guard", guard, (rest, tree.terminal(otherwise, reason)))
        # The path ends up with one read of each entity: those not there yet come right before the rule.
        for entity in reversed([e for e in needed if not _reads(workflow, e.kind)]):
            found = Node("action", {"entity": entity.kind}, (found,))
        return found

    return _insert(workflow, place, insert)


def _free(workflow: Workflow, entity: domains.Entity) -> bool:
    used = _used(workflow)
    return len(used) < MAX_RULES and any(f"{entity.kind}.{f}" not in used for f in entity.fields)


def _candidate(workflow: Workflow, entity: domains.Entity, rng: random.Random) -> expr.Expr:
    return domains.guard_candidates(workflow.spec, entity, _used(workflow), rng)[0]


def _otherwise(rng: random.Random) -> str:
    return rng.choice(("decline", "transfer"))


def _guard(workflow: Workflow, rng: random.Random) -> Node:
    condition = _candidate(workflow, workflow.spec.record, rng)
    return _with_rule(workflow, "rule on record", condition, _otherwise(rng))


def _hidden(workflow: Workflow, rng: random.Random) -> Node:
    condition = _candidate(workflow, workflow.spec.owner, rng)
    return _with_rule(workflow, "rule on owner", condition, _otherwise(rng))


def _hop(workflow: Workflow, rng: random.Random) -> Node:
    condition = _candidate(workflow, workflow.spec.link, rng)
    return _with_rule(workflow, "rule on link", condition, _otherwise(rng))


def _boundaries(workflow: Workflow, rng: random.Random) -> list[expr.Expr]:
    return domains.boundary_candidates(workflow.spec.record, _used(workflow), rng)


def _boundary(workflow: Workflow, rng: random.Random) -> Node:
    condition = rng.choice(_boundaries(workflow, rng))
    return _with_rule(workflow, "rule on record", condition, _otherwise(rng), boundary=True)


def _escalate(workflow: Workflow, rng: random.Random) -> Node:
    condition = _candidate(workflow, workflow.spec.record, rng)
    return _with_rule(workflow, "urgent rule", condition, "transfer", urgent=True)


def _excusable(workflow: Workflow) -> list[expr.Expr]:
    """Rules an exception may be made from: on the record, not urgent, not claimed to hold."""
    marks = ("hidden", "urgent", "claim", "exception")
    found = [n.spec["condition"] for n in _guards(workflow) if not any(n.spec.get(mark) for mark in marks)]
    return list({condition["field"]: condition for condition in found}.values())


def _exception(workflow: Workflow, rng: random.Random) -> Node:
    rule = rng.choice(_excusable(workflow))
    condition = _candidate(workflow, workflow.spec.record, rng)

    def excuse(node: Node) -> Node:
        holds, fails = node.children
        spec = {"condition": condition, "otherwise": node.spec["otherwise"], "hidden": False, "exception": True}
        return dataclasses.replace(node, children=(holds, Node("guard", spec, (holds, fails))))

    return tree.rewrite(workflow.tree, lambda n: n.kind == "guard" and n.spec["condition"] == rule, excuse)


def _claimable(workflow: Workflow) -> list[expr.Expr]:
    """Rules a user may claim to meet: those that end in a refusal the user can argue with, and have no exception."""
    found = [
        n.spec["condition"]
        for n in _guards(workflow)
        if n.spec["otherwise"] == "decline" and not n.spec.get("exception") and n.child("fails").kind == "terminal"
    ]
    return list({condition["field"]: condition for condition in found}.values())


def _misdirect(workflow: Workflow, rng: random.Random) -> Node:
    rule = rng.choice(_claimable(workflow))

    def mark(node: Node) -> Node:
        if node.kind == "guard" and node.spec["condition"] == rule:
            node = dataclasses.replace(node, spec={**node.spec, "claim": True})
        return dataclasses.replace(node, children=tuple(mark(child) for child in node.children))

    return mark(workflow.tree)


def _missing(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the slot is the action's
    return _insert(workflow, "ask", lambda rest: Node("ask", {"slot": workflow.action.slot}, (rest, rest)))


def _confirm(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: consent has one form
    return _insert(workflow, "consent", lambda rest: Node("confirm", {}, (rest, tree.terminal("stop"))))


def _amend(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: what is changed is the detail

    def review(accepted: Node) -> Node:
        return Node("review", {}, (accepted, tree.terminal("stop"), accepted))

    if not _has(workflow, "confirm"):
        return _insert(workflow, "consent", review)
    return tree.rewrite(workflow.tree, lambda n: n.kind == "confirm", lambda n: review(n.child("accepted")))


def _transient(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the edges are the ways a write can go
    down = tree.terminal("transfer", "unavailable")
    return _insert(workflow, "attempt", lambda write: Node("attempt", {}, (write, write, write, down)))


def _ambiguous(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: who owns the record is what the user says instead of its identifier
    return Node("find", {"entity": workflow.spec.record.kind}, (workflow.tree, workflow.tree))


def _several(count: int, together: bool) -> Callable[[Workflow, random.Random], Node]:
    return lambda workflow, rng: Node("goals", {"count": count, "together": together}, (workflow.tree,))


def _single(workflow: Workflow) -> bool:
    """Whether the tree is small, about one request whose user names the record, claims and amends nothing."""
    plain = not _has(workflow, "goals", "find", "review") and not _marked(workflow, "claim")
    return plain and len(tree.branches(workflow.tree)) <= MAX_BRANCHES // 4


OPERATORS: dict[str, Operator] = {
    o.name: o
    for o in (
        # Precondition guard: a condition on the record the user named.
        Operator("guard", ("guard", "action"), ("missed_guard",), lambda w: _free(w, w.spec.record), _guard),
        # Hidden ineligibility: the request looks legal until the linked owner record is read.
        Operator("hidden", ("guard", "action"), ("missed_guard", "skipped"), lambda w: _free(w, w.spec.owner), _hidden),
        # Missing information: the user may leave out a detail that only they know.
        Operator("missing", ("ask", "terminal"), ("invented_argument", "skipped"), lambda w: not _has(w, "ask"),
                 _missing),
        # Confirmation before a write, which the user may refuse.
        Operator("confirm", ("confirm", "terminal"), ("gave_in", "skipped"), lambda w: not _has(w, "confirm", "review"),
                 _confirm),
        # A guard on a number, whose states lie at its limit or right beside it.
        Operator("boundary", ("guard",), ("missed_guard", "refused_too_much"),
                 lambda w: len(_used(w)) < MAX_RULES and bool(_boundaries(w, random.Random(0))), _boundary),
        # Escalation: what goes to a person whatever else the rules say.
        Operator("escalate", ("guard",), ("missed_guard", "wrong_refusal"),
                 lambda w: not _marked(w, "urgent") and _free(w, w.spec.record), _escalate),
        # Exception: a second condition on the record that excuses a failed rule.
        Operator("exception", ("guard",), ("refused_too_much", "missed_guard"),
                 lambda w: not _marked(w, "exception") and bool(_excusable(w)) and _free(w, w.spec.record)
                 and _roomy(w), _exception),
        # Extra hop: the deciding field lies one lookup beyond the owner.
        Operator("hop", ("action", "guard"), ("missed_guard", "skipped"),
                 lambda w: _free(w, w.spec.link) and not _reads(w, w.spec.link.kind), _hop),
        # Misdirection: the user claims that a rule holds, insists when refused, then pleads.
        Operator("misdirect", ("guard", "terminal"), ("gave_in", "missed_guard"),
                 lambda w: not _has(w, "goals") and not _marked(w, "claim") and bool(_claimable(w)), _misdirect),
        # Confirmation that the user may also answer by changing a detail.
        Operator("amend", ("confirm", "review"), ("gave_in", "invented_argument", "skipped"),
                 lambda w: not _has(w, "review", "goals") and _roomy(w), _amend),
        # Transient error: the write is not answered, and may or may not have been made.
        Operator("transient", ("terminal", "attempt"), ("wrote_twice", "quit"),
                 lambda w: not _has(w, "attempt") and len(tree.branches(w.tree)) <= MAX_BRANCHES // 4, _transient),
        # Ambiguity: the user says whose record it is, and that owner may have two.
        Operator("ambiguous", ("action", "find"), ("wrong_record", "skipped"),
                 lambda w: not _has(w, "find", "goals") and _roomy(w), _ambiguous),
        # Multi-intent: two records in one request, of which one may be legal and the other not.
        Operator("multi", ("terminal",), ("quit", "wrong_record", "refused_too_much"), _single, _several(2, True)),
        # Long horizon: further requests once the first is settled, "the same way".
        Operator("horizon", ("terminal",), ("quit", "wrong_record"), _single, _several(3, False)),
    )
}  # fmt: skip


def select(names: str) -> list[Operator]:
    """The operators of a comma-separated list, or all for "all". Raises ValueError naming an unknown one."""
    wanted = list(OPERATORS) if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in OPERATORS]
    if unknown or not wanted:
        known = ", ".join(OPERATORS)
        raise ValueError(f"synth.operators: unknown {unknown or names!r}, expected 'all' or some of {known}")
    return [OPERATORS[n] for n in wanted]


def expand(workflow: Workflow, operator: Operator, seed: int) -> Workflow:
    """The workflow grown by one application of `operator`. Raises ValueError if it does not apply."""
    if not operator.applies(workflow):
        raise ValueError(f"operator {operator.name} does not apply to {workflow.id}")
    rng = random.Random(f"{seed}/{workflow.id}/{operator.name}")
    return workflow.grown(operator.apply(workflow, rng), operator.name)
