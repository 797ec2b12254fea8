"""Operators: how a behaviour tree grows. Each says when it applies and returns the grown tree.

Every tree keeps one spine: read the record, rules on the record, read the owner, rules on the owner, ask for what is
missing, obtain consent, write. An operator inserts its node at its place on the spine, on every path that gets there.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from synth import domains, expr, tree
from synth.tree import Node
from synth.workflow import Workflow

MAX_RULES = 4  # rules per policy: beyond that the text outgrows what one read of the record can settle


@dataclasses.dataclass(frozen=True)
class Operator:
    """`applies(workflow)`, `apply(workflow, rng) -> tree`; `answers`: the node kinds whose failure calls for it."""

    name: str
    answers: tuple[str, ...]
    applies: Callable[[Workflow], bool]
    apply: Callable[[Workflow, random.Random], Node]


def _used(workflow: Workflow) -> set[str]:
    return {f for n in tree.nodes(workflow.tree) if n.kind == "guard" for f in expr.fields(n.spec["condition"])}


def _has(workflow: Workflow, kind: str) -> bool:
    return any(n.kind == kind for n in tree.nodes(workflow.tree))


def _is_write(node: Node) -> bool:
    return node.kind == "terminal" and node.spec["outcome"] == "write"


def _after_rules(node: Node) -> bool:
    return node.kind in ("ask", "confirm") or _is_write(node)


def _rule(workflow: Workflow, entity: domains.Entity, hidden: bool, rng: random.Random, rest: Node) -> Node:
    condition = domains.guard_candidates(workflow.spec, entity, _used(workflow), rng)[0]
    otherwise = rng.choice(("decline", "transfer"))
    reason = condition["field"].split(".")[1]
    spec = {"condition": condition, "otherwise": otherwise, "hidden": hidden}
    return Node("guard", spec, (rest, tree.terminal(otherwise, reason)))


def _free(workflow: Workflow, entity: domains.Entity) -> bool:
    used = _used(workflow)
    return len(used) < MAX_RULES and any(f"{entity.kind}.{f}" not in used for f in entity.fields)


def _guard(workflow: Workflow, rng: random.Random) -> Node:
    record = workflow.spec.record

    def past(node: Node) -> bool:
        on_record = node.kind == "guard" and not node.spec["hidden"]
        reads_record = node.kind == "action" and node.spec["entity"] == record.kind
        return not on_record and not reads_record and not _is_exit(node)

    # One draw for all paths: the rule is the same wherever the tree comes to it.
    state = rng.getstate()

    def insert(rest: Node) -> Node:
        rng.setstate(state)
        return _rule(workflow, record, False, rng, rest)

    return tree.rewrite(workflow.tree, past, insert)


def _is_exit(node: Node) -> bool:
    return node.kind == "terminal" and not _is_write(node)


def _hidden(workflow: Workflow, rng: random.Random) -> Node:
    owner = workflow.spec.owner
    known = any(n.kind == "action" and n.spec["entity"] == owner.kind for n in tree.nodes(workflow.tree))
    state = rng.getstate()

    def insert(rest: Node) -> Node:
        rng.setstate(state)
        rule = _rule(workflow, owner, True, rng, rest)
        return rule if known else Node("action", {"entity": owner.kind}, (rule,))

    return tree.rewrite(workflow.tree, _after_rules, insert)


def _missing(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the slot is the action's
    ask = {"slot": workflow.action.slot}
    return tree.rewrite(
        workflow.tree, lambda n: n.kind == "confirm" or _is_write(n), lambda rest: Node("ask", ask, (rest, rest))
    )


def _confirm(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: consent has one form
    return tree.rewrite(workflow.tree, _is_write, lambda write: Node("confirm", {}, (write, tree.terminal("stop"))))


OPERATORS: dict[str, Operator] = {
    o.name: o
    for o in (
        # Precondition guard: a condition on the record the user named.
        Operator("guard", ("guard", "action"), lambda w: _free(w, w.spec.record), _guard),
        # Hidden ineligibility: the request looks legal until the linked owner record is read.
        Operator("hidden", ("guard", "action"), lambda w: _free(w, w.spec.owner), _hidden),
        # Missing information: the user may leave out a detail that only they know.
        Operator("missing", ("ask", "terminal"), lambda w: not _has(w, "ask"), _missing),
        # Confirmation before a write, which the user may refuse.
        Operator("confirm", ("confirm", "terminal"), lambda w: not _has(w, "confirm"), _confirm),
    )
}


def select(names: str) -> list[Operator]:
    """The operators of a comma-separated list. Raises ValueError naming an unknown one."""
    wanted = [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in OPERATORS]
    if unknown or not wanted:
        raise ValueError(f"synth.operators: unknown {unknown or names!r}, expected some of {', '.join(OPERATORS)}")
    return [OPERATORS[n] for n in wanted]


def expand(workflow: Workflow, operator: Operator, seed: int) -> Workflow:
    """The workflow grown by one application of `operator`. Raises ValueError if it does not apply."""
    if not operator.applies(workflow):
        raise ValueError(f"operator {operator.name} does not apply to {workflow.id}")
    rng = random.Random(f"{seed}/{workflow.id}/{operator.name}")
    return workflow.grown(operator.apply(workflow, rng), operator.name)
