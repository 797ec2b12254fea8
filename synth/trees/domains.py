"""The programmatic teacher's domains: collections, fields, tools and what the tools do to the state, all as data.

Each domain has a main record (an order, a booking, ...) that belongs to an owner record (a customer, a guest, ...),
which is linked to a third (a household, an agency, ...), and actions that change the main record. An action needs one
argument that only the record holds (`copied`) and one that only the user knows (`slot`), so neither reading nor asking
can be skipped without guessing.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterable
from typing import Any

from synth.trees import expr


@dataclasses.dataclass(frozen=True)
class Entity:
    """A collection of records: `kind` is the singular, `fields` maps a field to the values it may take."""

    kind: str
    collection: str
    fields: dict[str, tuple]

    @property
    def key(self) -> str:
        """The name of the identifier field."""
        return f"{self.kind}_id"

    @property
    def read_tool(self) -> str:
        """The name of the tool that reads one record."""
        return f"get_{self.kind}"


@dataclasses.dataclass(frozen=True)
class Action:
    """A write. The tool is `<verb>_<record kind>(id, copied, slot)`; it stores both arguments on the record."""

    verb: str
    copied: str
    slot: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Domain:
    """One line of business."""

    name: str
    record: Entity
    owner: Entity
    link: Entity
    actions: tuple[Action, ...]

    @property
    def entities(self) -> tuple[Entity, Entity, Entity]:
        """Record, owner and link: each holds the identifier of the next."""
        return self.record, self.owner, self.link

    def entity(self, kind: str) -> Entity:
        """The entity of that kind. Raises KeyError if the domain has none."""
        return {entity.kind: entity for entity in self.entities}[kind]

    def values(self) -> dict[str, tuple]:
        """Field reference ("order.status") -> the values it may take."""
        return {f"{e.kind}.{f}": v for e in self.entities for f, v in e.fields.items()}

    def write_tool(self, action: Action) -> str:
        """The name of an action's tool."""
        return f"{action.verb}_{self.record.kind}"

    @property
    def find_tool(self) -> str:
        """The name of the tool that lists the records of an owner."""
        return f"find_{self.record.collection}"


# Numbers are tens and identifiers are words: what has to be copied and compared stays within a small model's reach.
TENS = tuple(range(10, 100, 10))

_RECORD_IDS = "amber anchor basil birch cedar cliff coral daisy garnet hazel ivory lemon maple oak pearl quartz".split()
_OWNER_IDS = "badger bear camel crane deer duck eagle falcon fox hawk lynx otter owl panda rabbit wolf".split()


def draw_ids(count: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """`count` different record identifiers and as many owner identifiers."""
    return rng.sample(_RECORD_IDS, count), rng.sample(_OWNER_IDS, count)


_STANDING = ("good", "new", "late", "barred")
_CHANNEL = ("web", "phone", "desk", "agent")
_LINK_IDS = "aster bramble clover fern heather iris laurel moss nettle orchid poppy reed sage thistle violet".split()


def draw_link_ids(count: int, rng: random.Random) -> list[str]:
    """`count` different identifiers of linked records."""
    return rng.sample(_LINK_IDS, count)


def _domain(name: str, record: Entity, owner: Entity, link: tuple[str, str], *actions: Action) -> Domain:
    """`link`: singular and plural of what owners are linked to."""
    fields = {"debt": ("none", "small", "large", "old"), "region": ("alpine", "coastal", "inland", "island")}
    return Domain(name, record, owner, Entity(*link, fields), actions)


DOMAINS: dict[str, Domain] = {
    d.name: d
    for d in (
        _domain(
            "orders",
            Entity("order", "orders", {"status": ("packed", "shipped", "delivered", "lost"), "channel": _CHANNEL,
                                       "stock": ("full", "low", "none", "held"), "amount": TENS}),
            Entity("customer", "customers", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            ("household", "households"),
            Action("refund", "amount", "method", ("card", "cash", "voucher")),
            Action("reship", "amount", "speed", ("slow", "normal", "fast")),
        ),
        _domain(
            "hotels",
            Entity("booking", "bookings", {"status": ("open", "paid", "used", "void"), "channel": _CHANNEL,
                                           "room": ("single", "double", "suite", "family"), "price": TENS}),
            Entity("guest", "guests", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            ("agency", "agencies"),
            Action("cancel", "price", "method", ("card", "cash", "voucher")),
            Action("move", "price", "season", ("spring", "summer", "winter")),
        ),
        _domain(
            "clinics",
            Entity("visit", "visits", {"status": ("open", "done", "missed", "void"),
                                       "urgency": ("low", "normal", "high", "acute"),
                                       "ward": ("north", "south", "east", "west"), "fee": TENS}),
            Entity("patient", "patients", {"cover": ("none", "basic", "full", "state"),
                                           "consent": ("given", "pending", "expired", "denied")}),
            ("insurer", "insurers"),
            Action("move", "fee", "shift", ("morning", "noon", "evening")),
            Action("cancel", "fee", "notice", ("letter", "phone", "text")),
        ),
        _domain(
            "banking",
            Entity("account", "accounts", {"status": ("open", "frozen", "closed", "dormant"),
                                           "kind": ("saving", "current", "joint", "youth"),
                                           "branch": ("north", "south", "east", "west"), "balance": TENS}),
            Entity("holder", "holders", {"risk": ("low", "normal", "high", "watch"),
                                         "consent": ("given", "pending", "expired", "denied")}),
            ("trust", "trusts"),
            Action("close", "balance", "payout", ("card", "cash", "cheque")),
            Action("upgrade", "balance", "plan", ("basic", "plus", "prime")),
        ),
        _domain(
            "libraries",
            Entity("loan", "loans", {"status": ("open", "late", "returned", "lost"),
                                     "kind": ("book", "film", "map", "game"),
                                     "queue": ("empty", "short", "long", "held"), "days": TENS}),
            Entity("member", "members", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            ("school", "schools"),
            Action("renew", "days", "term", ("week", "month", "season")),
            Action("move", "days", "branch", ("north", "south", "east")),
        ),
        _domain(
            "rentals",
            Entity("rental", "rentals", {"status": ("open", "late", "returned", "void"),
                                         "kind": ("bike", "car", "van", "boat"),
                                         "damage": ("none", "minor", "major", "unknown"), "deposit": TENS}),
            Entity("driver", "drivers", {"licence": ("valid", "expired", "foreign", "youth"), "standing": _STANDING}),
            ("fleet", "fleets"),
            Action("refund", "deposit", "method", ("card", "cash", "voucher")),
            Action("extend", "deposit", "term", ("day", "week", "month")),
        ),
        _domain(
            "parcels",
            Entity("parcel", "parcels", {"status": ("packed", "shipped", "delivered", "lost"),
                                         "size": ("small", "medium", "large", "giant"),
                                         "zone": ("north", "south", "east", "west"), "weight": TENS}),
            Entity("sender", "senders", {"contract": ("none", "basic", "full", "state"), "standing": _STANDING}),
            ("firm", "firms"),
            Action("reroute", "weight", "depot", ("harbour", "station", "airport")),
            Action("insure", "weight", "plan", ("basic", "plus", "prime")),
        ),
        _domain(
            "courses",
            Entity("enrolment", "enrolments", {"status": ("open", "paid", "done", "void"),
                                               "level": ("first", "second", "third", "fourth"),
                                               "mode": ("campus", "online", "mixed", "evening"), "credits": TENS}),
            Entity("student", "students", {"tier": ("regular", "guest", "honours", "trial"), "standing": _STANDING}),
            ("faculty", "faculties"),
            Action("move", "credits", "season", ("spring", "summer", "winter")),
            Action("upgrade", "credits", "track", ("science", "arts", "trade")),
        ),
        _domain(
            "events",
            Entity("ticket", "tickets", {"status": ("open", "paid", "used", "void"),
                                         "area": ("floor", "balcony", "box", "stage"),
                                         "channel": _CHANNEL, "price": TENS}),
            Entity("visitor", "visitors", {"age": ("child", "youth", "adult", "senior"), "standing": _STANDING}),
            ("club", "clubs"),
            Action("refund", "price", "method", ("card", "cash", "voucher")),
            Action("swap", "price", "show", ("matinee", "evening", "gala")),
        ),
        _domain(
            "utilities",
            Entity("meter", "meters", {"status": ("active", "frozen", "closed", "faulty"),
                                       "kind": ("water", "gas", "power", "heat"),
                                       "zone": ("north", "south", "east", "west"), "reading": TENS}),
            Entity("tenant", "tenants", {"contract": ("none", "basic", "full", "state"), "standing": _STANDING}),
            ("building", "buildings"),
            Action("adjust", "reading", "reason", ("leak", "error", "move")),
            Action("swap", "reading", "shift", ("morning", "noon", "evening")),
        ),
        _domain(
            "insurance",
            Entity("claim", "claims", {"status": ("open", "paid", "closed", "disputed"),
                                       "cause": ("fire", "water", "theft", "storm"),
                                       "proof": ("none", "photo", "report", "witness"), "loss": TENS}),
            Entity("insured", "insureds", {"cover": ("none", "basic", "full", "state"), "standing": _STANDING}),
            ("broker", "brokers"),
            Action("settle", "loss", "payout", ("card", "cash", "cheque")),
            Action("reopen", "loss", "notice", ("letter", "phone", "text")),
        ),
        _domain(
            "phones",
            Entity("line", "lines", {"status": ("active", "frozen", "closed", "dormant"),
                                     "network": ("copper", "fibre", "mobile", "radio"),
                                     "zone": ("north", "south", "east", "west"), "minutes": TENS}),
            Entity("subscriber", "subscribers", {"contract": ("none", "basic", "full", "state"),
                                                 "age": ("child", "youth", "adult", "senior")}),
            ("reseller", "resellers"),
            Action("move", "minutes", "shift", ("morning", "noon", "evening")),
            Action("upgrade", "minutes", "plan", ("basic", "plus", "prime")),
        ),
    )
}  # fmt: skip


# What stands for something in every domain: tools and outcomes, what subgoals are called by (rubric.py), reasons
# that are no field's, and what an agent asks in (script.py), which a user would take for the detail of that name.
RESERVED = frozenset(
    "all get find write decline transfer stop read found asked policy unavailable id confirm please which of".split()
)
_IDENTIFIERS = frozenset((*_RECORD_IDS, *_OWNER_IDS, *_LINK_IDS))


def check(domain: Domain) -> None:
    """Raises ValueError if a domain's names could be read in two ways.

    The scripted user tells questions by words and a reason is a bare field name, so none may stand for two things.
    """
    fields = [name for entity in domain.entities for name in entity.fields]
    kinds = [name for entity in domain.entities for name in (entity.kind, entity.collection)]
    verbs = [action.verb for action in domain.actions]
    slots = {action.slot for action in domain.actions}  # two actions may ask for the same detail
    values = [str(v) for entity in domain.entities for options in entity.fields.values() for v in options]
    values += [choice for action in domain.actions for choice in action.choices]
    names = [*fields, *kinds, *verbs, *slots]
    odd = [word for word in (domain.name, *names, *values) if not re.fullmatch(r"[a-z]+|[0-9]+", word)]
    if odd:
        raise ValueError(f"domain {domain.name!r}: names are lower-case words, got {odd}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"domain {domain.name!r}: {twice} stand for two things")
    taken = RESERVED & {domain.name, *names} | _IDENTIFIERS & {*names, *values} | {"confirm"} & set(values)
    if taken:
        raise ValueError(f"domain {domain.name!r}: {sorted(taken)} mean something in every domain")
    for action in domain.actions:
        if not isinstance(domain.record.fields.get(action.copied, ("",))[0], int):
            raise ValueError(f"domain {domain.name!r}: {action.copied!r} is not a number of the {domain.record.kind}")


def register(found: Iterable[Domain]) -> None:
    """Makes domains known beside the built-in ones, in this process.

    Raises ValueError if one is malformed or would replace a different one of its name.
    """
    for domain in found:
        check(domain)
        if DOMAINS.setdefault(domain.name, domain) != domain:
            raise ValueError(f"domain {domain.name!r}: there is another one of that name")


def select(names: str) -> list[Domain]:
    """The domains of a comma-separated list, or all of them for "all". Raises ValueError naming an unknown one."""
    wanted = list(DOMAINS) if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    unknown = [n for n in wanted if n not in DOMAINS]
    if unknown or not wanted:
        raise ValueError(f"synth.domains: unknown {unknown or names!r}, expected 'all' or some of {', '.join(DOMAINS)}")
    return [DOMAINS[n] for n in wanted]


def draw_record(entity: Entity, record_id: str, rng: random.Random) -> dict[str, Any]:
    """A random record of an entity."""
    return {entity.key: record_id, **{f: rng.choice(values) for f, values in entity.fields.items()}}


def _function(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def tool_specs(
    domain: Domain, action: Action, entities: list[str], find: bool = False, several: bool = False
) -> tuple[list[dict], dict[str, dict]]:
    """(OpenAI function schemas, tool name -> effect) for a workflow that reads the given entity kinds.

    find: also a tool that lists an owner's records. several: a refusal has to say which record it is about.

    An effect is data that envs/world.py carries out: {"kind": "read", "collection", "key"}; {"kind": "find",
    "collection", "key"}; {"kind": "write", "collection", "key", "set": {field: argument name}}, to which inversion adds
    "faults": {record id: edge of an attempt node}; {"kind": "control", "outcome"}.
    """
    schemas, effects = [], {}
    record, write = domain.record, domain.write_tool(action)
    if find:
        text, key = f"List the {record.collection} of one {domain.owner.kind}.", domain.owner.key
        schemas.append(_function(domain.find_tool, text, {key: {"type": "string"}}))
        effects[domain.find_tool] = {"kind": "find", "collection": record.collection, "key": key}
    for kind in entities:
        entity = domain.entity(kind)
        schemas.append(_function(entity.read_tool, f"Read one {kind}.", {entity.key: {"type": "string"}}))
        effects[entity.read_tool] = {"kind": "read", "collection": entity.collection, "key": entity.key}
    properties = {
        record.key: {"type": "string"},
        action.copied: {"type": "integer"},
        action.slot: {"type": "string", "enum": list(action.choices)},
    }
    schemas.append(_function(write, f"{action.verb.capitalize()} one {record.kind}.", properties))
    effects[write] = {
        "kind": "write",
        "collection": record.collection,
        "key": record.key,
        "set": {f"{action.verb}_{action.copied}": action.copied, f"{action.verb}_{action.slot}": action.slot},
    }
    which = {record.key: {"type": "string"}} if several else {}
    for outcome, text in (("decline", "Decline the request."), ("transfer", "Hand over to a person.")):
        about = which if outcome == "decline" else {}  # a transfer hands the whole conversation over
        schemas.append(_function(outcome, text, {"reason": {"type": "string"}, **about}))
        effects[outcome] = {"kind": "control", "outcome": outcome}
    return schemas, effects


def boundary_candidates(entity: Entity, used: set[str], rng: random.Random) -> list[expr.Expr]:
    """Conditions on an entity's unused numbers that both a value at the limit and one next to it can decide."""
    numbers = {f"{entity.kind}.{name}": v for name, v in entity.fields.items() if isinstance(v[0], int)}
    return [
        {"op": rng.choice(("le", "ge", "lt", "gt")), "field": reference, "value": rng.choice(values[1:-1])}
        for reference, values in numbers.items()
        if reference not in used
    ]


def guard_candidates(domain: Domain, entity: Entity, used: set[str], rng: random.Random) -> list[expr.Expr]:
    """Conditions an operator may put on an entity's unused fields, in random order."""
    found = []
    for name, values in entity.fields.items():
        reference = f"{entity.kind}.{name}"
        if reference in used:
            continue
        if isinstance(values[0], int):
            limit = rng.choice(values[len(values) // 4 : 3 * len(values) // 4])
            found.append({"op": rng.choice(("le", "ge")), "field": reference, "value": limit})
        else:
            found.append({"op": "eq", "field": reference, "value": rng.choice(values)})
    rng.shuffle(found)
    return found
