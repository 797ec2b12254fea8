"""The round loop of the agentic flywheel.

Round k: trees that grew where the policy failed in round k-1 become gated tasks on disk; the frozen initial policy and
the current one are measured on the round's held-out tasks; RL trains; the new policy is measured; the failures say
where the next round's trees grow.

Everything is a function of config and seed, and everything the loop has to remember is in `Progress`, which is saved
with the train state. Where a run takes up again:
  1. the newest complete checkpoint gives train state and progress (none: the beginning);
  2. metrics.jsonl and rollouts/*.jsonl are cut back to the sizes that the checkpoint recorded;
  3. datasets that stand whole are read, others are written again, byte for byte the same.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import config_dict

from envs import world
from model import load, tokenizer
from rl import checkpoint, evaluate, report, rollout, setup, sft, show, train
from rl.trajectory import Trajectory
from synth import dataset, domains, failures, gates, generate, operators, selection, similarity, teacher, tree, workflow
from synth.llm import Client
from synth.selection import Outcome, Selection
from synth.task import Task
from synth.teacher import Teacher
from synth.workflow import Workflow

FILES = ("metrics.jsonl", "rollouts/*.jsonl")  # appended to while running, cut back on resume
SPLITS = ("train", "heldout")
PROGRAM = teacher.Program()


@dataclasses.dataclass
class Progress:
    """Where a run stands; JSON-serialisable.

    round, step: RL steps of `round` done so far. workflows: split -> this round's trees. counts: workflow id ->
    [episodes, passes, {node kind: first departures}, {kind of failure: episodes}] of this round's training rollouts.
    rounds: finished and current
    entries of summary.json. seconds: wall clock spent, over all sittings.
    """

    round: int = 0
    step: int = 0
    workflows: dict[str, list[dict]] = dataclasses.field(default_factory=dict)
    counts: dict[str, list] = dataclasses.field(default_factory=dict)
    rounds: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def trees(self, split: str) -> list[Workflow]:
        """This round's workflows of a split."""
        return [Workflow.from_dict(record) for record in self.workflows[split]]

    def outcomes(self) -> dict[str, Outcome]:
        """What the policy did with each training tree of this round."""
        return {
            name: Outcome(episodes, passes, *(tuple(Counter(dict(sorted(c.items()))).elements()) for c in kinds))
            for name, (episodes, passes, *kinds) in self.counts.items()
        }

    def count(self, items: Sequence[Trajectory], tasks: Sequence[Task]) -> None:
        """Charges each failed rollout of this round's tasks to the node that it left first, and names the mistake."""
        by_id = {task.id: task for task in tasks}
        for item in items:
            task = by_id[item.task_id]
            if task.round != self.round or item.reward is None:
                continue
            entry = self.counts.setdefault(f"{task.root}@r{task.round}", [0, 0, {}, {}])
            entry[0] += 1
            entry[1] += item.passed
            if item.score.node is not None:
                kind = next(n.kind for n in tree.nodes(tree.from_dict(task.tree)) if n.id == item.score.node)
                mistake = failures.kind(task, item.score.violations, item.score.subgoals)
                for counts, name in ((entry[2], kind), (entry[3], mistake)):
                    counts[name] = counts.get(name, 0) + 1


def make_teacher(config: config_dict.ConfigDict, workdir: Path) -> Teacher:
    """The teacher of a config; a model's answers are kept in workdir/teacher."""
    model = config.synth.teacher_model
    return teacher.create(config.synth.teacher, lambda offline: Client(model, workdir / "teacher", offline=offline))


def first_workflows(config: config_dict.ConfigDict, by: Teacher = PROGRAM) -> dict[str, list[Workflow]]:
    """The round-0 trees of both splits."""
    c = config.synth
    found = by.domains(c.teacher_domains)
    domains.register(found)
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
    train_trees = selection.grow(before["train"], outcomes, chosen, how, config.seed, by.expand)
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


def round_tasks(
    config: config_dict.ConfigDict, workdir: Path, round_number: int, trees: dict[str, list[Workflow]]
) -> dict[str, list[Task]]:
    """The gated tasks of a round, read from its dataset, which is written first if it is not there.

    Raises ValueError, naming the gates and an example each, if a split has no task left.
    """
    directory = workdir / "tasks" / f"round_{round_number}"
    if not directory.exists():
        corpus = similarity.Corpus.read(config.synth.benchmarks)
        seen = gates.Seen(corpus, config.env.max_turns, config.synth.distinct_trees)
        for earlier in range(round_number):
            for split in SPLITS:
                for task in dataset.read(workdir / "tasks" / f"round_{earlier}", split):
                    seen.add(task)
        splits, reports = {}, {}
        directory.parent.mkdir(parents=True, exist_ok=True)
        with open(directory.with_name(f"gates_{round_number}.jsonl"), "w", encoding="utf-8") as file:
            for split in SPLITS:
                candidates = generate.tasks(trees[split], config.synth.variants, config.synth.legal_share, config.seed)
                shown = show.bar(candidates, f"round {round_number}: gates, {split}")
                splits[split], found = gates.select(
                    shown,
                    world.reward,
                    seen,
                    lambda figures: file.write(json.dumps(figures) + "\n"),
                    _examined(candidates, config.synth.processes),
                )
                reports[split] = found.to_dict()
                if not splits[split]:
                    raise ValueError(f"round {round_number}: no {split} task passed the gates: {reports[split]}")
        if leaks := gates.split_leaks(splits["train"], splits["heldout"]):
            raise ValueError(f"round {round_number}: on both sides of the split: {leaks[:5]}")
        write_json(directory.with_name(f"gates_{round_number}.json"), reports)
        dataset.write(directory, splits)
    return {split: dataset.read(directory, split) for split in SPLITS}


def _examined(tasks: Sequence[Task], processes: int) -> Iterator[tuple[str | None, gates.Figures]]:
    """What the gates that concern a task alone say of each, in order, from so many processes."""
    examine = functools.partial(gates.examine, reward=world.reward)
    if processes == 1:
        yield from map(examine, tasks)
        return
    # Not forked: jax runs threads, and a lock that one of them holds would stay locked in the child.
    known = (list(domains.DOMAINS.values()),)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), domains.register, known) as pool:
        yield from pool.map(examine, tasks, chunksize=16)


def write_json(path: Path, record: Any) -> None:
    """Writes a JSON file in one rename, so that it stands whole or not at all."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)


class Flywheel:
    """A run in a workdir. read_only: measure only, write no rollouts and leave files as they are."""

    def __init__(self, config: config_dict.ConfigDict, workdir: Path, read_only: bool = False):
        self.config, self.workdir, self.read_only = config, workdir, read_only
        self.started = time.perf_counter()
        operators.select(config.synth.operators)  # wrong names fail here, before anything is loaded
        self.teacher = make_teacher(config, workdir)
        self.progress = Progress(
            workflows={s: [w.to_dict() for w in ws] for s, ws in first_workflows(config, self.teacher).items()}
        )
        if config.rl.sft_steps:  # the warm start's policy is the one this run starts from
            start = workdir / "sft" / "policy"
            if read_only and not start.exists():
                raise ValueError(f"{start} is missing: the warm start (rl.sft_steps) has not finished")
            sft.run(config, workdir / "sft")
            config = config.copy_and_resolve_references()
            config.model.checkpoint, config.model.init = str(start), "checkpoint"
        self.parts = setup.build(config)
        if not read_only:
            (workdir / "rollouts").mkdir(parents=True, exist_ok=True)
        self.checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", config.checkpoint.keep, read_only)
        self.trainer = train.Trainer.create(self.parts)
        self._resume()

    def _resume(self) -> None:
        """Takes up the newest checkpoint, if there is one, and cuts the files back to it."""
        restored = self.checkpoints.restore(self.trainer.state)
        files = {}
        if restored is not None:
            self.trainer.state, meta = restored
            self.progress, files = Progress(**meta["progress"]), meta["files"]
            print(f"resuming at round {self.progress.round}, step {self.progress.step}", flush=True)
        if not self.read_only:
            checkpoint.cut_back(self.workdir, files, FILES)
        self.before = self.progress.seconds

    def save(self) -> None:
        """A checkpoint of everything the loop has to remember."""
        self.progress.seconds = self.before + time.perf_counter() - self.started
        latest = self.checkpoints.latest()
        meta = {"progress": dataclasses.asdict(self.progress), "files": checkpoint.file_sizes(self.workdir, FILES)}
        self.checkpoints.save(0 if latest is None else latest + 1, self.trainer.state, meta)

    def run(self) -> dict[str, Any]:
        """All rounds from where the run stands. Returns what it writes to summary.json."""
        while self.progress.round < self.config.rl.rounds:
            tasks = self.train_current_round()
            self.close_round(tasks["heldout"])
        self.export()
        return self.write_summary()

    def train_current_round(self) -> dict[str, list[Task]]:
        """The current round up to the end of its RL; returns its tasks."""
        number = self.progress.round
        earlier = [
            task for k in range(number) for task in dataset.read(self.workdir / "tasks" / f"round_{k}", "train")
        ]
        trees = {split: self.progress.trees(split) for split in SPLITS}
        tasks = round_tasks(self.config, self.workdir, number, trees)
        if len(self.progress.rounds) == number:
            self.open_round(tasks, trees)
        self.train_round(tasks["train"], earlier)
        return tasks

    def export(self) -> None:
        """Writes the current policy as an HF folder, workdir/policy."""
        load.save_pretrained(self.policy(), self.parts.architecture, self.workdir / "policy")
        tokenizer.save(self.parts.chat.tokenizer, self.workdir / "policy")

    def policy(self) -> nnx.Module:
        """The policy with the current parameters."""
        return nnx.merge(nnx.split(self.parts.policy)[0], self.trainer.state.params)

    def measure(self, params: Any, tasks: list[Task], number: int, name: str) -> dict[str, Any]:
        """Held-out pass rate of some parameters in round `number`: sampled trials, and a greedy one beside them.

        Tasks and seeds are those of the round, whatever the parameters. Episodes go to
        rollouts/round_<k>_heldout_<name>.jsonl, greedy ones to round_<k>_heldout_<name>_greedy.jsonl.
        """
        c = self.config.evaluate

        def rate(label: str, members: Sequence[int], **sampling: float) -> dict[str, Any]:
            """The pass rate of one set of trials, whose episodes are on disk before anything can go wrong with them."""
            seed = evaluate.derive_seed(self.config.seed, "evaluate", number)
            version = int(self.trainer.state.step)
            with show.Progress(f"round {number}: held-out, {label}") as bar:
                items = self.parts.rollouts.run(
                    params, tasks, members, version, seed=seed, on_progress=bar.update, **sampling
                )
            if not self.read_only:
                path = self.workdir / "rollouts" / f"round_{number}_heldout_{label}.jsonl"
                rollout.write(items, path, round=number, phase=label)
            show.faults(items)
            return evaluate.pass_rate(tasks, items, c.bootstrap)

        result = rate(name, range(c.trials))
        if c.greedy:
            greedy = rate(f"{name}_greedy", [0], temperature=0.0)
            result |= {"greedy": greedy["mean"], "greedy_faults": greedy["faults"]}
        show.line(f"round {number}  held-out, {name}: {show.percent(result)}")
        return result

    def open_round(self, tasks: dict[str, list[Task]], trees: dict[str, list[Workflow]]) -> None:
        """Measures the initial and the current policy on the round's held-out tasks, and saves."""
        heldout, number = tasks["heldout"], self.progress.round
        initial = self.measure(self.parts.initial_params, heldout, number, "initial")
        # Nothing has been trained before round 0 without a warm start: the same parameters, seeds and episodes.
        same = number == 0 and not int(self.trainer.state.step)
        before = initial if same else self.measure(self.trainer.state.params, heldout, number, "before")
        grown = trees["train"] + trees["heldout"]
        self.progress.rounds.append(
            {
                "round": number,
                "flywheel": "agentic",
                "train_tasks": len(tasks["train"]),
                "heldout_tasks": len(heldout),
                "heldout_roots": len({t.root for t in heldout}),
                "legal_share": sum(t.legal for t in tasks["train"]) / len(tasks["train"]),
                "branches_mean": sum(len(tree.branches(w.tree)) for w in grown) / len(grown),
                "depth_mean": sum(tree.depth(w.tree) for w in grown) / len(grown),
                "constants": evaluate.constant_pass_rates(heldout),
                "pass_initial": initial,
                "pass_before": before,
            }
        )
        self.save()

    def train_round(self, current: list[Task], earlier: list[Task]) -> None:
        """The round's RL steps, from where they stand."""
        c, number = self.config.rl, self.progress.round
        order = evaluate.derive_seed(self.config.seed, "tasks", number)  # one for all steps: they share an epoch
        while self.progress.step < c.steps:
            step = self.progress.step
            seed = train.step_seed(self.config.seed, number, step)
            tasks = train.step_tasks(current, earlier, c.groups, c.replay_share, order, step)
            with show.Progress(f"round {number}: step {step + 1}/{c.steps}") as bar:
                items, metrics = self.trainer.step(tasks, seed, bar.update)
            self.progress.count(items, tasks)
            self.progress.step += 1
            path = self.workdir / "rollouts" / f"round_{number}.jsonl"
            rollout.write(items, path, round=number, phase="train", step=step)
            with open(self.workdir / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"round": number, "step": step, **metrics}) + "\n")
            show.faults(items)
            show.line(show.step(number, step, c.steps, metrics))
            if self.progress.step % self.config.checkpoint.every == 0 or self.progress.step == c.steps:
                self.save()

    def close_round(self, heldout: list[Task]) -> None:
        """Measures the trained policy, grows the trees for the next round, and saves."""
        progress = self.progress
        progress.rounds[-1]["pass_after"] = self.measure(self.trainer.state.params, heldout, progress.round, "after")
        grown = next_workflows(self.config, {s: progress.trees(s) for s in SPLITS}, progress.outcomes(), self.teacher)
        mistakes = sum((Counter(entry[3]) for entry in progress.counts.values()), Counter())
        expanded = Counter(w.operator or "none" for w in grown["train"])
        progress.rounds[-1] |= {"mistakes": dict(sorted(mistakes.items())), "grown": dict(sorted(expanded.items()))}
        progress.workflows = {split: [w.to_dict() for w in ws] for split, ws in grown.items()}
        progress.round, progress.step, progress.counts = progress.round + 1, 0, {}
        self.save()
        self.write_summary()

    def write_summary(self) -> dict[str, Any]:
        """summary.json of the rounds finished so far."""
        summary = {
            "seed": self.config.seed,
            "config": self.config.to_dict(),
            "wall_seconds": self.before + time.perf_counter() - self.started,
            "rounds": self.progress.rounds,
        }
        write_json(self.workdir / "summary.json", summary)
        return summary


def run(config: config_dict.ConfigDict, workdir: Path) -> None:
    """--stage=flywheel: runs or resumes all rounds, then prints the closing table."""
    summary = Flywheel(config, workdir).run()
    print(report.table(summary["rounds"]))
    last = summary["rounds"][-1]
    name, rate = max(last["constants"].items(), key=lambda item: item[1])
    print(f"best constant policy in round {last['round']}: {name}, {100 * rate:.1f} %")
    print(f"{summary['wall_seconds']:.0f} s; look closer with: python -m rl.report --workdir={workdir} --random=3")
