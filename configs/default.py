"""Every config key of every stage with its default value. Other configs start from `get_config()` and change keys.

A comment says what its key does, in which unit, and what special values mean. Relative paths are relative to the
repository.
"""

from ml_collections import config_dict


def get_config(arg: str = "") -> config_dict.ConfigDict:
    """Returns the default config. `arg` is ignored; other config files take it from --config=FILE:arg."""
    del arg
    c = config_dict.ConfigDict()
    c.seed = 0  # seed of all random numbers
    c.compile_cache = "~/.cache/agenticqwen-jax"  # folder of compiled programs, shared by all runs; "": none

    c.model = config_dict.ConfigDict()
    c.model.checkpoint = "model/tiny_qwen3"  # Hugging Face (HF) model folder: config.json, tokenizer and safetensors
    c.model.init = "checkpoint"  # "checkpoint": load the weights; "random": draw them (needs no safetensors)
    c.model.dtype = "float32"  # of parameters and compute, or "bfloat16"; logits, logsumexp and norms stay float32
    c.model.remat = "none"  # what the learner's backward pass recomputes to save memory: "none", "dots", "attention"
    # or "full" (least memory), see REMAT in model/network/transformer.py

    c.mesh = config_dict.ConfigDict()  # sizes of the device mesh's axes; one of them may be -1
    c.mesh.processes = 1  # processes of the run, one per host; rl/hosts.py says how they find each other
    c.mesh.data = 1  # replicas of the parameters; the batch is split over data, fsdp and expert
    c.mesh.fsdp = -1  # splits parameters, optimiser state and batch. -1, for one axis at most: all remaining devices
    c.mesh.expert = 1  # splits the experts of MoE layers
    c.mesh.context = 1  # splits sequences by position
    c.mesh.tensor = 1  # splits attention heads, mlp width and vocabulary

    c.sampler = config_dict.ConfigDict()
    c.sampler.slots = 64  # episodes decoded in parallel
    c.sampler.context = 12288  # KV-cache length of a slot, in tokens: the prompt and all turns of an episode
    c.sampler.prefill_chunk = 128  # tokens per slot in one prefill call
    c.sampler.prefill_rows = 8  # slots in one prefill call; ignored where slots are split over devices: then all
    c.sampler.decode_steps = 8  # tokens per slot in one decode call; a turn that ends early waits for the call to end
    c.sampler.max_new_tokens = 512  # most tokens sampled in one turn
    c.sampler.temperature = 1.0  # of training rollouts and of sampled evaluation trials
    c.sampler.top_k = 0  # sample from the k most probable tokens only; 0: no limit. Training with top_p, min_p or
    # constrain_calls needs top_k > 0, because it bounds the set of candidate tokens that is recorded with every token
    c.sampler.top_p = 1.0  # of the top_k tokens, keep the smallest set with at least this probability mass; 1: all
    c.sampler.min_p = 0.0  # of these, keep tokens at least min_p times as probable as the most probable one; 0: all
    c.sampler.constrain_calls = False  # sample only tool calls that are valid JSON and name an existing tool

    c.synth = config_dict.ConfigDict()
    c.synth.register = "business"  # worlds of businesses in plain English, or "tiny": the dialect of the tiny configs
    c.synth.domains = "all"  # comma-separated names of businesses (synth/business) or, for "tiny", from
    # synth/trees/domains.py; or "all"
    c.synth.businesses = 200  # composed businesses beside the written ones, if domains is "all"
    c.synth.unseen_share = 0.2  # share of the businesses that no training task is from; held-out tasks are from these
    # and from as many others, and summary.json has the pass rate of both
    c.synth.train_roots = 64  # round-0 workflows for training; all training tasks descend from them
    c.synth.heldout_roots = 48  # round-0 workflows for evaluation; all held-out tasks descend from them
    c.synth.operators = "all"  # operators that may grow trees: comma-separated names from synth/operators.py, or "all"
    c.synth.selection = "failures"  # which trees grow, and by which operator: "failures" (by what the policy failed),
    # "even" (every operator equally often), "random" or "resample" (no growth, only new tasks)
    c.synth.expand_share = 1.0  # share of training trees that grow in a round, from 0 to 1
    c.synth.operator_quota = 0.25  # largest share of a round's expansions by one operator; only selection "failures".
    # A quota below an even share counts as an even share
    c.synth.domain_quota = 0.25  # largest share of a round's expansions in one domain; else as operator_quota
    c.synth.variants = 2  # tasks per tree and round, which differ in state, wording and identifiers
    c.synth.legal_share = 0.2  # share of tasks whose right ending is the write (from round 1 on)
    c.synth.refused_share = 0.75  # share of tasks in which a rule forbids the write. In the remaining tasks the user
    # refuses consent or the write is never answered. 0: chance decides among all reasons not to write
    c.synth.teacher = "program"  # who words policies and proposes growth: "program" (code), "llm" (a model at
    # OPENAI_BASE_URL, key in OPENAI_API_KEY) or "replay" (the model's cached answers, without network)
    c.synth.teacher_model = ""  # the endpoint's name of the teacher model; required unless teacher is "program"
    c.synth.teacher_domains = 0  # number of domains, or businesses, that the teacher adds to synth.domains
    c.synth.teacher_users = False  # whether the teacher also words what users say; code checks that facts stay the same
    c.synth.teacher_concurrency = 8  # most simultaneous requests to the teacher; endpoint failures lower the number
    c.synth.teacher_attempts = 5  # attempts per request; if all of them fail, the run stops
    c.synth.teacher_timeout = 120.0  # seconds that a request may take, up to the last byte of its answer
    c.synth.dry_run = False  # stage=synth only: send nothing, print how many requests and tokens the teacher would need
    c.synth.prompt_price = 0.0  # price of a million prompt tokens, for dry_run and the recorded costs; 0: unknown
    c.synth.completion_price = 0.0  # price of a million completion tokens; 0: unknown
    c.synth.rounds = 1  # rounds of tasks that stage=synth makes; if more than one, they go to WORKDIR/synth
    c.synth.runner = "local"  # where a round's tasks are made: "local" or "beam" (Apache Beam); same tasks either way
    c.synth.processes = 1  # processes that make and check tasks with runner "local"; same tasks for any number
    c.synth.beam_options = "--runner=DirectRunner"  # space-separated pipeline options for runner "beam"
    c.synth.benchmarks = ""  # texts with which no task may share 13 words in a row: comma-separated files, folders,
    # "bfcl" (data of the installed package) or "tau2" (data under TAU2_DATA_DIR); "": none
    c.synth.distinct_trees = True  # refuse tasks of a branching tree that also occurs in the other split

    c.reasoning = config_dict.ConfigDict()
    c.reasoning.rounds = 0  # rounds of the reasoning flywheel, which run before the agentic ones
    c.reasoning.weights = "reasoning=2,search=1,data=1"  # relative share of each world in a round and in every step
    c.reasoning.families = "all"  # comma-separated problem families from synth/problems, or "all"
    c.reasoning.operators = "resample,constrain,compose,unknown,distract,move"  # operators that may grow problems
    c.reasoning.train_roots = 64  # round-0 problem patterns and questions for training, all worlds together
    c.reasoning.heldout_roots = 48  # round-0 problem patterns and questions for evaluation, all worlds together
    c.reasoning.variants = 2  # questions per root and round
    c.reasoning.expand_share = 1.0  # share of training patterns that grow in a round, lowest pass rate first
    c.reasoning.untooled_reward = 0.9  # reward of a right answer without any tool call; with one it is 1
    c.reasoning.teacher_rewrites = 0  # most-failed problems per round that the teacher (synth.teacher) rewrites
    c.reasoning.problems = ""  # JSONL files or TFDS folders (question, answer), comma-separated, to train on in round 0
    c.reasoning.evaluation = ""  # like reasoning.problems, but held out: round 0 evaluates on them, and no training
    # task may resemble them
    c.reasoning.search_corpus = ""  # JSONL of pages (id, title, text) for the next two keys; "": no own corpus
    c.reasoning.search_questions = ""  # JSONL (question, answer, evidence) on search_corpus, to train on in round 0
    c.reasoning.search_evaluation = ""  # like search_questions, but held out as reasoning.evaluation is
    c.reasoning.data_folder = ""  # folder of Parquet, CSV and TSV tables for the next two keys; "": no own tables
    c.reasoning.data_questions = ""  # JSONL (question, answer) on data_folder, to train on in round 0
    c.reasoning.data_evaluation = ""  # like data_questions, but held out as reasoning.evaluation is

    c.env = config_dict.ConfigDict()
    c.env.simulator = "code"  # who plays tools and users in training: "code" or "llm" (needs rl.reward = "llm")
    c.env.model = ""  # name of the model, at OPENAI_BASE_URL, that simulates and judges; only for "llm"
    c.env.max_turns = 32  # most assistant turns per episode; tasks whose reference solution needs more are refused
    c.env.concurrency = 0  # most environments open at a time; 0: no limit
    c.env.timeout = 0.0  # seconds an environment may take to answer; 0: no limit, so that runs are reproducible
    c.env.retries = 0  # times an episode is played again from its start after its environment failed
    c.env.max_faults = 0  # stop the run after this many consecutive environment failures: a backend is down; 0: never

    c.rl = config_dict.ConfigDict()
    c.rl.reward = "code"  # what rewards training on workflows: "code" or "llm"; held-out tasks always use code
    c.rl.rounds = 3  # rounds of the agentic flywheel
    c.rl.steps = 16  # RL steps per round; one step samples one batch of episodes and trains on it
    c.rl.groups = 16  # tasks per step
    c.rl.group_size = 8  # episodes per task
    c.rl.max_staleness = 0  # RL steps by which the sampling policy may lag behind. 1: sample the next batch while
    # training on this one, except across checkpoints. With partial_turns: the steps for which an episode may go on
    c.rl.partial_turns = 0  # most turns of an episode per step; a longer episode goes on in the next step under the
    # new parameters, except across checkpoints; 0: episodes are played to their end in one step
    c.rl.minibatches = 1  # optimiser updates per step
    c.rl.learning_rate = 1e-6  # of RL, after warm-up
    c.rl.warmup_updates = 0  # linear warm-up of the learning rate in optimiser updates, for RL and SFT
    c.rl.weight_decay = 0.0  # decoupled weight decay of AdamW, for RL and SFT
    c.rl.adam_b2 = 0.99  # AdamW's decay rate of the second moment, for RL and SFT
    c.rl.max_grad_norm = 1.0  # gradients with a larger global norm are scaled down to it
    c.rl.max_skipped_updates = 10  # consecutive skipped updates (not finite) that stop the run
    c.rl.lora_rank = 0  # rank of LoRA adapters that are trained instead of the weights, in RL and SFT; 0: no adapters
    c.rl.lora_alpha = 32.0  # an adapter's output is scaled by lora_alpha / lora_rank
    c.rl.lora_targets = "all"  # projections with an adapter: comma-separated q_proj, k_proj, ..., down_proj, or "all"
    c.rl.offload_optimiser = False  # keep master weights and moments in host memory between updates
    c.rl.algorithm = "dapo"  # "grpo" | "dr_grpo" | "dapo" | "rloo" | "reinforce++" | "gspo" | "gspo_token" | "cispo"
    c.rl.advantage = ""  # "grpo" | "dr_grpo" | "rloo" | "reinforce++"; "": the algorithm's, see rl/learn/algorithms.py
    c.rl.turn_credit = False  # give a turn no credit for subgoals reached before it, see rl/learn/credit.py
    c.rl.teacher = ""  # HF folder of a model with the policy's tokenizer; the policy learns to imitate it on
    # its own episodes, and rewards are ignored; "": none
    c.rl.loss_aggregation = ""  # how token losses become one loss: AGGREGATIONS in rl/learn/losses.py; "": algorithm's
    c.rl.clip_low = -1.0  # the ratio is clipped at 1 - clip_low; -1: the algorithm's value
    c.rl.clip_high = -1.0  # the ratio is clipped at 1 + clip_high; -1: the algorithm's value
    c.rl.dual_clip = 0.0  # ratio above which tokens with a negative advantage get no gradient (dual-clip PPO); 0: off
    c.rl.kl_coef = 0.0  # weight of KL(policy || initial policy); above 0 the initial policy stays in memory
    c.rl.kl_estimator = "k3"  # estimator of the KL: "k1" | "k2" | "k3", see rl/learn/losses.py; "k1" needs kl_in_reward
    c.rl.kl_in_reward = False  # subtract the KL, summed over the episode, from its reward; else add it to the loss
    c.rl.entropy_coef = 0.0  # weight of the entropy bonus
    c.rl.covariance = "none"  # hold back tokens that would reduce entropy most: "clip" (Clip-Cov: no gradient) |
    # "kl" (KL-Cov: a KL penalty) | "none"
    c.rl.covariance_share = 2e-4  # share of tokens held back
    c.rl.covariance_kl_coef = 1.0  # weight of KL-Cov's penalty
    c.rl.importance = "none"  # correct for sampler logprobs that are stale or differ: "tis" | "icepop" | "none"
    c.rl.importance_low = 0.5  # learner / sampler probability ratio below which icepop drops a token
    c.rl.importance_high = 2.0  # ratio above which icepop drops a token; tis limits the ratio to it
    c.rl.max_refills = 0  # times per step that new tasks replace groups without a signal (DAPO's dynamic sampling)
    c.rl.overlong_buffer = 0  # last tokens of sampler.context, over which the reward falls linearly by 1 (DAPO's
    # overlong shaping); 0: off
    c.rl.compare = "grpo,dapo,gspo,cispo"  # algorithms that stage=compare compares, comma-separated
    c.rl.compare_rollouts = ""  # rollouts/round_k.jsonl whose episodes are compared; "": the workdir's newest
    c.rl.compare_step = -1  # RL step of the compared file whose episodes are taken; -1: the last
    c.rl.share_prefix = False  # pack a group's common prompt once per row. Not with sliding windows; on TPU it does
    # without the attention kernel
    c.rl.replay_share = 0.25  # share of each step's tasks drawn from earlier rounds
    c.rl.row_length = 12288  # tokens per packed row, at least sampler.context
    c.rl.rows = 8  # rows per micro-batch, over all devices
    c.rl.logits_chunk = 1024  # tokens of a row whose logits are in memory at a time; 0: all of them
    c.rl.router_coef = 0.0  # weight of the load-balancing loss of a mixture of experts
    c.rl.sft_steps = 0  # steps of supervised training: before round 0 (stage=flywheel; 0: none) or in all (stage=sft)
    c.rl.sft_learning_rate = 1e-5  # of supervised training, after warm-up
    c.rl.sft_decay_steps = 0  # last SFT steps, over which the learning rate falls linearly to a tenth; 0: constant
    c.rl.sft_episodes = 64  # transcripts and drills per SFT step
    c.rl.sft_flawed_share = 0.0  # share of transcripts by sloppy actors; 0: all are reference solutions
    c.rl.sft_flaws = ""  # rate of each flaw of sloppy actors, "skip_read=0.3,quit=0.1": names of FLAWS in
    # synth/inversion/script.py or, for sft_flywheel "reasoning", of SLIPS in synth/question.py
    c.rl.sft_clean_steps = 0  # first SFT steps without sloppy transcripts
    c.rl.sft_drill_steps = 0  # first SFT steps with nothing but copying and checking drills (rl/warmstart/drills.py)
    c.rl.sft_comparison_steps = 0  # SFT steps after drill_steps with nothing but drills that compare values with rules
    c.rl.sft_drill_share = 0.0  # share of drills in the other clean steps
    c.rl.sft_flywheel = "agentic"  # what is demonstrated: tasks of the "agentic" or questions of the "reasoning" one
    c.rl.sft_split = "train"  # roots and personas that are demonstrated: "train", or "base": those that RL never sees

    c.plan = config_dict.ConfigDict()
    c.plan.topology = "v5p:2x2x1"  # TPU slice that stage=plan compiles for: v5e, v5p or v6e, and its shape
    c.plan.search = False  # try meshes, micro-batches and remat policies for the learner, and rank those that fit
    c.plan.json = False  # print JSON instead of a table

    c.evaluate = config_dict.ConfigDict()
    c.evaluate.suites = "agentic"  # comma-separated suites of stage=evaluate: "agentic", "bfcl", "tau2", or a part of
    # one such as "bfcl/multi_turn_base", see rl/evaluation/suites.py
    c.evaluate.policies = "initial,current"  # policies to measure: "initial" (the run's starting point), "current" (its
    # newest checkpoint) or both
    c.evaluate.against = ""  # another workdir whose current policy, evaluated before, is compared too; "": none
    c.evaluate.limit = 0  # measure only this many first tasks of every suite; 0: all
    c.evaluate.slots = 0  # sampler.slots for stage=evaluate; 0: the same
    c.evaluate.context = 0  # sampler.context for stage=evaluate; 0: the same. BFCL's tool schemas alone take 30,000
    # characters, its long-context category needs 32768 tokens
    c.evaluate.max_new_tokens = 0  # sampler.max_new_tokens for stage=evaluate; 0: the same
    c.evaluate.bfcl_form = "qwen_fc"  # how BFCL's tools are shown: "qwen_fc" as in its Qwen handler, "chat" by the chat
    # template, as everywhere else here
    c.evaluate.user = ""  # tau2's simulated user: name of a model at evaluate.user_url, or "" for a scripted user
    c.evaluate.user_url = ""  # that model's OpenAI-compatible endpoint, for example "http://127.0.0.1:8001/v1"
    c.evaluate.user_key_env = ""  # name of the environment variable with that endpoint's key; "": no key
    c.evaluate.trials = 4  # sampled trials per held-out task (the paper's Avg@4)
    c.evaluate.greedy = True  # add one greedy trial per task
    c.evaluate.bootstrap = 2000  # bootstrap resamples of the 95 % intervals, clustered by root

    c.serve = config_dict.ConfigDict()
    c.serve.host = "127.0.0.1"  # address to listen on; one that other machines can reach needs a key
    c.serve.port = 8000  # TCP port; 0: any free one
    c.serve.key_env = ""  # name of the environment variable with the bearer key that clients must send; "": no key
    c.serve.model = "policy"  # model name that clients ask for
    c.serve.queue = 64  # turns that may wait for a slot; requests beyond it get HTTP status 429
    c.serve.slots = 0  # turns sampled in parallel; 0: sampler.slots
    c.serve.context = 0  # most tokens of a conversation; 0: sampler.context
    c.serve.max_new_tokens = 0  # most tokens sampled in a turn; 0: sampler.max_new_tokens

    c.checkpoint = config_dict.ConfigDict()
    c.checkpoint.every = 4  # RL steps between checkpoints
    c.checkpoint.sft_every = 100  # SFT steps between checkpoints
    c.checkpoint.keep = 2  # number of newest checkpoints that are kept
    return c
