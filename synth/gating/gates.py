"""Gates: a task is used for training or evaluation only if it has passed all of them.

synth does not import the executable world. Callers pass it as `reward(task, steps) -> float`, which plays the steps
(synth/inversion/script.py) in a fresh episode and returns the reward, in [0, 1].
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from synth import personas
from synth.gating import adversaries, prose, shape, similarity, twin
from synth.gating.similarity import GRAM, NEAR, Corpus, Neighbours
from synth.inversion import dialect, invert, script
from synth.inversion.case import Case, true_branch
from synth.inversion.script import Step
from synth.keys import Keys
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import SIMPLIFY, Workflow

Reward = Callable[[Task, Sequence[Step]], float]
Figures = dict[str, Any]
Verdict = tuple[str | None, Figures]  # (the first gate that a task fails, as "gate: detail", or None; the figures)
Note = Callable[[Figures], None]


def check(task: Task, reward: Reward) -> str | None:
    """The first gate that the task fails, as "gate: detail"; None if it passes every gate that concerns it alone."""
    return examine(task, reward)[0]


def examine(task: Task, reward: Reward) -> tuple[str | None, Figures]:
    """(the first gate that the task fails, as "gate: detail", or None; the figures of the gates up to that one).

    The figures are JSON data:
    - "oracle": the rewards of two plays of the oracle;
    - "idle": the reward of doing nothing;
    - "adversaries": name -> reward;
    - "mutants": {"made": how many oracle steps were left out, one at a time, "survived": those that were not needed};
    - "twin": None if the task has no twin, else {"changed": what was changed, "own": reward of the twin's oracle on the
      twin, "here": of the twin's oracle on this task, "there": of this task's oracle on the twin}.
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
    """What is wrong if state and user do not make exactly the task's branch the right one; None if they do."""
    right = true_branch(tree.from_dict(task.tree), Case.of(task))
    if (fires := [node.id for node, _ in right]) != task.branch:
        return f"{task.branch} is not the branch that fires, {fires}"
    legal = set(tree.outcomes(right)) == {"write"}
    return None if legal == task.legal else f"legal is {task.legal} where the branch makes it {legal}"


def _oracle(task: Task, reward: Reward, figures: Figures) -> str | None:
    """The gate: the oracle earns 1.0 in two episodes, and doing nothing does not."""
    figures["oracle"] = []
    for trial in range(2):  # twice, because the world must be deterministic and must not leak state between episodes
        figures["oracle"].append(got := reward(task, task.oracle))
        if got != 1.0:
            return f"oracle: reward {got} in trial {trial}"
    figures["idle"] = reward(task, [])
    return "already_true: passes with no action at all" if figures["idle"] >= 1.0 else None


def _adversaries(task: Task, reward: Reward, figures: Figures) -> str | None:
    """The gate: no adversary earns 1.0."""
    figures["adversaries"] = {}
    for name, steps in adversaries.steps(task).items():
        figures["adversaries"][name] = got = reward(task, steps)
        if got >= 1.0:
            return f"adversary: {name} earns {got}"
    return None


def _mutants(task: Task, reward: Reward, figures: Figures) -> str | None:
    """The gate: every step of the oracle is needed."""
    figures["mutants"] = {"made": 0, "survived": []}
    known = len(dialect.of(case := Case.of(task)).begin(case))
    for i, step in enumerate(task.oracle):
        # Exempt are closing words, because any other message would end the conversation as well, and the first steps in
        # a business: they find out who writes, without which an agent knows no identifier; the script knows them all.
        if i < known or script.closes(step):
            continue
        figures["mutants"]["made"] += 1
        if reward(task, [*task.oracle[:i], *task.oracle[i + 1 :]]) >= 1.0:
            figures["mutants"]["survived"].append(i)
            return f"mutation: step {i} can be left out"
    return None


def _twin(task: Task, reward: Reward, figures: Figures) -> str | None:
    """The gate: the twin's own oracle solves it, and neither oracle passes the other's task."""
    figures["twin"] = None
    if (other := twin.twin(task)) is None:
        return None
    own, here, there = reward(other, other.oracle), reward(task, other.oracle), reward(other, task.oracle)
    figures["twin"] = {"changed": other.id.split("/")[-1], "own": own, "here": here, "there": there}
    if own != 1.0:
        return f"twin: its oracle earns {own}"
    return f"twin: one oracle earns {max(here, there)} on the other's task" if max(here, there) >= 1.0 else None


def fingerprint(task: Task) -> str:
    """A hash (hexadecimal SHA-256) that is equal for tasks that an agent could not tell apart."""
    hidden = ("yes", "no", "verb", "slots", "withheld", "record_id")  # the request states them, or they are never asked
    user = {key: value for key, value in task.user.items() if key not in hidden}
    seen = [task.policy, task.tools, task.effects, task.state, user]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()


class Seen:
    """The gates that compare a task with what is known so far: accepted tasks of all splits and rounds, and a corpus.

    corpus: texts whose 13-grams must not occur in a task; None for no such gate.
    max_turns: the most assistant turns that an episode may take; 0 for no limit.
    distinct: whether to refuse a task whose whole tree (domain, action, conditions) also occurs in another split. Trees
        with a single branch are exempt, because all of them are alike.
    """

    def __init__(self, corpus: Corpus | None = None, max_turns: int = 0, distinct: bool = False):
        self.corpus, self.max_turns, self.distinct = corpus, max_turns, distinct
        self._keys = Keys()  # fingerprints -> task ids, canonical trees and 13-grams -> splits
        self._neighbours = Neighbours()

    def add(self, task: Task) -> None:
        """Adds an accepted task."""
        self._keys.add(("task", fingerprint(task)), task.id)
        self._keys.add(("tree", canonical(task)), task.split)
        self._keys.add_all((("gram", gram) for gram in similarity.grams(similarity.prose(task), GRAM)), task.split)
        self._neighbours.add(task)

    def examine(self, task: Task) -> tuple[str | None, Figures]:
        """(the first of these gates that the task fails, as "gate: detail", or None; the figures of these gates).

        The figures are JSON data:
        - "nearest": (id, estimated Jaccard similarity) of the most similar accepted task, None if none is similar;
        - "turns": assistant turns of the oracle;
        - "other_split": {"grams": how many runs of 13 words also occur in tasks of another split};
        - "overlap": what the task shares with the corpus (see Corpus.shared); absent without one, or if an earlier gate
          failed.
        """
        near = self._neighbours.nearest(task)
        grams = similarity.grams(similarity.prose(task), GRAM)
        shared = sum(any(split != task.split for split in self._keys.find(("gram", gram))) for gram in grams)
        # Shared runs of words are reported but not refused, because policies share sentences by design.
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
    """The task's domain, action and tree as JSON text, which is equal for equal trees."""
    return json.dumps([task.domain, task.user["verb"], task.tree], sort_keys=True)


@dataclasses.dataclass
class Report:
    """Counts of a gating run.

    seen: tasks that were examined. passed: tasks that passed every gate. legal: legal tasks among those.
    rejected: gate -> number of tasks that it rejected. examples: gate -> "<task id>: <gate>: <detail>" of its first.
    """

    seen: int = 0
    passed: int = 0
    legal: int = 0
    rejected: Counter = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON data."""
        # Not dataclasses.asdict: it would rebuild the Counter from (gate, count) pairs and count the pairs.
        return {**vars(self), "rejected": dict(self.rejected)}


def select(
    candidates: Iterable[Task], reward: Reward, seen: Seen, note: Note = lambda figures: None
) -> tuple[list[Task], Report]:
    """(the candidates that pass every gate, the counts).

    Args:
      candidates: tasks in order.
      reward: plays steps in a fresh episode and returns the reward.
      seen, note: as in `passing`.
    """
    report, examined = Report(), ((task, examine(task, reward)) for task in candidates)
    return list(passing(examined, seen, report, note)), report


def passing(examined: Iterable[tuple[Task, Verdict]], seen: Seen, report: Report, note: Note) -> Iterator[Task]:
    """Yields the tasks that pass every gate, one at a time.

    Args:
      examined: tasks in order, each with the result of `examine`.
      seen: what was accepted before, in all splits. Accepted tasks are added to it, so that no task occurs twice,
        neither within a split nor across splits.
      report: its counts are updated in place.
      note: called for each task with the figures of all gates, as JSON data, and the task's "id" and "problem" (None if
        it was accepted).
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
    """Collects the roots and personas of both splits, to check that the splits share none."""

    def __init__(self) -> None:
        self._roots: dict[str, set[str]] = defaultdict(set)
        self._speakers: dict[str, set[personas.Persona]] = defaultdict(set)

    def add(self, split: str, task: Task) -> None:
        """Adds a task of the split "train" or "heldout"."""
        self._roots[split].add(task.root)
        self._speakers[split].add(invert.persona_of(task))

    def leaks(self) -> list[str]:
        """The roots and personas that occur both in "train" and in "heldout"; must be empty."""
        roots, speakers = (found["train"] & found["heldout"] for found in (self._roots, self._speakers))
        return sorted(roots) + sorted(f"persona {persona}" for persona in speakers)


def replay_failures(before: Sequence[Workflow], after: Sequence[Workflow], reward: Reward, seed: int) -> dict[str, str]:
    """Checks that workflows that grew have kept the branches of their parents. Returns workflow id -> what went wrong.

    For every branch of the parent, some branch of the child must contain all of its nodes in the same order, and that
    branch's task must be solvable. A tree that was put back to a simpler one is compared with itself.

    Args:
      before: the workflows of the round before, which hold the parents.
      after: the workflows of this round; those without an operator are skipped.
      reward: plays steps in a fresh episode and returns the reward.
      seed: the run's seed.
    Raises:
      KeyError: `before` lacks the parent of a workflow that grew.
      ValueError: no state satisfies the conditions of a branch.
    """
    parents, found = {workflow.id: workflow for workflow in before}, {}
    for child in after:
        if not child.operator:
            continue
        kept = [(_steps(branch), branch) for branch in tree.branches(child.tree)]
        known = child if child.operator == SIMPLIFY else parents[child.parent]
        for branch in filter(functools.partial(invert.possible, known), tree.branches(known.tree)):
            wanted = _steps(branch)
            heirs = [b for steps, b in kept if _within(wanted, steps) and invert.possible(child, b)]
            if not heirs:
                found[child.id] = f"no branch contains all of the parent's branch {'-'.join(map(str, wanted))}"
            elif (got := reward(task := invert.invert(child, heirs[0], 0, seed), task.oracle)) != 1.0:
                found[child.id] = f"the oracle of {task.id} earns {got}"
    return found


def _steps(branch: tree.Branch) -> list[tuple[str, ...]]:
    """A branch as (kind, edge, content) of its nodes: the same for a node before and after its tree has grown."""
    told = {"review": "confirm"}  # the operator "amend" may have replaced a confirm node by a review node
    return [
        (told.get(n.kind, n.kind), edge, str(n.spec.get("condition", n.spec.get("entity", n.spec.get("outcome", "")))))
        for n, edge in branch
    ]


def _within(wanted: list[tuple[str, ...]], steps: list[tuple[str, ...]]) -> bool:
    """Whether `wanted` is a subsequence of `steps`."""
    remaining = iter(steps)
    return all(step in remaining for step in wanted)
