"""Low-rank adapters (LoRA, arXiv:2106.09685, section 4.1): W = W0 + alpha / rank A B, and only A and B are trained.

The policy uses the merged W in training, too, so that learner and sampler have the same parameters. The gradient goes
to A and B; a gradient of W is never computed (numerics.Adapted).

Memory: a run keeps the base anyway, as the policy it started from. The merged parameters, which the sampler needs, are
one more copy. Gradient and optimiser state are as small as the adapters. While merging, one weight at a time, stacked
over its layers, exists in float32. Checkpoints hold the merged parameters and the adapters.

    settings = lora.Lora(rank=16, alpha=32.0)
    adapters = lora.create(config, settings)                    # {"query": Adapter(a, b, scale), ...}
    params = lora.merge(params, lora.base(params, adapters), adapters)
    policy.hidden_and_router(tokens, positions, segments, parents, adapters)    # policy: with the merged params

Shapes: L layers, i inputs of a weight, o outputs of a weight (one or two axes each), r rank.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from model.checkpoints import load
from model.network import sharding, transformer
from model.network.numerics import Adapter

Adapters = dict[str, Adapter]  # name in `transformer.Config.parameters` without "layers." -> adapter
_MODULE = re.compile(r"model\.layers\.\{layer\}\.(?:self_attn|mlp)\.(\w+_proj)\.weight")
# HF's name of a projection -> (our name, number of its input axes; the layer axis does not count).
TARGETS = {
    found[1]: (path.removeprefix("layers."), inputs)
    for template, (path, inputs) in load.TABLE.items()
    if (found := _MODULE.fullmatch(template))
}
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"  # peft's


@dataclasses.dataclass(frozen=True)
class Lora:
    """The settings of the adapters.

    rank, alpha: an adapter's product A B is scaled by alpha / rank. targets: HF's names of the projections with an
    adapter. seed: of the initial A.
    Raises ValueError for an impossible rank or alpha, or an unknown target.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = tuple(TARGETS)
    seed: int = 0

    def __post_init__(self):
        if self.rank < 1 or not self.alpha > 0:
            raise ValueError(f"lora: expected rank >= 1 and alpha > 0, found rank={self.rank}, alpha={self.alpha}")
        if unknown := sorted(set(self.targets) - set(TARGETS)):
            raise ValueError(f"rl.lora_targets: unknown {unknown}, expected 'all' or some of {', '.join(TARGETS)}")


def create(config: transformer.Config, settings: Lora) -> Adapters:
    """Initial adapters, float32: A uniform in +-1 / sqrt(inputs) as in peft, B zero. Can be traced by jit."""
    adapters, table = {}, config.parameters()
    for number, target in enumerate(settings.targets):
        name, inputs = TARGETS[target]
        layers, *axes = table[f"layers.{name}"].shape
        shape, bound = (layers, *axes[:inputs], settings.rank), 1 / math.sqrt(math.prod(axes[:inputs]))
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        a = jax.random.uniform(key, shape, jnp.float32, -bound, bound)
        b = jnp.zeros((layers, settings.rank, *axes[inputs:]), jnp.float32)
        adapters[name] = Adapter(a, b, settings.alpha / settings.rank)
    return adapters


def shardings(config: transformer.Config, settings: Lora, mesh: Mesh) -> Adapters:
    """A NamedSharding for every array of `create`: inputs and outputs are split like the weight's.

    Raises ValueError for a mixture of experts, for which adapters are not implemented.
    """
    if config.num_experts:
        raise ValueError("rl.lora_rank must be 0: the policy is a mixture of experts, for which there are no adapters")
    table, shapes, found = config.parameters(), jax.eval_shape(lambda: create(config, settings)), {}
    for target in settings.targets:
        name, inputs = TARGETS[target]
        layers, *axes = table[f"layers.{name}"].axes
        logical = Adapter((layers, *axes[:inputs], "rank"), (layers, "rank", *axes[inputs:]), shapes[name].scale)
        placed = (
            NamedSharding(mesh, sharding.partition_spec(f"{name}'s adapter", x.shape, split, mesh))
            for x, split in ((shapes[name].a, logical.a), (shapes[name].b, logical.b))
        )
        found[name] = Adapter(*placed, shapes[name].scale)
    return found


def base(params: nnx.State, adapters: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that have an adapter, by name. params: the parameters, or a pytree of the same structure."""
    return {name: params["layers"][name].get_value() for name in adapters}


def merge(params: nnx.State, frozen: Mapping[str, jax.Array], adapters: Adapters) -> nnx.State:
    """Returns `params` with frozen + scale a b, summed in float32, as the adapted weights. Can be traced by jit.

    frozen: the base's weights, see `base`. Adding to already merged weights would accumulate bfloat16 rounding errors.
    """
    flat = dict(nnx.to_flat_state(params))
    for name, adapter in adapters.items():
        whole, a, b = frozen[name], adapter.a, adapter.b
        i, o = "xyz"[: a.ndim - 2], "uvw"[: b.ndim - 2]
        change = jnp.einsum(f"L{i}r,Lr{o}->L{i}{o}", a, b, precision=jax.lax.Precision.HIGHEST)
        merged = whole.astype(jnp.float32) + adapter.scale * change
        flat["layers", name] = nnx.Param(merged.astype(whole.dtype))
    return nnx.from_flat_state(flat)


def save(adapters: Adapters, settings: Lora, base_model: str, path: str | pathlib.Path) -> None:
    """Writes the adapters in peft's format, for `peft.PeftModel.from_pretrained(base, path)`.

    base_model: name or path of the base, recorded for peft. In a multi-process run all processes must call it; the
    first one writes.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for template, (parameter, _) in load.TABLE.items():
        adapter = adapters.get(parameter.removeprefix("layers.")) if _MODULE.fullmatch(template) else None
        for layer in range(adapter.a.shape[0] if adapter else 0):
            module = "base_model.model." + template.format(layer=layer).removesuffix(".weight")
            a, b = (load.fetch(x, (layer,)) for x in (adapter.a, adapter.b))
            tensors[f"{module}.lora_A.weight"] = a.reshape(-1, settings.rank).T.copy()  # peft has [outputs, inputs]
            tensors[f"{module}.lora_B.weight"] = b.reshape(settings.rank, -1).T.copy()
    if jax.process_index() == 0:
        record = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "r": settings.rank,
            "lora_alpha": settings.alpha, "target_modules": sorted(settings.targets), "lora_dropout": 0.0,
            "bias": "none", "inference_mode": True,
        }  # fmt: skip
        safetensors.numpy.save_file(tensors, path / WEIGHTS_FILE, metadata={"format": "pt"})
        (path / CONFIG_FILE).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
