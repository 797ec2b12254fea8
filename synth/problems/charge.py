"""Finds where a failed attempt at a problem went wrong, as far as its transcript shows it.

Kinds of failure:
- "step": the value after some item does not appear, although an earlier value does;
- "link": the same for the first value of a node that builds on an earlier node;
- "answer": the last value appears, but the answer is wrong;
- "unknown": the answer is a value of the last node that was not asked for;
- "unit": the answer is off by the factor between two units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from synth.problems import graph
from synth.problems.graph import Problem
from synth.problems.operation import UNITS, Value

# The most characters of a number that is read. No problem has longer numbers, and int() refuses very long ones.
_LONGEST = 120


def mentioned(text: str) -> list[Value]:
    """The numbers, fractions and words of a text, in order.

    A fraction is followed by its numerator as a value of its own. Numbers longer than _LONGEST are left out.
    """
    found: list[Value] = []
    for match in re.finditer(r"(?P<number>-?\d+(?:\.\d+)?)(?: ?/ ?(?P<divisor>\d+))?|[A-Za-z]+", text):
        if not match["number"]:
            found.append(match[0])
            continue
        if len(match[0]) > _LONGEST:
            continue
        found.append(Fraction(match["number"]))
        if match["divisor"] and int(match["divisor"]):
            found[-1:] = [Fraction(match["number"]) / int(match["divisor"]), found[-1]]
    return found


def charge(problem: Problem, said: Sequence[str], answer: Value | None) -> tuple[str, str] | None:
    """(operation, kind of failure) of a failed attempt; None if the transcript does not show where it went wrong.

    Args:
      problem: the problem.
      said: the texts of the assistant and its tools, without the question.
      answer: the answer that the assistant gave, None if it gave none.
    Raises:
      ValueError: the problem has no solution.
    """
    solution = graph.solve(problem)
    last = problem.nodes[-1]["op"]
    if answer is not None:
        if answer in solution.others.values():
            return last, "unknown"
        if not isinstance(answer, str) and not isinstance(solution.values[-1], str) and solution.values[-1]:
            ratio = Fraction(answer) / Fraction(solution.values[-1])
            factors = {factor for table in UNITS.values() for factor in table.values() if factor != 1}
            if ratio in factors or ratio and 1 / ratio in factors:
                return last, "unit"
    expected = []  # (operation, kind, value) in the order in which a person would compute the values
    for index, (node, steps) in enumerate(zip(problem.nodes, solution.steps, strict=True)):
        values = [value for _, value in steps]
        if not values or values[-1] != solution.values[index]:
            values.append(solution.values[index])
        for place, value in enumerate(values):
            expected.append((node["op"], "link" if index and not place else "step", value))
    said_values, behind, reached = mentioned("\n".join(said)), 0, -1
    for place, (_, _, value) in enumerate(expected):
        if value in said_values[behind:]:  # values may be left out, but those that are written come in order
            behind, reached = said_values.index(value, behind) + 1, place
    if reached < 0:
        return None
    if reached == len(expected) - 1:
        return last, "answer"
    operation, kind, _ = expected[reached + 1]
    return operation, kind
