"""How the base checkpoint of configs/reasoning_tiny.py is made (`make reasoning_base`).

It begins with heads that copy (rl/warmstart/induction.py). Drills first (copying, and transcripts without what stands
before the question), then careful transcripts, then sloppy ones, so that RL has something to gain. Figures are in
benchmarks/RESULTS.md. Roots, personas, names and tables are kept apart from those of RL.
"""

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config of the base's SFT. Raises ValueError for any `arg`."""
    if arg:
        raise ValueError(f"unknown argument {arg!r}; expected none")
    c = default.get_config()
    c.seed = 1
    c.model.checkpoint = "model/tiny_reasoner"  # to go on with it; make begins with what rl/warmstart/tiny.py makes
    c.reasoning.weights = "reasoning=2,search=1,data=1"
    c.reasoning.families = "arithmetic,finance,units"  # those that synth/problems/programs.py has programs for
    c.reasoning.operators = "resample,constrain,unknown,distract,move"  # compose brings in other families
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
