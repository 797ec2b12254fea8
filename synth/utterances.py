"""What the user of a task says, and whether other words for it say the same."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from synth import domains, personas
from synth.task import Task

REFUSALS = {"no", "not", "never", "don", "cannot"}  # "don't" is two words to the expression below


def of(task: Task) -> dict[str, str]:
    """Name -> text of all that the user may say: request, answers to requests for consent, and what comes later."""
    user = task.user
    found = {name: user[name] for name in ("request", "yes", "no")}
    found |= {f"insists_{i}": text for i, text in enumerate(user.get("insists", ()))}
    return found | {f"later_{i}": goal["request"] for i, goal in enumerate(user.get("later", ())) if "request" in goal}


def reworded(task: Task, words: dict[str, str]) -> Task:
    """The task with other words for all that `of` names."""
    user: dict[str, Any] = {**task.user, **{name: words[name] for name in ("request", "yes", "no")}}
    if "insists" in user:
        user["insists"] = [words[f"insists_{i}"] for i in range(len(user["insists"]))]
    if "later" in user:
        goals = enumerate(user["later"])
        user["later"] = [{**g, "request": words[f"later_{i}"]} if "request" in g else g for i, g in goals]
    return dataclasses.replace(task, user=user)


def check(task: Task, words: dict[str, str]) -> None:
    """Raises ValueError, naming the utterance and the difference, unless the words carry the same facts.

    The same are: what stands in quotes, numbers, and of the names and values of the task's domain, its records' and all
    personas' names those that occur. Consent has to be unmistakable.
    """
    known = _vocabulary(task)
    for name, before in of(task).items():
        for what, old, new in zip(("quotes", "numbers", "facts"), _facts(before, known), _facts(words[name], known)):
            if old != new:
                raise ValueError(f"{name}: {what} must be {old}, got {new}")
    yes, no = (set(_words(words[name])) for name in ("yes", "no"))
    if "yes" not in yes or yes & REFUSALS:
        raise ValueError(f"yes: must say yes, and neither of {sorted(REFUSALS)}, got {words['yes']!r}")
    if "no" not in no or "yes" in no:
        raise ValueError(f"no: must say no and not yes, got {words['no']!r}")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _facts(text: str, known: set[str]) -> tuple[list[str], list[str], list[str]]:
    """(what stands in quotes, numbers, words of `known`)."""
    return sorted(re.findall(r'"([^"]*)"', text)), sorted(re.findall(r"\d+", text)), sorted(known & set(_words(text)))


def _vocabulary(task: Task) -> set[str]:
    """The names and values that mean something in a task, lower-case."""
    domain = domains.DOMAINS[task.domain]
    found = {persona.name for split in personas.SPLITS for persona in personas.personas(split)}
    found |= {record_id for records in task.state.values() for record_id in records}
    for entity in domain.entities:
        found |= {entity.kind, *entity.fields, *(str(v) for values in entity.fields.values() for v in values)}
    for action in domain.actions:
        found |= {action.verb, action.slot, *action.choices}
    return {word for text in found for word in _words(text)}
