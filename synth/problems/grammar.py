"""Writes problems as text and reads them back, with one set of sentence templates for both.

A template contains {slots} and <nouns of the trade>. The reader tries every template that is possible at a sentence's
place. A text is unambiguous if exactly one template fits each of its sentences.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Mapping
from typing import Any

from synth.problems.catalogue import OPERATIONS
from synth.problems.graph import Node, Problem
from synth.problems.operation import Slot, number
from synth.problems.trades import DEFINITIONS, DISTRACTORS, NAMES, OPENINGS, QUESTIONS, TRADES

_DISTRACTOR_SLOTS = {"n": number(2, 99)}


def _with_nouns(template: str, trade: str) -> str:
    return re.sub(r"<(\w+)>", lambda match: TRADES[trade][match[1]], template)


def _show(template: str, slots: Mapping[str, Slot], values: Mapping[str, Any], trade: str) -> str:
    shown = {}
    for name, value in values.items():
        if name in slots:
            reference = isinstance(value, dict) and "ref" in value
            shown[name] = string.ascii_uppercase[value["ref"]] if reference else slots[name].show(value)
    return _with_nouns(template, trade).format(**shown)


@functools.cache
def _pattern(template: str, trade: str, slots: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """A regular expression for the sentences that a template can produce. `slots`: (name, pattern) of each slot."""
    patterns, pieces = dict(slots), []
    for piece in re.split(r"(\{\w+\})", _with_nouns(template, trade)):
        name = piece[1:-1]
        pieces.append(f"(?P<{name}>{patterns[name]})" if piece.startswith("{") else re.escape(piece))
    return re.compile("".join(pieces))


def _read(sentence: str, template: str, slots: Mapping[str, Slot], trade: str) -> dict[str, Any] | None:
    """The values of the slots if the template can produce the sentence, else None."""
    patterns = tuple((name, f"{slot.pattern}|[A-Z]" if slot.link else slot.pattern) for name, slot in slots.items())
    match = _pattern(template, trade, patterns).fullmatch(sentence)
    if match is None:
        return None
    values = {}
    for name, text in match.groupdict().items():
        linked = slots[name].link and re.fullmatch("[A-Z]", text)
        values[name] = {"ref": string.ascii_uppercase.index(text)} if linked else slots[name].read(text)
    return values


def phrase(node: Node, trade: str) -> str:
    """A noun phrase for a node's value in the words of a trade. Raises KeyError for an unknown operation or want."""
    name, _, of = node["want"].partition(":")
    return _with_nouns(OPERATIONS[node["op"]].wants[name], trade).format(of=of.replace("-", " to "))


def render(problem: Problem) -> str:
    """The problem as text, in its persona's words. Raises KeyError for unknown operations, wants, items or trades."""
    persona, trade = problem.persona, problem.persona.trade
    sentences = [persona.opening.format(name=persona.name, trade=trade)]
    for index, node in enumerate(problem.nodes):
        operation = OPERATIONS[node["op"]]
        sentences.append(_show(persona.pick(operation.wordings), operation.slots, node["args"], trade))
        for item in node["items"]:
            kind = operation.items[item["kind"]]
            sentences.append(_show(persona.pick(kind.wordings), kind.slots, item, trade))
        for extra in problem.distractors:
            if extra["node"] == index:
                sentences.append(_show(persona.pick(DISTRACTORS[extra["kind"]]), _DISTRACTOR_SLOTS, extra, trade))
        last = index == len(problem.nodes) - 1
        form = persona.pick(QUESTIONS if last else DEFINITIONS)
        sentences.append(form.format(letter=string.ascii_uppercase[index], phrase=phrase(node, trade)))
    return " ".join(sentences)


def parse(text: str) -> dict[str, Any]:
    """The graph behind a text: {"nodes", "distractors", "name", "trade"}, the last two of the persona.

    Raises ValueError, naming the sentence, if no template or more than one fits; also for a text without a question, or
    with a sentence after it.
    """
    first, *sentences = re.split(r"(?<=[.?]) ", text)
    name, trade = _opening(first)
    nodes: list[Node] = []
    distractors: list[dict[str, Any]] = []
    open_node, asked = False, False
    for sentence in sentences:
        if asked:
            raise ValueError(f"{sentence!r} comes after the question, which must be the last sentence")
        readings = [("distractor", found) for found in _distractors(sentence, trade)]
        if open_node:
            readings += [("item", item) for item in _items(sentence, nodes[-1]["op"], trade)]
            readings += [("want", want) for want in _wants(sentence, nodes[-1]["op"], trade, len(nodes) - 1)]
        else:
            readings += [("node", node) for node in _nodes(sentence, trade)]
        if len(readings) != 1:
            raise ValueError(f"{sentence!r} has {len(readings)} readings: {readings}")
        kind, value = readings[0]
        if kind == "node":
            nodes.append(value)
            open_node = True
        elif kind == "item":
            nodes[-1]["items"].append(value)
        elif kind == "distractor":
            distractors.append({**value, "node": len(nodes) - 1})
        else:
            nodes[-1]["want"], asked = value
            open_node = False
    if not asked:
        raise ValueError(f"{text!r} contains no question")
    return {"nodes": nodes, "distractors": distractors, "name": name, "trade": trade}


def _opening(sentence: str) -> tuple[str, str]:
    """(name, trade) of the persona whose opening this sentence is. Raises ValueError if it is not an opening."""
    slots = {"name": Slot("|".join(NAMES)), "trade": Slot("|".join(TRADES))}
    found = [values for form in OPENINGS if (values := _read(sentence, form, slots, "baker"))]
    if len(found) != 1:
        raise ValueError(f"{sentence!r} is not the opening of a problem")
    return found[0]["name"], found[0]["trade"]


def _distractors(sentence: str, trade: str) -> list[dict[str, Any]]:
    return [
        {"kind": kind, **values}
        for kind, wordings in DISTRACTORS.items()
        for wording in wordings
        if (values := _read(sentence, wording, _DISTRACTOR_SLOTS, trade)) is not None
    ]


def _nodes(sentence: str, trade: str) -> list[Node]:
    return [
        {"op": operation.name, "args": values, "items": [], "want": ""}
        for operation in OPERATIONS.values()
        for wording in operation.wordings
        if (values := _read(sentence, wording, operation.slots, trade)) is not None
    ]


def _items(sentence: str, name: str, trade: str) -> list[dict[str, Any]]:
    return [
        {"kind": kind, **values}
        for kind, item in OPERATIONS[name].items.items()
        for wording in item.wordings
        if (values := _read(sentence, wording, item.slots, trade)) is not None
    ]


def _wants(sentence: str, name: str, trade: str, index: int) -> list[tuple[str, bool]]:
    """Readings of a sentence that closes node `index`: (want, whether the sentence is the question)."""
    found = []
    for want, noun_phrase in OPERATIONS[name].wants.items():
        for form, asked in [*((form, False) for form in DEFINITIONS), *((form, True) for form in QUESTIONS)]:
            template = form.replace("{phrase}", noun_phrase).replace("{letter}", string.ascii_uppercase[index])
            # {of} in "the way from {of}" is written "Elm to Oak" in the text and stored as "Elm-Oak" in the want.
            values = _read(sentence, template, {"of": Slot(r"[A-Za-z]+(?: to [A-Za-z]+)?")}, trade)
            if values is not None:
                of = values.get("of", "").replace(" to ", "-")
                found.append((f"{want}:{of}" if of else want, asked))
    return found
