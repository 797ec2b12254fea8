"""Every algorithm trains the tiny policy on the same tasks; held-out pass rate against rollouts.

    ./run -m benchmarks.learning --workdir=runs/learning      # prints one JSON line, progress on stderr

A run is one algorithm with one seed: the tasks of round 1 (trees grown once, without looking at any policy) with a
replay share of round 0's, everything else as in configs/tiny.py. Every run starts from the same base and trains on the
same tasks in the same order; seeds differ in what is sampled. The same command again skips runs that are finished and
starts one that was killed over. It writes RUN.json per run and learning.png: means over seeds, 95 % intervals that
resample roots with all their tasks, trials and seeds.
"""

import argparse
import gc
import json
import pathlib
import sys
import time
from collections import defaultdict

import jax
import numpy as np
from matplotlib.figure import Figure

from configs import tiny
from rl import flywheel, hosts, setup, train
from rl.evaluation import pass_rates, trials
from rl.rounds import agentic
from rl.trajectory import Trajectory

ALGORITHMS = "grpo,dr_grpo,dapo,gspo,cispo,rloo,reinforce++"
TASKS_SEED = 0  # seed of the trees, the tasks and their order, in all runs
RESAMPLES = 2000


def config_of(algorithm: str, arg: str = ""):
    """The tiny config with the given algorithm. arg: of configs/tiny.py."""
    config = tiny.get_config(arg)
    config.rl.algorithm, config.seed = algorithm, TASKS_SEED
    return config


def tasks_of(config, workdir: pathlib.Path) -> tuple[list, dict[str, list]]:
    """(round 0's training tasks, round 1's tasks of both splits)."""
    trees = agentic.first_workflows(config)
    first = flywheel.round_tasks(config, workdir, 0, trees)
    grown = agentic.next_workflows(config, trees, {})
    return first["train"], flywheel.round_tasks(config, workdir, 1, grown)


def measured(items: list[Trajectory], root_of: dict[str, str]) -> dict:
    """{"passes": {root: [0 or 1]}, "faults": episodes that are not among them because their infrastructure failed}.

    Raises ValueError if all failed.
    """
    found = {r: sum(tasks.values(), []) for r, tasks in trials.passes(items, root_of).items()}
    if not found:
        raise ValueError(f"all {len(items)} held-out episodes faulted; the first: {items[0].score.error}")
    return {
        "passes": {root: [float(passed) for passed in values] for root, values in found.items()},
        "faults": sum(item.reward is None for item in items),
    }


def play(config, seed: int, steps: int, every: int, earlier: list, tasks: dict[str, list]) -> dict:
    """One run: {"metrics": one record per step, "curve": [{"rollouts", "passes", "faults"}]}, see `measured`."""
    parts = setup.build(config)
    trainer, c = train.Trainer.create(parts), config.rl
    root_of = {task.id: task.root for task in tasks["heldout"]}
    rows, curve = [], []

    def measure() -> None:
        """Plays the held-out trials with the current parameters. Tasks and sampling seed are the same in all runs."""
        items = parts.rollouts.run(
            trainer.state.params, tasks["heldout"], range(config.evaluate.trials), 0, seed=TASKS_SEED
        )
        curve.append({"rollouts": len(rows) * c.groups * c.group_size, **measured(items, root_of)})
        rate, lost = np.mean(sum(curve[-1]["passes"].values(), [])), curve[-1]["faults"]
        told = f"{100 * rate:.1f} %" + (f" ({lost} of {len(items)} episodes faulted)" if lost else "")
        print(f"{c.algorithm} seed {seed} step {len(rows)}: held-out {told}", file=sys.stderr)

    measure()
    for step in range(steps):
        chosen = train.step_tasks(tasks["train"], earlier, c.groups, c.replay_share, TASKS_SEED, step)
        _, metrics = trainer.step(chosen, train.step_seed(seed, 1, step))
        rows.append(metrics)
        if (step + 1) % every == 0 or step + 1 == steps:
            measure()
    return {"metrics": rows, "curve": curve}


def interval(runs: list[dict], index: int) -> dict[str, float]:
    """The pass rate, in [0, 1], with its interval at the index-th measurement, over the runs of all seeds."""
    by_root = defaultdict(list)
    for run in runs:
        for root, passes in run["curve"][index]["passes"].items():
            by_root[root] += passes
    return pass_rates.clustered_interval(by_root, RESAMPLES, seed=0)


def plot(found: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Plots mean and interval of the pass rate of every algorithm against training rollouts, into the file `path`."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, runs) in enumerate(found.items()):
        rollouts = np.array([point["rollouts"] for point in runs[0]["curve"]])
        points = [interval(runs, index) for index in range(len(rollouts))]
        mean, low, high = (np.array([point[key] for point in points]) for key in ("mean", "low", "high"))
        aside = rollouts + (number - len(found) / 2) * rollouts[-1] / 200  # shifted, so that error bars do not overlap
        axes.errorbar(aside, mean, [mean - low, high - mean], label=f"{name} ({len(runs)} seeds)", capsize=2)
    axes.set(xlabel="training rollouts", ylabel="held-out pass rate (95 %)", ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs what is not finished, then plots and prints the results of all runs.

    Raises ValueError if the folder has runs with other options.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/learning"))
    parser.add_argument("--algorithms", default=ALGORITHMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--every", type=int, default=4, help="steps between measurements")
    parser.add_argument("--arg", default="", help="of configs/tiny.py: runlocal tries everything on few tasks")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    found = defaultdict(list)
    for seed in range(options.seeds):
        for name in options.algorithms.split(","):
            path = options.workdir / f"{name}-{seed}.json"
            said = {"steps": options.steps, "every": options.every, "arg": options.arg}
            if not path.exists():
                config, start = config_of(name, options.arg), time.perf_counter()
                earlier, tasks = tasks_of(config, options.workdir)
                record = play(config, seed, options.steps, options.every, earlier, tasks)
                hosts.write_json(path, {**record, "options": said, "seconds": time.perf_counter() - start})
                gc.collect()
                jax.clear_caches()  # frees the compiled programs of the finished run, which the next cannot use
            found[name].append(json.loads(path.read_text()))
            if found[name][-1]["options"] != said:
                raise ValueError(f"{path} was made with {found[name][-1]['options']}; use another --workdir")
    plot(found, options.workdir / "learning.png")
    summary = {}
    for name, runs in found.items():
        last = [np.mean(sum(run["curve"][-1]["passes"].values(), [])) for run in runs]
        entropies = [run["metrics"][-1].get("entropy") for run in runs]
        seconds = max(run["seconds"] for run in runs)
        lost = sum(point.get("faults", 0) for run in runs for point in run["curve"])
        summary[name] = {
            **interval(runs, -1), "seeds": last, "faults": lost, "entropy": entropies, "slowest_seconds": seconds
        }  # fmt: skip
    first = interval([run for runs in found.values() for run in runs], 0)
    print(json.dumps({"benchmark": "learning", "start": first, "after": summary}))


if __name__ == "__main__":
    main()
