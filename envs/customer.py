"""The customer of a business: understands plain English, tells what it knows, and consents only to what was described.

What an agent's message does is recognised by envs/hearing; what the customer answers follows from its script. Where the
words do not tell, what the customer wants does (envs/hearing/gist.py): whoever reads all their details and "is that
okay?" says yes. docs/businesses.md has what is decided here, and why.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

from envs.hearing import gist
from envs.hearing.lexicon import Lexicon, Verb
from envs.hearing.recognise import Heard, Proposal, recognise
from envs.hearing.values import mentions, values
from envs.user import User

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


class Customer(User):
    """The customer of one episode. What is said to it is plain English.

    Keys of `script`:

    - request, record_id, verb, slots, withheld, accepts, yes, no, amends, find, insists, later: as in envs/user.py;
      `verb` is the name of an action of the business, `slots` has every argument that only the customer knows.
    - wish: what the customer wants, after "I'd like to". its: {record id: what the customer calls it}.
    - knows: {fact: {"words", "says", "as", "type", "others"}}: what agents call a fact, the answer, general names of
      such facts in envs/hearing; for slots their type and {other value: how it is said}.
    - told: amounts in cents that the customer is to be told. called: what the customer calls the record, where it is
      one of several that only the records tell apart. amended: how the customer says the value of `amends`.
    - now: the day.
    - hears: {"verbs", "records"}, see envs/hearing. voice: {"unclear", "meant", "waiting", "unknown", "asked"}, and
      "ends", the answer to the question whether there is anything else.
    """

    def __init__(self, script: dict[str, Any]):
        super().__init__(script)
        self._patience = PATIENCE
        self._words = json.dumps(script["hears"]), json.dumps(script["knows"])
        self._before = ""  # what the agent said last, to which "Shall I go ahead?" refers

    def reply(self, text: str, settled: bool, refused: bool = False) -> tuple[str | None, list[Event]]:
        """Answers one assistant message; arguments and result as in envs.user.User.reply."""
        heard, text = self._hear(text, settled)
        answers: list[str] = []
        events: list[Event] = []
        if heard.consent and not (settled and self._elsewhere(heard)):
            said, events = self._consents(heard, text)
            answers.append(said)
        told, questions = self._tells(heard)
        if told:
            answers.append(self._script["voice"]["asked"].format(said=", ".join(told)))
            events += questions
        heard_amounts = [{"type": "told", "value": v} for v in self._script.get("told", ()) if _states(text, v)]
        events += heard_amounts
        if answers:
            return " ".join(answers), events
        if settled and (more := self._goes_on(refused)):
            return more, []
        if settled or self._patience == 0:
            asked_more = settled and heard.anything_else and "?" in text
            ended = [{"type": "user_ended"}, *heard_amounts]
            return (self._script["voice"].get("ends") if asked_more else None), ended
        if heard_amounts:  # an answer to what the customer wanted to know
            return self._script["voice"]["waiting"], heard_amounts
        self._patience -= 1
        if heard.asks:
            return self._script["voice"]["unknown"], []
        news = heard.smalltalk or bool(heard.done) or heard.refuses or heard.hands_over
        waits = news and not heard.unclear and "?" not in text
        return self._script["voice"]["waiting"] if waits else self._unclear(), []

    def in_own_words(self, name: str, value: Any) -> Any:
        """The argument of a write as the customer worded it, if case, spaces and punctuation are all that differs."""
        wanted = [self._script["slots"].get(name), self._script.get("amends", {}).get(name)]
        return next((w for w in wanted if w is not None and _folded(w) == _folded(value)), value)

    def _hear(self, text: str, settled: bool) -> tuple[Heard, str]:
        """(what a message does, the text that it is about: with the message before, if it refers to that one)."""
        heard, before = _heard(text, *self._words), self._before
        self._before = text
        if heard.consent and all(proposal.verb is None for proposal in heard.consent) and before:
            if not self._complete(text) and "?" not in before:  # a question has been answered: it is over
                joined = _heard(f"{before}\n{text}", *self._words)
                heard, text = (joined if joined.consent else heard), f"{before}\n{text}"
        if not settled and not heard.asks and not heard.which:
            heard = self._by_details(heard, text)
        return heard, text

    def _complete(self, text: str) -> bool:
        """Whether a text states every detail that the customer wants."""
        return all(self._stated(text, name) for name in self._script["slots"])

    def _stated(self, text: str, name: str) -> bool:
        """Whether a text states a detail as the customer wants it, before or after a change."""
        fact = self._script["knows"][name]
        return gist.states(text, self._script["slots"][name], fact["says"], fact) or self._amended(text, name)

    def _amended(self, text: str, name: str) -> bool:
        """Whether a text states the changed value of a detail."""
        fact, amends = self._script["knows"][name], self._script.get("amends", {})
        return name in amends and gist.states(text, amends[name], self._script["amended"], fact)

    def _by_details(self, heard: Heard, text: str) -> Heard:
        """What a message does, where all details of the wish tell it better than the words for the action.

        A message that asks for a yes and states every detail is about the wish, unless it names another action. A
        question for something of one kind ("How much is it?") asks for the one detail of that kind.
        """
        asks_yes = bool(heard.consent) or (heard.unclear or heard.anything_else) and gist.offers(text)
        right = any(proposal.verb == self._script["verb"] for proposal in heard.consent)
        if asks_yes and not right and not heard.refuses and not heard.hands_over and self._complete(text):
            others = {p.verb for p in heard.consent if p.verb is not None}
            words = [w for v in self._script["hears"]["verbs"] if v["name"] in others for w in v["words"]]
            if not any(gist.named(text, word) for word in words):
                found = values(text)
                return dataclasses.replace(heard, consent=(Proposal(self._script["verb"], found),), unclear=False)
        if heard.unclear and "?" in text:
            kinds = {name: self._script["knows"][name]["type"] for name in self._script["slots"]}
            if len(asked := gist.asked(text, kinds)) == 1:
                return dataclasses.replace(heard, asks=(asked[0],), unclear=False)
        return heard

    def _unclear(self) -> str:
        return self._script["voice"]["unclear"].format(wish=self._script["wish"])

    def _elsewhere(self, heard: Heard) -> bool:
        """Whether every proposal is about something that the customer never wanted."""
        return all(proposal.verb != self._script["verb"] for proposal in heard.consent)

    def _consents(self, heard: Heard, text: str) -> tuple[str, list[Event]]:
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
        knows, slots = self._script["knows"], self._script["slots"]
        before = any(gist.states(text, slots[n], knows[n]["says"], knows[n]) for n in goal["amends"])
        if not before and all(self._amended(text, name) for name in goal["amends"]):
            return self._script["yes"], "amended"
        return f"{self._script['yes']} But make it {self._script['amended']}.", "amended"

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
        named = [w for v in self._script["hears"]["verbs"] if v["name"] == self._script["verb"] for w in v["words"]]
        for name in self._script["slots"]:
            fact = self._script["knows"][name]
            rest = text  # a write may be named by words that are a value, too: "replace lost tickets"
            for words in named:
                if self._stated(words, name):
                    rest = rest.replace(words, " ")
            if self._stated(rest, name):
                continue
            if any(mentions(text, value) or mentions(text, said) for value, said in fact["others"].items()):
                return True
            if fact["type"] == "date" and _dates(text):
                return True
        return False

    def _tells(self, heard: Heard) -> tuple[list[str], list[Event]]:
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


def _folded(value: Any) -> Any:
    """A value without what does not matter in a text."""
    if isinstance(value, dict):
        return {key: _folded(part) for key, part in value.items()}
    return re.sub(r"[\W_]+", "", value.lower()) if isinstance(value, str) else value


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
