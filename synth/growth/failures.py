"""The kind of failure of an episode. Kinds of failure choose the operators by which a tree grows (selection.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth.task import Task
from synth.trees import tree

KINDS = (
    "missed_guard",  # made a write that a rule forbids
    "gave_in",  # made a forbidden write because the user claimed that it is allowed, or although consent was refused
    "refused_too_much",  # refused a legal request
    "wrong_refusal",  # refused an illegal request, but for the wrong reason or in the wrong way
    "invented_argument",  # wrote a value that was neither said nor looked up
    "wrong_record",  # wrote to another record
    "wrote_twice",  # repeated a write, or tried again without checking whether it was made
    "skipped",  # left out a read, a question or the consent
    "quit",  # ended without a decision
)
# Prefixes of the names of violations (synth/inversion/rubric.py). `kind` checks them in order, the gravest first,
# because an episode may have several violations.
_TWICE = ("written_again", "repeated_blindly")
_RECORD = ("guessed_record",)
_ARGUMENT = ("invented_argument", "other_write", "undeclared")
_REFUSAL = ("decline_for", "transfer_for", "wrong_decline", "wrong_transfer", "other_decline")


def kind(task: Task, violations: Sequence[str], subgoals: Mapping[str, bool]) -> str:
    """The kind of failure (one of KINDS) of a failed episode.

    Args:
      task: the task.
      violations: names of the violations that occurred (envs.base.Score).
      subgoals: subgoal name -> whether it was met (envs.base.Score).
    Raises:
      KeyError: `subgoals` lacks a subgoal of the task that it needs.
    """
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
    if violations:  # the remaining violations are decisions before reading and writes without consent
        return "skipped"
    leaves = {node.id for node in tree.nodes(tree.from_dict(task.tree)) if node.kind == "terminal"}
    decided = all(subgoals[goal["name"]] for goal in task.subgoals if goal["node"] in leaves)
    return "skipped" if decided else "quit"


def _any(violations: Sequence[str], beginnings: tuple[str, ...]) -> bool:
    return any(name.startswith(beginnings) for name in violations)


def _wished(task: Task, violations: Sequence[str]) -> bool:
    """Whether a forbidden write is charged to a rule that the user claimed to meet, or to a consent node."""
    charged = {rule["node"] for rule in task.violations if rule["name"] in violations and "forbidden" in rule["name"]}
    found = [node for node in tree.nodes(tree.from_dict(task.tree)) if node.id in charged]
    return any(node.kind in ("confirm", "review") or node.spec.get("claim") for node in found)
