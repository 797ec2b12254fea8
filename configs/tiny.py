"""The demo: the whole loop on two CPU cores in minutes, from a base checkpoint that is part of the repository."""

from collections.abc import Callable

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. arg: "" for the demo; "runlocal" for a miniature of it that takes about a minute.

    Raises ValueError for any other arg.
    """
    if arg not in ("", "runlocal"):
        raise ValueError(f"unknown argument {arg!r}; expected none or 'runlocal'")
    c = default.get_config()
    c.model.checkpoint = "model/tiny_qwen3"

    # What the base was trained on (configs/base.py); it knows no other domains and no other operators' branches.
    c.synth.register = "tiny"
    c.synth.domains = "orders,hotels,clinics,banking,libraries,rentals,parcels,courses,events,utilities"
    c.synth.operators = "guard,hidden,missing,confirm"
    c.synth.selection = "even"
    c.synth.legal_share = 0.45
    c.synth.refused_share = 0.0
    c.synth.distinct_trees = False  # four operators do not make enough different trees

    c.env.max_turns = 12

    c.sampler.slots = 128
    c.sampler.context = 448
    c.sampler.prefill_chunk = 64
    c.sampler.max_new_tokens = 96

    c.rl.groups = 16
    c.rl.group_size = 8
    c.rl.minibatches = 2
    c.rl.learning_rate = 3e-4
    c.rl.row_length = 576  # two episodes
    c.rl.rows = 2  # the attention scores of more rows do not fit into a core's cache

    if arg == "runlocal":
        c.synth.train_roots = 8
        c.synth.heldout_roots = 4
        c.sampler.slots = 16
        c.rl.rounds = 1
        c.rl.steps = 2
        c.rl.groups = 4
        c.rl.group_size = 4
        c.rl.rows = 2
        c.evaluate.trials = 1
        c.evaluate.bootstrap = 100
        c.checkpoint.every = 1
    return c


def sweep(add: Callable[..., None]) -> None:
    """Adds the combinations of learning rate and upper clip that `./run -m rl.reports.sweep` runs."""
    for learning_rate in (1e-4, 3e-4):
        for clip_high in (0.2, 0.28):
            add(**{"rl.learning_rate": learning_rate, "rl.clip_high": clip_high})
