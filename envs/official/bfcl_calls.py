"""Tool calls as the Python expressions that BFCL's package evaluates, written so that nothing else can happen.

The package joins names, keys and values that a model said into text and `eval`s it, after putting an instance's name
before everything that looks like a call, inside strings too. So only a tool of the task may be called, with identifiers
as keywords and JSON values as arguments, and no literal holds an opening parenthesis. A call that cannot be made
becomes a string literal that says so: evaluated in its place, it gives the text a model would have read anyway.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Collection
from typing import Any

from envs.base import Message

MOST_ARGUMENTS = 100_000  # characters of one call's arguments
MOST_CALLS = 256  # calls of one message; the longest ground truth has 34
MOST_DIGITS = 4300  # of an integer; Python refuses to print a longer one
MOST_PRECISION = 10_000  # digits that MathAPI is asked to compute

# Arguments of MathAPI that decide how long it computes -> the largest magnitude they may have.
_BOUNDS = {
    ("logarithm", "value"): math.inf,  # finite: mpmath reads text such as "1e999999999", and writes it out
    ("logarithm", "base"): math.inf,
    ("logarithm", "precision"): MOST_PRECISION,
    ("square_root", "precision"): MOST_PRECISION,
    ("round_number", "decimal_places"): MOST_PRECISION,
}  # fmt: skip


def read(message: Message) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, name, arguments) of the calls of an assistant message whose arguments are a JSON object.

    Others are left out, as the package's Qwen handler leaves out what it cannot parse.
    """
    found = []
    for call in message.get("tool_calls") or ():
        name, text = call["function"]["name"], call["function"]["arguments"]
        try:
            arguments = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if name and isinstance(arguments, dict):
            found.append((call["id"], name, arguments))
    return found


def expression(name: str, arguments: dict[str, Any], tools: Collection[str]) -> str:
    """The expression of a call: `name(key=literal,...)`, or a string literal that says why it cannot be made."""
    if problem := _problem(name, arguments, tools):
        return _literal(f"Error during execution: {problem}")
    return f"{name}({','.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"


def _literal(value: Any) -> str:
    """A JSON value as an ASCII Python literal without an opening parenthesis, which the package would rewrite."""
    return ascii(value).replace("(", r"\x28")


def _problem(name: str, arguments: dict[str, Any], tools: Collection[str]) -> str:
    """Why the call cannot be made, or "". Where the package would have failed too, in its words."""
    if name not in tools:
        return f"name {name[:100]!r} is not defined"
    for key in arguments:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or keyword.iskeyword(key):
            return "invalid syntax"
    try:
        text = json.dumps(arguments, allow_nan=False)  # raises for what JSON does not have, and for endless integers
        ascii(arguments)
    except (ValueError, RecursionError) as error:
        return str(error)
    if len(text) > MOST_ARGUMENTS:
        return f"arguments of {len(text)} characters are too long"
    for key, value in arguments.items():
        bound = _BOUNDS.get((name, key))
        if bound is not None and not _magnitude(value) <= bound:  # not <=, because nan is out of range, too
            return f"{key} is out of range"
    base, exponent = arguments.get("base"), arguments.get("exponent")
    if name == "power" and isinstance(base, int) and isinstance(exponent, int):
        if exponent * base.bit_length() > MOST_DIGITS / math.log10(2):
            return f"Exceeds the limit ({MOST_DIGITS} digits) for integer string conversion"
    return ""


def _magnitude(value: Any) -> float:
    """The absolute value of a number or a number's text; nan for anything else, and for what is not finite."""
    try:
        number = abs(float(value))
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
