"""All worlds in one run: rounds of problems, search and data analysis, then agentic rounds.

The reasoning flywheel's rounds come first, as in the paper. Their steps mix problems, search and data questions by
reasoning.weights. The steps of agentic rounds mix agentic tasks with a replay share of tasks from all earlier rounds.
"""

from ml_collections import config_dict

from configs import tiny


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the config. arg: "" for a run on the tiny base, which has not learned most of these worlds;
    "runlocal" for a miniature that takes a few minutes.

    Raises ValueError for any other arg.
    """
    c = tiny.get_config(arg)
    c.reasoning.rounds = 2
    c.reasoning.weights = "reasoning=2,search=1,data=1"
    c.rl.rounds = 2
    c.rl.replay_share = 0.5

    # A prompt (tool schemas and a problem) has 300 to 600 tokens; calls, results and answer need as much again.
    c.sampler.slots = 64
    c.sampler.context = 1536
    c.sampler.max_new_tokens = 192
    c.rl.row_length = 1536
    c.rl.rows = 1

    if arg == "runlocal":
        c.reasoning.rounds = 1
        c.reasoning.train_roots = 8
        c.reasoning.heldout_roots = 4
        c.rl.rounds = 1
        c.sampler.slots = 16
    return c
