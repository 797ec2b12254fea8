"""What programs cost, counted by hand and on compiled ones, and a small plan for a TPU that is not there."""

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from configs import default
from model.checkpoints import hf_config, lora
from model.network import attention, moe, sharding, transformer
from rl import setup
from rl.learn import cost, packing

REPOSITORY = Path(__file__).parents[3]
LIBTPU = REPOSITORY / ".venv" / "tpu"  # make puts it there

LOOP = """
HloModule m

%body (p: (s32[], f32[8,4], f32[3,4,4])) -> (s32[], f32[8,4], f32[3,4,4]) {
  %p = (s32[], f32[8,4], f32[3,4,4]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %w = f32[3,4,4]{2,1,0} get-tuple-element(%p), index=2
  %s = f32[1,4,4]{2,1,0} dynamic-slice(%w, %i), dynamic_slice_sizes={1,4,4}
  %v = f32[8,4]{1,0:T(8,128)S(1)} fusion(%x, %s), kind=kLoop, calls=%inside
  %k = f32[8,4]{1,0:T(8,128)S(1)} custom-call(%v), custom_call_target="kernel", backend_config={"body": {
}}, metadata={op_name="k"}
  %g = f32[16,4]{1,0} all-gather(%k), dimensions={0}
  %y = f32[8,4]{1,0} slice(%g), slice={[0:8], [0:4]}
  ROOT %t = (s32[], f32[8,4], f32[3,4,4]) tuple(%i, %y, %w)
}

%inside (a: f32[8,4], b: f32[1,4,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = f32[1,4,4]{2,1,0} parameter(1)
  ROOT %r = f32[8,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

%condition (p: (s32[], f32[8,4], f32[3,4,4])) -> pred[] {
  %p = (s32[], f32[8,4], f32[3,4,4]) parameter(0)
  %n = s32[]{:T(128)} constant(3)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %c = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: (s32[], f32[8,4], f32[3,4,4])) -> (s32[], f32[8,4], f32[3,4,4]) {
  %a = (s32[], f32[8,4], f32[3,4,4]) parameter(0)
  ROOT %loop = (s32[], f32[8,4], f32[3,4,4]) while(%a), condition=%condition, body=%body
}
"""


def test_traffic_by_hand():
    """Per turn: the slice of w is read and written (2 x 64), the fusion reads x and s (128 + 64) and writes to on-chip
    memory, where the gather reads before it writes 256; the slice moves 2 x 128. Three turns."""
    found = cost.traffic(LOOP)
    assert found.memory == 3 * (128 + 192 + 256 + 256)
    assert dict(found.collectives) == {"all-gather": 3 * 256}


NESTED = """
HloModule m

%cut (a: f32[48,8,4]) -> f32[8,4] {
  %a = f32[48,8,4]{2,1,0} parameter(0)
  %s = f32[1,8,4]{2,1,0} slice(%a), slice={[3:4], [0:8], [0:4]}
  ROOT %b = f32[8,4]{1,0} bitcast(%s)
}

%product (x: f32[2,8], w: f32[48,8,4], unused: f32[9]) -> f32[2,4] {
  %x = f32[2,8]{1,0} parameter(0)
  %w = f32[48,8,4]{2,1,0} parameter(1)
  %unused = f32[9]{0} parameter(2)
  %f = f32[8,4]{1,0} fusion(%w), kind=kLoop, calls=%cut
  ROOT %r = f32[2,4]{1,0} dot(%x, %f), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: f32[2,8], w: f32[48,8,4]) -> f32[2,4] {
  %x = f32[2,8]{1,0} parameter(0)
  %w = f32[48,8,4]{2,1,0} parameter(1)
  %unused = f32[9]{0} constant({...})
  ROOT %r = f32[2,4]{1,0} fusion(%x, %w, %unused), kind=kOutput, calls=%product
}
"""


def test_a_layer_of_stacked_parameters_counts_as_one_layer():
    """A fusion in the fusion cuts one of 48 matrices out: x 64, one matrix 128, the result 32, and nothing of
    what it is given and does not use."""
    assert cost.traffic(NESTED).memory == 64 + 128 + 32


def test_what_a_fusion_only_renames_is_read_in_full():
    whole = NESTED.replace("f32[48,8,4]", "f32[8,4]").replace("{2,1,0}", "{1,0}")
    whole = whole.replace("  %s = f32[1,8,4]{1,0} slice(%a), slice={[3:4], [0:8], [0:4]}\n", "").replace("(%s)", "(%a)")
    assert cost.traffic(whole).memory == 64 + 128 + 32


@pytest.mark.parametrize(("dtype", "size"), [("f8e4m3fn", 2), ("bf16", 4), ("s4", 1), ("pred", 2), ("c64", 16)])
def test_sizes_of_types(dtype, size):
    text = f"HloModule m\n\nENTRY %main (x: {dtype}[2]) -> {dtype}[2] {{\n  %x = {dtype}[2]{{0}} parameter(0)\n"
    assert cost.traffic(text + f"  ROOT %y = {dtype}[2]{{0}} negate(%x)\n}}\n").memory == 2 * size


def test_flops_count_every_turn_and_every_device():
    w = jnp.zeros((5, 16, 16))

    def scanned(x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    x = jnp.zeros((8, 16))
    one = 2 * 8 * 16 * 16
    assert cost.flops(jax.make_jaxpr(scanned)(x).jaxpr, 0.5) == 5 * one
    # d(loss)/dx alone: forward, and one product backward per layer.
    gradient = jax.make_jaxpr(jax.grad(lambda x: scanned(x).sum()))(x)
    assert cost.flops(gradient.jaxpr, 0.5) == 10 * one
    mesh = sharding.make_mesh({"fsdp": 8})
    rows = PartitionSpec("fsdp")
    split = jax.shard_map(lambda x: x @ w[0], mesh=mesh, in_specs=rows, out_specs=rows)
    assert cost.flops(jax.make_jaxpr(split)(x).jaxpr, 0.5) == one


def test_flops_of_the_attention_kernel_and_of_experts():
    B, T, H, K, N = 2, 256, 4, 2, 128
    q, k = jnp.zeros((B, T, H, N)), jnp.zeros((B, T, K, N))
    kernel = jax.make_jaxpr(lambda q, k, v: attention.splash(q, k, v, None, None))(q, k, k)
    assert cost.flops(kernel.jaxpr, 0.5) == 2 * 2 * B * H * N * T * T / 2  # scores and values, half of the pairs
    rows, experts = jnp.zeros((24, 8)), jnp.zeros((3, 8, 6))
    sizes = jnp.array([10, 10, 4], jnp.int32)
    grouped = jax.make_jaxpr(jax.lax.ragged_dot)(rows, experts, sizes)
    assert cost.flops(grouped.jaxpr, 0.5) == 2 * 24 * 8 * 6
    kernels = jax.make_jaxpr(jax.grad(lambda *xs: moe.megablox(*xs, sizes).sum(), argnums=(0, 1)))(rows, experts)
    assert cost.flops(kernels.jaxpr, 0.5) == 3 * 2 * 24 * 8 * 6


def test_collectives_of_a_compiled_loop():
    """On CPU: five all-reduces of a [8, 16] float32 array, one per layer."""
    mesh = sharding.make_mesh({"tensor": 8})
    w = jax.device_put(jnp.ones((5, 16, 16)), NamedSharding(mesh, PartitionSpec(None, "tensor", None)))

    def scanned(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    found = cost.traffic(jax.jit(scanned).lower(jnp.ones((8, 16)), w).compile().as_text())
    assert found.collectives["all-reduce"] == 5 * 8 * 16 * 4


def test_model_flops_are_those_of_the_program():
    """6 per parameter and token and 12 H N L T/2 for attention, against the products of the gradient's own jaxpr.

    Which computes attention's scores and what it does with the values once more.
    """
    config = transformer.Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    graphdef, params = nnx.split(transformer.Transformer(config, rngs=nnx.Rngs(0)))
    tokens_BT = jnp.zeros((2, 16), jnp.int32)  # one block of queries: every pair is computed
    program = jax.make_jaxpr(jax.grad(lambda p: nnx.merge(graphdef, p)(tokens_BT).sum()))(params)
    norms = 32 * 7 + 16 * 6  # parameters that take part in no matrix product
    expected = cost.model_flops(config, 32, 16, backward=True) - 6 * 32 * norms
    again = 32 * 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers * 16
    assert cost.flops(program.jaxpr, 1.0) == pytest.approx(expected + again, rel=1e-6)

    # With adapters a product less for every parameter, and for each adapter four with its rank.
    adapters = lora.create(config, lora.Lora(rank=5, alpha=5.0))
    program = jax.make_jaxpr(jax.grad(
        lambda p: nnx.merge(graphdef, params).hidden_and_router(tokens_BT, adapters=p)[0].sum()
    ))(adapters)  # fmt: skip
    frozen = cost.model_flops(config, 32, 16, backward=True, frozen=True) - 4 * 32 * (norms + 64 * 32)
    narrow = 2 * 2 * 32 * sum(x.size for x in jax.tree.leaves(adapters))
    assert cost.flops(program.jaxpr, 1.0) == pytest.approx(frozen + again + narrow, rel=1e-6)


def test_work_and_peak_by_hand(monkeypatch):
    """Episodes of 4 and 2 inputs: 6 places, which see 1 + 2 + 3 + 4 + 1 + 2 tokens; a clock that ticks in halves."""
    ids, config = [[1, 1, 1, 1, 2, 2, 0, 0]], default.get_config()
    batch = packing.pack([], [], 8, 1, 1)
    batch = dataclasses.replace(
        batch, segment_ids=np.array([ids]), positions=np.array([[[0, 1, 2, 3, 0, 1, 0, 0]]], np.int32)
    )
    architecture = hf_config.read(REPOSITORY / "model" / "tiny_qwen3")
    parts = setup.Parts(config, None, None, architecture, None)
    one_by_one = sum(cost.model_flops(architecture, 1, seen, backward=True) for seen in (1, 2, 3, 4, 1, 2))
    assert parts.work(batch) == (6, pytest.approx(one_by_one))
    config.rl.lora_rank = 1
    assert parts.work(batch)[1] < one_by_one and parts.work(packing.pack([], [], 8, 1, 1)) == (0, 0.0)
    monkeypatch.setattr(cost.time, "perf_counter", itertools.count(0, 0.5).__next__)
    assert cost.matmul_peak(sharding.make_mesh({"fsdp": 2}, jax.devices()[:2]), jnp.float32, 64) == 2 * 2 * 64**3 / 0.5


def test_attention_on_a_full_cache_counts_all_of_it():
    """Its loop is as long as the cache is full: 2 products of [B T H, N] by all keys, and every block is read."""
    B, T, H, K, S, N = 4, 2, 4, 2, 5 * attention.CACHE_BLOCKS["cpu"].keys, 16
    q, k, v = jnp.zeros((B, T, H, N)), jnp.zeros((B, K, S, N)), jnp.zeros((B, K, S, N))
    positions, used = jnp.zeros((B, T), jnp.int32), jnp.full((B,), S)
    traced = jax.jit(lambda k, v, used: attention.cached(q, k, v, positions, used, None)).trace(k, v, used)
    full = 2 * 2 * B * T * H * S * N
    assert cost.flops(traced.jaxpr.jaxpr, 0.5) == full / 5
    assert cost.flops(traced.jaxpr.jaxpr, 0.5, {attention.CACHE_LOOP: 5}) == full
    text = traced.lower().compile().as_text()
    one, two, five = (cost.traffic(text, {attention.CACHE_LOOP: n}).memory for n in (1, 2, 5))
    assert five - one == 4 * (two - one) and two - one > (k.nbytes + v.nbytes) / 5
    assert cost.traffic(text).memory == cost.traffic(text, {"another": 9}).memory == one


@pytest.mark.parametrize(("name", "billions", "active"), [
    ("qwen3_0p6b", 0.596, 0.596), ("qwen3_8b", 8.19, 8.19), ("qwen3_30b_a3b", 30.5, 3.35),
])  # fmt: skip
def test_architectures_have_the_published_sizes(name, billions, active):
    config = hf_config.read(REPOSITORY / "model" / "architectures" / name)
    sizes = {path: parameter.shape for path, parameter in config.parameters().items()}
    total = sum(float(jnp.prod(jnp.array(shape, jnp.float32))) for shape in sizes.values())
    assert total / 1e9 == pytest.approx(billions, rel=0.01)
    embedded = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    met = cost.model_flops(config, 1, 0, backward=False) / 2
    assert (met + embedded) / 1e9 == pytest.approx(active, rel=0.02)


def plan(*flags):
    """main.py --stage=plan in a process of its own."""
    if not LIBTPU.is_dir():
        pytest.skip("libtpu is not installed (make setup puts it into .venv/tpu)")
    command = [sys.executable, "main.py", "--config=configs/tiny.py", "--stage=plan", *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_a_small_plan(tmp_path):
    flags = ["--config.plan.topology=v5e:2x2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2", "--config.rl.rows=2"]
    flags += ["--config.rl.row_length=512", "--config.model.dtype=bfloat16", "--config.rl.offload_optimiser=True"]
    result = plan(*flags, "--config.plan.json=True")
    assert result.returncode == 0, result.stderr[-3000:]
    record = json.loads(result.stdout)
    assert record["mesh"] == {"fsdp": 2, "tensor": 2}
    assert [program["name"] for program in record["programs"]] == ["learner", "prefill", "decode"]
    for program in record["programs"]:
        assert program["fits"] and program["memory"] < program["capacity"] == 16 * 2**30
        assert program["flops"] > 0 and program["traffic"] > program["arguments"] / 2
        assert 0 < program["mfu_bound"] <= 1 and program["binds"] in ("compute", "memory", "links")
    step = record["programs"][0]
    assert step["collectives"]  # the parameters are split, so they have to be brought together
    assert step["tokens"] == 2 * 512
    # Of 14 bytes a parameter, a quarter of them on each chip, 12 are in the host's memory; a batch takes some, too.
    count = sum(math.prod(x.shape) for x in hf_config.read(REPOSITORY / "model" / "tiny_qwen3").parameters().values())
    assert step["arguments"] < 4 * count / 4
    # What the step computes is what the model needs, up to padded heads and nothing computed twice (model.remat=none).
    assert 1 <= 4 * step["flops"] / step["model_flops"] < 2


@pytest.mark.slow
def test_what_does_not_fit_says_which_key_to_change():
    flags = ["--config.plan.topology=v5e:1x1", "--config.rl.rows=16384", "--config.rl.row_length=512"]
    result = plan(*flags, "--config.sampler.slots=524288")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "learner: does NOT fit: lower rl.rows" in result.stdout
    assert "decode: does NOT fit: lower sampler.slots" in result.stdout


@pytest.mark.slow
def test_what_cannot_be_planned_is_named():
    for flag, message in (
        ("--config.plan.topology=v9:2x2", "plan.topology: expected one of"),
        ("--config.plan.topology=v5e:3x7", "'v5e:3x7' is no TPU slice"),
    ):
        result = plan(flag)
        assert result.returncode != 0 and message in result.stderr
    result = plan("--config.plan.topology=v5p:4x4x4", "--config.mesh.expert=8")
    assert result.returncode != 0 and "cannot be laid out on these chips" in result.stderr
    result = plan("--config.plan.topology=v5e:2x2", "--config.rl.rows=3")
    assert result.returncode != 0 and "rl.rows = 3 does not divide among the 4 parts" in result.stderr
