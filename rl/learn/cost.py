"""The cost of a compiled program: FLOPs from its jaxpr, memory traffic and collectives from its optimised HLO.

XLA's own cost analysis counts the body of a loop once. Here the body counts as often as the loop runs, which both
representations tell for loops of known length. A loop of unknown length (the sampler's decode loop, the learner's loop
over micro-batches) counts once, unless `loops` names it. loops: name (jax.named_scope) of a loop -> how often it runs.

Also what a lower bound of the cost follows from: the model's own FLOPs and the matrix product rate of this machine.
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

# Prefix of a splash attention kernel's name -> matrix products in one call, each of T x S x N multiply-adds per head.
SPLASH_PRODUCTS = {"splash_mqa_fwd": 2, "splash_mqa_dkv": 5, "splash_mqa_dq": 3}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_DTYPE = re.compile(r"(?:bf|f|s|u|c)(\d+)")  # the first digits are the bits: f8e4m3fn has 8
SLICES = ("dynamic-slice", "gather", "slice")  # read only the part of their operand that they return
IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}  # opcode -> index of the operand that it writes into operand 0
NO_TRAFFIC = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "iota", "partition-id", "replica-id", "opt-barrier", "domain",
}  # fmt: skip


def flops(jaxpr: Any, attended: float, loops: Mapping[str, int] = {}) -> float:
    """FLOPs of the matrix products of a jaxpr, summed over all devices; a multiply-add counts as two.

    attended: the share of a row's query-key pairs that an attention kernel computes, about 0.5 if causal. loops: see
    the top of the file. Raises ValueError for a kernel that is neither splash attention nor megablox.
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
            # [m, k] by [g, k, n], or [m, k] by [m, n]. Each row belongs to one group, so g does not matter. Rows of
            # experts on other devices belong to no group but count too: an upper bound if experts are split.
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
    """FLOPs that the model needs for `tokens` tokens, each attending to `attended` tokens.

    Per token: 2 for each parameter that it uses and 4 H N L for each token attended to (scores and values; H heads of
    size N, L layers). With a backward pass three times that (PaLM, arXiv:2204.02311, appendix B).

    frozen: the parameters have no gradient, which saves one of the three products for each. (The cost of adapters,
    which have one, is neglected.)
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
    """Measured FLOP/s of all devices of the mesh together in products of square matrices; the best of three runs.

    dtype: of the matrices. The precision is that of the model's products. side: rows of the matrices; 0 for a size that
    takes the platform a few milliseconds.
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
    """How often the loop at the end of a path of scopes runs, by its scope's name in `loops`; 1 if it is not there."""
    scopes = path.removesuffix("/while").split("/")
    return loops.get(scopes[-1], 1)


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")


def _kernel(equation: Any, attended: float) -> float:
    """FLOPs of a splash attention or megablox kernel on one device. Raises ValueError for another kernel."""
    name, shapes = str(equation.params.get("name")), [v.aval.shape for v in equation.invars]
    products = next((n for prefix, n in SPLASH_PRODUCTS.items() if prefix in name), None)
    if products is not None:  # operands: two tables of blocks, queries [..., T, N], keys [..., S, N], values, ...
        return 2.0 * products * math.prod(shapes[2]) * shapes[3][-2] * attended
    if name == "None" and len(shapes) == 7 and shapes[0] == ():
        # Megablox kernels have no name. Operands: five tables of groups, then rows [P, D] and weights or other rows.
        # As for ragged_dot, rows that belong to no group count too.
        return 2.0 * math.prod(shapes[5]) * equation.outvars[0].aval.shape[-1]
    raise ValueError(f"plan: no FLOP count for the kernel {name} of {shapes}")


@dataclasses.dataclass
class Traffic:
    """Bytes moved on one device: memory, to and from its memory; collectives, kind of collective -> over its links."""

    memory: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=lambda: defaultdict(float))

    def add(self, other: Traffic, times: float) -> None:
        """Adds the bytes of `other`, multiplied by `times`."""
        self.memory += times * other.memory
        for kind, count in other.collectives.items():
            self.collectives[kind] += times * count


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of HLO.

    shapes: (dtype, dimensions, whether it is stored in HBM) for each array of the result. rest: the line's text after
    the opening bracket. root: whether the instruction is the result of its computation.
    """

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
    """({name of a computation: its instructions}, name of the entry computation) of an HLO module's text."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if current is None or line.startswith(("%", "ENTRY")):
            if (found := _COMPUTATION.match(line)) and not line.startswith("HloModule"):
                current = computations.setdefault(found[2], [])
                entry = found[2] if found[1] else entry
        elif line == "}":  # the whole line: the text of a kernel may contain lines that begin with a bracket
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
    """How often a loop runs, from the first source that tells: XLA's annotation (CPU), the loop's condition (TPU),
    `loops` by the loop's name; else 1.

    The condition is read as `index < length`: JAX's loops of known length count from 0 in steps of 1.
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
    """The traffic of one run of a compiled module.

    text: `compiled.as_text()`. loops: see the top of the file. Raises ValueError for an unknown HLO type.
    """
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
    """Bytes of an instruction's result. memory: count only the arrays that are stored in HBM."""
    return sum(
        math.prod(dims) * _bits(dtype) / 8 for dtype, dims, in_memory in instruction.shapes if in_memory or not memory
    )


def _bits(dtype: str) -> int:
    """Bits of an element of the type; 0 for tokens. Raises ValueError for an unknown type."""
    if dtype in ("pred", "token", "opaque"):
        return 8 if dtype == "pred" else 0
    if not (found := _DTYPE.match(dtype)):
        raise ValueError(f"plan: unknown HLO type {dtype!r}")
    return int(found[1])


def _memory(instruction: Instruction, shapes: dict[str, Instruction], computations: dict) -> float:
    """Bytes that one instruction reads from and writes to HBM. A slice counts only the part that it touches."""
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
    """Bytes that a fused computation reads of a value. It may read only slices of it, directly or in nested fusions."""
    total = 0.0
    for user in (i for i in inner if value.name in i.operands):
        if user.opcode in SLICES:
            total += _bytes(user, False)
        elif user.opcode == "bitcast" and not user.root:  # a bitcast that is the result is read in full by others
            total += _touched(user, inner, computations)
        elif user.opcode == "fusion":
            callee = computations[re.search(r"calls=%?([\w.\-]+)", user.rest)[1]]
            index = user.operands.index(value.name)
            parameter = next(i for i in callee if i.opcode == "parameter" and int(i.rest.split(")")[0]) == index)
            total += _touched(parameter, callee, computations)
        else:
            return _bytes(value, False)
    return total
