"""Compares a task's texts with its tree: policy text and user together must tell what is right.

The wording may be a teacher's. So each line and utterance is checked for the parts that it must contain: the policy
must state every rule as inversion renders it, with its outcome, and the user must say what only the user knows. This
does not detect other words that reverse the meaning of a part ("not only if ...").
"""

from __future__ import annotations

import re

from synth.gating import business, similarity
from synth.inversion import invert, utterances
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import Workflow

_QUOTES = r'"([^"]*)"'


def fault(task: Task) -> str | None:
    """What the policy text or the user leaves out, or says without a basis in the tree; None if nothing is wrong.

    Raises ValueError if the task's tree is malformed.
    """
    workflow = Workflow.of(task)
    if business.is_business(task):
        return business.prose(task, workflow)
    return _policy(task, workflow) or _user(task, workflow.tree)


def _policy(task: Task, workflow: Workflow) -> str | None:
    """What is wrong with the policy text: each line must contain its parts, and must not state any other rule."""
    lines, wanted = task.policy.split("\n"), [parts for _, parts in invert.statements(workflow)]
    if len(lines) != len(wanted):
        return f"the policy has {len(lines)} lines, the tree needs {len(wanted)}"
    for line, parts in zip(lines, wanted):
        told = " ".join(parts)
        missing = [part for part in parts if part not in line]
        # Numbers are compared as a whole, because the part "at most 1" is also contained in "at most 10".
        missing += set(re.findall(r"\d+", told)) - set(re.findall(r"\d+", line))
        if missing or not line.strip():
            return f"policy line {line!r} lacks {missing or 'words'}"
        if sorted(re.findall(_QUOTES, line)) != sorted(re.findall(_QUOTES, told)):
            return f"policy line {line!r} says more than {told!r}"
    return None


def _user(task: Task, root: tree.Node) -> str | None:
    """What is wrong with the user's texts: missing facts, or facts that must not be said before they are asked for."""
    user, said = task.user, {name: similarity.words(text) for name, text in utterances.of(task).items()}
    claimed = [n.spec["condition"]["field"].split(".")[1] for n in tree.nodes(root) if n.spec.get("claim")]
    together = [goal["record_id"] for goal in user.get("later", ()) if "request" not in goal]
    named = user["find"]["owner_id"] if "find" in user else user["record_id"]
    details = [] if user["withheld"] else user["slots"].values()
    wanted = {"request": [user["verb"], named, *together, *details, *claimed], "yes": ["yes"], "no": ["no"]}
    wanted |= {f"later_{i}": [user["verb"], goal["record_id"]] for i, goal in enumerate(user.get("later", ()))}
    wanted |= {"insists_0": claimed} if claimed else {}
    for name, facts in wanted.items():
        if missing := [fact for fact in facts if name in said and fact not in said[name]]:
            return f"the user's {name} lacks {missing}"
    secret = [*user["withheld"], *([user["record_id"]] if "find" in user else [])]
    if told := [fact for fact in secret if fact in re.findall(_QUOTES, user["request"])]:
        return f"the user's request tells {told} unasked"
    return None
