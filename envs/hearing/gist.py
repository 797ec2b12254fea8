"""What a customer takes from a message that the words for actions and facts do not tell: details, offers, kinds."""

from __future__ import annotations

import re
from typing import Any

from envs.hearing.values import mentions

_SMALL = frozenset("a an and at by for from in into is it my of on or our the to use using with your".split())
# "I'd move it to Friday. Is that okay?": what the agent would do, and the question whether it should.
_WOULD = re.compile(
    r"\b(i|we)\s*(['’](d|ll|m)|would|will|can|could|am|are)\b|\b(shall|should|may|can|could) (i|we)\b|\bme to\b"
)
_AGREE = re.compile(
    r"\b(ok|okay|alright|all right|happy|agree|agreed|fine|go ahead|proceed|sounds?|suits?|works?|good|want me|like me|"
    r"shall i|should i|shall we|should we|confirm|yes)\b"
)
_KINDS = {
    "cents": re.compile(r"\bhow much\b|\bwhat\b.*\b(total|sum|amount|figure|price)\b"),
    "date": re.compile(r"\bwhen\b|\b(what|which) (day|date)\b"),
    "time": re.compile(r"\bwhat time\b|\bat what hour\b"),
    "integer": re.compile(r"\bhow (many|long)\b"),
    "address": re.compile(r"\bwhere\b|\b(what|which) address\b"),
}


def states(text: str, value: Any, says: str, fact: dict[str, Any]) -> bool:
    """Whether a text states the value of a detail.

    says: how the customer says the value. fact: what the customer knows of the detail: "says", "type" and "others"
    (envs/customer.py). An address is known by its postcode; free text by most of its words. Another value that holds
    the words of this one, as "three-quarter size" holds "quarter size", is not taken for it.
    """
    if isinstance(value, dict):
        return mentions(text, value["postcode"])
    plain, own = _plain(text), _plain(says)
    rivals = [_plain(told) for told in (fact["says"], *fact["others"].values())]
    for rival in rivals:
        if rival != own and own in rival:
            plain = plain.replace(rival, " ")
    if mentions(plain, value) or mentions(plain, own):
        return True
    alike = [rival for rival in rivals if rival != own and _alike(plain, rival)]
    return fact["type"] == "text" and not alike and _alike(plain, own)


def _plain(text: str) -> str:
    """A text in which words that a hyphen joins stand apart, and days are single: "72-minute", "on Mondays"."""
    return re.sub(r"\b(\w+day)s\b", r"\1", re.sub(r"(?<=\w)[-_](?=[a-z])", " ", text.lower()))


def _alike(text: str, said: str) -> bool:
    """Whether a text has most of the telling words of what the customer said, in whatever form."""
    telling = [word for word in re.findall(r"\w+", said.lower()) if word not in _SMALL]
    words = re.findall(r"\w+", text)
    found = [w for w in telling if any(word == w or len(w) > 4 and word[:5] == w[:5] for word in words)]
    return bool(telling) and len(found) * 3 >= len(telling) * 2


def named(text: str, verb: str) -> bool:
    """Whether a text has a verb of an action, as base form or with an ending; of several words, all of them."""
    head, *rest = verb.lower().split()
    stem = head.removesuffix("e")
    ending = f"{re.escape(stem)}{re.escape(stem[-1])}?(e|es|s|ed|ing)?"
    tail = "".join(rf"\W+(?:\w+\W+){{0,2}}{re.escape(word)}" for word in rest)
    return re.search(rf"\b{ending}\b{tail}", text.lower()) is not None


def offers(text: str) -> bool:
    """Whether a text says what the agent would do and asks whether that is right."""
    low = text.lower()
    questions = re.findall(r"[^.!?\n]*\?", low)
    return bool(_WOULD.search(low)) and any(_AGREE.search(question) for question in questions)


def asked(text: str, kinds: dict[str, str]) -> list[str]:
    """The details that a question is about, by their kind. kinds: detail -> type."""
    questions = " ".join(re.findall(r"[^.!?\n]*\?", text.lower()))
    return [name for name, kind in kinds.items() if kind in _KINDS and _KINDS[kind].search(questions)]
