"""The built-in domains: collections, fields, tools and what the tools do to the state, all as data.

Each domain has three kinds of records and some actions:
- the main record (an order, a booking, ...) belongs to an owner record (a customer, a guest, ...);
- the owner record is linked to a third record (a household, an agency, ...);
- actions change the main record.

An action needs one argument that only the record holds (`copied`) and one that only the user knows (`slot`). So an
agent that neither reads the record nor asks the user has to guess.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Iterable
from typing import Any

from synth.trees import expr


@dataclasses.dataclass(frozen=True)
class Entity:
    """A kind of record.

    kind: its name in the singular ("order"). collection: in the plural ("orders").
    fields: field name -> the values it may take.
    """

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
    """A write to the main record. Its tool `<verb>_<record kind>` takes an identifier, `copied` and `slot`.

    The tool stores the last two arguments on the record.

    verb: what is done ("refund").
    copied: the field of the record that has to be passed along.
    slot: the detail that only the user knows. choices: its possible values.
    """

    verb: str
    copied: str
    slot: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Domain:
    """One line of business: its three kinds of records (see the module's docstring) and its actions."""

    name: str
    record: Entity
    owner: Entity
    link: Entity
    actions: tuple[Action, ...]

    @property
    def entities(self) -> tuple[Entity, Entity, Entity]:
        """(record, owner, link): a record holds its owner's identifier, an owner that of its linked record."""
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

    @property
    def most_rules(self) -> int:
        """At most so many fields with a rule per policy text. A tiny one must stay short."""
        return 4

    def tells(self, action: Action) -> bool:
        """Whether the copied argument of an action is an amount that the user can be told."""
        return False

    def comparable(self) -> list[str]:
        """References of numbers by which a user can single out one of several records: "the cheapest of mine"."""
        return []

    def standing(self, action: Action) -> list[tuple[expr.Expr, str]]:
        """(condition, outcome where it fails) of the rules that come with an action when its tree first grows."""
        return []

    @property
    def names_record(self) -> bool:
        """Whether a refusal always says which record it is about, and not only where there are several goals."""
        return False

    @property
    def record_links(self) -> bool:
        """Whether a record itself holds the linked record's identifier; else its owner does."""
        return False

    def control(self, outcome: str) -> str:
        """The name of the tool that carries out "decline" or "transfer"."""
        return outcome

    def rows(self, state: State, record_id: str) -> dict[str, dict[str, Any]]:
        """Kind -> record, for a main record, its owner and, if it has one, the linked record.

        Raises KeyError if the state lacks one of these records.
        """
        record = state[self.record.collection][record_id]
        owner = state[self.owner.collection][record[self.owner.key]]
        found = {self.record.kind: record, self.owner.kind: owner}
        if self.link.key in owner:
            found[self.link.kind] = state[self.link.collection][owner[self.link.key]]
        return found

    def values_of(self, state: State, record_id: str, now: str = "") -> dict[str, Any]:
        """Field reference -> value, for the records of `rows`. now: the task's day; here nothing depends on it.

        Raises KeyError if the state lacks one of these records.
        """
        rows = self.rows(state, record_id)
        return {f"{e.kind}.{f}": rows[e.kind][f] for e in self.entities if e.kind in rows for f in e.fields}

    def put(self, state: State, record_id: str, reference: str, value: Any, now: str = "") -> None:
        """Sets a field of a main record, its owner or its linked record, in place. Raises KeyError as `rows`."""
        kind, name = reference.split(".")
        self.rows(state, record_id)[kind][name] = value

    def arguments(
        self, action: Action, state: State, record_id: str, slots: dict[str, Any], now: str = ""
    ) -> dict[str, Any]:
        """The right arguments of the write on a record. slots: what the user wants, by argument."""
        copied = state[self.record.collection][record_id][action.copied]
        return {self.record.key: record_id, action.copied: copied, action.slot: slots[action.slot]}

    def written(self, action: Action, state: State, arguments: dict[str, Any], now: str = "") -> State:
        """The records that a write changes, as they are after it: {collection: {record id: record}}."""
        key = arguments[self.record.key]
        record = dict(state[self.record.collection][key])
        record |= {f"{action.verb}_{name}": arguments[name] for name in (action.copied, action.slot)}
        return {self.record.collection: {key: record}}

    def wishes(self, action: Action, wanted: Any, now: str = "") -> list[Any]:
        """The values of the slot that a user might want. wanted: the one that the user wants."""
        return list(action.choices)

    def guesses(self, action: Action, right: Any) -> list[Any]:
        """Values that an agent might make up for the copied argument, `right` among them."""
        return list(self.record.fields[action.copied])


State = dict[str, dict[str, dict[str, Any]]]  # {collection: {record id: {field: value}}}

# Numbers are multiples of ten and identifiers are words, so that even a small model can copy and compare them.
TENS = tuple(range(10, 100, 10))

_RECORD_IDS = "amber anchor basil birch cedar cliff coral daisy garnet hazel ivory lemon maple oak pearl quartz".split()
_OWNER_IDS = "badger bear camel crane deer duck eagle falcon fox hawk lynx otter owl panda rabbit wolf".split()


def draw_ids(count: int, rng: random.Random) -> tuple[list[str], list[str]]:
    """`count` different record identifiers and as many owner identifiers. Raises ValueError if `count` exceeds 16."""
    return rng.sample(_RECORD_IDS, count), rng.sample(_OWNER_IDS, count)


_STANDING = ("good", "new", "late", "barred")
_CHANNEL = ("web", "phone", "desk", "agent")
_LINK_IDS = "aster bramble clover fern heather iris laurel moss nettle orchid poppy reed sage thistle violet".split()


def draw_link_ids(count: int, rng: random.Random) -> list[str]:
    """`count` different identifiers of linked records. Raises ValueError if `count` exceeds 15."""
    return rng.sample(_LINK_IDS, count)


def _domain(name: str, record: Entity, owner: Entity, link: tuple[str, str], *actions: Action) -> Domain:
    """A domain with the linked record that all built-in domains share. `link`: its name in singular and plural."""
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


# Words that no domain may use as a name, because they have a meaning in every domain:
# - tools and outcomes;
# - beginnings of subgoal names (synth/inversion/rubric.py);
# - reasons that are not the name of a field;
# - words of the agent's questions (synth/inversion/script.py): the scripted user would take a detail of that name to
#   be asked for.
RESERVED = frozenset(
    "all get find write decline transfer stop read found asked policy unavailable id confirm please which of".split()
)
_IDENTIFIERS = frozenset((*_RECORD_IDS, *_OWNER_IDS, *_LINK_IDS))


def check(domain: Domain) -> None:
    """Raises ValueError if a name of the domain is malformed or ambiguous, or if `copied` is not a numeric field.

    Names must be unambiguous because the scripted user recognises questions by single words, and because a reason is a
    field name without its entity.
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
    """Adds domains to the built-in ones (DOMAINS), in this process.

    Raises ValueError if a domain is malformed (see `check`), or if its name belongs to a different domain already.
    """
    for domain in found:
        if type(domain) is Domain:  # businesses have been checked by their schema
            check(domain)
        if DOMAINS.setdefault(domain.name, domain) != domain:
            raise ValueError(f"domain {domain.name!r}: there is another one of that name")


# Find a domain that is not in DOMAINS: name -> domain, or None. Businesses are found, and composed, when first needed.
FINDERS: list[Callable[[str], Domain | None]] = []
_FOUND: dict[str, Domain] = {}  # what finders have found in this process


def find(name: str) -> Domain:
    """The domain of a name, in DOMAINS or found by one of FINDERS. Raises KeyError if there is none."""
    if name in DOMAINS:
        return DOMAINS[name]
    if name not in _FOUND:
        for finder in FINDERS:
            if (found := finder(name)) is not None:
                _FOUND[name] = found
                break
    return _FOUND[name]


def exists(name: Any) -> bool:
    """Whether there is a domain of a name, which may be anything."""
    try:
        return isinstance(name, str) and bool(find(name))
    except KeyError:
        return False


def select(names: str) -> list[Domain]:
    """The domains in a comma-separated list of names, or all of them for "all".

    Raises ValueError for an empty list or unknown names (the message names them).
    """
    wanted = (
        [n for n, d in DOMAINS.items() if type(d) is Domain]
        if names == "all"
        else [n.strip() for n in names.split(",") if n.strip()]
    )
    unknown = [n for n in wanted if n not in DOMAINS]
    if unknown or not wanted:
        raise ValueError(f"synth.domains: unknown {unknown or names!r}, expected 'all' or some of {', '.join(DOMAINS)}")
    return [DOMAINS[n] for n in wanted]


def draw_record(entity: Entity, record_id: str, rng: random.Random) -> dict[str, Any]:
    """A record {field: value} of an entity with the given identifier and random values."""
    return {entity.key: record_id, **{f: rng.choice(values) for f, values in entity.fields.items()}}


def _function(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def tool_specs(
    domain: Domain, action: Action, entities: list[str], find: bool = False, several: bool = False
) -> tuple[list[dict], dict[str, dict]]:
    """(OpenAI function schemas, tool name -> effect) for a workflow that reads the given entity kinds.

    An effect is data that envs/world.py carries out, one of:
    - {"kind": "read", "collection", "key"};
    - {"kind": "find", "collection", "key"};
    - {"kind": "write", "collection", "key", "set": {field: argument name}}; inversion may add
      "faults": {record id: edge of an attempt node};
    - {"kind": "control", "outcome"}.

    Args:
      domain: the domain.
      action: the write that gets a tool.
      entities: kinds of the entities that get a tool to read them.
      find: whether there is a tool that lists an owner's records.
      several: whether `decline` takes an argument that says which record it is about.
    Raises:
      KeyError: the domain has no entity of one of the kinds.
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
        about = which if outcome == "decline" else {}  # a transfer hands over the whole conversation
        schemas.append(_function(outcome, text, {"reason": {"type": "string"}, **about}))
        effects[outcome] = {"kind": "control", "outcome": outcome}
    return schemas, effects


def boundary_candidates(entity: Entity, used: set[str], rng: random.Random) -> list[expr.Expr]:
    """A random comparison for each of an entity's numeric fields that is not in `used` (field references).

    The limit is never the lowest or highest value of the field, so that values exist on both sides of it.
    """
    numbers = {f"{entity.kind}.{name}": v for name, v in entity.fields.items() if isinstance(v[0], int)}
    return [
        {"op": rng.choice(("le", "ge", "lt", "gt")), "field": reference, "value": rng.choice(values[1:-1])}
        for reference, values in numbers.items()
        if reference not in used
    ]


def guard_candidates(domain: Domain, entity: Entity, used: set[str], rng: random.Random) -> list[expr.Expr]:
    """A random condition for each of an entity's fields that is not in `used` (field references), in random order."""
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
