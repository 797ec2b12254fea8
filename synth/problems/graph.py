"""A problem: an expression graph, distractors and a persona.

The graph is a list of nodes, each of which may use the values of earlier ones. A node is
{"op": operation, "args": {slot: value or {"ref": index of an earlier node}}, "items": [...], "want": name}.
The value of a node is the one that its want names. The value of the last node is the problem's answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from fractions import Fraction
from typing import Any

from synth.problems.catalogue import OPERATIONS
from synth.problems.operation import Steps, Value
from synth.problems.trades import Persona

Node = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem.

    nodes: the expression graph, see the module's docstring.
    distractors: [{"kind", "n": its number, "node": index of the node that it is told with}], in the order of the text.
    persona: who tells the problem.
    """

    nodes: list[Node]
    distractors: list[dict[str, Any]]
    persona: Persona

    def to_dict(self) -> dict[str, Any]:
        """The problem as JSON data."""
        return {"nodes": self.nodes, "distractors": self.distractors, "persona": self.persona.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Problem:
        """Inverse of `to_dict`. Raises KeyError or TypeError for missing or unknown keys."""
        return cls(record["nodes"], record["distractors"], Persona(**record["persona"]))

    @property
    def families(self) -> list[str]:
        """The family of each node."""
        return [OPERATIONS[node["op"]].family for node in self.nodes]


@dataclasses.dataclass(frozen=True)
class Solution:
    """What solving a problem yields.

    values: the value of each node. steps: the steps of each node.
    others: want -> value, for the wants of the last node that it does not ask for.
    """

    values: list[Value]
    steps: list[Steps]
    others: dict[str, Value]


def _bound(node: Node, values: list[Value]) -> dict[str, Any]:
    """The node's args with references replaced by `values`. Raises ValueError for a value out of the slot's bounds."""
    bound, slots = {}, OPERATIONS[node["op"]].slots
    for name, value in node["args"].items():
        if isinstance(value, dict) and "ref" in value:
            value, slot = values[value["ref"]], slots[name]
            if not admits(slot.low, slot.high, value):
                raise ValueError(f"{node['op']}.{name}: {value!r} is no whole number from {slot.low} to {slot.high}")
            value = int(value)
        bound[name] = value
    return bound


def admits(low: int, high: int, value: Value) -> bool:
    """Whether a value is a whole number from `low` to `high`, both included."""
    return not isinstance(value, str) and Fraction(value).denominator == 1 and low <= value <= high


def solve(problem: Problem) -> Solution:
    """The values of all nodes. Raises ValueError if a node has no value, or a reference a value out of bounds."""
    values, steps, others = [], [], {}
    for node in problem.nodes:
        found, trace = OPERATIONS[node["op"]].solve(_bound(node, values), node["items"])
        if node["want"] not in found:
            raise ValueError(f"{node['op']} has no value {node['want']!r}, it has {sorted(found)}")
        values.append(found[node["want"]])
        steps.append(trace)
        others = {want: value for want, value in found.items() if want != node["want"]}
    return Solution(values, steps, others)


def check(problem: Problem) -> Value:
    """The answer, computed by each operation's second method (`Operation.check`).

    Raises ValueError if a node has no value, KeyError if its want does not exist.
    """
    values: list[Value] = []
    for node in problem.nodes:
        values.append(OPERATIONS[node["op"]].check(_bound(node, values), node["items"])[node["want"]])
    return values[-1]


def answer_text(value: Value) -> str:
    """An answer as text: "12", "3/8", "amber"."""
    return str(value)


def fingerprint(problem: Problem) -> str:
    """A hash (hexadecimal SHA-256) that is equal for problems that differ only in persona, distractors and wording."""
    return hashlib.sha256(json.dumps(problem.nodes, sort_keys=True).encode()).hexdigest()
