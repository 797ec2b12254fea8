"""Does it matter that trees grow where the policy failed? Equal budgets, several seeds, one held-out set a seed.

    ./run -m benchmarks.selection --workdir=runs/selection [--seeds=3] [--config.section.key=value ...]

For every seed the demo's loop runs once per way of selecting (synth.selection: failures, random, resample), with the
same base, roots, steps and episodes. Then each final policy plays the held-out tasks of the last round of the runs
whose trees grew (failures and random), the same tasks and seeds for all. Prints one JSON line: the pass rate of each
way with its 95 % interval clustered by root, and the differences to "failures", paired by root. An hour on two cores;
the same command takes up a killed run where it was, and reuses finished ones.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from absl import logging

import main as command
from configs import validate
from rl import flywheel
from rl.evaluation import pass_rates
from rl.trajectory import Trajectory
from synth import dataset
from synth.gating import gates
from synth.task import Task

WAYS = ("failures", "random", "resample")
GROWING = ("failures", "random")


def config_of(workdir: Path, way: str, seed: int, overrides: list[str]) -> tuple:
    """(config, workdir) of the run for one way of selection and one seed."""
    keys = [f"--config.synth.selection={way}", f"--config.seed={seed}", *overrides]
    config = f"--config={validate.REPOSITORY / 'configs' / 'tiny.py'}"
    return command.parse([config, f"--workdir={workdir / f'seed{seed}' / way}", *keys])[:2]


def train(workdir: Path, way: str, seed: int, overrides: list[str]) -> Path:
    """Runs one way with one seed to its end, unless that has been done; returns the run's workdir."""
    config, folder = config_of(workdir, way, seed, overrides)
    command.save_config(config, folder)
    summary = folder / "summary.json"
    finished = summary.exists() and len(json.loads(summary.read_text())["rounds"]) == config.rl.rounds
    if not (finished and (folder / "policy" / "config.json").exists()):
        flywheel.Flywheel(config, folder).run()
    return folder


def common_tasks(folders: dict[str, Path], last: int) -> list[Task]:
    """The held-out tasks of round `last` of the runs whose trees grew, without duplicates. folders: way -> workdir."""
    found = {}
    for way in GROWING:
        for task in dataset.read(folders[way] / "tasks" / f"round_{last}", "heldout"):
            found.setdefault(gates.fingerprint(task), task)
    return list(found.values())


def passes(tasks: list[Task], items: list[Trajectory]) -> dict[str, list[float]]:
    """Root -> 1.0 (passed) or 0.0 for each trial, without trials whose infrastructure failed."""
    root_of, found = {task.id: task.root for task in tasks}, defaultdict(list)
    for item in items:
        if item.reward is not None:
            found[root_of[item.task_id]].append(float(item.passed))
    return found


def measure(config: object, folder: Path, tasks: list[Task]) -> dict[str, list[float]]:
    """The trials of a finished run's policy on the tasks, as `passes`."""
    run = flywheel.Flywheel(config, folder, read_only=True)
    seed = pass_rates.derive_seed(config.seed, "selection")
    members = range(config.evaluate.trials)
    # Episodes are identified by task id, but different tasks of two runs may have the same id. So each batch has only
    # one task of an id.
    found, rest = defaultdict(list), list(tasks)
    while rest:
        batch = list({task.id: task for task in reversed(rest)}.values())
        rest = [task for task in rest if task not in batch]
        items = run.parts.rollouts.run(run.trainer.state.params, batch, members, 0, seed=seed)
        for root, values in passes(batch, items).items():
            found[root] += values
    return found


def main(arguments: list[str]) -> None:
    """Runs, measures and prints."""
    options = [part.removeprefix("--") for part in arguments if not part.startswith("--config.")]
    options = dict(part.partition("=")[::2] for part in options)
    if set(options) - {"workdir", "seeds"} or "workdir" not in options:
        raise SystemExit(__doc__)
    logging.set_verbosity(logging.WARNING)
    overrides = [part for part in arguments if part.startswith("--config.")]
    workdir, by_root = Path(options["workdir"]).absolute(), {way: {} for way in WAYS}
    for seed in range(int(options.get("seeds", 3))):
        folders = {way: train(workdir, way, seed, overrides) for way in WAYS}
        config = config_of(workdir, WAYS[0], seed, overrides)[0]
        tasks = common_tasks(folders, config.rl.rounds - 1)
        for way in WAYS:
            found = measure(config_of(workdir, way, seed, overrides)[0], folders[way], tasks)
            by_root[way] |= {f"{seed}/{root}": values for root, values in found.items()}
            print(f"seed {seed} {way}: {np.mean(sum(found.values(), [])):.3f} of {len(tasks)} tasks", file=sys.stderr)
    mean = {way: {root: float(np.mean(values)) for root, values in found.items()} for way, found in by_root.items()}
    shared = set.intersection(*(set(found) for found in mean.values()))
    print(json.dumps({
        "benchmark": "selection",
        "pass": {way: pass_rates.clustered_interval(by_root[way], 2000, 0) for way in WAYS},
        "failures_minus": {
            way: pass_rates.clustered_interval({r: [mean["failures"][r] - mean[way][r]] for r in shared}, 2000, 0)
            for way in WAYS[1:]
        },
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
