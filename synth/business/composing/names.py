"""Names of tools, in the style of a business."""

from __future__ import annotations

import random

from synth.business.composing import words as english
from synth.business.composing.elements import Data

_STYLES = ("verb_record", "record_verb", "verb_aspect", "request_noun", "record_noun", "update_aspect", "space_verb",
           "verb_record_aspect", "plural_verb", "noun_request", "noun_for_record", "aspect_verb")  # fmt: skip
_REQUESTS = ("submit", "file", "enter", "create", "process", "record", "post", "issue", "log", "register")
_UPDATES = ("update", "set", "edit", "amend", "modify", "adjust", "write", "save")
_SPACES = ("desk", "office", "admin", "core", "backoffice", "svc", "front", "ops")
_TAILS = ("request", "entry", "order_form", "action", "task", "job")


def style(rng: random.Random) -> dict[str, str]:
    """How a business names its tools."""
    return {"style": rng.choice(_STYLES), "request": rng.choice(_REQUESTS), "update": rng.choice(_UPDATES),
            "space": rng.choice(_SPACES), "tail": rng.choice(_TAILS)}  # fmt: skip


def tool(spec: Data, named: dict[str, str], words: dict[str, str], taken: set[str], rng: random.Random) -> str:
    """A name for the tool of an action that no other tool has."""
    snake = {key: english.snake(said) for key, said in words.items()}
    record, records = snake["record"], snake["records"]
    for _ in range(60):
        verb, aspect, noun = (rng.choice(spec[key]) for key in ("tv", "asp", "nom"))
        verb, aspect, noun = (english.snake(english.fill(text, snake)) for text in (verb, aspect, noun))
        tail = f"_{aspect}" if spec.get("always") and aspect != record else ""
        own = aspect if aspect != record else noun
        name = {
            "verb_record": f"{verb}_{record}{tail}",
            "record_verb": f"{record}{tail}_{verb}",
            "verb_aspect": f"{verb}_{own}" if own != noun else f"{verb}_{record}",
            "request_noun": f"{named['request']}_{noun}",
            "record_noun": f"{record}_{noun}",
            "update_aspect": f"{named['update']}_{record}_{own}",
            "space_verb": f"{named['space']}_{verb}_{own if tail else record}",
            "verb_record_aspect": f"{verb}_{record}_{own}" if own != noun else f"{verb}_{record}",
            "plural_verb": f"{records}_{verb}{tail}",
            "noun_request": f"{noun}_{named['tail']}",
            "noun_for_record": f"{noun}_for_{record}",
            "aspect_verb": f"{own}_{verb}" if own != noun else f"{record}_{verb}",
        }[named["style"]]
        parts = name.split("_")
        if name not in taken and all(a != b for a, b in zip(parts, parts[1:])):
            break
        name = f"{name}_{english.snake(rng.choice(spec['asp']).strip('{}'))}"
        if name not in taken and rng.random() < 0.1:
            break
    taken.add(name)
    return name
