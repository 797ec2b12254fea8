"""Inversion: from one branch of a tree to the task that takes it.

The state is solved from the branch's conditions (a rule that fails must be the only one that does, so that exactly
this leaf is right and its reason is unambiguous); the user script says what the branch needs said and withheld; the
policy text states every rule of the whole tree, as conditions and never as procedures, so it cannot leak the branch;
subgoals, violations and the oracle follow from the nodes on the way.
"""

from __future__ import annotations

import random
from typing import Any

from synth import domains, expr, personas, script, tree
from synth.task import Task
from synth.tree import Branch
from synth.workflow import Workflow

DISTRACTORS = 2  # further records of each collection

_INTROS = ("You handle {domain}.", "You work for {domain}.", "You are the {domain} desk.")
_RULES = ("Allowed only if {rule}, else {outcome}.", "Only if {rule}, else {outcome}.",
          "Needs: {rule}, else {outcome}.")  # fmt: skip
_OWNER_RULES = ("Only if the {owner}'s {rule}, else {outcome}.", "Needs: the {owner}'s {rule}, else {outcome}.")
_CONSENT = ("Changes need the user's consent.", "No change without the user's consent.")


def rules(root: tree.Node) -> list[tree.Node]:
    """The guard nodes in the order the policy states them (each rule once, though several paths may meet it)."""
    found: dict[str, tree.Node] = {}
    for node in tree.nodes(root):
        if node.kind == "guard":
            found.setdefault(node.spec["condition"]["field"], node)
    return list(found.values())


def _wording(root: str) -> tuple[str, str, str, str]:
    """The root's templates: introduction, rule on the record, rule on the owner, consent."""
    rng = random.Random(f"policy/{root}")
    return rng.choice(_INTROS), rng.choice(_RULES), rng.choice(_OWNER_RULES), rng.choice(_CONSENT)


def rule_text(workflow: Workflow, condition: expr.Expr, outcome: str, hidden: bool) -> str:
    """One rule of a policy text, in the wording of the workflow's root; `hidden` rules are on the owner's record."""
    _, rule, owner_rule, _ = _wording(workflow.root)
    template = owner_rule if hidden else rule
    return template.format(rule=expr.render(condition), outcome=outcome, owner=workflow.spec.owner.kind)


def policy_text(workflow: Workflow) -> str:
    """The standard operating procedure of a whole tree; its wording is a function of the root."""
    intro, _, _, consent = _wording(workflow.root)
    lines = [intro.format(domain=workflow.domain)]
    for node in rules(workflow.tree):
        lines.append(rule_text(workflow, node.spec["condition"], node.spec["otherwise"], node.spec["hidden"]))
    if any(n.kind == "confirm" for n in tree.nodes(workflow.tree)):
        lines.append(consent)
    return "\n".join(lines)


def invert(workflow: Workflow, branch: Branch, variant: int, seed: int) -> Task:
    """The task whose right outcome is this branch's leaf.

    Args:
      workflow: the tree and its origin.
      branch: a path of `workflow.tree`.
      variant: number of this task among those of the same branch; other state, wording and identifiers each.
      seed: the run's seed.
    Raises:
      ValueError: no state satisfies the branch's conditions.
    """
    leaf = branch[-1][0]
    name = f"{workflow.id}/{leaf.id}/{variant}"
    rng = random.Random(f"{seed}/{name}")
    spec, action, edges = workflow.spec, workflow.action, {node.kind: edge for node, edge in branch}
    persona = rng.choice(personas.personas(workflow.split))
    state, record_id, owner_id = _state(workflow, branch, rng)
    choice = rng.choice(action.choices)
    # A branch that never comes to the question says nothing about it; were the detail always given there, a withheld
    # one would mean that no rule fails.
    may_ask = any(n.kind == "ask" for n in tree.nodes(workflow.tree))
    given = edges["ask"] == "given" if "ask" in edges else not may_ask or rng.random() < 0.5
    user = {
        "request": persona.ask(action.verb, spec.record.kind, record_id, {action.slot: choice} if given else {}),
        "record_id": record_id,
        "verb": action.verb,
        "slots": {action.slot: choice},
        "withheld": [] if given else [action.slot],
        "accepts": edges.get("confirm", "accepted") == "accepted",
        "yes": persona.yes,
        "no": persona.no,
    }
    read = {n.spec["entity"] for n in tree.nodes(workflow.tree) if n.kind == "action"}
    entities = [spec.record.kind, *([spec.owner.kind] if spec.owner.kind in read else [])]
    schemas, effects = domains.tool_specs(spec, action, entities)
    record = state[spec.record.collection][record_id]
    args = {spec.record.key: record_id, action.copied: record[action.copied], action.slot: choice}
    owner = state[spec.owner.collection][owner_id]
    values = {f"{spec.record.kind}.{f}": record[f] for f in spec.record.fields}
    values |= {f"{spec.owner.kind}.{f}": owner[f] for f in spec.owner.fields}
    case = script.Case(spec, action, record_id, owner_id, values, choice, given, user["accepts"])
    return Task(
        id=name,
        root=workflow.root,
        parent=workflow.parent,
        operator=workflow.operator,
        seed=seed,
        round=workflow.round,
        domain=workflow.domain,
        persona=persona.name,
        branch=[node.id for node, _ in branch],
        legal=leaf.spec["outcome"] == "write",
        policy=policy_text(workflow),
        tools=schemas,
        effects=effects,
        state=state,
        user=user,
        subgoals=_subgoals(workflow, branch, case, args),
        violations=_violations(workflow, branch, args),
        oracle=script.walk(workflow.tree, case, script.Judgement()),
        tree=tree.to_dict(workflow.tree),
    )


def constraints(workflow: Workflow, branch: Branch) -> list[expr.Expr]:
    """What the records must satisfy: the branch's rules as taken, every other rule of the policy holding."""
    failing = [node.spec["condition"]["field"] for node, edge in branch if edge == "fails"]
    conditions = [node.spec["condition"] for node in rules(workflow.tree)]
    return [expr.negate(c) if c["field"] in failing else c for c in conditions]


def _state(workflow: Workflow, branch: Branch, rng: random.Random) -> tuple[dict[str, dict[str, Any]], str, str]:
    """(state, id of the record in play, id of its owner)."""
    spec = workflow.spec
    solved = expr.solve(constraints(workflow, branch), spec.values(), rng)
    if solved is None:
        raise ValueError(f"{workflow.id}: no state satisfies the branch to {branch[-1][0].id}")
    record_ids, owner_ids = domains.draw_ids(1 + DISTRACTORS, rng)
    records, owners = {}, {}
    for record_id, owner_id in zip(record_ids, owner_ids):
        owners[owner_id] = domains.draw_record(spec.owner, owner_id, rng)
        drawn = domains.draw_record(spec.record, record_id, rng)
        records[record_id] = {spec.record.key: record_id, spec.owner.key: owner_id, **drawn}
    for reference, value in solved.items():
        kind, field = reference.split(".")
        (records[record_ids[0]] if kind == spec.record.kind else owners[owner_ids[0]])[field] = value
    # Sorted by id, so that the record in play has no special place.
    state = {spec.record.collection: dict(sorted(records.items())), spec.owner.collection: dict(sorted(owners.items()))}
    return state, record_ids[0], owner_ids[0]


def _subgoals(workflow: Workflow, branch: Branch, case: script.Case, args: dict[str, Any]) -> list[dict[str, Any]]:
    """One subgoal per thing the branch requires done, in branch order."""
    spec, action, found = workflow.spec, workflow.action, []

    def event(name: str, node: tree.Node, **match: Any) -> None:
        found.append({"name": name, "node": node.id, "weight": 1.0, "event": match})

    for node, edge in branch:
        if node.kind == "action":
            entity = spec.entity(node.spec["entity"])
            wanted = case.record_id if entity is spec.record else case.owner_id
            event(f"read_{entity.kind}", node, type="read", collection=entity.collection, id=wanted)
        elif node.kind == "ask" and edge == "missing":
            event(f"asked_{node.spec['slot']}", node, type="asked", slot=node.spec["slot"])
        elif node.kind == "confirm":
            event(f"consent_{edge}", node, type="confirm", answer=edge)
    leaf = branch[-1][0]
    outcome = leaf.spec["outcome"]
    if outcome == "write":
        path = f"{spec.record.collection}/{case.record_id}/{action.verb}_"
        delta = {path + action.copied: args[action.copied], path + action.slot: args[action.slot]}
        found.append({"name": case.domain.write_tool(action), "node": leaf.id, "weight": 2.0, "delta": delta})
    elif outcome in ("decline", "transfer"):
        match = {"type": outcome, "reason": leaf.spec["reason"]}
        found.append({"name": outcome, "node": leaf.id, "weight": 2.0, "event": match})
    return found


def _violations(workflow: Workflow, branch: Branch, args: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules whose breach makes the reward 0, each charged to the node it breaks."""
    leaf, found = branch[-1][0], []
    outcome, reason = leaf.spec["outcome"], leaf.spec["reason"]

    def event(name: str, node: tree.Node, match: dict[str, Any], **unless: Any) -> None:
        found.append({"name": name, "node": node.id, "event": match, **unless})

    guards = {node.spec["condition"]["field"].split(".")[1]: node for node, _ in branch if node.kind == "guard"}
    last = next((node for node, _ in reversed(branch) if node.kind in ("guard", "confirm")), leaf)
    # Refusing for a rule that holds is charged to that rule, any other wrong refusal to the leaf.
    for field, node in guards.items():
        for control in ("decline", "transfer"):
            if (control, field) != (outcome, reason):
                event(f"{control}_for_{field}", node, {"type": control, "reason": field})
    for control in ("decline", "transfer"):
        allowed = [*guards, *([reason] if control == outcome else [])]
        event(f"wrong_{control}", leaf, {"type": control, "reason": {"not_in": allowed}})
    if outcome == "write":
        event("other_write", leaf, {"type": "write", "args": {"not_in": [args]}})
    else:
        event("forbidden_write", last, {"type": "write"})
    for node, edge in branch:
        if node.kind == "confirm":
            consent = {"type": "confirm", "answer": "accepted"}
            event("write_without_consent", node, {"type": "write"}, unless_after=consent)
        elif node.kind == "ask" and edge == "missing":
            asked = {"type": "asked", "slot": node.spec["slot"]}
            event("invented_argument", node, {"type": "write"}, unless_after=asked)
    # A decision must rest on the record: no write and no refusal before it was read.
    first = branch[0][0]
    read = {"type": "read", "id": args[workflow.spec.record.key]}
    for control in ("write", "decline", "transfer"):
        event(f"{control}_before_read", first, {"type": control}, unless_after=read)
    return found
