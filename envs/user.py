"""The scripted user: reveals what it is asked for, consents or refuses, and ends the conversation."""

from __future__ import annotations

import re
from typing import Any

Event = dict[str, Any]
PATIENCE = 1  # messages the user answers with a reminder before giving up


class User:
    """One user of one episode.

    `script` keys: request (first message), record_id, verb, slots {detail: value}, withheld (details not given at
    first), accepts (whether the user consents to the write), yes / no (wording of the answers). Where the tree has
    them: amends {detail: value} (consents, but with this), find {owner_id, several} (has said whose record it is, and
    knows which), insists (what it says to refusals, in turn), later [{record_id, accepts, request}] (further goals; one
    without a request is part of the first message, the others are brought up in turn).
    """

    def __init__(self, script: dict[str, Any]):
        self._script = script
        self._patience = PATIENCE
        self._insists = list(script.get("insists", ()))
        self._goals = [script, *script.get("later", ())]
        self.voiced = [script["record_id"], *(g["record_id"] for g in self._goals[1:] if "request" not in g)]

    def reply(self, text: str, settled: bool, refused: bool = False) -> tuple[str | None, list[Event]]:
        """Answers one assistant message.

        Args:
          text: what the assistant said.
          settled: whether what has been voiced so far was carried out or refused, so that any further word closes it.
          refused: whether the last of it was refused.
        Returns:
          (the answer, or None when the user ends the conversation; events to record).
        """
        words = set(re.findall(r"\w+", text.lower()))
        if "confirm" in words and "?" in text:
            return self._consent(words)
        if "?" in text and (told := self._told(words)):
            said = ", ".join(f'"{slot}": "{value}"' for slot, value in told.items())
            return f"{said}.", [{"type": "asked", "slot": slot} for slot in told]
        if settled and refused and self._insists:
            return self._insists.pop(0), []
        if settled and (goal := next((g for g in self._goals if g["record_id"] not in self.voiced), None)):
            self.voiced.append(goal["record_id"])
            return goal["request"], []
        if settled or self._patience == 0:
            return None, [{"type": "user_ended"}]
        self._patience -= 1
        return "Please go on.", []

    def _consent(self, words: set[str]) -> tuple[str, list[Event]]:
        """The answer to a request for consent to the write on a record."""
        goal = next((g for g in self._goals if g["record_id"] in words and g["record_id"] in self.voiced), None)
        if goal is None:
            return "That is not mine.", []
        if not goal["accepts"]:
            said, answer = self._script["no"], "refused"
        elif "amends" in goal:
            changed = ", ".join(f'"{slot}": "{value}"' for slot, value in goal["amends"].items())
            said, answer = f"{self._script['yes']} But make it {changed}.", "amended"
        else:
            said, answer = self._script["yes"], "accepted"
        return said, [{"type": "confirm", "answer": answer, "id": goal["record_id"]}]

    def _told(self, words: set[str]) -> dict[str, str]:
        """The details that a question with these words is about, and which of the owner's records is meant."""
        found = {slot: value for slot, value in self._script["slots"].items() if slot.lower() in words}
        find = self._script.get("find")
        if find and find["key"] in words and find["owner_id"] in words:
            found[find["key"]] = self._script["record_id"]
        return found
