"""Arithmetic: a stock of things that grows and shrinks."""

from __future__ import annotations

import random
from fractions import Fraction

import sympy

from synth.problems.operation import Args, Item, Items, Operation, Steps, Value, attempts, grown, number

_KINDS = ("gain", "loss", "crates", "times", "share")


def _apply(total: int, item: dict) -> int:
    kind = item["kind"]
    if kind == "gain":
        return total + item["n"]
    if kind == "loss":
        return total - item["n"]
    if kind == "crates":
        return total + item["n"] * item["m"]
    if kind == "times":
        return total * item["n"]
    if total % item["n"]:
        raise ValueError(f"{total} cannot be shared by {item['n']}")
    return total // item["n"]


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    total = peak = args["start"]
    came, steps = 0, []
    for item in items:
        before, total = total, _apply(total, item)
        if not 0 < total < 10**7:
            raise ValueError(f"a stock of {total}")
        came += total - before if item["kind"] in ("gain", "crates") else 0
        peak = max(peak, total)
        steps.append((item["kind"], total))
    return {"left": total, "peak": peak, "came": came}, steps


def _affine(item: dict) -> sympy.Matrix:
    """The item as a 2 x 2 matrix that acts on the vector (stock, 1)."""
    n, kind = sympy.Integer(item["n"]), item["kind"]
    scale = {"times": n, "share": 1 / n}.get(kind, sympy.Integer(1))
    shift = {"gain": n, "loss": -n, "crates": n * item.get("m", 0)}.get(kind, 0)
    return sympy.Matrix([[scale, shift], [0, 1]])


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Multiplies the matrices of the items, which are affine maps."""
    product, stocks, came = sympy.eye(2), [args["start"]], 0
    for item in items:
        matrix = _affine(item)
        came += max(matrix[0, 1], 0)
        product = matrix * product
        stocks.append((product * sympy.Matrix([args["start"], 1]))[0])
    return {"left": Fraction(str(stocks[-1])), "peak": Fraction(str(max(stocks))), "came": int(came)}


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        kind = rng.choice(_KINDS)
        item = {"kind": kind, "n": rng.randint(2, 90 if kind in ("gain", "loss") else 9)}
        if kind == "crates":
            item["m"] = rng.randint(3, 24)
        longer = [*items, item]
        _solve(args, longer)
        return longer

    return attempts(make)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"start": rng.randint(12, 200), **fixed}, _extend)


OPERATIONS = (
    Operation(
        name="stock",
        family="arithmetic",
        wordings=(
            "The <place> starts the day with {start} <items>.",
            "At first there are {start} <items> here.",
            "We begin with {start} <items> at the <place>.",
        ),
        slots={"start": number(2, 5000, link=True)},
        items={
            "gain": Item(("Then {n} more <items> arrive.", "Next, {n} <items> are added."), {"n": number(2, 90)}),
            "loss": Item(("Then {n} <items> are sold.", "Next, {n} <items> are given away."), {"n": number(2, 90)}),
            "crates": Item(
                ("Then {n} <boxes> with {m} <items> each arrive.", "Next come {n} <boxes>, each holding {m} <items>."),
                {"n": number(2, 9), "m": number(3, 24)},
            ),
            "times": Item(
                (
                    "Then the number of <items> grows to {n} times what it was.",
                    "Next, the stock becomes {n} times as large.",
                ),
                {"n": number(2, 9)},
            ),
            "share": Item(
                (
                    "Then the <items> are divided equally among {n} <people>, and only one share stays.",
                    "Next, {n} <people> share the <items> equally, and one share is kept.",
                ),
                {"n": number(2, 9)},
            ),
        },
        wants={
            "left": "the number of <items> at the end",
            "peak": "the largest number of <items> there at any time",
            "came": "the total number of <items> that arrived after the start",
        },
        most=9,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
