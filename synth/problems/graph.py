"""A problem: an expression graph (nodes in order, each may use the values of earlier ones), distractors, a persona.

A node is {"op": operation, "args": {slot: value or {"ref": index of an earlier node}}, "items": [...], "want": name}.
Its value is the value of its want; the last node's is the problem's answer.
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
    """nodes: see the module. distractors: [{"kind", "n", "node": the node it is told in}], in the order told."""

    nodes: list[Node]
    distractors: list[dict[str, Any]]
    persona: Persona

    def to_dict(self) -> dict[str, Any]:
        """JSON data; `from_dict` is the inverse."""
        return {"nodes": self.nodes, "distractors": self.distractors, "persona": self.persona.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Problem:
        """Inverse of `to_dict`."""
        return cls(record["nodes"], record["distractors"], Persona(**record["persona"]))

    @property
    def families(self) -> list[str]:
        """The family of each node."""
        return [OPERATIONS[node["op"]].family for node in self.nodes]


@dataclasses.dataclass(frozen=True)
class Solution:
    """values: of each node. steps: of each node. others: values of the last node's other wants."""

    values: list[Value]
    steps: list[Steps]
    others: dict[str, Value]


def _bound(node: Node, values: list[Value]) -> dict[str, Any]:
    """The node's args with references replaced. Raises ValueError for a value that the slot does not admit."""
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
    """Whether a value is a whole number in these bounds."""
    return not isinstance(value, str) and Fraction(value).denominator == 1 and low <= value <= high


def solve(problem: Problem) -> Solution:
    """Every node's value. Raises ValueError where a node has none."""
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
    """The answer, found by every operation's other way. Raises ValueError where there is none."""
    values: list[Value] = []
    for node in problem.nodes:
        values.append(OPERATIONS[node["op"]].check(_bound(node, values), node["items"])[node["want"]])
    return values[-1]


def answer_text(value: Value) -> str:
    """An answer as it is written down: "12", "3/8", "amber"."""
    return str(value)


def fingerprint(problem: Problem) -> str:
    """Equal for problems that differ in persona, distractors and wording at most."""
    return hashlib.sha256(json.dumps(problem.nodes, sort_keys=True).encode()).hexdigest()
