"""The main record of a composed business: which facts it has, where they lie, and which of them rules may be about."""

from __future__ import annotations

import dataclasses
from typing import Any

from synth.business.composing import elements
from synth.business.composing import words as english
from synth.business.composing.draft import Draft
from synth.business.composing.elements import Data, Fact

_LOGS = ("history", "log", "timeline", "events", "trail", "record_notes", "journal")
_LOGGED = (("event", "on", "detail"), ("what", "date", "note"), ("entry", "day", "remark"), ("action", "at", "info"))
_GROUPS = {
    "date": ("schedule", "dates", "timing", "calendar", "milestones"),
    "cents": ("pricing", "money", "costs", "sums"),
    "": ("details", "particulars", "conditions", "handling", "set_up"),
}
_ROOM = 9  # fields of a record beside references, thing, lines, history and what payments need
_READ = ("enum", "cents", "integer", "date", "flag")  # types that attributes can read
_NEEDED = ("status", "date", "price")


@dataclasses.dataclass
class Plan:
    """What the main record has.

    facts: everything it may have, by key. kept: keys of what it has; read: of what attributes read; in_terms: of what a
    defined term reads. lines: {"list": path, "path": of the prices, "field": ...}. log: the history's path and keys.
    taken: names that a further field cannot have.
    """

    facts: dict[str, Fact]
    lines: Data
    log: tuple[str, list[str]]
    taken: set[str]
    kept: set[str] = dataclasses.field(default_factory=set)
    read: list[str] = dataclasses.field(default_factory=list)
    in_terms: list[str] = dataclasses.field(default_factory=list)

    @property
    def present(self) -> dict[str, Fact]:
        """The facts that the record has, by key."""
        return {key: fact for key, fact in self.facts.items() if key in self.kept}


def plan(d: Draft) -> Plan:
    """Draws all facts that the main record may have. Adds the words for its date."""
    rng = d.rng
    kinds = {d.thing, d.record, d.owner, d.link, f"{d.record}_id", f"{d.owner}_id", f"{d.link}_id"}
    log, logged = rng.choice(_LOGS), list(rng.choice(_LOGGED))
    name = rng.choice((english.snake(d.words["lines"]), english.snake(d.words["lines"]), "items", "positions"))
    found = Plan({}, _lines(d, name), (log, logged), {*kinds, *_LOGS, name})
    for spec in [*d.archetype["facts"], *_shared(d)]:
        found.facts[spec["key"]] = d.fact(spec, found.taken)
    for key, spec in d.archetype["fill"].items():
        found.taken.add(key)
        found.facts[key] = Fact(key, key, english.plain(key), dict(spec), {}, key)
    for act in d.archetype["actions"].values():
        for key, spec in act.get("needs", {}).items():
            fact = d.fact({"key": key, **spec}, found.taken)
            found.facts[key] = dataclasses.replace(fact, spec={})  # no rule is about it
    d.words |= english.forms("date", found.facts["date"].label)
    return found


def _shared(d: Draft) -> list[Data]:
    """Facts that records of every archetype may have, in the words of the trade."""
    option, places = english.snake(d.cast["option"]), d.trade["places"]
    offered = {english.snake(name): name for name in d.cast["offer"]}
    held = {english.snake(name): name for name in d.cast["hold"]}
    low, high = d.cast["range"]
    return [
        {"key": "option", "type": "enum", "names": f"{option}={d.cast['option']}, current_{option}={d.cast['option']}",
         "hold": [list(held)], "said": held, "offer": offered},
        {"key": "units", "type": "integer", "names": "{units}=number of {units}, {unit}_count, number_of_{units}",
         "from": low, "to": high},
        {"key": "place", "type": "enum", "names": "{place}, place={place}, {place}_name={place}, at={place}",
         "hold": [d.rng.sample(places[:5], 4)], "offer": {name: name for name in places[5:]}},
        {"key": "holder", "type": "name", "names": "{holder}, {holder}_name={holder}, in_name_of={holder}"},
        {"key": "papers", "type": "text", "names": "papers_sent=papers, last_paper=paper, documents=documents",
         "values": ["none", "handbook", "welcome letter"]},
    ]  # fmt: skip


def _lines(d: Draft, name: str) -> Data:
    """The list of what a main record consists of."""
    rng = d.rng
    title = rng.choice(("title", "name", "label", "what"))
    price = rng.choice(("price_cents", "amount_cents", "cost_cents"))
    line: Data = {title: {"type": "text", "values": d.cast["lines"]}, price: elements.cents([0.02, 0.2], d.price, rng)}
    more = {"quantity": {"type": "integer", "from": 1, "to": 6}, "minutes": {"type": "integer", "from": 5, "to": 90},
            "done": {"type": "flag"}, "checked_by": {"type": "name"}}  # fmt: skip
    extra = rng.choice(("", *more))
    line |= {extra: more[extra]} if extra else {}
    field = {"type": "list", "min": 1, "max": rng.randint(4, 5), "of": {"type": "object", "fields": line}}
    return {"list": name, "path": f"{name}[].{price}", "field": field}


def choose(d: Draft, p: Plan, acts: dict[str, Data]) -> None:
    """Chooses the facts that the record has, those that attributes read, and those that a term reads."""
    rng, facts = d.rng, p.facts
    needed = set(_NEEDED)
    for act in acts.values():
        needed |= {key for key, _ in act["set"]}
        needed |= {act["slot"][key] for key in ("date_of", "int_of", "enum_of") if key in act["slot"]}
    needed |= {"fee"} if rng.random() < 0.8 else set()
    needed |= {"units"} if rng.random() < 0.5 else set()
    needed |= {"place"} if d.link_type != "site" and rng.random() < 0.6 else set()
    able = [key for key, fact in facts.items() if fact.spec and fact.field["type"] in _READ and key != "place"]
    rng.shuffle(able)
    first = [key for key in able if key in needed and (key == "status" or rng.random() < 0.75)]
    p.read = (first + [key for key in able if key not in needed])[: rng.randint(6, 8)]
    rest = [key for key in able if key not in p.read and key not in needed]
    p.in_terms = [key for key in rest if _plain(facts[key])][:2]
    spare = [key for key in p.read if _plain(facts[key]) and key != "status"]
    while len(p.in_terms) < 2 and spare and len(p.read) > 6:
        p.in_terms.append(spare.pop())
        p.read.remove(p.in_terms[-1])
    p.kept = {*needed, *p.read, *p.in_terms}
    fill = [key for key in d.archetype["fill"] if key not in p.kept]
    room = min(len(fill), 12 - len(p.kept), rng.randint(1, 3))
    p.kept |= set(rng.sample(fill, max(0, room)))
    _group(d, p)


def _plain(fact: Fact) -> bool:
    """Whether a definition, which calls fields by their names, reads well with the fact."""
    named = fact.label == english.plain(fact.name) and fact.spec.get("role") != "fee"
    single = fact.label.startswith("number of") or not fact.label.endswith("s") or fact.label.endswith("ss")
    return named and single and fact.field["type"] in ("enum", "cents", "integer")


def _group(d: Draft, p: Plan) -> None:
    """Puts dates, amounts or other facts into objects of their own, so that a record has at most twenty fields."""
    rng = d.rng
    free = [p.facts[key] for key in sorted(p.kept) if key not in p.in_terms]
    for kind, names in _GROUPS.items():
        inner = [f for f in free if "." not in f.path and f.field["type"] == (kind or f.field["type"])]
        crowded = len({f.path.split(".")[0] for f in free}) + len(p.in_terms) - _ROOM
        if crowded > 0 or (kind and rng.random() < 0.4):
            group = rng.choice([name for name in names if name not in p.taken])
            p.taken.add(group)
            for fact in inner if kind else rng.sample(inner, min(len(inner), crowded + 1)):
                fact.path = f"{group}.{fact.name}"


def fields(d: Draft, p: Plan) -> Data:
    """The fields of the main record."""
    rng = d.rng
    parts: Data = {key: {"type": "text", "values": values} for key, values in d.cast["parts"].items()}
    if rng.random() < 0.6:
        name = rng.choice(("serial", "code", "reference", "tag"))
        parts[name] = {"type": "id", "pattern": rng.choice(("@@###", "@#-###", "####@"))}
    body: list[tuple[str, Any]] = [(d.thing, {"type": "object", "fields": parts}), (p.lines["list"], p.lines["field"])]
    grouped: dict[str, Data] = {}
    for key in sorted(p.kept):
        group, dot, _ = p.facts[key].path.partition(".")
        if dot:
            grouped.setdefault(group, {})[p.facts[key].name] = p.facts[key].field
        else:
            body.append((p.facts[key].name, p.facts[key].field))
    body += [(group, {"type": "object", "fields": inner}) for group, inner in grouped.items()]
    rng.shuffle(body)
    refs: Data = {f"{d.owner}_id": {"type": "ref", "to": d.owners}}
    if not d.on_owner:
        refs[f"{d.link}_id"] = {"type": "ref", "to": d.links}
    event, day, detail = p.log[1]
    entry = {event: {"type": "text", "values": [d.fill(text) for text in d.archetype["events"]]},
             day: {"type": "date", "from": -30, "to": -1},
             detail: {"type": "text", "values": ["", "by phone", "at the desk"]}}  # fmt: skip
    log = {"type": "list", "min": 0, "max": 3, "of": {"type": "object", "fields": entry}}
    return {**refs, **dict(body), p.log[0]: log}


def attributes(d: Draft, p: Plan) -> None:
    """Adds the attributes of the main record: facts, the number of lines, and a defined term."""
    for key in p.read:
        d.attribute(d.record, p.facts[key])
    if d.rng.random() < 0.75 or len(p.read) + len(p.in_terms) // 2 < 7:
        name, label = p.lines["list"], f"number of listed {d.words['lines']}"
        d.attribute(d.record, Fact("lines", name, label, p.lines["field"], {}, name))
    if len(p.in_terms) == 2:
        term = d.fill(d.rng.choice(d.archetype["terms"]))
        when = [_condition(d, p.facts[key]) for key in p.in_terms]
        d.attributes[d.code(d.record, term, "term")] = {"kind": "defined", "term": term, "when": when}


def _condition(d: Draft, fact: Fact) -> Data:
    """A condition on a fact that some of its values meet and some do not."""
    rng = d.rng
    if fact.field["type"] != "enum":
        steps = elements.ladder(fact, rng)
        return {"path": fact.path, "op": rng.choice(("le", "ge")), "value": rng.choice(steps[2:-2])}
    values = fact.field["values"]
    if len(values) > 3:
        return {"path": fact.path, "op": "in", "value": rng.sample(values, 2)}
    return {"path": fact.path, "op": rng.choice(("eq", "ne")), "value": rng.choice(values)}
