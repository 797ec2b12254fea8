"""Output while a run goes on: progress bars on standard error, one line per step on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from rl.trajectory import Trajectory

Item = TypeVar("Item")


def bar(items: Iterable[Item], text: str, total: int | None = None) -> tqdm:
    """Iterates over items with a progress bar, which is removed at the end. total: number of items without a length."""
    return tqdm(items, desc=text, total=total, leave=False, disable=not sys.stderr.isatty())


class Progress:
    """A progress bar of episodes. Pass `update` as the rollouts' on_progress."""

    def __init__(self, text: str):
        self._bar = tqdm(desc=text, unit="ep", leave=False, disable=not sys.stderr.isatty())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def update(self, done: int, total: int) -> None:
        """Moves the bar to `done` of `total` episodes."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def line(text: str) -> None:
    """Prints a line on standard output, above the progress bar if there is one."""
    tqdm.write(text)
    sys.stdout.flush()


def percent(rate: Mapping[str, Any]) -> str:
    """A pass rate with its 95 % interval as text in percent, and the greedy pass rate if there is one; with each the
    number of episodes that are not in it, if any faulted."""
    text = f"{100 * rate['mean']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]{missing(rate)}"
    if "greedy" not in rate:
        return text
    return f"{text}, greedy {100 * rate['greedy']:.1f} %{missing({'faults': rate.get('greedy_faults', 0)})}"


def missing(rate: Mapping[str, Any]) -> str:
    """What is missing from a rate: " (9 of 10 faulted)" or, without the number of episodes, " (9 faulted)"; "" if
    nothing is. rate: its key "faults" has the episodes that faulted, "episodes" those that did not."""
    faulted = rate.get("faults", 0)
    of = f" of {faulted + rate['episodes']}" if "episodes" in rate else ""
    return f" ({faulted}{of} faulted)" if faulted else ""


def faults(items: Sequence[Trajectory]) -> None:
    """Prints how many episodes had an infrastructure fault and the first of them; nothing if there was none."""
    failed = [item for item in items if item.reward is None]
    if failed:
        first, episode = failed[0], f"{failed[0].task_id}, member {failed[0].member}"
        what = (first.score.error or "no error told").splitlines()[0]
        line(f"{len(failed)} of {len(items)} episodes faulted and are left out; the first, {episode}: {what}")


def step(number: int, index: int, steps: int, metrics: Mapping[str, float | None]) -> str:
    """A line of text on one RL step; a dash for a metric that is None. A step that made no update says why.

    number: of the round. index: of the step, from 0. steps: of the round.
    """

    def shown(name: str, scale: float = 1.0, places: int = 3) -> str:
        value = metrics.get(name)
        return "-" if value is None else f"{scale * value:.{places}f}"

    nothing = ""
    if metrics.get("signal_groups") == 0:  # without any group there is no share of mixed ones
        complete = metrics.get("mixed_groups", 0.0) is not None
        nothing = f"  NO UPDATE: no group {'has a signal' if complete else 'is complete'}"
    return (
        f"round {number}  step {index + 1:>3}/{steps}  reward {shown('reward')}  "
        f"pass {shown('pass_rate', 100, 0)} %  mixed groups {shown('mixed_groups', 100, 0)} %  "
        f"entropy {shown('entropy')}  {shown('tokens_per_second', places=0)} tok/s  "
        f"{shown('rollout_seconds', places=1)} + {shown('learner_seconds', places=1)} s{nothing}"
    )
