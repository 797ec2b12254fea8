"""Which trees grow between two rounds, and by which operators.

The modes are:
- "failures": pass rates are Beta posteriors. Trees that hardly ever pass go back to the simpler tree they grew from.
  The others grow, those that nearly always pass last, by the operators that cure the failures that occurred.
- "even": the trees with the lowest pass rates grow. Every operator is used equally often; failures break ties.
- "random": trees and operators are drawn at random. "resample": no tree grows. Both are baselines for comparison.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from synth import operators
from synth.operators import Operator
from synth.trees.workflow import Workflow

MODES = ("failures", "even", "random", "resample")
SATURATED = 0.8  # pass rate above which a tree teaches little
HOPELESS = 0.1  # pass rate below which a tree teaches nothing
CERTAIN = 0.9  # posterior probability required to call a tree saturated or hopeless


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results of the policy on one tree's tasks in a round, without episodes that had an infrastructure fault.

    episodes, passes: counts.
    failures: for each failed episode, the kind of the node at which it first left the branch.
    mistakes: for each failed episode, the kind of failure (synth/growth/failures.py).
    """

    episodes: int = 0
    passes: int = 0
    failures: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    @property
    def pass_rate(self) -> float:
        """Posterior mean of the pass rate under a Beta(1, 1) prior, which keeps few episodes from giving 0 or 1."""
        return (self.passes + 1) / (self.episodes + 2)

    def below(self, rate: float) -> float:
        """Posterior probability that the pass rate is at most `rate`, which must be in [0, 1].

        The distribution function of Beta(a, b) with integers a and b is a binomial tail (DLMF 8.17.5).
        """
        a, n = self.passes + 1, self.episodes + 1
        return sum(math.comb(n, j) * rate**j * (1 - rate) ** (n - j) for j in range(a, n + 1))

    @property
    def saturated(self) -> bool:
        """Whether the pass rate is above SATURATED with a posterior probability of at least CERTAIN."""
        return 1 - self.below(SATURATED) >= CERTAIN

    @property
    def hopeless(self) -> bool:
        """Whether the pass rate is at most HOPELESS with a posterior probability of at least CERTAIN."""
        return self.below(HOPELESS) >= CERTAIN


@dataclasses.dataclass(frozen=True)
class Selection:
    """How to select.

    mode: one of MODES.
    share: the share of the trees that are expanded, in [0, 1].
    operator_quota, domain_quota: the largest share of the expansions that one operator, or one domain, may have. A
        quota below an even share counts as an even share, because `share` could not be reached otherwise.
    """

    mode: str = "even"
    share: float = 1.0
    operator_quota: float = 1.0
    domain_quota: float = 1.0


Plan = dict[str, Operator]  # root -> the operator by which its tree is to grow
Expand = Callable[[Sequence[tuple[Workflow, Operator]], int], list[Workflow]]  # (what is to grow, seed) -> grown
# [(tree, its results, the operators that apply to it)] -> {workflow id: names of operators, the best first}.
Rank = Callable[[Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]], Mapping[str, Sequence[str]]]


def expand(pairs: Sequence[tuple[Workflow, Operator]], seed: int) -> list[Workflow]:
    """Each workflow grown by its operator, with randomly drawn conditions.

    Raises ValueError if an operator does not apply.
    """
    return [operators.expand(workflow, operator, seed) for workflow, operator in pairs]


def unranked(trees: Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]) -> dict[str, Sequence[str]]:
    """The empty ranking: mistakes alone choose the operators."""
    return {}


def grow(
    workflows: Sequence[Workflow],
    outcomes: Mapping[str, Outcome],
    chosen: Sequence[Operator],
    selection: Selection,
    seed: int,
    expand: Expand = expand,
    rank: Rank = unranked,
) -> list[Workflow]:
    """The next round's training trees, one for each of this round's and in the same order.

    Args:
      workflows: this round's training trees.
      outcomes: workflow id -> the policy's results; trees without an entry were not measured.
      chosen: the operators that may be used.
      selection: mode, share and quotas.
      seed: the run's seed.
      expand: grows workflows by the operators chosen for them.
      rank: a teacher's preferences among operators, asked once for all trees. Only the mode "failures" uses it, and
        within the quotas.
    Raises:
      ValueError: the mode is "random" and the share is above 1.
    """
    count, plan, simpler = round(selection.share * len(workflows)), {}, {}
    if selection.mode == "even":
        plan = _even(workflows, outcomes, chosen, count, seed)
    elif selection.mode == "random":
        plan = _random(workflows, chosen, count, seed)
    elif selection.mode == "failures":
        hopeless = [w for w in workflows if outcomes.get(w.id, Outcome()).hopeless]
        simpler = {w.root: w.simplified() for w in hopeless if w.history}
        able = [w for w in workflows if w not in hopeless]
        plan = _by_failure(able, outcomes, chosen, selection, count, seed, rank)
    grown = dict(zip(plan, expand([(w, plan[w.root]) for w in _by_root(workflows, plan)], seed))) | simpler
    return [grown[w.root] if w.root in grown else w.kept() for w in workflows]


def _by_root(workflows: Sequence[Workflow], plan: Plan) -> list[Workflow]:
    """The planned workflows, in the plan's order."""
    found = {workflow.root: workflow for workflow in workflows}
    return [found[root] for root in plan]


def _even(
    workflows: Sequence[Workflow], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], count: int, seed: int
) -> Plan:
    """A plan for the trees with the lowest pass rates, each by the least used operator that applies.

    Of several such operators, it takes the one whose `answers` match the most failures.
    """
    ranked = sorted(workflows, key=lambda w: (outcomes.get(w.id, Outcome()).pass_rate, w.id))
    used: Counter[str] = Counter()
    plan = {}
    for workflow in ranked[:count]:
        failures = Counter(outcomes.get(workflow.id, Outcome()).failures)
        options = [o for o in chosen if o.applies(workflow)]
        if not options:
            continue
        rng = random.Random(f"{seed}/grow/{workflow.id}")
        tie = {o.name: rng.random() for o in options}
        operator = min(options, key=lambda o: (used[o.name], -sum(failures[k] for k in o.answers), tie[o.name]))
        used[operator.name] += 1
        plan[workflow.root] = operator
    return plan


def _random(workflows: Sequence[Workflow], chosen: Sequence[Operator], count: int, seed: int) -> Plan:
    """A plan of randomly drawn trees and operators."""
    rng = random.Random(f"{seed}/random/{workflows[0].round if workflows else 0}")
    plan = {}
    for workflow in rng.sample(list(workflows), count):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            plan[workflow.root] = rng.choice(options)
    return plan


def _by_failure(
    workflows: Sequence[Workflow],
    outcomes: Mapping[str, Outcome],
    chosen: Sequence[Operator],
    selection: Selection,
    count: int,
    seed: int,
    rank: Rank,
) -> Plan:
    """A plan within the quotas: trees in order of pass rate, lowest first, with the saturated ones at the end."""
    measured = {w.id: outcomes.get(w.id, Outcome()) for w in workflows}
    plan: Plan = {}
    ranked = sorted(workflows, key=lambda w: (measured[w.id].saturated, measured[w.id].pass_rate, w.id))
    among = {w.domain for w in workflows}
    of_operator, of_domain = (
        math.ceil(max(quota, 1 / max(1, number)) * count)
        for quota, number in ((selection.operator_quota, len(chosen)), (selection.domain_quota, len(among)))
    )
    ranks = rank([(w, measured[w.id], [o for o in chosen if o.applies(w)]) for w in ranked])
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
        wish = {name: place for place, name in enumerate(ranks.get(workflow.id, ()))}
        # The teacher's ranking decides, then the number of failures that the operator cures, then how rarely the
        # operator was used. A failure counts for every operator that cures it.
        operator = min(
            options,
            key=lambda o: (
                wish.get(o.name, len(wish)), -sum(mistakes[k] for k in o.cures), used[o.name], tie[o.name]
            ),
        )  # fmt: skip
        used[operator.name] += 1
        domains[workflow.domain] += 1
        plan[workflow.root] = operator
    return plan


def grow_like(
    workflows: Sequence[Workflow], examples: Sequence[Workflow], seed: int, expand: Expand = expand
) -> list[Workflow]:
    """The next round's held-out trees, one for each of this round's and in the same order.

    Operators are drawn from the mix by which the training trees grew, so that failures on held-out tasks have no
    influence.

    Args:
      workflows: this round's held-out trees.
      examples: the next round's training trees, at least one.
      seed: the run's seed.
      expand: grows workflows by the operators chosen for them.
    """
    mix = [e.operator for e in examples if e.operator in operators.OPERATORS]
    rng = random.Random(f"{seed}/grow_like/{workflows[0].round if workflows else 0}")
    plan: Plan = {}
    for workflow in workflows:
        options = [o for o in operators.OPERATORS.values() if o.name in mix and o.applies(workflow)]
        weights = [mix.count(o.name) for o in options]
        keep = (len(examples) - len(mix)) / len(examples)
        if options and rng.random() >= keep:
            plan[workflow.root] = rng.choices(options, weights)[0]
    grown = dict(zip(plan, expand([(w, plan[w.root]) for w in _by_root(workflows, plan)], seed)))
    return [grown[w.root] if w.root in grown else w.kept() for w in workflows]
