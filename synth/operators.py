"""Operators: how a behaviour tree grows. Each operator tells when it applies, and returns the grown tree.

Every path of every tree visits its nodes in the order of one spine (PLACES): find the record, read it, apply rules to
it, read its owner, apply rules to the owner, do the same for the record that the owner is linked to, ask for missing
details, obtain consent, write. An operator either inserts a node at its place on the spine, on every path that gets
there, or marks an existing node. Inversion (synth/inversion/) defines what nodes and marks mean for state, user,
rubric and policy text.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from synth.trees import domains, expr, tree
from synth.trees.tree import Node
from synth.trees.workflow import Workflow

STANDING = 4  # rules with which a business's workflow begins to grow; with fewer, to cite the first one passes often
MAX_BRANCHES = 64  # at most so many branches per tree after an operator that multiplies them

PLACES = (
    "goals", "find", "read record", "urgent rule", "rule on record", "read owner", "rule on owner", "read link",
    "rule on link", "ask", "tell", "consent", "attempt", "write",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operator:
    """A way of growing a tree, and the failures that suggest it.

    name: the key in OPERATORS.
    answers: kinds of the nodes at which episodes failed that suggest this operator.
    cures: kinds of failure (synth/growth/failures.py) that suggest this operator.
    applies: workflow -> whether the operator can be applied to its tree.
    apply: (workflow, random generator) -> the grown tree.
    """

    name: str
    answers: tuple[str, ...]
    cures: tuple[str, ...]
    applies: Callable[[Workflow], bool]
    apply: Callable[[Workflow, random.Random], Node]


def _guards(workflow: Workflow) -> list[Node]:
    return [n for n in tree.nodes(workflow.tree) if n.kind == "guard"]


def _used(workflow: Workflow) -> set[str]:
    ruled = {f for n in _guards(workflow) for f in expr.fields(n.spec["condition"])}
    return ruled | {n.spec["field"] for n in tree.nodes(workflow.tree) if n.kind == "choose"}


def _has(workflow: Workflow, *kinds: str) -> bool:
    return any(n.kind in kinds for n in tree.nodes(workflow.tree))


def _marked(workflow: Workflow, mark: str) -> bool:
    return any(n.spec.get(mark) for n in _guards(workflow))


def _reads(workflow: Workflow, kind: str) -> bool:
    return any(n.kind == "action" and n.spec["entity"] == kind for n in tree.nodes(workflow.tree))


def _roomy(workflow: Workflow) -> bool:
    """Whether the tree stays within MAX_BRANCHES if its number of branches doubles."""
    return len(tree.branches(workflow.tree)) <= MAX_BRANCHES // 2


def _place(node: Node, workflow: Workflow) -> str:
    """A node's place on the spine (one of PLACES); "exit" for a leaf that is not the write."""
    level = {entity.kind: name for entity, name in zip(workflow.spec.entities, ("record", "owner", "link"))}
    if node.kind == "action":
        return f"read {level[node.spec['entity']]}"
    if node.kind == "guard":
        if node.spec.get("urgent"):
            return "urgent rule"
        return f"rule on {level[node.spec['condition']['field'].split('.')[0]]}"
    if node.kind == "terminal":
        return "write" if node.spec["outcome"] == "write" else "exit"
    return {"confirm": "consent", "review": "consent", "choose": "find"}.get(node.kind, node.kind)


def _insert(workflow: Workflow, place: str, make: Callable[[Node], Node]) -> Node:
    """The tree in which `make(rest)` replaces, on every path, the subtree `rest` that comes after `place`."""

    def follows(node: Node) -> bool:
        found = _place(node, workflow)
        return found != "exit" and PLACES.index(found) > PLACES.index(place)

    return tree.rewrite(workflow.tree, follows, make)


@dataclasses.dataclass(frozen=True)
class RuleKind:
    """What distinguishes the guards that a rule operator inserts."""

    entity: str  # the entity that the condition is about: "record" | "owner" | "link"
    place: str  # one of PLACES
    mark: str = ""  # one of tree.MARKS, "" for none
    otherwise: tuple[str, ...] = ("decline", "transfer")  # outcomes that may follow where the condition fails


RULES = {
    "guard": RuleKind("record", "rule on record"),
    "hidden": RuleKind("owner", "rule on owner"),
    "hop": RuleKind("link", "rule on link"),
    "boundary": RuleKind("record", "rule on record", "boundary"),
    "escalate": RuleKind("record", "urgent rule", "urgent", ("transfer",)),
}


def candidates(workflow: Workflow, name: str, rng: random.Random | None = None) -> list[expr.Expr]:
    """Conditions that the rule operator `name` (a key of RULES) may add to a workflow, one per unused field.

    Without `rng` the draws are the same in every call. Raises KeyError for a name that is not in RULES.
    """
    rng, entity = rng or random.Random(0), getattr(workflow.spec, RULES[name].entity)
    if name == "boundary":
        return domains.boundary_candidates(entity, _used(workflow), rng)
    return domains.guard_candidates(workflow.spec, entity, _used(workflow), rng)


def with_rule(workflow: Workflow, name: str, condition: expr.Expr, otherwise: str) -> Node:
    """The tree with the guard of the rule operator `name` (a key of RULES) at its place.

    Reads of the records that the condition depends on are inserted before the guard, where they are missing.

    Args:
      workflow: the tree and its origin.
      name: the rule operator.
      condition: what the rule requires (synth/trees/expr.py).
      otherwise: the outcome where the condition fails, "decline" or "transfer".
    Raises:
      ValueError: the operator may not add this condition, or this outcome, to this workflow.
      KeyError: `name` is not in RULES.
    """
    rule, spec = RULES[name], workflow.spec
    entity = getattr(spec, rule.entity)
    _check_rule(workflow, name, entity, condition, otherwise)
    marks = {rule.mark: True} if rule.mark else {}
    guard = {"condition": condition, "otherwise": otherwise, "hidden": entity is not spec.record, **marks}
    to_link = [spec.link] if spec.record_links else [spec.owner, spec.link]
    needed = {"record": [], "owner": [spec.owner], "link": to_link}[rule.entity]

    def insert(rest: Node) -> Node:
        found = Node("guard", guard, (rest, tree.terminal(otherwise, condition["field"].split(".")[1])))
        # Each path reads every needed entity once. Reads that the tree lacks are inserted right before the rule.
        for missing in reversed([e for e in needed if not _reads(workflow, e.kind)]):
            found = Node("action", {"entity": missing.kind}, (found,))
        return found

    return _insert(workflow, rule.place, insert)


def _check_rule(workflow: Workflow, name: str, entity: domains.Entity, condition: expr.Expr, otherwise: str) -> None:
    """Raises ValueError naming what is wrong with a proposed rule."""
    expr.check(condition)
    free = [f"{entity.kind}.{f}" for f in entity.fields if f"{entity.kind}.{f}" not in _used(workflow)]
    if condition.get("field") not in free:
        raise ValueError(f"operator {name}: condition {condition} must be on one field, one of {', '.join(free)}")
    if otherwise not in RULES[name].otherwise:
        raise ValueError(f"operator {name}: otherwise {otherwise!r}, expected one of {RULES[name].otherwise}")
    field, values = condition["field"], entity.fields[condition["field"].split(".")[1]]
    if isinstance(values[0], int) != (condition["op"] in ("le", "ge", "lt", "gt")):
        raise ValueError(f"operator {name}: numbers are compared by le, ge, lt or gt and words by eq, ne or in")
    if name == "boundary" and not isinstance(values[0], int):
        raise ValueError(f"operator {name}: {field} is not a number")
    wanted = condition["value"] if condition["op"] == "in" else [condition["value"]]
    if not isinstance(values[0], int) and (not set(wanted) <= set(values) or len(set(wanted)) < len(wanted)):
        raise ValueError(f"operator {name}: {wanted} for {field}, expected some of {values}, each once")
    if len({expr.holds(condition, {field: value}) for value in values}) < 2:
        raise ValueError(f"operator {name}: {condition} does not tell the values of {field} apart: {values}")


def _rule(name: str) -> Callable[[Workflow, random.Random], Node]:
    """The `apply` of a rule operator."""

    def apply(workflow: Workflow, rng: random.Random) -> Node:
        condition = candidates(workflow, name, rng)[0]
        return with_rule(workflow, name, condition, rng.choice(RULES[name].otherwise))

    return apply


def _free(workflow: Workflow, entity: domains.Entity) -> bool:
    used = _used(workflow)
    return len(used) < workflow.spec.most_rules and any(f"{entity.kind}.{f}" not in used for f in entity.fields)


def _excusable(workflow: Workflow) -> list[expr.Expr]:
    """Conditions of the rules to which an exception can be added: on the record, not urgent, not claimed to hold."""
    marks = ("hidden", "urgent", "claim", "exception")
    found = [n.spec["condition"] for n in _guards(workflow) if not any(n.spec.get(mark) for mark in marks)]
    return list({condition["field"]: condition for condition in found}.values())


def _exception(workflow: Workflow, rng: random.Random) -> Node:
    rule = rng.choice(_excusable(workflow))
    condition = candidates(workflow, "guard", rng)[0]

    def excuse(node: Node) -> Node:
        holds, fails = node.children
        spec = {"condition": condition, "otherwise": node.spec["otherwise"], "hidden": False, "exception": True}
        return dataclasses.replace(node, children=(holds, Node("guard", spec, (holds, fails))))

    return tree.rewrite(workflow.tree, lambda n: n.kind == "guard" and n.spec["condition"] == rule, excuse)


def _claimable(workflow: Workflow) -> list[expr.Expr]:
    """Conditions of the rules that a user may falsely claim to meet.

    Such a rule leads to "decline", because the user cannot argue after a transfer, and it has no exception.
    """
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
    del rng  # nothing to draw: the action determines the slot
    return _insert(workflow, "ask", lambda rest: Node("ask", {"slot": workflow.action.slot}, (rest, rest)))


def _confirm(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: consent has one form
    return _insert(workflow, "consent", lambda rest: Node("confirm", {}, (rest, tree.terminal("stop"))))


def _amend(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the user always changes the action's slot

    def review(accepted: Node) -> Node:
        return Node("review", {}, (accepted, tree.terminal("stop"), accepted))

    if not _has(workflow, "confirm"):
        return _insert(workflow, "consent", review)
    return tree.rewrite(workflow.tree, lambda n: n.kind == "confirm", lambda n: review(n.child("accepted")))


def _transient(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the edges cover every way in which a write can turn out
    down = tree.terminal("transfer", "unavailable")
    return _insert(workflow, "attempt", lambda write: Node("attempt", {}, (write, write, write, down)))


def _ambiguous(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the user always names the owner instead of the record's identifier
    return Node("find", {"entity": workflow.spec.record.kind}, (workflow.tree, workflow.tree))


def _tell(workflow: Workflow, rng: random.Random) -> Node:
    del rng  # nothing to draw: the action determines the amount
    return _insert(workflow, "tell", lambda rest: Node("tell", {}, (rest,)))


def _choosable(workflow: Workflow) -> list[str]:
    """The numbers by which the user may single out the record: those that no rule is about."""
    return [field for field in workflow.spec.comparable() if field not in _used(workflow)]


def _choose(workflow: Workflow, rng: random.Random) -> Node:
    spec = {"field": rng.choice(_choosable(workflow)), "most": rng.random() < 0.5}
    return Node("choose", spec, (workflow.tree,))


def _several(count: int, together: bool) -> Callable[[Workflow, random.Random], Node]:
    return lambda workflow, rng: Node("goals", {"count": count, "together": together}, (workflow.tree,))


def _single(workflow: Workflow) -> bool:
    """Whether the tree is small and about one request, in which the user names the record and claims nothing.

    Nor may the user amend the request when asked for consent.
    """
    plain = not _has(workflow, "goals", "find", "choose", "review") and not _marked(workflow, "claim")
    return plain and len(tree.branches(workflow.tree)) <= MAX_BRANCHES // 4


OPERATORS: dict[str, Operator] = {
    o.name: o
    for o in (
        # Precondition guard: a condition on the record the user named.
        Operator("guard", ("guard", "action"), ("missed_guard",), lambda w: _free(w, w.spec.record), _rule("guard")),
        # Hidden ineligibility: the request looks legal until the linked owner record is read.
        Operator("hidden", ("guard", "action"), ("missed_guard", "skipped"), lambda w: _free(w, w.spec.owner),
                 _rule("hidden")),
        # Missing information: the user may leave out a detail that only they know.
        Operator("missing", ("ask", "terminal"), ("invented_argument", "skipped"), lambda w: not _has(w, "ask"),
                 _missing),
        # Confirmation before a write, which the user may refuse.
        Operator("confirm", ("confirm", "terminal"), ("gave_in", "skipped"), lambda w: not _has(w, "confirm", "review"),
                 _confirm),
        # A guard on a number, whose states lie at its limit or right beside it.
        Operator("boundary", ("guard",), ("missed_guard", "refused_too_much"),
                 lambda w: len(_used(w)) < w.spec.most_rules and bool(candidates(w, "boundary")),
                 _rule("boundary")),
        # Escalation: a rule that is checked before all others and, if it fails, hands over to a person.
        Operator("escalate", ("guard",), ("missed_guard", "wrong_refusal"),
                 lambda w: not _marked(w, "urgent") and _free(w, w.spec.record), _rule("escalate")),
        # Exception: a second condition on the record that excuses a failed rule.
        Operator("exception", ("guard",), ("refused_too_much", "missed_guard"),
                 lambda w: not _marked(w, "exception") and bool(_excusable(w)) and _free(w, w.spec.record)
                 and _roomy(w), _exception),
        # Extra hop: the deciding field lies one lookup beyond the owner.
        Operator("hop", ("action", "guard"), ("missed_guard", "skipped"),
                 lambda w: _free(w, w.spec.link) and not _reads(w, w.spec.link.kind), _rule("hop")),
        # Misdirection: the user claims that a rule holds, insists when refused, then pleads.
        Operator("misdirect", ("guard", "terminal"), ("gave_in", "missed_guard"),
                 lambda w: not _has(w, "goals") and not _marked(w, "claim") and bool(_claimable(w)), _misdirect),
        # Confirmation that the user may also answer by changing a detail.
        Operator("amend", ("confirm", "review"), ("gave_in", "invented_argument", "skipped"),
                 lambda w: not _has(w, "review", "goals") and _roomy(w), _amend),
        # Transient error: the write is not answered, and may or may not have been made.
        Operator("transient", ("terminal", "attempt"), ("wrote_twice", "quit"),
                 lambda w: not _has(w, "attempt") and len(tree.branches(w.tree)) <= MAX_BRANCHES // 4, _transient),
        # Ambiguity: the user only says whose record it is, and that owner may have two.
        Operator("ambiguous", ("action", "find"), ("wrong_record", "skipped"),
                 lambda w: not _has(w, "find", "choose", "goals") and _roomy(w), _ambiguous),
        # Comparison: the user singles out one of several records by a number that only the records hold.
        Operator("choose", ("choose", "action"), ("wrong_record", "skipped"),
                 lambda w: not _has(w, "find", "choose", "goals") and bool(_choosable(w)), _choose),
        # An amount, which follows from the records, that the user must be told before the write.
        Operator("tell", ("tell", "terminal"), ("skipped", "invented_argument"),
                 lambda w: not _has(w, "tell") and w.spec.tells(w.action), _tell),
        # Multi-intent: two records in one request, of which one may be legal and the other not.
        Operator("multi", ("terminal",), ("quit", "wrong_record", "refused_too_much"), _single, _several(2, True)),
        # Long horizon: the user makes further requests one by one, each once the one before is settled.
        Operator("horizon", ("terminal",), ("quit", "wrong_record"), _single, _several(3, False)),
    )
}  # fmt: skip


def select(names: str) -> list[Operator]:
    """The operators in a comma-separated list of names, or all of them for "all".

    Raises ValueError for an empty list or unknown names (the message names them).
    """
    wanted = list(OPERATORS) if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in OPERATORS]
    if unknown or not wanted:
        known = ", ".join(OPERATORS)
        raise ValueError(f"synth.operators: unknown {unknown or names!r}, expected 'all' or some of {known}")
    return [OPERATORS[n] for n in wanted]


def expand(workflow: Workflow, operator: Operator, seed: int) -> Workflow:
    """The next round's workflow: the tree grown by one application of `operator`.

    Same workflow, operator and seed give the same result. Raises ValueError if the operator does not apply.
    """
    if not operator.applies(workflow):
        raise ValueError(f"operator {operator.name} does not apply to {workflow.id}")
    rng = random.Random(f"{seed}/{workflow.id}/{operator.name}")
    if len(tree.branches(workflow.tree)) == 1:
        workflow = _with_standing(workflow)
    return workflow.grown(operator.apply(workflow, rng), operator.name)


def _with_standing(workflow: Workflow) -> Workflow:
    """The workflow with the standing rules on its action, which come with the first growth of a linear tree."""
    for condition, otherwise in workflow.spec.standing(workflow.action):
        kind = condition["field"].split(".")[0]
        name = {workflow.spec.record.kind: "guard", workflow.spec.owner.kind: "hidden"}.get(kind, "hop")
        if condition["field"] not in _used(workflow):
            grown = with_rule(workflow, name, condition, otherwise)
            workflow = dataclasses.replace(workflow, tree=tree.number(grown))
    rng = random.Random(f"standing/{workflow.root}")
    while workflow.spec.standing(workflow.action) and len(_used(workflow)) < STANDING:
        condition = candidates(workflow, "guard", rng)[0]
        grown = with_rule(workflow, "guard", condition, rng.choice(RULES["guard"].otherwise))
        workflow = dataclasses.replace(workflow, tree=tree.number(grown))
    return workflow
