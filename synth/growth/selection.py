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
from collections.abc import Callable, Mapping, Sequence

from synth import operators
from synth.operators import Operator
from synth.trees.workflow import Workflow

MODES = ("failures", "even", "random", "resample")
SATURATED = 0.8  # pass rate above which a tree teaches little
HOPELESS = 0.1  # and below which it teaches nothing
CERTAIN = 0.9  # posterior probability that it takes to say so


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the policy did with one tree's tasks in a round, infrastructure faults left out.

    episodes, passes: counts. failures: kinds of the nodes that failed episodes left first. mistakes: kinds of their
    failures (synth/growth/failures.py).
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
    """How to select.

    mode: one of MODES. share: of trees that are expanded. operator_quota, domain_quota: which share of the expansions
    at most one operator may make and one domain may have; never less than an even share, which could not be filled.
    """

    mode: str = "even"
    share: float = 1.0
    operator_quota: float = 1.0
    domain_quota: float = 1.0


Plan = dict[str, Operator]  # root -> the operator its tree is to grow by
Expand = Callable[[Sequence[tuple[Workflow, Operator]], int], list[Workflow]]  # (what is to grow, seed) -> grown
# Trees with what became of them and the operators that apply -> workflow id -> names of operators, the best first.
Rank = Callable[[Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]], Mapping[str, Sequence[str]]]


def expand(pairs: Sequence[tuple[Workflow, Operator]], seed: int) -> list[Workflow]:
    """The programmatic expansion of each workflow by its operator."""
    return [operators.expand(workflow, operator, seed) for workflow, operator in pairs]


def unranked(trees: Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]) -> dict[str, Sequence[str]]:
    """No opinion: mistakes alone choose the operators."""
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
    """The next round's training trees, one per tree and in their order.

    Args:
      workflows: this round's training trees.
      outcomes: workflow id -> what the policy did with it; trees without an entry were not measured.
      chosen: the operators to grow by.
      expand: carries the plan out.
      rank: which operators a teacher would take, asked once for all trees; of "failures". Quotas hold all the same.
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
    """The worst trees; of the least used operators that apply, the one whose nodes were failed most."""
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
    """Trees and operators by lot."""
    rng = random.Random(f"{seed}/random/{workflows[0].round if workflows else 0}")
    plan = {}
    for workflow in rng.sample(list(workflows), count):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            plan[workflow.root] = rng.choice(options)
    return plan


def _by_failure(
    workflows: Sequence[Workflow], outcomes: Mapping[str, Outcome], chosen: Sequence[Operator], selection: Selection,
    count: int, seed: int, rank: Rank,
) -> Plan:
    """Trees with failures first and the saturated ones last, within the quotas."""
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
        # A failure counts in full for every operator that cures it; without failures the least used operator is taken.
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
    """The next round's held-out trees: grown with the training trees' mix of operators, not from held-out failures."""
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
