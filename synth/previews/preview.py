"""Previews for a person who judges a set of tasks: the gates' table, diversity, trees and tasks in full."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from synth.gating import gates
from synth.inversion import script
from synth.keys import Keys
from synth.task import Task
from synth.trees import expr, tree

Figures = dict[str, Any]


def shape(root: tree.Node) -> str:
    """The form of a tree as text: kinds, marks, comparisons and outcomes, without fields, values and reasons."""
    marks = sorted(name for name, value in root.spec.items() if value is True)
    known = [root.spec[name] for name in ("outcome", "otherwise", "count") if name in root.spec]
    known += [root.spec["condition"]["op"]] if root.kind == "guard" else []
    return f"{root.kind}{marks}{known}({','.join(shape(child) for child in root.children)})"


def figures(tasks: Iterable[tuple[str, Task]], notes: Iterable[Figures], last: int, reward: gates.Reward) -> Figures:
    """The figures that --stage=synth reports on one or more rounds; memory use does not grow with the number of tasks.

    Args:
      tasks: (split, accepted task), at least one; those of "train" come before those of "heldout".
      notes: what the gates noted on every candidate (synth.gating.gates.passing).
      last: the round whose tasks the constant policies play (synth.inversion.script.CONSTANTS).
      reward: plays steps in a fresh episode and returns the reward.
    """
    outcomes: dict[str, Counter] = {}  # outcome -> number of tasks in the last round, and of passes by each policy
    split_of, operators, names, known = Counter(), Counter(), set(), Keys()
    made, legal = Counter(), Counter()  # (round, split) -> number of tasks, number of legal tasks
    count = Counter(dict.fromkeys(("turns", "trees", "shapes", "branches", "policies", "both"), 0))
    for split, task in tasks:
        split_of[split] += 1
        operators[task.operator or "none"] += 1
        names.add(task.domain)
        made[task.round, split] += 1
        legal[task.round, split] += task.legal
        count["turns"] += len(task.oracle)
        count["policies"] += known.add(("policy", task.policy))
        if known.add(("root", task.root, task.round)):
            root = tree.from_dict(task.tree)
            count["trees"] += 1
            count["shapes"] += known.add(("shape", shape(root)))
            count["branches"] += len(tree.branches(root))
        if task.round == last:
            found = outcomes.setdefault(outcome(task), Counter())
            found["tasks"] += 1
            for name in script.CONSTANTS:
                found[name] += reward(task, script.constant(task, name)) == 1.0
        canonical = gates.canonical(task)
        if split == "train":
            known.add(("tree", canonical))
        else:
            count["both"] += known.add(("heldout tree", canonical)) and bool(known.find(("tree", canonical)))
    total = split_of.total()
    return {
        "tasks": dict(split_of),
        "legal_share": {f"round {k}, {split}": round(legal[k, split] / made[k, split], 3) for k, split in sorted(made)},
        "domains": len(names),
        "operators": dict(sorted(operators.items())),
        "trees": count["trees"],
        "shapes": count["shapes"],
        "branches_mean": round(count["branches"] / count["trees"], 1),
        "policies": count["policies"],
        "oracle_turns_mean": round(count["turns"] / total, 1),
        "heldout_trees_also_in_train": count["both"],
        "last_round_by_outcome": {
            name: {"tasks": found["tasks"], **{c: round(found[c] / found["tasks"], 3) for c in script.CONSTANTS}}
            for name, found in [*sorted(outcomes.items()), ("all", sum(outcomes.values(), Counter()))]
        },
        "gates": _gates(notes),
    }


def outcome(task: Task) -> str:
    """How a task ends: its goals' different outcomes, sorted and joined by " + "."""
    leaves = {n.id: n.spec for n in tree.nodes(tree.from_dict(task.tree)) if n.kind == "terminal"}
    ends = [leaves[name] for name in task.branch if name in leaves]
    told = {f"{e['outcome']} (unavailable)" if e["reason"] == "unavailable" else e["outcome"] for e in ends}
    return " + ".join(sorted(told))


def _gates(notes: Iterable[Figures]) -> Figures:
    """Totals over the gates' notes."""
    seen, rejected, worst = 0, Counter(), Counter()
    mutants, survived, twins, flipped, sharing, oracle = 0, 0, 0, 0, 0, 1.0
    for note in notes:
        seen += 1
        if note["problem"]:
            rejected[note["problem"].split(":")[0]] += 1
            continue
        oracle = min(oracle, *note["oracle"])
        sharing += note["id"].startswith("heldout-") and note["other_split"]["grams"] > 0
        mutants += note["mutants"]["made"]
        survived += len(note["mutants"]["survived"])
        for name, reward in note["adversaries"].items():
            worst[name] = max(worst[name], reward)
        if note["twin"]:
            twins += 1
            flipped += note["twin"]["own"] == 1.0 and max(note["twin"]["here"], note["twin"]["there"]) < 1
    return {
        "proposed": seen,
        "kept": seen - sum(rejected.values()),
        "yield": round(1 - sum(rejected.values()) / seen, 3) if seen else 0.0,
        "rejected": dict(rejected),
        "oracle_worst": oracle,
        "adversaries_best": {name: round(reward, 3) for name, reward in sorted(worst.items())},
        "mutants": mutants,
        "mutants_survived": survived,
        "twins": twins,
        "twins_flipped": flipped,
        "heldout_tasks_sharing_13_words_with_train": sharing,
    }


def draw(root: tree.Node, taken: Sequence[str] = (), indent: str = "", edge: str = "") -> list[str]:
    """A tree as indented lines of text.

    Args:
      root: the tree.
      taken: ids of the nodes that are marked with a star.
      indent: what every line begins with.
      edge: the edge that leads to the root; "" for none.
    """
    lines = [f"{indent}{edge + ': ' if edge else ''}{label(root)}{' *' if root.id in taken else ''}"]
    for name, child in zip(tree.EDGES[root.kind], root.children):
        lines += draw(child, taken, indent + "  ", "" if len(root.children) == 1 else name)
    return lines


def label(node: tree.Node) -> str:
    """A node in a few words."""
    spec = node.spec
    if node.kind == "guard":
        return expr.render(spec["condition"]) + "".join(f" [{mark}]" for mark, value in spec.items() if value is True)
    if node.kind == "terminal":
        return f"{spec['outcome']} {spec['reason']}".strip()
    if node.kind == "goals":
        return f"{spec['count']} goals, {'in one request' if spec['together'] else 'one after the other'}"
    return f"{node.kind} {' '.join(map(str, spec.values()))}".strip()


def full(task: Task) -> str:
    """A task as text: policy, user's request, records in play, tree with the right branch, oracle and rubric."""
    ids = [task.user["record_id"], *(goal["record_id"] for goal in task.user.get("later", ()))]
    play = [f"{s['call']}({json.dumps(s['args'])})" if "call" in s else f"says: {s['say']}" for s in task.oracle]
    return "\n".join([
        f"== {task.id}: {task.domain}, {'legal' if task.legal else 'not legal'}, grown by {task.operator or 'nothing'}",
        *(f"  policy: {line}" for line in task.policy.split("\n")),
        f"  user: {task.user['request']}",
        *(f"  {name}[{i}]: {json.dumps(found[i])}" for name, found in task.state.items() for i in ids if i in found),
        *(f"  tree: {line}" for line in draw(tree.from_dict(task.tree), task.branch)),
        *(f"  oracle: {line}" for line in play),
        f"  subgoals: {', '.join(goal['name'] for goal in task.subgoals)}",
        f"  violations: {', '.join(rule['name'] for rule in task.violations)}",
    ])  # fmt: skip
