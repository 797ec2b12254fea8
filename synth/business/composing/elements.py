"""What composed businesses are made of: the data in parts/, and fields and attributes drawn from it.

A fact is an entry of parts/*.json: one field of a record, in several namings, from which an attribute may follow:
- "key": what other entries call it; "type" as in synth.business.schema.Field;
- "names": "name=label, ..." (see words.options), one of which is drawn;
- "from", "to": for integers and dates; "share": for amounts, as a part of the trade's price;
- "hold": lists of values, one of which is drawn, that records have at reset; "offer": value -> how it is said, for what
  customers may want instead, so that a write always changes something;
- "said": how the values of "hold" are said, where that is not clear from the value;
- "told": for flags, instead of "names": [name, clause for yes, clause for no], one of which is drawn;
- "good": which way a standing rule usually goes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from pathlib import Path
from typing import Any

from synth.business.composing import words as english

Data = dict[str, Any]
PARTS = Path(__file__).parents[1] / "parts"
_DAYS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 18, 21, 25, 28, 35, 42, 50, 60, 75, 90, 120, 150, 180, 240, 300, 365,
         540, 730, 1095, 1460, 1825, 2190, 2920)  # fmt: skip
_SUBJECTS = ("the {l} of the {k}", "the {k}'s {l}", "the {l} on the {k} record", "the {l} recorded for the {k}",
             "the {l} in the {k} record", "the {l} that the {k} record shows")  # fmt: skip


@functools.cache
def part(name: str) -> Data:
    """A file of parts/, by its path without .json."""
    return json.loads((PARTS / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def combinations() -> tuple[tuple[str, str], ...]:
    """(trade, archetype) of everything that makes sense, in alphabetical order."""
    names = sorted(path.stem for path in (PARTS / "trades").glob("*.json"))
    known = {path.stem for path in (PARTS / "archetypes").glob("*.json")}
    return tuple((name, cast) for name in names for cast in sorted(part(f"trades/{name}")["casts"]) if cast in known)


@dataclasses.dataclass
class Fact:
    """A fact as one business has it. path: where its field lies in the record. low, high: as in the field."""

    key: str
    name: str
    label: str
    field: Data
    spec: Data
    path: str = ""
    offer: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def low(self) -> int:
        """The least value that a record holds."""
        return self.field.get("from", 0)

    @property
    def high(self) -> int:
        """The greatest value that a record holds."""
        return self.field.get("to", 0)


def step(span: int) -> int:
    """A round step that divides `span` into some fifty parts."""
    for size in (5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500):
        if span <= 50 * size:
            return size
    return 5000


def cents(share: list[float], price: int, rng: random.Random) -> Data:
    """A field for amounts between two parts of a price."""
    scale = price * rng.uniform(0.75, 1.25)
    low, high = int(share[0] * scale), int(share[1] * scale)
    size = step(high - low)
    low = low // size * size
    return {"type": "cents", "from": low, "to": low + max(8, (high - low) // size) * size, "step": size}


def fact(spec: Data, words: dict[str, str], price: int, taken: set[str], rng: random.Random) -> Fact:
    """Draws a fact; its name and label are added to `taken`. Raises ValueError if all of its names are taken."""
    told = {name: (yes, no) for name, yes, no in spec.get("told", ())}
    choices = [(name, name) for name in told] or english.options(spec["names"], words)
    rng.shuffle(choices)
    free = [(name, label) for name, label in choices if not {name, f"label {label}"} & taken]
    if not free:
        raise ValueError(f"{spec['key']}: all of {[n for n, _ in choices]} are taken")
    name, label = free[0]
    taken |= {name, f"label {label}"}
    kind, offer = spec["type"], {}
    field: Data = {"type": kind}
    if kind == "cents":
        field = cents(spec["share"], price, rng)
    elif kind == "date":
        low, high, scale = spec["from"], spec["to"], rng.choice((0.7, 0.85, 1, 1.2, 1.4))
        field |= {
            "from": low if -3 < low < 3 else round(low * scale),
            "to": high if -3 < high < 3 else round(high * scale),
        }
        if field["to"] - field["from"] < 12:
            field |= {"from": low, "to": high}
    elif kind == "integer":
        high = max(spec["from"] + 6, round(spec["to"] * rng.choice((0.7, 0.85, 1, 1.2))))
        field |= {"from": spec["from"], "to": high}
    elif kind in ("enum", "text"):
        held = rng.choice(spec["hold"]) if "hold" in spec else spec["values"]
        field["values"] = [english.fill(value, words) for value in held]
        offer = spec.get("offer", {})
    elif kind == "flag":
        spec = {**spec, "told": [english.fill(said, words) for said in told[name]]}
    return Fact(spec["key"], name, label, field, spec, name, offer)


def ladder(fact: Fact, rng: random.Random) -> list[int]:
    """The values of a numeric attribute, seven to nine of them in rising order where there are as many."""
    low, high = fact.low, fact.high
    if fact.field["type"] == "date":
        low, high = (low, high) if high > 0 else (-high, -low)
        found = [days for days in _DAYS if low <= days <= high]
    elif fact.field["type"] == "cents":
        size = step((high - low) * 5)
        found = sorted({(low + (high - low) * i // 11) // size * size for i in range(12)})
    elif fact.field["type"] == "list":
        return list(range(fact.field["min"], fact.field["min"] + rng.randint(6, 7)))
    else:
        size = 10 if high - low > 80 else 5 if high - low > 30 else 1
        found = sorted({max(low, (low + (high - low) * i // 10) // size * size) for i in range(11)})
    count = min(len(found), rng.randint(7, 9))
    if count < 6:
        raise ValueError(f"{fact.key}: {low} to {high} has too few values for rules")
    return sorted(rng.sample(found, count))


def subjects(label: str, kind: str, bare: bool, used: set[str], rng: random.Random) -> list[str]:
    """Three or four noun phrases for an attribute, none of them used before."""
    several = [template.format(l=label, k=kind) for template in rng.sample(_SUBJECTS, rng.randint(3, 4))]
    if bare and " " in label and f"the {label}" not in used and rng.random() < 0.7:
        several[0] = f"the {label}"
    found = [said for said in several if said not in used]
    used.update(found)
    return found


def attribute(fact: Fact, kind: str, bare: bool, used: set[str], rng: random.Random) -> Data:
    """The attribute that follows from a fact.

    Args:
      fact: the fact.
      kind: the record's kind, in words.
      bare: whether the fact may be named without its record ("the due date").
      used: texts that have a meaning already; those of the attribute are added.
      rng: draws values and wording.
    """
    found: Data = {"path": fact.path}
    if fact.field["type"] == "flag":
        yes, no = fact.spec["told"]
        used.update((yes, no))
        return found | {"kind": "flag", "told": {"yes": yes, "no": no}, "subjects": [f"the mark {fact.label}"]}
    found["subjects"] = subjects(fact.label, kind, bare, used, rng)
    if fact.field["type"] in ("enum", "text"):
        values, said = fact.field["values"], fact.spec.get("said", {})
        told = {value: said.get(value, value.replace("_", " ")) for value in values}
        return found | {"kind": "word", "values": values, "told": told}
    kinds = {
        "cents": "cents",
        "integer": "number",
        "list": "count",
        "date": "days_until" if fact.high > 0 else "days_since",
    }
    return found | {"kind": kinds[fact.field["type"]], "values": ladder(fact, rng)}
