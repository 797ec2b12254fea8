"""Twins: the same task with one thing changed, so that the opposite outcome is right."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

from synth.inversion import invert
from synth.inversion.case import Case, true_branch
from synth.task import Task
from synth.trees import tree
from synth.trees.tree import Branch
from synth.trees.workflow import Workflow


def twin(task: Task) -> Task | None:
    """The first variation of the task in which some goal's right outcome is the write where it was not, or vice versa.

    A single thing is changed. These are tried in order:
    - a field of a record that a rule on the branch is about, the deepest rule first;
    - whether the user consents to the first goal's write;
    - whether the first goal's write is ever answered.
    Returns None if no single change has this effect. Raises ValueError if the state lacks a record in play.
    """
    workflow = Workflow.of(task)
    branch = true_branch(workflow.tree, Case.of(task))
    written = [outcome == "write" for outcome in tree.outcomes(branch)]
    for what, changed in _neighbours(task, branch):
        other = true_branch(workflow.tree, Case.of(changed))
        # A branch has no further goals after a transfer, so only the goals that both branches have are compared.
        if any(was != (outcome == "write") for was, outcome in zip(written, tree.outcomes(other))):
            faults = changed.effects[_write_tool(task)].get("faults", {})
            return invert.assemble(
                workflow, other, f"{task.id}/{what}", task.seed, task.persona, changed.state, changed.user, faults
            )
    return None


def _write_tool(task: Task) -> str:
    case = Case.of(task)
    return case.domain.write_tool(case.action)


def _neighbours(task: Task, branch: Branch) -> Iterator[tuple[str, Task]]:
    """Yields (what was changed, the task with this change); rubric and oracle are still those of the old task."""
    case = Case.of(task)
    for segment, goal in reversed(list(zip(tree.segments(branch), case.goals))):
        for node in [node for node, _ in reversed(segment) if node.kind == "guard"]:
            field = node.spec["condition"]["field"]
            kind, name = field.split(".")
            entity = case.domain.entity(kind)
            for value in entity.fields[name]:
                if value != goal.values[field]:
                    state = copy.deepcopy(task.state)
                    case.domain.put(state, goal.record_id, field, value, case.now)
                    yield f"{name}={value}", dataclasses.replace(task, state=state)
    yield "accepts", dataclasses.replace(task, user={**task.user, "accepts": not task.user["accepts"]})
    write = _write_tool(task)
    for faults in ({case.record_id: "down"}, {}):
        effects = {**task.effects, write: {**task.effects[write], "faults": faults}}
        yield "faults", dataclasses.replace(task, effects=effects)
