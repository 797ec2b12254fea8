"""AgenticQwen-30B-A3B (arXiv 2604.21590), a mixture of experts that are split over four chips.

Otherwise as configs/agenticqwen_8b.py, which says how to plan and train.
"""

from ml_collections import config_dict

from configs import agenticqwen_8b


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. Raises ValueError for any `arg`."""
    c = agenticqwen_8b.get_config(arg)
    c.model.checkpoint = "model/architectures/qwen3_30b_a3b"
    c.mesh.expert = 4
    c.rl.algorithm = "gspo"
    c.rl.clip_low = 3e-4
    c.rl.clip_high = 4e-4
    c.rl.dual_clip = 0.0  # GSPO has no dual clip
    c.rl.router_coef = 0.001
    return c
