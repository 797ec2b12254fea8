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

from synth import adversaries, expr, script, tree, twin
from synth.case import Case, true_branch
from synth.script import Step
from synth.task import Task

Reward = Callable[[Task, Sequence[Step]], float]
Figures = dict[str, Any]


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
    return examine(task, reward)[0]


def examine(task: Task, reward: Reward) -> tuple[str | None, Figures]:
    """(the first gate that the task fails or None, what each gate saw up to there).

    The figures are JSON data: "oracle" and "idle" (rewards of the oracle, twice, and of doing nothing), "adversaries"
    (name -> reward), "mutants" (oracle steps left out one by one: how many, and the rewards that survived), "twin" (what
    was changed and the rewards of its own oracle on it, of its oracle here and of this oracle there; None without one).
    """
    figures: Figures = {}
    problem = _schemas_valid(task)
    if problem:
        return f"schema: {problem}", figures
    if problem := _leaf(task):
        return f"tree: {problem}", figures
    for gate in (_oracle, _adversaries, _mutants, _twin):
        if problem := gate(task, reward, figures):
            return problem, figures
    return None, figures


def _leaf(task: Task) -> str | None:
    """What is wrong with the tree, unless it is well-formed and state and user make exactly the task's branch right."""
    try:
        root = tree.from_dict(task.tree)
        for node in tree.nodes(root):
            if node.kind == "guard":
                expr.check(node.spec["condition"])
        right = [node.id for node, _ in true_branch(root, Case.of(task))]
    except ValueError as error:
        return str(error)
    return None if right == task.branch else f"{task.branch} is not the branch that fires, {right}"


def _oracle(task: Task, reward: Reward, figures: Figures) -> str | None:
    """Solvable, repeatably, and not by doing nothing."""
    figures["oracle"] = []
    for trial in range(2):  # twice: the world must be deterministic and must not leak state between episodes
        figures["oracle"].append(got := reward(task, task.oracle))
        if got != 1.0:
            return f"oracle: reward {got} in trial {trial}"
    figures["idle"] = reward(task, [])
    return "already_true: passes with no action at all" if figures["idle"] >= 1.0 else None


def _adversaries(task: Task, reward: Reward, figures: Figures) -> str | None:
    """No short cut passes."""
    figures["adversaries"] = {}
    for name, steps in adversaries.steps(task).items():
        figures["adversaries"][name] = got = reward(task, steps)
        if got >= 1.0:
            return f"adversary: {name} earns {got}"
    return None


def _mutants(task: Task, reward: Reward, figures: Figures) -> str | None:
    """Every step of the oracle is needed."""
    figures["mutants"] = {"made": 0, "survived": []}
    for i, step in enumerate(task.oracle):
        # Closing words are a courtesy: any further message ends the conversation.
        if step.get("say") in script.CLOSINGS.values():
            continue
        figures["mutants"]["made"] += 1
        if reward(task, [*task.oracle[:i], *task.oracle[i + 1 :]]) >= 1.0:
            figures["mutants"]["survived"].append(i)
            return f"mutation: step {i} can be left out"
    return None


def _twin(task: Task, reward: Reward, figures: Figures) -> str | None:
    """The twin is solvable by its own oracle, and neither oracle passes the other's task."""
    figures["twin"] = None
    if (other := twin.twin(task)) is None:
        return None
    own, here, there = reward(other, other.oracle), reward(task, other.oracle), reward(other, task.oracle)
    figures["twin"] = {"changed": other.id.split("/")[-1], "own": own, "here": here, "there": there}
    if own != 1.0:
        return f"twin: its oracle earns {own}"
    return f"twin: one oracle earns {max(here, there)} on the other's task" if max(here, there) >= 1.0 else None


def fingerprint(task: Task) -> str:
    """Equal for tasks that an agent could not tell apart."""
    hidden = ("yes", "no", "verb", "slots", "withheld", "record_id")  # told by the request or never asked for
    user = {key: value for key, value in task.user.items() if key not in hidden}
    seen = [task.policy, task.tools, task.effects, task.state, user]
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
