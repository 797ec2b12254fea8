"""Gates: no task trains or evaluates anything before it has passed all of them.

synth does not know the executable world; it is given `reward(task, steps) -> float`, which plays steps
(synth/script.py) in a fresh episode and returns the reward.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jsonschema

from synth import expr, script, tree
from synth.script import Case, Judgement, Step
from synth.task import Task

Reward = Callable[[Task, Sequence[Step]], float]


class _SkipRead(Judgement):
    """Knows every decision, yet looks nothing up; what it makes up is wrong."""

    def __init__(self, case: Case):
        self._true = set(case.values.values())

    def reads(self, entity: str) -> bool:
        return False

    def guess(self, options: tuple) -> Any:
        return next(o for o in options if o not in self._true)


class _SkipConfirm(Judgement):
    def confirms(self) -> bool:
        return False


class _SkipAsk(Judgement):
    """Invents the missing detail and happens to be right: still a violation."""

    def __init__(self, case: Case):
        self._choice = case.choice

    def asks(self) -> bool:
        return False

    def guess(self, options: tuple) -> Any:
        return self._choice


def adversaries(task: Task) -> dict[str, list[Step]]:
    """Name -> steps of every scripted policy that must not pass this task.

    no_op says it is done; always_refuse declines at once; skip_read decides right without looking; every_write does all
    that the oracle does and then tries the write with every choice; skip_confirm and skip_ask stand where the branch
    needs consent or a detail.
    """
    case, root = Case.of(task), tree.from_dict(task.tree)
    kinds = {n["kind"] for n in _path(task)}
    rules = (n.spec["condition"] for n in tree.nodes(root) if n.kind == "guard")
    first_rule = next((expr.fields(rule)[0].split(".")[1] for rule in rules), "status")
    write = case.domain.write_tool(case.action)
    record = case.domain.record
    args = {record.key: case.record_id, case.action.copied: case.values[f"{record.kind}.{case.action.copied}"]}
    writes = [{"call": write, "args": {**args, case.action.slot: choice}, "say": ""} for choice in case.action.choices]
    before = [s for s in task.oracle if "args" not in s or s["call"] not in (write, "decline", "transfer")]
    found = {
        "no_op": [{"say": script.CLOSINGS["write"]}],
        "always_refuse": [
            {"call": "decline", "args": {"reason": first_rule}, "say": ""},
            {"say": script.CLOSINGS["decline"]},
        ],
        "skip_read": script.walk(root, case, _SkipRead(case)),
        "every_write": [*(s for s in before if s.get("say") not in script.CLOSINGS.values()), *writes],
    }
    if "confirm" in kinds:
        found["skip_confirm"] = script.walk(root, case, _SkipConfirm())
    if "ask" in kinds and not case.given:
        found["skip_ask"] = script.walk(root, case, _SkipAsk(case))
    return found


def _path(task: Task) -> list[dict[str, Any]]:
    """The tree nodes of the task's branch, as data."""
    path, node = [task.tree], task.tree
    for wanted in task.branch[1:]:
        node = next(c["node"] for c in node["children"] if c["node"]["id"] == wanted)
        path.append(node)
    return path


def _schemas_valid(task: Task) -> str | None:
    """What is wrong with the task's schemas or with the oracle's arguments under them, if anything."""
    parameters = {}
    for tool in task.tools:
        parameters[tool["function"]["name"]] = tool["function"]["parameters"]
        try:
            jsonschema.Draft202012Validator.check_schema(tool["function"]["parameters"])
        except jsonschema.SchemaError as error:
            return f"{tool['function']['name']}: {error.message}"
    for step in task.oracle:
        if "call" not in step:
            continue
        if step["call"] not in parameters or step["call"] not in task.effects:
            return f"oracle calls {step['call']}, which is not among the tools"
        for error in jsonschema.Draft202012Validator(parameters[step["call"]]).iter_errors(step["args"]):
            return f"oracle's {step['call']}: {error.message}"
    return None


def check(task: Task, reward: Reward) -> str | None:
    """The first gate that the task fails, as "gate: detail", or None if it passes all that concern it alone."""
    problem = _schemas_valid(task)
    if problem:
        return f"schema: {problem}"
    try:
        root = tree.from_dict(task.tree)
        for node in tree.nodes(root):
            if node.kind == "guard":
                expr.check(node.spec["condition"])
    except ValueError as error:
        return f"tree: {error}"
    if task.branch not in [[node.id for node, _ in branch] for branch in tree.branches(root)]:
        return f"tree: {task.branch} is no branch of it"
    for trial in range(2):  # twice: the world must be deterministic and must not leak state between episodes
        if (got := reward(task, task.oracle)) != 1.0:
            return f"oracle: reward {got} in trial {trial}"
    if (got := reward(task, [])) >= 1.0:
        return "already_true: passes with no action at all"
    for name, steps in adversaries(task).items():
        if (got := reward(task, steps)) >= 1.0:
            return f"adversary: {name} earns {got}"
    for i, step in enumerate(task.oracle):
        # Closing words are a courtesy: any further message ends the conversation.
        if step.get("say") in script.CLOSINGS.values():
            continue
        if (got := reward(task, [*task.oracle[:i], *task.oracle[i + 1 :]])) >= 1.0:
            return f"mutation: step {i} can be left out"
    return None


def fingerprint(task: Task) -> str:
    """Equal for tasks that an agent could not tell apart."""
    seen = [task.policy, task.tools, task.state, task.user["request"], task.user["accepts"]]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass
class Report:
    """Counts of a gating run: tasks seen, passed, and rejections by gate with an example each."""

    seen: int = 0
    passed: int = 0
    rejected: Counter = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {**vars(self), "rejected": dict(self.rejected)}  # asdict would make a Counter of (gate, count) pairs


def select(candidates: Iterable[Task], reward: Reward, taken: dict[str, str]) -> tuple[list[Task], Report]:
    """The tasks that pass every gate.

    Args:
      candidates: tasks in order.
      reward: plays steps in a fresh episode.
      taken: fingerprint -> task id of everything accepted before, all splits; extended in place, so that no task
        stands twice, neither within a split nor across.
    """
    report, accepted = Report(), []
    for task in candidates:
        report.seen += 1
        mark = fingerprint(task)
        problem = f"duplicate: of {taken[mark]}" if mark in taken else check(task, reward)
        if problem:
            gate = problem.split(":")[0]
            report.rejected[gate] += 1
            report.examples.setdefault(gate, f"{task.id}: {problem}")
            continue
        taken[mark] = task.id
        accepted.append(task)
    report.passed = len(accepted)
    return accepted, report


def split_leaks(train: Iterable[Task], heldout: Iterable[Task]) -> list[str]:
    """Roots that stand on both sides of the split; must be empty."""
    return sorted({t.root for t in train} & {t.root for t in heldout})
