"""Reads and writes the fields of a record by path, and what attributes make of them."""

from __future__ import annotations

import datetime
import random
from typing import Any

from synth.business.schema import Attribute, Condition, Field, Formula, field_at, field_of, item_of

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


def holds(condition: Condition, record: Row, fields: dict[str, Field], now: str) -> bool:
    """Whether a record meets a condition. A date counts as days from now."""
    value = get(record, condition.path)
    if (field := field_at(fields, condition.path)) is not None and field.type == "date":
        value = days_between(now, value)
    wanted: Any = condition.value
    if condition.op == "in":
        return value in wanted
    if condition.op in ("eq", "ne"):
        return (value == wanted) == (condition.op == "eq")
    return value <= wanted if condition.op == "le" else value >= wanted


def read(attribute: Attribute, record: Row, fields: dict[str, Field], now: str) -> int | str:
    """The value of an attribute in a record. fields: those of the record's collection."""
    if attribute.kind == "defined":
        return "yes" if all(holds(c, record, fields, now) for c in attribute.when) else "no"
    value = get(record, attribute.path)
    if attribute.kind == "flag":
        return "yes" if value else "no"
    if attribute.kind == "count":
        return len(value)
    if attribute.kind == "days_until":
        return days_between(now, value)
    if attribute.kind == "days_since":
        return days_between(value, now)
    return value


def write(
    attribute: Attribute, value: int | str, record: Row, fields: dict[str, Field], now: str, rng: random.Random
) -> None:
    """Changes a record so that `read` gives `value`. rng: for what the value leaves open.

    Raises ValueError if no value of a field breaks, or meets, a condition of a defined term.
    """
    from synth.business import draw  # not at the top: draw needs `get` and `day` from here

    if attribute.kind == "defined":
        broken = rng.choice(attribute.when) if value == "no" else None
        for condition in attribute.when:
            _meet(condition, condition is not broken, record, fields, now, rng)
    elif attribute.kind == "flag":
        put(record, attribute.path, value == "yes")
    elif attribute.kind == "count":
        item = item_of(field_of(fields, attribute.path))
        items = [*get(record, attribute.path)][: int(value)]
        while len(items) < int(value):
            items.append(draw.value(item, now, rng, {}))
        put(record, attribute.path, items)
    elif attribute.kind in ("days_until", "days_since"):
        put(record, attribute.path, day(now, int(value) if attribute.kind == "days_until" else -int(value)))
    else:
        put(record, attribute.path, value)


def _meet(
    condition: Condition, wanted: bool, record: Row, fields: dict[str, Field], now: str, rng: random.Random
) -> None:
    """Draws the field of a condition again until the condition holds, or fails, as wanted."""
    from synth.business import draw

    for _ in range(1000):
        if holds(condition, record, fields, now) == wanted:
            return
        put(record, condition.path, draw.value(field_of(fields, condition.path), now, rng, {}))
    raise ValueError(f"{condition.path} {condition.op} {condition.value!r} can never be {wanted}")


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
