"""All operations by name, and all families of operations."""

from __future__ import annotations

from synth.problems.families import (
    chance,
    counting,
    equations,
    geometry,
    grids,
    integers,
    letters,
    money,
    rates,
    roads,
    schedules,
    sequences,
    stocks,
)
from synth.problems.operation import Operation

_MODULES = (
    stocks,
    rates,
    equations,
    integers,
    counting,
    chance,
    geometry,
    sequences,
    money,
    schedules,
    grids,
    roads,
    letters,
)

OPERATIONS: dict[str, Operation] = {op.name: op for module in _MODULES for op in module.OPERATIONS}
FAMILIES: dict[str, tuple[str, ...]] = {  # family -> names of its operations
    family: tuple(op.name for op in OPERATIONS.values() if op.family == family)
    for family in dict.fromkeys(op.family for op in OPERATIONS.values())
}


def select(names: str) -> list[str]:
    """The families in a comma-separated list of names, or all of them for "all".

    Raises ValueError for an empty list or unknown names (the message names them).
    """
    wanted = list(FAMILIES) if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in FAMILIES]
    if unknown or not wanted:
        raise ValueError(
            f"reasoning.families: unknown {unknown or names!r}, expected 'all' or some of {', '.join(FAMILIES)}"
        )
    return wanted
