"""The programmatic teacher's domains: collections, fields, tools and what the tools do to the state, all as data.

Each domain has a main record (an order, a booking, ...) that belongs to an owner record (a customer, a guest, ...),
and actions that change the main record. An action needs one argument that only the record holds (`copied`) and one
that only the user knows (`slot`), so neither reading nor asking can be skipped without guessing.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from synth import expr


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
    actions: tuple[Action, ...]

    def entity(self, kind: str) -> Entity:
        """The entity of that kind. Raises KeyError if the domain has none."""
        return {self.record.kind: self.record, self.owner.kind: self.owner}[kind]

    def values(self) -> dict[str, tuple]:
        """Field reference ("order.status") -> the values it may take."""
        return {f"{e.kind}.{f}": v for e in (self.record, self.owner) for f, v in e.fields.items()}

    def write_tool(self, action: Action) -> str:
        """The name of an action's tool."""
        return f"{action.verb}_{self.record.kind}"


# Numbers are tens and identifiers are words: what has to be copied and compared stays within a small model's reach.
_TENS = tuple(range(10, 100, 10))

_RECORD_IDS = "amber anchor basil birch cedar cliff coral daisy garnet hazel ivory lemon maple oak pearl quartz".split()
_OWNER_IDS = "badger bear camel crane deer duck eagle falcon fox hawk lynx otter owl panda rabbit wolf".split()


def draw_ids(count: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """`count` different record identifiers and as many owner identifiers."""
    return rng.sample(_RECORD_IDS, count), rng.sample(_OWNER_IDS, count)


_STANDING = ("good", "new", "late", "barred")
_CHANNEL = ("web", "phone", "desk", "agent")


def _domain(name: str, record: Entity, owner: Entity, *actions: Action) -> Domain:
    return Domain(name, record, owner, actions)


DOMAINS: dict[str, Domain] = {
    d.name: d
    for d in (
        _domain(
            "orders",
            Entity("order", "orders", {"status": ("packed", "shipped", "delivered", "lost"), "channel": _CHANNEL,
                                       "stock": ("full", "low", "none", "held"), "amount": _TENS}),
            Entity("customer", "customers", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            Action("refund", "amount", "method", ("card", "cash", "voucher")),
            Action("reship", "amount", "speed", ("slow", "normal", "fast")),
        ),
        _domain(
            "hotels",
            Entity("booking", "bookings", {"status": ("open", "paid", "used", "void"), "channel": _CHANNEL,
                                           "room": ("single", "double", "suite", "family"), "price": _TENS}),
            Entity("guest", "guests", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            Action("cancel", "price", "method", ("card", "cash", "voucher")),
            Action("move", "price", "season", ("spring", "summer", "winter")),
        ),
        _domain(
            "clinics",
            Entity("visit", "visits", {"status": ("open", "done", "missed", "void"),
                                       "urgency": ("low", "normal", "high", "acute"),
                                       "ward": ("north", "south", "east", "west"), "fee": _TENS}),
            Entity("patient", "patients", {"cover": ("none", "basic", "full", "state"),
                                           "consent": ("given", "pending", "expired", "denied")}),
            Action("move", "fee", "shift", ("morning", "noon", "evening")),
            Action("cancel", "fee", "notice", ("letter", "phone", "text")),
        ),
        _domain(
            "banking",
            Entity("account", "accounts", {"status": ("open", "frozen", "closed", "dormant"),
                                           "kind": ("saving", "current", "joint", "youth"),
                                           "branch": ("north", "south", "east", "west"), "balance": _TENS}),
            Entity("holder", "holders", {"risk": ("low", "normal", "high", "watch"),
                                         "consent": ("given", "pending", "expired", "denied")}),
            Action("close", "balance", "payout", ("card", "cash", "cheque")),
            Action("upgrade", "balance", "plan", ("basic", "plus", "prime")),
        ),
        _domain(
            "libraries",
            Entity("loan", "loans", {"status": ("open", "late", "returned", "lost"),
                                     "kind": ("book", "film", "map", "game"),
                                     "queue": ("empty", "short", "long", "held"), "days": _TENS}),
            Entity("member", "members", {"tier": ("basic", "silver", "gold", "trial"), "standing": _STANDING}),
            Action("renew", "days", "term", ("week", "month", "season")),
            Action("move", "days", "branch", ("north", "south", "east")),
        ),
        _domain(
            "rentals",
            Entity("rental", "rentals", {"status": ("open", "late", "returned", "void"),
                                         "kind": ("bike", "car", "van", "boat"),
                                         "damage": ("none", "minor", "major", "unknown"), "deposit": _TENS}),
            Entity("driver", "drivers", {"licence": ("valid", "expired", "foreign", "youth"), "standing": _STANDING}),
            Action("refund", "deposit", "method", ("card", "cash", "voucher")),
            Action("extend", "deposit", "term", ("day", "week", "month")),
        ),
        _domain(
            "parcels",
            Entity("parcel", "parcels", {"status": ("packed", "shipped", "delivered", "lost"),
                                         "size": ("small", "medium", "large", "giant"),
                                         "zone": ("north", "south", "east", "west"), "weight": _TENS}),
            Entity("sender", "senders", {"contract": ("none", "basic", "full", "state"), "standing": _STANDING}),
            Action("reroute", "weight", "depot", ("harbour", "station", "airport")),
            Action("insure", "weight", "plan", ("basic", "plus", "prime")),
        ),
        _domain(
            "courses",
            Entity("enrolment", "enrolments", {"status": ("open", "paid", "done", "void"),
                                               "level": ("first", "second", "third", "fourth"),
                                               "mode": ("campus", "online", "mixed", "evening"), "credits": _TENS}),
            Entity("student", "students", {"tier": ("regular", "guest", "honours", "trial"), "standing": _STANDING}),
            Action("move", "credits", "season", ("spring", "summer", "winter")),
            Action("upgrade", "credits", "track", ("science", "arts", "trade")),
        ),
        _domain(
            "events",
            Entity("ticket", "tickets", {"status": ("open", "paid", "used", "void"),
                                         "area": ("floor", "balcony", "box", "stage"),
                                         "channel": _CHANNEL, "price": _TENS}),
            Entity("visitor", "visitors", {"age": ("child", "youth", "adult", "senior"), "standing": _STANDING}),
            Action("refund", "price", "method", ("card", "cash", "voucher")),
            Action("swap", "price", "show", ("matinee", "evening", "gala")),
        ),
        _domain(
            "utilities",
            Entity("meter", "meters", {"status": ("active", "frozen", "closed", "faulty"),
                                       "kind": ("water", "gas", "power", "heat"),
                                       "zone": ("north", "south", "east", "west"), "reading": _TENS}),
            Entity("tenant", "tenants", {"contract": ("none", "basic", "full", "state"), "standing": _STANDING}),
            Action("adjust", "reading", "reason", ("leak", "error", "move")),
            Action("swap", "reading", "shift", ("morning", "noon", "evening")),
        ),
    )
}  # fmt: skip


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


def tool_specs(domain: Domain, action: Action, entities: list[str]) -> tuple[list[dict], dict[str, dict]]:
    """(OpenAI function schemas, tool name -> effect) for a workflow that reads the given entity kinds.

    An effect is data that envs/world.py carries out: {"kind": "read", "collection", "key"}; {"kind": "write",
    "collection", "key", "set": {field: argument name}}; {"kind": "control", "outcome"}.
    """
    schemas, effects = [], {}
    for kind in entities:
        entity = domain.entity(kind)
        schemas.append(_function(entity.read_tool, f"Read one {kind}.", {entity.key: {"type": "string"}}))
        effects[entity.read_tool] = {"kind": "read", "collection": entity.collection, "key": entity.key}
    record, write = domain.record, domain.write_tool(action)
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
    for outcome, text in (("decline", "Decline the request."), ("transfer", "Hand over to a person.")):
        schemas.append(_function(outcome, text, {"reason": {"type": "string"}}))
        effects[outcome] = {"kind": "control", "outcome": outcome}
    return schemas, effects


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
