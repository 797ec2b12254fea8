"""The device mesh, and which mesh axes split which dimensions of parameters, activations and batches.

Every mesh has the axes `AXES`; an axis of size 1 is unused. Each dimension of a parameter has a logical axis
(`transformer.Config.parameters`). `TRAIN` and `DECODE` say over which mesh axes it is split in the learner and in the
sampler.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "expert", "context", "tensor")

Rules = Mapping[str, tuple[str, ...]]  # logical axis -> mesh axes it is split over

# Training: parameters, gradients and moments are split over all axes that can, and gathered layer by layer.
TRAIN: Rules = {
    "rows": ("data", "fsdp", "expert"),  # of a batch; moe.experts needs `expert` last
    "sequence": ("context",),
    "layers": (),
    "vocab": ("tensor",),
    "embed": ("fsdp", "expert", "context"),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head": (),
    "mlp": ("tensor",),
    "rank": (),  # of an adapter
    "norm": (),  # scales and biases along the model width: small, so every device holds all of them
    "router": (),
    "experts": ("expert",),
    "expert_embed": ("fsdp", "context"),
}

# Decoding reads every parameter for every token, so gathering is too slow: only heads, mlps and experts are split.
DECODE: Rules = {
    **TRAIN,
    "rows": ("data", "fsdp", "context", "expert"),  # slots of the sampler; moe.experts needs `expert` last
    "sequence": (),
    "embed": (),
    "expert_embed": (),
}


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes a mesh with GSPMD (Auto) axes over all of `devices` (default: all devices).

    sizes: mesh axis -> size. Missing axes have size 1. One axis may be -1: it takes all remaining devices.
    Raises ValueError for an unknown axis, an impossible size, sizes whose product is not the number of devices and, on
    TPUs, sizes that cannot be composed of the slice's sides.
    """
    devices = list(jax.devices() if devices is None else devices)
    unknown = sorted(set(sizes) - set(AXES))
    if unknown:
        raise ValueError(f"mesh: unknown axes {unknown}; the axes are {list(AXES)}")
    shape = {axis: int(sizes.get(axis, 1)) for axis in AXES}
    bad = {axis: size for axis, size in shape.items() if size < 1 and size != -1}
    if bad:
        raise ValueError(f"mesh: sizes must be positive, or -1 for what is left, found {bad}")
    free = [axis for axis, size in shape.items() if size == -1]
    if len(free) > 1:
        raise ValueError(f"mesh: at most one axis may be -1, found {free}")
    product = math.prod(size for size in shape.values() if size != -1)
    if len(devices) % product or (not free and product != len(devices)):
        raise ValueError(
            f"mesh: sizes {shape} (product {product}) do not fit {len(devices)} devices; the product must be that "
            "number, or divide it with one axis at -1, which takes the rest"
        )
    shape.update({axis: len(devices) // product for axis in free})
    kinds = (AxisType.Auto,) * len(AXES)
    try:
        return jax.make_mesh(tuple(shape.values()), AXES, axis_types=kinds, devices=devices)
    except NotImplementedError as error:  # a TPU slice is a torus; the mesh axes must follow its sides
        raise ValueError(f"mesh: sizes {shape} cannot be laid out on these chips: {error}") from error


def platform(mesh: Mesh) -> str:
    """The kind of the mesh's devices: "cpu", "gpu" or "tpu". A TPU program can be compiled on a machine without TPU."""
    return mesh.devices.flat[0].platform


def partition_spec(
    name: str,
    shape: Sequence[int],
    axes: Sequence[str],
    mesh: Mesh,
    rules: Rules = TRAIN,
) -> PartitionSpec:
    """How an array with these logical `axes` is split over the mesh. name: of the array, for messages.

    Raises ValueError, naming the array, axis and sizes, if a logical axis has no rule, if a mesh axis of size above 1
    would be used twice, or if the mesh axes do not divide a dimension.
    """
    uses, entries = collections.Counter(), []
    for size, axis in zip(shape, axes, strict=True):
        if axis not in rules:
            raise ValueError(f"sharding of {name}: no rule for the logical axis {axis!r}")
        used = tuple(mesh_axis for mesh_axis in rules[axis] if mesh.shape[mesh_axis] > 1)
        parts = math.prod(mesh.shape[mesh_axis] for mesh_axis in used)
        if size % parts:
            raise ValueError(
                f"sharding of {name} {tuple(shape)}: mesh axes {used} of total size {parts} do not divide "
                f"axis {axis!r} of size {size}"
            )
        uses.update(used)
        entries.append(used if len(used) > 1 else (used[0] if used else None))
    twice = sorted(mesh_axis for mesh_axis, count in uses.items() if count > 1)
    if twice:
        raise ValueError(f"sharding of {name} {tuple(shape)} {tuple(axes)}: mesh axes {twice} are used twice")
    return PartitionSpec(*entries)


def param_shardings(config: Any, mesh: Mesh, rules: Rules = TRAIN) -> nnx.State:
    """A NamedSharding for every parameter, in a pytree with the structure of nnx.state(policy, nnx.Param).

    config: anything with the `parameters()` of transformer.Config. Raises ValueError as `partition_spec` does.
    """
    flat = {}
    for name, parameter in config.parameters().items():
        spec = partition_spec(name, parameter.shape, parameter.axes, mesh, rules)
        flat[tuple(name.split("."))] = nnx.Param(NamedSharding(mesh, spec))
    return nnx.from_flat_state(flat)


def parts(logical: str, mesh: Mesh, rules: Rules = TRAIN) -> int:
    """The number of parts that a logical axis is split into."""
    return math.prod(mesh.shape[axis] for axis in rules[logical])


def batch_sharding(mesh: Mesh, rules: Rules = TRAIN) -> NamedSharding:
    """The sharding of arrays of any rank whose leading axis is rows (or slots)."""
    return NamedSharding(mesh, PartitionSpec(rules["rows"]))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def activation_spec(rules: Rules) -> PartitionSpec:
    """The PartitionSpec of activations [B, T, ...]."""
    return PartitionSpec(rules["rows"], rules["sequence"])


def constrain(x_BT: jax.Array, rules: Rules) -> jax.Array:
    """Keeps activations [B, T, ...] split by `activation_spec` under `jax.set_mesh`; without a mesh it does nothing.

    Otherwise GSPMD may split the activations' model width like a parameter's.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x_BT
    return jax.lax.with_sharding_constraint(x_BT, activation_spec(rules))
