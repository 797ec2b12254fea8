"""Final answers: finding the one an assistant gives, and whether it is the right one."""

from __future__ import annotations

import asyncio
import atexit
import functools
import re
from fractions import Fraction

from envs.python_tool import Limits, PythonTool
from synth import latex

INSTRUCTION = "End your last message with one line: Answer: <whole number, fraction such as 3/8, or word>"
NO_ANSWER, AMBIGUOUS = "no_answer_line", "ambiguous_answer"
LONGEST = 120  # characters of an answer

_LINE = re.compile(r"[\s*]*(?:final )?answer[*\s]*[:=]", re.IGNORECASE)
_SEVERAL = re.compile(r"\bor\b|;|\d\s*,\s+\S|\d\s+-?\d", re.IGNORECASE)  # "7 or 8", "7, 8": a bet, not an answer
_BRACKETED = re.compile(r"\$?\\?[(\[{].*[)\]}]\$?")  # one tuple, interval or set
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")

# Parsing LaTeX and comparing expressions can run for ever on an answer that wants it to, and math-verify's own timeouts
# work in the main thread only. So it runs where the Python tool's programs do.
_PRELUDE = r"""
from math_verify import parse, verify
verify(parse("1/2"), parse("$\\frac{1}{2}$"))
"""
_COMPARISON = """
from math_verify import parse, verify
verify(parse({gold!r}, parsing_timeout=None), parse({given!r}, parsing_timeout=None), timeout_seconds=None)
"""


def extract(text: str) -> tuple[str | None, str | None]:
    """(the answer of a message's last answer line or box, None), or (None, the format rule that it breaks)."""
    lines = [line[start.end() :].strip("* \t\r") for line in text.split("\n") if (start := _LINE.match(line))]
    answer = ((lines or [""])[-1] or latex.box(text) or "").rstrip(".")
    if not answer:
        return None, NO_ANSWER
    if len(answer) > LONGEST or (_SEVERAL.search(answer) and not _BRACKETED.fullmatch(answer)):
        return None, AMBIGUOUS
    return answer, None


def number(text: str) -> Fraction | None:
    """The number that a text is, if it is a plain one."""
    if not _PLAIN.fullmatch(text):
        return None
    numerator, _, divisor = text.partition("/")
    return Fraction(numerator) / int(divisor or 1) if int(divisor or 1) else None


@functools.cache
def _judge() -> PythonTool:
    """The processes that compare expressions."""
    judge = PythonTool(1, Limits(cpu_seconds=5, wall_seconds=20), _PRELUDE)
    atexit.register(judge.close)
    return judge


def same(gold: str, given: str) -> bool:
    """Whether an answer is the right one: as numbers or expressions, by math-verify; as a word if the right one is.

    Raises RuntimeError if the comparison cannot run on this machine.
    """
    gold, given = gold.strip(), given.strip()
    if not re.search(r"\d|\\", gold):
        return _word(gold) == _word(given)
    left, right = number(gold), number(_bare(given))
    if left is not None and left == right:
        return True
    if left is not None and right is not None and left.denominator == right.denominator == 1:
        return False
    result = _judge().run(_COMPARISON.format(gold=f"${gold}$", given=f"${_bare(given)}$"))
    return result.ok and "True" in result.text.splitlines()


def _bare(text: str) -> str:
    """An answer without dollar signs, and without the words behind a number ("12 euros")."""
    text = re.sub(r"^(-?[\d.,/]+)\s*[A-Za-z ]+$", r"\1", text.strip("$"))
    return text if "\\" in text else text.replace("%", r"\%")


def _word(text: str) -> str:
    """A word or name without case, quotes, markup and full stop."""
    inner = re.sub(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}", r"\1", text)
    return inner.strip(" \t\"'`*.$").casefold()


async def same_async(gold: str, given: str) -> bool:
    """`same` in a thread."""
    return await asyncio.to_thread(same, gold, given)
