"""What the user of a task says, and whether other words for it say the same."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from synth import personas
from synth.task import Task
from synth.trees import domains

# What turns a text round: words that negate ("n't" counts as "not"), and words that put off, call off or forbid.
REFUSALS = frozenset("""
    no not never neither nor none nobody nothing cannot without hardly dont cant wont
    abandon against avoid cancel canceled cancelled decline declined delay denied deny drop except forbidden forget halt
    hold ignore instead keep later leave off pause postpone prevent prohibited rather refrain refuse refused reject
    rejected skip stop undo unless until wait withdraw yet
""".split())  # fmt: skip
# Answer to a request for consent -> the words it may have. None of them negates or calls off what the others say, so
# that they cannot be put in a way that says the opposite.
ANSWERS = {
    "yes": frozenset("""
        absolutely agree ah ahead all alright am by certainly confirm consent continue correct course definitely do
        exactly fine for gladly go good great happy i i'm indeed is it it's like me much of oh ok okay on perfect please
        proceed right so sounds sure surely thank thanks that that's this to very well with works would yeah yep yes you
    """.split()),
    "no": frozenset("""
        actually ah as be changed forget have i i've is it leave mind my no nope oh please sorry stop thank thanks that
        this well you
    """.split()),
}  # fmt: skip


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
    personas' names those that occur. What negates or calls off is the same, too (REFUSALS), and answers to requests for
    consent have words of ANSWERS alone. That a text says the opposite in other words than these is not noticed.
    """
    known = _vocabulary(task)
    for name, before in of(task).items():
        check_line(name, words[name])
        for what, old, new in zip(("quotes", "numbers", "facts"), _facts(before, known), _facts(words[name], known)):
            if old != new:
                raise ValueError(f"{name}: {what} must be {old}, got {new}")
        if name in ANSWERS:
            said = set(re.findall(r"[\w'?]+", _plain(words[name])))
            if name not in said or said - ANSWERS[name]:
                raise ValueError(f"{name}: must say {name}, without {sorted(said - ANSWERS[name])}")
        elif refusals(before) != refusals(words[name]):
            raise ValueError(f"{name}: negations must be {refusals(before)}, got {refusals(words[name])}")


def check_line(name: str, text: str) -> None:
    """Raises ValueError if a text holds line breaks or other characters that cannot be seen."""
    if not text.isprintable():
        raise ValueError(f"{name}: expected one line of printable characters, got {text!r}")


def refusals(text: str) -> list[str]:
    """The words of REFUSALS in a text, sorted."""
    return sorted(w for w in re.findall(r"\w+", re.sub(r"n't\b", " not", _plain(text))) if w in REFUSALS)


def _plain(text: str) -> str:
    """A text in lower case, with plain apostrophes."""
    return text.lower().replace("\u2019", "'")


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
