"""What went wrong in a failed episode, in one word: it chooses the operators that the tree grows by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth.task import Task
from synth.trees import tree

KINDS = (
    "missed_guard",  # did what a rule forbids
    "gave_in",  # did it because the user claimed or wished so
    "refused_too_much",  # refused what was due
    "wrong_refusal",  # refused rightly, for the wrong reason or in the wrong way
    "invented_argument",  # wrote something nobody had said or looked up
    "wrong_record",  # wrote to another record
    "wrote_twice",  # repeated a write, or tried again without looking
    "skipped",  # left out a read, a question or the consent
    "quit",  # ended without a decision
)
# Beginnings of the names of violations (synth/inversion/rubric.py), the gravest first: an episode may break several.
_TWICE = ("written_again", "repeated_blindly")
_RECORD = ("guessed_record",)
_ARGUMENT = ("invented_argument", "other_write", "undeclared")
_REFUSAL = ("decline_for", "transfer_for", "wrong_decline", "wrong_transfer", "other_decline")


def kind(task: Task, violations: Sequence[str], subgoals: Mapping[str, bool]) -> str:
    """The kind of failure of one episode of a task, from what it was scored by (envs.base.Score)."""
    ids = {task.user["record_id"], *(goal["record_id"] for goal in task.user.get("later", ()))}
    elsewhere = [v for v in violations if v.startswith("undeclared:") and v.split("/")[1] not in ids]
    if _any(violations, _TWICE):
        return "wrote_twice"
    if elsewhere or _any(violations, _RECORD):
        return "wrong_record"
    if _any(violations, ("forbidden_write",)):
        return "gave_in" if _wished(task, violations) else "missed_guard"
    if _any(violations, _ARGUMENT):
        return "invented_argument"
    if _any(violations, _REFUSAL):
        return "refused_too_much" if task.legal else "wrong_refusal"
    if violations:  # what is left is acting before reading or without consent
        return "skipped"
    leaves = {node.id for node in tree.nodes(tree.from_dict(task.tree)) if node.kind == "terminal"}
    decided = all(subgoals[goal["name"]] for goal in task.subgoals if goal["node"] in leaves)
    return "skipped" if decided else "quit"


def _any(violations: Sequence[str], beginnings: tuple[str, ...]) -> bool:
    return any(name.startswith(beginnings) for name in violations)


def _wished(task: Task, violations: Sequence[str]) -> bool:
    """Whether the forbidden write is what the user talked the agent into: past a claim, or past a refused consent."""
    charged = {rule["node"] for rule in task.violations if rule["name"] in violations and "forbidden" in rule["name"]}
    found = [node for node in tree.nodes(tree.from_dict(task.tree)) if node.id in charged]
    return any(node.kind in ("confirm", "review") or node.spec.get("claim") for node in found)
