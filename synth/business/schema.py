"""A business as data: its records, what is said about them, its tools, its writes and the rules it may have.

A business is one JSON object (`Business.read` for a file, `Business.model_validate` for data). Everything that a world
does, and everything that is said in it, follows from this object: no code belongs to one business only. Money is in
cents, dates are ISO texts, and every task has a "now".

Paths. `status`, `bike.colour` lead into a record; `lines[].price_cents` takes the field of every item of a list. With
a kind in front (`repair.bike.colour`, `customer.name`) they are about the records of the case: the main record, its
owner, and the linked record. `$name` in an effect is an argument of the call, `$now` the day, `$record` etc. a path.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field as Keyed

Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, pydantic.StringConstraints(min_length=1)]
Scalar = bool | int | str


class Record(pydantic.BaseModel):
    """An object with exactly the keys that a subclass declares."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)


class Field(Record):
    """What a field of a record holds, and how a value is drawn.

    type: one of
      name, email, phone, address (an object), postcode, time ("09:30");
      id (a text after `pattern`), digits (`pattern` has as many # as digits);
      text (one of `values`); enum (one of `values`, which tools list in their schema); flag (true or false);
      integer (from..to), cents (from..to in steps of `step`), date (from..to in days from now);
      ref (an identifier of collection `to`); object (`fields`); list (`min`..`max` items `of` a type).
    optional: the value may be null.
    """

    type: Literal["name", "email", "phone", "address", "postcode", "time", "id", "digits", "text", "enum", "flag",
                  "integer", "cents", "date", "ref", "object", "list"]  # fmt: skip
    pattern: str = ""
    values: list[str] = []
    low: int = Keyed(0, alias="from")
    high: int = Keyed(0, alias="to_")
    step: int = 1
    to: str = ""
    fields: dict[Name, Field] = {}
    of: Field | None = None
    min: int = 1
    max: int = 3
    optional: bool = False

    @pydantic.model_validator(mode="before")
    @classmethod
    def _to(cls, data: Any) -> Any:
        """`to` is a collection for a ref and the upper bound for everything else."""
        if isinstance(data, dict) and data.get("type") != "ref" and "to" in data:
            data = {**data, "to_": data["to"]}
            del data["to"]
        return data

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Field:
        needs = {"id": "pattern", "digits": "pattern", "text": "values", "enum": "values", "ref": "to",
                 "object": "fields", "list": "of"}  # fmt: skip
        if (key := needs.get(self.type)) and not getattr(self, key):
            raise ValueError(f"a field of type {self.type} needs {key!r}")
        if self.type in ("integer", "cents", "date") and self.low > self.high:
            raise ValueError(f"a field of type {self.type} needs 'from' at most 'to'")
        return self


ADDRESS = {
    name: Field.model_validate({"type": "postcode" if name == "postcode" else "text", "values": ["-"]})
    for name in ("street", "city", "postcode")
}  # the parts of every address


class Collection(Record):
    """Records of one kind. `id`: how identifiers look (# a digit, @ a capital letter). `describe`: for the tools."""

    kind: Name
    id: Text
    describe: Text
    fields: dict[Name, Field]

    @property
    def key(self) -> str:
        """The name of the identifier field."""
        return f"{self.kind}_id"


class Condition(Record):
    """One comparison of a field with a constant. The value of a date is a number of days (see Attribute.kind)."""

    path: Text
    op: Literal["eq", "ne", "in", "le", "ge"]
    value: int | str | bool | list[str]


class Attribute(Record):
    """Something that a rule may be about. Its name, in the business, is also the reason code of a refusal.

    kind: how the value follows from the record:
      word: the text at `path`; flag: true or false at `path`, as "yes" or "no";
      number, cents: the integer at `path`; count: the number of items of the list at `path`;
      days_until, days_since: days between now and the date at `path`;
      defined: "yes" or "no", whether all conditions of `when` hold. The manual defines `term`.
    values: those that a rule and a state may use; numbers in rising order, at least six of them.
    subjects: noun phrases for a rule ("the agreed collection date", "the estimate"): at least three.
    told: for word: value -> how it is said ("in_progress" -> "in progress"). For flag: "yes" and "no" as clauses ("the
      bike is insured", "the bike is not insured"). Empty for numbers and for defined terms.
    term, when: for defined terms: ("warranty repair", its conditions).
    """

    path: str = ""
    kind: Literal["word", "flag", "number", "cents", "count", "days_until", "days_since", "defined"]
    values: list[int] | list[str] = []
    subjects: list[Text] = []
    told: dict[str, Text] = {}
    term: str = ""
    when: list[Condition] = []

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Attribute:
        if self.kind == "defined" and not (self.term and self.when):
            raise ValueError("a defined attribute needs 'term' and 'when'")
        if self.kind != "defined" and not self.path:
            raise ValueError("an attribute needs 'path'")
        if self.kind == "word" and set(self.told) != set(map(str, self.values)):
            raise ValueError(f"'told' must say each of {self.values}")
        if self.kind == "flag" and set(self.told) != {"yes", "no"}:
            raise ValueError("'told' must have clauses for yes and no")
        if self.numeric and (len(self.values) < 6 or self.values != sorted(self.values)):
            raise ValueError("'values' must be at least six numbers in rising order")
        return self

    @property
    def numeric(self) -> bool:
        """Whether values are integers."""
        return self.kind in ("number", "cents", "count", "days_until", "days_since")

    @property
    def choices(self) -> tuple[int | str, ...]:
        """The values that a rule and a state may use."""
        return ("yes", "no") if self.kind in ("flag", "defined") else tuple(self.values)


class Formula(Record):
    """An amount that follows from the case. `words`: how the manual says it.

    op: "path" (the integer at `path`); "sum" (over `lines[].price_cents`); "percent" (`number` percent of `path`,
    rounded down); "times" (`number` times the integer, count or sum at `path`); "days" (`number` times the days from
    now until the date at `path`); "pick" (`take` of the first item of the list at `path` whose flag `where` is true, or
    of the first of all); "each" (the list of `take` of every item of the list at `path`, in order).
    """

    op: Literal["path", "sum", "percent", "times", "days", "pick", "each"]
    path: Text
    number: int = 0
    where: str = ""
    take: str = ""
    words: str = ""


class Argument(Record):
    """An argument of a write. An effect may hold all of its value, not a part of a text.

    comes: "record" (the main record's identifier), "user" (only the customer knows it), "case" (follows from the
    records: `formula`), "free" (optional, changes nothing but a log: the customer does not care).
    describe: for the schema.
    For "user": `type` and its domain as in Field (enum: `told` says how a customer would say each value; date: from..to
      days from now; integer; cents; text: `values`; address), and `fact`: what agents call it (noun phrases, the first
      of them the usual one), `says`: how a customer gives it, with {value} ("to {value}", "make it {value}").
    """

    comes: Literal["record", "user", "case", "free"]
    describe: Text
    formula: Formula | None = None
    type: Literal["enum", "date", "integer", "cents", "text", "address", "time", "flag"] = "text"
    values: list[str] = []
    told: dict[str, Text] = {}
    low: int = Keyed(0, alias="from")
    high: int = Keyed(0, alias="to")
    step: int = 1
    fact: list[Text] = []
    says: list[Text] = []

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Argument:
        if self.comes == "case" and not self.formula:
            raise ValueError("an argument that follows from the records needs a 'formula'")
        if self.comes == "user" and not (self.fact and self.says):
            raise ValueError("an argument that the customer knows needs 'fact' and 'says'")
        if self.comes == "user" and self.type in ("enum", "text") and len(self.values) < 3:
            raise ValueError("an argument of type enum or text needs at least three 'values'")
        return self


class Effect(Record):
    """One change of the main record or of a record it belongs to.

    op: set (`path` to `value`), add (`value` to the integer at `path`), append (`value` to the list at `path`), remove
    (the items of the list at `path` whose `where` equals `value`).
    on: which record: "record", "owner" or "link". Values may hold "$argument" and "$now", also inside objects.
    """

    op: Literal["set", "add", "append", "remove"]
    path: Text
    value: Any
    where: str = ""
    on: Literal["record", "owner", "link"] = "record"


class Action(Record):
    """A write to the main record, which is what a customer wants.

    tool, describe: the tool's name and description, as a production API has them.
    gerund: for the manual: ("moving a collection date", "changing when a bike is collected"), at least two.
    verbs: base forms by which an agent may name it ("move", "reschedule", "push back"). family: see envs/hearing.
    wants: the customer's wish after "I'd like to", with {it} for the record: at least six ("get {it} cancelled").
    args: in the order of the schema, 2 to 6. slot: the user argument that may be withheld or changed.
    effects: what the write does. requires: conditions on the main record without which the tool refuses.
    """

    tool: Name
    describe: Text
    gerund: list[Text]
    verbs: list[Text]
    family: str = ""
    wants: list[Text]
    args: dict[Name, Argument]
    slot: Name
    effects: list[Effect]

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Action:
        if self.slot not in self.args or self.args[self.slot].comes != "user":
            raise ValueError(f"slot {self.slot!r} is not an argument that the customer knows")
        if not any(argument.comes == "case" for argument in self.args.values()):
            raise ValueError("needs an argument that follows from the records")
        if sum(argument.comes == "record" for argument in self.args.values()) != 1:
            raise ValueError("needs one argument that is the record's identifier")
        if any("{it}" not in want for want in self.wants):
            raise ValueError("every entry of 'wants' needs {it}")
        return self


class Search(Record):
    """A tool that lists records: those whose fields equal all given criteria.

    by: argument -> path in the record. require: how many criteria must be given at least. show: paths of the records
    that the answer shows beside the identifier. describe: the tool's description.
    """

    collection: Name
    by: dict[Name, Text]
    require: int = 1
    show: list[Text]
    describe: Text


class Standing(Record):
    """A rule that the manual states where the tasks are about another action: `attribute` `op` `value`, else."""

    action: Name
    attribute: Text
    op: Literal["eq", "ne", "in", "le", "ge"]
    value: int | str | list[str]
    otherwise: Literal["decline", "transfer"]


class Business(Record):
    """A business. Names of attributes are "<kind>.<name>", of the kinds record, owner and link.

    title: after "You work for". trade: one word for figures. setting: two to four sentences about the business.
    record, owner, link: kinds of the main record (which has `<owner>_id`), of its owner (a customer), and of a third
      record, which the record or the owner refers to by `<link>_id`.
    it: how a customer names the main record, with paths: ("the {bike.colour} {bike.make}", ...), at least three.
    nouns: nouns for the main record ("repair", "job").
    identify: search tool and the owner's criteria by which customers are identified, one list per way.
    searches: tool -> Search. notes: further sentences of the manual by section, all of them true and without rules.
    """

    name: Name
    title: Text
    trade: Name
    setting: list[Text]
    record: Name
    owner: Name
    link: Name
    it: list[Text]
    nouns: list[Text]
    collections: dict[Name, Collection]
    attributes: dict[str, Attribute]
    actions: dict[Name, Action]
    searches: dict[Name, Search]
    identify: list[list[Name]]
    standing: list[Standing]
    notes: dict[str, list[Text]]

    @classmethod
    def read(cls, path: str | Path) -> Business:
        """The business in a JSON file. Raises ValueError naming the file and the key that is wrong."""
        try:
            return cls.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as error:  # of JSON, or pydantic's
            raise ValueError(f"{path}: {error}") from None

    @functools.cached_property
    def of_kind(self) -> dict[str, str]:
        """kind -> name of its collection."""
        return {collection.kind: name for name, collection in self.collections.items()}

    @functools.cached_property
    def kinds(self) -> tuple[str, str, str]:
        """(record, owner, link)."""
        return self.record, self.owner, self.link

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Business:
        for problem in problems(self):
            raise ValueError(problem)
        return self


def field_of(fields: dict[str, Field], path: str) -> Field:
    """The field that a path leads to. Raises KeyError if there is none."""
    found = field_at(fields, path)
    if found is None:
        raise KeyError(path)
    return found


def item_of(field: Field) -> Field:
    """What the items of a list are. Raises ValueError if the field is no list."""
    if field.of is None:
        raise ValueError(f"a field of type {field.type} has no items")
    return field.of


def field_at(fields: dict[str, Field], path: str) -> Field | None:
    """The field that a path (see the module's docstring) leads to; None if there is none."""
    found: Field | None = None
    for part in path.split("."):
        found = fields.get(part.removesuffix("[]"))
        if found is None:
            return None
        if part.endswith("[]"):
            found = found.of
        fields = {} if found is None else ADDRESS if found.type == "address" else found.fields
    return found


def problems(b: Business) -> Iterator[str]:
    """Yields what does not fit together in a business."""
    for kind in b.kinds:
        if kind not in b.of_kind:
            yield f"there is no collection of kind {kind!r}"
            return
    fields = {kind: b.collections[name].fields for kind, name in b.of_kind.items()}
    if f"{b.owner}_id" not in fields[b.record]:
        yield f"{b.record} needs the field {b.owner}_id"
    if f"{b.link}_id" not in fields[b.record] and f"{b.link}_id" not in fields[b.owner]:
        yield f"neither {b.record} nor {b.owner} has the field {b.link}_id"
    for name, collection in b.collections.items():
        for field in _refs(collection.fields):
            if field.to not in b.collections:
                yield f"collections.{name}: a ref to {field.to!r}, which is no collection"
    for name, attribute in b.attributes.items():
        kind, _, short = name.partition(".")
        if kind not in b.kinds or not re.fullmatch(r"[a-z][a-z0-9_]*", short):
            yield f"attributes.{name}: expected <kind>.<name> with a kind of {', '.join(b.kinds)}"
            continue
        for path in [attribute.path] if attribute.path else [c.path for c in attribute.when]:
            if field_at(fields[kind], path) is None:
                yield f"attributes.{name}: {kind} has no {path!r}"
    shorts = [name.partition(".")[2] for name in b.attributes]
    if len(set(shorts)) < len(shorts):
        yield f"attributes: two have the same name after the kind: {sorted(s for s in shorts if shorts.count(s) > 1)}"
    for name, action in b.actions.items():
        for effect in action.effects:
            on = {"record": b.record, "owner": b.owner, "link": b.link}[effect.on]
            if field_at(fields[on], effect.path) is None:
                yield f"actions.{name}: effect on {on}.{effect.path}, which is no field"
        for arg, argument in action.args.items():
            if argument.formula:
                kind, _, path = argument.formula.path.partition(".")
                if kind not in b.kinds or field_at(fields[kind], path) is None:
                    yield f"actions.{name}.args.{arg}: no path {argument.formula.path!r} (kind.path)"
    changed = {
        ({"record": b.record, "owner": b.owner, "link": b.link}[effect.on], effect.path)
        for action in b.actions.values()
        for effect in action.effects
        if effect.on != "record"
    }
    for name, action in b.actions.items():
        for arg, argument in action.args.items():
            if argument.formula and tuple(argument.formula.path.split(".", 1)) in changed:
                yield f"actions.{name}.args.{arg}: {argument.formula.path!r} is changed by a write"
    shown = {(search.collection, path) for search in b.searches.values() for path in search.show}
    for name, attribute in b.attributes.items():
        if (b.of_kind[name.split(".")[0]], attribute.path) in shown:
            yield f"searches: one shows {attribute.path!r}, which {name} is about; rules need the whole record"
    for name, search in b.searches.items():
        if search.collection not in b.collections:
            yield f"searches.{name}: no collection {search.collection!r}"
            continue
        of = b.collections[search.collection]
        for path in [*search.by.values(), *search.show]:
            if field_at(of.fields, path) is None:
                yield f"searches.{name}: {of.kind} has no {path!r}"
    for number, rule in enumerate(b.standing):
        if rule.action not in b.actions or rule.attribute not in b.attributes:
            yield f"standing.{number}: no action {rule.action!r} or no attribute {rule.attribute!r}"
            continue
        attribute = b.attributes[rule.attribute]
        wanted = rule.value if isinstance(rule.value, list) else [rule.value]
        fits = all(isinstance(v, int) for v in wanted) if attribute.numeric else set(wanted) <= set(attribute.choices)
        if not fits or (rule.op in ("le", "ge")) != attribute.numeric:
            yield f"standing.{number}: {rule.op} {rule.value!r} does not fit {rule.attribute}, a {attribute.kind}"
    for template in b.it:
        for path in re.findall(r"\{([^}]*)\}", template):
            if field_at(fields[b.record], path) is None:
                yield f"it: {b.record} has no {path!r}"


def _refs(fields: dict[str, Field]) -> Iterator[Field]:
    for field in fields.values():
        if field.type == "ref":
            yield field
        yield from _refs(field.fields)
        if field.of:
            yield from _refs({"of": field.of})
