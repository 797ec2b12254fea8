"""Condition expressions as data: a small JSON AST that code evaluates, negates, solves and renders.

A leaf compares one field of one record with a constant: `{"op": "eq", "field": "order.status", "value": "delivered"}`,
with op in eq, ne, in, le, ge, lt, gt. Inner nodes are `{"op": "and" | "or" | "not", "args": [...]}`. A field reference
is "<entity>.<field>". No text is ever evaluated as code.

All functions but `check` expect a well-formed expression.
"""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Mapping, Sequence
from typing import Any

Expr = dict[str, Any]
ORDERED = {"le", "ge", "lt", "gt"}
_LEAVES = {"eq", "ne", "in", *ORDERED}
_NEGATED = {"eq": "ne", "ne": "eq"}


def check(expr: Expr) -> None:
    """Raises ValueError, saying what is wrong, if `expr` is not a well-formed condition."""
    op = expr.get("op") if isinstance(expr, dict) else None
    if not isinstance(op, str):
        raise ValueError(f"condition {expr!r}: expected an object with an 'op'")
    if op in _LEAVES:
        if set(expr) != {"op", "field", "value"} or not _is_reference(expr["field"]):
            raise ValueError(f"condition {expr!r}: expected keys op, field ('entity.field'), value")
        if op in ORDERED and (isinstance(expr["value"], bool) or not isinstance(expr["value"], int)):
            raise ValueError(f"condition {expr!r}: {op} compares with an integer")
        if op == "in" and not isinstance(expr["value"], list):
            raise ValueError(f"condition {expr!r}: 'in' takes a list of values")
        compared = expr["value"] if op == "in" else [expr["value"]]
        if not all(type(value) in (str, int) for value in compared):
            raise ValueError(f"condition {expr!r}: values are texts and integers")
    elif op in ("and", "or", "not"):
        arguments = expr.get("args")
        if not isinstance(arguments, list) or not arguments or (op == "not" and len(arguments) != 1):
            needed = "one argument" if op == "not" else "arguments"
            raise ValueError(f"condition {expr!r}: {op} needs {needed} in 'args'")
        for argument in arguments:
            check(argument)
    else:
        known = sorted(_LEAVES | {"and", "or", "not"})
        raise ValueError(f"condition {expr!r}: unknown op {op!r}, expected one of {known}")


def _is_reference(field: Any) -> bool:
    """Whether `field` is text of the form "<entity>.<field>"."""
    return isinstance(field, str) and field.count(".") == 1 and all(field.split("."))


def fields(expr: Expr) -> list[str]:
    """The field references in `expr`, in order of first occurrence, each once."""
    found = [expr["field"]] if expr["op"] in _LEAVES else [f for a in expr["args"] for f in fields(a)]
    return list(dict.fromkeys(found))


def holds(expr: Expr, values: Mapping[str, Any]) -> bool:
    """Whether `expr` is true for `values` (field reference -> value).

    Raises KeyError if a field is missing that the evaluation needs; "and" and "or" stop as soon as they are decided.
    """
    op = expr["op"]
    if op == "and":
        return all(holds(a, values) for a in expr["args"])
    if op == "or":
        return any(holds(a, values) for a in expr["args"])
    if op == "not":
        return not holds(expr["args"][0], values)
    actual, wanted = values[expr["field"]], expr["value"]
    if op == "eq":
        return actual == wanted
    if op == "ne":
        return actual != wanted
    if op == "in":
        return actual in wanted
    return {"le": operator.le, "ge": operator.ge, "lt": operator.lt, "gt": operator.gt}[op](actual, wanted)


def negate(expr: Expr) -> Expr:
    """The negation of `expr`: "eq" and "ne" are exchanged, a "not" is removed, anything else is put under a "not"."""
    if expr["op"] in _NEGATED:
        return {**expr, "op": _NEGATED[expr["op"]]}
    if expr["op"] == "not":
        return expr["args"][0]
    return {"op": "not", "args": [expr]}


def boundary(expr: Expr) -> list[int]:
    """For each numeric limit in `expr`: limit - 1, limit, limit + 1. An off-by-one misreading shows at these values."""
    if expr["op"] in ORDERED:
        return [expr["value"] - 1, expr["value"], expr["value"] + 1]
    return [v for a in expr.get("args", []) for v in boundary(a)]


def solve(
    constraints: Sequence[Expr], domains: Mapping[str, Sequence[Any]], rng: random.Random, prefer_boundary: float = 0.5
) -> dict[str, Any] | None:
    """Values for all fields in the constraints, such that every constraint holds; None if there are no such values.

    Constraints that share fields form a group. Each group is solved on its own, by exhaustive search over the product
    of its fields' domains.

    Args:
      constraints: conditions that must hold together.
      domains: field reference -> the values it may take.
      rng: draws the order in which values are tried.
      prefer_boundary: probability, for each group, that values next to a numeric limit are tried first.
    Raises:
      KeyError: a field is not in `domains`.
    """
    solution: dict[str, Any] = {}
    for group in _linked(constraints):
        names = list(dict.fromkeys(f for c in group for f in fields(c)))
        edges = {v for c in group for v in boundary(c)} if rng.random() < prefer_boundary else set()

        def distance(value: Any, edges: set[int] = edges) -> int:
            return min((abs(value - edge) for edge in edges), default=0) if isinstance(value, int) else 0

        choices = []
        for name in names:
            shuffled = rng.sample(list(domains[name]), len(domains[name]))
            choices.append(sorted(shuffled, key=distance))  # nearest to a limit first; ties stay in random order
        for candidate in itertools.product(*choices):
            values = dict(zip(names, candidate))
            if all(holds(c, values) for c in group):
                solution.update(values)
                break
        else:
            return None
    return solution


def _linked(constraints: Sequence[Expr]) -> list[list[Expr]]:
    """The constraints in groups: two are in one group if they share a field, directly or through other constraints."""
    groups: list[tuple[set[str], list[Expr]]] = []
    for constraint in constraints:
        names, members = set(fields(constraint)), [constraint]
        apart = []
        for other_names, other in groups:
            if names & other_names:
                names, members = names | other_names, other + members
            else:
                apart.append((other_names, other))
        groups = [*apart, (names, members)]
    return [members for _, members in groups]


def render(expr: Expr) -> str:
    """The condition in words, with fields and values written as in tool results."""
    op = expr["op"]
    if op in ("and", "or"):
        return f" {op} ".join(f"({render(a)})" if a["op"] in ("and", "or") else render(a) for a in expr["args"])
    if op == "not":
        return f"not ({render(expr['args'][0])})"
    return f'"{expr["field"].split(".")[1]}" {requirement(expr)}'


def requirement(leaf: Expr) -> str:
    """What a leaf requires of its field, in words: `is "gold"`, `at most 40`, ..."""
    quoted = {"eq": "is {}", "ne": "is not {}", "in": "is one of {}", "le": "at most {}", "ge": "at least {}",
              "lt": "below {}", "gt": "above {}"}  # fmt: skip
    value = leaf["value"]
    return quoted[leaf["op"]].format(", ".join(map(quote, value)) if isinstance(value, list) else quote(value))


def quote(value: Any) -> str:
    """A value as in JSON text: strings in double quotes, numbers without; nothing is escaped."""
    return f'"{value}"' if isinstance(value, str) else str(value)
