"""What attributes make of records: their values are read, and records are changed so that they have a value."""

from __future__ import annotations

import random
from typing import Any

from synth.business import draw
from synth.business.paths import Row, day, days_between, get, put
from synth.business.schema import Attribute, Condition, Field, field_at, field_of, item_of


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
    for _ in range(1000):
        if holds(condition, record, fields, now) == wanted:
            return
        put(record, condition.path, draw.value(field_of(fields, condition.path), now, rng, {}))
    raise ValueError(f"{condition.path} {condition.op} {condition.value!r} can never be {wanted}")
