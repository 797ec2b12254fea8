"""A business as the engine sees it: a domain whose fields are attributes, so that every operator applies to it."""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import Any

from synth.business import attributes, draw, interpreter, paths
from synth.business.schema import Action as Write
from synth.business.schema import Argument, Business, Field, field_of
from synth.trees import expr
from synth.trees.domains import Action, Domain, Entity

DECLINE, TRANSFER = "log_refusal", "transfer_to_human"
REASONS = ("unavailable", "customer_asked", "other")  # reason codes that every business has beside its attributes
_JSON = {"date": "string", "enum": "string", "text": "string", "time": "string", "integer": "integer",
         "cents": "integer", "flag": "boolean"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Service(Domain):
    """The domain of a business. Its entities' fields are the attributes; `Action.copied` is the first argument that
    follows from the records, and `choices` is empty: what a customer may want is drawn per task (`draw_wish`)."""

    business: Business = dataclasses.field(kw_only=True)

    @property
    def find_tool(self) -> str:
        """The search for the main records of an owner."""
        b = self.business
        wanted = f"{b.owner}_id"
        return next(t for t, s in b.searches.items() if s.collection == b.of_kind[b.record] and wanted in s.by)

    @property
    def identify_tool(self) -> str:
        """The search by which customers are identified."""
        b = self.business
        return next(tool for tool, search in b.searches.items() if search.collection == b.of_kind[b.owner])

    def write_tool(self, action: Action) -> str:
        """The name of an action's tool."""
        return self.business.actions[action.verb].tool

    @property
    def most_rules(self) -> int:
        """At most so many attributes with a rule per action."""
        return 7

    def tells(self, action: Action) -> bool:
        """Whether the first argument that comes from the records is an amount of money."""
        formula = self.write(action).args[action.copied].formula
        return formula is not None and formula.op not in ("pick", "each") and action.copied.endswith("_cents")

    def comparable(self) -> list[str]:
        """The numeric attributes of the main record that customers have words for."""
        kinds, values = ("cents", "number", "count", "days_until"), self.values()
        return [n for n, a in self.business.attributes.items() if n in values and a.kind in kinds
                and n.split(".")[0] == self.business.record]  # fmt: skip

    def standing(self, action: Action) -> list[tuple[expr.Expr, str]]:
        """(condition, outcome where it fails) of the business's standing rules on an action."""
        values = self.values()
        return [
            ({"op": s.op, "field": s.attribute, "value": s.value}, s.otherwise)
            for s in self.business.standing
            if s.action == action.verb and s.attribute in values
        ]

    @property
    def names_record(self) -> bool:
        """A refusal is always logged with its record."""
        return True

    @property
    def record_links(self) -> bool:
        """Whether it is the record, and not its owner, that holds the linked record's identifier."""
        return self.link.key in self.fields(self.record.kind)

    def control(self, outcome: str) -> str:
        """The tool that carries out "decline" or "transfer"."""
        return {"decline": DECLINE, "transfer": TRANSFER}[outcome]

    def made(self, tools: list[dict], state: interpreter.State) -> bool:
        """Whether a task with these tools and records can be of this business: its file or the composer may have
        changed since the task was made."""
        if tools != self.tools[0] or state.keys() != self.business.collections.keys():
            return False
        return all(
            isinstance(record, dict) and record.keys() == {collection.key, *collection.fields}
            for name, collection in self.business.collections.items()
            for record in state[name].values()
        )

    def write(self, action: Action) -> Write:
        """What the business says about an action."""
        return self.business.actions[action.verb]

    def rows(self, state: interpreter.State, record_id: str) -> dict[str, dict[str, Any]]:
        """kind -> record, for a main record, its owner and the linked one. Raises KeyError if one is missing."""
        b = self.business
        record = state[b.of_kind[b.record]][record_id]
        owner = state[b.of_kind[b.owner]][record[f"{b.owner}_id"]]
        key = f"{b.link}_id"
        link = state[b.of_kind[b.link]][(record if key in record else owner)[key]]
        return {b.record: record, b.owner: owner, b.link: link}

    def values_of(self, state: interpreter.State, record_id: str, now: str = "") -> dict[str, Any]:
        """Field reference -> value of every attribute. Raises KeyError if a record is missing."""
        rows = self.rows(state, record_id)
        return {name: self._read(name, rows, now) for name in self.business.attributes}

    def _read(self, name: str, rows: dict[str, dict[str, Any]], now: str) -> Any:
        kind = name.split(".")[0]
        return attributes.read(self.business.attributes[name], rows[kind], self.fields(kind), now)

    def put(self, state: interpreter.State, record_id: str, reference: str, value: Any, now: str = "") -> None:
        """Changes the state so that an attribute of a main record, its owner or its linked record has the value."""
        kind, rng = reference.split(".")[0], random.Random(f"{record_id}/{reference}/{value}")
        row = self.rows(state, record_id)[kind]
        attributes.write(self.business.attributes[reference], value, row, self.fields(kind), now, rng)

    def fields(self, kind: str) -> dict[str, Field]:
        """The fields of records of a kind."""
        return self.business.collections[self.business.of_kind[kind]].fields

    def arguments(
        self, action: Action, state: interpreter.State, record_id: str, slots: dict[str, Any], now: str = ""
    ) -> dict[str, Any]:
        """The right arguments of the write, without free ones. slots: what the customer wants, by argument."""
        rows = self.rows(state, record_id)
        found: dict[str, Any] = {}
        for name, argument in self.write(action).args.items():
            if argument.comes == "record":
                found[name] = record_id
            elif argument.comes == "user":
                found[name] = slots[name]
            elif argument.formula is not None:
                found[name] = paths.amount(argument.formula, rows, now)
        return found

    def written(
        self, action: Action, state: interpreter.State, arguments: dict[str, Any], now: str = ""
    ) -> interpreter.State:
        """The records that a write may change, as they are after it. `state` itself is not changed."""
        effect = self._write_effect(action.verb)
        rows = self.rows(state, arguments[effect["key"]])
        touched: interpreter.State = {}
        for kind, row in rows.items():
            collection = self.business.of_kind[kind]
            touched[collection] = {row[self.business.collections[collection].key]: row}
        interpreter.write(effect, touched, arguments, now)
        return touched

    def draw_wish(self, action: Action, now: str, rng: random.Random) -> dict[str, Any]:
        """What a customer wants: a value for each argument that only the customer knows."""
        arguments = self.write(action).args.items()
        return {name: draw_argument(a, now, rng) for name, a in arguments if a.comes == "user"}

    def wishes(self, action: Action, wanted: Any, now: str = "") -> list[Any]:
        """Up to five values of the slot that a customer might want, `wanted` the last of them."""
        rng, found = random.Random(f"{action.verb}/{wanted}"), []
        for _ in range(50):
            value = draw_argument(self.write(action).args[action.slot], now, rng)
            if value != wanted and value not in found:
                found.append(value)
        return [*found[:4], wanted]

    def guesses(self, action: Action, right: Any) -> list[Any]:
        """Values that an agent might make up for the first argument that comes from the records; the last is right."""
        if isinstance(right, int):
            return [right + 100, max(0, right - 50) if right else 50, right * 2 + 1, 0 if right else 999, right]
        if isinstance(right, list):
            return [[], [*right, "other"], right]
        return ["unknown", "default", right]

    def _write_effect(self, verb: str) -> dict[str, Any]:
        b = self.business
        action = b.actions[verb]
        record = next(name for name, argument in action.args.items() if argument.comes == "record")
        return {
            "kind": "write",
            "collection": b.of_kind[b.record],
            "key": record,
            "program": [effect.model_dump() for effect in action.effects],
            "rows": {"owner": [b.of_kind[b.owner], f"{b.owner}_id"], "link": [b.of_kind[b.link], f"{b.link}_id"]},
            "free": [name for name, argument in action.args.items() if argument.comes == "free"],
        }

    @functools.cached_property
    def tools(self) -> tuple[list[dict], dict[str, dict]]:
        """(OpenAI function schemas, tool name -> effect, see synth/business/interpreter.py) of the whole business."""
        b, schemas, effects = self.business, [], {}
        for tool, search in b.searches.items():
            collection = b.collections[search.collection]
            properties = {name: _search_argument(collection.fields, path) for name, path in search.by.items()}
            schemas.append(_function(tool, search.describe, properties, []))
            effects[tool] = {"kind": "search", "collection": search.collection, "key": collection.key,
                             "by": search.by, "require": search.require, "show": search.show}  # fmt: skip
        for name, collection in b.collections.items():
            text = f"Get one {collection.kind.replace('_', ' ')} with all its details ({collection.describe})."
            given = {
                collection.key: {"type": "string", "description": f"Identifier, such as {_example(collection.id)}."}
            }
            schemas.append(_function(f"get_{collection.kind}", text, given, [collection.key]))
            effects[f"get_{collection.kind}"] = {"kind": "read", "collection": name, "key": collection.key}
        for verb, action in b.actions.items():
            needed = [name for name, argument in action.args.items() if argument.comes != "free"]
            properties = {name: _schema(argument) for name, argument in action.args.items()}
            schemas.append(_function(action.tool, action.describe, properties, needed))
            effects[action.tool] = self._write_effect(verb)
        given = {"expression": {"type": "string", "description": "Such as (1250 + 300) * 2."}}
        schemas.append(_function("calculate", "Calculate with + - * / and brackets.", given, ["expression"]))
        effects["calculate"] = {"kind": "calculate"}
        self._controls(schemas, effects)
        return schemas, effects

    def _controls(self, schemas: list[dict], effects: dict[str, dict]) -> None:
        """Adds the tools that log a refusal, and that hand over."""
        b = self.business
        codes = {"type": "string", "enum": [*sorted(n.split(".")[1] for n in b.attributes), *REASONS]}
        reason = {**codes, "description": "Code of the rule, as in the handbook."}
        key = f"{b.record}_id"
        about = {
            "reason": reason,
            key: {"type": "string", "description": f"The {b.record.replace('_', ' ')} that it is about."},
        }
        schemas.append(_function(DECLINE, "Log that a request was turned down, with the reason.", about, [*about]))
        effects[DECLINE] = {"kind": "control", "outcome": "decline", "key": key}
        told = {"reason": reason, "summary": {"type": "string", "description": "What the colleague should know."}}
        schemas.append(_function(TRANSFER, "Hand the conversation over to a person.", told, ["reason"]))
        effects[TRANSFER] = {"kind": "control", "outcome": "transfer"}


def draw_argument(argument: Argument, now: str, rng: random.Random) -> Any:
    """A value that a customer may want for an argument."""
    draws = {
        "date": lambda: paths.day(now, rng.randint(argument.low, argument.high)),
        "integer": lambda: rng.randint(argument.low, argument.high),
        "cents": lambda: rng.randrange(argument.low, argument.high + 1, argument.step),
        "address": lambda: draw.address(rng),
        "time": lambda: f"{rng.randint(8, 18):02d}:{rng.choice(('00', '20', '30', '40'))}",
        "flag": lambda: rng.random() < 0.5,
        "enum": lambda: rng.choice(argument.values),
        "text": lambda: rng.choice(argument.values),
    }
    return draws[argument.type]()


def _example(pattern: str) -> str:
    return draw.code(pattern, random.Random(pattern))


def _schema(argument: Argument) -> dict[str, Any]:
    """The JSON schema of a write's argument."""
    if argument.comes in ("record", "case"):
        if argument.formula is not None and argument.formula.op == "each":
            return {"type": "array", "items": {"type": "string"}, "description": argument.describe}
        amount = argument.formula is not None and argument.formula.op != "pick"
        return {"type": "integer" if amount else "string", "description": argument.describe}
    if argument.type == "address":
        parts = {name: {"type": "string"} for name in ("street", "city", "postcode")}
        shape = {"type": "object", "properties": parts, "required": [*parts], "additionalProperties": False}
        return {**shape, "description": argument.describe}
    found: dict[str, Any] = {"type": _JSON[argument.type], "description": argument.describe}
    if argument.type == "date":
        found["format"] = "date"
    if argument.type == "enum":
        found["enum"] = list(argument.values)
    return found


def _search_argument(fields: dict[str, Field], path: str) -> dict[str, Any]:
    """The JSON schema of a search criterion."""
    field = field_of(fields, path)
    if field.type in ("integer", "cents"):
        return {"type": "integer"}
    if field.type == "flag":
        return {"type": "boolean"}
    return {"type": "string", "enum": list(field.values)} if field.type == "enum" else {"type": "string"}


def _function(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def view(b: Business) -> Service:
    """The domain of a business."""
    entities = []
    # A rule on what a write changes in the customer's own records would read differently for a second request.
    changing = {
        (b.kinds[("record", "owner", "link").index(effect.on)], effect.path)
        for action in b.actions.values()
        for effect in action.effects
        if effect.on != "record"
    }
    for kind in b.kinds:
        found = [(n.split(".")[1], a) for n, a in b.attributes.items() if n.split(".")[0] == kind]
        of_kind = {name: a.choices for name, a in found if (kind, a.path) not in changing}
        entities.append(Entity(kind, b.of_kind[kind], of_kind))
    actions = tuple(
        Action(name, next(n for n, a in action.args.items() if a.comes == "case"), action.slot, ())
        for name, action in b.actions.items()
    )
    record, owner, link = entities
    return Service(b.name, record, owner, link, actions, business=b)
