"""Workflows: a behaviour tree and where it came from. Round 0 is linear: nothing is in the way of the write."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from synth.task import Task
from synth.trees import domains, tree
from synth.trees.domains import Action, Domain

SIMPLIFY = "simplify"  # stands where an operator's name does, if a tree was put back to the one it grew from


@dataclasses.dataclass(frozen=True)
class Workflow:
    """One tree of one round.

    id: "<root>@r<round>". root: the round-0 workflow it descends from. parent: the workflow it was expanded from, "" in
    round 0. operator: what was applied to the parent (SIMPLIFY: it was put in its place). split: "base" | "train" |
    "heldout", inherited from the root.
    history: (operator, tree) of the ancestors that it grew from, oldest first. wording: a teacher's templates of the
    policy (synth/teacher.PLACEHOLDERS), () for the built-in ones.
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
        """The domain's data."""
        return domains.DOMAINS[self.domain]

    @property
    def action(self) -> Action:
        """The write at the end of the legal branches."""
        return next(a for a in self.spec.actions if a.verb == self.verb)

    def grown(self, new_tree: tree.Node, operator: str) -> Workflow:
        """The child workflow of the next round."""
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
        """The tree it grew from, carried into the next round in its place. Raises IndexError for a root's."""
        simpler = self.history[-1][1]
        return dataclasses.replace(self.kept(), operator=SIMPLIFY, tree=simpler, history=self.history[:-1])

    def kept(self) -> Workflow:
        """The same tree carried into the next round unexpanded."""
        number = self.round + 1
        return dataclasses.replace(self, id=f"{self.root}@r{number}", parent=self.id, operator="", round=number)

    @classmethod
    def of(cls, task: Task) -> Workflow:
        """The workflow that a task was inverted from."""
        root, verb = tree.from_dict(task.tree), task.user["verb"]
        identifier = f"{task.root}@r{task.round}"
        return cls(identifier, task.root, task.parent, task.operator, task.round, task.split, task.domain, verb, root)

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `from_dict` is the inverse."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        history = [[operator, tree.to_dict(root)] for operator, root in self.history]
        return {**record, "tree": tree.to_dict(self.tree), "history": history}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Workflow:
        """Inverse of `to_dict`."""
        history = tuple((operator, tree.from_dict(root)) for operator, root in record["history"])
        root, wording = tree.from_dict(record["tree"]), tuple(record["wording"])
        return cls(**{**record, "tree": root, "history": history, "wording": wording})


def linear(domain: Domain) -> tree.Node:
    """Read the record, write: the one-path tree of round 0."""
    return tree.number(tree.Node("action", {"entity": domain.record.kind}, (tree.terminal("write"),)))


def roots(split: str, count: int, chosen: Sequence[Domain], seed: int) -> list[Workflow]:
    """`count` round-0 workflows of a split, domains and actions in rotation, so every split covers them evenly."""
    pairs = [(d, a) for a in range(max(len(d.actions) for d in chosen)) for d in chosen if a < len(d.actions)]
    random.Random(f"{seed}/roots/{split}").shuffle(pairs)
    found = []
    for i in range(count):
        domain, action = pairs[i % len(pairs)][0], pairs[i % len(pairs)][0].actions[pairs[i % len(pairs)][1]]
        root = f"{split}-{i:04d}-{domain.name}-{action.verb}"
        found.append(Workflow(f"{root}@r0", root, "", "", 0, split, domain.name, action.verb, linear(domain)))
    return found
