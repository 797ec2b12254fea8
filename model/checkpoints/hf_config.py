"""Converts config.json of an HF folder to `transformer.Config` and back, with the meaning that transformers gives it.

Every key of the file is read, known to change nothing, or refused by name. So a checkpoint that needs a feature which
is not implemented never loads as a different model.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from model import files
from model.network import rope, transformer

CONFIG_FILE = "config.json"
ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM"}

# Keys that have the same name and meaning in `transformer.Config`, with their types; by family in KEYS.
PLAIN = {
    "vocab_size": int, "hidden_size": int, "intermediate_size": int, "num_hidden_layers": int,
    "num_attention_heads": int, "num_key_value_heads": int, "head_dim": int, "rms_norm_eps": float,
    "tie_word_embeddings": bool, "max_position_embeddings": int,
}  # fmt: skip
MOE = {
    "num_experts": int, "num_experts_per_tok": int, "moe_intermediate_size": int, "norm_topk_prob": bool,
    "decoder_sparse_step": int, "router_aux_loss_coef": float,
}  # fmt: skip
KEYS = {
    "qwen2": PLAIN,
    "qwen3": {**PLAIN, "attention_bias": bool},
    "qwen3_moe": {**PLAIN, **MOE, "attention_bias": bool},
}
ALIASES = {"num_local_experts": "num_experts"}  # transformers 5's name
# The most that these keys may ask for, far beyond any model. The work of reading a config grows with some of them, and
# it is done before the weights are looked at.
MOST = {
    "num_hidden_layers": 1000, "num_experts": 10_000, "vocab_size": 10**8, "hidden_size": 10**6,
    "intermediate_size": 10**7, "moe_intermediate_size": 10**7, "num_attention_heads": 10**5,
    "num_key_value_heads": 10**5, "head_dim": 10**5, "max_position_embeddings": 10**9,
}  # fmt: skip
# Keys that need special treatment, see `_parse`.
SPECIAL = {
    "model_type", "rope_theta", "rope_parameters", "rope_scaling", "use_sliding_window", "sliding_window",
    "max_window_layers", "layer_types", "mlp_only_layers",
}  # fmt: skip
# Keys of features that are not implemented, with the values that turn the feature off.
UNUSED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_dropout": (0, 0.0, None),
    "partial_rotary_factor": (1, 1.0, None),
    "quantization_config": (None,),
    "is_encoder_decoder": (False, None),
    "chunk_size_feed_forward": (0, None),
    "pretraining_tp": (1, None),
}
# Beginnings of keys in which tools keep notes for themselves.
NOTES = ("_", "unsloth_")
# Keys that do not affect what the network computes.
IGNORED = {
    "attn_implementation",
    "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "_attn_implementation",
    "initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "id2label",
    "label2id", "problem_type", "return_dict", "output_attentions", "output_hidden_states", "output_router_logits",
    "tokenizer_class", "auto_map", "torchscript", "use_mrope",
}  # fmt: skip
YARN = {field.name: field.type for field in dataclasses.fields(rope.Yarn)}


def read(path: str | pathlib.Path) -> transformer.Config:
    """Reads the config of an HF folder.

    Raises ValueError, naming the file and key, if

    - the folder or config.json is missing, or config.json is not a JSON object;
    - a key is missing, unknown or of the wrong type;
    - the model uses a feature that is not implemented.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f"model checkpoint: no such folder: {path}")
    file = path / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"model checkpoint: {file} is missing")
    raw = files.read_object(file)
    try:
        return _parse(raw)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _parse(raw: dict[str, Any]) -> transformer.Config:
    """The config from a file's contents. Raises ValueError as `read` does, without the file's name."""
    family = raw.get("model_type")
    if family not in transformer.FAMILIES:
        raise ValueError(f"model_type: expected one of {transformer.FAMILIES}, found {family!r}")
    for key, value in raw.items():
        if key in UNUSED:
            if value not in UNUSED[key]:
                raise ValueError(f"{key}: only {UNUSED[key][0]!r} is implemented, found {value!r}")
        elif key == "use_qk_norm":  # what the family does anyway
            if value not in (family != "qwen2", None):
                raise ValueError(f"{key}: only {family != 'qwen2'} is implemented for {family}, found {value!r}")
        elif key.startswith(NOTES):
            continue
        elif ALIASES.get(key, key) not in {*KEYS[family], *SPECIAL, *IGNORED} and value not in (None, False):
            raise ValueError(f"{key}: not a key of {family} that is implemented (its value is {value!r})")
    given = {ALIASES.get(key, key): value for key, value in raw.items()}
    if given.get("num_key_value_heads", 0) is None:  # as in HF: as many as query heads
        given["num_key_value_heads"] = given.get("num_attention_heads")
    values: dict[str, Any] = {"model_type": family}
    for key, kind in KEYS[family].items():
        if given.get(key) is not None:
            values[key] = _typed(key, kind, given[key])
            if key in MOST and not 1 <= values[key] <= MOST[key]:
                raise ValueError(f"{key}: expected 1 to {MOST[key]}, found {values[key]}")
    if "head_dim" not in values and (family != "qwen3" or "head_dim" in given) and "hidden_size" in values:
        values["head_dim"] = values["hidden_size"] // values.get("num_attention_heads", 1)
    for field in dataclasses.fields(transformer.Config):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise ValueError(f"key {field.name!r} is missing")
    if family == "qwen3_moe":
        values["mlp_only_layers"] = tuple(_typed("mlp_only_layers", list, given.get("mlp_only_layers") or []))
        for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"):
            if key not in values:
                raise ValueError(f"key {key!r} is missing")
    values["rope_theta"], values["rope_scaling"] = _rope(given, values)
    values["layer_types"], values["sliding_window"] = _windows(given, family, values["num_hidden_layers"])
    return transformer.Config(**values)


def _windows(raw: dict[str, Any], family: str, layers: int) -> tuple[tuple[str, ...], int | None]:
    """(layer_types, sliding_window). Without layer_types, layers from max_window_layers on slide; in MoE all."""
    window = None
    if _typed("use_sliding_window", bool, raw.get("use_sliding_window") or False):
        window = raw.get("sliding_window", 4096)  # HF's default
        window = None if window is None else _typed("sliding_window", int, window)
    first = 0 if family == "qwen3_moe" else _typed("max_window_layers", int, raw.get("max_window_layers", 28))
    full, sliding = transformer.FULL, transformer.SLIDING
    derived = tuple(sliding if window is not None and i >= first else full for i in range(layers))
    types = raw.get("layer_types")
    types = derived if types is None else tuple(_typed("layer_types", list, types))
    if unknown := sorted(set(types) - {full, sliding}):
        raise ValueError(f"layer_types: only {full!r} and {sliding!r} are implemented, found {unknown}")
    if sliding in types and window is None:
        raise ValueError("layer_types: has sliding_attention, but use_sliding_window or sliding_window is not set")
    if family == "qwen3_moe" and types != derived:
        raise ValueError(f"layer_types: a qwen3_moe model has one kind of attention, {derived[0]!r}; found {types}")
    return types, window


def _rope(raw: dict[str, Any], values: dict[str, Any]) -> tuple[float, rope.Yarn | None]:
    """(theta, YaRN scaling) from `rope_scaling` or `rope_parameters`; theta else from the top level, as in HF."""
    key = "rope_scaling" if raw.get("rope_scaling") else "rope_parameters"
    found = dict(_typed(key, dict, raw.get(key) or {}))
    theta = found.pop("rope_theta", raw.get("rope_theta", transformer.Config.rope_theta))
    kind = found.pop("rope_type", found.get("type", "default"))
    found.pop("type", None)
    if found.pop("partial_rotary_factor", None) not in (None, 1, 1.0):
        raise ValueError(f"{key}: partial_rotary_factor: only 1 is implemented, found {raw[key]}")
    if kind not in ("default", "yarn"):
        raise ValueError(f"{key}: only rope_type 'default' and 'yarn' are implemented, found {kind!r}")
    theta = _typed("rope_theta", float, theta)
    if unknown := sorted(found.keys() - (YARN.keys() if kind == "yarn" else set())):
        raise ValueError(f"{key}: {unknown} not implemented for rope_type {kind!r}, found {raw[key]}")
    if kind == "default":
        return theta, None
    context = values.get("max_position_embeddings", transformer.Config.max_position_embeddings)
    found.setdefault("original_max_position_embeddings", context)
    if found.get("factor") is None:
        raise ValueError(f"{key}: factor is missing, found {raw[key]}")
    kinds = {"original_max_position_embeddings": int, "truncate": bool}
    typed = {k: _typed(f"{key}.{k}", kinds.get(k, float), v) for k, v in found.items() if v is not None}
    return theta, rope.Yarn(**typed)


def _typed(key: str, kind: type, value: Any) -> Any:
    """Returns `value`. Raises ValueError, naming the key, unless it is of type `kind` (a float may be an int)."""
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{key}: expected {kind.__name__}, found {value!r}")
    return float(value) if kind is float else value


def to_json(config: transformer.Config, dtype: str) -> dict[str, Any]:
    """The contents of config.json for this architecture, readable by transformers 4 and 5. dtype: of the weights."""
    scaling = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = {k: v for k, v in dataclasses.asdict(config.rope_scaling).items() if v is not None}
        scaling["rope_type"] = "yarn"
    scaling["rope_theta"] = config.rope_theta
    types = config.layer_types or (transformer.FULL,) * config.num_hidden_layers
    sliding = transformer.SLIDING in types
    record = {
        "architectures": [ARCHITECTURES[config.model_type]],
        "model_type": config.model_type,
        **{key: getattr(config, key) for key in KEYS[config.model_type]},
        "rope_theta": config.rope_theta,
        "rope_parameters": scaling,
        "use_sliding_window": sliding,
        "sliding_window": config.sliding_window,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "dtype": dtype,
    }
    if config.rope_scaling is not None:
        record["rope_scaling"] = scaling
    if config.model_type == "qwen3_moe":
        record["mlp_only_layers"] = list(config.mlp_only_layers)
    else:
        record["layer_types"] = list(types)
        record["max_window_layers"] = types.index(transformer.SLIDING) if sliding else len(types)
    return record
