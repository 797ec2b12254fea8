"""What a person sees while a run goes on: progress bars on standard error, one line per step on standard output."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Sequence[Item], text: str) -> tqdm:
    """Iterates over items with a progress bar that vanishes when it is done."""
    return tqdm(items, desc=text, leave=False, disable=not sys.stderr.isatty())


class Progress:
    """A progress bar of episodes; `update(done, total)` is the rollouts' callback."""

    def __init__(self, text: str):
        self._bar = tqdm(desc=text, unit="ep", leave=False, disable=not sys.stderr.isatty())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def update(self, done: int, total: int) -> None:
        """Moves the bar to `done` of `total` episodes."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def line(text: str) -> None:
    """Prints a line without tearing a bar."""
    tqdm.write(text)
    sys.stdout.flush()


def percent(rate: Mapping[str, Any]) -> str:
    """A pass rate with its 95 % interval."""
    text = f"{100 * rate['mean']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
    return text + (f", greedy {100 * rate['greedy']:.1f} %" if "greedy" in rate else "")


def step(number: int, index: int, steps: int, metrics: Mapping[str, float]) -> str:
    """One RL step in a line."""
    return (
        f"round {number}  step {index + 1:>3}/{steps}  reward {metrics['reward']:.3f}  "
        f"pass {100 * metrics['pass_rate']:.0f} %  mixed groups {100 * metrics['mixed_groups']:.0f} %  "
        f"entropy {metrics.get('entropy', float('nan')):.3f}  {metrics['tokens_per_second']:.0f} tok/s  "
        f"{metrics['rollout_seconds']:.1f} + {metrics['learner_seconds']:.1f} s"
    )
