"""Composes businesses: any number of them, each from a trade (parts/trades) and a kind of process (parts/archetypes).

What a business sells, its words, people and places come from the trade; which records, rules and writes it has, from
the archetype and from parts/owners.json, links.json, extras.json and actions.json. Of all of these a business has a
part, in namings of its own, so that two businesses of one kind differ in tools, fields and rules.

Every composed business keeps what the tasks rely on: a path that an attribute reads is read by no other attribute, by
no term, no search and no name of a record; what a customer may want is never what a record holds at reset; an amount
follows from fields that no effect on an owner or a linked record changes.
"""

from __future__ import annotations

import random

from synth.business.composing import acts, around, elements, record, rules
from synth.business.composing import words as english
from synth.business.composing.draft import Draft
from synth.business.composing.elements import Data
from synth.business.schema import Business


def compose(number: int, seed: int = 0) -> Business:
    """The business of that number, which is the same whenever it is asked for.

    The first numbers take every trade with every archetype that suits it once, in an order drawn from `seed`; further
    ones take them again with other draws. Raises ValueError for a negative number.
    """
    if number < 0:
        raise ValueError(f"number: {number}, expected 0 or more")
    order = list(elements.combinations())
    random.Random(f"businesses/{seed}").shuffle(order)
    trade, archetype = order[number % len(order)]
    data, rng = elements.part(f"trades/{trade}"), random.Random(f"business/{seed}/{number}")
    kind, cast = elements.part(f"archetypes/{archetype}"), data["casts"][archetype]
    draft = Draft(f"{trade}_{archetype}_{number}", data, kind, cast, number // len(order), rng)
    return Business.model_validate({**_business(draft), "trade": trade})


def _lists(d: Draft, collections: dict[str, Data], actions: dict[str, Data]) -> None:
    """Gives up to two actions, in place, an argument that lists what stands on the main record."""
    fields = next(c["fields"] for c in collections.values() if c["kind"] == d.record)
    lists = [(n, next((k for k, f in field["of"]["fields"].items() if f["type"] == "text"), ""))
             for n, field in fields.items() if field["type"] == "list" and "fields" in field["of"]]  # fmt: skip
    changed = {effect["path"] for action in actions.values() for effect in action["effects"]}
    lists = [(path, take) for path, take in lists if take and path not in changed]
    able = [name for name, action in actions.items() if len(action["args"]) < 6 and _entries(action)]
    for name in d.rng.sample(able, min(2, len(able)) if lists else 0):
        path, take = lists[0]
        several = "descriptions" if take == "what" else f"{take[:-1]}ies" if take.endswith("y") else f"{take}s"
        place = f"{english.plain(path)} on the {english.plain(d.record)} record"
        words = f"the {english.plain(several)} of all {place}, in order"
        formula = {"op": "each", "path": f"{d.record}.{path}", "take": take, "words": words}
        argument = f"listed_{several}"
        actions[name]["args"][argument] = {
            "comes": "case", "describe": f"{words[0].upper()}{words[1:]}.", "formula": formula
        }  # fmt: skip
        _entries(actions[name])[0]["listed"] = f"${argument}"


def _entries(action: Data) -> list[Data]:
    """The objects that an action appends to lists."""
    return [e["value"] for e in action["effects"] if e["op"] == "append" and isinstance(e["value"], dict)]


def _business(d: Draft) -> Data:
    """The business as data, without its trade."""
    plan = record.plan(d)
    chosen = acts.choose(d)
    record.choose(d, plan, chosen)
    fields, folk, link = record.fields(d, plan), around.people(d), around.linked(d)
    record.attributes(d, plan)
    collections, more = around.collections(d, fields, folk, link)
    searches = around.searches(d, plan, folk, link, more)
    actions = acts.actions(d, chosen, acts.Setting.of(d, plan, folk, link, chosen, fields), {*searches})
    _lists(d, collections, actions)
    paths = {part: f"{{{d.thing}.{part}}}" for part in d.cast["parts"]}
    nouns = [
        d.words["record"],
        *(english.plain(name.strip()).split()[-1] for name in (d.record, *d.cast["record"].split(","))),
    ]
    return {
        "name": d.name, "title": d.title, "setting": rules.setting(d),
        "record": d.record, "owner": d.owner, "link": d.link,
        "it": [english.fill(text, paths) for text in d.cast["it"]], "nouns": list(dict.fromkeys(nouns))[:3],
        "collections": collections, "attributes": d.attributes, "actions": actions, "searches": searches,
        "identify": folk.ways, "standing": rules.standing(d, actions), "notes": rules.notes(d),
    }  # fmt: skip
