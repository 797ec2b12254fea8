"""Reads the LaTeX command that answers are wrapped in."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)  # a box, another backslash with the character it escapes, a brace


def box(text: str) -> str | None:
    """The content of the \\boxed{} that is closed last in a text; None if there is none. Takes linear time."""
    found, opened = None, []
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "\\boxed{"):
            opened.append(token)
        elif token[0] == "}" and opened:
            opening = opened.pop()
            if opening[0] != "{":
                found = text[opening.end() : token.start()].strip()
    return found
