"""--config.plan.search=True: searches the mesh, micro-batch and remat policy that make the learner fastest on a slice.

For every sensible mesh the learner is compiled, with as little recomputation as the memory allows. The results that fit
are ranked by the tokens per second that their most limiting resource (compute, memory or links) allows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from model.checkpoints import hf_config
from model.network import sharding, transformer
from rl import setup
from rl.plan import planning

SPLITS = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4), (2, 2))  # (mesh.tensor, mesh.context) to try
EXPERTS = (1, 2, 4, 8, 16)  # mesh.expert to try for a mixture of experts
ROW_MULTIPLE = 128  # attention on TPU needs a multiple of so many tokens in a device's part of a row


def meshes(architecture: transformer.Config, row_length: int, chips: int) -> Iterator[dict[str, int]]:
    """The meshes to try, as axis -> size. The axis fsdp takes the chips that tensor, context and expert leave; data is
    always 1."""
    experts = EXPERTS if architecture.num_experts else (1,)
    for tensor, context in SPLITS:
        for expert in experts:
            fsdp, rest = divmod(chips, tensor * context * expert)
            fits = fsdp > 0 and not rest and row_length % (ROW_MULTIPLE * context) == 0
            fits = fits and architecture.num_key_value_heads % tensor == 0
            if fits and (not architecture.num_experts or architecture.num_experts % expert == 0):
                yield {"data": 1, "fsdp": fsdp, "expert": expert, "context": context, "tensor": tensor}


def search(config: config_dict.ConfigDict, devices: Sequence[jax.Device], chip: planning.Chip) -> list[dict[str, Any]]:
    """Compiles the learner for each mesh. Returns one record for each mesh that fits, fastest first: that of
    `planning.Program.to_json`, with the config keys to set as "keys". Progress is printed to stderr.

    Each mesh is tried first with remat "attention", then:
      - if that does not fit, with everything recomputed;
      - if compute is the limit, with less and less recomputation, as long as it fits;
      - if something else is the limit, with twice the rows as well.

    Raises ValueError if rl.row_length is not a multiple of ROW_MULTIPLE.
    """
    if config.rl.row_length % ROW_MULTIPLE:
        raise ValueError(f"rl.row_length = {config.rl.row_length}: expected a multiple of {ROW_MULTIPLE} for a TPU")
    found = []
    for axes in meshes(hf_config.read(config.model.checkpoint), config.rl.row_length, len(devices)):
        try:
            mesh = sharding.make_mesh(axes, devices)
            best = _best(config, axes, mesh, chip)
        except ValueError as error:  # the slice's torus or a dimension of the model does not allow this mesh
            print(f"plan: {_named(axes)}: left out: {error}", file=sys.stderr)
            continue
        found += [best] if best else []
    return sorted(found, key=lambda record: -record["tokens_per_second"])


def _best(config: config_dict.ConfigDict, axes: dict[str, int], mesh: Mesh, chip: planning.Chip) -> dict | None:
    """The fastest record of one mesh, None if nothing fits."""
    parts = sharding.parts("rows", mesh)

    def attempt(remat: str, rows: int) -> dict | None:
        trial = config.copy_and_resolve_references()
        trial.model.remat, trial.rl.rows = remat, rows
        trial.mesh.update(axes)
        record = planning.learner_program(trial, mesh).to_json(chip, mesh.size)
        said = f"{record['tokens_per_second']:.0f} tokens/s" if record["fits"] else "does not fit"
        what = f"{_named(axes)} rows {rows} remat {remat}"
        print(f"plan: {what}: {record['memory'] / planning.GIB:.1f} GiB, {said}", file=sys.stderr, flush=True)
        keys = {f"mesh.{axis}": size for axis, size in axes.items()} | {"rl.rows": rows, "model.remat": remat}
        return {**record, "keys": keys} if record["fits"] else None

    kept = list(transformer.REMAT)  # from keeping most to keeping least
    place = kept.index("attention")
    best = attempt(kept[place], parts)
    if best is None:
        best = attempt(kept[-1], parts)
    while best is not None and best["binds"] == "compute" and best["keys"]["model.remat"] == kept[place] and place > 0:
        place -= 1
        best = _faster(best, attempt(kept[place], parts))
    if best is not None and best["binds"] != "compute":
        best = _faster(best, attempt(best["keys"]["model.remat"], 2 * parts))
    return best


def _faster(a: dict, b: dict | None) -> dict:
    return b if b is not None and b["tokens_per_second"] > a["tokens_per_second"] else a


def _named(axes: dict[str, int]) -> str:
    return " ".join(f"{axis} {size}" for axis, size in axes.items() if size > 1) or "one chip"


def run(config: config_dict.ConfigDict) -> None:
    """Searches and prints the ranking. Raises ValueError as `planning.run` and `search` do."""
    devices, chip = planning.devices_of(config.plan.topology)
    setup.make_mesh(config, devices)  # raises for a config whose mesh does not fit the slice, as without a search
    found = search(config, devices, chip)
    if config.plan.json:
        print(json.dumps({"topology": config.plan.topology, "search": found}, indent=2))
        return
    if not found:
        print("nothing fits: take more chips, shorter rows, or 16-bit parameters (model.dtype=bfloat16)")
    for place, record in enumerate(found, 1):
        flags = " ".join(f"--config.{key}={value}" for key, value in record["keys"].items())
        print(
            f"{place}. at most {record['tokens_per_second']:.0f} tokens/s, {100 * record['mfu_bound']:.1f} % MFU, "
            f"{record['binds']} binds, {record['memory'] / planning.GIB:.1f} of {chip.hbm / planning.GIB:.0f} GiB\n"
            f"   {flags}"
        )
