"""Supervised warm start: cross-entropy on demonstrations, resumable, ending in an HF folder.

A step's demonstrations are a function of (seed, step), so a resumed run needs no data state beyond the step.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import config_dict

from model import load, tokenizer
from rl import checkpoint, demonstrations, setup, show
from rl.trajectory import Trajectory
from synth import domains, operators, workflow

FILES = ("sft_metrics.jsonl",)
NUMBERS = 0.8  # share of numbers in the comparisons among the exercises
MAX_GROWTH = 3  # operators applied to a demonstrated workflow at most


class Demonstrations:
    """The stream of SFT batches of a config: `batch(step)` gives the trajectories of one step."""

    def __init__(self, config: config_dict.ConfigDict, chat: setup.Chat):
        c = config.rl
        self._chat, self._seed, self._episodes, self._clean = chat, config.seed, c.sft_episodes, c.sft_clean_steps
        self._rates = demonstrations.parse_flaws(c.sft_flaws)
        self._flawed, self._exercises = c.sft_flawed_share, c.sft_exercise_share
        self._drills = c.sft_drill_steps
        self._comparisons = range(c.sft_comparison_start, c.sft_comparison_start + c.sft_comparison_steps)
        self._domains = domains.select(config.synth.domains)
        self._workflows = workflow.roots(c.sft_split, config.synth.train_roots, self._domains, config.seed)
        self._operators = operators.select(config.synth.operators)
        self._context = config.rl.row_length

    def batch(self, step: int) -> list[Trajectory]:
        """The demonstrations of a step; those too long for a packed row are replaced by the next ones that fit."""
        first = step * self._episodes
        bare = self._domains, self._chat, self._context // 2, self._seed
        if step in self._comparisons or step < self._drills:
            make = demonstrations.comparison if step in self._comparisons else demonstrations.drill
            return [make(*bare, first + i) for i in range(self._episodes)]
        exercises = round(self._exercises * self._episodes) if step < self._clean else 0
        # Of eight exercises one is of comparisons (numbers need more than the others hold), two are drills.
        found = []
        for number in range(first, first + exercises):
            if number % 8 == 0:
                found.append(demonstrations.comparison(*bare, number, NUMBERS))
            elif number % 8 in (1, 3):
                found.append(demonstrations.drill(*bare, number))
            else:
                found.append(demonstrations.exercise(self._workflows, self._chat, self._seed, number))
        index = step * self._episodes * 2  # room for replacements without overlap between steps
        while len(found) < self._episodes:
            task = demonstrations.draw_task(self._workflows, self._operators, MAX_GROWTH, self._seed, index)
            # Every demonstration has its own number, so a fixed pattern of it is a share.
            flawed = step >= self._clean and (index * 0.6180339887) % 1 < self._flawed
            item = demonstrations.demonstrate(task, self._rates if flawed else {}, self._chat, self._seed)
            if len(item.tokens) <= self._context:
                found.append(item)
            index += 1
        return found


def run(config: config_dict.ConfigDict, workdir: Path) -> Path:
    """Trains for rl.sft_steps and returns the HF folder workdir/policy. A finished run returns at once."""
    policy_dir = workdir / "policy"
    if (policy_dir / "config.json").exists():
        return policy_dir
    parts = setup.build(config)
    state, step, pack = parts.learner("sft")
    data = Demonstrations(config, parts.chat)
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = checkpoint.Checkpoints(workdir / "sft_checkpoints", config.checkpoint.keep)
    restored = checkpoints.restore(state)
    state, meta = restored if restored else (state, {"step": 0, "files": {}})
    checkpoint.cut_back(workdir, meta["files"], FILES)

    def batch_of(index: int) -> object:
        return _packed(data.batch(index), pack)

    with ThreadPoolExecutor(1) as pool:  # the next batch is made while the step runs
        start, steps = meta["step"], config.rl.sft_steps
        upcoming = pool.submit(batch_of, start)
        for index in show.bar(range(start, steps), "sft"):
            began, batch = time.perf_counter(), upcoming.result()
            upcoming = pool.submit(batch_of, index + 1)
            state, metrics = step(state, batch)
            metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
            metrics |= {"step": index, "seconds": time.perf_counter() - began}
            with open(workdir / FILES[0], "a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
            if index % 20 == 0:
                show.line(f"sft  step {index:>5}/{steps}  loss {metrics['loss']:.4f}  {metrics['seconds']:.2f} s")
            if (index + 1) % config.checkpoint.sft_every == 0 and index + 1 < steps:
                checkpoints.save(index, state, {"step": index + 1, "files": checkpoint.file_sizes(workdir, FILES)})
    checkpoints.close()
    partial = workdir / ".policy"
    load.save_pretrained(nnx.merge(nnx.split(parts.policy)[0], state.params), parts.architecture, partial)
    tokenizer.save(parts.chat.tokenizer, partial)
    partial.rename(policy_dir)
    return policy_dir


def _packed(items: list[Trajectory], pack: setup.Callable) -> object:
    """The batch of some demonstrations, all with advantage 1 (cross-entropy has no other)."""
    return pack(items, list(np.ones(len(items))))
