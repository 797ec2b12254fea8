"""Businesses that a language model proposes, in the schema of the written ones, and what code demands of them.

A proposal that passes here is as good as a written business: its tasks go through the same gates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from typing import Any

from synth.business import catalogue, manual
from synth.business.schema import Business
from synth.business.view import Service, view
from synth.inversion import invert
from synth.trees import domains, tree
from synth.trees.workflow import Workflow, linear

SCHEMA: dict[str, Any] = Business.model_json_schema()
LEAST = {"collections": 4, "attributes": 10, "actions": 5, "searches": 3}  # of a proposal


def prompt(number: int, taken: Collection[str]) -> str:
    """The request for a proposal, with a written business as the example."""
    example = catalogue.written()[0].model_dump_json(by_alias=True, exclude_defaults=True)
    return (
        f"Proposal {number}: invent a business with customer service, other than {', '.join(taken)}, and no airline, "
        "shop or phone company. Write it as one JSON object like the example, with other collections, fields, "
        "tools, writes, rules and words. Descriptions of the keys stand in the schema. Texts are plain English. "
        f"Statements in 'notes' are facts without rules. Example: {example}\nSchema: {json.dumps(SCHEMA)}"
    )


def check(taken: Collection[str], answer: dict[str, Any]) -> Service:
    """The proposal as a domain. taken: names that it must not have.

    Raises ValueError, naming what is wrong: a key that does not fit the schema, too little of something, a rule that
    the manual cannot state so that it is read back, or a write that no task can be made of.
    """
    business = Business.model_validate(answer)
    if business.name in taken:
        raise ValueError(f"business {business.name!r}: there is another one of that name")
    for key, least in LEAST.items():
        if (count := len(getattr(business, key))) < least:
            raise ValueError(f"business {business.name!r}: {count} {key}, expected at least {least}")
    service = view(business)
    for entity in service.entities:
        if len(entity.fields) < 2:
            raise ValueError(f"business {business.name!r}: {entity.kind} needs two attributes that no write changes")
    _check_manual(service)
    _check_tasks(service)
    return service


def demand(taken: Collection[str], answer: dict[str, Any]) -> None:
    """Raises ValueError where `check` does."""
    check(taken, answer)


def _check_manual(service: Service) -> None:
    """Raises ValueError for a rule that is not read back as the same."""
    b, rng = service.business, random.Random(0)
    for entity in service.entities:
        rules = domains.guard_candidates(service, entity, set(), rng)
        rules += [
            {"op": "eq", "field": f"{entity.kind}.{name}", "value": value}
            for name, values in entity.fields.items()
            if not isinstance(values[0], int)
            for value in values
        ]
        for condition in rules:
            for action in b.actions:
                rule = manual.Rule(action, condition, "decline")
                text = manual.sentence(b, rule, "proposal")
                if {manual.normal(b, found) for found in manual.parse_sentence(b, text)} != {manual.normal(b, rule)}:
                    raise ValueError(f"business {b.name!r}: {text!r} can be read in several ways, or not at all")


def _check_tasks(service: Service) -> None:
    """Raises ValueError for an action of which no task of round 0 can be made."""
    known = domains.DOMAINS.get(service.name)
    domains.DOMAINS[service.name] = service
    try:
        for action in service.actions:
            root = f"train-0000-{service.name}-{action.verb}"
            flow = Workflow(f"{root}@r0", root, "", "", 0, "train", service.name, action.verb, linear(service))
            invert.invert(flow, tree.branches(flow.tree)[0], 0, 0)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"business {service.name!r}: no task can be made of {action.verb!r}: {error!r}") from error
    finally:
        del domains.DOMAINS[service.name]
        if known is not None:
            domains.DOMAINS[service.name] = known
