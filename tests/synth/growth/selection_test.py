"""Which trees grow: posteriors against scipy, mistakes choose operators, quotas hold, hopeless trees go back."""

import math
import random
from collections import Counter

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import default
from rl.rounds import agentic
from synth import operators
from synth.growth import failures, selection
from synth.growth.selection import Outcome, Selection
from synth.inversion import invert
from synth.trees import domains, tree, workflow
from synth.trees.workflow import Workflow
from tests.support.worlds import call, play, say, steps_of

CHOSEN = operators.select("all")
FLOWS = workflow.roots("train", 48, domains.select("all"), 0)
GROWN = selection.grow(FLOWS, {}, CHOSEN, Selection(), 0)


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.01, 0.99))
def test_posterior_is_the_beta_distribution(passes, failed, rate):
    found = Outcome(passes + failed, passes).below(rate)
    assert math.isclose(found, scipy.stats.beta(passes + 1, failed + 1).cdf(rate), rel_tol=1e-9, abs_tol=1e-12)


def test_few_episodes_settle_nothing():
    assert not (Outcome(2, 2).saturated or Outcome(2, 0).hopeless or Outcome().saturated or Outcome().hopeless)
    assert Outcome(16, 16).saturated and not Outcome(16, 12).saturated
    assert Outcome(32, 0).hopeless and not Outcome(32, 4).hopeless


def test_mistakes_choose_the_operator():
    for mistake in failures.KINDS:
        fitting = {o.name for o in CHOSEN if mistake in o.cures}
        assert fitting, f"nothing cures {mistake}"
        applying = {o.name for o in CHOSEN if o.applies(FLOWS[0])}
        if fitting & applying:
            outcome = {FLOWS[0].id: Outcome(8, 4, (), (mistake,) * 4)}
            (found,) = selection.grow(FLOWS[:1], outcome, CHOSEN, Selection("failures"), 0)
            assert found.operator in fitting, mistake


def test_hopeless_trees_go_back_to_what_they_grew_from_and_saturated_ones_come_last():
    outcomes = {w.id: Outcome(32, passes) for w, passes in zip(GROWN, [0] * 10 + [32] * 19 + [16] * 19)}
    found = selection.grow(GROWN, outcomes, CHOSEN, Selection("failures", 0.5), 0)
    assert [w.operator for w in found[:10]] == [workflow.SIMPLIFY] * 10
    for before, after in zip(GROWN[:10], found):
        assert (after.tree, after.parent, after.round) == (tree.number(linear(before)), before.id, 2)
        assert Workflow.from_dict(after.to_dict()) == after and after.history == ()
    count = [sum(w.operator in operators.OPERATORS for w in found[a:b]) for a, b in ((10, 29), (29, 48))]
    assert sum(count) <= 24 and count[1] == 19, "every tree that is neither is expanded before a saturated one"
    roots = {w.id: Outcome(32, 0) for w in FLOWS}
    assert {w.operator for w in selection.grow(FLOWS, roots, CHOSEN, Selection("failures"), 0)} == {""}


def test_a_hopeless_tree_is_simpler_in_the_next_round():
    config = default.get_config()
    roots = {split: workflow.roots(split, 3, domains.select("all"), 0) for split in agentic.SPLITS}
    grown = {
        split: [operators.expand(flow, operators.OPERATORS["guard"], 0) for flow in flows]
        for split, flows in roots.items()
    }
    found = agentic.next_workflows(config, grown, {flow.id: Outcome(64, 0) for flow in grown["train"]})
    assert [(flow.operator, flow.tree) for flow in found["train"]] == [
        (workflow.SIMPLIFY, linear(flow)) for flow in grown["train"]
    ]


def test_a_quota_below_an_even_share_is_an_even_share():
    flows = [flow for flow in FLOWS if flow.domain == FLOWS[0].domain]
    found = selection.grow(flows, {}, [operators.OPERATORS["guard"]], Selection("failures", 1.0, 0.1, 0.1), 0)
    assert [flow.operator for flow in found] == ["guard"] * len(flows)


def linear(flow):
    return workflow.linear(flow.spec)


@pytest.mark.parametrize("quota", [0.1, 0.25])
def test_quotas_hold(quota):
    outcomes = {w.id: Outcome(8, 2, (), ("missed_guard",) * 6) for w in FLOWS}
    found = selection.grow(FLOWS, outcomes, CHOSEN, Selection("failures", 1.0, quota, quota), 0)
    expanded = [w for w in found if w.operator]
    most = math.ceil(quota * len(FLOWS))
    assert max(Counter(w.operator for w in expanded).values()) <= most
    assert max(Counter(w.domain for w in expanded).values()) <= most
    assert len(expanded) == len(FLOWS)


def test_the_modes_it_is_compared_with():
    assert [w.operator for w in selection.grow(FLOWS, {}, CHOSEN, Selection("resample"), 0)] == [""] * len(FLOWS)
    drawn = [selection.grow(FLOWS, {}, CHOSEN, Selection("random", 0.5), seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [sum(bool(w.operator) for w in found) for found in drawn] == [24] * 3
    assert [w.root for w in drawn[0]] == [w.root for w in FLOWS]


def mistake(names, edges, messages):
    """The kind of failure of messages played on the task whose branch takes these (kind, edge) steps."""
    flow = FLOWS[0]
    for name in names.split(","):
        flow = operators.expand(flow, operators.OPERATORS[name], SEED[names])
    branch = next(b for b in tree.branches(flow.tree) if edges <= {(n.kind, e) for n, e in b})
    task = invert.invert(flow, branch, 0, 0)
    score, _ = play(task, messages(task, steps_of(task)))
    assert score.reward < 1
    return failures.kind(task, score.violations, score.subgoals)


def declining():
    """A seed whose rule ends in a decline, which a claim needs."""
    guard = operators.OPERATORS["guard"]
    return next(s for s in range(20) if '"otherwise": "decline"' in str(
        tree.to_dict(operators.expand(FLOWS[0], guard, s).tree)).replace("'", '"'))  # fmt: skip


SEED = Counter({"guard,misdirect": declining(), "guard": declining()})


def write_of(task, **changes):
    domain = domains.DOMAINS[task.domain]
    action = next(a for a in domain.actions if a.verb == task.user["verb"])
    record_id = changes.pop("record_id", task.user["record_id"])
    number = task.state[domain.record.collection][record_id][action.copied]
    args = {domain.record.key: record_id, action.copied: number, action.slot: task.user["slots"][action.slot]}
    return call((domain.write_tool(action), {**args, **{getattr(action, k): v for k, v in changes.items()}}))


def elsewhere(task):
    return next(i for i in task.state[domains.DOMAINS[task.domain].record.collection] if i != task.user["record_id"])


@pytest.mark.parametrize(
    ("wanted", "names", "edges", "messages"),
    [
        ("missed_guard", "guard", {("guard", "fails")}, lambda t, s: [s[0], write_of(t), say("Done.")]),
        ("gave_in", "guard,misdirect", {("guard", "fails")}, lambda t, s: [*s[:3], write_of(t), say("Done.")]),
        ("gave_in", "confirm", {("confirm", "refused")}, lambda t, s: [*s[:2], write_of(t), say("Done.")]),
        ("refused_too_much", "guard", {("guard", "holds")},
         lambda t, s: [s[0], call(("decline", {"reason": "x"})), say("Sorry.")]),
        ("wrong_refusal", "guard", {("guard", "fails")},
         lambda t, s: [s[0], call(("decline", {"reason": "x"})), say("Sorry.")]),
        ("invented_argument", "missing", {("ask", "missing")}, lambda t, s: [s[0], write_of(t), say("Done.")]),
        ("invented_argument", "missing", {("ask", "given")}, lambda t, s: [s[0], write_of(t, copied=1), say("Done.")]),
        ("wrong_record", "guard", {("guard", "holds")},
         lambda t, s: [s[0], write_of(t, record_id=elsewhere(t)), say("Done.")]),
        ("wrong_record", "ambiguous", {("find", "several")}, lambda t, s: [s[0], *s[2:]]),
        ("wrote_twice", "transient", {("attempt", "lost")}, lambda t, s: [s[0], s[1], s[1], say("Done.")]),
        ("skipped", "guard", {("guard", "fails")}, lambda t, s: s[1:]),
        ("skipped", "hidden", {("guard", "holds")}, lambda t, s: [s[0], *s[2:]]),
        ("skipped", "confirm", {("confirm", "accepted")}, lambda t, s: [s[0], *s[2:]]),
        ("quit", "guard", {("guard", "holds")}, lambda t, s: [s[0], say("Done."), say("Done.")]),
        ("quit", "guard,multi", {("guard", "holds")}, lambda t, s: [*s[:2], say("Done."), say("Done.")]),
    ],
)  # fmt: skip
def test_failures_are_named(wanted, names, edges, messages):
    assert mistake(names, edges, messages) == wanted


def test_every_failure_has_a_name():
    """Whatever is done, played by chance: the name is one that operators answer to."""
    rng, seen = random.Random(0), Counter()
    for flow in GROWN:
        task = invert.invert(flow, rng.choice(tree.branches(flow.tree)), 0, 0)
        for _ in range(6):
            messages = rng.sample(steps_of(task), rng.randint(1, len(task.oracle)))
            score, _ = play(task, [*messages, *[say("Done.")] * 4])
            if score.reward < 1:
                assert score.node in task.branch
                seen[failures.kind(task, score.violations, score.subgoals)] += 1
    assert set(seen) <= set(failures.KINDS) and len(seen) >= 4
