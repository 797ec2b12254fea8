"""The reasoning flywheel on two CPU cores in minutes: problems, search and data analysis.

It starts from its own base checkpoint (configs/reasoning_base.py), which is part of the repository and knows three
families of problems.
"""

from ml_collections import config_dict

from configs import reasoning_base


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. arg: "" for two rounds; "runlocal" for a miniature of one round, about a minute.

    Raises ValueError for any other arg.
    """
    if arg not in ("", "runlocal"):
        raise ValueError(f"unknown argument {arg!r}; expected none or 'runlocal'")
    c = reasoning_base.get_config()
    c.seed = 0
    c.reasoning.rounds = 2
    c.reasoning.train_roots = 96
    c.reasoning.heldout_roots = 48
    c.reasoning.variants = 1
    c.rl.rounds = 0
    c.rl.sft_steps = c.rl.sft_decay_steps = 0

    c.env.max_turns = 8  # three pages need seven turns; one to spare

    c.sampler.slots = 64
    c.sampler.context = 640
    c.sampler.prefill_chunk = 64
    c.sampler.max_new_tokens = 128

    c.rl.steps = 16
    c.rl.groups = 16
    c.rl.group_size = 8
    c.rl.minibatches = 2
    c.evaluate.greedy = False
    c.rl.learning_rate = 1e-4  # a larger one destroys the heads that copy
    c.rl.adam_b2 = 0.99
    c.rl.warmup_updates = 0

    if arg == "runlocal":
        c.reasoning.rounds = 1
        c.reasoning.train_roots = 8
        c.reasoning.heldout_roots = 4
        c.sampler.slots = 16
        c.rl.steps = 2
        c.rl.groups = 4
        c.rl.group_size = 4
        c.evaluate.trials = 1
        c.evaluate.bootstrap = 100
        c.checkpoint.every = 1
    return c
