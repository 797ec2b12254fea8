"""AgenticQwen-8B (arXiv 2604.21590) on 64 chips.

Prompts have 4096 tokens, responses 10,000; a step has 64 prompts with 16 episodes each. Plan it before you rent
hardware: --stage=plan --config.plan.topology=v5p:4x4x4. To train, set --config.model.checkpoint to the folder of a real
Qwen3-8B with tokenizer and weights; the folder named here has only its config.json.
"""

from ml_collections import config_dict

from configs import default


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. Raises ValueError for any `arg`."""
    if arg:
        raise ValueError(f"unknown argument {arg!r}; expected none")
    c = default.get_config()
    c.model.checkpoint = "model/architectures/qwen3_8b"
    c.model.dtype = "bfloat16"
    c.model.remat = "full"
    c.sampler.slots = 1024
    c.sampler.context = 14096
    c.sampler.max_new_tokens = 4096
    c.rl.groups = 64
    c.rl.group_size = 16
    c.rl.minibatches = 4  # of 16 prompts each
    c.rl.algorithm = "dapo"
    c.rl.clip_low = 0.2
    c.rl.clip_high = 0.28
    c.rl.dual_clip = 10.0
    c.rl.overlong_buffer = 2048  # the paper uses DAPO's overlong shaping, but does not say over how many tokens
    c.rl.row_length = 14336  # 14,096 rounded up to a multiple of 128, which attention on TPU needs
    c.rl.rows = 64
    c.plan.topology = "v5p:4x4x4"
    return c
