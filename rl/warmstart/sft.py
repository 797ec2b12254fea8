"""Supervised warm start: cross-entropy on demonstrations. Resumable; the result is a Hugging Face folder.

A step's demonstrations depend only on (seed, step), so a resumed run needs no other state of the data than the step.
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

from model.checkpoints import generation, load
from model.text import tokenizer
from rl import checkpoint, hosts, setup
from rl.learn import optimiser
from rl.reports import show
from rl.trajectory import Trajectory
from rl.warmstart import demonstrations, drills, worked
from synth import operators, registers
from synth.inversion import script
from synth.trees import workflow

METRICS = "sft_metrics.jsonl"
FILES = ("sft_metrics[.]jsonl",)
NUMBERS = 0.3  # see drills.comparisons
MIXTURE = ("comparisons", "copies", "exercise", "exercise")  # kinds of the drills that are mixed with transcripts
MAX_GROWTH = 3  # most operators that are applied to a demonstrated workflow


class Demonstrations:
    """The SFT batches of a config: `batch(step)` returns the trajectories of one step.

    The steps have four phases:
      1. drills of checking and copying (rl.sft_drill_steps);
      2. drills of comparisons (rl.sft_comparison_steps);
      3. careful transcripts with a share of drills from MIXTURE (up to step rl.sft_clean_steps);
      4. transcripts alone, a share of them sloppy.
    """

    def __init__(self, config: config_dict.ConfigDict, chat: setup.Chat):
        self._config, self._chat, self._seed = config.rl, chat, config.seed
        self._rates = script.parse_flaws(config.rl.sft_flaws)
        s = config.synth
        split = config.rl.sft_split
        self._domains = registers.select(s.register, s.domains, s.businesses, s.unseen_share)[split]
        self._workflows = workflow.roots(config.rl.sft_split, config.synth.train_roots, self._domains, config.seed)
        self._operators = operators.select(config.synth.operators)

    def batch(self, step: int) -> list[Trajectory]:
        """The trajectories of a step. A transcript that is too long for a packed row is replaced by the next.

        Raises ValueError if none fits, see demonstrations.fitting.
        """
        c = self._config
        numbers = range(step * c.sft_episodes, (step + 1) * c.sft_episodes)
        if step < c.sft_drill_steps:
            return [self._drill(("checks", "copies")[number % 2], number) for number in numbers]
        if step < c.sft_drill_steps + c.sft_comparison_steps:
            return [self._drill("comparisons", number) for number in numbers]
        clean = step < c.sft_clean_steps
        drilled = numbers[: round(c.sft_drill_share * c.sft_episodes)] if clean else ()
        found = [self._drill(MIXTURE[number % len(MIXTURE)], number) for number in drilled]
        first = step * c.sft_episodes * 2  # 2 leaves indices for replacements, so that steps do not overlap

        def transcript(index: int, _: int) -> Trajectory:
            task = demonstrations.draw_task(self._workflows, self._operators, MAX_GROWTH, self._seed, index)
            # Multiples of the golden ratio are spread evenly modulo 1, so the intended share is flawed.
            flawed = not clean and (index * 0.6180339887) % 1 < c.sft_flawed_share
            return demonstrations.demonstrate(task, self._rates if flawed else {}, self._chat, self._seed)

        return found + demonstrations.fitting(transcript, c.sft_episodes - len(found), first, c.row_length)

    def _drill(self, kind: str, number: int) -> Trajectory:
        """One drill. An exercise has its own length; the other kinds fill half a row."""
        if kind == "exercise":
            return drills.exercise(self._workflows, self._chat, self._seed, number)
        bare = self._domains, self._chat, self._config.row_length // 2, self._seed, number
        if kind == "comparisons":
            return drills.comparisons(*bare, NUMBERS)
        return {"checks": drills.checks, "copies": drills.copies}[kind](*bare)


def run(config: config_dict.ConfigDict, workdir: Path) -> Path:
    """Trains for rl.sft_steps and returns the Hugging Face folder workdir/policy. A finished run returns at once.

    Raises RuntimeError after rl.max_skipped_updates updates in a row that were not finite, and ValueError if no
    demonstration fits into rl.row_length.
    """
    policy_dir = workdir / "policy"
    if (policy_dir / "config.json").exists():
        return policy_dir
    parts = setup.build(config)
    state, step, pack = parts.learner("sft")
    data = (worked.Worked if config.rl.sft_flywheel == "reasoning" else Demonstrations)(config, parts.chat)
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoints = checkpoint.Checkpoints(workdir / "sft_checkpoints", config.checkpoint.keep)
    restored = checkpoints.restore(state)
    state, meta = restored if restored else (state, {"step": 0, "files": {}})
    if hosts.first():
        checkpoint.cut_back(workdir, meta["files"], FILES)

    def batch_of(index: int) -> object:
        return _packed(data.batch(index), pack)

    with ThreadPoolExecutor(1) as pool:  # makes the next batch while the step runs
        start, steps = meta["step"], config.rl.sft_steps
        upcoming = pool.submit(batch_of, start)
        for index in show.bar(range(start, steps), "sft"):
            began, batch = time.perf_counter(), upcoming.result()
            upcoming = pool.submit(batch_of, index + 1)
            state, metrics = step(state, batch)
            optimiser.check_finite(state, config.rl.max_skipped_updates)
            metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
            metrics |= {"step": index, "seconds": time.perf_counter() - began}
            if hosts.first():
                with open(workdir / METRICS, "a", encoding="utf-8") as file:
                    file.write(json.dumps(metrics) + "\n")
            if index % 20 == 0:
                show.line(f"sft  step {index:>5}/{steps}  loss {metrics['loss']:.4f}  {metrics['seconds']:.2f} s")
            if (index + 1) % config.checkpoint.sft_every == 0 and index + 1 < steps:
                checkpoints.save(index, state, {"step": index + 1, "files": checkpoint.file_sizes(workdir, FILES)})
    checkpoints.close()
    partial = workdir / ".policy"
    load.save_pretrained(nnx.merge(nnx.split(parts.policy)[0], state.params), parts.architecture, partial)
    if hosts.first():
        tokenizer.save(parts.chat.tokenizer, partial)
        source, pad_id = parts.config.model.checkpoint, parts.chat.tokenizer.pad_token_id
        generation.save(partial, source, parts.chat.stop_ids, pad_id)
        partial.rename(policy_dir)
    hosts.wait("warm start")
    return policy_dir


def _packed(items: list[Trajectory], pack: setup.Callable) -> object:
    """The demonstrations packed into a batch. Their advantages are 1; cross-entropy ignores them."""
    return pack(items, list(np.ones(len(items))))
