"""--stage=plan: compiles a config's programs for a TPU slice, without having one, and prints what they need.

The TPU compiler (libtpu, requirements-tpu.txt) runs on any machine. The learner step, prefill and decode are compiled
ahead of time for `plan.topology` with the config's mesh, from shapes alone. The memory is the compiler's own figure;
FLOPs, memory traffic and collectives are counted from the programs (rl/learn/cost.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import config_dict

from model.checkpoints import hf_config
from model.network import attention, sharding, transformer
from model.sampling import decoding, sampler
from rl import setup
from rl.learn import cost, learner, packing
from rl.learn import optimiser as optimisers

GIB = 1 << 30
HOST = (2, 2, 1)  # chips of a TPU host


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, with figures from Google Cloud's TPU pages.

    hbm: bytes. flops: bf16 FLOP/s. bandwidth: of the HBM, bytes/s. links: all ICI links together, bytes/s.
    """

    hbm: float
    flops: float
    bandwidth: float
    links: float


CHIPS = {
    "v5e": Chip(16 * GIB, 197e12, 819e9, 200e9),
    "v5p": Chip(95 * GIB, 459e12, 2765e9, 600e9),
    "v6e": Chip(32 * GIB, 918e12, 1640e9, 448e9),
}


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program needs, per chip and per run (one micro-batch of the learner, one decoded token per slot).

    arguments, outputs, temporaries: bytes of HBM. Outputs that reuse an argument's memory do not count. Arrays in host
    memory (rl.offload_optimiser) count only as copies during an update.
    flops: FLOPs. traffic: bytes to and from HBM. collectives: kind -> bytes.
    tokens: over all chips. model_flops: FLOPs that the model needs for them on all chips, without recomputation.
    seconds: compilation time.
    """

    name: str
    arguments: float
    outputs: float
    temporaries: float
    flops: float
    traffic: float
    collectives: dict[str, float]
    tokens: int
    model_flops: float
    seconds: float

    @property
    def memory(self) -> float:
        """Bytes of HBM at the peak."""
        return self.arguments + self.outputs + self.temporaries

    def roofs(self, chip: Chip) -> dict[str, float]:
        """Resource -> seconds that it is busy at its full rate; the largest is a lower bound of the run time."""
        return {
            "compute": self.flops / chip.flops,
            "memory": self.traffic / chip.bandwidth,
            "links": sum(self.collectives.values()) / chip.links,
        }

    def to_json(self, chip: Chip, chips: int) -> dict[str, Any]:
        """The fields as JSON data, with the figures that follow for this kind of chip. chips: of the slice."""
        roofs = self.roofs(chip)
        binding = max(roofs, key=roofs.get)
        return {
            **dataclasses.asdict(self),
            "memory": self.memory,
            "capacity": chip.hbm,
            "fits": True,  # otherwise the compiler would have refused it
            "roof_seconds": roofs,
            "binds": binding,
            "tokens_per_second": self.tokens / roofs[binding],
            "mfu_bound": self.model_flops / (roofs[binding] * chip.flops * chips),
        }


@dataclasses.dataclass(frozen=True)
class Refused:
    """A program that the compiler refused because it does not fit a chip's memory.

    memory: bytes of HBM per chip that the program needs, from the compiler's message. arguments: bytes of the arrays
    that stay on a chip between runs, from their shapes. seconds: until the refusal.
    """

    name: str
    memory: float
    arguments: float
    seconds: float

    def to_json(self, chip: Chip, chips: int) -> dict[str, Any]:
        """The fields as JSON data, with the capacity of this kind of chip in bytes."""
        return {**dataclasses.asdict(self), "capacity": chip.hbm, "fits": False}


def devices_of(topology: str) -> tuple[list[jax.Device], Chip]:
    """(the devices of a slice such as "v5p:4x4x4", its kind of chip).

    Raises ValueError if there is no such slice or libtpu is not installed.
    """
    kind = topology.split(":")[0]
    if kind not in CHIPS or not re.fullmatch(r"\w+:\d+(x\d+){1,2}", topology):
        known = ", ".join(sorted(CHIPS))
        raise ValueError(f"plan.topology: expected one of {known} and a shape, as in v5p:4x4x4, found {topology!r}")
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise ValueError("plan: needs libtpu: make setup, or pip install -r requirements-tpu.txt") from error
    shape = [int(side) for side in re.findall(r"\d+", topology.partition(":")[2])]
    host = tuple(min(sides) for sides in zip([*shape, 1, 1], HOST))  # smaller than HOST for a slice smaller than a host
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=topology, chips_per_host_bounds=host)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise  # an error of the compiler that has nothing to do with the topology
        raise ValueError(f"plan.topology: {topology!r} is no TPU slice: {error}") from error
    return list(description.devices), CHIPS[kind]


def _measure(
    name: str,
    traced: Any,
    mesh: Mesh,
    tokens: int,
    needed: float,
    attended: float,
    held: float,
    start: float,
    loops: Mapping[str, int] = {},
) -> Program | Refused:
    """Compiles a traced program for TPU and measures what it needs.

    tokens: of a run, over all chips. needed: see Program.model_flops. attended, loops: see rl/learn/cost.py. held:
    bytes that stay on a chip between runs. start: time.perf_counter() before tracing.
    """
    try:
        with jax.set_mesh(mesh):
            compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as error:
        found = re.findall(r"([\d.]+)([KMGT])\b", str(error))
        sizes = [float(number) * 1024 ** (1 + "KMGT".index(unit)) for number, unit in found]
        if "RESOURCE_EXHAUSTED" not in str(error) or not sizes:
            raise  # not a lack of memory
        return Refused(name, max(sizes), held, time.perf_counter() - start)
    memory, found = compiled.memory_analysis(), cost.traffic(compiled.as_text(), loops)
    return Program(
        name=name,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=cost.flops(traced.jaxpr.jaxpr, attended, loops) / mesh.size,
        traffic=found.memory,
        collectives=dict(found.collectives),
        tokens=tokens,
        model_flops=needed,
        seconds=time.perf_counter() - start,
    )


def _bytes_held(architecture: transformer.Config, mesh: Mesh, rules: sharding.Rules, each: int) -> float:
    """Bytes on a chip of arrays that are sharded like the parameters. each: bytes per parameter."""
    shardings = dict(nnx.to_flat_state(sharding.param_shardings(architecture, mesh, rules)))
    table = architecture.parameters()
    return each * sum(
        math.prod(placed.get_value().shard_shape(table[".".join(path)].shape)) for path, placed in shardings.items()
    )


def learner_program(config: config_dict.ConfigDict, mesh: Mesh) -> Program | Refused:
    """The needs of the learner's update on one micro-batch of rl.rows rows."""
    start, length = time.perf_counter(), config.rl.row_length
    policy, dtype = _policy(config, mesh), jnp.dtype(config.model.dtype)
    tokens, others = config.rl.rows * length, (length + 1) / 2
    frozen = bool(config.rl.lora_rank)
    needed = cost.model_flops(policy.config, tokens, others, backward=True, frozen=frozen)
    wide = 3 if dtype == jnp.float32 else 4  # moments, gradient and masters are float32
    each = dtype.itemsize + 4 * (1 if config.rl.offload_optimiser else wide)  # 1: with offload only the gradient stays
    each = 2 * dtype.itemsize if frozen else each  # with adapters: the base, and the base merged with the adapters
    held = _bytes_held(policy.config, mesh, sharding.TRAIN, each)
    return _measure("learner", _trace_learner(config, policy, mesh), mesh, tokens, needed, others / length, held, start)


def sampler_programs(config: config_dict.ConfigDict, mesh: Mesh) -> Iterator[Program | Refused]:
    """The needs of the sampler's programs, both with full caches: prefill of one chunk in as many slots as a call
    takes, then decode of one token in every slot."""
    start, policy, c = time.perf_counter(), _policy(config, mesh), config.sampler
    architecture, dtype = policy.config, jnp.dtype(config.model.dtype)
    program = decoding.Program(nnx.split(policy)[0], c.context, c.max_new_tokens, (0,), setup.truncation(config))
    length, rows = sampler.cache_length(c.context, mesh), sampler.rows_per_call(c.slots, c.prefill_rows, mesh)
    traced = decoding.trace(program, architecture, mesh, c.slots, rows, length, c.prefill_chunk, dtype)
    held = _bytes_held(architecture, mesh, sharding.DECODE, dtype.itemsize)
    loops = {attention.CACHE_LOOP: length // attention.CACHE_BLOCKS[sharding.platform(mesh)].keys}
    for name, tokens in (("prefill", rows * c.prefill_chunk), ("decode", c.slots)):
        needed = cost.model_flops(architecture, tokens, length, backward=False)
        yield _measure(name, traced[name], mesh, tokens, needed, 0.5, held, start, loops)
        start = time.perf_counter()


def _policy(config: config_dict.ConfigDict, mesh: Mesh) -> transformer.Transformer:
    """The policy with shapes and dtypes in place of parameters."""
    architecture, dtype = hf_config.read(config.model.checkpoint), jnp.dtype(config.model.dtype)
    platform, remat = sharding.platform(mesh), config.model.remat
    return nnx.eval_shape(
        lambda: transformer.Transformer(architecture, dtype=dtype, remat=remat, platform=platform, rngs=nnx.Rngs(0))
    )


def _trace_learner(config: config_dict.ConfigDict, policy: transformer.Transformer, mesh: Mesh) -> Any:
    """The learner's step, traced from shapes. With two micro-batches, since one alone needs no memory to accumulate
    gradients."""
    optimiser, step = setup.train_step(config, policy, mesh, "policy_gradient")
    state = optimisers.abstract_state(policy, optimiser, setup.adapters(config))
    shape = (2, config.rl.rows, config.rl.row_length)
    arrays = {name: (shape, jnp.int32) for name in ("tokens", "targets", "positions", "segment_ids")}
    arrays |= {name: (shape, jnp.float32) for name in ("loss_mask", "sampler_logprobs", "advantages")}
    arrays |= {"used": ((), jnp.int32), "denominator": ((), jnp.float32), "sequences": ((), jnp.float32)}
    c = config.rl
    arrays |= {"parent_ids": (shape, jnp.int32)} if c.share_prefix else {}
    arrays |= {"kept": ((*shape, config.sampler.top_k), jnp.int32)} if config.sampler.top_k else {}
    arrays |= {"old_logprobs": (shape, jnp.float32)} if c.importance != "none" else {}
    arrays |= {"reference_logprobs": (shape, jnp.float32)} if setup.rl_objective(config).kl_coef else {}
    batch = packing.Batch(**{name: jax.ShapeDtypeStruct(*array) for name, array in arrays.items()})
    batch = jax.tree.map(
        lambda x, placed: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
        batch, learner.batch_shardings(batch, mesh),
    )  # fmt: skip
    with jax.set_mesh(mesh):  # for tracing only: any other operation would try to run on the mesh's absent devices
        return step.compiled.trace(state, batch, step.base)


def advice(program: Program | Refused, chip: Chip) -> str:
    """The config keys to change if a program does not fit, as text; "" if it fits."""
    if isinstance(program, Program):
        return ""
    if program.name != "learner":
        return "lower sampler.slots, sampler.context or sampler.prefill_chunk, or raise mesh.tensor"
    if program.arguments > 0.6 * chip.hbm:
        return (
            "raise mesh.fsdp (more chips), or set rl.offload_optimiser or rl.lora_rank: parameters, moments and "
            "gradients alone fill the chip"
        )
    return "lower rl.rows or rl.logits_chunk, set model.remat to full, or raise mesh.context"


def run(config: config_dict.ConfigDict) -> None:
    """--stage=plan: compiles each program in turn and prints what it needs.

    Raises ValueError if the topology is unknown, the mesh, rows or slots do not match it, or libtpu is missing.
    """
    devices, chip = devices_of(config.plan.topology)
    mesh = setup.make_mesh(config, devices)
    _check(config, mesh)
    records = []
    for program in itertools.chain([learner_program(config, mesh)], sampler_programs(config, mesh)):
        record = {**program.to_json(chip, mesh.size), "advice": advice(program, chip)}
        records.append(record)
        if not config.plan.json:
            print(describe(record), flush=True)
    if config.plan.json:
        axes = {axis: size for axis, size in mesh.shape.items() if size > 1}
        print(json.dumps({"topology": config.plan.topology, "mesh": axes, "programs": records}, indent=2))


def _check(config: config_dict.ConfigDict, mesh: Mesh) -> None:
    """Raises ValueError, naming the key, if rows, row length or slots do not divide evenly among the chips."""
    for key, size, logical, rules in (
        ("rl.rows", config.rl.rows, "rows", sharding.TRAIN),
        ("rl.row_length", config.rl.row_length, "sequence", sharding.TRAIN),
        ("sampler.slots", config.sampler.slots, "rows", sharding.DECODE),
    ):
        parts = sharding.parts(logical, mesh, rules)
        if size % parts:
            raise ValueError(f"{key} = {size} does not divide among the {parts} parts of mesh axes {rules[logical]}")


def describe(record: dict[str, Any]) -> str:
    """A program's record (`to_json` with "advice") as text."""
    if not record["fits"]:
        return (
            f"{record['name']}: does NOT fit: {record['advice']}\n"
            f"  HBM per chip   {record['memory'] / GIB:.2f} of {record['capacity'] / GIB:.0f} GiB, "
            f"{record['arguments'] / GIB:.2f} of them between runs\n"
            f"  refused after  {record['seconds']:.0f} s"
        )
    gib = {key: record[key] / GIB for key in ("memory", "capacity", "arguments", "temporaries", "outputs")}
    moved = ", ".join(f"{kind} {size / 1e9:.2f} GB" for kind, size in sorted(record["collectives"].items())) or "none"
    roofs = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in record["roof_seconds"].items())
    return (
        f"{record['name']}: fits\n"
        f"  HBM per chip   {gib['memory']:.2f} of {gib['capacity']:.0f} GiB: arguments {gib['arguments']:.2f}, "
        f"temporaries {gib['temporaries']:.2f}, output {gib['outputs']:.2f}\n"
        f"  per chip       {record['flops'] / 1e12:.2f} TFLOP, {record['traffic'] / 1e9:.1f} GB of HBM traffic\n"
        f"  collectives    {moved}\n"
        f"  roofs          {roofs}; {record['binds']} binds\n"
        f"  at most        {record['tokens_per_second']:.0f} tokens/s over all chips, "
        f"{100 * record['mfu_bound']:.1f} % MFU\n"
        f"  compiled in    {record['seconds']:.0f} s"
    )
