"""--stage=compare: losses and gradients of several algorithms on the same recorded episodes, without sampling.

The episodes are those of one RL step in a rollout file. The parameters are those of the workdir's newest checkpoint
(the initial ones if there is none); they have usually been updated since the episodes were sampled, so ratios differ
from 1.

  - The denominator of the ratio is the sampler's probability, whatever rl.importance is.
  - Each algorithm has its row of algorithms.ALGORITHMS, without the config's overrides. Other settings of the loss
    (rl.kl_coef, rl.entropy_coef, ...) apply to all algorithms.
  - Each algorithm computes its advantages from the plain rewards, without rl.turn_credit, rl.overlong_buffer,
    rl.kl_in_reward and rl.teacher.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import config_dict

from rl import flywheel, hosts, setup
from rl.learn import algorithms, learner, objective, optimiser, packing
from rl.reports import report, show
from rl.rollouts import measure
from rl.trajectory import Trajectory

Tree = Any
Record = dict[str, Any]
TRAINING_FILE = re.compile(r"round_(\d+)\.jsonl")  # rollout files of other names hold held-out episodes
COLUMNS = ("tokens", "loss", "grad_norm", "clip_fraction_low", "clip_fraction_high", "ratio_mean", "ratio_std", "ess")


def episodes(path: Path, step: int, group_size: int) -> list[Trajectory]:
    """The training episodes of RL step `step` (-1: the last) in a rollouts/round_k.jsonl, sorted by (task, member).

    Raises ValueError, naming the file, if it has no such step or a group has not `group_size` episodes.
    """
    records = [record for record in report.read_lines(path) if record.get("phase") == "train"]
    steps = sorted({record["step"] for record in records})
    if not steps or step not in (-1, *steps):
        raise ValueError(f"rl.compare_step = {step}: {path} holds training episodes of steps {steps}")
    chosen = [Trajectory.from_json(r) for r in records if r["step"] == (steps[-1] if step == -1 else step)]
    chosen.sort(key=lambda item: (item.task_id, item.member))
    sizes: dict[str, int] = {}
    for item in chosen:
        sizes[item.task_id] = sizes.get(item.task_id, 0) + 1
    wrong = next((task for task, size in sizes.items() if size != group_size), None)
    if wrong is not None:
        raise ValueError(f"rl.group_size = {group_size}: task {wrong!r} has {sizes[wrong]} episodes in {path}")
    return chosen


def statistics(
    parts: setup.Parts, state: optimiser.TrainState, items: Sequence[Trajectory], name: str
) -> tuple[Record, Tree | None]:
    """(metrics of algorithm `name` on the episodes, the gradient of its loss).

    The gradient is with respect to the adapters if these are trained, else the parameters; None if no group carries a
    signal.
    """
    config, c = parts.config, parts.config.rl
    chosen = algorithms.ALGORITHMS[name]
    advantages, signal = algorithms.group_advantages(measure.rewards_of(items), c.group_size, chosen.advantage)
    members = [i for i in range(len(items)) if signal[i // c.group_size] and items[i].reward is not None]
    if not members:
        return {"algorithm": name, "groups": 0}, None
    count = packing.max_micro_batches(len(items), config.sampler.context, c.row_length, c.rows)
    batch = packing.pack(
        [items[i] for i in members], [float(advantages[i]) for i in members], c.row_length, c.rows, count,
        c.share_prefix, config.sampler.top_k,
    )  # fmt: skip
    wanted = dataclasses.replace(setup.rl_objective(config, name), importance="none")
    if wanted.kl_coef:
        batch = dataclasses.replace(batch, reference_logprobs=parts.score(parts.initial_params, batch))
    trained = state.params if state.adapters is None else state.adapters
    gradient = functools.partial(
        learner.gradients, graphdef=nnx.split(parts.policy)[0], shardings=jax.tree.map(lambda x: x.sharding, trained),
        o=wanted,
    )  # fmt: skip
    with jax.set_mesh(parts.mesh):
        placed = learner.place(batch, parts.mesh)
        grads, sums, maxima = jax.jit(gradient)(state.params, placed, jnp.zeros((), jnp.int32), adapters=state.adapters)
    found = objective.metrics(sums, maxima, batch.denominator) | {"grad_norm": optax.tree.norm(grads)}
    found = {key: float(value) for key, value in jax.device_get(found).items()}
    return {"algorithm": name, "groups": int(signal.sum()), **found}, grads


def cosines(gradients: Sequence[Tree | None]) -> np.ndarray:
    """The cosine similarities of all pairs of n gradients, [n, n]; NaN where one of the pair is missing or zero."""
    out = np.full((len(gradients), len(gradients)), np.nan)
    for i, a in enumerate(gradients):
        for j, b in enumerate(gradients[: i + 1]):
            if a is not None and b is not None:
                norms = float(optax.tree.norm(a)) * float(optax.tree.norm(b))
                out[i, j] = out[j, i] = float(optax.tree.vdot(a, b)) / norms if norms else np.nan
    return out


def table(records: Sequence[Record]) -> str:
    """A text table with one line per algorithm: the metrics of COLUMNS, then its gradient's cosine with every other."""
    names = [record["algorithm"] for record in records]
    rows = [["algorithm", "groups", *(name.replace("_", " ") for name in COLUMNS), *(f"cos {name}" for name in names)]]
    for record in records:
        cells = [record.get(name) for name in COLUMNS] + list(record["cosine"].values())
        shown = ("-" if x is None else f"{x:.0f}" if x == round(x) and abs(x) > 1 else f"{x:.4g}" for x in cells)
        rows.append([record["algorithm"], str(record["groups"]), *shown])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def run(config: config_dict.ConfigDict, workdir: Path) -> None:
    """--stage=compare: prints the table and writes workdir/compare.json.

    Raises ValueError if there is no rollout file, or as `episodes` does.
    """
    path = rollout_file(config, workdir)
    items = episodes(path, config.rl.compare_step, config.rl.group_size)
    run = flywheel.Flywheel(config, workdir, read_only=True)
    names, records, gradients = config.rl.compare.split(","), [], []
    for name in show.bar(names, "algorithms"):
        record, grads = statistics(run.parts, run.trainer.state, items, name)
        records.append(record)
        gradients.append(grads)
    for record, row in zip(records, cosines(gradients)):
        record["cosine"] = {name: None if np.isnan(x) else float(x) for name, x in zip(names, row)}
    faults = sum(item.reward is None for item in items)
    said = {"rollouts": str(path), "episodes": len(items), "faults": faults, "updates": int(run.trainer.state.step)}
    hosts.write_json(workdir / "compare.json", {**said, "algorithms": records})
    print(table(records))
    print(f"{len(items)} episodes of {path}, {faults} faults, parameters after {said['updates']} updates")
    print(f"in {workdir / 'compare.json'}: {json.dumps(sorted(records[0]))}")


def rollout_file(config: config_dict.ConfigDict, workdir: Path) -> Path:
    """The file that rl.compare_rollouts names, else the training episodes of the workdir's newest round.

    Raises ValueError if there is no such file.
    """
    if config.rl.compare_rollouts:
        path = Path(config.rl.compare_rollouts)
        if not path.is_file():
            raise ValueError(f"rl.compare_rollouts = {config.rl.compare_rollouts!r}: no such file")
        return path
    folder = workdir / "rollouts"
    found = {int(name.group(1)): path for path in folder.glob("*") if (name := TRAINING_FILE.fullmatch(path.name))}
    if not found:
        raise ValueError(
            f"compare: {folder} holds no training episodes; run --stage=rl or --stage=flywheel first, or "
            "name a file by rl.compare_rollouts"
        )
    return found[max(found)]
