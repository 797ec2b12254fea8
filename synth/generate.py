"""Tasks of a round: which branches of which trees, half legal and half not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from synth import invert, tree
from synth.task import Task
from synth.workflow import Workflow


def is_legal(branch: tree.Branch) -> bool:
    """Whether a branch ends in the write, for all of its goals."""
    return set(tree.outcomes(branch)) == {"write"}


def tasks(workflows: Sequence[Workflow], variants: int, legal_share: float, seed: int) -> list[Task]:
    """`variants` tasks per tree, spread over its branches so that about `legal_share` of all are legal, in order of id.

    Trees without an illegal branch yield legal tasks only; the others make up for them as far as they can.
    """
    groups = slots(workflows, variants, legal_share)
    return [task for workflow, legal in groups for task in of_tree(workflow, legal, seed)]


def slots(workflows: Sequence[Workflow], variants: int, legal_share: float) -> Iterator[tuple[Workflow, list[bool]]]:
    """The trees in order of id, each with which of its variants are to be legal: what `of_tree` takes."""
    wanted = round(len(workflows) * variants * (1 - legal_share))
    able = [w.id for w in workflows if any(not is_legal(b) for b in tree.branches(w.tree))]
    place = {name: number for number, name in enumerate(able)}
    for workflow in sorted(workflows, key=lambda w: w.id):
        # Every tree's last variants are illegal first: with 2 variants and half legal, each tree gets one of each.
        before = [(variants - 1 - v) * len(able) + place.get(workflow.id, wanted) for v in range(variants)]
        yield workflow, [number >= wanted for number in before]


def of_tree(workflow: Workflow, legal: Sequence[bool], seed: int) -> list[Task]:
    """The tasks of one tree, a variant for each of `legal`, in order of id."""
    found = []
    for variant, wanted in enumerate(legal):
        choices = [b for b in tree.branches(workflow.tree) if is_legal(b) == wanted]
        rng = random.Random(f"{seed}/branch/{workflow.id}/{variant}")
        # By outcome and reason first: a leaf that several paths reach is no likelier for it.
        ending = rng.choice(sorted({tree.ending(b) for b in choices}))
        choices = [b for b in choices if tree.ending(b) == ending]
        found.append(invert.invert(workflow, rng.choice(choices), variant, seed))
    return sorted(found, key=lambda t: t.id)
