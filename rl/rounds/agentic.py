"""The agentic flywheel's part of the round loop: a teacher, trees that grow where the policy fails, gated tasks.

The counterpart for reasoning is rl/rounds/reasoning.py. A task's own round number counts from the first round of the
agentic flywheel, not from the first of the run.
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
from synth import dataset, operators, registers
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
# By so much the share of legal tasks in a grown round's training tasks may differ from synth.legal_share. Else always
# refusing, or always obeying, would be rewarded more often than intended.
LEGAL = 0.1
PROGRAM = teacher.Program()


def make_teacher(config: config_dict.ConfigDict, workdir: Path) -> Teacher:
    """The teacher that the config names. If it is a model, its answers are kept in workdir/teacher."""
    return teacher.create(config.synth.teacher, lambda offline: clients.teacher(config, workdir, offline))


def register(config: config_dict.ConfigDict, by: Teacher) -> list[domains.Domain]:
    """Registers the domains, or businesses, that the teacher proposes in this process; returns them."""
    propose = by.domains if config.synth.register == "tiny" else by.businesses
    found = propose(config.synth.teacher_domains)
    domains.register(found)
    return found


def first_workflows(config: config_dict.ConfigDict, by: Teacher = PROGRAM) -> dict[str, list[Workflow]]:
    """split -> the trees of the flywheel's first round."""
    c = config.synth
    found = register(config, by)
    chosen = registers.select(c.register, c.domains, c.businesses, c.unseen_share)
    added = [
        domain for domain in found if c.domains != "all" or c.register != "tiny"
    ]  # "all" of the tiny ones has them
    counts = {"train": c.train_roots, "heldout": c.heldout_roots}
    roots = {
        split: by.word(workflow.roots(split, n, [*chosen[split], *added], config.seed)) for split, n in counts.items()
    }
    if spent := by.spent():
        show.line(spent)
    return roots


def unseen(config: config_dict.ConfigDict) -> frozenset[str]:
    """The names of the businesses from which no training task is."""
    c = config.synth
    if c.register == "tiny" or not c.unseen_share:
        return frozenset()
    chosen = registers.select(c.register, c.domains, c.businesses, c.unseen_share)
    return frozenset(domain.name for domain in chosen["heldout"]) - {domain.name for domain in chosen["train"]}


def next_workflows(
    config: config_dict.ConfigDict,
    before: dict[str, list[Workflow]],
    outcomes: dict[str, Outcome],
    by: Teacher = PROGRAM,
) -> dict[str, list[Workflow]]:
    """split -> the next round's trees, grown from `before`, in the same order.

    Training trees grow where the policy failed, according to `outcomes` (workflow id -> Outcome). Held-out trees grow
    by the same operators. If a tree's expansion makes one of its earlier branches unsolvable, the tree is kept as it
    was.
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
    """Adds rollouts of round `number`'s tasks to `counts`; rollouts of other tasks and faulted ones are ignored.

    counts: workflow id -> [episodes, passes, {kind of node: failures}, {kind of mistake: failures}]. A failed rollout
    counts for the first node of the tree at which it departed from the correct path. number: counted from the
    flywheel's first round. tasks: must contain those of the rollouts.
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
    """workflow id -> the policy's outcome on that training tree. counts: filled by `count`."""
    return {
        name: Outcome(episodes, passes, *(tuple(Counter(dict(sorted(c.items()))).elements()) for c in kinds))
        for name, (episodes, passes, *kinds) in counts.items()
    }


def growth(counts: Mapping[str, list], grown: Sequence[Workflow]) -> dict[str, dict[str, int]]:
    """The entries of summary.json at the end of a round.

    "mistakes": kind of mistake -> episodes. "grown": operator -> trees that it expanded, "none" for those unchanged.
    """
    mistakes = sum((Counter(entry[3]) for entry in counts.values()), Counter())
    expanded = Counter(flow.operator or "none" for flow in grown)
    return {"mistakes": dict(sorted(mistakes.items())), "grown": dict(sorted(expanded.items()))}


def gated_splits(
    config: config_dict.ConfigDict, workdir: Path, number: int, trees: Mapping[str, Sequence[Workflow]], by: Teacher
) -> tuple[dict[str, Iterator[Task]], dict[str, Any]]:
    """({split: the tasks that pass the gates}, {split: report of the gates}) for the run's round `number`.

    The tasks are generated while they are consumed, which must be in the order of SPLITS. A split's report is there
    once all its tasks have been consumed. With synth.teacher_users the teacher words what users say. The gates' figures
    for every task are written to tasks/gates_<number>.jsonl.

    Consuming raises ValueError if no task of a split passes, with the gates' report, or if the splits share a root.
    """
    seen = gates.Seen(
        similarity.Corpus.read(config.synth.benchmarks), config.env.max_turns, config.synth.distinct_trees
    )
    for earlier in range(config.reasoning.rounds, number):
        for split in SPLITS:
            for task in dataset.stream_round(workdir / "tasks", earlier, split, config.reasoning.rounds):
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
                # rl.reward applies to training only; held-out tasks are always rewarded by code.
                yield dataclasses.replace(task, reward_source=config.rl.reward) if split == "train" else task
        reports[split] = report.to_dict()
        if not report.passed:
            raise ValueError(f"round {number}: no {split} task passed the gates: {reports[split]}")
        if leaks := sides.leaks():
            raise ValueError(f"round {number}: in both the train and the heldout split: {leaks[:5]}")

    return {split: passing(split) for split in SPLITS}, reports


def watch_legal_share(number: int, report: Mapping[str, Any], wanted: float) -> None:
    """Prints a warning if the share of legal training tasks of a grown round is far from `wanted`. report: the training
    split's gates.Report as a dict."""
    share, low, high = report["legal"] / report["passed"], wanted - LEGAL, wanted + LEGAL
    if not low <= share <= high:
        show.line(f"round {number}: {share:.0%} of the train tasks are legal, expected {low:.0%} to {high:.0%}")


def describe(trees: dict[str, list[Workflow]], tasks: dict[str, list[Task]]) -> dict[str, float]:
    """The entries of summary.json that only agentic rounds have. tasks, trees: by split."""
    grown = trees["train"] + trees["heldout"]
    return {
        "legal_share": sum(t.legal for t in tasks["train"]) / len(tasks["train"]),
        "branches_mean": sum(len(tree.branches(w.tree)) for w in grown) / len(grown),
        "depth_mean": sum(tree.depth(w.tree) for w in grown) / len(grown),
    }
