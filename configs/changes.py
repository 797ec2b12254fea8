"""Which keys of the config may change while a run is under way. Every other key is what the run is made of.

A key that is not listed here may not change. Who adds a key to configs/default.py decides whether it belongs here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Values = Mapping[str, Any]  # "section.key" -> value

# No result depends on these, or only what a later command asks for: how long to try, where things are kept, what
# another stage does. A name that ends in a dot stands for its section. Changes are not worth a word.
FREE = (
    "compile_cache", "checkpoint.", "plan.", "serve.", "rl.compare", "rl.compare_rollouts", "rl.compare_step",
    "synth.dry_run", "synth.prompt_price", "synth.completion_price", "synth.runner", "synth.processes",
    "synth.beam_options", "synth.teacher_concurrency", "synth.teacher_attempts", "synth.teacher_timeout",
    "rl.max_skipped_updates", "rl.offload_optimiser", "env.max_faults", "env.concurrency",
    *(f"evaluate.{key}" for key in ("suites", "policies", "against", "limit", "slots", "context", "max_new_tokens",
                                    "bfcl_form", "user", "user_url", "user_key_env")),
)  # fmt: skip
# How the same numbers are computed: speed, memory, and the last bits of results, because sums are taken in another
# order. What was sampled before stays as it is; a token whose probability is at a draw's edge may turn out another.
SPEED = (
    "mesh.processes", "mesh.data", "mesh.fsdp", "mesh.expert", "mesh.context", "mesh.tensor", "model.remat",
    "sampler.slots", "sampler.prefill_chunk", "sampler.prefill_rows", "sampler.decode_steps", "rl.rows",
    "rl.row_length", "rl.share_prefix", "rl.logits_chunk",
)  # fmt: skip
# How tokens lie in the learner's batches. That is more than speed for a loss that looks at one batch or draws by place.
LAYOUT = ("rl.rows", "rl.row_length", "rl.share_prefix")
# More of these may be asked for, never less: what is done stays done.
GROWING = ("rl.rounds", "rl.steps")


@dataclasses.dataclass(frozen=True)
class Changes:
    """How a config differs from the one that a workdir was made with, in words, sorted by key.

    refused: what may not change. speed: what changes at most the last bits of results. more: what there is more of.
    """

    refused: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def told(self) -> str:
        """One line on what changes, "" if nothing does that is worth a word."""
        speed = f"{', '.join(self.speed)} (speed and last bits)" if self.speed else ""
        return "; ".join(filter(None, (speed, ", ".join(self.more))))


def between(old: Values, new: Values, stage: str) -> Changes:
    """The changes from the config `old`, which a workdir was made with, to `new`, for a stage that is to run there.

    Beside the tables:
      - for stage evaluate all keys of `evaluate` are free;
      - synth.teacher may change between llm and replay, which gives the same answers;
      - checkpoint.every may not with rl.max_staleness, which samples nothing ahead across a checkpoint;
      - the keys of LAYOUT may not with rl.covariance = "clip", which draws tokens by their place, nor with
        rl.router_coef, a loss of each micro-batch; rl.row_length may not with a warm start, whose drills fill rows.
    """
    refused, speed, more = [], [], []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        before, now = old.get(key), new.get(key)
        said = f"{key} {before!r} -> {now!r}"
        if key in GROWING and key in old.keys() & new.keys() and new[key] > old[key]:
            more.append(said)
        elif key in SPEED and key in new and not _binds(key, new):
            speed.append(said)
        elif not _free(key, old, new, stage):
            refused.append(f"{key} (was {before!r}, now {now!r})")
    return Changes(tuple(refused), tuple(speed), tuple(more))


def _binds(key: str, new: Values) -> bool:
    """Whether results depend on a key of SPEED under this config."""
    if key in LAYOUT and (new["rl.covariance"] == "clip" or new["rl.router_coef"]):
        return True
    return key == "rl.row_length" and bool(new["rl.sft_steps"])


def _free(key: str, old: Values, new: Values, stage: str) -> bool:
    """Whether the key may change without a word."""
    if key == "synth.teacher":
        return {old.get(key), new.get(key)} == {"llm", "replay"}
    if key == "checkpoint.every" and new["rl.max_staleness"]:
        return False
    section = f"{key.split('.')[0]}."
    return key in FREE or section in FREE or (stage == "evaluate" and section == "evaluate.")
