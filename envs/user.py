"""The scripted user: tells details that it is asked for, gives or refuses consent, and ends the conversation."""

from __future__ import annotations

import re
from typing import Any

Event = dict[str, Any]
PATIENCE = 1  # messages that the user answers with a reminder before it ends the conversation


class User:
    """The user of one episode.

    Keys of `script`:

    - request: the first message. record_id: the record it is about. verb: the requested action.
    - slots: {detail: value}. withheld: details that the first message does not give.
    - accepts: whether the user consents to the write. yes, no: the wording of these answers.

    Further keys, if the task's tree needs them:

    - amends: {detail: value}; the user consents, but with this change.
    - find: {owner_id, several}; the user has only said whose record it is, but knows which.
    - insists: answers to refusals, one after the other.
    - later: [{record_id, accepts, request}]; further goals. One without a request is part of the first message; the
      others are brought up one after the other.
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
          settled: whether every request voiced so far was carried out or refused; the user then moves on or ends.
          refused: whether the last of these requests was refused.
        Returns:
          (the answer, or None if the user ends the conversation; events to record).
        """
        words = set(re.findall(r"\w+", text.lower()))
        if "confirm" in words and "?" in text:
            return self._consent(words)
        if "?" in text and (told := self._told(words)):
            said = ", ".join(f'"{slot}": "{value}"' for slot, value in told.items())
            return f"{said}.", [{"type": "asked", "slot": slot} for slot in told]
        if settled and (more := self._goes_on(refused)):
            return more, []
        if settled or self._patience == 0:
            return None, [{"type": "user_ended"}]
        self._patience -= 1
        return "Please go on.", []

    def _goes_on(self, refused: bool) -> str | None:
        """What the user says once every request voiced so far is settled: an objection to a refusal, or the next
        request; None if there is nothing left to say."""
        if refused and self._insists:
            return self._insists.pop(0)
        goal = next((g for g in self._goals if g["record_id"] not in self.voiced), None)
        if goal is None:
            return None
        self.voiced.append(goal["record_id"])
        return goal["request"]

    def _consent(self, words: set[str]) -> tuple[str, list[Event]]:
        """Answers a request for consent to the write on a record. words: of the request."""
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
        """The details that a question with these words asks for; among them which of the owner's records is meant."""
        found = {slot: value for slot, value in self._script["slots"].items() if slot.lower() in words}
        find = self._script.get("find")
        if find and find["key"] in words and find["owner_id"] in words:
            found[find["key"]] = self._script["record_id"]
        return found
