"""Every key of every stage with its default. Other configs start from `get_config()` and change what they need."""

from ml_collections import config_dict


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the default config. `arg` is unused here; other files take it as --config=FILE:arg."""
    del arg
    c = config_dict.ConfigDict()
    c.seed = 0  # everything random derives from it

    c.model = config_dict.ConfigDict()
    c.model.checkpoint = "model/tiny_qwen3"  # HF folder with tokenizer and safetensors; repo-relative or absolute
    c.model.init = "checkpoint"  # "checkpoint" loads the weights, "random" only config.json and tokenizer
    c.model.dtype = "float32"  # parameter and compute dtype; logits, logsumexp and norms are float32 regardless
    c.model.remat = "none"  # activation rematerialisation in the learner: REMAT in model/transformer.py

    c.mesh = config_dict.ConfigDict()  # axis sizes; -1 (at most one) takes the devices that are left
    c.mesh.data = 1  # copies of the parameters; the batch is split over data, fsdp and expert
    c.mesh.fsdp = -1  # parameters, optimiser state and batch are split over it
    c.mesh.expert = 1  # experts of MoE layers
    c.mesh.context = 1  # positions of a sequence
    c.mesh.tensor = 1  # heads and mlp width

    c.sampler = config_dict.ConfigDict()
    c.sampler.slots = 64  # episodes decoded side by side
    c.sampler.context = 4096  # cache length per slot, in tokens: prompt and all turns of an episode
    c.sampler.prefill_chunk = 128  # tokens per prefill call and slot
    c.sampler.prefill_rows = 8  # slots per prefill call (all, where slots are split over devices)
    c.sampler.decode_steps = 8  # tokens per decode call and slot; a turn that has ended waits for the rest of its call
    c.sampler.max_new_tokens = 512  # budget of one turn
    c.sampler.temperature = 1.0  # of training rollouts and of sampled evaluation trials
    c.sampler.top_p = 1.0  # must be 1 for training: the keep-set is not recorded
    c.sampler.top_k = 0  # 0 is off; must be 0 for training

    c.synth = config_dict.ConfigDict()
    c.synth.domains = "all"  # comma-separated names from synth/domains.py, or "all"
    c.synth.train_roots = 64  # round-0 workflows whose descendants train the policy
    c.synth.heldout_roots = 48  # round-0 workflows whose descendants only evaluate it
    c.synth.operators = "all"  # operators the flywheel may apply: names from synth/operators.py
    c.synth.selection = "failures"  # which trees grow and how: "failures", "even", "random" or "resample" (none)
    c.synth.expand_share = 1.0  # share of train trees expanded per round
    c.synth.operator_quota = 0.25  # share of a round's expansions that one operator may make; of "failures"
    c.synth.domain_quota = 0.25  # share of them that one domain may have; of "failures"
    c.synth.variants = 2  # tasks per branch: other state, wording and identifiers
    c.synth.legal_share = 0.5  # share of tasks that end in the write (from round 1 on)
    c.synth.teacher = "program"  # "program", "llm" (endpoint: OPENAI_BASE_URL, OPENAI_API_KEY) or "replay" (its cache)
    c.synth.teacher_model = ""  # the endpoint's name of the model that teaches
    c.synth.teacher_domains = 0  # domains that it proposes beside synth.domains
    c.synth.rounds = 1  # rounds of tasks that stage=synth makes; more than one go to WORKDIR/synth
    c.synth.processes = 1  # processes that play tasks for the gates; the tasks are the same for any number
    c.synth.benchmarks = ""  # files and folders, comma-separated, of which no task may repeat 13 words in a row
    c.synth.distinct_trees = True  # no tree with branches on both sides of the split

    c.env = config_dict.ConfigDict()
    c.env.max_turns = 16  # assistant turns per episode; a task whose oracle takes more is refused

    c.rl = config_dict.ConfigDict()
    c.rl.rounds = 3  # flywheel rounds
    c.rl.steps = 16  # RL steps per round; one step is one batch of rollouts
    c.rl.groups = 16  # tasks per step
    c.rl.group_size = 8  # episodes per task
    c.rl.minibatches = 1  # optimiser updates per step
    c.rl.learning_rate = 1e-6  # of RL, after warm-up
    c.rl.warmup_updates = 0  # linear warm-up, in optimiser updates
    c.rl.weight_decay = 0.0  # AdamW's decoupled decay, of RL and SFT
    c.rl.adam_b2 = 0.99  # decay of AdamW's second moment
    c.rl.max_grad_norm = 1.0  # global-norm clipping
    c.rl.clip_low = 0.2  # PPO ratio clip below 1
    c.rl.clip_high = 0.28  # PPO ratio clip above 1 (clip-higher, DAPO)
    c.rl.normalise_advantage = True  # divide by the group's standard deviation (GRPO); False is Dr.GRPO
    c.rl.replay_share = 0.25  # share of each step's tasks drawn from earlier rounds
    c.rl.row_length = 4096  # tokens per packed row
    c.rl.rows = 8  # rows per micro-batch
    c.rl.logits_chunk = 1024  # tokens of a row whose logits exist at a time; 0: all of them
    c.rl.router_coef = 0.0  # weight of the load-balancing loss; only for a mixture of experts
    c.rl.sft_steps = 0  # supervised warm start before round 0 (stage=flywheel), or the length of stage=sft
    c.rl.sft_learning_rate = 1e-5  # of the supervised warm start
    c.rl.sft_decay_steps = 0  # last steps of it, over which the rate falls linearly to a tenth
    c.rl.sft_episodes = 64  # transcripts and drills per SFT step
    c.rl.sft_flawed_share = 0.0  # share of transcripts by sloppy actors; 0 is oracle transcripts only
    c.rl.sft_flaws = ""  # how they go wrong: "skip_read=0.3,quit=0.1", names in synth/script.py
    c.rl.sft_clean_steps = 0  # steps before the first sloppy transcript
    c.rl.sft_drill_steps = 0  # first steps, on nothing but copying and checking (rl/drills.py)
    c.rl.sft_comparison_steps = 0  # the steps after them, on nothing but values compared with rules
    c.rl.sft_drill_share = 0.0  # share of drills beside the transcripts of the clean steps
    c.rl.sft_split = "train"  # whose roots and personas are demonstrated: "train" | "base"

    c.plan = config_dict.ConfigDict()
    c.plan.topology = "v5p:2x2x1"  # TPU slice that stage=plan compiles for: v5e, v5p or v6e and its shape
    c.plan.search = False  # try meshes, micro-batches and remat policies for the learner, and rank those that fit
    c.plan.json = False  # print JSON instead of a table

    c.evaluate = config_dict.ConfigDict()
    c.evaluate.trials = 4  # sampled trials per held-out task (the paper's Avg@4)
    c.evaluate.greedy = True  # also one greedy trial per task
    c.evaluate.bootstrap = 2000  # resamples of the 95 % interval, clustered by root

    c.checkpoint = config_dict.ConfigDict()
    c.checkpoint.every = 4  # RL steps between checkpoints
    c.checkpoint.sft_every = 100  # SFT steps between checkpoints
    c.checkpoint.keep = 2  # checkpoints kept
    return c
