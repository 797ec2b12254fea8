"""The customer of a business: understands plain English, tells what it knows, and consents only to what was described.

What an agent's message does is recognised by envs/hearing; what the customer answers follows from its script.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from envs.hearing.lexicon import Lexicon, Verb
from envs.hearing.recognise import Heard, Proposal, recognise
from envs.hearing.values import mentions, values

Event = dict[str, Any]
PATIENCE = 3  # messages that the customer answers without getting any further before it ends the conversation


@functools.lru_cache(maxsize=1024)
def _lexicon(hears: str, knows: str) -> Lexicon:
    """The words by which the customer recognises what an agent is about. hears, knows: parts of the script as JSON."""
    words, facts = json.loads(hears), json.loads(knows)
    verbs = tuple(Verb(verb["name"], tuple(verb["words"]), verb["family"]) for verb in words["verbs"])
    said = {text for fact in facts.values() for text in (fact["says"], *fact.get("others", {}).values())}
    told = sorted(text for text in said if (" " in text or text.endswith("ed")) and not any(c.isdigit() for c in text))
    names = {name: tuple(fact["words"]) for name, fact in facts.items()}
    return Lexicon(names, verbs, tuple(words["records"]), tuple(told))


@functools.lru_cache(maxsize=4096)
def _heard(text: str, hears: str, knows: str) -> Heard:
    """What a message does. The gates play the same messages again and again."""
    return recognise(text, _lexicon(hears, knows))


class Customer:
    """The customer of one episode. It has the interface of envs.user.User.

    Keys of `script`:

    - request, record_id, verb, slots, withheld, accepts, yes, no, amends, find, insists, later: as in envs/user.py;
      `verb` is the name of an action of the business, `slots` has every argument that only the customer knows.
    - wish: what the customer wants, after "I'd like to". its: {record id: what the customer calls it}.
    - knows: {fact: {"words", "says", "as", "type", "others"}}: what agents call a fact, the answer, general names of
      such facts in envs/hearing; for slots their type and {other value: how it is said}.
    - told: amounts in cents that the customer is to be told. called: what the customer calls the record, where it is
      one of several that only the records tell apart. amended: how the customer says the value of `amends`.
    - now: the day.
    - hears: {"verbs", "records"}, see envs/hearing. voice: {"unclear", "meant", "waiting", "unknown", "asked"}.
    """

    def __init__(self, script: dict[str, Any]):
        self._script = script
        self._patience = PATIENCE
        self._insists = list(script.get("insists", ()))
        self._goals = [script, *script.get("later", ())]
        self._words = json.dumps(script["hears"]), json.dumps(script["knows"])
        self.voiced = [script["record_id"], *(g["record_id"] for g in self._goals[1:] if "request" not in g)]

    def reply(self, text: str, settled: bool, refused: bool = False) -> tuple[str | None, list[Event]]:
        """Answers one assistant message; arguments and result as in envs.user.User.reply."""
        heard = _heard(text, *self._words)
        answers: list[str] = []
        events: list[Event] = []
        if heard.consent and not (settled and self._elsewhere(heard)):
            said, events = self._consent(heard, text)
            answers.append(said)
        told, asked = self._told(heard)
        if told:
            answers.append(self._script["voice"]["asked"].format(said=", ".join(told)))
            events += asked
        heard_amounts = [{"type": "told", "value": v} for v in self._script.get("told", ()) if _states(text, v)]
        events += heard_amounts
        if answers:
            return " ".join(answers), events
        if settled and refused and self._insists:
            return self._insists.pop(0), []
        if settled and (goal := next((g for g in self._goals if g["record_id"] not in self.voiced), None)):
            self.voiced.append(goal["record_id"])
            return goal["request"], []
        if settled or self._patience == 0:
            return None, [{"type": "user_ended"}, *heard_amounts]
        if heard_amounts:  # an answer to what the customer wanted to know
            return self._script["voice"]["waiting"], heard_amounts
        self._patience -= 1
        if heard.asks:
            return self._script["voice"]["unknown"], []
        waits = heard.smalltalk and not heard.unclear and "?" not in text
        return self._script["voice"]["waiting"] if waits else self._unclear(), []

    def _unclear(self) -> str:
        return self._script["voice"]["unclear"].format(wish=self._script["wish"])

    def _elsewhere(self, heard: Heard) -> bool:
        """Whether every proposal is about something that the customer never wanted."""
        return all(proposal.verb != self._script["verb"] for proposal in heard.consent)

    def _consent(self, heard: Heard, text: str) -> tuple[str, list[Event]]:
        """Answers requests for consent: yes or no to what the customer wanted, corrections of everything else."""
        wrong = self._script["voice"]["meant"].format(wish=self._script["wish"])
        named = [proposal for proposal in heard.consent if proposal.verb is not None]
        if not named:
            return self._unclear(), []
        answers: dict[str, None] = {}
        events: list[Event] = []
        for proposal in named:
            goals = self._meant(proposal, text, alone=len(named) == 1)
            if proposal.verb != self._script["verb"] or not goals or self._contradicts(text):
                return wrong, []
            for goal in goals:
                said, answer = self._answer(goal, text)
                answers[said if len(goals) == 1 and len(named) == 1 else self._about(goal, said)] = None
                events.append({"type": "confirm", "answer": answer, "id": goal["record_id"]})
        return " ".join(answers), events

    def _about(self, goal: dict[str, Any], said: str) -> str:
        """An answer that says which record it is about, where several are."""
        return f"For {self._script['its'][goal['record_id']]}: {said}"

    def _answer(self, goal: dict[str, Any], text: str) -> tuple[str, str]:
        """(what the customer says to a request for consent to the write on a goal's record, the kind of answer)."""
        if not goal["accepts"]:
            return self._script["no"], "refused"
        if "amends" not in goal:
            return self._script["yes"], "accepted"
        if all(mentions(text, value) for value in self._values(goal["amends"]).values()):
            return self._script["yes"], "amended"
        return f"{self._script['yes']} But make it {self._script['amended']}.", "amended"

    def _values(self, slots: dict[str, Any]) -> dict[str, Any]:
        """The values of slots; of an address the postcode."""
        return {n: v["postcode"] if isinstance(v, dict) else v for n, v in slots.items()}

    def _meant(self, proposal: Proposal, text: str, alone: bool) -> list[dict[str, Any]]:
        """The goals whose records a proposal is about; [] if it is about another record.

        A proposal that names no record is about all records of which the customer has spoken.
        """
        said = " ".join(proposal.values) if not alone else text
        named = [key for key, it in self._script["its"].items() if _names(said, key) or _called(said, it)]
        shape = re.sub(r"\d", "#", self._script["record_id"])
        shape = re.sub(r"[A-Z]", "@", shape)
        alien = [
            word
            for word in re.findall(r"\w+(?:[-./#]\w+)*", said)
            if re.sub(r"[A-Z]", "@", re.sub(r"\d", "#", word)) == shape and word not in self._script["its"]
        ]
        if alien:
            return []
        goals = [g for g in self._goals if g["record_id"] in self.voiced]
        if exact := [key for key in named if _names(said, key)]:
            named = exact
        return [g for g in goals if g["record_id"] in named] if named else goals

    def _contradicts(self, text: str) -> bool:
        """Whether a text states another value for a detail, and not the one that the customer wants."""
        amends = self._script.get("amends", {})
        named = [w for v in self._script["hears"]["verbs"] if v["name"] == self._script["verb"] for w in v["words"]]
        for name in self._script["slots"]:
            fact = self._script["knows"][name]
            wanted = [*self._values({name: self._script["slots"][name]}).values()]
            wanted += self._values({n: v for n, v in amends.items() if n == name}).values()
            rest = text  # a write may be named by words that are a value, too: "replace lost tickets"
            for words in named:
                if any(mentions(words, value) for value in wanted):
                    rest = rest.replace(words, " ")
            if any(mentions(rest, value) for value in wanted) or mentions(rest, fact["says"]):
                continue
            if any(mentions(text, value) or mentions(text, said) for value, said in fact["others"].items()):
                return True
            if fact["type"] == "date" and _dates(text):
                return True
        return False

    def _told(self, heard: Heard) -> tuple[list[str], list[Event]]:
        """(what the customer tells of the facts that were asked for, the events)."""
        told: list[str] = []
        events: list[Event] = []
        knows = self._script["knows"]
        for fact in heard.asks:
            name = fact if fact in knows else next((n for n, f in knows.items() if fact in f["as"]), None)
            if name is None or knows[name]["says"] in told:
                continue
            told.append(knows[name]["says"])
            if name in self._script["slots"]:
                events.append({"type": "asked", "slot": name})
        if heard.which:
            its = self._script["its"]
            called = " and ".join(its[g["record_id"]] for g in self._goals if g["record_id"] in self.voiced)
            told.append(self._script.get("called", called))
            if find := self._script.get("find"):
                events.append({"type": "asked", "slot": find["key"]})
        return told, events


def _states(text: str, cents: int) -> bool:
    """Whether a text states an amount of money."""
    return f"{cents}c" in values(text)


def _names(text: str, record_id: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(record_id)}(?![\w-])", text, re.IGNORECASE) is not None


def _called(text: str, it: str) -> bool:
    """Whether a text has every telling word of what the customer calls a record."""
    words = set(re.findall(r"\w+", text.lower()))
    return {word for word in re.findall(r"\w+", it.lower()) if word not in ("the", "my", "a", "an")} <= words


def _dates(text: str) -> list[str]:
    """The dates in a text."""
    return [value for value in values(text) if re.fullmatch(r"(\d{4}|-)-\d\d-\d\d", value)]
