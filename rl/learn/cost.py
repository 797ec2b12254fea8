"""What a compiled program costs: FLOPs from its jaxpr, memory traffic and collectives from its optimised HLO.

XLA's own cost analysis counts the body of a loop once; here every loop counts as often as it runs, because both
representations tell how often that is. A loop of unknown length (the sampler's decode loop, the learner's loop over
micro-batches) counts once, because its body is what one wants to know of it, unless `loops` names it: a name
(jax.named_scope) -> how often such a loop runs.

And what it would cost at least: the model's own FLOPs, and the rate at which this machine multiplies matrices.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from model.network import numerics, sharding, transformer

# Matrix products of one call of a splash attention kernel, by how its name starts; each is T x S x N per head.
SPLASH_PRODUCTS = {"splash_mqa_fwd": 2, "splash_mqa_dkv": 5, "splash_mqa_dq": 3}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_DTYPE = re.compile(r"(?:bf|f|s|u|c)(\d+)")  # the digits that follow first: f8e4m3fn has 8 bits
SLICES = ("dynamic-slice", "gather", "slice")  # read no more of their operand than they return
IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}  # writes its operand of that number into its first one
NO_TRAFFIC = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "iota", "partition-id", "replica-id", "opt-barrier", "domain",
}  # fmt: skip


def flops(jaxpr: Any, attended: float, loops: Mapping[str, int] = {}) -> float:
    """FLOPs of the matrix products of a jaxpr, over all devices (a multiply-add is two).

    attended: share of the query-key pairs of a row that an attention kernel computes: about a half if causal. loops:
    see the top of the file.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contract, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            inner = math.prod(shape[axis] for axis in contract)
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * inner
        elif name.startswith("ragged_dot"):
            # Rows go to one group each, so the groups' number does not matter: [m, k] by [g, k, n] or [m, k] by [m, n].
            # Rows of no group, those of experts that other devices hold, count too: at most, where experts are split.
            rows, other = (v.aval.shape for v in equation.invars[:2])
            total += 2.0 * math.prod(rows) * other[-1]
        elif name == "pallas_call":
            total += _kernel(equation, attended)
        else:
            times = params.get("length", 1) if name == "scan" else 1
            times = _named(str(equation.source_info.name_stack), loops) if name == "while" else times
            times *= math.prod(params["mesh"].shape.values()) if name == "shard_map" else 1
            for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr):
                if _is_jaxpr(inner):
                    total += times * flops(getattr(inner, "jaxpr", inner), attended, loops)
    return total


def model_flops(
    config: transformer.Config, tokens: float, attended: float, backward: bool, frozen: bool = False
) -> float:
    """FLOPs that `tokens` tokens need, each attending to `attended` others: 2 per parameter it meets and token, 4 H N L
    per pair of query and key (scores and values), three times that with a backward pass (PaLM, arXiv:2204.02311, B).

    frozen: the parameters take no gradient (adapters do, for next to nothing), which is a product less for each.
    """
    met = 0
    for name, parameter in config.parameters().items():
        size = math.prod(parameter.shape)
        if "expert_" in name:
            size = size * config.num_experts_per_tok // config.num_experts
        met += 0 if name == "embed" and not config.tie_word_embeddings else size
    pairs = 2 * 2 * config.num_attention_heads * config.head_dim * config.num_hidden_layers * attended
    return tokens * (2 * met * (1 + backward + (backward and not frozen)) + pairs * (3 if backward else 1))


def matmul_peak(mesh: Mesh, dtype: Any, side: int = 0) -> float:
    """FLOP/s that all devices of the mesh together reach in products of square matrices, measured: the best of three.

    dtype: of the matrices; the precision is that of the model's products. side: of the matrices; 0: one that keeps the
    platform busy for a few milliseconds.
    """
    side = side or (1024 if sharding.platform(mesh) == "cpu" else 8192)
    each = NamedSharding(mesh, PartitionSpec(mesh.axis_names))  # a matrix for every device
    x_BMM = jax.jit(lambda: jnp.ones((mesh.size, side, side), dtype), out_shardings=each)()
    product = jax.jit(lambda x_BMM: numerics.einsum("BMK,BKN->BMN", x_BMM, x_BMM))
    product(x_BMM).block_until_ready()  # compiles
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        product(x_BMM).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * mesh.size * side**3 / min(seconds)


def _named(path: str, loops: Mapping[str, int]) -> int:
    """How often the loop at the end of a path of scopes runs, by its own name; 1 if it has none of these."""
    scopes = path.removesuffix("/while").split("/")
    return loops.get(scopes[-1], 1)


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")


def _kernel(equation: Any, attended: float) -> float:
    """FLOPs of a splash attention or megablox kernel on one device."""
    name, shapes = str(equation.params.get("name")), [v.aval.shape for v in equation.invars]
    products = next((n for prefix, n in SPLASH_PRODUCTS.items() if prefix in name), None)
    if products is not None:  # operands: two tables of blocks, queries [..., T, N], keys [..., S, N], values, ...
        return 2.0 * products * math.prod(shapes[2]) * shapes[3][-2] * attended
    if name == "None" and len(shapes) == 7 and shapes[0] == ():
        # Megablox's have no name: five tables of groups, then rows [P, D] and either weights or other rows. As for
        # ragged_dot rows of no group count too.
        return 2.0 * math.prod(shapes[5]) * equation.outvars[0].aval.shape[-1]
    raise ValueError(f"plan: no FLOP count for the kernel {name} of {shapes}")


@dataclasses.dataclass
class Traffic:
    """Bytes on one device: through its memory, and through its links by kind of collective."""

    memory: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=lambda: defaultdict(float))

    def add(self, other: Traffic, times: float) -> None:
        """Adds another's bytes so many times."""
        self.memory += times * other.memory
        for kind, count in other.collectives.items():
            self.collectives[kind] += times * count


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of HLO. shapes: (dtype, dimensions, whether it lies in HBM) of the result's arrays. rest: what follows the
    opening bracket. root: whether it is its computation's result."""

    name: str
    shapes: list[tuple[str, tuple[int, ...], bool]]
    opcode: str
    operands: list[str]
    rest: str
    root: bool


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """(computation -> instructions, name of the entry computation) of an HLO module's text."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if current is None or line.startswith(("%", "ENTRY")):
            if (found := _COMPUTATION.match(line)) and not line.startswith("HloModule"):
                current = computations.setdefault(found[2], [])
                entry = found[2] if found[1] else entry
        elif line == "}":  # kernels bring lines of their own, which may begin with a bracket
            current = None
        elif found := _INSTRUCTION.match(line):
            root, name, shape, opcode, rest = found.groups()
            shapes = [
                (dtype, tuple(int(d) for d in dims.split(",") if d), "S(" not in (layout or ""))
                for dtype, dims, layout in _SHAPE.findall(shape)
            ]
            arguments = rest.split(")", 1)[0]
            current.append(Instruction(name, shapes, opcode, re.findall(r"%([\w.\-]+)", arguments), rest, bool(root)))
    return computations, entry


def trips(loop: Instruction, computations: dict[str, list[Instruction]], loops: Mapping[str, int] = {}) -> int:
    """How often a loop runs: as XLA's CPU backend notes it or, for TPU, as its condition says; where that is unknown,
    as `loops` says of its name; or else 1.

    JAX's loops of known length count from 0 in steps of 1 while `index < length`.
    """
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
        return int(noted[1])
    condition = computations[re.search(r"condition=%?([\w.\-]+)", loop.rest)[1]]
    constants = {i.name: i.rest.split(")")[0] for i in condition if i.opcode == "constant"}
    root = next(i for i in condition if i.root)
    if root.opcode == "compare" and "direction=LT" in root.rest and root.operands[-1] in constants:
        return int(constants[root.operands[-1]])
    named = re.search(r'op_name="([^"]*)"', loop.rest)
    return _named(named[1], loops) if named else 1


def traffic(text: str, loops: Mapping[str, int] = {}) -> Traffic:
    """The traffic of one run of a compiled module, from `compiled.as_text()`. loops: see the top of the file."""
    computations, entry = parse(text)
    done: dict[tuple[str, bool], Traffic] = {}

    def of(name: str, fused: bool) -> Traffic:
        if (name, fused) not in done:
            total = Traffic()
            shapes = {i.name: i for i in computations[name]}
            for instruction in computations[name]:
                for kind in COLLECTIVES:
                    if instruction.opcode in (kind, f"{kind}-start"):
                        operands = [shapes[o] for o in instruction.operands if o in shapes]
                        total.collectives[kind] += max(_bytes(i, False) for i in [instruction, *operands])
                if not fused:
                    total.memory += _memory(instruction, shapes, computations)
                for attribute, callee in re.findall(r"(calls|body|to_apply)=%?([\w.\-]+)", instruction.rest):
                    if attribute == "to_apply" and instruction.opcode != "call" or callee not in computations:
                        continue
                    times = 1
                    if attribute == "body":
                        times = trips(instruction, computations, loops)
                    total.add(of(callee, fused or instruction.opcode == "fusion"), times)
            done[name, fused] = total
        return done[name, fused]

    return of(entry, False)


def _bytes(instruction: Instruction, memory: bool = True) -> float:
    """Bytes of an instruction's result; with memory, only of what lies in HBM."""
    return sum(
        math.prod(dims) * _bits(dtype) / 8
        for dtype, dims, in_memory in instruction.shapes
        if in_memory or not memory
    )


def _bits(dtype: str) -> int:
    """Bits of an element; a token has none. Raises ValueError for a type that HLO does not have."""
    if dtype in ("pred", "token", "opaque"):
        return 8 if dtype == "pred" else 0
    if not (found := _DTYPE.match(dtype)):
        raise ValueError(f"plan: unknown HLO type {dtype!r}")
    return int(found[1])


def _memory(instruction: Instruction, shapes: dict[str, Instruction], computations: dict) -> float:
    """Bytes that one instruction reads from and writes to HBM. Slices count what they touch."""
    opcode = instruction.opcode
    if opcode in NO_TRAFFIC or opcode.endswith("-done") or opcode in ("copy-start",):
        return 0.0
    operands = [shapes[o] for o in instruction.operands if o in shapes]
    if opcode in SLICES:
        return 2 * _bytes(instruction)
    if opcode in IN_PLACE:
        return 2 * _bytes(operands[IN_PLACE[opcode]])
    read, written = [_bytes(o) for o in operands], _bytes(instruction)
    called = re.search(r"calls=%?([\w.\-]+)", instruction.rest)
    if opcode == "fusion" and called and called[1] in computations:
        inner = computations[called[1]]
        by_name = {i.name: i for i in inner}
        for parameter in (i for i in inner if i.opcode == "parameter"):
            index = int(parameter.rest.split(")")[0])
            users = [i for i in inner if parameter.name in i.operands]
            if users and all(u.opcode in IN_PLACE and u.operands[0] == parameter.name for u in users):
                read[index] = 0.0
                updates = sum(_bytes(by_name[u.operands[IN_PLACE[u.opcode]]], False) for u in users)
                written = min(written, 2 * updates) if all(u.root for u in users) else written
            else:
                read[index] = min(read[index], _touched(parameter, inner, computations))
    return sum(read) + written


def _touched(value: Instruction, inner: list[Instruction], computations: dict[str, list[Instruction]]) -> float:
    """Bytes of a value that a fused computation reads, which may be slices of it, also by way of a fusion inside."""
    total = 0.0
    for user in (i for i in inner if value.name in i.operands):
        if user.opcode in SLICES:
            total += _bytes(user, False)
        elif user.opcode == "bitcast" and not user.root:  # as the result it goes on to be read in full
            total += _touched(user, inner, computations)
        elif user.opcode == "fusion":
            callee = computations[re.search(r"calls=%?([\w.\-]+)", user.rest)[1]]
            index = user.operands.index(value.name)
            parameter = next(i for i in callee if i.opcode == "parameter" and int(i.rest.split(")")[0]) == index)
            total += _touched(parameter, callee, computations)
        else:
            return _bytes(value, False)
    return total
