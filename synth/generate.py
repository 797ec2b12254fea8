"""The tasks of a round: which branches of which trees become tasks, a given share of them legal."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from synth.inversion import invert
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import Workflow


def is_legal(branch: tree.Branch) -> bool:
    """Whether a branch ends in the write for each of its goals."""
    return set(tree.outcomes(branch)) == {"write"}


def is_refused(branch: tree.Branch) -> bool:
    """Whether a rule forbids the write of at least one goal, that is, a leaf directly follows a failing guard."""
    pairs = itertools.pairwise(branch)
    return any((node.kind, edge, leaf.kind) == ("guard", "fails", "terminal") for (node, edge), (leaf, _) in pairs)


# The kinds of branch that can be requested for a task. A "spared" branch ends without the write although no rule
# forbids it: the user refuses consent, or the write is never answered. An agent that reads, asks and obtains consent
# passes such a task even if it ignores every rule.
WANTED: dict[str, Callable[[tree.Branch], bool]] = {
    "legal": is_legal,
    "illegal": lambda branch: not is_legal(branch),
    "refused": is_refused,
    "spared": lambda branch: not is_legal(branch) and not is_refused(branch),
}
Slot = tuple[Workflow, list[str]]  # a tree, and for each of its variants the requested kind of branch (key of WANTED)


def tasks(
    workflows: Sequence[Workflow], variants: int, legal_share: float, seed: int, refused_share: float = 0.0
) -> list[Task]:
    """`variants` tasks for each tree, on randomly drawn branches. Trees are in order of id, as are each tree's tasks.

    The shares are explained at `slots`. Raises ValueError if no state satisfies the conditions of a branch.
    """
    groups = slots(workflows, variants, legal_share, refused_share)
    return [task for slot in groups for task in of_tree(*slot, seed)]


def slots(workflows: Sequence[Workflow], variants: int, legal_share: float, refused_share: float) -> Iterator[Slot]:
    """Yields the trees in order of id, each with the requested kinds of its variants: the arguments of `of_tree`.

    About `legal_share` of all tasks are legal. In about `refused_share` of all tasks a rule forbids the write, as far
    as the trees' branches allow; with `refused_share` 0, the reason why the write is not due is drawn at random. Trees
    without an illegal branch get legal tasks only; the other trees then get more illegal ones, as far as they can.
    """
    total, kinds = len(workflows) * variants, {w.id: _kinds(w) for w in workflows}
    able = [name for name, found in kinds.items() if found]
    # Illegal tasks are assigned to the last variant of every tree first, then to the last but one, and so on. With 2
    # variants and half of the tasks legal, each tree gets one legal and one illegal task. So the presence of a rule in
    # a policy text does not reveal whether the rule holds.
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
    """Which of the kinds "refused" and "spared" occur among a tree's branches."""
    branches = tree.branches(workflow.tree)
    return {kind for kind in ("refused", "spared") if any(map(WANTED[kind], branches))}


def of_tree(workflow: Workflow, wanted: Sequence[str], seed: int) -> list[Task]:
    """The tasks of one tree, one variant for each of `wanted` (keys of WANTED), in order of id.

    Raises IndexError if the tree has no branch of a wanted kind, ValueError if no state satisfies a branch.
    """
    found = []
    for variant, kind in enumerate(wanted):
        choices = [b for b in tree.branches(workflow.tree) if WANTED[kind](b)]
        rng = random.Random(f"{seed}/branch/{workflow.id}/{variant}")
        # First draw the outcome and reason, then a branch with them. So an ending is not more likely only because
        # several paths lead to it.
        endings = sorted({tree.ending(b) for b in choices})
        while True:
            ending = rng.choice(endings)
            alike = [b for b in choices if tree.ending(b) == ending]
            branch = rng.choice(alike)
            while alike and not invert.possible(workflow, branch):
                alike.remove(branch)
                branch = rng.choice(alike) if alike else branch
            if alike:
                break
            endings.remove(ending)
        found.append(invert.invert(workflow, branch, variant, seed))
    return sorted(found, key=lambda t: t.id)
