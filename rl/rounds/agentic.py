"""The agentic flywheel's side of the round loop: a teacher, trees that grow where the policy fails, gated tasks.

Its counterpart for reasoning is rl/rounds/reasoning.py. Rounds count from the flywheel's own first one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from envs import world
from rl import hosts
from rl.reports import show
from rl.rounds import candidates, clients
from rl.trajectory import Trajectory
from synth import dataset, operators
from synth.gating import gates, similarity
from synth.growth import failures, selection
from synth.growth.selection import Outcome, Selection
from synth.question import Question
from synth.task import Task
from synth.teachers import teacher
from synth.teachers.teacher import Teacher
from synth.trees import domains, tree, workflow
from synth.trees.workflow import Workflow

SPLITS = ("train", "heldout")
LEGAL = (0.4, 0.6)  # shares of a grown round's training tasks that may be legal: else refusing or obeying blindly pays
PROGRAM = teacher.Program()


def make_teacher(config: config_dict.ConfigDict, workdir: Path) -> Teacher:
    """The teacher of a config; a model's answers are kept in workdir/teacher."""
    return teacher.create(config.synth.teacher, lambda offline: clients.teacher(config, workdir, offline))


def register(config: config_dict.ConfigDict, by: Teacher) -> list[domains.Domain]:
    """Makes the domains that the teacher proposes known to this process; returns them."""
    found = by.domains(config.synth.teacher_domains)
    domains.register(found)
    return found


def first_workflows(config: config_dict.ConfigDict, by: Teacher = PROGRAM) -> dict[str, list[Workflow]]:
    """The round-0 trees of both splits."""
    c = config.synth
    found = register(config, by)
    chosen = [*domains.select(c.domains), *(domain for domain in found if c.domains != "all")]
    counts = {"train": c.train_roots, "heldout": c.heldout_roots}
    roots = {split: by.word(workflow.roots(split, n, chosen, config.seed)) for split, n in counts.items()}
    if spent := by.spent():
        show.line(spent)
    return roots


def next_workflows(
    config: config_dict.ConfigDict, before: dict[str, list[Workflow]], outcomes: dict[str, Outcome],
    by: Teacher = PROGRAM,
) -> dict[str, list[Workflow]]:
    """The next round's trees: training trees grow where the policy failed, held-out ones with the same operators.

    A tree whose earlier branches cannot be solved any more after the expansion is carried over as it was.
    """
    c = config.synth
    how = Selection(c.selection, c.expand_share, c.operator_quota, c.domain_quota)
    chosen = operators.select(c.operators)
    train_trees = selection.grow(before["train"], outcomes, chosen, how, config.seed, by.expand, by.rank)
    heldout_trees = selection.grow_like(before["heldout"], train_trees, config.seed, by.expand)
    grown = {"train": train_trees, "heldout": heldout_trees}
    for split in SPLITS:
        lost = gates.replay_failures(before[split], grown[split], world.reward, config.seed)
        for name, problem in lost.items():
            show.line(f"{name} is not expanded: {problem}")
        grown[split] = [old.kept() if new.id in lost else new for old, new in zip(before[split], grown[split])]
    if spent := by.spent():
        show.line(spent)
    return grown


def count(counts: dict[str, list], items: Sequence[Trajectory], tasks: Sequence[Task | Question], number: int) -> None:
    """Adds the rollouts of round `number`'s own tasks: workflow id -> [episodes, passes, {node kind: first departures},
    {kind of failure: episodes}].

    A failed rollout is charged to the node that it left first, and its mistake gets a name.
    """
    by_id = {task.id: task for task in tasks}
    for item in items:
        task = by_id[item.task_id]
        if not isinstance(task, Task) or task.round != number or item.reward is None:
            continue
        entry = counts.setdefault(f"{task.root}@r{task.round}", [0, 0, {}, {}])
        entry[0] += 1
        entry[1] += item.passed
        if item.score.node is not None:
            kind = next(n.kind for n in tree.nodes(tree.from_dict(task.tree)) if n.id == item.score.node)
            mistake = failures.kind(task, item.score.violations, item.score.subgoals)
            for found, name in ((entry[2], kind), (entry[3], mistake)):
                found[name] = found.get(name, 0) + 1


def outcomes(counts: Mapping[str, list]) -> dict[str, Outcome]:
    """What the policy did with each training tree, from what `count` has left."""
    return {
        name: Outcome(episodes, passes, *(tuple(Counter(dict(sorted(c.items()))).elements()) for c in kinds))
        for name, (episodes, passes, *kinds) in counts.items()
    }


def growth(counts: Mapping[str, list], grown: Sequence[Workflow]) -> dict[str, dict[str, int]]:
    """What summary.json says when a round is over: the kinds of mistakes made, and by which operators trees grew."""
    mistakes = sum((Counter(entry[3]) for entry in counts.values()), Counter())
    expanded = Counter(flow.operator or "none" for flow in grown)
    return {"mistakes": dict(sorted(mistakes.items())), "grown": dict(sorted(expanded.items()))}


def gated_splits(
    config: config_dict.ConfigDict, workdir: Path, number: int, trees: Mapping[str, Sequence[Workflow]], by: Teacher
) -> tuple[dict[str, Iterator[Task]], dict[str, Any]]:
    """(the tasks of the run's round `number` that pass the gates by split, what the gates rejected by split).

    Tasks are made when they are asked for, which has to be in the order of the splits; what was rejected is complete
    after the last. With synth.teacher_users the teacher words what users say. What the gates saw of every task goes to
    tasks/gates_<number>.jsonl. Asking raises ValueError, naming the gates and an example each, if a split has no task
    left.
    """
    seen = gates.Seen(
        similarity.Corpus.read(config.synth.benchmarks), config.env.max_turns, config.synth.distinct_trees
    )
    for earlier in range(config.reasoning.rounds, number):
        for split in SPLITS:
            for task in dataset.stream(workdir / "tasks" / f"round_{earlier}", split):
                seen.add(task)
    sides, reports = gates.Sides(), {}
    if hosts.first():
        (workdir / "tasks").mkdir(parents=True, exist_ok=True)
    notes = workdir / "tasks" / f"gates_{number}.jsonl" if hosts.first() else os.devnull

    def passing(split: str) -> Iterator[Task]:
        report = gates.Report()
        if config.synth.teacher_users:
            examined = candidates.worded(config, trees[split], by)
        else:
            examined = candidates.examined(config, trees[split], workdir / "tasks" / f".candidates_{number}_{split}")
        shown = show.bar(examined, f"round {number}: gates, {split}", len(trees[split]) * config.synth.variants)
        with open(notes, "w" if split == SPLITS[0] else "a", encoding="utf-8") as file:
            for task in gates.passing(shown, seen, report, lambda figures: file.write(json.dumps(figures) + "\n")):
                sides.add(split, task)
                # Held-out tasks are measured by code, whatever rewards training.
                yield dataclasses.replace(task, reward_source=config.rl.reward) if split == "train" else task
        reports[split] = report.to_dict()
        if not report.passed:
            raise ValueError(f"round {number}: no {split} task passed the gates: {reports[split]}")
        if leaks := sides.leaks():
            raise ValueError(f"round {number}: on both sides of the split: {leaks[:5]}")

    return {split: passing(split) for split in SPLITS}, reports


def watch_legal_share(number: int, report: Mapping[str, Any]) -> None:
    """Shows a line if too few or too many training tasks of a grown round are legal. report: of gates.Report."""
    share, (low, high) = report["legal"] / report["passed"], LEGAL
    if not low <= share <= high:
        show.line(f"round {number}: {share:.0%} of the train tasks are legal, expected {low:.0%} to {high:.0%}")


def describe(trees: dict[str, list[Workflow]], tasks: dict[str, list[Task]]) -> dict[str, float]:
    """What summary.json says of an agentic round beside what it says of every round."""
    grown = trees["train"] + trees["heldout"]
    return {
        "legal_share": sum(t.legal for t in tasks["train"]) / len(tasks["train"]),
        "branches_mean": sum(len(tree.branches(w.tree)) for w in grown) / len(grown),
        "depth_mean": sum(tree.depth(w.tree) for w in grown) / len(grown),
    }
