"""What surrounds the main record of a composed business: owners, linked records, further collections and searches."""

from __future__ import annotations

import dataclasses
from typing import Any

from synth.business.composing import elements
from synth.business.composing import words as english
from synth.business.composing.draft import Draft, collection
from synth.business.composing.elements import Data, Fact
from synth.business.composing.record import Plan

# Names of the tools that find owners, and of those that list everything else.
_FIND = (
    ("find_{many}", "list_{many}"), ("search_{many}", "{many}_overview"), ("lookup_{one}", "lookup_{many}"),
    ("query_{many}", "query_{many}"), ("{one}_search", "{one}_list"), ("locate_{one}", "show_{many}"),
    ("{one}_directory", "browse_{many}"), ("fetch_{many}", "fetch_{many}"), ("filter_{many}", "filter_{many}"),
    ("identify_{one}", "list_{one}_records"),
)  # fmt: skip
_PATHS = {"postcode": "address.postcode", "postal_code": "address.postcode", "town": "address.city",
          "street": "address.street", "full_name": "name"}  # fmt: skip
_HOUSES = [
    "Hill House",
    "Marsh and Sons",
    "Number Nine",
    "the Old Mill",
    "Parish Club",
    "Family Berg",
    "Station Circle",
]
_FORMS = ["standard", "short form", "long form", "winter edition", "for clubs"]


@dataclasses.dataclass
class People:
    """The owners. by: criterion of their search -> path; ways: to identify one. methods: (path of the payment methods,
    the key of an entry, the pattern of its values). balance, credit: what charges and refunds are added to."""

    fields: Data
    by: dict[str, str]
    ways: list[list[str]]
    methods: tuple[str, str, str]
    balance: Fact
    credit: Fact


def people(d: Draft) -> People:
    """Draws the owners and adds their attributes."""
    rng, data = d.rng, elements.part("owners")
    fields: Data = {key: {"type": key} for key in ("name", "email", "phone", "address")}
    taken = {*fields, f"{d.owner}_id", f"{d.link}_id"}
    by: dict[str, str] = {}
    ways: list[list[str]] = []
    chosen = ["name", *rng.sample(["email", "phone", "card"], rng.randint(1, 2))]
    for way in rng.sample(chosen, len(chosen)):
        names = rng.choice(data["identify"][way])
        if way == "card":
            pattern = rng.choice(("######", "####-####", "### ###", "########"))
            fields[names[0]] = {"type": "digits", "pattern": pattern}
            taken.add(names[0])
        ways.append(names)
        by |= {name: _PATHS.get(name, name if way in ("name", "card") else way) for name in names}
    kind = d.trade["owner_type"]
    specs = [*data["facts"], {"key": "type", "type": "enum", "names": kind["n"], "hold": [kind["hold"]]}]
    drawn = {spec["key"]: d.fact(spec, taken) for spec in specs}
    able = [key for key in drawn if key not in ("unpaid", "credit")]
    read = ["unpaid"] if rng.random() < 0.5 else []
    read += rng.sample(able, rng.randint(4, 5) - len(read))
    for key in read:
        d.attribute(d.owner, drawn[key])
    kept = {*read, "unpaid", "credit", *rng.sample(able, rng.randint(1, 2))}
    methods, taking = data["methods"], rng.choice(("method_id", "id", "token", "reference"))
    name, pattern = rng.choice(methods["names"]), rng.choice(methods["patterns"])
    item = {taking: {"type": "id", "pattern": pattern},
            "brand": {"type": "text", "values": rng.choice(methods["brands"])},
            "last_four": {"type": "digits", "pattern": "####"}}  # fmt: skip
    body: list[tuple[str, Any]] = [(drawn[key].name, drawn[key].field) for key in sorted(kept)]
    body.append((name, {"type": "list", "min": 1, "max": 3, "of": {"type": "object", "fields": item}}))
    body += [(key, data["fill"][key]) for key in rng.sample(sorted(data["fill"]), rng.randint(1, 2))]
    rng.shuffle(body)
    fields |= dict(body)
    if d.on_owner:
        fields[f"{d.link}_id"] = {"type": "ref", "to": d.links}
    return People(fields, by, ways, (name, taking, pattern), drawn["unpaid"], drawn["credit"])


@dataclasses.dataclass
class Linked:
    """The linked records. fee: an amount of theirs that formulas may read; allowance: what writes may use up."""

    fields: Data
    fee: Fact | None
    allowance: Fact | None


def linked(d: Draft) -> Linked:
    """Draws the linked records and adds their attributes."""
    rng, data, taken = d.rng, elements.part("links")[d.link_type], {f"{d.link}_id"}
    drawn = {spec["key"]: d.fact(spec, taken) for spec in data["facts"]}
    read = rng.sample(sorted(drawn), rng.randint(3, 4))
    for key in read:
        d.attribute(d.link, drawn[key])
    roles = {fact.spec["role"]: fact for fact in drawn.values() if "role" in fact.spec}
    fee = roles.get("fee") if rng.random() < 0.5 else None
    allowance = roles.get("allowance") if rng.random() < 0.6 else None
    kept = {*read, *rng.sample(sorted(drawn), 2), *(fact.key for fact in (fee, allowance) if fact)}
    titles = {"plan": d.trade["plan"]["titles"], "site": d.trade["places"], "group": _HOUSES, "terms": _FORMS}
    fields: Data = {}
    if d.link_type in titles:
        fields[rng.choice(("title", "name", "called"))] = {"type": "text", "values": titles[d.link_type]}
    fields |= {drawn[key].name: drawn[key].field for key in sorted(kept)}
    return Linked(fields | data["fill"], fee, allowance)


def extra(d: Draft, key: str, taken: set[str]) -> tuple[Data, Data] | None:
    """(collection, what it is searched by and shows) of parts/extras.json; None if its name is in `taken`."""
    rng, data, own = d.rng, elements.part("extras")[key], d.trade.get(key, {})
    staff = f"{d.pick(d.trade['staff'])}, team_member, colleague"
    kind = english.snake(d.pick(own.get("names") or ", ".join(data.get("names", [])) or staff))
    if {kind, collection(kind)} & taken:
        return None
    pools = {"titles": own.get("titles", d.trade["stock"]["titles"]), "suppliers": d.trade["suppliers"],
             "roles": d.trade["roles"], "places": d.trade["places"]}  # fmt: skip
    named = {names: rng.choice(names.split("|")) for names in data["fields"]}
    optional = [names for names in named if names not in {*data["by"], *data["show"]}]
    dropped = set(rng.sample(optional, rng.randint(0, max(0, len(optional) - 3))))
    fields: Data = {}
    for names, spec in data["fields"].items():
        if names not in dropped:
            field = elements.cents(spec["share"], d.price, rng) if "share" in spec else dict(spec)
            field["values"] = pools.get(str(field.get("values")), field.get("values", []))
            fields[named[names]] = field
    words = english.forms("thing", english.plain(kind))
    found = {"kind": kind, "id": d.identifier(kind), "describe": d.fill(rng.choice(data["describe"]), **words),
             "fields": fields}  # fmt: skip
    return found, {"by": {named[n]: named[n] for n in data["by"]}, "show": [named[n] for n in data["show"]]}


def collections(d: Draft, record: Data, folk: People, link: Linked) -> tuple[Data, Data]:
    """(the four or five collections, what each of some is searched by and shows). record: fields of the main record."""
    text = d.fill(d.rng.choice(elements.part("links")[d.link_type]["describe"]))
    described = {
        d.owners: (d.owner, d.fill("people who have {records} with us"), folk.fields),
        d.records: (d.record, d.fill("{records} of our {owners}"), record),
        d.links: (d.link, text, link.fields),
    }
    found: Data = {
        name: {"kind": kind, "id": d.identifier(kind), "describe": describe, "fields": fields}
        for name, (kind, describe, fields) in described.items()
    }
    size = d.rng.randint(4, 5)
    more: Data = {}
    for key in d.rng.sample(sorted(elements.part("extras")), 4):
        taken = {*found, *(entry["kind"] for entry in found.values()), d.thing}
        if len(found) < size and (made := extra(d, key, taken)):
            name = collection(made[0]["kind"])
            found[name], more[name] = made[0], {**made[1], "kind": made[0]["kind"]}
    return found, more


def searches(d: Draft, p: Plan, folk: People, link: Linked, more: Data) -> Data:
    """The search tools: for owners, for main records, mostly for linked records, and for what `more` names."""
    rng = d.rng
    first, other = rng.choice(_FIND)
    ways = " or ".join(" and ".join(english.plain(name) for name in way) for way in folk.ways)
    shown = ["name"] + ([f"{d.link}_id"] if d.on_owner else [])
    found: Data = {
        first.format(one=d.owner, many=d.owners): {
            "collection": d.owners, "by": folk.by, "show": shown,
            "describe": d.fill("Find {owners} by ") + f"{ways}. All criteria given must match."}
    }  # fmt: skip
    by, parts = {f"{d.owner}_id": f"{d.owner}_id"}, sorted(d.cast["parts"])
    if "place" in p.kept:
        by[p.facts["place"].name] = p.facts["place"].path
    if rng.random() < 0.5:
        part = rng.choice(parts)
        by[part] = f"{d.thing}.{part}"
    listed = {d.records: (d.record, by, [f"{d.thing}.{part}" for part in parts])}
    read = {spec["path"] for name, spec in d.attributes.items() if name.startswith(f"{d.link}.")}
    free = [name for name, f in link.fields.items() if name not in read and f["type"] in ("text", "enum", "name")]
    if free and (len(more) < 2 or rng.random() < 0.5):
        listed[d.links] = (d.link, {free[0]: free[0]}, free[:2])
    listed |= {name: (spec["kind"], spec["by"], spec["show"]) for name, spec in more.items()}
    for name, (kind, criteria, show) in listed.items():
        told = " or ".join(english.plain(key.removesuffix("_id")) for key in criteria)
        found[other.format(one=kind, many=name)] = {"collection": name, "by": criteria, "show": show,
                                                   "describe": f"List {english.plain(name)} by {told}."}  # fmt: skip
    return found
