"""What the user of a task says, and the check that a rewording of it says the same."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from synth import personas
from synth.task import Task
from synth.trees import domains

# Words that can reverse the meaning of a text: they negate ("n't" counts as "not"), put off, call off or forbid.
REFUSALS = frozenset("""
    no not never neither nor none nobody nothing cannot without hardly dont cant wont
    abandon against avoid cancel canceled cancelled decline declined delay denied deny drop except forbidden forget halt
    hold ignore instead keep later leave off pause postpone prevent prohibited rather refrain refuse refused reject
    rejected skip stop undo unless until wait withdraw yet
""".split())  # fmt: skip
# Answer to a request for consent -> the words it may consist of. No word negates or calls off what the others say, so
# no combination of them can mean the opposite.
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
    """Name -> text of everything that the user of a task may say.

    Names: "request"; "yes" and "no", the answers to requests for consent; "insists_<i>", the replies to refusals;
    "later_<i>", the later requests.
    """
    user = task.user
    found = {name: user[name] for name in ("request", "yes", "no")}
    found |= {f"insists_{i}": text for i, text in enumerate(user.get("insists", ()))}
    return found | {f"later_{i}": goal["request"] for i, goal in enumerate(user.get("later", ())) if "request" in goal}


def reworded(task: Task, words: dict[str, str]) -> Task:
    """The task with new texts (name -> text) for everything that `of` names. Raises KeyError if one is missing."""
    user: dict[str, Any] = {**task.user, **{name: words[name] for name in ("request", "yes", "no")}}
    if "insists" in user:
        user["insists"] = [words[f"insists_{i}"] for i in range(len(user["insists"]))]
    if "later" in user:
        goals = enumerate(user["later"])
        user["later"] = [{**g, "request": words[f"later_{i}"]} if "request" in g else g for i, g in goals]
    return dataclasses.replace(task, user=user)


def check(task: Task, words: dict[str, str]) -> None:
    """Raises ValueError, naming the utterance and the difference, unless the new texts state the same facts.

    An utterance and its new text must have the same
    - text in quotes and numbers;
    - words that are names or values of the task's domain, identifiers of its records, or names of personas;
    - words of REFUSALS; answers to requests for consent must instead consist of words of ANSWERS.
    A text that reverses the meaning in any other way is not detected.

    Args:
      task: the task with the original texts.
      words: name (see `of`) -> new text.
    Raises:
      ValueError: see above; also for a text that is not one line of printable characters.
      KeyError: a text is missing.
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
    """Raises ValueError if a text holds line breaks or other unprintable characters. `name` begins the message."""
    if not text.isprintable():
        raise ValueError(f"{name}: expected one line of printable characters, got {text!r}")


def refusals(text: str) -> list[str]:
    """The words of REFUSALS that occur in a text, sorted, repeated as often as they occur."""
    return sorted(w for w in re.findall(r"\w+", re.sub(r"n't\b", " not", _plain(text))) if w in REFUSALS)


def _plain(text: str) -> str:
    """A text in lower case, with plain apostrophes."""
    return text.lower().replace("\u2019", "'")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _facts(text: str, known: set[str]) -> tuple[list[str], list[str], list[str]]:
    """(texts in quotes, numbers, words of `known` that occur), each sorted."""
    return sorted(re.findall(r'"([^"]*)"', text)), sorted(re.findall(r"\d+", text)), sorted(known & set(_words(text)))


def _vocabulary(task: Task) -> set[str]:
    """The words, in lower case, of all names and values that have a meaning in a task."""
    domain = domains.find(task.domain)
    found = {persona.name for split in personas.SPLITS for persona in personas.personas(split)}
    found |= {record_id for records in task.state.values() for record_id in records}
    for entity in domain.entities:
        found |= {entity.kind, *entity.fields, *(str(v) for values in entity.fields.values() for v in values)}
    for action in domain.actions:
        found |= {action.verb, action.slot, *action.choices}
    return {word for text in found for word in _words(text)}
