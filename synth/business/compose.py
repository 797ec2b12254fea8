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
import re
from typing import Any

from synth.business import acts, elements
from synth.business import words as english
from synth.business.elements import Data, Fact
from synth.business.schema import Business

_IDS = (
    "{p}-#####",
    "{p}#####",
    "{p}/####",
    "{p}.####.#",
    "{p}-@###",
    "{p}_####@",
    "#####{p}",
    "{p}-##-###",
    "{p}####@@",
)
_TOWNS = ("Ashbourne Brackley Calder Corbridge Dunmore Eastleigh Fairhaven Glenford Harwick Kelso Langport Marlow Newbury "
          "Oakham Petersfield Ripley Selby Thornbury Ullapool Wareham Westbrook Yarrow").split()  # fmt: skip
_LOGS = ("history", "log", "timeline", "events", "trail", "record_notes", "journal")
_LOGGED = (("event", "on", "detail"), ("what", "date", "note"), ("entry", "day", "remark"), ("action", "at", "info"))
_ENDS = ("", "_rule", "_check", "_limit", "_policy", "_terms", "_condition", "_clause")
_FIND = {
    "find": ("find_{many}", "list_{many}"), "search": ("search_{many}", "{many}_overview"),
    "lookup": ("lookup_{one}", "lookup_{many}"), "query": ("query_{many}", "query_{many}"),
    "noun": ("{one}_search", "{one}_list"), "locate": ("locate_{one}", "show_{many}"),
    "directory": ("{one}_directory", "browse_{many}"), "fetch": ("fetch_{many}", "fetch_{many}"),
    "filter": ("filter_{many}", "filter_{many}"), "identify": ("identify_{one}", "list_{one}_records"),
}  # fmt: skip
_GROUPS = {
    "date": ("schedule", "dates", "timing", "calendar", "milestones"),
    "cents": ("pricing", "money", "costs", "sums"),
    "": ("details", "particulars", "conditions", "handling", "set_up"),
}
_ROOM = 9  # fields of a record beside references, thing, lines, history and what payments need
_OWED = ("refunded_cents=refunded amount, credited_cents=credited amount, paid_back_cents=amount paid back",
         "billed_cents=billed amount, charged_cents=amount charged so far, extras_cents=sum of extras, added_cents=sum of additions")  # fmt: skip


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
    rng = random.Random(f"business/{seed}/{number}")
    return Business.model_validate(_Draft(trade, archetype, number, number // len(order), rng).business())


class _Draft:
    """One business while it is being drawn."""

    def __init__(self, trade: str, archetype: str, number: int, turn: int, rng: random.Random):
        self.name = f"{trade}_{archetype}_{number}"
        self.rng, self.turn = rng, turn
        self.trade: Data = elements.part(f"trades/{trade}")
        self.trade_name = trade
        self.kind: Data = elements.part(f"archetypes/{archetype}")
        self.cast: Data = self.trade["casts"][archetype]
        self.price = self.trade["price"]
        self.used: set[str] = set()  # clauses and subjects of attributes
        self.codes: set[str] = set()  # names of attributes after the kind
        self.attributes: Data = {}
        self.end = rng.choice(_ENDS)
        self.good: dict[str, Fact] = {}

    # Words.

    def _pick(self, text: str) -> str:
        """One of the entries of "order, bouquet_order"."""
        return self.rng.choice([entry.strip() for entry in text.split(",")])

    def _words(self) -> None:
        rng, cast, trade = self.rng, self.cast, self.trade
        self.record = self._pick(cast["record"])
        self.owner = self._pick(trade["owner"])
        links = [name for name in self.kind["links"]]
        self.link_type = links[(self.turn + rng.randrange(len(links))) % len(links)]
        names = {"plan": trade["plan"]["names"], "site": trade["place"], "staff": trade["staff"],
                 "group": "household, account_group, firm, circle", "terms": "agreement, terms_sheet, policy, contract"}  # fmt: skip
        choices = [n.strip() for n in names[self.link_type].split(",")]
        self.link = english.snake(rng.choice([n for n in choices if n not in (self.record, self.owner)]))
        self.thing = self._pick(cast["thing"])
        staff = self._pick(trade["staff"])
        title = rng.choice(trade["titles"])
        short, comma, rest = title.partition(",")
        said = short + (comma + rest + "," if comma else "")
        self.words = {"title": short, "Title": english.upper(said)}
        if self.turn or rng.random() < 0.4:
            short = f"{short} in {rng.choice(_TOWNS)}"
        self.title = f"{short}{comma}{rest}"
        unit = cast.get("unit", "item")
        nouns = (("record", self.record, ""), ("owner", self.owner, ""), ("link", self.link, ""), ("thing", self.thing, ""),
                 ("staff", staff, ""), ("line", cast["line"], ""), ("unit", unit, cast.get("units", "")),
                 ("option", cast["option"], ""), ("place", trade["place"], ""),
                 ("holder", rng.choice(self.kind.get("holder", ["holder"])), ""))  # fmt: skip
        for key, noun, many in nouns:
            self.words |= english.forms(key, english.plain(noun), many)

    # Facts.

    def _fact(self, spec: Data, taken: set[str]) -> Fact:
        return elements.fact(spec, self.words, self.price, taken, self.rng)

    def _record_facts(self) -> None:
        """Draws all facts that the main record may have; `_record_fields` keeps a part of them."""
        rng, cast = self.rng, self.cast
        self.taken = {self.thing, f"{self.owner}_id", f"{self.link}_id", f"{self.record}_id", self.record, self.owner,
                      self.link, *_LOGS}  # fmt: skip
        self.log, self.logged = rng.choice(_LOGS), list(rng.choice(_LOGGED))
        self.lines_name = rng.choice(
            (english.snake(self.words["lines"]), english.snake(self.words["lines"]), "items", "positions")
        )
        self.taken.add(self.lines_name)
        self.facts: dict[str, Fact] = {}
        option, places = english.snake(cast["option"]), self.trade["places"]
        held = rng.sample(places[:5], 4)
        offered = {english.snake(name): name for name in cast["offer"]}
        own = [
            {"key": "option", "type": "enum", "names": f"{option}={cast['option']}, current_{option}={cast['option']}",
             "hold": [[english.snake(name) for name in cast["hold"]]], "offer": offered},
            {"key": "units", "type": "integer", "names": "{units}=number of {units}, {unit}_count, number_of_{units}",
             "from": cast["range"][0], "to": cast["range"][1]},
            {"key": "place", "type": "enum", "names": "{place}, place={place}, {place}_name={place}, at={place}", "hold": [held],
             "offer": {name: name for name in places[5:]}},
            {"key": "holder", "type": "name", "names": "{holder}, {holder}_name={holder}, in_name_of={holder}"},
            {"key": "papers", "type": "text", "names": "papers_sent=papers, last_paper=paper, documents=documents", "values": ["none", "handbook", "welcome letter"]},
        ]  # fmt: skip
        for spec in [*self.kind["facts"], *own]:
            self.facts[spec["key"]] = self._fact(spec, self.taken)
        for key, spec in self.kind["fill"].items():
            self.taken.add(key)
            self.facts[key] = Fact(key, key, english.plain(key), {k: v for k, v in spec.items()}, {}, key)
        for act in self.kind["actions"].values():
            for key, spec in act.get("needs", {}).items():
                self.facts[key] = self._fact({"key": key, **spec}, self.taken)
        self.words |= english.forms("date", self.facts["date"].label)

    def _choose_actions(self) -> None:
        rng = self.rng
        own, shared = self.kind["actions"], elements.part("actions")["generic"]
        generic = [key for key in self.kind["generic"] if not (key == "place" and self.link_type == "site")]
        keys = rng.sample(sorted(own), min(len(own), rng.randint(3, 5))) + rng.sample(generic, rng.randint(1, 2))
        missing = [key for key in [*sorted(own), *generic] if key not in keys]
        while len(keys) < 5:
            keys.append(missing.pop(rng.randrange(len(missing))))
        rng.shuffle(keys)
        self.acts: dict[str, Data] = {key: own.get(key) or shared[key] for key in keys[:7]}

    def _group(self) -> None:
        """Puts dates, amounts or other facts into objects of their own, so that a record has at most twenty fields."""
        rng, free = self.rng, [self.facts[key] for key in sorted(self.kept)]
        free = [fact for fact in free if fact.key not in self.in_terms]
        for kind, names in _GROUPS.items():
            inner = [
                fact for fact in free if "." not in fact.path and fact.field["type"] == (kind or fact.field["type"])
            ]
            crowded = len({fact.path.split(".")[0] for fact in free}) + len(self.in_terms) - _ROOM
            if crowded > 0 or (kind and rng.random() < 0.4):
                group = rng.choice([name for name in names if name not in self.taken])
                self.taken.add(group)
                for fact in inner if kind else rng.sample(inner, min(len(inner), crowded + 1)):
                    fact.path = f"{group}.{fact.name}"

    def _keep(self) -> None:
        """Chooses the facts that the record has, those that attributes read, and those that terms read."""
        rng, facts = self.rng, self.facts
        needed = {"status", "date", "price"}
        for act in self.acts.values():
            needed |= {key for key, _ in act["set"]}
            slot = act["slot"]
            needed |= {slot[key] for key in ("date_of", "int_of", "enum_of") if key in slot}
        if rng.random() < 0.8:
            needed.add("fee")
        if rng.random() < 0.5:
            needed.add("units")
        shown = "place" in needed or (self.link_type != "site" and rng.random() < 0.6)
        self.search_place = shown
        if shown:
            needed.add("place")
        able = [key for key, fact in facts.items() if fact.spec.get("names") and fact.field["type"] in
                ("enum", "cents", "integer", "date", "flag") and key != "place" and "needs" not in fact.spec]  # fmt: skip
        moved = {key for act in self.kind["actions"].values() for key in act.get("needs", {})}
        able = [key for key in able if key not in moved]
        rng.shuffle(able)
        count = rng.randint(6, 8)
        first = [key for key in able if key in needed and (key == "status" or rng.random() < 0.75)]
        self.read = (first + [key for key in able if key not in needed])[:count]
        rest = [key for key in able if key not in self.read and key not in needed]
        simple = [key for key in rest if facts[key].field["type"] in ("enum", "cents", "integer")
                  and facts[key].label == english.plain(facts[key].name) and "fee" != facts[key].spec.get("role")]  # fmt: skip
        self.in_terms = simple[:2]
        if len(self.in_terms) < 2:  # what the attributes do not need is given to the term
            spare = [key for key in self.read if facts[key].field["type"] in ("enum", "cents", "integer") and key != "status"
                     and facts[key].label == english.plain(facts[key].name)]  # fmt: skip
            while len(self.in_terms) < 2 and spare and len(self.read) > 6:
                self.in_terms.append(spare.pop())
                self.read.remove(self.in_terms[-1])
        self.kept = {*needed, *self.read, *self.in_terms}
        fill = [key for key in self.kind["fill"] if key not in self.kept]
        room = 12 - len(self.kept)
        self.kept |= set(rng.sample(fill, max(0, min(len(fill), room, rng.randint(1, 3)))))

    def _record_fields(self) -> Data:
        """The fields of the main record. Sets the paths of everything that others need."""
        rng, cast = self.rng, self.cast
        parts: Data = {key: {"type": "text", "values": values} for key, values in cast["parts"].items()}
        if rng.random() < 0.6:
            parts[rng.choice(("serial", "code", "reference", "tag"))] = {
                "type": "id",
                "pattern": rng.choice(("@@###", "@#-###", "####@")),
            }
        title, price = (
            rng.choice(("title", "name", "label", "what")),
            rng.choice(("price_cents", "amount_cents", "cost_cents")),
        )
        line: Data = {
            title: {"type": "text", "values": cast["lines"]},
            price: elements.cents([0.02, 0.2], self.price, rng),
        }
        extra = rng.choice(("quantity", "minutes", "done", "checked_by", ""))
        kinds = {"quantity": {"type": "integer", "from": 1, "to": 6}, "minutes": {"type": "integer", "from": 5, "to": 90},
                 "done": {"type": "flag"}, "checked_by": {"type": "name"}}  # fmt: skip
        if extra:
            line[extra] = kinds[extra]
        lines: Data = {"type": "list", "min": 1, "max": rng.randint(4, 5), "of": {"type": "object", "fields": line}}
        self.lines = {"list": self.lines_name, "path": f"{self.lines_name}[].{price}", "field": lines}
        event, day, detail = self.logged
        happened = [english.fill(text, self.words) for text in self.kind["events"]]
        log = {"type": "list", "min": 0, "max": 3, "of": {"type": "object", "fields": {
            event: {"type": "text", "values": happened}, day: {"type": "date", "from": -30, "to": -1},
            detail: {"type": "text", "values": ["", "by phone", "at the desk"]}}}}  # fmt: skip
        fields: Data = {f"{self.owner}_id": {"type": "ref", "to": self.owners}}
        if not self.on_owner:
            fields[f"{self.link}_id"] = {"type": "ref", "to": self.links}
        body: list[tuple[str, Any]] = [(self.thing, {"type": "object", "fields": parts}), (self.lines_name, lines)]
        grouped: dict[str, Data] = {}
        for key in sorted(self.kept):
            fact = self.facts[key]
            group, dot, _ = fact.path.partition(".")
            if dot:
                grouped.setdefault(group, {})[fact.name] = fact.field
            else:
                body.append((fact.name, fact.field))
        body += [(group, {"type": "object", "fields": inner}) for group, inner in grouped.items()]
        rng.shuffle(body)
        body.append((self.log, log))
        return fields | dict(body)

    # Attributes.

    def _code(self, label: str, fact_type: str) -> str:
        """A name for an attribute that no other has."""
        stem = english.snake(
            re.sub(
                "^(number|date|day|amount|length|end) of (the )?| in (percent|minutes|days|months|weeks)$", "", label
            )
        )
        for name in (f"{stem}{self.end}", f"{stem}_{fact_type}", f"{stem}_on_file", f"{stem}_2"):
            if name not in self.codes and name not in ("unavailable", "customer_asked", "other"):
                self.codes.add(name)
                return name
        raise ValueError(f"no name for an attribute on {label!r}")

    def _attribute(self, kind: str, fact: Fact) -> None:
        label = fact.name if fact.field["type"] == "flag" else fact.label
        name = f"{kind}.{self._code(label, fact.field['type'])}"
        self.attributes[name] = elements.attribute(fact, english.plain(kind), self.words, self.used, self.rng)
        self.good[name] = fact

    def _term(self) -> None:
        """A defined term over the facts that no attribute reads."""
        if len(self.in_terms) < 2:
            return
        rng, conditions = self.rng, []
        for key in self.in_terms:
            fact = self.facts[key]
            if fact.field["type"] == "enum":
                values = fact.field["values"]
                pick = rng.sample(values, 2) if len(values) > 3 else rng.choice(values)
                conditions.append(
                    {
                        "path": fact.path,
                        "op": "in" if isinstance(pick, list) else rng.choice(("eq", "ne")),
                        "value": pick,
                    }
                )
            else:
                steps = elements.ladder(fact, rng)
                conditions.append({"path": fact.path, "op": rng.choice(("le", "ge")), "value": rng.choice(steps[2:-2])})
        term = english.fill(rng.choice(self.kind["terms"]), self.words)
        self.attributes[f"{self.record}.{self._code(term, 'term')}"] = {
            "kind": "defined",
            "term": term,
            "when": conditions,
        }

    # Owners, linked records and the rest.

    def _people(self) -> Data:
        """The owner's collection. Sets the ways to identify, and where charges go."""
        rng, data = self.rng, elements.part("owners")
        self.identify_by: dict[str, str] = {}
        self.identify: list[list[str]] = []
        fields: Data = {
            "name": {"type": "name"},
            "email": {"type": "email"},
            "phone": {"type": "phone"},
            "address": {"type": "address"},
        }
        taken = {*fields, f"{self.owner}_id", f"{self.link}_id"}
        paths = {"postcode": "address.postcode", "postal_code": "address.postcode", "town": "address.city", "street": "address.street",
                 "full_name": "name"}  # fmt: skip
        ways = ["name", *rng.sample(["email", "phone", "card"], rng.randint(1, 2))]
        rng.shuffle(ways)
        for way in ways:
            names = rng.choice(data["identify"][way])
            if way == "card":
                fields[names[0]] = {
                    "type": "digits",
                    "pattern": rng.choice(("######", "####-####", "### ###", "########")),
                }
                taken.add(names[0])
            self.identify.append(names)
            for name in names:
                self.identify_by[name] = paths.get(name, name if way in ("name", "card") else way)
        drawn = {spec["key"]: self._fact(spec, taken) for spec in data["facts"]}
        kind = self.trade["owner_type"]
        drawn["type"] = self._fact({"key": "type", "type": "enum", "names": kind["n"], "hold": [kind["hold"]]}, taken)
        able = [key for key in drawn if key not in ("unpaid", "credit")]
        chosen = ["unpaid"] if rng.random() < 0.5 else []
        chosen += rng.sample(able, rng.randint(4, 5) - len(chosen))
        for key in chosen:
            self._attribute(self.owner, drawn[key])
        kept = {*chosen, "unpaid", "credit", *rng.sample(able, rng.randint(1, 2))}
        methods = data["methods"]
        name, brands, pattern = (
            rng.choice(methods["names"]),
            rng.choice(methods["brands"]),
            rng.choice(methods["patterns"]),
        )
        take = rng.choice(("method_id", "id", "token", "reference"))
        item = {
            take: {"type": "id", "pattern": pattern},
            "brand": {"type": "text", "values": brands},
            "last_four": {"type": "digits", "pattern": "####"},
        }
        body: list[tuple[str, Any]] = [(drawn[key].name, drawn[key].field) for key in sorted(kept)]
        body.append((name, {"type": "list", "min": 1, "max": 3, "of": {"type": "object", "fields": item}}))
        body += [(key, data["fill"][key]) for key in rng.sample(sorted(data["fill"]), rng.randint(1, 2))]
        rng.shuffle(body)
        fields |= dict(body)
        if self.on_owner:
            fields[f"{self.link}_id"] = {"type": "ref", "to": self.links}
        self.methods = (name, english.plain(name), take)
        self.method_pattern = pattern
        self.balance = ("owner", drawn["unpaid"].name, drawn["unpaid"].label)
        self.credit = ("owner", drawn["credit"].name, drawn["credit"].label)
        return fields

    def _linked(self) -> Data:
        rng, data = self.rng, elements.part("links")[self.link_type]
        taken = {f"{self.link}_id"}
        drawn = {spec["key"]: self._fact(spec, taken) for spec in data["facts"]}
        fees = [fact for fact in drawn.values() if fact.spec.get("role") == "fee"]
        chosen = rng.sample(sorted(drawn), rng.randint(3, 4))
        for key in chosen:
            self._attribute(self.link, drawn[key])
        self.link_fee = fees[0] if rng.random() < 0.5 else None
        allowances = [fact for fact in drawn.values() if fact.spec.get("role") == "allowance"]
        self.allowance = allowances[0] if allowances and rng.random() < 0.6 else None
        kept = {*chosen, *rng.sample(sorted(drawn), 2), *(f.key for f in (self.link_fee, self.allowance) if f)}
        titles = {"plan": self.trade["plan"]["titles"], "site": self.trade["places"],
                  "group": ["Hill House", "Marsh and Sons", "Number Nine", "the Old Mill", "Parish Club", "Family Berg", "Station Circle"],
                  "terms": ["standard", "short form", "long form", "winter edition", "for clubs"]}  # fmt: skip
        fields: Data = {}
        if self.link_type in titles:
            fields[rng.choice(("title", "name", "called"))] = {"type": "text", "values": titles[self.link_type]}
        fields |= {drawn[key].name: drawn[key].field for key in sorted(kept)}
        return fields | data["fill"]

    def _extra(self, key: str, taken: set[str]) -> tuple[str, Data, Data] | None:
        """(kind, collection, search) of a further collection."""
        rng, trade, data = self.rng, self.trade, elements.part("extras")[key]
        own = trade.get(key, {})
        names = (
            own["names"]
            if "names" in own
            else ", ".join(data.get("names", [])) or f"{self._pick(trade['staff'])}, team_member, colleague"
        )
        kind = english.snake(self._pick(names))
        if {kind, english.snake(english.plural(english.plain(kind)))} & taken:
            return None
        pools = {
            "titles": own.get("titles", trade["stock"]["titles"]),
            "suppliers": trade["suppliers"],
            "roles": trade["roles"],
            "places": trade["places"],
        }
        named = {names: rng.choice(names.split("|")) for names in data["fields"]}
        fields: Data = {}
        shown = {*data["by"], *data["show"]}
        optional = [name for name in named if name not in shown]
        dropped = set(rng.sample(optional, rng.randint(0, max(0, len(optional) - 3))))
        for names, spec in data["fields"].items():
            if names in dropped:
                continue
            field = elements.cents(spec["share"], self.price, rng) if "share" in spec else dict(spec)
            if isinstance(field.get("values"), str):
                field["values"] = pools[field["values"]]
            fields[named[names]] = field
        words = self.words | english.forms("thing", english.plain(kind))
        collection = {
            "kind": kind,
            "id": self._id(kind),
            "describe": english.fill(rng.choice(data["describe"]), words),
            "fields": fields,
        }
        search = {"by": {named[n]: named[n] for n in data["by"]}, "show": [named[n] for n in data["show"]]}
        return kind, collection, search

    def _id(self, kind: str) -> str:
        """How identifiers of a kind look."""
        letters = [letter for letter in kind.upper() if letter.isalpha()]
        short = letters[0] + "".join(letter for letter in letters[1:] if letter not in "AEIOU")
        for length in (self.prefix, self.prefix + 1, 4, 5, 6):
            found = (short + "XYZ")[:length]
            if found not in self.prefixes:
                break
        self.prefixes.add(found)
        return self.id_style.format(p=found.lower() if self.id_lower else found)

    def _searches(self, named: list[tuple[str, str, Data, str]]) -> Data:
        """The search tools. named: (collection, kind, what is searched by and shown, description) of each."""
        rng = self.rng
        first, other = _FIND[rng.choice(sorted(_FIND))]
        found: Data = {}
        for place, (collection, kind, search, describe) in enumerate(named):
            tool = (first if place == 0 else other).format(one=kind, many=collection)
            found[tool] = {"collection": collection, "require": 1, "describe": describe, **search}
        return found

    def _standing(self, acts_: Data) -> list[Data]:
        """Two or three rules for each action, as different as the attributes allow."""
        rng, counts = self.rng, dict.fromkeys(self.attributes, 0)
        rules: list[Data] = []
        for key in acts_:
            order = sorted(self.attributes, key=lambda name: (counts[name], rng.random()))
            for name in order[: rng.choice((2, 2, 3))]:
                counts[name] += 1
                otherwise = "decline" if rng.random() < 0.7 else "transfer"
                rules.append({"action": key, "attribute": name, **self._limit(name), "otherwise": otherwise})
        return rules

    def _limit(self, name: str) -> Data:
        """A comparison that a standing rule may make."""
        rng, spec = self.rng, self.attributes[name]
        good = self.good[name].spec.get("good", "") if name in self.good else ""
        if spec["kind"] in ("flag", "defined"):
            return {"op": "eq", "value": good or rng.choice(("yes", "no"))}
        values = spec["values"]
        if spec["kind"] == "word":
            if good == "first":
                return {"op": "in", "value": values[:2]} if len(values) > 2 else {"op": "eq", "value": values[0]}
            if good == "notfirst":
                return {"op": "ne", "value": values[0]}
            if len(values) > 3 and rng.random() < 0.5:
                return {"op": "in", "value": rng.sample(values, 2)}
            return {"op": "ne", "value": rng.choice(values)}
        up = good == "high" or (not good and rng.random() < 0.5)
        place = rng.randint(1, max(1, len(values) // 2 - 1))
        return {"op": "ge", "value": values[place]} if up else {"op": "le", "value": values[-1 - place]}

    def _texts(self) -> tuple[list[str], dict[str, list[str]]]:
        rng, words = self.rng, self.words
        of_link = [text for text in elements.part("links")[self.link_type]["setting"]
                   if ("{record}" not in text and "{a_record}" not in text) if self.on_owner]  # fmt: skip
        if not self.on_owner:
            of_link = [text for text in elements.part("links")[self.link_type]["setting"]
                       if "{record}" in text or "{a_record}" in text or "{the_holder}" in text]  # fmt: skip
        words = words | {"the_holder": f"every {words['owner'] if self.on_owner else words['record']}"}
        setting = [
            *rng.sample(self.trade["setting"], rng.randint(1, 2)),
            *rng.sample(self.kind["setting"], rng.randint(1, 2)),
        ]
        setting.sort(key=lambda text: "{Title}" not in text)
        setting.append(rng.choice(of_link))
        notes = {}
        for section in rng.sample(sorted(self.trade["notes"]), rng.randint(4, 5)):
            lines = self.trade["notes"][section]
            notes[section] = [english.fill(line, words) for line in rng.sample(lines, rng.randint(2, len(lines)))]
        return [english.upper(english.fill(text, words)) for text in setting], notes

    def business(self) -> Data:
        """The business as data."""
        rng = self.rng
        self._words()
        on = elements.part("links")[self.link_type]["on"]
        self.on_owner = rng.choice(on) == "owner"
        self.id_style, self.id_lower, self.prefix = rng.choice(_IDS), rng.random() < 0.3, rng.randint(1, 3)
        self.prefixes: set[str] = set()
        many = {
            kind: english.snake(english.plural(english.plain(kind))) for kind in (self.record, self.owner, self.link)
        }
        self.records, self.owners, self.links = (many[kind] for kind in (self.record, self.owner, self.link))
        self._record_facts()
        self._choose_actions()
        self._keep()
        self._group()
        fields = self._record_fields()
        people, linked = self._people(), self._linked()
        for key in self.read:
            self._attribute(self.record, self.facts[key])
        if rng.random() < 0.75 or len(self.read) + len(self.in_terms) // 2 < 7:
            label = f"number of {self.words['lines']}"
            self._attribute(
                self.record, Fact("lines", self.lines_name, label, self.lines["field"], {}, self.lines_name)
            )
        self._term()
        describe = {
            "record": f"{self.words['records']} of our {self.words['owners']}",
            "owner": f"people who have {self.words['records']} with us",
        }
        link_text = english.fill(rng.choice(elements.part("links")[self.link_type]["describe"]), self.words)
        collections: Data = {
            self.owners: {
                "kind": self.owner,
                "id": self._id(self.owner),
                "describe": describe["owner"],
                "fields": people,
            },
            self.records: {
                "kind": self.record,
                "id": self._id(self.record),
                "describe": describe["record"],
                "fields": fields,
            },
            self.links: {"kind": self.link, "id": self._id(self.link), "describe": link_text, "fields": linked},
        }
        searches = self._search_specs(people, linked)
        keys = rng.sample(sorted(elements.part("extras")), 4)
        for key in keys:
            if len(collections) == self.size:
                break
            taken = {*collections, *(c["kind"] for c in collections.values()), self.thing}
            if extra := self._extra(key, taken):
                kind, collection, search = extra
                name = english.snake(english.plural(english.plain(kind)))
                collections[name] = collection
                searches.append(
                    (
                        name,
                        kind,
                        search,
                        f"Search {english.plain(name)} by {' or '.join(english.plain(a) for a in search['by'])}.",
                    )
                )
        tools = self._searches(searches)
        actions = self._actions(fields, tools)
        setting, notes = self._texts()
        path = {part: f"{self.thing}.{part}" for part in self.cast["parts"]}
        it = [english.fill(text, {part: f"{{{where}}}" for part, where in path.items()}) for text in self.cast["it"]]
        nouns = list(dict.fromkeys([self.words["record"], self.words["record"].split()[-1], *self._nouns()]))[:3]
        return {
            "name": self.name, "title": self.title, "trade": self.trade_name, "setting": setting,
            "record": self.record, "owner": self.owner, "link": self.link, "it": it, "nouns": nouns,
            "collections": collections, "attributes": self.attributes, "actions": actions, "searches": tools,
            "identify": self.identify, "standing": self._standing(actions), "notes": notes,
        }  # fmt: skip

    def _nouns(self) -> list[str]:
        return [english.plain(name.strip()).split()[-1] for name in self.cast["record"].split(",")]

    def _search_specs(self, people: Data, linked: Data) -> list[tuple[str, str, Data, str]]:
        """Searches for owners, main records and linked records, as `_searches` takes them."""
        rng = self.rng
        self.size = rng.randint(4, 5)
        read = {spec["path"] for name, spec in self.attributes.items() if name.startswith(f"{self.link}.")}
        ways = " or ".join(" and ".join(english.plain(n) for n in way) for way in self.identify)
        shown = ["name"] + ([f"{self.link}_id"] if self.on_owner else [])
        found = [(self.owners, self.owner, {"by": self.identify_by, "show": shown},
                  f"Find {self.words['owners']} by {ways}. All criteria given must match.")]  # fmt: skip
        by, parts = {f"{self.owner}_id": f"{self.owner}_id"}, sorted(self.cast["parts"])
        if self.search_place:
            by[self.facts["place"].name] = self.facts["place"].path
        if rng.random() < 0.5:
            part = rng.choice(parts)
            by[part] = f"{self.thing}.{part}"
        criteria = [self.words["owner"], *(english.plain(name) for name in [*by][1:])]
        found.append((self.records, self.record, {"by": by, "show": [f"{self.thing}.{part}" for part in parts]},
                      f"List {self.words['records']} by {' or '.join(criteria)}."))  # fmt: skip
        free = [
            name for name, field in linked.items() if name not in read and field["type"] in ("text", "enum", "name")
        ]
        if free and (self.size == 4 or rng.random() < 0.5):
            found.append((self.links, self.link, {"by": {free[0]: free[0]}, "show": free[:2]},
                          f"List {self.words['links']} by {english.plain(free[0])}."))  # fmt: skip
        return found

    def _actions(self, fields: Data, tools: Data) -> Data:
        rng, data = self.rng, elements.part("actions")
        owing, owed = self.balance, self.credit
        uses = {act["money"]["use"] for act in self.acts.values()}
        taken = {*fields, *self.taken}
        for place, use in enumerate(("refund", "fee")):
            if use in uses and rng.random() < 0.5:
                fact = self._fact({"key": use, "type": "cents", "names": _OWED[place], "share": [0, 0.1]}, taken)
                fields[fact.name] = fact.field
                where = ("record", fact.name, fact.label)
                owing, owed = (owing, where) if use == "refund" else (where, owed)
        paid_from = ""
        if rng.random() < 0.5:
            paid_from = next(n for n in ("paid_from", "last_paid_from", "charged_method") if n not in taken)
            fields[paid_from] = {"type": "id", "pattern": self.method_pattern}
        setting = acts.Setting(
            words=self.words, facts=self.facts, lines=self.lines, link_fee=self.link_fee, owing=owing, owed=owed,
            log=(self.log, self.logged), methods=self.methods, paid_from=paid_from, allowance=self.allowance,
            price=self.price, kinds=(self.record, self.owner, self.link),
        )  # fmt: skip
        setting.facts = {key: fact for key, fact in self.facts.items() if key in self.kept}
        named, names = acts.style(rng), {*tools, *(f"get_{self.record}", f"get_{self.owner}", f"get_{self.link}")}
        used: dict[str, set[str]] = {"gerund": set(), "verbs": set(), "wants": set(), "family": set()}
        also, found, codes = data["also"], {}, {}
        for key, spec in self.acts.items():
            more: list[tuple[str, Data, str]] = []
            suited = [
                k
                for k in spec.get("also", ["proof", "colleague", "pay"])
                if k != "pay" or spec["money"]["use"] != "refund"
            ]
            if rng.random() < 0.3:
                kit = rng.choice(suited)
                if kit not in codes:
                    options = english.options(also[kit]["names"], self.words)
                    name, label = rng.choice([o for o in options if o[0] not in taken] or [(f"{kit}_wanted", kit)])
                    held = also[kit].get("field") or {"type": "enum", "values": also[kit]["hold"]}
                    fields[f"{name}_now" if name in taken else name] = held
                    codes[kit] = (name, label)
                    taken.add(name)
                name, label = codes[kit]
                setting.words = self.words | {"label": label}
                entry = (
                    {**also[kit], "n": name, "text": also[kit].get("values")}
                    if "values" in also[kit]
                    else {**also[kit], "n": name}
                )
                given, argument = acts.argument(entry, setting, set(), rng)
                more.append((given, argument, name))
                setting.words = self.words
            tool = acts.tool(spec, named, self.words, names, rng)
            drawn = acts.action(spec, tool, more, setting, rng)
            acts.said(spec, drawn, self.words, used, rng)
            found[key] = drawn
        return found
