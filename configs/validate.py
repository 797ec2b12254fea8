"""Checks a config before jax starts: known keys, right types, possible values, and values that fit together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from configs import default

REPOSITORY = Path(__file__).resolve().parents[1]
TRAINING_STAGES = ("flywheel", "rl", "compare")  # these compute losses on sampled tokens
ALGORITHMS = ("grpo", "dr_grpo", "dapo", "rloo", "reinforce++", "gspo", "gspo_token", "cispo")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # HF's names

Rule = tuple[Callable[[Any], bool], str]


def _at_least(bound: float) -> Rule:
    return lambda x: x >= bound, f">= {bound}"


def _one_of(*values: str) -> Rule:
    return lambda x: x in values, "one of " + ", ".join(repr(v) for v in values)


_POSITIVE: Rule = (lambda x: x > 0, "> 0")
_SHARE: Rule = (lambda x: 0 <= x <= 1, "between 0 and 1")
_BELOW_ONE: Rule = (lambda x: 0 <= x < 1, ">= 0 and < 1")
_AXIS: Rule = (lambda x: x >= 1 or x == -1, ">= 1, or -1 for the devices that are left")

# key -> (predicate, text for "must be ..."). Keys that are not listed may have any value of their type.
RULES: dict[str, Rule] = {
    "seed": (lambda x: 0 <= x < 2**31, "between 0 and 2**31 - 1"),
    "model.init": _one_of("checkpoint", "random"),
    "model.dtype": _one_of("float32", "bfloat16"),
    "model.remat": _one_of("none", "dots", "attention", "full"),
    "mesh.processes": _at_least(1),
    **{f"mesh.{axis}": _AXIS for axis in ("data", "fsdp", "expert", "context", "tensor")},
    **{f"sampler.{key}": _at_least(1) for key in ("slots", "context", "prefill_chunk", "prefill_rows")},
    **{f"sampler.{key}": _at_least(1) for key in ("decode_steps", "max_new_tokens")},
    "sampler.temperature": _POSITIVE,
    "sampler.top_p": (lambda x: 0 < x <= 1, "> 0 and <= 1"),
    "sampler.top_k": _at_least(0),
    "sampler.min_p": _BELOW_ONE,
    **{f"synth.{key}": _at_least(1) for key in ("train_roots", "heldout_roots", "variants", "rounds", "processes")},
    "synth.register": _one_of("business", "tiny"),
    "synth.businesses": _at_least(0),
    "synth.unseen_share": _BELOW_ONE,
    "synth.selection": _one_of("failures", "even", "random", "resample"),
    "synth.runner": _one_of("local", "beam"),
    "synth.teacher": _one_of("program", "llm", "replay"),
    "synth.teacher_domains": _at_least(0),
    **{f"synth.teacher_{key}": _at_least(1) for key in ("concurrency", "attempts")},
    "synth.teacher_timeout": _POSITIVE,
    "synth.expand_share": _SHARE,
    **{f"synth.{key}": (lambda x: 0 < x <= 1, "> 0 and <= 1") for key in ("operator_quota", "domain_quota")},
    **{f"synth.{key}": _SHARE for key in ("legal_share", "refused_share")},
    **{f"reasoning.{key}": _at_least(0) for key in ("rounds", "teacher_rewrites")},
    **{f"reasoning.{key}": _at_least(1) for key in ("train_roots", "heldout_roots", "variants")},
    "reasoning.expand_share": _SHARE,
    "reasoning.untooled_reward": _SHARE,
    **{f"synth.{key}": _at_least(0) for key in ("prompt_price", "completion_price")},
    "env.simulator": _one_of("code", "llm"),
    "rl.reward": _one_of("code", "llm"),
    "env.max_turns": _at_least(1),
    **{f"env.{key}": _at_least(0) for key in ("concurrency", "timeout", "retries", "max_faults")},
    **{f"rl.{key}": _at_least(1) for key in ("groups", "minibatches", "row_length", "rows", "sft_episodes")},
    **{f"rl.{key}": _at_least(0) for key in ("rounds", "steps", "warmup_updates", "weight_decay", "sft_steps")},
    **{f"rl.{key}": _at_least(0) for key in ("logits_chunk", "router_coef")},
    "rl.group_size": _at_least(2),  # an advantage compares members of a group
    "rl.learning_rate": _POSITIVE,
    "rl.sft_learning_rate": _POSITIVE,
    "rl.adam_b2": _BELOW_ONE,
    "rl.max_grad_norm": _POSITIVE,
    "rl.max_staleness": _at_least(0),
    "rl.partial_turns": _at_least(0),
    "rl.max_skipped_updates": _at_least(1),
    "rl.lora_rank": _at_least(0),
    "rl.lora_alpha": _POSITIVE,
    "rl.lora_targets": (
        lambda x: x == "all" or set(x.split(",")) <= set(PROJECTIONS),
        f"'all' or comma-separated names of {', '.join(PROJECTIONS)}",
    ),
    "rl.algorithm": _one_of(*ALGORITHMS),
    "rl.advantage": _one_of("", "grpo", "dr_grpo", "rloo", "reinforce++"),
    "rl.loss_aggregation": _one_of("", "token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum", "fixed"),
    "rl.clip_low": (lambda x: 0 < x <= 1 or x == -1, "> 0 and <= 1, or -1 for the algorithm's"),
    "rl.clip_high": (lambda x: x > 0 or x == -1, "> 0, or -1 for the algorithm's"),
    "rl.dual_clip": (lambda x: x > 1 or x == 0, "> 1, or 0 for none"),
    "rl.kl_coef": _at_least(0),
    "rl.kl_estimator": _one_of("k1", "k2", "k3"),
    "rl.entropy_coef": _at_least(0),
    "rl.covariance": _one_of("none", "clip", "kl"),
    "rl.covariance_share": _SHARE,
    "rl.covariance_kl_coef": _at_least(0),
    "rl.importance": _one_of("none", "tis", "icepop"),
    "rl.importance_low": _SHARE,
    "rl.importance_high": _at_least(1),
    "rl.max_refills": _at_least(0),
    "rl.overlong_buffer": _at_least(0),
    "rl.compare": (lambda x: set(x.split(",")) <= set(ALGORITHMS), f"comma-separated names of {', '.join(ALGORITHMS)}"),
    "rl.compare_step": _at_least(-1),
    "rl.replay_share": _BELOW_ONE,
    "rl.sft_flawed_share": _SHARE,
    "rl.sft_drill_share": _SHARE,
    "rl.sft_drill_steps": _at_least(0),
    "rl.sft_comparison_steps": _at_least(0),
    "rl.sft_clean_steps": _at_least(0),
    "rl.sft_decay_steps": _at_least(0),
    "rl.sft_flywheel": _one_of("agentic", "reasoning"),
    "rl.sft_split": _one_of("train", "base"),
    "checkpoint.sft_every": _at_least(1),
    "evaluate.policies": _one_of("initial", "current", "initial,current"),
    **{f"evaluate.{key}": _at_least(0) for key in ("limit", "slots", "context", "max_new_tokens")},
    **{f"serve.{key}": _at_least(0) for key in ("queue", "slots", "context", "max_new_tokens")},
    "serve.port": (lambda x: 0 <= x < 2**16, "a port, or 0 for any that is free"),
    "serve.model": (bool, "a name"),
    "evaluate.bfcl_form": _one_of("qwen_fc", "chat"),
    "evaluate.trials": _at_least(1),
    "evaluate.bootstrap": _at_least(1),
    "checkpoint.every": _at_least(1),
    "checkpoint.keep": _at_least(1),
}


def leaves(config: config_dict.ConfigDict | dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("section.key", value) for every key."""
    for name, value in config.items():
        if isinstance(value, (config_dict.ConfigDict, dict)):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def checkpoint_folder(path: str) -> Path:
    """The path of an HF folder named in a config; relative paths are relative to the repository."""
    return REPOSITORY / path


def validate(config: config_dict.ConfigDict, stage: str = "flywheel") -> None:
    """Raises ValueError, naming the key, if a value is impossible by itself, with other values or for this stage.

    Not checked here: names of domains, operators and flaws (synth does), and whether mesh sizes fit the devices
    (sharding.make_mesh does).
    """
    values = dict(leaves(config))
    _check_keys_and_types(values)
    for key, (possible, text) in RULES.items():
        _require(possible(values[key]), key, text, values[key])
    axes = [key for key in values if key.startswith("mesh.") and values[key] == -1]
    if len(axes) > 1:
        raise ValueError(f"{' and '.join(axes)} are -1, at most one axis may take the devices that are left")
    _check_relations(values)
    _check_files(values)
    if stage in TRAINING_STAGES:
        cut = {"top_p": 1, "min_p": 0, "constrain_calls": False}
        if any(values[f"sampler.{key}"] != off for key, off in cut.items()):  # top_k bounds the recorded keep-set
            text = f">= 1 for stage {stage} with sampler.top_p, min_p or constrain_calls"
            _require(values["sampler.top_k"] >= 1, "sampler.top_k", text, values["sampler.top_k"])
    if stage == "serve":
        _require(values["mesh.processes"] == 1, "mesh.processes", "1 for stage serve", values["mesh.processes"])
        constrained = values["sampler.constrain_calls"]
        _require(not constrained, "sampler.constrain_calls", "False for stage serve", constrained)
    if stage == "evaluate" and values["sampler.constrain_calls"]:
        found = values["evaluate.suites"]
        text = "'agentic' with sampler.constrain_calls: benchmarks reveal tools later"
        _require(found.split("/")[0] == "agentic" and "," not in found, "evaluate.suites", text, found)
    if stage != "synth":
        _require(not values["synth.dry_run"], "synth.dry_run", f"False for stage {stage}", values["synth.dry_run"])
    if stage == "sft":
        _require(values["rl.sft_steps"] >= 1, "rl.sft_steps", ">= 1 for stage sft", values["rl.sft_steps"])
    shapes_only = stage == "plan"
    weights = config.model.init == "checkpoint" and not shapes_only
    _check_checkpoint("model.checkpoint", config.model.checkpoint, not shapes_only, weights)
    if config.rl.teacher:
        _check_checkpoint("rl.teacher", config.rl.teacher, True, True)


def _require(possible: bool, key: str, text: str, value: Any) -> None:
    """Raises ValueError with the standard message unless `possible`."""
    if not possible:
        raise ValueError(f"{key} must be {text}, got {value!r}")


def _check_keys_and_types(values: dict[str, Any]) -> None:
    """Raises ValueError unless the keys and their types are those of configs/default.py and numbers are finite."""
    defaults = dict(leaves(default.get_config()))
    for key in sorted(values.keys() ^ defaults.keys()):
        reason = "is not a key of configs/default.py" if key in values else "is missing"
        raise ValueError(f"config.{key} {reason}")
    for key, value in values.items():
        kind = type(defaults[key])
        # bool is a subclass of int, so isinstance would accept True as a number of steps.
        fits = type(value) is kind or (kind is float and type(value) is int)
        _require(fits, key, f"of type {kind.__name__}", value)
        if kind is float:
            _require(math.isfinite(value), key, "finite", value)


def _check_relations(values: dict[str, Any]) -> None:
    """Raises ValueError if values of different keys do not fit together."""
    limits = (  # the first must not be greater than the second
        ("sampler.context", "rl.row_length", "an episode must fit into a packed row"),
        ("sampler.prefill_chunk", "sampler.context", "a chunk must fit into a slot's cache"),
        ("sampler.max_new_tokens", "sampler.context", "a turn must fit into a slot's cache"),
        ("rl.minibatches", "rl.groups", "every minibatch needs a group"),
    )
    for low, high, reason in limits:
        _require(values[high] >= values[low], high, f">= {low} = {values[low]} ({reason})", values[high])
    _require(
        values["rl.overlong_buffer"] <= values["sampler.context"], "rl.overlong_buffer",
        f"<= sampler.context = {values['sampler.context']}", values["rl.overlong_buffer"],
    )  # fmt: skip
    if values["rl.partial_turns"]:
        _require(values["rl.max_staleness"] >= 1, "rl.max_staleness", ">= 1 with rl.partial_turns", 0)
        text = "0 with rl.partial_turns, whose groups end in several steps"
        _require(values["rl.max_refills"] == 0, "rl.max_refills", text, values["rl.max_refills"])
    else:
        text = "0 or 1 without rl.partial_turns"
        _require(values["rl.max_staleness"] <= 1, "rl.max_staleness", text, values["rl.max_staleness"])
    if values["rl.kl_in_reward"]:
        _require(values["rl.kl_coef"] > 0, "rl.kl_coef", "> 0 for rl.kl_in_reward", values["rl.kl_coef"])
    both = bool(values["evaluate.user"]) == bool(values["evaluate.user_url"])
    _require(both, "evaluate.user_url", "set together with evaluate.user", values["evaluate.user_url"])
    for section in ("evaluate", "serve"):
        context = values[f"{section}.context"] or values["sampler.context"]
        for key in ("sampler.prefill_chunk", f"{section}.max_new_tokens"):
            _require(context >= values[key], f"{section}.context", f">= {key} = {values[key]}", context)
    if values["synth.register"] == "business":
        off: dict[str, Any] = {"synth.teacher_users": False}
        if values["rl.sft_flywheel"] != "reasoning":  # whose drills are not about domains
            off |= {"rl.sft_drill_steps": 0, "rl.sft_comparison_steps": 0, "rl.sft_drill_share": 0.0}
        for key, value in off.items():
            _require(values[key] == value, key, f"{value!r} with synth.register = 'business'", values[key])
    if values["reasoning.rounds"]:
        _require(values["synth.rounds"] == 1, "synth.rounds", "1 with rounds of reasoning", values["synth.rounds"])
    if values["synth.runner"] == "beam":
        for key in ("synth.processes", "mesh.processes"):
            _require(values[key] == 1, key, "1 with synth.runner = 'beam', which has workers of its own", values[key])
    if values["reasoning.teacher_rewrites"]:
        model = values["synth.teacher"] != "program"
        text = "0 without a model as teacher (synth.teacher = 'llm' or 'replay')"
        _require(model, "reasoning.teacher_rewrites", text, values["reasoning.teacher_rewrites"])
    rounds = values["reasoning.rounds"] + values["rl.rounds"]
    _require(rounds >= 1, "rl.rounds", ">= 1 without rounds of reasoning (reasoning.rounds)", values["rl.rounds"])
    if values["synth.teacher"] != "program":
        _require(values["synth.teacher_model"] != "", "synth.teacher_model", "the endpoint's name of the model", "")
    for key in ("synth.teacher_users", "synth.dry_run"):
        model = values["synth.teacher"] != "program"
        _require(model or not values[key], key, "False without a model as teacher (synth.teacher)", values[key])
    if values["synth.teacher_users"]:
        text = "'local' with synth.teacher_users, where the teacher has to be waited for"
        _require(values["synth.runner"] == "local", "synth.runner", text, values["synth.runner"])
        processes = values["synth.processes"]
        _require(processes == 1, "synth.processes", "1 with synth.teacher_users", processes)
    if values["rl.reward"] == "llm":
        _require(values["env.model"] != "", "env.model", "the endpoint's name of the model that judges", "")
        text = "False with rl.reward = 'llm': no part of an episode has a reward of its own"
        _require(not values["rl.turn_credit"], "rl.turn_credit", text, values["rl.turn_credit"])
    elif values["env.simulator"] == "llm":
        text = "'llm' with env.simulator = 'llm': code cannot tell what simulated tools have done"
        _require(False, "rl.reward", text, values["rl.reward"])
    if values["rl.teacher"]:
        for key in ("rl.turn_credit", "rl.kl_in_reward", "rl.overlong_buffer", "rl.max_refills"):
            _require(not values[key], key, "off (False or 0) with rl.teacher, which learns from no reward", values[key])
    if (values["rl.advantage"] or values["rl.algorithm"]) == "reinforce++":
        text = "0 with reinforce++, where no group is without a signal of its own"
        _require(values["rl.max_refills"] == 0, "rl.max_refills", text, values["rl.max_refills"])
    if values["rl.kl_coef"] and not values["rl.kl_in_reward"]:
        text = "'k2' or 'k3' in the loss, where the gradient of 'k1' has mean 0 (or rl.kl_in_reward=True)"
        _require(values["rl.kl_estimator"] != "k1", "rl.kl_estimator", text, values["rl.kl_estimator"])
    if values["rl.algorithm"] == "cispo":
        _require(values["rl.dual_clip"] == 0, "rl.dual_clip", "0 with cispo, which has none", values["rl.dual_clip"])
    if values["synth.teacher"] == "llm":
        text = "1 with synth.teacher = 'llm', whose answers may differ; make the tasks first, then 'replay'"
        _require(values["mesh.processes"] == 1, "mesh.processes", text, values["mesh.processes"])
    decay, room = values["rl.sft_decay_steps"], max(values["rl.sft_steps"] - values["rl.warmup_updates"], 0)
    first, clean = values["rl.sft_drill_steps"] + values["rl.sft_comparison_steps"], values["rl.sft_clean_steps"]
    if values["rl.sft_drill_share"]:
        text = f"> {first} steps of drills and comparisons for a drill share"
        _require(clean > first, "rl.sft_clean_steps", text, clean)
    _require(decay <= room, "rl.sft_decay_steps", f"<= rl.sft_steps - rl.warmup_updates = {room}", decay)


def _check_files(values: dict[str, Any]) -> None:
    """Raises ValueError unless the reasoning section's files exist and questions have their corpus or folder."""
    worlds = {"search": "search_corpus", "data": "data_folder"}
    sets = [f"{world}_{kind}" for world in worlds for kind in ("questions", "evaluation")]
    for key in ("problems", "evaluation", *worlds.values(), *sets):
        for path in filter(None, (part.strip() for part in values[f"reasoning.{key}"].split(","))):
            _require(Path(path).exists(), f"reasoning.{key}", "an existing file or folder", path)
    for world, about in worlds.items():
        asked = values[f"reasoning.{world}_questions"] or values[f"reasoning.{world}_evaluation"]
        both = bool(asked) == bool(values[f"reasoning.{about}"])
        text = f"set together with reasoning.{world}_questions or reasoning.{world}_evaluation"
        _require(both, f"reasoning.{about}", text, values[f"reasoning.{about}"])


def _check_checkpoint(key: str, value: str, tokenizer: bool, weights: bool) -> None:
    """Raises ValueError unless the folder has config.json and, if they will be loaded, safetensors and a tokenizer."""
    folder, name = checkpoint_folder(value), f"{key} = {value!r}"
    if not folder.is_dir():
        raise ValueError(f"{name}: no such folder")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name}: the folder has no config.json")
    if weights and not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name}: the folder has no *.safetensors (model.init = 'random' needs none)")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        if tokenizer and not (folder / file).is_file():
            raise ValueError(f"{name}: the folder has no {file}, which a tokenizer's save_pretrained writes")
