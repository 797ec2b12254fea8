"""Tasks of a round: which branches of which trees, half legal and half not; how trees grow between rounds."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from synth import invert, operators, tree
from synth.operators import Operator
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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the policy did with one tree's tasks in a round: episodes, passes, and the kinds of node it left first."""

    episodes: int = 0
    passes: int = 0
    failures: tuple[str, ...] = ()

    @property
    def pass_rate(self) -> float:
        """Mean of a Beta(1, 1) posterior, so trees seen once are not taken for certain."""
        return (self.passes + 1) / (self.episodes + 2)


def grow(
    workflows: Sequence[Workflow], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], share: float, seed: int
) -> list[Workflow]:
    """The next round's training trees: the worst `share` expanded where the policy failed, the rest carried over.

    The kind of node that a tree's failed rollouts left first chooses among the operators that apply; operators are
    used evenly (the least used of the fitting ones is taken), so no round is all of one kind.
    """
    ranked = sorted(workflows, key=lambda w: (outcomes.get(w.id, Outcome()).pass_rate, w.id))
    expandable = {w.id for w in ranked[: round(share * len(ranked))]}
    used: Counter[str] = Counter()
    grown = {}
    for workflow in ranked:
        failures = Counter(outcomes.get(workflow.id, Outcome()).failures)
        options = [o for o in chosen if o.applies(workflow)]
        if workflow.id not in expandable or not options:
            grown[workflow.root] = workflow.kept()
            continue
        rng = random.Random(f"{seed}/grow/{workflow.id}")
        tie = {o.name: rng.random() for o in options}
        operator = min(options, key=lambda o: (used[o.name], -sum(failures[k] for k in o.answers), tie[o.name]))
        used[operator.name] += 1
        grown[workflow.root] = operators.expand(workflow, operator, seed)
    return [grown[w.root] for w in workflows]


def grow_like(workflows: Sequence[Workflow], examples: Sequence[Workflow], seed: int) -> list[Workflow]:
    """The next round's held-out trees: grown with the training trees' mix of operators, not from held-out failures."""
    mix = [e.operator for e in examples]
    rng = random.Random(f"{seed}/grow_like/{workflows[0].round if workflows else 0}")
    found = []
    for workflow in workflows:
        options = [o for o in operators.OPERATORS.values() if o.name in mix and o.applies(workflow)]
        weights = [mix.count(o.name) for o in options]
        keep = mix.count("") / len(mix)
        if not options or rng.random() < keep:
            found.append(workflow.kept())
        else:
            found.append(operators.expand(workflow, rng.choices(options, weights)[0], seed))
    return found
