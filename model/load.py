"""HF folders (config.json + safetensors) in and out.

`TABLE` maps every HF tensor name to a parameter of `transformer.Config.parameters` and says how one becomes the other;
reading, writing and the checks of names and shapes are all derived from it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh

from model import sharding, transformer

INITS = ("checkpoint", "random")
SOURCE_DTYPES = ("F32", "F16", "BF16")  # safetensors names
CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"

# HF tensor name -> (path in our parameter table, inputs). inputs counts the leading dimensions of our array, less the
# layer axis, that are a matrix's inputs: HF stores [outputs, inputs], we [inputs..., outputs...]. 0: not transposed.
TABLE: dict[str, tuple[str, int]] = {
    "model.embed_tokens.weight": ("embed", 0),
    "model.layers.{layer}.input_layernorm.weight": ("layers.attention_norm", 0),
    "model.layers.{layer}.self_attn.q_proj.weight": ("layers.query", 1),
    "model.layers.{layer}.self_attn.k_proj.weight": ("layers.key", 1),
    "model.layers.{layer}.self_attn.v_proj.weight": ("layers.value", 1),
    "model.layers.{layer}.self_attn.o_proj.weight": ("layers.output", 2),
    "model.layers.{layer}.self_attn.q_proj.bias": ("layers.query_bias", 0),
    "model.layers.{layer}.self_attn.k_proj.bias": ("layers.key_bias", 0),
    "model.layers.{layer}.self_attn.v_proj.bias": ("layers.value_bias", 0),
    "model.layers.{layer}.self_attn.o_proj.bias": ("layers.output_bias", 0),
    "model.layers.{layer}.self_attn.q_norm.weight": ("layers.query_norm", 0),
    "model.layers.{layer}.self_attn.k_norm.weight": ("layers.key_norm", 0),
    "model.layers.{layer}.post_attention_layernorm.weight": ("layers.mlp_norm", 0),
    "model.layers.{layer}.mlp.gate_proj.weight": ("layers.gate", 1),
    "model.layers.{layer}.mlp.up_proj.weight": ("layers.up", 1),
    "model.layers.{layer}.mlp.down_proj.weight": ("layers.down", 1),
    "model.norm.weight": ("final_norm", 0),
    "lm_head.weight": ("head", 1),
}

# Keys of config.json whose feature is not implemented, with the values that leave it unused.
UNUSED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "attention_dropout": (0, 0.0, None),
    "partial_rotary_factor": (1, 1.0, None),
    "quantization_config": (None,),
}


class Tensor(NamedTuple):
    """One tensor of an HF file: our parameter's path, its index on the layer axis (None: not stacked), shapes.

    shape: of our array less the layer axis; hf_shape: of the file's tensor; transpose: whether they are transposed.
    """

    path: str
    layer: int | None
    shape: tuple[int, ...]
    hf_shape: tuple[int, ...]
    transpose: bool

    def to_ours(self, hf: np.ndarray) -> np.ndarray:
        """The file's tensor as (one layer of) our parameter."""
        return (hf.T if self.transpose else hf).reshape(self.shape)

    def to_hf(self, ours: np.ndarray) -> np.ndarray:
        """Inverse of `to_ours`, contiguous: safetensors writes an array's memory whatever its strides."""
        hf = ours.reshape(self.hf_shape[::-1]).T if self.transpose else ours.reshape(self.hf_shape)
        return np.ascontiguousarray(hf)


def hf_tensors(config: transformer.Config) -> dict[str, Tensor]:
    """Name -> `Tensor` of everything an HF file of this architecture holds."""
    parameters, tensors = config.parameters(), {}
    for template, (path, inputs) in TABLE.items():
        if path not in parameters:
            continue
        stacked = path.startswith("layers.")
        shape = parameters[path].shape[1:] if stacked else parameters[path].shape
        if inputs:
            hf_shape = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
        else:  # biases are per head in ours, flat in HF
            hf_shape = (math.prod(shape),) if template.endswith(".bias") else shape
        for layer in range(config.num_hidden_layers) if stacked else (None,):
            tensors[template.format(layer=layer)] = Tensor(path, layer, shape, hf_shape, inputs > 0)
    return tensors


def from_pretrained(
    path: str | pathlib.Path,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    init: str = "checkpoint",
    *,
    seed: int = 0,
    remat: str = "none",
) -> tuple[transformer.Transformer, transformer.Config]:
    """The policy and its config from an HF folder.

    dtype: of the parameters, whatever the file's. mesh: parameters are placed as `sharding.param_shardings` says, else
    on the default device. init: "checkpoint" reads the weights, "random" draws them from `seed` and reads only
    config.json. remat: see `transformer.Transformer`.
    Raises ValueError naming the file and key or tensor when something is missing, unexpected, of the wrong shape or
    type, or a feature that is not implemented.
    """
    path = pathlib.Path(path)
    if init not in INITS:
        raise ValueError(f"model.init: expected one of {INITS}, found {init!r}")
    config = read_config(path)
    shardings = None if mesh is None else sharding.param_shardings(config, mesh)

    def make(rngs: nnx.Rngs) -> transformer.Transformer:
        return transformer.Transformer(config, dtype=dtype, remat=remat, rngs=rngs)

    def create(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(params=key)), nnx.Param)

    if init == "random":
        params = jax.jit(create, out_shardings=shardings)(jax.random.key(seed))
    else:
        params = _read_params(path, config, dtype, shardings)
    return nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0)))), params), config


def save_pretrained(policy: transformer.Transformer, config: transformer.Config, path: str | pathlib.Path) -> None:
    """Writes config.json and model.safetensors, in the policy's dtype, so that transformers can load the folder.

    The folder is made where missing. Each file appears complete or not at all.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    params = {".".join(keys): np.asarray(param[...]) for keys, param in nnx.to_flat_state(nnx.state(policy, nnx.Param))}
    tensors = {
        name: tensor.to_hf(params[tensor.path] if tensor.layer is None else params[tensor.path][tensor.layer])
        for name, tensor in hf_tensors(config).items()
    }
    record = {  # rope_theta as transformers 4 and as 5 read it
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **dataclasses.asdict(config),
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "dtype": policy.dtype.name,
    }
    weights, text = path / (WEIGHTS_FILE + ".tmp"), path / (CONFIG_FILE + ".tmp")
    safetensors.numpy.save_file(tensors, weights, metadata={"format": "pt"})
    text.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    weights.replace(path / WEIGHTS_FILE)
    text.replace(path / CONFIG_FILE)


def read_config(path: str | pathlib.Path) -> transformer.Config:
    """The config of an HF folder.

    Raises ValueError naming the file and key when the folder or file is missing or no JSON object, a key is missing or
    of the wrong type, or the model uses a feature that is not implemented.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f"model checkpoint: no such folder: {path}")
    file = path / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"model checkpoint: {file} is missing")
    try:
        raw = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{file}: expected a JSON object, found {type(raw).__name__}")
    _refuse_unimplemented(file, raw)
    raw = {**raw, "rope_theta": _rope_theta(file, raw)}
    if raw.get("num_key_value_heads", 0) is None:  # HF: as many as query heads
        raw["num_key_value_heads"] = raw.get("num_attention_heads")
    values = {}
    for field in dataclasses.fields(transformer.Config):
        if field.name in raw:
            values[field.name] = _typed(file, field.name, field.type, raw[field.name])
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{file}: key {field.name!r} is missing")
    try:
        return transformer.Config(**values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _refuse_unimplemented(file: pathlib.Path, raw: dict[str, Any]) -> None:
    """Raises ValueError when config.json asks for something the model does not compute."""
    if raw.get("model_type") != "qwen3":
        raise ValueError(f"{file}: model_type: only 'qwen3' is implemented, found {raw.get('model_type')!r}")
    for key, allowed in UNUSED.items():
        if key in raw and raw[key] not in allowed:
            raise ValueError(f"{file}: {key}: only {allowed[0]!r} is implemented, found {raw[key]!r}")
    kinds = set(raw.get("layer_types") or ())
    if kinds - {"full_attention"}:
        raise ValueError(f"{file}: layer_types: only 'full_attention' is implemented, found {sorted(kinds)}")


def _rope_theta(file: pathlib.Path, raw: dict[str, Any]) -> Any:
    """theta from `rope_parameters` (transformers 5) or the top level; rope scaling is refused with a ValueError."""
    theta = raw.get("rope_theta", transformer.Config.rope_theta)
    for key in ("rope_parameters", "rope_scaling"):
        rope = dict(raw.get(key) or {})
        kind = rope.pop("rope_type", rope.pop("type", "default"))
        if kind != "default":
            raise ValueError(f"{file}: {key}: only rope_type 'default' is implemented, found {kind!r}")
        theta = rope.pop("rope_theta", theta)
        if rope.pop("partial_rotary_factor", 1.0) != 1.0 or rope.keys() - {"type"}:
            raise ValueError(f"{file}: {key}: only rope_type and rope_theta are implemented, found {raw[key]}")
    return theta


def _typed(file: pathlib.Path, key: str, kind: str, value: Any) -> Any:
    """`value` as the type named `kind` ("int", "float" or "bool"), or a ValueError naming the key."""
    accepted = {"int": (int,), "float": (int, float), "bool": (bool,)}[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
        raise ValueError(f"{file}: {key}: expected {kind}, found {value!r}")
    return float(value) if kind == "float" else value


def _weight_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a folder: the single one if there is one, else those its index names."""
    if (path / WEIGHTS_FILE).is_file():
        return [path / WEIGHTS_FILE]
    index = path / INDEX_FILE
    if not index.is_file():
        raise ValueError(f"model checkpoint: {path} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: expected a JSON object with a 'weight_map' of tensor name -> file name") from error
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{index}: names files that are missing: {missing}")
    return [path / name for name in names]


def _open(file: pathlib.Path) -> Any:
    """An open safetensors file; a ValueError naming it when it is damaged."""
    try:
        return safetensors.safe_open(file, framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file}: not a readable safetensors file: {error}") from error


def _check_tensors(path: pathlib.Path, found: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Raises ValueError when the files' tensor names, shapes or dtypes are not the architecture's (from headers)."""
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(f"{path}: tensors do not match {CONFIG_FILE}: missing {missing}, unexpected {unexpected}")
    for name, tensor in expected.items():
        header = found[name].get_slice(name)
        if tuple(header.get_shape()) != tensor.hf_shape:
            raise ValueError(f"{path}: {name}: expected shape {tensor.hf_shape}, found {tuple(header.get_shape())}")
        if header.get_dtype() not in SOURCE_DTYPES:
            raise ValueError(f"{path}: {name}: expected a dtype of {SOURCE_DTYPES}, found {header.get_dtype()}")


def _drop_tied_head(path: pathlib.Path, found: dict[str, Any]) -> None:
    """Removes lm_head.weight from `found`: tied checkpoints may hold it, but then it must equal the embedding."""
    head, embed = "lm_head.weight", "model.embed_tokens.weight"
    if head in found and embed in found:
        if not np.array_equal(found[head].get_tensor(head), found[embed].get_tensor(embed)):
            raise ValueError(f"{path}: tie_word_embeddings is true but {head} differs from {embed}")
        del found[head]


def _read_params(path: pathlib.Path, config: transformer.Config, dtype: Any, shardings: nnx.State | None) -> nnx.State:
    """The parameters from a folder's safetensors, one stacked parameter in host memory at a time."""
    found = {name: file for file in map(_open, _weight_files(path)) for name in file.keys()}
    if config.tie_word_embeddings:
        _drop_tied_head(path, found)
    expected = hf_tensors(config)
    _check_tensors(path, found, expected)
    flat = {}
    for keys, host in _host_arrays(found, config, expected, dtype):
        if shardings is None:
            array = jnp.array(host)
        else:
            place = shardings
            for key in keys:
                place = place[key]
            array = jax.make_array_from_callback(host.shape, place.get_value(), lambda index, host=host: host[index])
        flat[keys] = nnx.Param(array)
    return nnx.from_flat_state(flat)


def _host_arrays(
    found: dict[str, Any], config: transformer.Config, expected: dict[str, Tensor], dtype: Any
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Yields (path in the parameter pytree, array) of each parameter, its layers stacked and cast to `dtype`."""
    for path, parameter in config.parameters().items():
        host = np.empty(parameter.shape, jnp.dtype(dtype))
        for name, tensor in expected.items():
            if tensor.path == path:
                host[... if tensor.layer is None else tensor.layer] = tensor.to_ours(found[name].get_tensor(name))
        yield tuple(path.split(".")), host
