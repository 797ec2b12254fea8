"""Gates: no task trains or evaluates anything before it has passed all of them.

synth does not know the executable world; it is given `reward(task, steps) -> float`, which plays steps
(synth/inversion/script.py) in a fresh episode and returns the reward.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from synth import personas
from synth.gating import adversaries, prose, shape, similarity, twin
from synth.gating.similarity import GRAM, NEAR, Corpus, Neighbours
from synth.inversion import invert, script
from synth.inversion.case import Case, true_branch
from synth.inversion.script import Step
from synth.keys import Keys
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import SIMPLIFY, Workflow

Reward = Callable[[Task, Sequence[Step]], float]
Figures = dict[str, Any]
Verdict = tuple[str | None, Figures]  # the first gate that a task fails or None, what the gates saw
Note = Callable[[Figures], None]


def check(task: Task, reward: Reward) -> str | None:
    """The first gate that the task fails, as "gate: detail", or None if it passes all that concern it alone."""
    return examine(task, reward)[0]


def examine(task: Task, reward: Reward) -> tuple[str | None, Figures]:
    """(the first gate that the task fails or None, what each gate saw up to there).

    The figures are JSON data: "oracle" and "idle" (rewards of the oracle, twice, and of doing nothing), "adversaries"
    (name -> reward), "mutants" (oracle steps left out one by one: how many, and which of them were not needed), "twin"
    (what was changed and the rewards of its own oracle on it, of its oracle here and of this oracle there; None without
    one).
    """
    figures: Figures = {}
    if problem := shape.fault(task):
        return problem, figures
    if problem := _leaf(task):
        return f"tree: {problem}", figures
    if problem := prose.fault(task):
        return f"prose: {problem}", figures
    for gate in (_oracle, _adversaries, _mutants, _twin):
        if problem := gate(task, reward, figures):
            return problem, figures
    return None, figures


def _leaf(task: Task) -> str | None:
    """What is wrong with the branch, unless state and user make exactly the task's right."""
    right = true_branch(tree.from_dict(task.tree), Case.of(task))
    if (fires := [node.id for node, _ in right]) != task.branch:
        return f"{task.branch} is not the branch that fires, {fires}"
    legal = set(tree.outcomes(right)) == {"write"}
    return None if legal == task.legal else f"legal is {task.legal} where the branch makes it {legal}"


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


class Seen:
    """Everything accepted before, all splits and rounds, and what no task may resemble.

    corpus: texts whose 13-grams no task may hold. max_turns: assistant turns an episode may take. distinct: refuse a
    task whose whole tree (domain, action, conditions) also stands in another split; those of a single branch cannot
    differ.
    """

    def __init__(self, corpus: Corpus | None = None, max_turns: int = 0, distinct: bool = False):
        self.corpus, self.max_turns, self.distinct = corpus, max_turns, distinct
        self._keys = Keys()  # fingerprints -> task ids, canonical trees and 13-grams -> splits
        self._neighbours = Neighbours()

    def add(self, task: Task) -> None:
        """Takes up an accepted task."""
        self._keys.add(("task", fingerprint(task)), task.id)
        self._keys.add(("tree", canonical(task)), task.split)
        self._keys.add_all((("gram", gram) for gram in similarity.grams(similarity.prose(task), GRAM)), task.split)
        self._neighbours.add(task)

    def examine(self, task: Task) -> tuple[str | None, Figures]:
        """(the first gate that the task fails beside what was seen, or None; the figures of these gates)."""
        near = self._neighbours.nearest(task)
        grams = similarity.grams(similarity.prose(task), GRAM)
        shared = sum(any(split != task.split for split in self._keys.find(("gram", gram))) for gram in grams)
        # Only told, not refused: policies share sentences by design.
        figures: Figures = {"nearest": near, "turns": len(task.oracle), "other_split": {"grams": shared}}
        if first := self._keys.find(("task", fingerprint(task))):
            return f"duplicate: of {first[0]}", figures
        if near and near[1] >= NEAR:
            return f"near_duplicate: {near[1]} like {near[0]}", figures
        if self.max_turns and len(task.oracle) > self.max_turns:
            return f"length: the oracle takes {len(task.oracle)} turns of {self.max_turns}", figures
        if self.corpus:
            figures["overlap"] = shared = self.corpus.shared(task)
            if shared["grams"]:
                return f"overlap: {shared['grams']} runs of {GRAM} words stand in the benchmarks too", figures
        if self.distinct and len(tree.branches(tree.from_dict(task.tree))) > 1:
            for split in self._keys.find(("tree", canonical(task))):
                if split != task.split:
                    return f"shared_tree: stands in the {split} split too", figures
        return None, figures


def canonical(task: Task) -> str:
    """The task's tree with its domain and action, equal for equal trees."""
    return json.dumps([task.domain, task.user["verb"], task.tree], sort_keys=True)


@dataclasses.dataclass
class Report:
    """Counts of a gating run: tasks seen, passed, legal ones of these, and rejections by gate with an example each."""

    seen: int = 0
    passed: int = 0
    legal: int = 0
    rejected: Counter = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {**vars(self), "rejected": dict(self.rejected)}  # asdict would make a Counter of (gate, count) pairs


def select(
    candidates: Iterable[Task], reward: Reward, seen: Seen, note: Note = lambda figures: None
) -> tuple[list[Task], Report]:
    """(the tasks that pass every gate, the counts); the arguments are those of `passing`, `reward` plays steps."""
    report, examined = Report(), ((task, examine(task, reward)) for task in candidates)
    return list(passing(examined, seen, report, note)), report


def passing(examined: Iterable[tuple[Task, Verdict]], seen: Seen, report: Report, note: Note) -> Iterator[Task]:
    """The tasks that pass every gate, one by one.

    Args:
      examined: tasks in order, each with what `examine` says of it.
      seen: everything accepted before, all splits; extended in place, so that no task stands twice, neither within a
        split nor across.
      report: counts what comes by.
      note: is given what every gate found of each task, as JSON data with the task's "id" and "problem" (None if it
        was accepted).
    """
    for task, (problem, figures) in examined:
        report.seen += 1
        if problem is None:
            problem, beside = seen.examine(task)
            figures = figures | beside
        note({"id": task.id, "problem": problem, **figures})
        if problem:
            gate = problem.split(":")[0]
            report.rejected[gate] += 1
            report.examples.setdefault(gate, f"{task.id}: {problem}")
            continue
        seen.add(task)
        report.passed += 1
        report.legal += task.legal
        yield task


class Sides:
    """The roots and personas of both splits."""

    def __init__(self) -> None:
        self._roots: dict[str, set[str]] = defaultdict(set)
        self._speakers: dict[str, set[personas.Persona]] = defaultdict(set)

    def add(self, split: str, task: Task) -> None:
        """Takes up a task that stands in this split."""
        self._roots[split].add(task.root)
        self._speakers[split].add(invert.persona_of(task))

    def leaks(self) -> list[str]:
        """Roots and personas that stand on both sides of the split; must be empty."""
        roots, speakers = (found["train"] & found["heldout"] for found in (self._roots, self._speakers))
        return sorted(roots) + sorted(f"persona {persona}" for persona in speakers)


def replay_failures(
    before: Sequence[Workflow], after: Sequence[Workflow], reward: Reward, seed: int
) -> dict[str, str]:
    """Expanded workflow id -> what went wrong: a branch of its parent that it has lost, or whose oracle fails there.

    Every branch of the parent must still be gone through by some branch of the child that adds nodes but leaves none
    out, and that branch's task must still be solvable. Of a tree that was put back to a simpler one, its own branches.
    """
    parents, found = {workflow.id: workflow for workflow in before}, {}
    for child in after:
        if not child.operator:
            continue
        kept = [(_steps(branch), branch) for branch in tree.branches(child.tree)]
        known = child if child.operator == SIMPLIFY else parents[child.parent]
        for branch in tree.branches(known.tree):
            wanted = _steps(branch)
            heirs = [b for steps, b in kept if _within(wanted, steps)]
            if not heirs:
                found[child.id] = f"no branch goes through {'-'.join(map(str, wanted))}"
            elif (got := reward(task := invert.invert(child, heirs[0], 0, seed), task.oracle)) != 1.0:
                found[child.id] = f"the oracle of {task.id} earns {got}"
    return found


def _steps(branch: tree.Branch) -> list[tuple[str, ...]]:
    """What a branch goes through, told so that a grown tree tells its old nodes the same way."""
    told = {"review": "confirm"}  # consent that may also change a detail is still consent
    return [
        (told.get(n.kind, n.kind), edge, str(n.spec.get("condition", n.spec.get("entity", n.spec.get("outcome", "")))))
        for n, edge in branch
    ]


def _within(wanted: list[tuple[str, ...]], steps: list[tuple[str, ...]]) -> bool:
    """Whether `wanted` is a subsequence of `steps`."""
    remaining = iter(steps)
    return all(step in remaining for step in wanted)
