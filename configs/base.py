"""Trains the base checkpoint of configs/tiny.py by SFT (`make base`): what pretraining is to a real Qwen.

The phases: drills (copying and checking); comparisons (whether a value satisfies a rule); careful transcripts with
drills; sloppy transcripts, which show many ways to go wrong. Results are in benchmarks/RESULTS.md. Roots
and personas are never those of RL.
"""

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config of the base's SFT. Raises ValueError for any `arg`."""
    if arg:
        raise ValueError(f"unknown argument {arg!r}; expected none")
    c = default.get_config()
    c.seed = 1
    c.model.checkpoint = "model/tiny_qwen3"
    c.model.init = "random"
    c.synth.register = "tiny"
    c.synth.domains = "orders,hotels,clinics,banking,libraries,rentals,parcels,courses,events,utilities"
    c.synth.operators = "guard,hidden,missing,confirm"
    c.synth.train_roots = 200
    c.rl.adam_b2 = 0.98
    c.rl.warmup_updates = 100
    c.rl.sft_learning_rate = 2.5e-3
    c.rl.sft_steps = 3800
    c.rl.sft_decay_steps = 800
    c.rl.sft_episodes = 16
    c.rl.sft_split = "base"
    c.rl.sft_drill_share = 0.5
    c.rl.sft_drill_steps = 900
    c.rl.sft_comparison_steps = 300
    c.rl.sft_clean_steps = 3600
    c.rl.sft_flawed_share = 1.0
    c.rl.sft_flaws = "skip_read=0.35,misjudge=0.25,skip_ask=0.5,skip_confirm=0.5,refuse=0.15,swap_control=0.2,quit=0.15"
    c.rl.row_length = 672
    c.rl.rows = 2
    c.sampler.context = 672
    c.mesh.fsdp = 1
    return c
