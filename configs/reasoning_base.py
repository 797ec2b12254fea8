"""Trains the base checkpoint of configs/reasoning_tiny.py by SFT (`make reasoning_base`).

Training starts from a model whose attention heads already copy (rl/warmstart/induction.py). The phases: drills
(copying, and transcripts without the messages before the question); careful transcripts; sloppy ones, so that RL has
something to improve. Results are in benchmarks/RESULTS.md. Roots, personas, names and tables are never those of RL.
"""

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config of the base's SFT. Raises ValueError for any `arg`."""
    if arg:
        raise ValueError(f"unknown argument {arg!r}; expected none")
    c = default.get_config()
    c.synth.register = "tiny"
    c.seed = 1
    c.model.checkpoint = "model/tiny_reasoner"  # to train it further; make starts from a folder of rl/warmstart/tiny.py
    c.reasoning.weights = "reasoning=2,search=1,data=1"
    c.reasoning.families = "arithmetic,finance,units"  # the families for which synth/problems/programs.py has programs
    c.reasoning.operators = "resample,constrain,unknown,distract,move"  # no "compose": it adds other families
    c.reasoning.train_roots = 400
    c.rl.adam_b2 = 0.98
    c.rl.warmup_updates = 20
    c.rl.sft_flywheel = "reasoning"
    c.rl.sft_split = "base"
    c.rl.sft_learning_rate = 1e-3
    c.rl.sft_steps = 1600
    c.rl.sft_decay_steps = 800
    c.rl.sft_episodes = 16
    c.rl.sft_drill_steps = 60
    c.rl.sft_drill_share = 0.5
    c.rl.sft_clean_steps = 1520
    c.rl.sft_flawed_share = 1.0
    c.rl.sft_flaws = "skip=0.2,misread=0.15,guess=0.2"
    c.rl.row_length = 640
    c.rl.rows = 2
    c.sampler.context = 640
    c.mesh.fsdp = 1
    c.checkpoint.sft_every = 50
    return c
