"""Reads and writes the fields of a record by path; days between dates; amounts that follow from records."""

from __future__ import annotations

import datetime
from typing import Any

from synth.business.schema import Formula

Row = dict[str, Any]


def get(record: Row, path: str) -> Any:
    """The value at a path; for a path through a list ("lines[].price_cents") the list of the items' values.

    Raises KeyError if a part is missing.
    """
    found: Any = record
    parts = path.split(".")
    for number, part in enumerate(parts):
        if part.endswith("[]"):
            rest = ".".join(parts[number + 1 :])
            return [get(item, rest) if rest else item for item in found[part[:-2]]]
        found = found[part]
    return found


def put(record: Row, path: str, value: Any) -> None:
    """Sets the value at a path without lists. Raises KeyError if a part before the last is missing."""
    *parents, last = path.split(".")
    for part in parents:
        record = record[part]
    record[last] = value


def day(now: str, days: int) -> str:
    """The ISO date that lies `days` days after the date of `now`."""
    return (datetime.date.fromisoformat(now[:10]) + datetime.timedelta(days)).isoformat()


def days_between(first: str, last: str) -> int:
    """Days from one ISO date to another."""
    return (datetime.date.fromisoformat(last[:10]) - datetime.date.fromisoformat(first[:10])).days


def amount(formula: Formula, rows: dict[str, Row], now: str) -> Any:
    """What a formula gives. rows: kind -> record. Raises KeyError if a record or field is missing."""
    kind, _, path = formula.path.partition(".")
    found = get(rows[kind], path)
    if formula.op == "sum":
        return sum(found)
    if formula.op == "percent":
        return (sum(found) if isinstance(found, list) else found) * formula.number // 100
    if formula.op == "times":
        if isinstance(found, list):
            found = sum(found) if path.partition("[]")[1] else len(found)
        return formula.number * found
    if formula.op == "days":
        return formula.number * days_between(now, found)
    if formula.op == "each":
        return [item[formula.take] for item in found]
    if formula.op == "pick":
        item = next((item for item in found if not formula.where or item[formula.where]), found[0])
        return item[formula.take]
    return found
