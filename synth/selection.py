"""Which trees grow between two rounds, and by which operators.

"failures": pass rates are Beta posteriors. Trees that are passed nearly always are deepened, trees that are hardly ever
passed go back to the simpler tree they grew from, and what went wrong in the others chooses their operator. "even": the
worst trees first, every operator as often as the others, failures as tie-breakers. "random" and "resample" (no growth)
are what selection by failure is compared with.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from synth import operators
from synth.operators import Operator
from synth.workflow import Workflow

MODES = ("failures", "even", "random", "resample")
SATURATED = 0.8  # pass rate above which a tree teaches little
HOPELESS = 0.1  # and below which it teaches nothing
CERTAIN = 0.9  # posterior probability that it takes to say so


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the policy did with one tree's tasks in a round, infrastructure faults left out.

    episodes, passes: counts. failures: kinds of the nodes that failed episodes left first. mistakes: kinds of their
    failures (synth/failures.py).
    """

    episodes: int = 0
    passes: int = 0
    failures: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    @property
    def pass_rate(self) -> float:
        """Mean of a Beta(1, 1) posterior, so trees seen once are not taken for certain."""
        return (self.passes + 1) / (self.episodes + 2)

    def below(self, rate: float) -> float:
        """Posterior probability that the pass rate is at most `rate`.

        The distribution function of Beta(a, b) with whole a and b is a binomial tail (DLMF 8.17.5).
        """
        a, n = self.passes + 1, self.episodes + 1
        return sum(math.comb(n, j) * rate**j * (1 - rate) ** (n - j) for j in range(a, n + 1))

    @property
    def saturated(self) -> bool:
        """Whether the tree is almost certainly passed nearly always."""
        return 1 - self.below(SATURATED) >= CERTAIN

    @property
    def hopeless(self) -> bool:
        """Whether the tree is almost certainly hardly ever passed."""
        return self.below(HOPELESS) >= CERTAIN


@dataclasses.dataclass(frozen=True)
class Selection:
    """How to select: a mode, the share of trees that are expanded, and which share of these at most one operator may
    make and one domain may have."""

    mode: str = "even"
    share: float = 1.0
    operator_quota: float = 1.0
    domain_quota: float = 1.0


def grow(
    workflows: Sequence[Workflow],
    outcomes: Mapping[str, Outcome],
    chosen: Sequence[Operator],
    selection: Selection,
    seed: int,
) -> list[Workflow]:
    """The next round's training trees, one per tree and in their order.

    Args:
      workflows: this round's training trees.
      outcomes: workflow id -> what the policy did with it; trees without an entry were not measured.
      chosen: the operators to grow by.
    """
    if selection.mode == "resample":
        return [workflow.kept() for workflow in workflows]
    count = round(selection.share * len(workflows))
    if selection.mode == "even":
        grown = _even(workflows, outcomes, chosen, count, seed)
    elif selection.mode == "random":
        grown = _random(workflows, chosen, count, seed)
    else:
        grown = _by_failure(workflows, outcomes, chosen, selection, count, seed)
    return [grown[w.root] if w.root in grown else w.kept() for w in workflows]


def _even(
    workflows: Sequence[Workflow], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], count: int, seed: int
) -> dict[str, Workflow]:
    """The worst trees; of the least used operators that apply, the one whose nodes were failed most."""
    ranked = sorted(workflows, key=lambda w: (outcomes.get(w.id, Outcome()).pass_rate, w.id))
    used: Counter[str] = Counter()
    grown = {}
    for workflow in ranked[:count]:
        failures = Counter(outcomes.get(workflow.id, Outcome()).failures)
        options = [o for o in chosen if o.applies(workflow)]
        if not options:
            continue
        rng = random.Random(f"{seed}/grow/{workflow.id}")
        tie = {o.name: rng.random() for o in options}
        operator = min(options, key=lambda o: (used[o.name], -sum(failures[k] for k in o.answers), tie[o.name]))
        used[operator.name] += 1
        grown[workflow.root] = operators.expand(workflow, operator, seed)
    return grown


def _random(
    workflows: Sequence[Workflow], chosen: Sequence[Operator], count: int, seed: int
) -> dict[str, Workflow]:
    """Trees and operators by lot."""
    rng = random.Random(f"{seed}/random/{workflows[0].round if workflows else 0}")
    grown = {}
    for workflow in rng.sample(list(workflows), count):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            grown[workflow.root] = operators.expand(workflow, rng.choice(options), seed)
    return grown


def _by_failure(
    workflows: Sequence[Workflow], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], selection: Selection,
    count: int, seed: int,
) -> dict[str, Workflow]:
    """Hopeless trees simplified; the others grown, trees with failures first and the saturated ones last."""
    measured = {w.id: outcomes.get(w.id, Outcome()) for w in workflows}
    grown = {w.root: w.simplified() for w in workflows if measured[w.id].hopeless and w.history}
    able = [w for w in workflows if not measured[w.id].hopeless]
    ranked = sorted(able, key=lambda w: (measured[w.id].saturated, measured[w.id].pass_rate, w.id))
    of_operator, of_domain = (
        math.ceil(quota * count) for quota in (selection.operator_quota, selection.domain_quota)
    )
    used: Counter[str] = Counter()
    domains: Counter[str] = Counter()
    for workflow in ranked:
        if sum(used.values()) == count:
            break
        options = [o for o in chosen if used[o.name] < of_operator and o.applies(workflow)]
        if not options or domains[workflow.domain] >= of_domain:
            continue
        mistakes = Counter(measured[workflow.id].mistakes)
        rng = random.Random(f"{seed}/grow/{workflow.id}")
        tie = {o.name: rng.random() for o in options}
        # A failure counts in full for every operator that cures it; without failures the least used operator is taken.
        operator = min(options, key=lambda o: (-sum(mistakes[k] for k in o.cures), used[o.name], tie[o.name]))
        used[operator.name] += 1
        domains[workflow.domain] += 1
        grown[workflow.root] = operators.expand(workflow, operator, seed)
    return grown


def grow_like(workflows: Sequence[Workflow], examples: Sequence[Workflow], seed: int) -> list[Workflow]:
    """The next round's held-out trees: grown with the training trees' mix of operators, not from held-out failures."""
    mix = [e.operator for e in examples if e.operator in operators.OPERATORS]
    rng = random.Random(f"{seed}/grow_like/{workflows[0].round if workflows else 0}")
    found = []
    for workflow in workflows:
        options = [o for o in operators.OPERATORS.values() if o.name in mix and o.applies(workflow)]
        weights = [mix.count(o.name) for o in options]
        keep = (len(examples) - len(mix)) / len(examples)
        if not options or rng.random() < keep:
            found.append(workflow.kept())
        else:
            found.append(operators.expand(workflow, rng.choices(options, weights)[0], seed))
    return found
