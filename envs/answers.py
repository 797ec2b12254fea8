"""Final answers: finding the one an assistant gives, and whether it is the right one."""

from __future__ import annotations

import asyncio
import atexit
import functools
import re
from fractions import Fraction

from envs.sandbox.python_tool import Limits, PythonTool
from synth.problems import latex

INSTRUCTION = "End your last message with one line: Answer: <whole number, fraction such as 3/8, or word>"
NO_ANSWER, AMBIGUOUS = "no_answer_line", "ambiguous_answer"
LONGEST = 120  # characters of an answer

_LINE = re.compile(r"[\s*]*(?:final )?answer[*\s]*[:=]", re.IGNORECASE)
_SEVERAL = re.compile(  # "7 or 8", "7, 8", "7|8", "7...8": a bet, not an answer
    r"\bor(?![a-z])|;|\d\s*\|\s*-?\d|\.\.|\d\s*,\s+\S|\d\s+-?\d", re.IGNORECASE
)
_BRACKETED = re.compile(r"\$?\\?[(\[{].*[)\]}]\$?")  # one tuple, interval or set
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|[^\s\d]")  # but for digits
_ARITHMETIC = frozenset(". , + - * / ^ ( ) [ ] { } % ! \\% \\! \\, \\{ \\} \\( \\) \\$ − × π e pi sqrt frac "
                        r"\frac \dfrac \tfrac \sqrt \pi \cdot \times \left \right".split())  # fmt: skip
_SIZING = re.compile(r"\\(?:left|right)(?![a-z])|\\[,!]")  # of brackets, and small spaces
_GAP = re.compile(r"\d[\s()\[\]{}%!$\\]+\d")  # two numbers without an operator between them
_LACK = re.compile(r"[-+*/^,]\s*\\?[+*/^,!%]|!\s*\^|\.(?!\d)")  # two operators without a number between them
_DATE = re.compile(r".*:.*|\d+-\d+|\d+(?:[-/.]\d+){2,}")  # a time, ratio, score or date: nothing to work out
_NAME = re.compile(r"(?:^|[^\d\\A-Za-z])[A-Za-z]\d")  # p7, 2024-Q3
_EQUATED = re.compile(r"^[A-Za-z]\s*=(?!.*=)\s*")  # the x = before its value

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
    """(the answer in a message's last answer line or box, the format rule that it breaks); None where there is none.

    What looks like several answers is given too: it is no bet where the right answer reads the same.
    """
    lines = [line[start.end() :].strip("* \t\r") for line in text.split("\n") if (start := _LINE.match(line))]
    answer = ((lines or [""])[-1] or latex.box(text) or "").rstrip(".")
    if not answer:
        return None, NO_ANSWER
    return (None, AMBIGUOUS) if len(answer) > LONGEST else (answer, AMBIGUOUS if _several(answer) else None)


def _several(answer: str) -> bool:
    return bool(_SEVERAL.search(answer)) and not _BRACKETED.fullmatch(answer)


def number(text: str) -> Fraction | None:
    """The number that a text is, if it is a plain one."""
    if not _PLAIN.fullmatch(text):
        return None
    numerator, _, divisor = text.partition("/")
    return Fraction(numerator) / int(divisor or 1) if int(divisor or 1) else None


@functools.cache
def _judge() -> PythonTool:
    """The processes that compare expressions."""
    # Comparing computes and never waits, so CPU time alone bounds it, however busy the machine is: an answer must not
    # become wrong because other work was in the way.
    judge = PythonTool(1, Limits(cpu_seconds=5, wall_seconds=300), _PRELUDE)
    atexit.register(judge.close)
    return judge


def same(gold: str, given: str) -> bool:
    """Whether an answer is the right one: read the same, or equal as numbers or expressions, by math-verify.

    The latter only where both are written as arithmetic, or the answer with nothing that the right one is not written
    with: names, dates and times are words, and of "12 or 13" or "12 (13" math-verify would take one.

    Raises RuntimeError if the comparison cannot run on this machine.
    """
    if _word(gold) == _word(given):
        return True
    gold, given = _EQUATED.sub("", gold.strip()), _bare(given)
    if not _expression(gold) or not _whole(given) or not _tokens(given) <= _ARITHMETIC | _tokens(gold):
        return False
    left, right = number(gold), number(given)
    if left is not None and left == right:
        return True
    if left is not None and right is not None and left.denominator == right.denominator == 1:
        return False
    result = _judge().run(_COMPARISON.format(gold=f"${gold}$", given=f"${given}$"))
    return result.ok and "True" in result.text.splitlines()


def _tokens(text: str) -> set[str]:
    return set(_TOKEN.findall(text))


def _whole(text: str) -> bool:
    """Whether a text is one expression, list or set, as far as its brackets, numbers and operators tell."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    parts = text.replace("}{", "}/{") if "frac" in text else text
    return depth == 0 and not (_several(text) or _GAP.search(parts) or _LACK.search(text))


def _expression(gold: str) -> bool:
    """Whether a right answer is an expression that can be written otherwise, and not a word."""
    if _DATE.fullmatch(gold):
        return False
    if "\\" in gold:
        return True
    letters = {token for token in _tokens(gold) - _ARITHMETIC if token.isalpha()}
    return all(len(token) == 1 for token in letters) and not gold.isalpha() and not _NAME.search(gold)


def _bare(text: str) -> str:
    """An answer without its box, dollar signs, the "x =" before it and what is behind a number ("12 euros")."""
    text = _SIZING.sub(" ", _EQUATED.sub("", _unboxed(text))).strip()
    text = re.sub(r"√(\d+)", r"\\sqrt{\1}", text.replace("·", r"\cdot "))  # math-verify reads over these signs
    text = re.sub(r"^(-?[\d.,/]+)\s*(?:[A-Za-z€£° ]+|\\text\{[A-Za-z ]+\})$", r"\1", text)
    return text if "\\" in text else text.replace("%", r"\%")


def _word(text: str) -> str:
    """A word or name without case, quotes, markup, box, brackets ("(B)") and full stop."""
    inner = re.sub(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}", r"\1", _unboxed(text))
    return re.sub(r"^\((\w+)\)$", r"\1", inner.strip(" \t\"'`*$").rstrip(".")).casefold()


def _unboxed(text: str) -> str:
    """A text without the dollar signs and the box around all of it."""
    return re.sub(r"^\\boxed\{(.*)\}$", r"\1", text.strip(" \t$"))


async def same_async(gold: str, given: str) -> bool:
    """`same` in a thread."""
    return await asyncio.to_thread(same, gold, given)
