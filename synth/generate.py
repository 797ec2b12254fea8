"""Tasks of a round: which branches of which trees, half legal and half not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from synth.inversion import invert
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import Workflow


def is_legal(branch: tree.Branch) -> bool:
    """Whether a branch ends in the write, for all of its goals."""
    return set(tree.outcomes(branch)) == {"write"}


def is_refused(branch: tree.Branch) -> bool:
    """Whether a rule stands in the way of some goal: the leaf hangs at a guard that fails."""
    pairs = itertools.pairwise(branch)
    return any((node.kind, edge, leaf.kind) == ("guard", "fails", "terminal") for (node, edge), (leaf, _) in pairs)


# What a task may be wanted to be. "spared" ones end without the write though no rule says so: the user refuses consent,
# or the write is never answered. An agent that reads, asks and obtains consent, but no rule matters to, passes them.
WANTED: dict[str, Callable[[tree.Branch], bool]] = {
    "legal": is_legal,
    "illegal": lambda branch: not is_legal(branch),
    "refused": is_refused,
    "spared": lambda branch: not is_legal(branch) and not is_refused(branch),
}
Slot = tuple[Workflow, list[str]]  # a tree, and for each of its variants what it is wanted to be


def tasks(
    workflows: Sequence[Workflow], variants: int, legal_share: float, seed: int, refused_share: float = 0.0
) -> list[Task]:
    """`variants` tasks per tree, spread over its branches, in order of id; the shares are those of `slots`."""
    groups = slots(workflows, variants, legal_share, refused_share)
    return [task for slot in groups for task in of_tree(*slot, seed)]


def slots(workflows: Sequence[Workflow], variants: int, legal_share: float, refused_share: float) -> Iterator[Slot]:
    """The trees in order of id, each with what is wanted of its variants: what `of_tree` takes.

    About `legal_share` of all tasks are legal, and in up to `refused_share` of all a rule stands in the way of the
    write; with 0 the lot says why the write is not due. Trees that have no such branch leave it to the others, which
    make up for them as far as they can.
    """
    total, kinds = len(workflows) * variants, {w.id: _kinds(w) for w in workflows}
    able = [name for name, found in kinds.items() if found]
    # Every tree's last variants are illegal first: with 2 variants and half legal, each tree gets one of each. So a
    # rule in a policy says nothing about whether it holds.
    illegal = ((name, variant) for variant in reversed(range(variants)) for name in able)
    wanted, left = {}, round(total * refused_share)
    for name, variant in itertools.islice(illegal, round(total * (1 - legal_share))):
        if not refused_share:
            wanted[name, variant] = "illegal"
        elif "refused" in kinds[name] and (left > 0 or "spared" not in kinds[name]):
            wanted[name, variant], left = "refused", left - 1
        else:
            wanted[name, variant] = "spared"
    for workflow in sorted(workflows, key=lambda w: w.id):
        yield workflow, [wanted.get((workflow.id, variant), "legal") for variant in range(variants)]


def _kinds(workflow: Workflow) -> set[str]:
    """Which of "refused" and "spared" a tree has branches of."""
    branches = tree.branches(workflow.tree)
    return {kind for kind in ("refused", "spared") if any(map(WANTED[kind], branches))}


def of_tree(workflow: Workflow, wanted: Sequence[str], seed: int) -> list[Task]:
    """The tasks of one tree, a variant for each of `wanted` (names in WANTED), in order of id."""
    found = []
    for variant, kind in enumerate(wanted):
        choices = [b for b in tree.branches(workflow.tree) if WANTED[kind](b)]
        rng = random.Random(f"{seed}/branch/{workflow.id}/{variant}")
        # By outcome and reason first: a leaf that several paths reach is no likelier for it.
        ending = rng.choice(sorted({tree.ending(b) for b in choices}))
        choices = [b for b in choices if tree.ending(b) == ending]
        found.append(invert.invert(workflow, rng.choice(choices), variant, seed))
    return sorted(found, key=lambda t: t.id)
