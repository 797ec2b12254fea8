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
