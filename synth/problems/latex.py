"""The little LaTeX that answers are wrapped in."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)  # a box, any other backslash with what it escapes, a brace


def box(text: str) -> str | None:
    """What stands in the \\boxed{} of a text that is closed last, None without one; takes time linear in the text."""
    found, opened = None, []
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "\\boxed{"):
            opened.append(token)
        elif token[0] == "}" and opened:
            opening = opened.pop()
            if opening[0] != "{":
                found = text[opening.end() : token.start()].strip()
    return found
