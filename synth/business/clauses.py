"""Conditions on attributes in plain English, and back: every clause that `say` writes, `parse` reads as the same.

A clause is about one attribute: "the estimate is at most $150.00", "the status of the repair is one of booked in and
ready", "the repair is a quick job". Conditions are those of synth/trees/expr.py, whose field is the attribute's name.
"""

from __future__ import annotations

import random
import re
from typing import Any

from synth.business.schema import Attribute, Business
from synth.trees import expr

_NUMERIC = {
    "le": ("is at most {v}", "is no more than {v}", "does not exceed {v}", "is {v} or less"),
    "ge": ("is at least {v}", "is no less than {v}", "is not below {v}", "is {v} or more"),
    "lt": ("is below {v}", "is less than {v}", "is under {v}"),
    "gt": ("is above {v}", "is more than {v}", "exceeds {v}"),
}
# "2 days away or more" would be misread where the number comes first, so dates have words of their own.
_DATED = {
    "le": ("is at most {v}", "is no more than {v}"),
    "ge": ("is at least {v}", "is no less than {v}"),
    "lt": ("is less than {v}", "is under {v}"),
    "gt": ("is more than {v}", "is over {v}"),
}
_WORDED = {
    "eq": ("is {v}", "is set to {v}"),
    "ne": ("is not {v}", "is anything but {v}"),
    "in": ("is one of {v}", "is either {v}"),
    "out": ("is none of {v}", "is not any of {v}"),
}
_UNITS = {"days_until": "away", "days_since": "ago"}
_OPPOSITE = {"le": "gt", "gt": "le", "ge": "lt", "lt": "ge"}


def money(cents: int) -> str:
    """An amount as it is written: 1250 -> "$12.50"; negative ones with a minus in front."""
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def plain(b: Business, reference: str) -> str:
    """A kind of record in words ("service_plan.tier" -> "service plan")."""
    return reference.split(".")[0].replace("_", " ")


def opposite(condition: expr.Expr, attribute: Attribute) -> expr.Expr:
    """The condition that holds where `condition` fails, in a form that `say` has words for."""
    op = condition["op"]
    if op in _OPPOSITE:
        return {**condition, "op": _OPPOSITE[op]}
    if op == "in":
        return {"op": "not", "args": [condition]}
    if op == "not":
        return condition["args"][0]
    if attribute.kind in ("flag", "defined"):
        return {"op": "eq", "field": condition["field"], "value": "no" if _truth(condition) else "yes"}
    return expr.negate(condition)


def _truth(condition: expr.Expr) -> bool:
    """Whether a condition on a flag or a defined term asks for "yes"."""
    return (condition["value"] == "yes") == (condition["op"] == "eq")


def say(b: Business, condition: expr.Expr, rng: random.Random) -> str:
    """The clause for a condition on one attribute."""
    if condition["op"] == "not":
        leaf, op = condition["args"][0], "out"
    else:
        leaf, op = condition, condition["op"]
    attribute = b.attributes[leaf["field"]]
    if attribute.kind == "defined":
        return rng.choice(_defined(b, leaf["field"])["yes" if _truth(leaf) else "no"])
    if attribute.kind == "flag":
        return attribute.told["yes" if _truth(leaf) else "no"]
    templates = _WORDED if attribute.kind == "word" else _DATED if attribute.kind in _UNITS else _NUMERIC
    subject, template = rng.choice(attribute.subjects), rng.choice(templates[op])
    return f"{subject} {template.format(v=_value(attribute, leaf['value'], template))}"


def _value(attribute: Attribute, value: Any, template: str) -> str:
    if attribute.kind == "word":
        told = [attribute.told[v] for v in (value if isinstance(value, list) else [value])]
        joint = " or " if "either" in template or "any of" in template else " and "
        return told[0] if len(told) == 1 else f"{', '.join(told[:-1])}{joint}{told[-1]}"
    if attribute.kind == "cents":
        return money(value)
    if attribute.kind in _UNITS:
        return f"{value} {'day' if value == 1 else 'days'} {_UNITS[attribute.kind]}"
    return str(value)


def _defined(b: Business, reference: str) -> dict[str, tuple[str, ...]]:
    kind, term = plain(b, reference), b.attributes[reference].term
    a = "an" if term[0] in "aeiou" else "a"
    return {"yes": (f"the {kind} is {a} {term}", f"the {kind} counts as {a} {term}"),
            "no": (f"the {kind} is not {a} {term}", f"the {kind} does not count as {a} {term}")}  # fmt: skip


def parse(b: Business, clause: str) -> list[expr.Expr]:
    """Every condition that a clause can be read as; a good clause has exactly one."""
    found = []
    for reference, attribute in b.attributes.items():
        if attribute.kind in ("flag", "defined"):
            told = (
                _defined(b, reference) if attribute.kind == "defined" else {k: (v,) for k, v in attribute.told.items()}
            )
            found += [
                {"op": "eq", "field": reference, "value": value} for value, said in told.items() if clause in said
            ]
            continue
        for subject in attribute.subjects:
            if clause.startswith(f"{subject} "):
                found += _predicates(reference, attribute, clause[len(subject) + 1 :])
    return found


def _predicates(reference: str, attribute: Attribute, text: str) -> list[expr.Expr]:
    """The conditions that the words after the subject can be read as."""
    templates = _WORDED if attribute.kind == "word" else _DATED if attribute.kind in _UNITS else _NUMERIC
    found = []
    for op, several in templates.items():
        for template in several:
            before, after = template.split("{v}")
            if not (text.startswith(before) and text.endswith(after)):
                continue
            value = _parsed(attribute, text[len(before) : len(text) - len(after)], op, template)
            if value is None:
                continue
            leaf = {"op": "in" if op == "out" else op, "field": reference, "value": value}
            found.append({"op": "not", "args": [leaf]} if op == "out" else leaf)
    return found


def _parsed(attribute: Attribute, text: str, op: str, template: str) -> Any:
    """The value that a text states; None if it states none."""
    if attribute.kind == "word":
        by = {said: value for value, said in attribute.told.items()}
        if op not in ("in", "out"):
            return by.get(text)
        joint = " or " if "either" in template or "any of" in template else " and "
        head, _, last = text.rpartition(joint)
        parts = [*head.split(", "), last] if head else [last]
        values = [by.get(part) for part in parts]
        return values if all(v is not None for v in values) and (len(values) > 1 or op in ("in", "out")) else None
    if attribute.kind == "cents":
        match = re.fullmatch(r"(-?)\$([\d,]+)\.(\d\d)", text)
        return (-1 if match[1] else 1) * (int(match[2].replace(",", "")) * 100 + int(match[3])) if match else None
    unit = f" days? {_UNITS[attribute.kind]}" if attribute.kind in _UNITS else ""
    match = re.fullmatch(rf"(-?\d+){unit}", text)
    return int(match[1]) if match else None
