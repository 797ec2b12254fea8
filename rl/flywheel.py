"""The round loop: first the rounds of the reasoning flywheel, if the config has any, then those of the agentic one.

Round k:
  1. The trees, which grew where the policy failed in round k-1, are turned into gated tasks on disk.
  2. The frozen initial policy and the current policy are measured on the round's held-out tasks.
  3. RL trains the current policy on the round's training tasks, and the trained policy is measured.
  4. Its failures during training decide where the next round's trees grow.
In rounds of the reasoning flywheel, patterns of problems take the place of trees (rl/rounds/reasoning.py).

A run is a function of config and seed. All that the loop has to remember is in `Progress`, which is saved together with
the train state. To resume a run:
  1. train state and progress are read from the newest complete checkpoint (without one the run starts from scratch);
  2. metrics.jsonl and rollouts/*.jsonl are cut back to the sizes that the checkpoint recorded;
  3. complete datasets are read; incomplete ones are written again, identical byte for byte.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import config_dict

from model.checkpoints import generation, load, lora
from model.text import tokenizer
from rl import checkpoint, hosts, setup, train
from rl import workdir as workdirs
from rl.evaluation import pass_rates
from rl.reports import report, show
from rl.rollouts import measure, rollout
from rl.rounds import agentic, lengths, reasoning
from rl.trajectory import Trajectory
from rl.warmstart import sft
from synth import dataset, operators
from synth.gating import similarity
from synth.problems.growth import Pattern
from synth.question import Question
from synth.task import Task
from synth.teachers.teacher import Teacher
from synth.trees.workflow import Workflow

# Files that the run appends to and cuts back on resume, as patterns of whole names; a person's files beside them stay.
FILES = ("metrics[.]jsonl", r"rollouts/round_\d+(_heldout_(initial|before|after)(_greedy)?)?[.]jsonl")
SPLITS = agentic.SPLITS


@dataclasses.dataclass
class Progress:
    """How far a run has got; JSON-serialisable.

    round: the current round. step: RL steps done in it. agentic_from: the first round of the agentic flywheel; earlier
    rounds belong to the reasoning flywheel. workflows: split -> this round's trees or patterns, as dicts. counts: the
    outcomes of this round's training rollouts (see agentic.count and reasoning.count). rounds: the summary.json entries
    of the finished rounds and the current one. seconds: wall-clock time, summed over the processes that resumed the
    run one after the other.
    """

    round: int = 0
    step: int = 0
    agentic_from: int = 0
    workflows: dict[str, list[dict]] = dataclasses.field(default_factory=dict)
    counts: dict[str, list] = dataclasses.field(default_factory=dict)
    rounds: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def flywheel(self) -> str:
        """The flywheel of the current round: "reasoning" or "agentic"."""
        return "agentic" if self.round >= self.agentic_from else "reasoning"

    def trees(self, split: str) -> list[Workflow] | list[Pattern]:
        """The current round's workflows (agentic) or patterns (reasoning) of a split."""
        kind = Workflow if self.flywheel == "agentic" else Pattern
        return [kind.from_dict(record) for record in self.workflows[split]]

    def count(self, items: Sequence[Trajectory], tasks: Sequence[Task | Question]) -> None:
        """Adds rollouts to `counts`: each failed one is charged to the place in its task where it went wrong.

        tasks: those of the rollouts, and maybe others. Rollouts of earlier rounds' tasks are ignored.
        """
        if self.flywheel == "agentic":
            agentic.count(self.counts, items, tasks, self.round - self.agentic_from)
        else:
            reasoning.count(self.counts, items, tasks, self.round)


def begin(config: config_dict.ConfigDict, by: Teacher = agentic.PROGRAM) -> Progress:
    """The progress of a run that has not started: round 0, step 0, with the trees of round 0.

    by: the teacher that proposes domains and words the trees.
    """
    rounds = config.reasoning.rounds
    # Registered even if round 0 is a reasoning round, which uses no domains: a resumed run may be in a later round.
    agentic.register(config, by)
    trees = reasoning.first_patterns(config) if rounds else agentic.first_workflows(config, by)
    return Progress(agentic_from=rounds, workflows={s: [w.to_dict() for w in ws] for s, ws in trees.items()})


def round_tasks(
    config: config_dict.ConfigDict,
    workdir: Path,
    round_number: int,
    trees: dict[str, list],
    by: Teacher = agentic.PROGRAM,
) -> dict[str, list[Task]] | dict[str, list[Question]]:
    """split -> the gated tasks of a round, read from its dataset. A missing dataset is written first (`write_round`).

    Raises ValueError as `write_round` and `dataset.stream` do.
    """
    write_round(config, workdir, round_number, trees, by)
    return {
        split: dataset.read_round(workdir / "tasks", round_number, split, config.reasoning.rounds) for split in SPLITS
    }


def write_round(
    config: config_dict.ConfigDict, workdir: Path, round_number: int, trees: dict[str, list], by: Teacher
) -> Path:
    """Writes the gated tasks of a round, unless that has been done; returns their folder.

    by: the teacher, which words what users say if synth.teacher_users is set.
    Raises ValueError if no task of a split passes the gates; the error gives an example for each gate.
    """
    directory = workdir / "tasks" / f"round_{round_number}"
    if not directory.exists():
        if round_number < config.reasoning.rounds:
            found = reasoning.gated_splits(config, workdir, round_number, trees)
        else:
            found = agentic.gated_splits(config, workdir, round_number, trees, by)
        store(directory, *found)
        if round_number > config.reasoning.rounds:
            agentic.watch_legal_share(round_number, found[1]["train"], config.synth.legal_share)
        if config.synth.teacher_users:
            show.line(by.spent())
    hosts.wait(f"tasks of round {round_number}")
    return directory


def store(directory: Path, splits: Mapping[str, Iterable], reports: dict[str, Any]) -> None:
    """Writes a round's dataset, tasks/round_k, and the reports of its gates, tasks/gates_k.json.

    Only the first process writes. splits: split -> its tasks, which may be made lazily. reports: split -> the report
    of the gates, filled in while the tasks are consumed and complete after the last one.
    """
    if hosts.first():
        directory.parent.mkdir(parents=True, exist_ok=True)
        gates = directory.with_name(f"{directory.name.replace('round', 'gates')}.json")
        dataset.write(directory, splits, lambda: hosts.write_json(gates, reports))
    else:  # consume the tasks here too: an error raised while they are made has to stop every process
        collections.deque(itertools.chain(*splits.values()), maxlen=0)


def constant_pass_rates(tasks: Sequence[Task] | Sequence[Question]) -> dict[str, float]:
    """Name of a constant policy -> its pass rate, in [0, 1], on the tasks of a round."""
    side = pass_rates if isinstance(tasks[0], Task) else reasoning
    return side.constant_pass_rates(tasks)


def start(config: config_dict.ConfigDict, workdir: Path) -> config_dict.ConfigDict:
    """The config with the policy that the run starts from as model.checkpoint: that of the warm start, if there is one.

    Raises ValueError if the warm start has not finished.
    """
    if not config.rl.sft_steps:
        return config
    warm = workdir / "sft" / "policy"
    if not warm.exists():
        raise ValueError(f"{warm} is missing: the warm start (rl.sft_steps) has not finished")
    return from_folder(config, warm)


def from_folder(config: config_dict.ConfigDict, folder: Path) -> config_dict.ConfigDict:
    """The config with the weights of this folder as model.checkpoint."""
    config = config.copy_and_resolve_references()
    config.model.checkpoint, config.model.init = str(folder), "checkpoint"
    return config


def total_rounds(config: config_dict.ConfigDict) -> int:
    """The number of rounds of both flywheels together."""
    return config.reasoning.rounds + config.rl.rounds


class Flywheel:
    """A run in a workdir, new or resumed.

    read_only: restore the run's state to look at it, and change none of its files.
    Raises ValueError if a name in the config is wrong, or if read_only is set and the warm start has not finished.
    """

    def __init__(self, config: config_dict.ConfigDict, workdir: Path, read_only: bool = False):
        self.config, self.workdir, self.read_only = config, workdir, read_only
        self.started = time.perf_counter()
        operators.select(config.synth.operators)  # raises for a wrong name before anything is loaded
        similarity.locate(config.synth.benchmarks)
        self.teacher = agentic.make_teacher(config, workdir)
        self.progress = begin(config, self.teacher)
        if config.rl.sft_steps and not read_only:
            sft.run(config, workdir / "sft")
        self.parts = setup.build(start(config, workdir), workdir)
        if not read_only:
            (workdir / "rollouts").mkdir(parents=True, exist_ok=True)
        self.checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", config.checkpoint.keep, read_only)
        self.trainer = train.Trainer.create(self.parts)
        self._resume()

    def _resume(self) -> None:
        """Restores the newest checkpoint, if there is one, and cuts the files back to the sizes it recorded."""
        restored = self.checkpoints.restore(self.trainer.state)
        files = {}
        if restored is not None:
            self.trainer.state, meta = restored
            self.progress, files = Progress(**meta["progress"]), meta["files"]
            if not self.read_only:
                print(f"resuming at round {self.progress.round}, step {self.progress.step}", flush=True)
        elif self.read_only:
            show.line(f"no checkpoint in {self.checkpoints.directory}: taking the policy that the run started from")
        if not self.read_only and hosts.first():
            if restored is None:
                self._set_aside()
            checkpoint.cut_back(self.workdir, files, FILES)
        self.before = self.progress.seconds

    def _set_aside(self) -> None:
        """Moves the records of a run whose checkpoints are gone into a folder of their own, and says so.

        A run saves its first checkpoint before its first RL step. So a line of metrics without a checkpoint means that
        the checkpoints were lost; without one, what there is comes again, the same to the bit.
        """
        metrics = self.workdir / "metrics.jsonl"
        if not metrics.exists() or not any(report.read_lines(metrics)):
            return
        names = [*checkpoint.file_sizes(self.workdir, FILES), "summary.json", "policy", "policy_adapter"]
        folder = workdirs.set_aside(self.workdir, names)
        print(f"no checkpoint in {self.workdir / 'checkpoints'}: starting anew; the records found here are now in "
              f"{folder}", flush=True)  # fmt: skip

    def save(self) -> None:
        """Saves a checkpoint: the train state, the progress and the sizes of the files that are appended to."""
        self.progress.seconds = self.before + time.perf_counter() - self.started
        latest = self.checkpoints.latest()
        meta = {"progress": dataclasses.asdict(self.progress), "files": checkpoint.file_sizes(self.workdir, FILES)}
        self.checkpoints.save(0 if latest is None else latest + 1, self.trainer.state, meta)

    def run(self) -> dict[str, Any]:
        """Runs all remaining rounds and exports the policy. Returns the content of summary.json."""
        while self.progress.round < total_rounds(self.config):
            tasks = self.train_current_round()
            self.close_round(tasks["heldout"])
        self.export()
        return self.write_summary()

    def train_current_round(self) -> dict[str, list[Task]]:
        """Runs the current round up to the end of its RL; returns split -> its tasks."""
        number = self.progress.round
        where, agentic_from = self.workdir / "tasks", self.progress.agentic_from
        earlier = [task for k in range(number) for task in dataset.read_round(where, k, "train", agentic_from)]
        trees = {split: self.progress.trees(split) for split in SPLITS}
        tasks = round_tasks(self.config, self.workdir, number, trees, self.teacher)
        prompts = lengths.Lengths(self.parts.chat, self.config.sampler.context)
        tasks["train"] = prompts.fitting(number, tasks["train"])
        earlier = [task for task in earlier if not prompts.excess(task)]  # an earlier round has told how many
        if len(self.progress.rounds) == number:
            self.open_round(tasks, trees)
        self.train_round(tasks["train"], earlier)
        if self.config.rl.reward == "llm":
            show.line(f"judge: {self.parts.judge_client.ledger.told()}")
        return tasks

    def export(self) -> None:
        """Writes the current policy to workdir/policy, a Hugging Face folder, and its adapters, if any, to
        workdir/policy_adapter."""
        load.save_pretrained(self.policy(), self.parts.architecture, self.workdir / "policy")
        if self.trainer.state.adapters is not None:
            base = self.parts.config.model.checkpoint  # the warm start's policy, if there was one
            settings = setup.adapters(self.config)
            lora.save(self.trainer.state.adapters, settings, base, self.workdir / "policy_adapter")
        if hosts.first():
            chat, source = self.parts.chat, self.parts.config.model.checkpoint
            tokenizer.save(chat.tokenizer, self.workdir / "policy")
            generation.save(self.workdir / "policy", source, chat.stop_ids, chat.tokenizer.pad_token_id)

    def policy(self) -> nnx.Module:
        """The policy module with the current parameters."""
        return nnx.merge(nnx.split(self.parts.policy)[0], self.trainer.state.params)

    def measure(self, params: Any, tasks: list[Task], number: int, name: str) -> dict[str, Any]:
        """The held-out pass rate of `params` in round `number`, by evaluate.trials sampled trials per task.

        The seed depends on the round only, so all parameters of a round are measured alike. Episodes are written to
        rollouts/round_<number>_heldout_<name>.jsonl. With evaluate.greedy each task is also played once greedily;
        those episodes are written to rollouts/round_<number>_heldout_<name>_greedy.jsonl.
        Returns `pass_rates.pass_rate`, with "greedy" and "greedy_faults" added for greedy trials.
        """
        c = self.config.evaluate

        def rate(label: str, members: Sequence[int], **sampling: float) -> dict[str, Any]:
            """The pass rate of one set of trials. Episodes are written first, so an error in the rate loses none."""
            seed = pass_rates.derive_seed(self.config.seed, "evaluate", number)
            version = 0 if name == "initial" else int(self.trainer.state.step)
            with show.Progress(f"round {number}: held-out, {label}") as bar:
                items = self.parts.play(params, tasks, members, version, seed=seed, on_progress=bar.update, **sampling)
            if hosts.first():
                path = self.workdir / "rollouts" / f"round_{number}_heldout_{label}.jsonl"
                rollout.write(items, path, round=number, phase=label)
            show.faults(items)
            return pass_rates.pass_rate(tasks, items, c.bootstrap, agentic.unseen(self.config))

        result = rate(name, range(c.trials))
        if c.greedy:
            greedy = rate(f"{name}_greedy", [0], temperature=0.0)
            result |= {"greedy": greedy["mean"], "greedy_faults": greedy["faults"]}
        show.line(f"round {number}  held-out, {name}: {show.percent(result)}")
        return result

    def open_round(self, tasks: dict[str, list[Task]], trees: dict[str, list[Workflow]]) -> None:
        """Measures the initial and the current policy on the round's held-out tasks, and saves a checkpoint."""
        heldout, number = tasks["heldout"], self.progress.round
        lengths.Lengths(self.parts.chat, self.config.sampler.context).watch(number, heldout)
        initial = self.measure(self.parts.initial_params, heldout, number, "initial")
        # Before any update both policies are the same, so the second measurement would repeat the first.
        same = number == 0 and not int(self.trainer.state.step)
        before = initial if same else self.measure(self.trainer.state.params, heldout, number, "before")
        side = agentic if self.progress.flywheel == "agentic" else reasoning
        self.progress.rounds.append(
            {
                "round": number,
                "flywheel": self.progress.flywheel,
                "train_tasks": len(tasks["train"]),
                "heldout_tasks": len(heldout),
                "heldout_roots": len({t.root for t in heldout}),
                **side.describe(trees, tasks),
                "constants": constant_pass_rates(heldout),
                "pass_initial": initial,
                "pass_before": before,
            }
        )
        self.save()

    def train_round(self, current: list[Task], earlier: list[Task]) -> None:
        """Runs the round's remaining RL steps. current: the round's training tasks. earlier: those to replay."""
        c, number = self.config.rl, self.progress.round
        order = pass_rates.derive_seed(self.config.seed, "tasks", number)  # one seed for the round: see step_tasks

        def drawn(step: int) -> tuple[list[Task], int]:
            """(the tasks of a step, its sampling seed)."""
            if self.progress.flywheel == "reasoning":
                tasks = reasoning.step_tasks(self.config, current, earlier, order, step)
            else:
                tasks = train.step_tasks(current, earlier, c.groups, c.replay_share, order, step)
            return tasks, train.step_seed(self.config.seed, number, step)

        while self.progress.step < c.steps:
            step = self.progress.step
            # A checkpoint holds no unfinished episodes. So a step that saves plays all episodes to their ends and
            # samples nothing ahead.
            saves = (step + 1) % self.config.checkpoint.every == 0 or step + 1 == c.steps
            tasks, seed = drawn(step)
            with show.Progress(f"round {number}: step {step + 1}/{c.steps}") as bar:
                ahead = c.max_staleness and not c.partial_turns and not saves
                following = drawn(step + 1) if ahead else None
                more = functools.partial(train.refill_tasks, current, seed=order, step=step)
                whole = saves or not c.partial_turns
                items, metrics = self.trainer.step(tasks, seed, bar.update, more, following, whole)
            metrics |= measure.by_environment(items, [*current, *earlier])
            self.progress.count(items, [*current, *earlier])
            self.progress.step += 1
            if hosts.first():
                path = self.workdir / "rollouts" / f"round_{number}.jsonl"
                rollout.write(items, path, round=number, phase="train", step=step)
                with open(self.workdir / "metrics.jsonl", "a", encoding="utf-8") as file:
                    record = {"round": number, "step": step, **measure.finite(metrics)}
                    file.write(json.dumps(record, allow_nan=False) + "\n")
            show.faults(items)
            show.line(show.step(number, step, c.steps, metrics))
            if saves:
                self.save()

    def close_round(self, heldout: list[Task]) -> None:
        """Measures the trained policy, grows the trees or patterns of the next round, and saves a checkpoint."""
        progress = self.progress
        progress.rounds[-1]["pass_after"] = self.measure(self.trainer.state.params, heldout, progress.round, "after")
        trees = {split: progress.trees(split) for split in SPLITS}
        if progress.flywheel == "agentic":
            grown = agentic.next_workflows(self.config, trees, agentic.outcomes(progress.counts), self.teacher)
            progress.rounds[-1] |= agentic.growth(progress.counts, grown["train"])
        elif progress.round + 1 == progress.agentic_from:
            grown = agentic.first_workflows(self.config, self.teacher)
        else:
            grown = reasoning.next_patterns(self.config, trees, progress.counts)
            if failed := reasoning.failed_problems(self.config, self.workdir, progress.round, progress.counts):
                hosts.write_json(self.workdir / "tasks" / f"failed_{progress.round}.json", failed)
        progress.workflows = {split: [w.to_dict() for w in ws] for split, ws in grown.items()}
        progress.round, progress.step, progress.counts = progress.round + 1, 0, {}
        self.save()
        self.write_summary()

    def write_summary(self) -> dict[str, Any]:
        """Writes summary.json, the record of the rounds so far, and returns its content."""
        summary = {
            "seed": self.config.seed,
            "config": self.config.to_dict(),
            "wall_seconds": self.before + time.perf_counter() - self.started,
            "rounds": self.progress.rounds,
        }
        hosts.write_json(self.workdir / "summary.json", summary)
        return summary


def run(config: config_dict.ConfigDict, workdir: Path) -> None:
    """--stage=flywheel: runs or resumes all rounds, then prints the final tables.

    Raises ValueError and RuntimeError as `Flywheel` and `train.Trainer.step` do.
    """
    summary = Flywheel(config, workdir).run()
    print(*filter(None, (report.table(summary["rounds"]), report.world_table(summary["rounds"]))), sep="\n\n")
    last = summary["rounds"][-1]
    name, rate = max(last["constants"].items(), key=lambda item: item[1])
    print(f"best constant policy in round {last['round']}: {name}, {100 * rate:.1f} %")
    look = f"./run -m rl.reports.report --workdir={workdir} --random=3"
    print(f"{summary['wall_seconds']:.0f} s; look closer with: {look}")
