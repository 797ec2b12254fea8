"""Problems as Python programs, with one statement per sentence: how a careful person would use the python tool.

Only problems with a single operation that keeps a running total are supported: a stock, an account or a load.
"""

from __future__ import annotations

from typing import Any

from synth.problems.graph import Problem

Lines = dict[str, str]

_STOCK: Lines = {
    "gain": "s += {n}",
    "loss": "s -= {n}",
    "crates": "s += {n} * {m}",
    "times": "s *= {n}",
    "share": "s //= {n}",
}
_ACCOUNT: Lines = {
    "interest": "s += s * {n} / 100",
    "deposit": "s += {n}",
    "fee": "s -= {n}",
    "cut": "s -= s * {n} / 100",
}
_EXACT = "from fractions import Fraction as F; "

# (operation, want) -> (first statements, item kind -> statement, last statement). Items of other kinds add nothing.
_PROGRAMS: dict[tuple[str, str], tuple[str, Lines, str]] = {
    ("stock", "left"): ("s = {start}", _STOCK, "s"),
    ("stock", "peak"): ("s = {start}; p = s", {k: f"{line}; p = max(p, s)" for k, line in _STOCK.items()}, "p"),
    ("stock", "came"): ("s = 0", {k: _STOCK[k] for k in ("gain", "crates")}, "s"),
    ("account", "balance"): (_EXACT + "s = F({start})", _ACCOUNT, "print(s)"),
    ("account", "interest"): (
        _EXACT + "s = F({start}); i = 0",
        {**_ACCOUNT, "interest": "i += s * {n} / 100; s += s * {n} / 100"},
        "print(i)",
    ),
    ("load", "mass"): (_EXACT + "s = F({empty})", {"part": "s += {n} * {each}"}, "print(s)"),
    ("load", "goods"): (_EXACT + "s = F(0)", {"part": "s += {n} * {each}"}, "print(s)"),
    ("load", "boxes"): ("s = 0", {"part": "s += {n}"}, "s"),
}


def program(problem: Problem) -> str:
    """A program whose last statement gives the problem's answer. Raises ValueError if the problem is not supported."""
    node = problem.nodes[0]
    known = _PROGRAMS.get((node["op"], node["want"]))
    if known is None or len(problem.nodes) > 1:
        raise ValueError(f"no program for {[n['op'] for n in problem.nodes]}, expected one of stock, account, load")
    first, lines, last = known
    statements = [first.format(**node["args"])]
    for item in node["items"]:
        if item["kind"] in lines:
            statements.append(lines[item["kind"]].format(**{name: _shown(value) for name, value in item.items()}))
    return "; ".join([*statements, last])


def _shown(value: Any) -> Any:
    """A mass as a Python expression in kilograms; any other value unchanged."""
    if not isinstance(value, dict):
        return value
    return value["n"] if value["unit"] == "kilograms" else f"F({value['n']}, 1000)"
