"""The scripted user: reveals what it is asked for, consents or refuses, and ends the conversation."""

from __future__ import annotations

import re
from typing import Any

Event = dict[str, Any]
PATIENCE = 1  # messages the user answers with a reminder before giving up


class User:
    """One user of one episode.

    `script` keys: request (first message), record_id, slots {detail: value}, withheld (details not given at first),
    accepts (whether the user consents to the write), yes / no (wording of the answers).
    """

    def __init__(self, script: dict[str, Any]):
        self._script = script
        self._patience = PATIENCE

    def reply(self, text: str, settled: bool) -> tuple[str | None, list[Event]]:
        """Answers one assistant message.

        Args:
          text: what the assistant said.
          settled: whether the request has been carried out or refused, so that any further word closes the matter.
        Returns:
          (the answer, or None when the user ends the conversation; events to record).
        """
        words = set(re.findall(r"\w+", text.lower()))
        if "confirm" in words and "?" in text:
            if self._script["record_id"] not in words:
                return "That is not mine.", []
            answer = "accepted" if self._script["accepts"] else "refused"
            return self._script["yes" if self._script["accepts"] else "no"], [{"type": "confirm", "answer": answer}]
        if "?" in text:
            asked = [slot for slot in self._script["slots"] if slot.lower() in words]
            if asked:
                said = ", ".join(f'"{slot}": "{self._script["slots"][slot]}"' for slot in asked)
                return f"{said}.", [{"type": "asked", "slot": slot} for slot in asked]
        if settled or self._patience == 0:
            return None, [{"type": "user_ended"}]
        self._patience -= 1
        return "Please go on.", []
