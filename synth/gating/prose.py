"""What a task says in words against its tree: whoever reads policy and user can know what is right.

The wording may be a teacher's. What it has to hold is settled line by line and utterance by utterance: rules as
inversion renders them, with what follows, and what the user alone knows. Whether the words around that turn its meaning
round ("not only if ...") no code here can tell.
"""

from __future__ import annotations

import re

from synth.gating import similarity
from synth.inversion import invert, utterances
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import Workflow

_QUOTES = r'"([^"]*)"'


def fault(task: Task) -> str | None:
    """What policy or user leave out, or say though the tree does not have it, if anything."""
    workflow = Workflow.of(task)
    return _policy(task, workflow) or _user(task, workflow.tree)


def _policy(task: Task, workflow: Workflow) -> str | None:
    """What is wrong with the policy: every line has to say its part and no other rule."""
    lines, wanted = task.policy.split("\n"), [parts for _, parts in invert.statements(workflow)]
    if len(lines) != len(wanted):
        return f"the policy has {len(lines)} lines, the tree needs {len(wanted)}"
    for line, parts in zip(lines, wanted):
        told = " ".join(parts)
        missing = [part for part in parts if part not in line]
        # "at most 1" stands in "at most 10" too.
        missing += set(re.findall(r"\d+", told)) - set(re.findall(r"\d+", line))
        if missing or not line.strip():
            return f"policy line {line!r} lacks {missing or 'words'}"
        if sorted(re.findall(_QUOTES, line)) != sorted(re.findall(_QUOTES, told)):
            return f"policy line {line!r} says more than {told!r}"
    return None


def _user(task: Task, root: tree.Node) -> str | None:
    """What is wrong with what the user says: what they have to tell, and what they may not tell unasked."""
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
