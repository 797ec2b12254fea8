"""Reads and writes HF model folders (config.json and safetensors).

`TABLE` maps every HF tensor name to a parameter of `transformer.Config.parameters` and says how to convert one to the
other. Reading, writing and the checks of names and shapes are derived from it.
"""

from __future__ import annotations

import collections
import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh, NamedSharding, Sharding, SingleDeviceSharding

from model import files
from model.checkpoints import hf_config
from model.network import sharding, transformer

INITS = ("checkpoint", "random")
SOURCE_DTYPES = ("F32", "F16", "BF16")  # safetensors names
CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = hf_config.CONFIG_FILE, "model.safetensors", "model.safetensors.index.json"
MAX_SHARD_BYTES = 4 << 30

# HF tensor name -> (path in our parameter table, inputs). HF stores a matrix as [outputs, inputs], we store it as
# [inputs..., outputs...]; `inputs` is the number of our array's input dimensions, which come first after the layer and
# expert axes. 0: the tensor is not transposed.
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
    "model.layers.{layer}.mlp.gate.weight": ("layers.router", 1),
    "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight": ("layers.expert_gate", 1),
    "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight": ("layers.expert_up", 1),
    "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight": ("layers.expert_down", 1),
    "model.norm.weight": ("final_norm", 0),
    "lm_head.weight": ("head", 1),
}


class Tensor(NamedTuple):
    """One tensor of an HF file and its place in our parameters.

    path: of our parameter. index: the tensor's place on the parameter's leading axes: (), (layer in the stack,) or
    (layer in the stack, expert). shape: of our array without those axes. hf_shape: of the file's tensor. transpose:
    whether one is the transpose of the other.
    """

    path: str
    index: tuple[int, ...]
    shape: tuple[int, ...]
    hf_shape: tuple[int, ...]
    transpose: bool

    def to_ours(self, hf: np.ndarray) -> np.ndarray:
        """Converts the file's tensor to our parameter's part at `index`."""
        return (hf.T if self.transpose else hf).reshape(self.shape)

    def to_hf(self, ours: np.ndarray) -> np.ndarray:
        """Inverse of `to_ours`. The result is contiguous, because safetensors writes an array's memory as it lies."""
        hf = ours.reshape(self.hf_shape[::-1]).T if self.transpose else ours.reshape(self.hf_shape)
        return np.ascontiguousarray(hf)


def hf_tensors(config: transformer.Config) -> dict[str, Tensor]:
    """HF tensor name -> `Tensor`, for all tensors of an HF checkpoint of this architecture."""
    parameters, tensors = config.parameters(), {}
    for template, (path, inputs) in TABLE.items():
        if path not in parameters:
            continue
        layers = parameters[path].layers
        experts = range(config.num_experts) if "{expert}" in template else ()
        shape = parameters[path].shape[bool(layers) + bool(experts) :]
        if inputs:
            hf_shape = (math.prod(shape[inputs:]), math.prod(shape[:inputs]))
        else:  # biases are per head in ours, flat in HF
            hf_shape = (math.prod(shape),) if template.endswith(".bias") else shape
        places = [((), {})]
        if layers:
            places = [((i,), {"layer": layer}) for i, layer in enumerate(layers)]
        if experts:
            places = [((*index, e), {**names, "expert": e}) for index, names in places for e in experts]
        for index, names in places:
            tensors[template.format(**names)] = Tensor(path, index, shape, hf_shape, inputs > 0)
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
    """Returns (the policy, its config) from an HF folder.

    dtype: of the parameters; the file's are converted.
    mesh: the parameters are split over it as `sharding.param_shardings` says; None: they go to the default device.
    init: "checkpoint" reads the weights; "random" draws them from `seed` and reads only config.json.
    remat: see `transformer.Transformer`.
    Raises ValueError, naming the file and the key or tensor, if something is missing, unexpected, of the wrong shape or
    type, or uses a feature that is not implemented.
    """
    path = pathlib.Path(path)
    if init not in INITS:
        raise ValueError(f"model.init: expected one of {INITS}, found {init!r}")
    config = hf_config.read(path)
    shardings = None if mesh is None else sharding.param_shardings(config, mesh)

    def make(rngs: nnx.Rngs) -> transformer.Transformer:
        platform = "cpu" if mesh is None else sharding.platform(mesh)
        return transformer.Transformer(config, dtype=dtype, remat=remat, platform=platform, rngs=rngs)

    def create(key: jax.Array) -> nnx.State:
        return nnx.state(make(nnx.Rngs(params=key)), nnx.Param)

    if init == "random":
        params = jax.jit(create, out_shardings=shardings)(jax.random.key(seed))
    else:
        params = _read_params(path, config, dtype, shardings)
    return nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0)))), params), config


def save_pretrained(
    policy: transformer.Transformer,
    config: transformer.Config,
    path: str | pathlib.Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes an HF folder, in the policy's dtype, that the transformers library can load.

    Weights go to model.safetensors or, if they take more than max_shard_bytes, to several files with an index. One such
    file is held in host memory at a time. The folder is created if missing. Each file is either complete or absent, and
    config.json is written last. In a multi-process run all processes must call it; the first one writes.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    record, tensors = hf_config.to_json(config, policy.dtype.name), hf_tensors(config)
    params = {".".join(keys): param[...] for keys, param in nnx.to_flat_state(nnx.state(policy, nnx.Param))}
    sizes = {name: math.prod(tensor.shape) * policy.dtype.itemsize for name, tensor in tensors.items()}
    shards = _shards(sizes, max_shard_bytes)
    first, written, weight_map = jax.process_index() == 0, set(), {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else WEIGHTS_FILE
        weight_map |= dict.fromkeys(names, file)
        host = {name: tensors[name].to_hf(fetch(params[tensors[name].path], tensors[name].index)) for name in names}
        if first:
            partial = path / f"{file}.tmp"
            partial.unlink(missing_ok=True)
            partial.touch()  # to see which mode a new file gets: safetensors lets nobody but the owner read
            mode = partial.stat().st_mode
            safetensors.numpy.save_file(host, partial, metadata={"format": "pt"})
            partial.chmod(mode)
            partial.replace(path / file)
            written |= {file}
    if first:
        if len(shards) > 1:
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
            write_json(path / INDEX_FILE, index)
            written |= {INDEX_FILE}
        write_json(path / CONFIG_FILE, record)
        for file in path.glob("model*.safetensors*"):  # left by an earlier save; they would be read, too
            if file.name not in written:
                file.unlink()


def _shards(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """Divides the names, in order, among files of at most `limit` bytes; a larger tensor gets its own file."""
    shards, used = [[]], 0
    for name, size in sizes.items():
        if shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def fetch(param: jax.Array, index: tuple[int, ...]) -> np.ndarray:
    """Returns param[index] on the host, wherever the shards are. Only that part is gathered."""
    if isinstance(param.sharding, NamedSharding):
        part = _part(sharding.replicated(param.sharding.mesh))(param, *index)
        return np.asarray(part.addressable_data(0))
    return np.asarray(param[index])


@functools.cache
def _part(whole: NamedSharding) -> Callable[..., jax.Array]:
    """A compiled function (param, *index) -> param[index], replicated over all devices."""
    return jax.jit(lambda param, *index: param[index], out_shardings=whole)


def write_json(file: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes a JSON file in one rename."""
    partial = file.with_name(f"{file.name}.tmp")
    partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    partial.replace(file)


def _weight_files(path: pathlib.Path) -> dict[pathlib.Path, set[str] | None]:
    """Safetensors file -> the tensors to take from it: those that the index lists, or all (None) of a single file.

    Raises ValueError, naming the index, if it is malformed, names missing files, or names anything outside the folder.
    """
    if (path / WEIGHTS_FILE).is_file():
        return {path / WEIGHTS_FILE: None}
    index = path / INDEX_FILE
    if not index.is_file():
        raise ValueError(f"model checkpoint: {path} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    try:
        weight_map = dict(files.read_object(index)["weight_map"])
        names = sorted(set(weight_map.values()))
        outside = [name for name in names if pathlib.PurePath(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: expected a JSON object with a 'weight_map' of tensor name -> file name") from error
    if outside:
        raise ValueError(f"{index}: expected names of files in its own folder, found {outside}")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{index}: names files that are missing: {missing}")
    return {path / name: {tensor for tensor, file in weight_map.items() if file == name} for name in names}


def _open(file: pathlib.Path) -> Any:
    """Opens a safetensors file. Raises ValueError, naming it, if it is damaged."""
    try:
        return safetensors.safe_open(file, framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file}: not a readable safetensors file: {error}") from error


def _check_count(path: pathlib.Path, found: int, config: transformer.Config) -> None:
    """Raises ValueError if config.json asks for far more tensors than there are: naming them all would take long."""
    parameters = config.parameters()
    sizes = [
        (len(parameters[own].layers) or 1) * (config.num_experts if "{expert}" in template else 1)
        for template, (own, _) in TABLE.items()
        if own in parameters
    ]
    if sum(sizes) > 2 * found + 100:
        raise ValueError(f"{path}: {CONFIG_FILE} describes {sum(sizes)} tensors, and the files hold {found}")


def _check_tensors(path: pathlib.Path, found: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Raises ValueError if the tensor names, shapes or dtypes in the files' headers do not fit the architecture."""
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        listed = f"missing {_some(missing)}, unexpected {_some(unexpected)}"
        raise ValueError(f"{path}: tensors do not match {CONFIG_FILE}: {listed}")
    for name, tensor in expected.items():
        header = found[name].get_slice(name)
        if tuple(header.get_shape()) != tensor.hf_shape:
            raise ValueError(f"{path}: {name}: expected shape {tensor.hf_shape}, found {tuple(header.get_shape())}")
        if header.get_dtype() not in SOURCE_DTYPES:
            raise ValueError(f"{path}: {name}: expected a dtype of {SOURCE_DTYPES}, found {header.get_dtype()}")


def _some(names: list[str], most: int = 5) -> str:
    """The names; of many the first few, and how many more there are."""
    return f"{names[:most]} and {len(names) - most} more" if names[most:] else str(names)


def _drop_tied_head(path: pathlib.Path, found: dict[str, Any]) -> None:
    """Removes lm_head.weight, which a tied checkpoint may hold, from `found`. Raises ValueError if it differs from the
    embedding."""
    head, embed = "lm_head.weight", "model.embed_tokens.weight"
    if head in found and embed in found:
        if not np.array_equal(found[head].get_tensor(head), found[embed].get_tensor(embed)):
            raise ValueError(f"{path}: tie_word_embeddings is true but {head} differs from {embed}")
        del found[head]


def _read_params(path: pathlib.Path, config: transformer.Config, dtype: Any, shardings: nnx.State | None) -> nnx.State:
    """Reads the parameters from a folder's safetensors, with one tensor in host memory at a time.

    Each device's shard of a parameter is allocated on the device and filled in place, tensor by tensor. So a device
    never holds more than its shards. Devices do not communicate, so in a multi-process run each process fills its own
    devices.
    """
    found = {}
    for file, listed in _weight_files(path).items():
        opened = _open(file)
        found |= {name: opened for name in opened.keys() if listed is None or name in listed}
    if config.tie_word_embeddings:
        _drop_tied_head(path, found)
    _check_count(path, len(found), config)
    expected = hf_tensors(config)
    _check_tensors(path, found, expected)
    places = None if shardings is None else dict(nnx.to_flat_state(shardings))
    by_path = collections.defaultdict(list)
    for name, tensor in expected.items():
        by_path[tensor.path].append((name, tensor))
    flat = {}
    for parameter_path, parameter in config.parameters().items():
        keys = tuple(parameter_path.split("."))
        place = SingleDeviceSharding(jax.devices()[0]) if places is None else places[keys].get_value()
        tensors = by_path[parameter_path]
        try:
            flat[keys] = nnx.Param(_assemble(found, tensors, parameter.shape, dtype, place))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return nnx.from_flat_state(flat)


def _check_finite(name: str, tensor: np.ndarray) -> None:
    """Raises ValueError, naming the tensor, if a value is NaN or infinite: such a policy could only sample nonsense."""
    finite = np.isfinite(tensor)
    if not finite.all():
        count = finite.size - np.count_nonzero(finite)
        raise ValueError(f"tensor {name}: {count} of {finite.size} values are NaN or infinite")


def _assemble(
    found: dict[str, Any], tensors: list[tuple[str, Tensor]], shape: tuple[int, ...], dtype: Any, place: Sharding
) -> jax.Array:
    """Builds one parameter of `shape`, sharded as `place` says, from its HF tensors."""
    regions = place.addressable_devices_indices_map(shape)
    bounds = {
        device: [s.indices(size)[:2] for s, size in zip(region, shape, strict=True)]
        for device, region in regions.items()
    }
    shards = {}
    for device, ranges in bounds.items():
        with jax.default_device(device):
            shards[device] = jnp.zeros([stop - start for start, stop in ranges], dtype)
    for name, tensor in tensors:
        lead, host = len(tensor.index), None
        for device, ranges in bounds.items():
            at = [i - start for i, (start, _) in zip(tensor.index, ranges[:lead], strict=True)]
            if not all(0 <= i < stop - start for i, (start, stop) in zip(at, ranges[:lead], strict=True)):
                continue  # a layer or expert that this device does not hold
            if host is None:
                host = found[name].get_tensor(name)
                _check_finite(name, host)
                host = tensor.to_ours(host)
            piece = host[tuple(slice(*r) for r in ranges[lead:])].astype(dtype)
            shards[device] = _write(shards[device], jax.device_put(piece, device), *at)
    return jax.make_array_from_single_device_arrays(shape, place, list(shards.values()))


@functools.partial(jax.jit, donate_argnums=0)
def _write(shard: jax.Array, piece: jax.Array, *index: jax.Array) -> jax.Array:
    """Returns shard with shard[index] replaced by piece; reuses the memory of shard."""
    return shard.at[index].set(piece)
