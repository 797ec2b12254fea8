"""The stages that run one part of the loop on a workdir: synth, sft, rl, evaluate; and plan, which needs none."""

from __future__ import annotations

from pathlib import Path

from ml_collections import config_dict

from rl import flywheel, plan_search, planning, show
from rl import sft as warm_start
from synth import dataset, operators


def synth(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Writes the gated tasks of round 0, tasks/round_0, and what the gates said, tasks/gates_0.json."""
    operators.select(config.synth.operators)
    progress = flywheel.begin(config)
    tasks = flywheel.round_tasks(config, workdir, 0, {split: progress.trees(split) for split in flywheel.SPLITS})
    for split, found in tasks.items():
        legal = "" if config.reasoning.rounds else f", {sum(task.legal for task in found)} legal"
        print(f"{split}: {len(found)} tasks of {len({t.root for t in found})} roots{legal}")
    print(f"in {workdir / 'tasks' / 'round_0'}")


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
    if run.progress.round >= (total := flywheel.total_rounds(config)):
        raise ValueError(f"rl: the {total} rounds of {workdir} are done; raise rl.rounds for another")
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
        record = {"round": number, "heldout_tasks": len(tasks), "constants": flywheel.constant_pass_rates(tasks)}
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
