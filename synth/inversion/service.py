"""Inversion in a business: the records around a case, the manual, and a customer who speaks plain English.

invert.py draws the branch and puts the task together; what differs from the tiny dialect is here. All goals of a
conversation belong to one customer, so that rules on the customer hold, or fail, for all of them.
"""

from __future__ import annotations

import random
from typing import Any

from synth.business import draw, manual, paths, speech
from synth.business.schema import Business
from synth.business.view import Service
from synth.inversion import conditions
from synth.personas import Persona
from synth.trees import expr, tree
from synth.trees.tree import Branch, Node
from synth.trees.workflow import Workflow

OTHERS = 3  # further customers, each with a main record
STOCK = 3  # records of every further collection
DRAWS = 50  # tries to draw records that their owner can tell apart
_AMOUNTS = ("How much exactly will be charged or paid for it?", "And tell me first what it comes to, please.",
            "What does it come to exactly?")  # fmt: skip
# Type of an argument -> general names of such facts in envs/hearing.
_GENERAL = {"date": ["new_date", "date"], "time": ["new_time", "time"], "address": ["new_address", "address"],
            "cents": ["amount"], "integer": ["quantity"]}  # fmt: skip


def of(workflow: Workflow) -> Service:
    """The domain of a business's workflow. Raises TypeError for a workflow of the tiny dialect."""
    if not isinstance(workflow.spec, Service):
        raise TypeError(f"{workflow.id}: {workflow.domain} is no business")
    return workflow.spec


def policy(workflow: Workflow, now: str) -> str:
    """The manual of the workflow's business, with the rules of the tree."""
    return manual.render(of(workflow).business, now, rules(workflow), features(workflow.tree), workflow.root)


def rules(workflow: Workflow) -> list[manual.Rule]:
    """The rules that the manual states on the workflow's action, in order."""
    found = []
    for node in conditions.rules(workflow.tree):
        spec = node.spec
        if spec.get("exception"):
            continue
        excuse = node.child("fails")
        exception = excuse.spec["condition"] if excuse.kind == "guard" else None
        urgent = bool(spec.get("urgent"))
        found.append(manual.Rule(workflow.verb, spec["condition"], spec["otherwise"], urgent, exception))
    return found


def features(root: Node) -> list[str]:
    """What else the tree needs stated (keys of the manual's features), in the manual's order."""
    kinds = {node.kind for node in tree.nodes(root)}
    needed = {
        "consent": bool(kinds & {"confirm", "review"}),
        "tell": "tell" in kinds,
        "claims": any(node.spec.get("claim") for node in conditions.rules(root)),
        "find": "find" in kinds,
        "attempt": "attempt" in kinds,
        "goals": "goals" in kinds,
    }
    return [name for name, wanted in needed.items() if wanted]


def solve(workflow: Workflow, segments: list[Branch], rng: random.Random) -> dict[str, Any] | None:
    """Values for the attributes that the branch decides; None if the goals contradict each other.

    Attributes of the main record have the goal's number behind them ("repair.estimate#1"), because each goal has a
    record of its own; those of the owner and, unless the record refers to it, of the linked record are shared.
    """
    spec, values = of(workflow), conditions.values(workflow)
    wanted: list[expr.Expr] = []
    possible: dict[str, Any] = {}
    own = {spec.record.kind, *([spec.link.kind] if spec.record_links else [])}
    for number, segment in enumerate(segments):
        for condition in conditions.constraints(workflow, segment):
            wanted.append(_renamed(condition, number, own))
        possible |= {_name(reference, number, own): choices for reference, choices in values.items()}
    return expr.solve(wanted, possible, rng)


def _name(reference: str, number: int, own: set[str]) -> str:
    return f"{reference}#{number}" if reference.split(".")[0] in own else reference


def _renamed(condition: expr.Expr, number: int, own: set[str]) -> expr.Expr:
    if "args" in condition:
        return {**condition, "args": [_renamed(argument, number, own) for argument in condition["args"]]}
    return {**condition, "field": _name(condition["field"], number, own)}


def state(
    workflow: Workflow, segments: list[Branch], persona: Persona, rng: random.Random
) -> tuple[dict[str, dict], list[str], str]:
    """(state, identifiers of the records in play, one per goal, the task's now).

    Raises ValueError if no state fits the segments.
    """
    spec = of(workflow)
    if (solved := solve(workflow, segments, rng)) is None:
        raise ValueError(f"{workflow.id}: no state satisfies the branch to {segments[-1][-1][0].id}")
    goals = workflow.tree.spec["count"] if workflow.tree.kind == "goals" else 1
    finds = [edge for node, edge in segments[0] if node.kind == "find"]
    chosen = next((n.spec for n in tree.nodes(workflow.tree) if n.kind == "choose"), None)
    mine = goals + (2 if chosen else finds[0] == "several" if finds else rng.randint(1, 2))
    now = draw.now(rng)
    for _ in range(DRAWS):
        found, ids = _records(spec, mine, persona, now, rng)
        for reference, value in solved.items():
            name, _, number = reference.partition("#")
            spec.put(found, ids[int(number or 0)], name, value, now)
        if chosen:
            _make_extreme(spec, found, ids, chosen, now, rng)
        records = {key: found[spec.record.collection][key] for key in ids}
        if speech.distinct(spec.business, records, ids, rng):
            break
    else:
        raise ValueError(f"{workflow.id}: the customer cannot tell {mine} records apart")
    for reference, value in solved.items():
        name, _, number = reference.partition("#")
        if (got := spec.values_of(found, ids[int(number or 0)], now)[name]) != value:
            raise ValueError(f"{workflow.id}: {name} is {got} in a state that was to have {value}")
    return {name: dict(sorted(rows.items())) for name, rows in found.items()}, ids[:goals], now


def _make_extreme(
    spec: Service, state: dict[str, dict], ids: list[str], chosen: dict[str, Any], now: str, rng: random.Random
) -> None:
    """Gives the first of the records the smallest, or the largest, value of an attribute. chosen: spec of the node."""
    values = sorted(spec.values()[chosen["field"]], reverse=chosen["most"])
    first = rng.randrange(len(values) - 1)
    spec.put(state, ids[0], chosen["field"], values[first], now)
    for key in ids[1:]:
        spec.put(state, key, chosen["field"], rng.choice(values[first + 1 :]), now)


def _records(
    spec: Service, mine: int, persona: Persona, now: str, rng: random.Random
) -> tuple[dict[str, dict], list[str]]:
    """(the records of all collections, the identifiers of the first customer's main records)."""
    b = spec.business
    counts = {b.record: mine + OTHERS, b.owner: 1 + OTHERS, b.link: mine + OTHERS + 1}
    ids = {n: draw.identifiers(c, counts.get(c.kind, STOCK), rng) for n, c in b.collections.items()}
    people = [draw.name(rng, persona.name), *(draw.name(rng) for _ in range(OTHERS))]
    found: dict[str, dict] = {}
    for name, collection in b.collections.items():
        rows = {}
        for number, key in enumerate(ids[name]):
            person = people[number] if collection.kind == b.owner else ""
            rows[key] = draw.record(b, collection.kind, key, now, rng, ids, person)
        found[name] = rows
    owners, records, links = ids[b.of_kind[b.owner]], ids[b.of_kind[b.record]], ids[b.of_kind[b.link]]
    for number, key in enumerate(records):
        row = found[b.of_kind[b.record]][key]
        row[f"{b.owner}_id"] = owners[max(0, number - mine + 1)]
        if f"{b.link}_id" in row:
            row[f"{b.link}_id"] = links[number]
    for number, key in enumerate(owners):
        row = found[b.of_kind[b.owner]][key]
        if f"{b.link}_id" in row:
            row[f"{b.link}_id"] = links[number]
    return found, records[:mine]


def user(
    workflow: Workflow,
    branch: Branch,
    taken: list[dict[str, str]],
    records: dict[str, dict],
    ids: list[str],
    now: str,
    rng: random.Random,
) -> dict[str, Any]:
    """The customer's script (envs/customer.py). taken: for each goal, node kind -> edge taken. records: the state."""
    spec = of(workflow)
    b = spec.business
    write, action = b.actions[workflow.verb], workflow.action
    voice = rng.choice(speech.VOICES)
    wish = spec.draw_wish(action, now, rng)
    may_ask = any(n.kind == "ask" for n in tree.nodes(workflow.tree))
    asked = [edge for node, edge in branch if node.kind == "ask"]
    given = asked[0] == "given" if asked else not may_ask or rng.random() < 0.5
    owner = spec.rows(records, ids[0])[b.owner]
    rows = {
        key: row for key, row in records[spec.record.collection].items() if row[spec.owner.key] == owner[spec.owner.key]
    }
    its = dict(zip(rows, speech.distinct(b, rows, list(rows), rng) or []))
    vague = f"my {b.nouns[0]}" if "find" in taken[0] else its[ids[0]]
    chosen = next((n.spec for n in tree.nodes(workflow.tree) if n.kind == "choose"), None)
    if chosen:
        vague = _extreme(b, chosen, rng)
    said = {name: speech.spoken(write.args[name], value, now, rng) for name, value in wish.items()}
    told = [n for n in wish if given or n != action.slot]
    details = [rng.choice(write.args[name].says).format(value=said[name]) for name in told]
    wants = rng.sample(write.wants, len(write.wants))
    accepts = [_accepts(edges) for edges in taken] + [True] * (len(ids) - len(taken))
    together = workflow.tree.kind == "goals" and workflow.tree.spec["together"]
    named = _listed([its[key] for key in ids]) if together else vague
    identity = _identity(b, owner)
    by = rng.choice(list(identity))
    shown = (by.replace("_", " "), identity[by]) if rng.random() < 0.5 else None
    found: dict[str, Any] = {
        "request": speech.opening(voice, owner_name(b, owner), wants[0].format(it=named), details, shown, rng),
        "record_id": ids[0],
        "verb": workflow.verb,
        "slots": wish,
        "withheld": [] if given else [action.slot],
        "accepts": accepts[0],
        "yes": rng.choice(voice.yes),
        "no": rng.choice(voice.no),
        "now": now,
        "identity": {"by": by, "value": identity[by], "given": shown is not None},
        "wish": wants[0].format(it=named),
        "its": its,
        "knows": _knows(spec, workflow, owner, wish, said, identity),
        "hears": hears(b),
        "voice": {
            name: rng.choice(getattr(voice, name))
            for name in ("unclear", "meant", "waiting", "unknown", "asked", "ends")
        },
    }
    if chosen:
        found["called"] = vague
    if "tell" in {node.kind for node in tree.nodes(workflow.tree)}:
        if rng.random() < 0.5:
            found["request"] += f" {rng.choice(_AMOUNTS)}"
    if taken[0].get("review") == "amended":
        other = rng.choice(spec.wishes(action, wish[action.slot], now)[:-1])
        found["amends"] = {action.slot: other}
        found["amended"] = speech.spoken(write.args[action.slot], other, now, rng)
    if "find" in taken[0]:
        found["find"] = {
            "key": spec.record.key, "owner_id": owner[spec.owner.key], "several": taken[0]["find"] == "several"
        }  # fmt: skip
    if workflow.tree.kind == "goals":
        found["later"] = [{"record_id": key, "accepts": a} for key, a in zip(ids[1:], accepts[1:])]
        if not together:
            for number, goal in enumerate(found["later"], 1):
                want = wants[number % len(wants)].format(it=its[goal["record_id"]])
                goal["request"] = rng.choice(voice.more).format(want=want)
    claimed = next((node.spec["condition"] for node in conditions.rules(workflow.tree) if node.spec.get("claim")), None)
    if claimed:
        claim = _claim(workflow, claimed, branch, spec.values_of(records, ids[0], now), rng)
        found["request"] += f" {claim[0].upper()}{claim[1:]}."
        found["insists"] = [rng.choice(voice.insists).format(claim=claim), rng.choice(voice.pleads)]
        found["insists"] = [text[0].upper() + text[1:] for text in found["insists"]]
    return found


def _extreme(b: Business, chosen: dict[str, Any], rng: random.Random) -> str:
    """How a customer singles out the record with the smallest, or the largest, value. chosen: spec of the node."""
    attribute = b.attributes[chosen["field"]]
    words = {"cents": ("lowest", "highest"), "days_until": ("earliest", "latest")}
    word = words.get(attribute.kind, ("smallest", "largest"))[chosen["most"]]
    return f"the {b.nouns[0]} of mine for which {rng.choice(speech.spoken_subjects(attribute))} is the {word}"


def amounts(workflow: Workflow, state: dict[str, dict], user: dict[str, Any]) -> dict[str, Any]:
    """The user script with the amounts that the customer is to be told, which follow from the state."""
    if "tell" not in {node.kind for node in tree.nodes(workflow.tree)}:
        return user
    spec, action, ids = of(workflow), workflow.action, [goal["record_id"] for goal in (user, *user.get("later", ()))]
    told = [spec.arguments(action, state, key, user["slots"], user["now"])[action.copied] for key in ids]
    return {**user, "told": told}


def owner_name(b: Business, owner: dict[str, Any]) -> str:
    """What a customer calls themself: the field of type name, else the identifier's kind."""
    fields = b.collections[b.of_kind[b.owner]].fields
    return next((str(owner[name]) for name, field in fields.items() if field.type == "name"), b.owner)


def _accepts(edges: dict[str, str]) -> bool:
    return "refused" not in (edges.get("confirm"), edges.get("review"))


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _identity(b: Business, owner: dict[str, Any]) -> dict[str, str]:
    """What identifies the customer alone: criterion -> value."""
    search = next(s for s in b.searches.values() if s.collection == b.of_kind[b.owner])
    ways = [way for way in b.identify if len(way) == 1]
    return {way[0]: str(paths.get(owner, search.by[way[0]])) for way in ways}


def _knows(
    spec: Service,
    workflow: Workflow,
    owner: dict[str, Any],
    wish: dict[str, Any],
    said: dict[str, str],
    identity: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """What the customer tells when asked (`knows` in envs/customer.py)."""
    b, fields = spec.business, spec.fields(spec.owner.kind)
    write = b.actions[workflow.verb]
    found: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {"words": [], "as": []}
    general = {"name": "full_name", "email": "email", "phone": "phone", "address": "address", "postcode": "postcode"}
    for name, field in fields.items():
        if field.type not in general or general[field.type] in found:
            continue
        value = owner[name]
        if field.type == "address":
            found["postcode"] = {**plain, "says": value["postcode"]}
            value = f"{value['street']}, {value['city']}, {value['postcode']}"
        found[general[field.type]] = {**plain, "says": str(value)}
    for key, value in identity.items():
        found.setdefault(key, {"words": [key.replace("_", " ")], "as": [], "says": value})
    if any(write.args[name].type == "address" for name in said):
        found.pop("address", None)  # a question for the address is then about the one that the customer wants
    for name, text in said.items():
        argument = write.args[name]
        others = {v: argument.told.get(v, v.replace("_", " ")) for v in argument.values if v != wish[name]}
        found[name] = {
            "words": list(argument.fact), "says": text, "as": _GENERAL.get(argument.type, []),
            "type": argument.type, "others": others,
        }  # fmt: skip
    return found


def hears(b: Business) -> dict[str, Any]:
    """The words by which the customer recognises what an agent is about (envs/hearing)."""
    verbs = [
        {"name": name, "words": [*action.verbs, action.tool.replace("_", " ")], "family": action.family}
        for name, action in b.actions.items()
    ]
    return {"verbs": verbs, "records": list(b.nouns)}


def _claim(workflow: Workflow, condition: expr.Expr, branch: Branch, values: dict[str, Any], rng: random.Random) -> str:
    """The customer's claim about a rule's attribute: true where the rule holds, else a value that would meet it."""
    reference = condition["field"]
    fails = any(n.kind == "guard" and n.spec["condition"] == condition and edge == "fails" for n, edge in branch)
    value = values[reference]
    if fails:
        value = rng.choice([v for v in workflow.spec.values()[reference] if expr.holds(condition, {reference: v})])
    return speech.claim(of(workflow).business, reference, value, rng)
