"""A run of several processes, one per host, with one workdir on a file system that all hosts share.

Every process runs the same program with the same config. The learner's mesh spans the devices of all processes. For
rollouts each process has its own sampler on its own devices and plays its share of the tasks; afterwards every process
gets all episodes. Only the first process writes files.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
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
    """Connects this process with the others of the run; does nothing if `processes` is 1. Call it before any other use
    of jax.

    On a TPU slice and under Slurm, MPI or Kubernetes, jax finds the other processes by itself. Elsewhere set the
    environment variables JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID. The standard output of all processes but the first is discarded.
    Raises ValueError if only some of the variables are set, if the others are not found, or if their number is another.
    """
    if processes == 1:
        return
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if given and len(given) < len(names):
        raise ValueError(f"mesh.processes = {processes}: expected all of {names} to be set or none, found {given}")
    address, *numbers = (given[name] for name in names) if given else (None, None, None)
    if wrong := [name for name, number in zip(names[1:], numbers) if number is not None and not number.isdecimal()]:
        raise ValueError(f"mesh.processes = {processes}: {wrong[0]} must be a number, found {given[wrong[0]]!r}")
    try:
        jax.distributed.initialize(address, *(number and int(number) for number in numbers))
    except (ValueError, RuntimeError) as error:  # RuntimeError: those of the coordination service are its subclasses
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"mesh.processes = {processes}: jax does not find the other processes ({told}); give the command once per "
            f"host, and set {', '.join(names)} where no cluster says it (docs/hosts.md)"
        ) from error
    for number in (signal.SIGINT, signal.SIGTERM):  # jax has put handlers of its own beside Python's
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is not None:
            signal.signal(number, signal.getsignal(number))
    if jax.process_count() != processes:
        raise ValueError(f"mesh.processes = {processes}: found {jax.process_count()} processes")
    if not first():
        sys.stdout = open(os.devnull, "w")


def first() -> bool:
    """Whether this is the first process, the one that writes files."""
    return jax.process_index() == 0


def wait(reason: str) -> None:
    """Waits until all processes have called this. reason: names the place in the program; the same in all processes."""
    multihost_utils.sync_global_devices(reason)


def share(items: Sequence[Item]) -> list[Item]:
    """This process's share of the items: every n-th for n processes."""
    return list(items)[jax.process_index() :: jax.process_count()]


def gather(record: Any) -> list[Any]:
    """The records of all processes, in the order of the processes. record: this process's, JSON-serialisable."""
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
    """Where this process samples.

    mesh: for a single process the learner's mesh, else a mesh of this process's own devices. everywhere: for several
    processes, the sampling meshes of all of them stacked along a first axis `process`; None for a single process.
    """

    mesh: Mesh
    everywhere: Mesh | None = None

    @classmethod
    def create(cls, mesh: Mesh) -> Sampling:
        """The sampling mesh for the learner's mesh.

        It keeps the sizes of the axes expert and tensor. Raises ValueError, naming these axes, if their sizes do not
        divide the devices of one process.
        """
        if jax.process_count() == 1:
            return cls(mesh)
        kept = {axis: mesh.shape[axis] for axis in ("expert", "tensor")}
        own = jax.local_device_count()
        if own % (kept["expert"] * kept["tensor"]):
            raise ValueError(
                f"mesh: each process samples on its own {own} devices; mesh.expert * mesh.tensor must divide their "
                f"number, found {kept}"
            )
        devices = [[d for d in mesh.devices.flat if d.process_index == p] for p in range(jax.process_count())]
        meshes = [sharding.make_mesh({**kept, "fsdp": -1}, group) for group in devices]
        axes = ("process", *sharding.AXES)
        stacked = Mesh(np.stack([m.devices for m in meshes]), axes, axis_types=(AxisType.Auto,) * len(axes))
        return cls(meshes[jax.process_index()], stacked)

    def params(self, params: Any, config: Any) -> Any:
        """The learner's parameters moved to this process's mesh, sharded for decoding. No copy is made on the host.

        For a single process they are returned as they are. config: the architecture.
        """
        if self.everywhere is None:
            return params
        here = sharding.param_shardings(config, self.mesh, sharding.DECODE)
        there = jax.tree.map(lambda s: NamedSharding(self.everywhere, s.spec), here)

        def local(x: jax.Array, placed: NamedSharding) -> jax.Array:
            return jax.make_array_from_single_device_arrays(x.shape, placed, [s.data for s in x.addressable_shards])

        return jax.tree.map(local, jax.device_put(params, there), here)


def write_json(path: Path, record: Any) -> None:
    """Writes a JSON file under a temporary name and renames it, so that it is never incomplete. Only the first process
    writes."""
    if not first():
        return
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)
