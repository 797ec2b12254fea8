"""Qwen3-0.6B on one chip.

To train, set --config.model.checkpoint to the folder of a real Qwen3-0.6B with tokenizer and weights; the folder named
here has only its config.json.
"""

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. Raises ValueError for any `arg`."""
    if arg:
        raise ValueError(f"unknown argument {arg!r}; expected none")
    c = default.get_config()
    c.model.checkpoint = "model/architectures/qwen3_0p6b"
    c.model.dtype = "bfloat16"
    c.model.remat = "full"
    c.sampler.slots = 16
    c.sampler.context = 12288
    c.rl.row_length = 12288
    c.rl.rows = 1
    c.plan.topology = "v6e:1x1"
    return c
