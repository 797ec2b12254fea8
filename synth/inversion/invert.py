"""Inversion: makes the task for which a given branch of a tree is the right one.

- The state is solved from the branch's conditions. All other rules hold, so that exactly this leaf is right and its
  reason is unambiguous; only an urgent rule that fails leaves the others open, because it comes before them.
- The user script says what the branch needs to be said and withholds what it needs to be withheld.
- The policy text states every rule of the whole tree, as conditions and never as procedures. So it cannot reveal which
  branch is the right one.
- Subgoals and violations (rubric.py) and the oracle (script.py) follow from the nodes along the branch.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from synth import personas
from synth.business.view import Service
from synth.inversion import rubric, script, service
from synth.inversion.case import Case
from synth.inversion.conditions import constraints, rules, values
from synth.task import Task
from synth.trees import domains, expr, tree
from synth.trees.tree import Branch
from synth.trees.workflow import Workflow

DISTRACTORS = 2  # further records of each collection

_INTROS = ("You handle {domain}.", "You work for {domain}.", "You are the {domain} desk.")
_RULES = ("Allowed only if {rule}, else {outcome}.", "Only if {rule}, else {outcome}.",
          "Needs: {rule}, else {outcome}.")  # fmt: skip
_OWNER_RULES = ("Only if the {owner}'s {rule}, else {outcome}.", "Needs: the {owner}'s {rule}, else {outcome}.")
_CONSENT = ("Changes need the user's consent.", "No change without the user's consent.")
_EXEMPT = 'Exempt from "{rule}": {exception}.'
_URGENT = "Before all else: {rule}, else {outcome}."
_CLAIMS = "Records decide, not what users say."
_FIND = "If several {collection} match, the user says which."
_ATTEMPT = 'A change without an answer may have been made; none is made twice. After two tries transfer: "unavailable".'
_GOALS = "Requests are handled in the order they were made; a transfer hands over all that is left."
_INSIST = ("But the {claim}.", "I told you that the {claim}.", "You are wrong, the {claim}.")
_PLEAD = ("Please, just this once.", "I beg you, I need this.", "Please, make an exception for me.")


def _wording(workflow: Workflow) -> tuple[str, ...]:
    """The templates of a root's policy text: introduction, rule on the record, rule on another record, consent."""
    if workflow.wording:
        return workflow.wording
    rng = random.Random(f"policy/{workflow.root}")
    return rng.choice(_INTROS), rng.choice(_RULES), rng.choice(_OWNER_RULES), rng.choice(_CONSENT)


def rule_text(workflow: Workflow, condition: expr.Expr, outcome: str, hidden: bool) -> str:
    """One rule of a policy text, in the wording of the workflow's root.

    Args:
      workflow: the tree and its origin.
      condition: what the rule requires, on a single field.
      outcome: what follows where the condition fails.
      hidden: whether the rule is on the owner's or the linked record instead of the main one.
    """
    _, rule, owner_rule, _ = _wording(workflow)
    template = owner_rule if hidden else rule
    return template.format(rule=expr.render(condition), outcome=outcome, owner=condition["field"].split(".")[0])


def policy_text(workflow: Workflow, now: str = "") -> str:
    """The policy text (standard operating procedure) of a whole tree. All trees of one root share its wording.

    now: the task's day and time, which a business's manual states.
    """
    if isinstance(workflow.spec, Service):
        return service.policy(workflow, now)
    return "\n".join(line for line, _ in statements(workflow))


def statements(workflow: Workflow) -> list[tuple[str, tuple[str, ...]]]:
    """The lines of the policy text, each with the parts it must contain in any wording; () if any text will do."""
    intro, _, _, consent = _wording(workflow)
    kinds = {n.kind for n in tree.nodes(workflow.tree)}
    stated = rules(workflow.tree)
    found = [(intro.format(domain=workflow.domain), (workflow.domain,))]
    if "goals" in kinds:
        found.append(_fixed(_GOALS))
    for node in stated:
        found += _rule_lines(workflow, node)
    if any(node.spec.get("claim") for node in stated):
        found.append(_fixed(_CLAIMS))
    if "find" in kinds:
        found.append(_fixed(_FIND.format(collection=workflow.spec.record.collection)))
    if kinds & {"confirm", "review"}:
        found.append((consent, ()))
    if "attempt" in kinds:
        found.append(_fixed(_ATTEMPT))
    return found


def _fixed(line: str) -> tuple[str, tuple[str, ...]]:
    """A line that has only one wording."""
    return line, (line,)


def _rule_lines(workflow: Workflow, node: tree.Node) -> list[tuple[str, tuple[str, ...]]]:
    """The lines for a rule and its exception, if it has one. The exception's own guard node adds no lines."""
    condition, outcome, hidden = node.spec["condition"], node.spec["otherwise"], node.spec["hidden"]
    if node.spec.get("exception"):
        return []
    rule, (entity, field) = expr.render(condition), condition["field"].split(".")
    if node.spec.get("urgent"):
        return [_fixed(_URGENT.format(rule=rule, outcome=outcome))]
    lines = [(rule_text(workflow, condition, outcome, hidden), (rule, outcome, *([entity] if hidden else [])))]
    excuse = node.child("fails")
    if excuse.kind == "guard":
        lines.append(_fixed(_EXEMPT.format(rule=field, exception=expr.render(excuse.spec["condition"]))))
    return lines


def invert(workflow: Workflow, branch: Branch, variant: int, seed: int) -> Task:
    """The task in which this branch is the right one.

    Args:
      workflow: the tree and its origin.
      branch: a branch of `workflow.tree`.
      variant: number of this task among the tree's tasks; each has its own state, wording and identifiers.
      seed: the run's seed.
    Raises:
      ValueError: no state satisfies the branch's conditions.
    """
    segments = tree.segments(branch)
    name = f"{workflow.id}/{'+'.join(segment[-1][0].id for segment in segments)}/{variant}"
    rng = random.Random(f"{seed}/{name}")
    persona = _persona(rng, workflow.split)
    taken = [{node.kind: edge for node, edge in segment} for segment in segments]
    if isinstance(workflow.spec, Service):
        state, ids, now = service.state(workflow, segments, persona, rng)
        user = service.user(workflow, branch, taken, state, ids, now, rng)
    else:
        state, ids = _state(workflow, segments, rng)
        user = _user(workflow, branch, taken, state, ids, persona, rng)
    faults = {i: edges["attempt"] for i, edges in zip(ids, taken) if edges.get("attempt", "done") != "done"}
    return assemble(workflow, branch, name, seed, persona.name, state, user, faults)


def possible(workflow: Workflow, branch: Branch) -> bool:
    """Whether some state makes the branch the right one.

    Always so in the tiny dialect, where each goal has an owner of its own. The goals of a business's customer cannot
    both meet and break a rule on the customer.
    """
    if not isinstance(workflow.spec, Service):
        return True
    return service.solve(workflow, tree.segments(branch), random.Random(0)) is not None


def _user(
    workflow: Workflow,
    branch: Branch,
    taken: list[dict[str, str]],
    state: dict,
    ids: list[str],
    persona: personas.Persona,
    rng: random.Random,
) -> dict[str, Any]:
    """The user script (envs/user.py) for the branch. `taken`: for each goal, node kind -> edge taken."""
    spec, action = workflow.spec, workflow.action
    choice = rng.choice(action.choices)
    # If the branch ends before its "ask" node, the detail is withheld at random. If it were always given on such
    # branches, a withheld detail would reveal that no rule fails.
    may_ask = any(n.kind == "ask" for n in tree.nodes(workflow.tree))
    asked = [edge for node, edge in branch if node.kind == "ask"]
    given = asked[0] == "given" if asked else not may_ask or rng.random() < 0.5
    details = {action.slot: choice} if given else {}
    user = {
        "request": persona.ask(action.verb, spec.record.kind, ids[0], details),
        "record_id": ids[0],
        "verb": action.verb,
        "slots": {action.slot: choice},
        "withheld": [] if given else [action.slot],
        "accepts": _accepts(taken[0]),
        "yes": persona.yes,
        "no": persona.no,
    }
    if taken[0].get("review") == "amended":
        user["amends"] = {action.slot: rng.choice([c for c in action.choices if c != choice])}
    if workflow.tree.kind == "goals":
        # Goals after a transfer are never reached, so it does not matter what the user would answer there.
        accepts = [_accepts(edges) for edges in taken[1:]] + [True] * (len(ids) - len(taken))
        user["later"] = [{"record_id": i, "accepts": a} for i, a in zip(ids[1:], accepts)]
        if workflow.tree.spec["together"]:
            user["request"] = persona.ask(action.verb, spec.record.kind, ids[0], details, ids[1:])
        else:
            for goal in user["later"]:
                goal["request"] = f'Now {action.verb} {spec.record.kind} "{goal["record_id"]}" the same way.'
    if "find" in taken[0]:
        owner = state[spec.record.collection][ids[0]][spec.owner.key]
        user["find"] = {"key": spec.record.key, "owner_id": owner, "several": taken[0]["find"] == "several"}
        user["request"] = persona.ask(action.verb, f"the {spec.record.kind} of {spec.owner.kind}", owner, details)
    claimed = next((node.spec["condition"] for node in rules(workflow.tree) if node.spec.get("claim")), None)
    if claimed:
        claim = _claim(claimed, branch, spec.values_of(state, ids[0]), spec.values(), rng)
        user["request"] += f" The {claim}."
        user["insists"] = [rng.choice(_INSIST).format(claim=claim), rng.choice(_PLEAD)]
    return user


def _persona(rng: random.Random, split: str) -> personas.Persona:
    """The persona of a task. It must be the first draw from the task's generator (see `persona_of`)."""
    return rng.choice(personas.personas(split))


def persona_of(task: Task) -> personas.Persona:
    """The persona that speaks in a task. It is drawn again from seed and id, because a task stores only its name."""
    return _persona(random.Random(f"{task.seed}/{task.id}"), task.split)


def _accepts(edges: dict[str, str]) -> bool:
    """Whether the user consents on a path with these edges. True if the path does not reach a request for consent."""
    return "refused" not in (edges.get("confirm"), edges.get("review"))


def _claim(
    condition: expr.Expr, branch: Branch, values: dict[str, Any], domain: dict[str, tuple], rng: random.Random
) -> str:
    """The user's claim about the rule's field: its true value if the rule holds, else a value that would meet it."""
    field = condition["field"]
    fails = any(n.kind == "guard" and n.spec["condition"] == condition and edge == "fails" for n, edge in branch)
    claimed = rng.choice([v for v in domain[field] if expr.holds(condition, {field: v})]) if fails else values[field]
    return f'"{field.split(".")[1]}" is {expr.quote(claimed)}'


def tool_specs(workflow: Workflow) -> tuple[list[dict], dict[str, dict]]:
    """(OpenAI function schemas, tool name -> effect) for a tree. A task may add "faults" to the effect of the write."""
    spec, kinds = workflow.spec, {n.kind for n in tree.nodes(workflow.tree)}
    if isinstance(spec, Service):  # a business always has all of its tools
        schemas, effects = spec.tools
        return schemas, dict(effects)
    read = {n.spec["entity"] for n in tree.nodes(workflow.tree) if n.kind == "action"}
    entities = [entity.kind for entity in spec.entities if entity is spec.record or entity.kind in read]
    return domains.tool_specs(spec, workflow.action, entities, find="find" in kinds, several="goals" in kinds)


def assemble(
    workflow: Workflow,
    branch: Branch,
    name: str,
    seed: int,
    persona: str,
    state: dict,
    user: dict,
    faults: dict[str, str],
) -> Task:
    """The task for a branch, from its state, user script and faults.

    Args:
      workflow: the tree and its origin.
      branch: the branch that state, user and faults make the right one.
      name: the task's id.
      seed: the run's seed.
      persona: the name of the persona that speaks.
      state: {collection: {record id: {field: value}}}.
      user: the user script (envs/user.py).
      faults: record id -> edge of an attempt node, for records whose write does not succeed at once.
    Raises:
      ValueError: the state lacks a record in play.
    """
    schemas, effects = tool_specs(workflow)
    if isinstance(workflow.spec, Service):
        user = service.amounts(workflow, state, user)
    if faults:
        write = workflow.spec.write_tool(workflow.action)
        effects[write] = {**effects[write], "faults": faults}
    task = Task(
        id=name,
        root=workflow.root,
        parent=workflow.parent,
        operator=workflow.operator,
        seed=seed,
        round=workflow.round,
        domain=workflow.domain,
        persona=persona,
        branch=[node.id for node, _ in branch],
        legal=set(tree.outcomes(branch)) == {"write"},
        policy=policy_text(workflow, user.get("now", "")),
        tools=schemas,
        effects=effects,
        state=state,
        user=user,
        subgoals=[],
        violations=[],
        oracle=[],
        tree=tree.to_dict(workflow.tree),
    )
    case = Case.of(task)
    return dataclasses.replace(
        task,
        subgoals=rubric.subgoals(branch, case),
        violations=rubric.violations(branch, case),
        oracle=script.walk(workflow.tree, case, script.Judgement()),
    )


def _state(workflow: Workflow, segments: list[Branch], rng: random.Random) -> tuple[dict[str, dict], list[str]]:
    """(state, identifiers of the records in play, one per goal). Raises ValueError if no state fits the segments."""
    spec, possible, solved = workflow.spec, values(workflow), []
    for segment in segments:
        solved.append(expr.solve(constraints(workflow, segment), possible, rng))
        if solved[-1] is None:
            raise ValueError(f"{workflow.id}: no state satisfies the branch to {segment[-1][0].id}")
    goals = workflow.tree.spec["count"] if workflow.tree.kind == "goals" else 1
    record_ids, owner_ids = domains.draw_ids(goals + DISTRACTORS, rng)
    records, owners, links = {}, {}, {}
    for record_id, owner_id in zip(record_ids, owner_ids):
        owners[owner_id] = domains.draw_record(spec.owner, owner_id, rng)
        drawn = domains.draw_record(spec.record, record_id, rng)
        records[record_id] = {spec.record.key: record_id, spec.owner.key: owner_id, **drawn}
    if any(n.kind == "action" and n.spec["entity"] == spec.link.kind for n in tree.nodes(workflow.tree)):
        for owner_id, link_id in zip(owner_ids, domains.draw_link_ids(len(owner_ids), rng)):
            links[link_id] = domains.draw_record(spec.link, link_id, rng)
            key, *others = owners[owner_id].items()
            owners[owner_id] = dict([key, (spec.link.key, link_id), *others])
    if ("find", "several") in [(node.kind, edge) for node, edge in segments[0]]:
        records[record_ids[goals]][spec.owner.key] = owner_ids[0]  # the first distractor gets the same owner
    for record_id, owner_id, found in zip(record_ids, owner_ids, solved):
        for reference, value in found.items():
            kind, field = reference.split(".")
            owner = owners[owner_id]
            link = links.get(owner.get(spec.link.key))
            {spec.record.kind: records[record_id], spec.owner.kind: owner, spec.link.kind: link}[kind][field] = value
    # Sorted by identifier, so that the position of a record does not reveal that it is in play.
    collections = {spec.record.collection: records, spec.owner.collection: owners}
    collections |= {spec.link.collection: links} if links else {}
    return {name: dict(sorted(found.items())) for name, found in collections.items()}, record_ids[:goals]
