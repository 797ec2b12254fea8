"""Operators: how a problem becomes harder. Each takes (problem, rng, split, focus) and returns a new problem.

`focus` names the operation at which the policy failed most often, or is "". An operator raises ValueError if it cannot
be applied to the problem.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

from synth.problems import graph, trades
from synth.problems.catalogue import OPERATIONS
from synth.problems.graph import Node, Problem
from synth.problems.operation import UNITS, Operation, Value, attempts, base_units

MAX_NODES = 3
MAX_DISTRACTORS = 3


@dataclasses.dataclass(frozen=True)
class Operator:
    """A way of changing a problem.

    answers: the kinds of failure (synth/problems/charge.py) that suggest this operator.
    apply: (problem, rng, split, focus) -> the new problem, see the module's docstring.
    """

    name: str
    answers: tuple[str, ...]
    apply: Callable[[Problem, random.Random, str, str], Problem]


def _wanted(operation: Operation, args: dict, items: list, wish: str, rng: random.Random) -> str:
    """The want `wish` ("price:fig") if the instance has it, else one with the same name before the colon ("price").

    Raises ValueError if there is none.
    """
    found, _ = operation.solve(args, items)
    options = [want for want in found if want.partition(":")[0] == wish.partition(":")[0]]
    if not options:
        raise ValueError(f"{operation.name} has no {wish!r} any more")
    return wish if wish in options else rng.choice(options)


def draw_node(name: str, rng: random.Random, size: int, fixed: dict[str, Value]) -> Node:
    """A random node of an operation, which asks for a random one of its wants.

    Args:
      name: the operation.
      rng: the source of randomness.
      size: about how many items the node gets.
      fixed: slot -> value, for linked slots.
    Raises:
      KeyError: there is no such operation.
      ValueError: no instance was found.
    """
    operation = OPERATIONS[name]
    args, items = attempts(lambda: operation.draw(rng, size, fixed))
    return {"op": name, "args": args, "items": items, "want": rng.choice(list(operation.solve(args, items)[0]))}


def _redrawn(problem: Problem, rng: random.Random, sizes: list[int]) -> Problem:
    """The same graph with newly drawn numbers and `sizes[i]` items in node i. Raises ValueError if a draw fails."""
    nodes: list[Node] = []
    for node, size in zip(problem.nodes, sizes, strict=True):
        operation = OPERATIONS[node["op"]]
        refs = {name: value for name, value in node["args"].items() if isinstance(value, dict) and "ref" in value}
        known = graph.solve(Problem(nodes, [], problem.persona)).values
        fixed = {}
        for name, value in refs.items():
            slot, inner = operation.slots[name], known[value["ref"]]
            if not graph.admits(slot.low, slot.high, inner):
                raise ValueError(f"{node['op']}.{name} does not admit {inner}")
            fixed[name] = int(inner)
        args, items = operation.draw(rng, size, fixed)
        want = _wanted(operation, args, items, node["want"], rng)
        nodes.append({"op": node["op"], "args": {**args, **refs}, "items": items, "want": want})
    distractors = [{**extra, "n": rng.randint(2, 99)} for extra in problem.distractors]
    return Problem(nodes, distractors, problem.persona)


def resample(problem: Problem, rng: random.Random, split: str = "", focus: str = "") -> Problem:
    """The problem with newly drawn numbers, words and clues, but the same operations, sizes and links.

    Raises ValueError if no such problem is found.
    """
    del split, focus
    return attempts(lambda: _redrawn(problem, rng, [len(node["items"]) for node in problem.nodes]))


def _constrain(problem: Problem, rng: random.Random, split: str, focus: str) -> Problem:
    """Adds an item to a node, if possible to one of the operation `focus`."""
    del split
    room = [i for i, node in enumerate(problem.nodes) if len(node["items"]) < OPERATIONS[node["op"]].most]
    if not room:
        raise ValueError("every node is as big as it may be")
    index = rng.choice([i for i in room if problem.nodes[i]["op"] == focus] or room)
    node = problem.nodes[index]
    operation = OPERATIONS[node["op"]]
    if operation.extend is None:
        sizes = [len(n["items"]) + (i == index) for i, n in enumerate(problem.nodes)]
        return attempts(lambda: _redrawn(problem, rng, sizes))

    def make() -> Problem:
        values = graph.solve(problem).values
        bound = {k: values[v["ref"]] if isinstance(v, dict) and "ref" in v else v for k, v in node["args"].items()}
        bound = {k: v if isinstance(v, (str, list)) else int(v) for k, v in bound.items()}
        items = operation.extend(rng, bound, node["items"])
        nodes = [*problem.nodes[:index], {**node, "items": items}, *problem.nodes[index + 1 :]]
        longer = dataclasses.replace(problem, nodes=nodes)
        graph.solve(longer)
        return longer

    return attempts(make)


def _compose(problem: Problem, rng: random.Random, split: str, focus: str) -> Problem:
    """Adds a node of a family that the problem does not have yet. It starts from a value of the last node so far."""
    del split, focus
    if len(problem.nodes) >= MAX_NODES:
        raise ValueError(f"{MAX_NODES} nodes already")
    last = problem.nodes[-1]
    solution = graph.solve(problem)
    wants = {last["want"]: solution.values[-1], **solution.others}
    used = set(problem.families)

    def make() -> Problem:
        operation = rng.choice([op for op in OPERATIONS.values() if op.links and op.family not in used])
        slot = operation.links[0]
        low, high = operation.slots[slot].low, operation.slots[slot].high
        fitting = [want for want, value in wants.items() if graph.admits(low, high, value)]
        if not fitting:
            raise ValueError(f"{operation.name}.{slot} admits no value")
        want = last["want"] if last["want"] in fitting else rng.choice(fitting)
        node = draw_node(operation.name, rng, 2, {slot: int(wants[want])})
        node["args"][slot] = {"ref": len(problem.nodes) - 1}
        longer = dataclasses.replace(problem, nodes=[*problem.nodes[:-1], {**last, "want": want}, node])
        graph.solve(longer)
        return longer

    return attempts(make)


def _unknown(problem: Problem, rng: random.Random, split: str, focus: str) -> Problem:
    """Asks for a different value of the last node."""
    del split, focus
    others = list(graph.solve(problem).others)
    if not others:
        raise ValueError("nothing else to ask for")
    return dataclasses.replace(problem, nodes=[*problem.nodes[:-1], {**problem.nodes[-1], "want": rng.choice(others)}])


def _distract(problem: Problem, rng: random.Random, split: str, focus: str) -> Problem:
    """Draws new numbers and adds a distractor: a number on which nothing depends."""
    told = [extra["kind"] for extra in problem.distractors]
    kinds = [kind for kind in trades.DISTRACTORS if kind not in told]
    if len(told) >= MAX_DISTRACTORS:
        raise ValueError(f"{MAX_DISTRACTORS} distractors already")
    extra = {"kind": rng.choice(kinds), "n": rng.randint(2, 99), "node": rng.randrange(len(problem.nodes))}
    other = resample(problem, rng, split, focus)
    distractors = sorted([*other.distractors, extra], key=lambda found: found["node"])
    return dataclasses.replace(other, distractors=distractors)


def _other_unit(value: Any) -> Any:
    """A quantity in another unit of its dimension, if it is a whole number there; any other value unchanged."""
    if not (isinstance(value, dict) and "unit" in value):
        return value
    table = next(table for table in UNITS.values() if value["unit"] in table)
    for unit, factor in table.items():
        if unit != value["unit"] and (base_units(value) / factor).denominator == 1:
            return {"n": int(base_units(value) / factor), "unit": unit}
    return value


def _move(problem: Problem, rng: random.Random, split: str, focus: str) -> Problem:
    """Draws new numbers, and tells the problem by a persona of another trade and in other units."""
    other = resample(problem, rng, split, focus)
    options = [p for p in trades.personas(split) if p.trade != problem.persona.trade]
    nodes = copy.deepcopy(other.nodes)
    for node in nodes:
        node["items"] = [{name: _other_unit(value) for name, value in item.items()} for item in node["items"]]
    return dataclasses.replace(other, nodes=nodes, persona=rng.choice(options))


OPERATORS: dict[str, Operator] = {
    o.name: o
    for o in (
        Operator("resample", ("step", "answer"), resample),
        Operator("constrain", ("step",), _constrain),
        Operator("compose", ("link", "answer"), _compose),
        Operator("unknown", ("unknown",), _unknown),
        Operator("distract", ("answer",), _distract),
        Operator("move", ("unit",), _move),
    )
}


def select(names: str) -> list[Operator]:
    """The operators in a comma-separated list of names.

    Raises ValueError for an empty list or unknown names (the message names them).
    """
    wanted = [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in OPERATORS]
    if unknown or not wanted:
        known = ", ".join(OPERATORS)
        raise ValueError(f"reasoning.operators: unknown {unknown or names!r}, expected some of {known}")
    return [OPERATORS[n] for n in wanted]
