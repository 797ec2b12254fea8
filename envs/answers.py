"""Final answers: extracts the answer from a message and tells whether it is right."""

from __future__ import annotations

import asyncio
import atexit
import functools
import re
import unicodedata
from fractions import Fraction

from envs.sandbox.python_tool import Limits, PythonTool
from synth.problems import latex

INSTRUCTION = "End your last message with one line: Answer: <whole number, fraction such as 3/8, or word>"
NO_ANSWER, AMBIGUOUS = "no_answer_line", "ambiguous_answer"
LONGEST = 120  # most characters of an answer

_LINE = re.compile(r"[\s*]*(?:final )?answer[*\s]*[:=]", re.IGNORECASE)
_SEVERAL = re.compile(  # "7 or 8", "7, 8", "7|8", "7...8": several answers
    r"\bor(?![a-z])|;|\d\s*\|\s*-?\d|\.\.|\d\s*,\s+\S|\d\s+-?\d", re.IGNORECASE
)
_BRACKETED = re.compile(r"\$?\\?[(\[{].*[)\]}]\$?")  # one tuple, interval or set
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+|[eE][+-]?\d{1,2})?")
_MIXED = re.compile(r"(-?)(\d+)\s+(\d+)/(\d+)")  # "3 1/2"
_VULGAR = re.compile(r"(-?)(\d*)\s*([¼-¾⅐-⅞])")  # "½", "3½"
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+")
# A unit after a number. Powers only of lengths: "12x^2" is no 12. No unit is what multiplies a number: "5x", "5 pi".
_LENGTH = r"(?:[mcdk]?m|in|ft|yd|mi|units?|inch(?:es)?|feet|foot|miles?|yards?|(?:centi|milli|kilo)?met(?:er|re)s?)"
_UNIT = re.compile(
    r"(-?(?:\d+\s+\d+/\d+|\d*\s*[¼-¾⅐-⅞]|[\d.,/]+))\s*(?:"
    r"(?! *(?:[einxyz]|pi|squared|cubed|factorial) *$)[A-Za-z€£° ]+|\\(?:text|mathrm)\{[A-Za-z ]+\}"
    r"|(?:(?:\^\s*)?\{?\\circ\}?|\\degree)\s*(?:[CF]|\\(?:text|mathrm)\{\s*[CF]\s*\})?"
    rf"|(?:{_LENGTH}|\\(?:text|mathrm)\{{\s*{_LENGTH}\s*\}})\s*(?:\^\{{?[23]\}}?|[²³])"
    r")"
)
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|[^\s\d]")  # anything but digits
_ARITHMETIC = frozenset(". , + - * / ^ ( ) [ ] { } % ! \\% \\! \\, \\{ \\} \\( \\) \\$ − × π e pi sqrt frac "
                        r"\frac \dfrac \tfrac \sqrt \pi \cdot \times \left \right".split())  # fmt: skip
_SIZING = re.compile(r"\\(?:left|right)(?![a-z])|\\[,!;: ]|~")  # sizes of brackets, and small spaces
_GAP = re.compile(r"\d[\s()\[\]{}%!$\\]+\d")  # two numbers without an operator between them
_LACK = re.compile(r"[-+*/^,]\s*\\?[+*/^,!%]|!\s*\^|\.(?!\d)")  # two operators without a number between them
_DATE = re.compile(r".*:.*|\d+-\d+|\d+(?:[-/.]\d+){2,}")  # a time, ratio, score or date: not arithmetic
_NAME = re.compile(r"(?:^|[^\d\\A-Za-z])[A-Za-z]\d")  # a name with digits: p7, 2024-Q3
_EQUATED = re.compile(r"^[A-Za-z]\s*=(?!.*=)\s*")  # "x = " before a value

# Parsing LaTeX and comparing expressions can take forever on an adversarial answer, and math-verify's own timeouts work
# only in the main thread. So the comparison runs in the Python tool's sandbox, which has limits.
_PRELUDE = r"""
from math_verify import parse, verify
verify(parse("1/2"), parse("$\\frac{1}{2}$"))
"""
_COMPARISON = """
from math_verify import parse, verify
verify(parse({gold!r}, parsing_timeout=None), parse({given!r}, parsing_timeout=None), timeout_seconds=None)
"""


def extract(text: str) -> tuple[str | None, str | None]:
    """(the answer in a message's last answer line or box, the format rule that it breaks); each None if there is none.

    An answer that looks like several ones is returned, too, since the right answer may be written like that.
    """
    lines = [line[start.end() :].strip("* \t\r") for line in text.split("\n") if (start := _LINE.match(line))]
    answer = ((lines or [""])[-1] or latex.box(text) or "").rstrip(".")
    if not answer:
        return None, NO_ANSWER
    return (None, AMBIGUOUS) if len(answer) > LONGEST else (answer, AMBIGUOUS if _several(answer) else None)


def _several(answer: str) -> bool:
    return bool(_SEVERAL.search(answer)) and not _BRACKETED.fullmatch(answer)


def number(text: str) -> Fraction | None:
    """The value of a plain integer, decimal, power of ten (1e6) or fraction; None for any other text."""
    if not _PLAIN.fullmatch(text):
        return None
    numerator, _, divisor = text.partition("/")
    return Fraction(numerator) / int(divisor or 1) if int(divisor or 1) else None


@functools.cache
def _judge() -> PythonTool:
    """The processes that compare expressions."""
    # Comparing never waits, so CPU time is the real limit. Wall time is generous, because an answer must not become
    # wrong on a busy machine.
    judge = PythonTool(1, Limits(cpu_seconds=5, wall_seconds=300), _PRELUDE)
    atexit.register(judge.close)
    return judge


def same(gold: str, given: str) -> bool:
    """Whether an answer is right: the same text as the right answer (`gold`), or equal as a number or expression.

    Expressions are compared by math-verify, but only if

    - the right answer is an expression: names, dates and times are compared as text;
    - the given answer is one whole expression: from "12 or 13" or "12 (13" math-verify would take one number;
    - the given answer uses only arithmetic and symbols that the right one uses, too.

    Raises RuntimeError if the comparison cannot run on this machine.
    """
    if _word(gold) == _word(given):
        return True
    gold, given = _listed(_written_out(_EQUATED.sub("", gold.strip())), _bare(given))
    ours, theirs = ([], []) if _THOUSANDS.fullmatch(gold) else (_members(gold), _members(given))
    if ours and theirs:
        if ours == theirs:
            return True
        if all(member.denominator == 1 for member in ours + theirs):
            return False
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
    """Whether a text is one expression, list or set, judging by its brackets, numbers and operators."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    parts = text.replace("}{", "}/{") if "frac" in text else text
    return depth == 0 and not (_several(text) or _GAP.search(parts) or _LACK.search(text))


def _expression(gold: str) -> bool:
    """Whether a right answer is an expression, which can be written in other ways, and not a word."""
    if _DATE.fullmatch(gold):
        return False
    if "\\" in gold:
        return True
    letters = {token for token in _tokens(gold) - _ARITHMETIC if token.isalpha()}
    return all(len(token) == 1 for token in letters) and not gold.isalpha() and not _NAME.search(gold)


def _bare(text: str) -> str:
    """An answer without box, dollar signs, an "x =" before it and a unit after a number ("12 euros")."""
    text = _SIZING.sub(" ", _EQUATED.sub("", _unboxed(text))).strip()
    text = re.sub(r"√(\d+)", r"\\sqrt{\1}", text.replace("·", r"\cdot "))  # math-verify ignores these characters
    if unit := _UNIT.fullmatch(text):
        text = unit[1]
    text = _written_out(text)
    return text if "\\" in text else text.replace("%", r"\%")


def _written_out(text: str) -> str:
    """A mixed number ("3 1/2", "3½") as one fraction and a power of ten (1e6) as digits; any other text as it is.

    math-verify takes the e of 1e6 for Euler's number.
    """
    text = text.replace("⁄", "/")
    if vulgar := _VULGAR.fullmatch(text):
        sign, whole, part = vulgar.groups()
        text = f"{sign}{whole or 0} {unicodedata.normalize('NFKC', part).replace('⁄', '/')}"
    if mixed := _MIXED.fullmatch(text):
        sign, whole, numerator, divisor = mixed[1], *map(int, mixed.group(2, 3, 4))
        return f"{sign}{whole * divisor + numerator}/{divisor}" if numerator < divisor else text
    return str(number(text)) if "e" in text.lower() and _PLAIN.fullmatch(text) else text


def _members(text: str) -> list[Fraction]:
    """The numbers of a list with commas, in ascending order; [] for any other text."""
    parts = text.split(",")
    found = [value for part in parts if (value := number(part.strip())) is not None]
    return sorted(found) if len(found) == len(parts) > 1 else []


def _listed(gold: str, given: str) -> tuple[str, str]:
    """Both without spaces around commas, if the right answer is a list and the given one has as many members.

    So the verdict does not depend on spaces. Left alone: other answers, in which a comma and a space mean a bet, and
    lists that would read as one number ("100, 200").
    """
    tight = [re.sub(r"\s*,\s*", ",", text) for text in (gold, given)]
    if not gold.count(",") == given.count(",") > 0 or any(map(_THOUSANDS.fullmatch, tight)):
        return gold, given
    return tight[0], tight[1]


def _word(text: str) -> str:
    """A word or name, case-folded and without quotes, markup, box, brackets ("(B)") and full stop."""
    text = unicodedata.normalize("NFC", text)  # an accent of its own, or one with its letter
    text = re.sub(r"\^\{([23])\}", r"^\1", text.replace("²", "^2").replace("³", "^3"))
    inner = re.sub(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}", r"\1", _unboxed(text))
    return re.sub(r"^\((\w+)\)$", r"\1", inner.strip(" \t\"'`*$").rstrip(".")).casefold()


def _unboxed(text: str) -> str:
    """A text without the dollar signs and box around it."""
    return re.sub(r"^\\boxed\{(.*)\}$", r"\1", text.strip(" \t$"))


async def same_async(gold: str, given: str) -> bool:
    """Runs `same` in a thread."""
    return await asyncio.to_thread(same, gold, given)
