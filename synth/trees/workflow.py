"""Workflows: a behaviour tree and its origin. Trees of round 0 are linear: they read the record, then write."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from synth.task import Task
from synth.trees import domains, tree
from synth.trees.domains import Action, Domain

SIMPLIFY = "simplify"  # the `operator` of a tree that was replaced by the simpler tree it had grown from


@dataclasses.dataclass(frozen=True)
class Workflow:
    """One tree of one round.

    id: "<root>@r<round>".
    root: id of the round-0 workflow that this one descends from.
    parent: id of the previous round's workflow that this one was made from; "" in round 0.
    operator: name of the operator applied to the parent's tree, SIMPLIFY if the tree went back to the one that the
        parent's had grown from, "" in round 0 and for a tree carried over unchanged.
    round: the flywheel round.
    split: "base" | "train" | "heldout", inherited from the root.
    domain: name in synth/trees/domains.py.
    verb: the action of that domain which the workflow performs.
    tree: the behaviour tree.
    history: (operator, tree) of the workflows whose trees this one grew from, oldest first.
    wording: a teacher's templates for the policy text (synth.teachers.teacher.PLACEHOLDERS); () for the built-in ones.
    """

    id: str
    root: str
    parent: str
    operator: str
    round: int
    split: str
    domain: str
    verb: str
    tree: tree.Node
    history: tuple[tuple[str, tree.Node], ...] = ()
    wording: tuple[str, ...] = ()

    @property
    def spec(self) -> Domain:
        """The domain. Raises KeyError if it is not registered in this process."""
        return domains.find(self.domain)

    @property
    def action(self) -> Action:
        """The action that the legal branches carry out in the end."""
        return next(a for a in self.spec.actions if a.verb == self.verb)

    def grown(self, new_tree: tree.Node, operator: str) -> Workflow:
        """The next round's workflow, in which `operator` made `new_tree` from this tree."""
        return dataclasses.replace(
            self,
            id=f"{self.root}@r{self.round + 1}",
            parent=self.id,
            operator=operator,
            round=self.round + 1,
            tree=tree.number(new_tree),
            history=(*self.history, (self.operator, self.tree)),
        )

    def simplified(self) -> Workflow:
        """The next round's workflow with the simpler tree that this one grew from.

        Raises IndexError if this tree has not grown, that is, if `history` is empty.
        """
        simpler = self.history[-1][1]
        return dataclasses.replace(self.kept(), operator=SIMPLIFY, tree=simpler, history=self.history[:-1])

    def kept(self) -> Workflow:
        """The next round's workflow with the same tree."""
        number = self.round + 1
        return dataclasses.replace(self, id=f"{self.root}@r{number}", parent=self.id, operator="", round=number)

    @classmethod
    def of(cls, task: Task) -> Workflow:
        """The workflow that a task was inverted from, without `history` and `wording`, which tasks do not store."""
        root, verb = tree.from_dict(task.tree), task.user["verb"]
        identifier = f"{task.root}@r{task.round}"
        return cls(identifier, task.root, task.parent, task.operator, task.round, task.split, task.domain, verb, root)

    def to_dict(self) -> dict[str, Any]:
        """The workflow as JSON data."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        history = [[operator, tree.to_dict(root)] for operator, root in self.history]
        return {**record, "tree": tree.to_dict(self.tree), "history": history}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Workflow:
        """Inverse of `to_dict`. Raises KeyError or TypeError for missing or unknown keys, ValueError for a bad tree."""
        history = tuple((operator, tree.from_dict(root)) for operator, root in record["history"])
        root, wording = tree.from_dict(record["tree"]), tuple(record["wording"])
        return cls(**{**record, "tree": root, "history": history, "wording": wording})


def linear(domain: Domain) -> tree.Node:
    """The tree of round 0, with a single path: read the record, then write."""
    return tree.number(tree.Node("action", {"entity": domain.record.kind}, (tree.terminal("write"),)))


def roots(split: str, count: int, chosen: Sequence[Domain], seed: int) -> list[Workflow]:
    """`count` round-0 workflows of a split.

    They rotate through the domains' actions in a random order, so that every split covers these evenly.
    """
    pairs = [(d, a) for a in range(max(len(d.actions) for d in chosen)) for d in chosen if a < len(d.actions)]
    random.Random(f"{seed}/roots/{split}").shuffle(pairs)
    found = []
    for i in range(count):
        domain, action = pairs[i % len(pairs)][0], pairs[i % len(pairs)][0].actions[pairs[i % len(pairs)][1]]
        root = f"{split}-{i:04d}-{domain.name}-{action.verb}"
        found.append(Workflow(f"{root}@r0", root, "", "", 0, split, domain.name, action.verb, linear(domain)))
    return found
