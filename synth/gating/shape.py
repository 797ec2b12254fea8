"""The shape of a task: the conditions on its data under which it can be played.

All other code that reads a task relies on this check: no gate, world or adversary fails on a task that passes it.
"""

from __future__ import annotations

import functools
import itertools
import json
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import jsonschema
import pydantic

from synth import personas
from synth.gating import business
from synth.inversion import invert
from synth.task import Task
from synth.trees import domains, expr, tree
from synth.trees.domains import Domain
from synth.trees.workflow import Workflow


class _Record(pydantic.BaseModel):
    """An object with exactly the keys that a subclass declares. Keys with a default value may be absent."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid")


class _Goal(_Record):
    record_id: str
    accepts: bool
    request: str = ""


class _Find(_Record):
    key: str
    owner_id: str
    several: bool


class _User(_Record):
    """The user script, see envs/user.py."""

    request: str
    record_id: str
    verb: str
    slots: dict[str, str]
    withheld: list[str]
    accepts: bool
    yes: str
    no: str
    amends: dict[str, str] = {}
    find: _Find = None
    insists: list[str] = []
    later: list[_Goal] = []


class _Known(_Record):
    """A fact that a customer knows, see envs/customer.py."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", populate_by_name=True)

    words: list[str]
    says: str
    general: Annotated[list[str], pydantic.Field(alias="as")] = []
    type: str = ""
    others: dict[str, str] = {}


class _Identity(_Record):
    by: str
    value: str
    given: bool


class _Customer(_User):
    """The script of a business's customer, see envs/customer.py."""

    slots: dict[str, Any]
    amends: dict[str, Any] = {}
    amended: str = ""
    told: list[int] = []
    called: str = ""
    now: str
    wish: str
    its: dict[str, str]
    identity: _Identity
    knows: dict[str, _Known]
    hears: dict[str, list[Any]]
    voice: dict[str, str]


class _NotIn(_Record):
    not_in: list[Any]


_Match = dict[str, str | int | _NotIn]


class _Subgoal(_Record):
    """A subgoal, see envs/world.py."""

    name: str
    node: str
    weight: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    event: _Match = {}
    delta: dict[str, Any] = {}
    record: Annotated[str, pydantic.Field(alias="for")] = ""

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> _Subgoal:
        if len({"event", "delta"} & self.model_fields_set) != 1:
            raise ValueError("expected either event or delta")
        return self


class _Violation(_Record):
    name: str
    node: str
    event: _Match
    unless_after: _Match = {}


class _Say(_Record):
    say: str


class _Call(_Record):
    call: str
    args: dict[str, Any]
    say: str


# The types of those fields of a task whose parts are records. All other fields have the types that Task declares.
_PARTS = {
    "user": _User,
    "subgoals": Annotated[list[_Subgoal], pydantic.Field(min_length=1)],
    "violations": list[_Violation],
    "oracle": list[_Call | _Say],
}
_TYPES = {name: (kind, ...) for name, kind in {**typing.get_type_hints(Task), **_PARTS}.items()}
_TASK = pydantic.create_model("_Task", __base__=_Record, **_TYPES)
_BUSINESS = pydantic.create_model("_Business", __base__=_TASK, user=(_Customer, ...))


def fault(task: Task) -> str | None:
    """The first fault of the task's data, as "schema: <field>: ..." or "tree: ..."; None if there is none."""
    names, state = (business.names, business.state) if business.is_business(task) else (_names, _state)
    checks = (("schema", _types), ("schema", names), ("schema", state), ("tree", _tree), ("schema", _tools))
    # Each check relies on all earlier ones having found nothing. So the search must stop at the first problem.
    return next((f"{gate}: {problem}" for gate, check in checks for problem in check(task)), None)


def _types(task: Task) -> Iterator[str]:
    """Fields that are missing, unknown or of a wrong type."""
    try:
        (_BUSINESS if business.is_business(task) else _TASK).model_validate(vars(task))
    except pydantic.ValidationError as error:
        for found in error.errors():
            yield f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _names(task: Task) -> Iterator[str]:
    """Names of splits, domains, actions and slots that do not exist."""
    if task.split not in personas.SPLITS:
        yield f"root: {task.root!r} belongs to no split, expected {', '.join(personas.SPLITS)} before the first -"
    if not domains.exists(task.domain):
        yield f"domain: unknown {task.domain!r}"
    actions = {action.verb: action for action in domains.find(task.domain).actions}
    if task.user["verb"] not in actions:
        yield f"user.verb: {task.domain} has no {task.user['verb']!r}"
    slot = actions[task.user["verb"]].slot
    for name in ("slots", "amends"):
        if name in task.user and list(task.user[name]) != [slot]:
            yield f"user.{name}: expected {slot!r} and nothing else, got {task.user[name]}"
    if task.user["withheld"] not in ([], [slot]):
        yield f"user.withheld: expected {slot!r} at most, got {task.user['withheld']}"


def _state(task: Task) -> Iterator[str]:
    """Records that do not fit the domain, or that refer to records that do not exist."""
    domain, state = domains.find(task.domain), task.state
    known = {entity.collection: entity for entity in domain.entities}
    needed = {domain.record.collection, domain.owner.collection}
    if not needed <= state.keys() <= known.keys():
        yield f"state: collections {sorted(state)}, expected {sorted(needed)} and at most {sorted(known)}"
    for collection, records in state.items():
        entity, refers = known[collection], _reference(domain, collection, state)
        types = {field: type(values[0]) for field, values in entity.fields.items()}
        for record_id, record in records.items():
            where = f"state.{collection}.{record_id}"
            for field, kind in types.items():
                if type(record.get(field)) is not kind:
                    yield f"{where}.{field}: expected {kind.__name__}, got {record.get(field)!r}"
            if record.get(entity.key) != record_id:
                yield f"{where}.{entity.key}: expected the record's own identifier, got {record.get(entity.key)!r}"
            for key, there in refers.items():
                if not isinstance(record.get(key), str) or record[key] not in there:
                    yield f"{where}.{key}: refers to {record.get(key)!r}, which does not exist"
    for goal in (task.user, *task.user.get("later", ())):
        if goal["record_id"] not in state[domain.record.collection]:
            yield f"user: there is no record {goal['record_id']!r} in state.{domain.record.collection}"
    owner_ids = [record[domain.owner.key] for record in state[domain.record.collection].values()]
    owner_id = state[domain.record.collection][task.user["record_id"]][domain.owner.key]
    find = {"key": domain.record.key, "owner_id": owner_id, "several": owner_ids.count(owner_id) > 1}
    if task.user.get("find", find) != find:
        yield f"user.find: expected {find}, got {task.user['find']}"


def _reference(domain: Domain, collection: str, state: dict[str, dict]) -> dict[str, dict]:
    """{field: collection that it refers to}, for the field of `collection` that names records of another; else {}."""
    further = {domain.record.collection: domain.owner, domain.owner.collection: domain.link}.get(collection)
    return {further.key: state[further.collection]} if further and further.collection in state else {}


def _tree(task: Task) -> Iterator[str]:
    """Faults of the tree itself, and names in it that domain, state or user script do not have."""
    try:
        root = tree.from_dict(task.tree)
        for node in tree.nodes(root):
            if node.kind == "guard":
                expr.check(node.spec["condition"])
    except ValueError as error:
        yield str(error)
        return
    domain = domains.find(task.domain)
    slot = next(action.slot for action in domain.actions if action.verb == task.user["verb"])
    here = [entity for entity in domain.entities if entity.collection in task.state]
    values = {f"{entity.kind}.{field}": found for entity in here for field, found in entity.fields.items()}
    allowed = {
        "action": {"entity": [entity.kind for entity in here]},
        "find": {"entity": [domain.record.kind]},
        "choose": {"field": domain.comparable(), "most": [True, False]},
        "ask": {"slot": [slot]},
        "guard": {"otherwise": ["decline", "transfer"]},
        "goals": {"count": [1 + len(task.user.get("later", ()))]},
    }
    stated: dict[str, dict] = {}
    for node in tree.nodes(root):
        for name, options in allowed.get(node.kind, {}).items():
            if node.spec[name] not in options:
                yield f"node {node.id}: {name} {node.spec[name]!r}, expected {' or '.join(map(str, options))}"
        if node.kind == "guard":
            yield from _guard(node, values)
            if stated.setdefault(node.spec["condition"]["field"], node.spec) != node.spec:
                yield f"node {node.id}: its rule on {node.spec['condition']['field']} differs from an earlier node's"
        if node.kind == "goals" and node is not root:
            yield f"node {node.id}: a goals node must be the root"
    kinds, ids = ({getattr(node, name) for node in tree.nodes(root)} for name in ("kind", "id"))
    claims = any(spec.get("claim") for spec in stated.values())
    for key, wanted in (("find", "find" in kinds), ("insists", claims), ("later", "goals" in kinds)):
        if (key in task.user) != wanted:
            yield f"user.{key}: expected {'one' if wanted else 'none'} for this tree"
    for number, goal in enumerate(task.user.get("later", ())):
        if ("request" in goal) == root.spec["together"]:
            yield f"user.later.{number}: expected {'no' if root.spec['together'] else 'a'} request for this tree"
    for name in ("subgoals", "violations"):
        for number, predicate in enumerate(getattr(task, name)):
            if predicate["node"] not in ids:
                yield f"{name}.{number}.node: the tree has no {predicate['node']!r}"
    if unread := _unread(root):
        yield f"node {unread.id}: this leaf can be reached without reading a record"


def _guard(node: tree.Node, values: dict[str, tuple]) -> Iterator[str]:
    """What is wrong with a guard. `values`: field reference -> the values that the field may take."""
    condition, exit_ = node.spec["condition"], node.child("fails")
    if condition.get("field") not in values:
        yield f"node {node.id}: condition {condition} must be on one field, one of {', '.join(values)}"
    if condition["op"] in expr.ORDERED and not isinstance(values[condition["field"]][0], int):
        yield f"node {node.id}: {condition['field']} is not a number to compare with {condition['value']!r}"
    wanted = {"outcome": node.spec["otherwise"], "reason": condition["field"].split(".")[1]}
    if exit_.kind == "terminal" and not node.spec.get("exception") and exit_.spec != wanted:
        yield f"node {exit_.id}: {exit_.spec}, expected {wanted} where {node.id} fails"


def _unread(node: tree.Node) -> tree.Node | None:
    """A leaf that can be reached without reading any record; None if there is none."""
    if node.kind in ("action", "terminal"):
        return node if node.kind == "terminal" else None
    return next(filter(None, map(_unread, node.children)), None)


def _tools(task: Task) -> Iterator[str]:
    """Tools and effects that differ from those of the tree, and calls of the oracle that do not fit the tools."""
    workflow = Workflow.of(task)
    schemas, effects = invert.tool_specs(workflow)
    for number, (found, wanted) in enumerate(itertools.zip_longest(task.tools, schemas)):
        if found != wanted:
            name = wanted["function"]["name"] if wanted else "nothing"
            yield f"tools.{number}: expected {name} as synth/trees/domains.py defines it for this tree, got {found}"
    write = workflow.spec.write_tool(workflow.action)
    faults = task.effects.get(write, {}).get("faults", {})
    for name in {**effects, **task.effects}:
        found = {key: value for key, value in task.effects.get(name, {}).items() if (name, key) != (write, "faults")}
        if found != effects.get(name):
            yield f"effects.{name}: expected {effects.get(name)}, got {found}"
    if not isinstance(faults, dict) or not all(edge in tree.EDGES["attempt"] for edge in faults.values()):
        yield f"effects.{write}.faults: expected one of {tree.EDGES['attempt']} for a record, got {faults}"
    validators = _validators(json.dumps(schemas))
    for number, step in enumerate(task.oracle):
        if "call" in step and step["call"] not in validators:
            yield f"oracle.{number}: calls {step['call']!r}, which is not among the tools"
        if "call" in step:
            for error in validators[step["call"]].iter_errors(step["args"]):
                yield f"oracle.{number}.args: {error.message}"


@functools.lru_cache(maxsize=4096)  # tasks of one tree share their tools, and compiling schemas is slow
def _validators(schemas: str) -> dict[str, jsonschema.Draft202012Validator]:
    """Tool name -> validator of its arguments. `schemas`: the tools' function schemas as JSON text."""
    functions = [tool["function"] for tool in json.loads(schemas)]
    return {f["name"]: jsonschema.Draft202012Validator(f["parameters"]) for f in functions}
