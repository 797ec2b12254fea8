"""A run of several processes, one a host, on one workdir that all of them see.

Every process runs the same program on the same config. The learner's mesh spans all devices; each process samples on
its own devices with a sampler of its own, for its share of the tasks, and all of them get all episodes. What is written
is written by the first process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding

from model.network import sharding

Item = TypeVar("Item")


def initialize(processes: int) -> None:
    """Joins the other processes of the run; nothing to do for one alone. Call it before anything else of jax.

    On a TPU slice, under Slurm, MPI or Kubernetes jax finds them by itself; elsewhere JAX_COORDINATOR_ADDRESS
    (host:port of the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID say where they are. Only the first prints.
    Raises ValueError if those variables are incomplete or another number of processes has been found.
    """
    if processes == 1:
        return
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if given and len(given) < len(names):
        raise ValueError(f"mesh.processes = {processes}: expected all of {names} to be set or none, found {given}")
    address, *numbers = (given[name] for name in names) if given else (None, None, None)
    jax.distributed.initialize(address, *(number and int(number) for number in numbers))
    if jax.process_count() != processes:
        raise ValueError(f"mesh.processes = {processes}: found {jax.process_count()} processes")
    if not first():
        sys.stdout = open(os.devnull, "w")


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def wait(reason: str) -> None:
    """Returns when all processes are here. reason: tells one such place from another."""
    multihost_utils.sync_global_devices(reason)


def share(items: Sequence[Item]) -> list[Item]:
    """This process's share of the items."""
    return list(items)[jax.process_index() :: jax.process_count()]


def gather(record: Any) -> list[Any]:
    """The JSON-serialisable records of all processes, in their order."""
    if jax.process_count() == 1:
        return [record]
    own = np.frombuffer(json.dumps(record).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([own.size])).reshape(-1)
    padded = np.zeros((sizes.max(),), np.uint8)
    padded[: own.size] = own
    found = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    return [json.loads(row[:size].tobytes()) for row, size in zip(found, sizes, strict=True)]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Where this process samples: `mesh`, which is the whole run's if it is the only process, else of its own devices.

    everywhere: for several processes, all their meshes on top of one another; the axis `process` is the first.
    """

    mesh: Mesh
    everywhere: Mesh | None = None

    @classmethod
    def create(cls, mesh: Mesh) -> Sampling:
        """mesh: the learner's. Raises ValueError, naming the axes, if experts or tensors are split over processes."""
        if jax.process_count() == 1:
            return cls(mesh)
        kept = {axis: mesh.shape[axis] for axis in ("expert", "tensor")}
        own = jax.local_device_count()
        if own % (kept["expert"] * kept["tensor"]):
            raise ValueError(
                f"mesh: a process samples on its own {own} devices, "
                f"which mesh.expert and mesh.tensor, {kept}, do not divide"
            )
        devices = [[d for d in mesh.devices.flat if d.process_index == p] for p in range(jax.process_count())]
        meshes = [sharding.make_mesh({**kept, "fsdp": -1}, group) for group in devices]
        axes = ("process", *sharding.AXES)
        stacked = Mesh(np.stack([m.devices for m in meshes]), axes, axis_types=(AxisType.Auto,) * len(axes))
        return cls(meshes[jax.process_index()], stacked)

    def params(self, params: Any, config: Any) -> Any:
        """The learner's parameters on this process's mesh, split for decoding, without a copy on the host."""
        if self.everywhere is None:
            return params
        here = sharding.param_shardings(config, self.mesh, sharding.DECODE)
        there = jax.tree.map(lambda s: NamedSharding(self.everywhere, s.spec), here)

        def local(x: jax.Array, placed: NamedSharding) -> jax.Array:
            return jax.make_array_from_single_device_arrays(x.shape, placed, [s.data for s in x.addressable_shards])

        return jax.tree.map(local, jax.device_put(params, there), here)


def write_json(path: Path, record: Any) -> None:
    """Writes a JSON file in one rename, so that it stands whole or not at all. The first process does."""
    if not first():
        return
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)
