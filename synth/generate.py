"""Tasks of a round: which branches of which trees, half legal and half not."""

from __future__ import annotations

import random
from collections.abc import Sequence

from synth import invert, tree
from synth.task import Task
from synth.workflow import Workflow


def is_legal(branch: tree.Branch) -> bool:
    """Whether a branch ends in the write, for all of its goals."""
    return set(tree.outcomes(branch)) == {"write"}


def tasks(workflows: Sequence[Workflow], variants: int, legal_share: float, seed: int) -> list[Task]:
    """`variants` tasks per tree, spread over its branches so that about `legal_share` of all are legal.

    Trees without an illegal branch yield legal tasks only; the others make up for them as far as they can.
    """
    slots = [(w, v) for v in range(variants) for w in workflows]
    wanted = round(len(slots) * (1 - legal_share))
    able = [s for s in slots if any(not is_legal(b) for b in tree.branches(s[0].tree))]
    # Every tree's last variants are illegal first: with 2 variants and half legal, each tree gets one of each.
    able.sort(key=lambda s: -s[1])
    illegal = {(w.id, v) for w, v in able[:wanted]}
    found = []
    for workflow, variant in slots:
        legal = (workflow.id, variant) not in illegal
        choices = [b for b in tree.branches(workflow.tree) if is_legal(b) == legal]
        rng = random.Random(f"{seed}/branch/{workflow.id}/{variant}")
        # By outcome and reason first: a leaf that several paths reach is no likelier for it.
        ending = rng.choice(sorted({tree.ending(b) for b in choices}))
        choices = [b for b in choices if tree.ending(b) == ending]
        found.append(invert.invert(workflow, rng.choice(choices), variant, seed))
    return sorted(found, key=lambda t: t.id)
