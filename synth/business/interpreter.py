"""Carries out the tools of a business. What they do is data (`effects`), and one interpreter runs it; nothing is
evaluated as code.

Effects, by "kind":
- {"kind": "read", "collection", "key"}: one record.
- {"kind": "search", "collection", "by": {argument: path}, "require", "show": [path]}: records that meet all criteria.
- {"kind": "calculate"}: + - * / and brackets over numbers.
- {"kind": "write", "collection", "key", "program": [effect], "rows": {"owner": [collection, key], "link": ...},
  "free": [argument]}: the changes of synth.business.schema.Effect. A free argument changes nothing.
- {"kind": "control", "outcome", "key"}: a decision that is logged (envs/world.py).
"""

from __future__ import annotations

import ast
import copy
import math
import operator
from typing import Any

from synth.business.paths import get, put

State = dict[str, dict[str, dict[str, Any]]]
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_LONGEST = 200  # characters of a calculation


def same(value: Any, wanted: Any) -> bool:
    """Whether a field meets a criterion: texts in any case and spacing, everything else exactly."""
    if isinstance(value, str) and isinstance(wanted, str):
        return "".join(value.split()).casefold() == "".join(wanted.split()).casefold()
    return value == wanted


def search(effect: dict[str, Any], state: State, arguments: dict[str, Any]) -> list[str]:
    """Identifiers of the records that meet all criteria, in the order of the state.

    Raises ValueError if too few criteria are given.
    """
    criteria = {name: arguments[name] for name in effect["by"] if name in arguments}
    if len(criteria) < effect["require"]:
        raise ValueError(f"give at least {effect['require']} of {', '.join(effect['by'])}")
    rows = state[effect["collection"]]
    return [key for key, row in rows.items() if all(same(get(row, effect["by"][c]), v) for c, v in criteria.items())]


def shown(effect: dict[str, Any], row: dict[str, Any], key: str) -> dict[str, Any]:
    """What a search shows of a record. key: the name of the identifier field."""
    return {key: row[key], **{path.split(".")[-1]: get(row, path) for path in effect["show"]}}


def calculate(expression: str) -> int | float:
    """The value of an arithmetic expression. Raises ValueError for anything else."""
    if len(expression) > _LONGEST:
        raise ValueError(f"an expression may have {_LONGEST} characters")
    try:
        found = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"cannot calculate {expression!r}: {error}") from None
    if not math.isfinite(found):
        raise ValueError(f"cannot calculate {expression!r}: the result is not a number")
    return int(found) if found == int(found) else round(found, 6)


def _value(node: ast.AST) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return -_value(node.operand) if isinstance(node.op, ast.USub) else _value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("expected numbers, + - * / and brackets")


def write(effect: dict[str, Any], state: State, arguments: dict[str, Any], now: str) -> None:
    """Carries a write out: in the state, the records that it changes are replaced by changed copies.

    now: the task's day and time. Raises KeyError if a record is missing.
    """
    record = _copied(state, effect["collection"], arguments[effect["key"]])
    rows = {"record": record}
    for name, (collection, key) in effect["rows"].items():
        holder = record if key in record else rows["owner"]
        rows[name] = _copied(state, collection, holder[key])
    for change in effect["program"]:
        row, path = rows[change["on"]], change["path"]
        value = filled(change["value"], arguments, now)
        if change["op"] == "set":
            put(row, path, value)
        elif change["op"] == "add":
            put(row, path, get(row, path) + value)
        elif change["op"] == "append":
            put(row, path, [*(get(row, path) or []), value])
        else:
            put(row, path, [item for item in get(row, path) if item[change["where"]] != value])


def _copied(state: State, collection: str, key: str) -> dict[str, Any]:
    """A copy of a record, which replaces it in the state. Raises KeyError if there is no such record."""
    state[collection][key] = copy.deepcopy(state[collection][key])
    return state[collection][key]


def filled(value: Any, arguments: dict[str, Any], now: str) -> Any:
    """The value of an effect with "$argument" and "$now" replaced, also inside objects and lists."""
    if isinstance(value, dict):
        return {key: filled(inner, arguments, now) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, arguments, now) for inner in value]
    if value == "$now":
        return now[:10]
    if isinstance(value, str) and value.startswith("$"):
        return copy.deepcopy(arguments[value[1:]])
    return value
