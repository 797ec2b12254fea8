"""Every key of every stage with its default. Other configs start from `get_config()` and change what they need."""

from ml_collections import config_dict


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the default config. `arg` is unused here; other files take it as --config=FILE:arg."""
    del arg
    c = config_dict.ConfigDict()
    c.seed = 0  # everything random derives from it
    c.compile_cache = "~/.cache/agenticqwen-jax"  # folder for compiled programs, shared by all runs; "": none

    c.model = config_dict.ConfigDict()
    c.model.checkpoint = "model/tiny_qwen3"  # HF folder with tokenizer and safetensors; repo-relative or absolute
    c.model.init = "checkpoint"  # "checkpoint" loads the weights, "random" only config.json and tokenizer
    c.model.dtype = "float32"  # parameter and compute dtype; logits, logsumexp and norms are float32 regardless
    c.model.remat = "none"  # activation rematerialisation in the learner: REMAT in model/network/transformer.py

    c.mesh = config_dict.ConfigDict()  # axis sizes; -1 (at most one) takes the devices that are left
    c.mesh.processes = 1  # of the run, one a host: rl/hosts.py says how they find each other
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
    c.sampler.top_k = 0  # only the most probable tokens; 0 is off. To train with top_p or min_p it must be on: it
    # bounds the keep-set that is recorded with every token
    c.sampler.top_p = 1.0  # of these only the smallest set with that mass; 1 is off
    c.sampler.min_p = 0.0  # of these only what is that probable, in shares of the most probable one; 0 is off
    c.sampler.constrain_calls = False  # only tool names that exist and JSON that parses can be sampled in calls

    c.synth = config_dict.ConfigDict()
    c.synth.domains = "all"  # comma-separated names from synth/trees/domains.py, or "all"
    c.synth.train_roots = 64  # round-0 workflows whose descendants train the policy
    c.synth.heldout_roots = 48  # round-0 workflows whose descendants only evaluate it
    c.synth.operators = "all"  # operators the flywheel may apply: names from synth/operators.py
    c.synth.selection = "failures"  # which trees grow and how: "failures", "even", "random" or "resample" (none)
    c.synth.expand_share = 1.0  # share of train trees expanded per round
    # Of "failures"; less than an even share counts as an even share.
    c.synth.operator_quota = 0.25  # share of a round's expansions that one operator may make
    c.synth.domain_quota = 0.25  # share of them that one domain may have
    c.synth.variants = 2  # tasks per branch: other state, wording and identifiers
    c.synth.legal_share = 0.45  # share of tasks that end in the write (from round 1 on)
    c.synth.refused_share = 0.45  # share in which a rule stands in its way; in the rest the user refuses consent or the
    # write is never answered, which takes no rule to get right. 0: all that is not legal by lot
    c.synth.teacher = "program"  # "program", "llm" (endpoint: OPENAI_BASE_URL, OPENAI_API_KEY) or "replay" (its cache)
    c.synth.teacher_model = ""  # the endpoint's name of the model that teaches
    c.synth.teacher_domains = 0  # domains that it proposes beside synth.domains
    c.synth.teacher_users = False  # whether it words what users say; the facts have to stay the same
    c.synth.teacher_concurrency = 8  # most requests to it at a time; faults of the endpoint make them fewer
    c.synth.teacher_attempts = 5  # times a request is sent before a fault of the endpoint stops the run
    c.synth.teacher_timeout = 120.0  # seconds that a request may take
    c.synth.dry_run = False  # of stage=synth: only say what a model as teacher will be asked for; nothing is sent
    c.synth.prompt_price = 0.0  # of a million tokens of its prompts, for dry_run and the ledger; 0: not known
    c.synth.completion_price = 0.0  # of a million tokens of its answers
    c.synth.rounds = 1  # rounds of tasks that stage=synth makes; more than one go to WORKDIR/synth
    c.synth.runner = "local"  # what makes a round's tasks: "local" or "beam" (Apache Beam); they are the same
    c.synth.processes = 1  # of "local": processes that make and play tasks; they are the same for any number
    c.synth.beam_options = "--runner=DirectRunner"  # of "beam": options of the pipeline, with spaces between them
    c.synth.benchmarks = ""  # of which no task may repeat 13 words in a row: files and folders, comma-separated; also
    # "bfcl" (the data of the installed package) and "tau2" (of the checkout that TAU2_DATA_DIR names)
    c.synth.distinct_trees = True  # no tree with branches on both sides of the split

    c.reasoning = config_dict.ConfigDict()  # files: repo-relative or absolute, "" for none
    c.reasoning.rounds = 0  # rounds of the reasoning flywheel, before those of the agentic one
    c.reasoning.weights = "reasoning=2,search=1,data=1"  # shares of the worlds in its rounds and in every step
    c.reasoning.families = "all"  # comma-separated families of problems from synth/problems, or "all"
    c.reasoning.operators = "resample,constrain,compose,unknown,distract,move"  # what the flywheel may do to them
    c.reasoning.train_roots = 64  # round-0 patterns and questions whose descendants train the policy
    c.reasoning.heldout_roots = 48  # ... and those that only evaluate it
    c.reasoning.variants = 2  # questions per root and round
    c.reasoning.expand_share = 1.0  # share of training patterns grown per round, worst pass rate first
    c.reasoning.untooled_reward = 0.9  # reward of a right answer to a problem without a tool call; with one it is 1
    c.reasoning.teacher_rewrites = 0  # failed problems per round that the teacher (synth.teacher) rewrites
    c.reasoning.problems = ""  # comma-separated JSONL files or TFDS folders (question, answer) to train on in round 0
    c.reasoning.evaluation = ""  # ditto, but held out: round 0's held-out tasks, which no training task may resemble
    c.reasoning.search_corpus = ""  # JSONL of pages (id, title, text) that the next two are about
    c.reasoning.search_questions = ""  # JSONL (question, answer, evidence) to train on in round 0
    c.reasoning.search_evaluation = ""  # ditto, but held out like reasoning.evaluation
    c.reasoning.data_folder = ""  # folder of Parquet, CSV and TSV files that the next two are about
    c.reasoning.data_questions = ""  # JSONL (question, answer) to train on in round 0
    c.reasoning.data_evaluation = ""  # ditto, but held out like reasoning.evaluation

    c.env = config_dict.ConfigDict()
    c.env.simulator = "code"  # what plays tools and users in training: "code" or "llm" (with rl.reward = "llm")
    c.env.model = ""  # the name that OPENAI_BASE_URL's endpoint has for the model that simulates and judges
    c.env.max_turns = 16  # assistant turns per episode; a task whose oracle takes more is refused
    c.env.concurrency = 0  # environments open at a time; 0: as many as a batch has episodes
    c.env.timeout = 0.0  # seconds for an answer of an environment; 0: any time, so that runs replay to the bit
    c.env.retries = 0  # how often an episode is played again from its beginning when its environment has failed
    c.env.max_faults = 0  # failures in a row that stop the run, because then a backend is down; 0: any number

    c.rl = config_dict.ConfigDict()
    c.rl.reward = "code"  # what rewards training on workflows: "code" or "llm"; held-out tasks are measured by code
    c.rl.rounds = 3  # rounds of the agentic flywheel
    c.rl.steps = 16  # RL steps per round; one step is one batch of rollouts
    c.rl.groups = 16  # tasks per step
    c.rl.group_size = 8  # episodes per task
    c.rl.max_staleness = 0  # RL steps that rollouts may be behind: with 1 the next batch is sampled while the learner
    # trains on this one, except across checkpoints; with rl.partial_turns: that an episode may go on for
    c.rl.partial_turns = 0  # turns of an episode per step; one that takes more goes on in the next step, under the new
    # parameters, except across checkpoints; 0: all in one step
    c.rl.minibatches = 1  # optimiser updates per step
    c.rl.learning_rate = 1e-6  # of RL, after warm-up
    c.rl.warmup_updates = 0  # linear warm-up, in optimiser updates
    c.rl.weight_decay = 0.0  # AdamW's decoupled decay, of RL and SFT
    c.rl.adam_b2 = 0.99  # decay of AdamW's second moment
    c.rl.max_grad_norm = 1.0  # global-norm clipping
    c.rl.max_skipped_updates = 10  # updates in a row that are not finite, and skipped, before the run stops
    c.rl.lora_rank = 0  # of adapters that are trained instead of the weights (LoRA), in RL and SFT; 0: the weights are
    c.rl.lora_alpha = 32.0  # an adapter's product counts lora_alpha / lora_rank times
    c.rl.lora_targets = "all"  # which projections have one: comma-separated q_proj, k_proj, ..., down_proj, or "all"
    c.rl.offload_optimiser = False  # masters and moments lie in the host's memory between updates
    c.rl.algorithm = "dapo"  # "grpo" | "dr_grpo" | "dapo" | "rloo" | "reinforce++" | "gspo" | "gspo_token" | "cispo"
    c.rl.advantage = ""  # "grpo" | "dr_grpo" | "rloo" | "reinforce++"; "": the algorithm's, see rl/learn/algorithms.py
    c.rl.turn_credit = False  # a turn is not credited with subgoals that earlier ones reached, see rl/learn/credit.py
    c.rl.teacher = ""  # HF folder with the policy's tokenizer: learn to speak like it instead of for reward; "": none
    c.rl.loss_aggregation = ""  # how tokens become one loss: AGGREGATIONS in rl/learn/losses.py; "": the algorithm's
    c.rl.clip_low = -1.0  # ratio clip below 1; -1: the algorithm's
    c.rl.clip_high = -1.0  # ratio clip above 1; -1: the algorithm's
    c.rl.dual_clip = 0.0  # where the ratio is above it, a negative advantage has no gradient (dual-clip PPO); 0: none
    c.rl.kl_coef = 0.0  # weight of KL(policy || initial policy); above 0 the initial policy stays in memory
    c.rl.kl_estimator = "k3"  # of that KL: "k1" | "k2" | "k3", see rl/learn/losses.py; k1 is for the reward
    c.rl.kl_in_reward = False  # take it, summed over an episode, from the reward instead of adding it to the loss
    c.rl.entropy_coef = 0.0  # weight of the entropy bonus
    c.rl.covariance = "none"  # "clip" (Clip-Cov) | "kl" (KL-Cov): hold tokens back that make the entropy fall | "none"
    c.rl.covariance_share = 2e-4  # share of tokens held back
    c.rl.covariance_kl_coef = 1.0  # of KL-Cov's penalty on them
    c.rl.importance = "none"  # correct for the sampler's logprobs, or stale ones: "tis" | "icepop" | "none"
    c.rl.importance_low = 0.5  # learner / sampler ratio below which icepop drops a token
    c.rl.importance_high = 2.0  # ratio above which icepop drops a token, and to which tis limits it
    c.rl.max_refills = 0  # times a step samples new tasks in place of groups without a signal (DAPO's dynamic sampling)
    c.rl.overlong_buffer = 0  # last tokens of sampler.context, over which the reward falls by 1 (DAPO); 0: none
    c.rl.compare = "grpo,dapo,gspo,cispo"  # comma-separated algorithms of stage=compare: rl/learn/algorithms.py
    c.rl.compare_rollouts = ""  # a rollouts/round_k.jsonl, repo-relative or absolute; "": the newest of the workdir
    c.rl.compare_step = -1  # the RL step of that file whose episodes are taken; -1: the last
    c.rl.share_prefix = False  # a group's prompt stands once in a row (no sliding windows; on TPU without its kernel)
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
    c.rl.sft_flaws = ""  # how they go wrong: "skip_read=0.3,quit=0.1", names in synth/inversion/script.py
    c.rl.sft_clean_steps = 0  # steps before the first sloppy transcript
    c.rl.sft_drill_steps = 0  # first steps, on nothing but copying and checking (rl/warmstart/drills.py)
    c.rl.sft_comparison_steps = 0  # the steps after them, on nothing but values compared with rules
    c.rl.sft_drill_share = 0.0  # share of drills beside the transcripts of the clean steps
    c.rl.sft_flywheel = "agentic"  # what is demonstrated: tasks of the "agentic" or questions of the "reasoning" one
    c.rl.sft_split = "train"  # whose roots and personas are demonstrated: "train" | "base"

    c.plan = config_dict.ConfigDict()
    c.plan.topology = "v5p:2x2x1"  # TPU slice that stage=plan compiles for: v5e, v5p or v6e and its shape
    c.plan.search = False  # try meshes, micro-batches and remat policies for the learner, and rank those that fit
    c.plan.json = False  # print JSON instead of a table

    c.evaluate = config_dict.ConfigDict()
    c.evaluate.suites = "agentic"  # what stage=evaluate measures: names in rl/evaluation/suites.py, or "bfcl/NAME"
    c.evaluate.policies = "initial,current"  # whom: the policy a run started from, the one of its newest checkpoint
    c.evaluate.against = ""  # another workdir, evaluated before, whose current policy is compared with, too
    c.evaluate.limit = 0  # only the first tasks of every suite, for a quick look; 0: all
    c.evaluate.slots = 0  # of stage=evaluate; 0: sampler.slots
    c.evaluate.context = 0  # ditto; BFCL's tools alone take 30,000 characters, its long contexts want 32768
    c.evaluate.max_new_tokens = 0  # ditto
    c.evaluate.bfcl_form = "qwen_fc"  # BFCL's tools as in its Qwen handler, or "chat": as everywhere else here
    c.evaluate.user = ""  # tau2's user: the name of a model at evaluate.user_url, or "" for a scripted one
    c.evaluate.user_url = ""  # its OpenAI-compatible endpoint, for example "http://127.0.0.1:8001/v1"
    c.evaluate.user_key_env = ""  # name of the environment variable with that endpoint's key; "": none
    c.evaluate.trials = 4  # sampled trials per held-out task (the paper's Avg@4)
    c.evaluate.greedy = True  # also one greedy trial per task
    c.evaluate.bootstrap = 2000  # resamples of the 95 % interval, clustered by root

    c.serve = config_dict.ConfigDict()
    c.serve.host = "127.0.0.1"  # address to listen at; one that other machines reach needs a key
    c.serve.port = 8000  # 0: any that is free
    c.serve.key_env = ""  # name of the environment variable with the bearer key that clients must show; "": none
    c.serve.model = "policy"  # the name that clients ask for
    c.serve.queue = 64  # turns that may wait for a slot; more are answered with status 429
    c.serve.slots = 0  # turns sampled side by side; 0: sampler.slots
    c.serve.context = 0  # tokens of a conversation; 0: sampler.context
    c.serve.max_new_tokens = 0  # budget of a turn; 0: sampler.max_new_tokens

    c.checkpoint = config_dict.ConfigDict()
    c.checkpoint.every = 4  # RL steps between checkpoints
    c.checkpoint.sft_every = 100  # SFT steps between checkpoints
    c.checkpoint.keep = 2  # checkpoints kept
    return c
