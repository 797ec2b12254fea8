"""Converts tool calls to the Python expressions that BFCL's package evaluates, such that nothing else is evaluated.

The package joins a model's names, keys and values into text and evaluates it with `eval`. Before that it puts an
instance's name before everything that looks like a call, even inside strings. So an expression here calls only a tool
of the task, with identifiers as keywords and JSON values as arguments, and no literal contains an opening parenthesis.
A call that cannot be made becomes a string literal with the error text, which then is the call's result.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Collection
from typing import Any

from envs.base import Message

MOST_ARGUMENTS = 100_000  # most characters of one call's arguments
MOST_CALLS = 256  # most calls of one message; the longest ground truth has 34
MOST_DIGITS = 4300  # most digits of an integer; Python refuses to print longer ones
MOST_PRECISION = 10_000  # most digits that MathAPI may be asked to compute

# (function, argument) of MathAPI that determine its computing time -> largest allowed magnitude.
_BOUNDS = {
    ("logarithm", "value"): math.inf,  # any finite number: mpmath would expand text such as "1e999999999"
    ("logarithm", "base"): math.inf,
    ("logarithm", "precision"): MOST_PRECISION,
    ("square_root", "precision"): MOST_PRECISION,
    ("round_number", "decimal_places"): MOST_PRECISION,
}  # fmt: skip


def read(message: Message) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, name, arguments) of those calls of an assistant message whose arguments are a JSON object.

    Other calls are left out; the package's Qwen handler leaves out unreadable calls, too.
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
    """The expression of a call: `name(key=literal,...)`, or a string literal with the error if it cannot be made."""
    if problem := _problem(name, arguments, tools):
        return _literal(f"Error during execution: {problem}")
    return f"{name}({','.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"


def _literal(value: Any) -> str:
    """A JSON value as an ASCII Python literal without an opening parenthesis, which the package would rewrite."""
    return ascii(value).replace("(", r"\x28")


def _problem(name: str, arguments: dict[str, Any], tools: Collection[str]) -> str:
    """Why the call cannot be made, or "". Errors that the package would raise, too, have its wording."""
    if name not in tools:
        return f"name {name[:100]!r} is not defined"
    for key in arguments:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or keyword.iskeyword(key):
            return "invalid syntax"
    try:
        text = json.dumps(arguments, allow_nan=False)  # raises for values that JSON lacks and for huge integers
        ascii(arguments)
    except (ValueError, RecursionError) as error:
        return str(error)
    if len(text) > MOST_ARGUMENTS:
        return f"arguments of {len(text)} characters are too long"
    for key, value in arguments.items():
        bound = _BOUNDS.get((name, key))
        if bound is not None and not _magnitude(value) <= bound:  # not >, so that nan is out of range, too
            return f"{key} is out of range"
    base, exponent = arguments.get("base"), arguments.get("exponent")
    if name == "power" and isinstance(base, int) and isinstance(exponent, int):
        if exponent * base.bit_length() > MOST_DIGITS / math.log10(2):
            return f"Exceeds the limit ({MOST_DIGITS} digits) for integer string conversion"
    return ""


def _magnitude(value: Any) -> float:
    """The absolute value of a number, or of text that is one; nan if it is not a finite number."""
    try:
        number = abs(float(value))
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
