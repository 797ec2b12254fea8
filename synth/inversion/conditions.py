"""What a tree's rules require of the records, for a given branch."""

from __future__ import annotations

from synth.trees import expr, tree
from synth.trees.tree import Branch
from synth.trees.workflow import Workflow


def rules(root: tree.Node) -> list[tree.Node]:
    """The guard nodes in the order in which the policy states their rules.

    Each rule occurs once, even if its guard stands on several paths. Rules are identified by the field they are about.
    """
    found: dict[str, tree.Node] = {}
    for node in tree.nodes(root):
        if node.kind == "guard":
            found.setdefault(node.spec["condition"]["field"], node)
    return list(found.values())


def constraints(workflow: Workflow, segment: Branch) -> list[expr.Expr]:
    """The conditions that one goal's records must satisfy. `segment`: the goal's path (see tree.segments).

    Rules on the path hold or fail as the path says; every other rule of the policy holds. Two kinds of rules are left
    open where the path does not reach them:
    - exceptions;
    - all rules after an urgent rule that fails, because no other rule can overrule it.
    """
    met = {node.spec["condition"]["field"] for node, _ in segment if node.kind == "guard"}
    failing = [(node.spec["condition"]["field"], node) for node, edge in segment if edge == "fails"]
    overruled = any(node.spec.get("urgent") for _, node in failing)
    found = []
    for node in rules(workflow.tree):
        condition = node.spec["condition"]
        if condition["field"] in dict(failing):
            found.append(expr.negate(condition))
        elif condition["field"] in met or not (overruled or node.spec.get("exception")):
            found.append(condition)
    return found


def values(workflow: Workflow) -> dict[str, tuple]:
    """Field reference -> the values allowed in a solution.

    The field of a boundary rule gets only two values: the nearest to the limit that meets the rule and the nearest
    that breaks it.
    """
    found = workflow.spec.values()
    for node in rules(workflow.tree):
        condition = node.spec["condition"]
        if node.spec.get("boundary"):
            field, limit = condition["field"], condition["value"]
            near = sorted(found[field], key=lambda value: abs(value - limit))
            verdicts = {expr.holds(condition, {field: value}): value for value in reversed(near)}
            found[field] = tuple(verdicts.values())
    return found
