"""The stages that run one part of the loop on a workdir: synth, sft, rl, evaluate; and plan, which needs none."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from ml_collections import config_dict

from rl import evaluate as evaluation
from rl import flywheel, plan_search, planning, show
from rl import sft as warm_start
from synth import dataset, operators, preview


def synth(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Writes the gated tasks of round 0, tasks/round_0, and what the gates said, tasks/gates_0.json and .jsonl.

    With synth.rounds above 1 the tasks go to workdir/synth instead, where no flywheel takes them up: its own trees grow
    where a policy fails, these as if nothing were known of it. Either way a preview that a person can judge is printed,
    and its figures are written beside the tasks (preview.json).
    """
    operators.select(config.synth.operators)
    by = flywheel.make_teacher(config, workdir)
    trees, splits, notes = flywheel.first_workflows(config, by), {split: [] for split in flywheel.SPLITS}, []
    folder = workdir if config.synth.rounds == 1 else workdir / "synth"
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(config.synth.rounds):
        if number:
            trees = flywheel.next_workflows(config, trees, {}, by)
        for split, found in flywheel.round_tasks(config, folder, number, trees).items():
            splits[split] += found
            legal = sum(task.legal for task in found)
            print(f"round {number}  {split}: {len(found)} tasks of {len({t.root for t in found})} roots, {legal} legal")
        with open(folder / "tasks" / f"gates_{number}.jsonl", encoding="utf-8") as file:
            notes += map(json.loads, file)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    figures = preview.figures(splits, notes)
    flywheel.write_json(folder / "tasks" / "preview.json", figures)
    shown = random.Random(config.seed).sample(splits["train"], min(3, len(splits["train"])))
    print("\n".join(map(preview.full, shown)))
    print(json.dumps(figures, indent=2))
    gated = figures["gates"]["proposed"]
    print(f"{gated} candidates in {seconds:.1f} s, {cpu_seconds:.1f} s of this process's CPU; in {folder / 'tasks'}")


def sft(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Trains on demonstrations for rl.sft_steps and writes the policy to workdir/sft/policy.

    A flywheel on the same workdir starts from there.
    """
    print(f"policy in {warm_start.run(config, workdir / 'sft')}")


def rl(config: config_dict.ConfigDict, workdir: Path) -> None:
    """The RL of the workdir's current round (round 0 in a new one), without growing trees for the next.

    Raises ValueError if the rounds are all done.
    """
    run = flywheel.Flywheel(config, workdir)
    if run.progress.round >= config.rl.rounds:
        raise ValueError(f"rl: the {config.rl.rounds} rounds of {workdir} are done; raise rl.rounds for another")
    run.train_current_round()
    run.export()
    print(f"round {run.progress.round}: {run.progress.step} RL steps done; policy in {workdir / 'policy'}")


def evaluate(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Measures the initial and the current policy on the held-out tasks of every round in the workdir.

    Writes evaluation.json and leaves the run itself as it was. Raises ValueError if the workdir holds no tasks.
    """
    rounds = sorted(int(path.name.removeprefix("round_")) for path in (workdir / "tasks").glob("round_*"))
    if not rounds:
        raise ValueError(f"evaluate: {workdir} holds no tasks; run --stage=synth or --stage=flywheel first")
    run = flywheel.Flywheel(config, workdir, read_only=True)
    found = []
    for number in rounds:
        tasks = dataset.read(workdir / "tasks" / f"round_{number}", "heldout")
        record = {"round": number, "heldout_tasks": len(tasks), "constants": evaluation.constant_pass_rates(tasks)}
        for name, params in (("initial", run.parts.initial_params), ("current", run.trainer.state.params)):
            record[name] = run.measure(params, tasks, number, name)
        found.append(record)
    flywheel.write_json(workdir / "evaluation.json", {"updates": int(run.trainer.state.step), "rounds": found})
    show.line(f"in {workdir / 'evaluation.json'}")


def plan(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Compiles the config's programs for plan.topology and prints what they need; see rl/planning.py.

    With plan.search other configs' learners instead; see rl/plan_search.py.
    """
    (plan_search if config.plan.search else planning).run(config)
