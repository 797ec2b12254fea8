"""Rounds of tasks: the legal share, which trees grow and how, splits that never meet, the same bytes everywhere."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from envs import world
from rl.warmstart import tiny
from synth import generate, operators, personas
from synth.growth import selection
from synth.growth.selection import Outcome, Selection
from synth.inversion import script
from synth.trees import domains, tree, workflow

REPOSITORY = Path(__file__).parents[2]
OPERATORS = operators.select(tiny.OPERATORS)


def roots(split, count, seed=0):
    return workflow.roots(split, count, domains.select("all"), seed)


def outcomes(flows, seed):
    """What some policy did with these trees, drawn at random."""
    rng = random.Random(seed)
    kinds = {flow.id: sorted({node.kind for node in tree.nodes(flow.tree)}) for flow in flows}
    return {
        name: Outcome(16, passes := rng.randint(0, 16), tuple(rng.choices(found, k=16 - passes)))
        for name, found in kinds.items()
    }


def legal_share(tasks):
    return sum(task.legal for task in tasks) / len(tasks)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("measured", [False, True], ids=["unmeasured", "measured"])
def test_legal_share_from_round_one_on(seed, measured):
    train, heldout = roots("train", 64, seed), roots("heldout", 48, seed)
    assert legal_share(generate.tasks(train, 2, 0.5, seed)) == 1.0, "linear workflows have no other branch"
    for _ in range(3):
        train = selection.grow(train, outcomes(train, seed) if measured else {}, OPERATORS, Selection(share=1.0), seed)
        heldout = selection.grow_like(heldout, train, seed)
        assert 0.4 <= legal_share(generate.tasks(train, 2, 0.5, seed)) <= 0.6
        assert 0.4 <= legal_share(generate.tasks(heldout, 2, 0.5, seed)) <= 0.6


def test_each_tree_that_can_has_a_legal_and_an_illegal_task():
    flows = [operators.expand(flow, operators.OPERATORS["guard"], 0) for flow in roots("train", 20)]
    tasks = generate.tasks(flows, 2, 0.5, 0)
    expected = {(flow.root, legal): 1 for flow in flows for legal in (True, False)}
    assert Counter((task.root, task.legal) for task in tasks) == expected
    assert legal_share(generate.tasks(flows, 4, 0.25, 0)) == 0.25
    assert [task.id for task in tasks] == sorted(task.id for task in tasks)


def test_illegal_tasks_of_able_trees_make_up_for_the_others():
    flows = roots("train", 20)
    able = [operators.expand(flow, operators.OPERATORS["hidden"], 0) for flow in flows[:10]]
    tasks = generate.tasks([*able, *flows[10:]], 2, 0.5, 0)
    assert {task.root for task in tasks if not task.legal} == {flow.root for flow in able}
    assert legal_share(tasks) == 0.5


def test_a_rule_decides_as_many_tasks_as_is_wanted():
    """... without a tree being likelier to be refused for having a rule, and never more than are not legal."""
    flows = roots("train", 40)
    ruled = [operators.expand(flow, operators.OPERATORS["guard"], 0) for flow in flows]
    both, consent = (
        [operators.expand(flow, operators.OPERATORS["confirm"], 0) for flow in some] for some in (ruled, flows[:10])
    )
    for refused_share, expected in ((0.1, 0.1), (0.3, 0.3), (0.5, 0.5), (0.9, 0.5)):
        tasks = generate.tasks(both, 2, 0.5, 0, refused_share)
        assert legal_share(tasks) == 0.5
        refused = [task for task in tasks if any(s.get("call") in ("decline", "transfer") for s in task.oracle)]
        assert len(refused) == expected * len(tasks)
        assert max(Counter(task.root for task in refused).values()) == 1
    tasks = generate.tasks([*consent, *both[10:]], 2, 0.5, 0, 0.5)
    assert legal_share(tasks) == 0.5, "trees without a rule have users that refuse consent"
    polite = {task.id: world.reward(task, script.constant(task, "read_ask_confirm_write")) == 1.0 for task in tasks}
    assert sum(polite.values()) == 40 + 10, "the legal ones, and those in which only consent is refused"


def test_grow_expands_the_worst_first():
    flows = roots("train", 12)
    rates = {flow.id: Outcome(episodes=10, passes=i % 6) for i, flow in enumerate(flows)}
    grown = selection.grow(flows, rates, OPERATORS, Selection(share=0.5), 0)
    assert [flow.root for flow in grown] == [flow.root for flow in flows]
    expanded = {flow.parent for flow in grown if flow.operator}
    assert expanded == {flow.id for i, flow in enumerate(flows) if i % 6 < 3}
    for before, after in zip(flows, grown):
        assert after.round == 1 and after.id == f"{before.root}@r1" and after.parent == before.id
        assert (after.tree == before.tree) == (not after.operator)
    assert all(flow.operator for flow in selection.grow(flows, rates, OPERATORS, Selection(share=1.0), 0))
    assert not any(flow.operator for flow in selection.grow(flows, rates, OPERATORS, Selection(share=0.0), 0))


def test_pass_rate_of_a_few_episodes_is_not_taken_for_certain():
    assert Outcome().pass_rate == 0.5
    assert Outcome(episodes=2, passes=2).pass_rate == 0.75  # (2 + 1) / (2 + 2)
    assert Outcome(episodes=98, passes=98).pass_rate == 0.99


def test_grow_uses_operators_evenly():
    flows = roots("train", 22)
    grown = selection.grow(flows, outcomes(flows, 0), OPERATORS, Selection(share=1.0), 0)
    counts = Counter(flow.operator for flow in grown)
    assert sorted(counts.values()) == [5, 5, 6, 6]


def test_failures_choose_among_the_least_used_operators():
    (flow,) = roots("train", 1)
    for kind, fitting in (("confirm", {"confirm"}), ("ask", {"missing"}), ("guard", {"guard", "hidden"})):
        failed = {flow.id: Outcome(8, 2, (kind,) * 5 + ("none",))}
        grown = [selection.grow([flow], failed, OPERATORS, Selection(share=1.0), seed)[0] for seed in range(12)]
        assert {one.operator for one in grown} == fitting
    unmeasured = {selection.grow([flow], {}, OPERATORS, Selection(share=1.0), seed)[0].operator for seed in range(40)}
    assert unmeasured == {operator.name for operator in OPERATORS}


def test_trees_that_cannot_grow_are_kept():
    flows = roots("train", 4)
    for _ in range(domains.DOMAINS["orders"].most_rules + 2):
        flows = selection.grow(flows, {}, OPERATORS, Selection(share=1.0), 0)
    kept = selection.grow(flows, {}, OPERATORS, Selection(share=1.0), 0)
    assert [flow.operator for flow in kept] == [""] * 4
    assert [flow.tree for flow in kept] == [flow.tree for flow in flows]
    assert kept[0].round == flows[0].round + 1


def test_grow_like_follows_the_mix_of_the_training_trees():
    train, heldout = roots("train", 40), roots("heldout", 300)
    guard, confirm = operators.OPERATORS["guard"], operators.OPERATORS["confirm"]
    examples = [
        *(operators.expand(flow, guard, 0) for flow in train[:20]),
        *(operators.expand(flow, confirm, 0) for flow in train[20:30]),
        *(flow.kept() for flow in train[30:]),
    ]
    counts = Counter(flow.operator for flow in selection.grow_like(heldout, examples, 0))
    assert set(counts) == {"guard", "confirm", ""}
    for name, share in (("guard", 0.5), ("confirm", 0.25), ("", 0.25)):
        assert abs(counts[name] / 300 - share) < 0.08  # 3 standard errors of a share of 300
    only_kept = selection.grow_like(heldout[:5], examples[30:], 0)
    assert [flow.operator for flow in only_kept] == [""] * 5
    assert {flow.split for flow in only_kept} == {"heldout"}


def test_splits_share_no_root_and_no_persona():
    found = {split: personas.personas(split) for split in personas.SPLITS}
    everyone = [persona for split in found.values() for persona in split]
    assert len(set(everyone)) == len(everyone)
    assert max(map(len, found.values())) - min(map(len, found.values())) <= 1
    flows = {split: roots(split, 60) for split in personas.SPLITS}
    names = [flow.root for split in flows.values() for flow in split]
    assert len(set(names)) == len(names)
    for split, started in flows.items():
        grown = selection.grow(started, {}, OPERATORS, Selection(share=1.0), 0)
        assert {flow.split for flow in grown} == {split}
        assert [flow.root for flow in grown] == [flow.root for flow in started]
        for task in generate.tasks(grown, 2, 0.5, 0):
            assert task.root.startswith(f"{split}-")
            assert any(speaks(persona, task) for persona in found[split]), task.id


def speaks(persona, task):
    """Whether this persona would word the task's user as the task does."""
    domain, user = domains.DOMAINS[task.domain], task.user
    details = {} if user["withheld"] else user["slots"]
    request = persona.ask(user["verb"], domain.record.kind, user["record_id"], details)
    return (request, persona.yes, persona.no) == (user["request"], user["yes"], user["no"])


def test_roots_cover_domains_and_actions_evenly():
    counts = Counter((flow.domain, flow.verb) for flow in roots("heldout", 50))
    assert len(counts) == sum(len(domain.actions) for domain in domains.DOMAINS.values())
    assert set(counts.values()) == {2, 3}
    assert len(domains.DOMAINS) >= 8


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="synth.domains: unknown .*'zoos'"):
        domains.select("orders,zoos")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        personas.personas("test")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        world.tasks("test")


def test_world_tasks_of_both_splits():
    train, heldout = (world.tasks(split, rounds=2, roots=6) for split in ("train", "heldout"))
    assert len(train) == len(heldout) == 24
    assert not {task.root for task in train} & {task.root for task in heldout}
    assert {task.round for task in train} == {0, 1}


DIGEST = """
import hashlib
from synth import generate, operators
from synth.growth import selection
from synth.trees import domains, workflow
digest = hashlib.sha256()
for split in ("train", "heldout"):
    flows = workflow.roots(split, 12, domains.select("all"), 11)
    for number in range(4):
        for task in generate.tasks(flows, 2, 0.5, 11):
            digest.update(task.to_json().encode())
        chosen = operators.select("all")
        seen = {flow.id: selection.Outcome(4, i % 5) for i, flow in enumerate(flows)}
        grown = selection.grow(flows, seen, chosen, selection.Selection(share=0.7), 11)
        flows = grown if split == "train" else selection.grow_like(flows, grown, 11)
print(digest.hexdigest())
"""


def test_two_processes_write_the_same_bytes():
    digests = set()
    for hash_seed in ("1", "2"):  # another order of every set and of every dict made from one
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        digests.add(run.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())


def test_seeds_make_different_tasks():
    first, second = (generate.tasks(roots("train", 6, seed), 1, 0.5, seed) for seed in (0, 1))
    assert {task.to_json() for task in first}.isdisjoint(task.to_json() for task in second)
    assert [t.to_json() for t in first] == [t.to_json() for t in generate.tasks(roots("train", 6), 1, 0.5, 0)]
