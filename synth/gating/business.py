"""What a business's task must be like: its records, its customer's script, its manual, its openings."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

from synth.business import manual
from synth.business.schema import Field
from synth.business.view import Service
from synth.inversion import service
from synth.task import Task
from synth.trees import domains
from synth.trees.workflow import Workflow

_TEXTS = ("name", "email", "phone", "postcode", "time", "id", "digits", "text", "enum", "ref")
_DETAILS = {
    "enum": str,
    "text": str,
    "date": str,
    "time": str,
    "integer": int,
    "cents": int,
    "flag": bool,
    "address": dict,
}


def names(task: Task) -> Iterator[str]:
    """Actions and details that do not exist, and details of a wrong type."""
    domain = domains.find(task.domain)
    if task.user["verb"] not in domain.business.actions:
        yield f"user.verb: {task.domain} has no {task.user['verb']!r}"
        return
    write = domain.business.actions[task.user["verb"]]
    wanted = {name: argument for name, argument in write.args.items() if argument.comes == "user"}
    if task.user["slots"].keys() != wanted.keys():
        yield f"user.slots: expected {sorted(wanted)}, got {sorted(task.user['slots'])}"
        return
    for name, value in task.user["slots"].items():
        if type(value) is not _DETAILS[wanted[name].type]:
            yield f"user.slots.{name}: expected {wanted[name].type}, got {value!r}"
    if list(task.user.get("amends", {write.slot: ""})) != [write.slot]:
        yield f"user.amends: expected {write.slot!r} and nothing else, got {task.user['amends']}"
    if task.user["withheld"] not in ([], [write.slot]):
        yield f"user.withheld: expected {write.slot!r} at most, got {task.user['withheld']}"


def state(task: Task) -> Iterator[str]:
    """Records that do not fit the business, and references to records that do not exist."""
    domain, found = domains.find(task.domain), task.state
    b = domain.business
    if found.keys() != b.collections.keys():
        yield f"state: collections {sorted(found)}, expected {sorted(b.collections)}"
        return
    for name, collection in b.collections.items():
        for key, record in found[name].items():
            where = f"state.{name}.{key}"
            if not isinstance(record, dict) or record.keys() != {collection.key, *collection.fields}:
                yield f"{where}: expected the fields {[collection.key, *collection.fields]}, got {record!r}"
                return
            if record[collection.key] != key:
                yield f"{where}.{collection.key}: expected the record's own identifier, got {record[collection.key]!r}"
            for field_name, field in collection.fields.items():
                yield from _value(f"{where}.{field_name}", field, record[field_name], found)
    for goal in (task.user, *task.user.get("later", ())):
        if goal["record_id"] not in found[domain.record.collection]:
            yield f"user: there is no record {goal['record_id']!r} in state.{domain.record.collection}"
            return
    owners = [record[domain.owner.key] for record in found[domain.record.collection].values()]
    owner = found[domain.record.collection][task.user["record_id"]][domain.owner.key]
    find = {"key": domain.record.key, "owner_id": owner, "several": owners.count(owner) > 1}
    if task.user.get("find", find) != find:
        yield f"user.find: expected {find}, got {task.user['find']}"


def _value(where: str, field: Field, value: Any, state: dict[str, dict]) -> Iterator[str]:
    """What is wrong with a value of a field."""
    if value is None and field.optional:
        return
    kinds = {"flag": bool, "integer": int, "cents": int, "date": str, "object": dict, "address": dict, "list": list}
    wanted = str if field.type in _TEXTS else kinds[field.type]
    if type(value) is not wanted:
        yield f"{where}: expected {wanted.__name__} for a field of type {field.type}, got {value!r}"
    elif field.type == "ref" and value and value not in state[field.to]:
        yield f"{where}: refers to {value!r}, which does not exist"
    elif field.type == "date":
        try:
            datetime.date.fromisoformat(value)
        except ValueError:
            yield f"{where}: expected an ISO date, got {value!r}"
    elif field.type == "object":
        if value.keys() != field.fields.keys():
            yield f"{where}: expected the fields {list(field.fields)}, got {value!r}"
            return
        for name, inner in field.fields.items():
            yield from _value(f"{where}.{name}", inner, value[name], state)
    elif field.type == "list":
        for number, item in enumerate(value):
            yield from _value(f"{where}.{number}", field.of, item, state)


def prose(task: Task, workflow: Workflow) -> str | None:
    """What the manual or the customer leaves out, or says without a basis in the tree; None if nothing is wrong.

    The manual, read by the same grammar that wrote it, must state the rules of the tree and the standing rules on other
    actions, and nothing else.
    """
    b = workflow.spec.business
    try:
        read = manual.parse(b, task.policy)
    except ValueError as error:
        return str(error)
    stated = service.rules(workflow)
    for name in b.actions:
        if name != workflow.verb:
            stated += manual.standing(b, name)
    told, wanted = ([repr(manual.normal(b, rule)) for rule in rules] for rules in (read.rules, stated))
    if sorted(told) != sorted(wanted):
        return f"the manual states {sorted(set(told) - set(wanted))} and lacks {sorted(set(wanted) - set(told))}"
    if read.features != service.features(workflow.tree):
        return f"the manual states {read.features} in general, the tree needs {service.features(workflow.tree)}"
    return _customer(task)


def _customer(task: Task) -> str | None:
    """What is wrong with what the customer says at first: missing details, or details that are to be withheld."""
    user = task.user
    for name in user["slots"]:
        said = user["knows"][name]["says"]
        if _says(user["request"], said) == (name in user["withheld"]):
            return f"the customer's request {'tells' if name in user['withheld'] else 'lacks'} {said!r}"
    ids = [key for records in task.state.values() for key in records]
    if told := [key for key in ids if key in user["request"]]:
        return f"the customer's request names the records {told}"
    if user["identity"]["given"] != (user["identity"]["value"] in user["request"]):
        return f"the customer's request must {'' if user['identity']['given'] else 'not '}say who writes"
    return None


def _says(text: str, said: str) -> bool:
    """Whether a text has these words, not as a part of other words: "5" is not said in "25"."""
    return re.search(rf"(?<!\w){re.escape(said)}(?!\w)", text, re.IGNORECASE) is not None


def is_business(task: Task) -> bool:
    """Whether a task belongs to a business."""
    return domains.exists(task.domain) and isinstance(domains.find(task.domain), Service)
