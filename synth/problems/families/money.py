"""Finance and units: an account with interest and fees; loads given in grams and kilograms."""

from __future__ import annotations

import random
from fractions import Fraction

import sympy

from synth.problems.operation import (
    Args,
    Item,
    Items,
    Operation,
    Steps,
    Value,
    attempts,
    base_units,
    grown,
    number,
    quantity,
)


def _solve_account(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    balance, interest, steps = Fraction(args["start"]), Fraction(0), []
    for item in items:
        if item["kind"] == "interest":
            gained = balance * Fraction(item["n"], 100)
            interest, balance = interest + gained, balance + gained
        elif item["kind"] == "cut":
            balance -= balance * Fraction(item["n"], 100)
        else:
            balance += item["n"] if item["kind"] == "deposit" else -item["n"]
        if balance <= 0 or balance.denominator > 10**6:
            raise ValueError(f"a balance of {balance}")
        steps.append((item["kind"], balance))
    return {"balance": balance, "interest": interest}, steps


def _check_account(args: Args, items: Items) -> dict[str, Value]:
    """Multiplies each payment by all factors that follow it, and adds up the results."""
    factors = []
    for item in items:
        sign = {"interest": 1, "cut": -1}.get(item["kind"], 0)
        factors.append(1 + sign * sympy.Rational(item["n"], 100))
    payments = [sympy.Integer(args["start"])]
    payments += [{"deposit": 1, "fee": -1}.get(item["kind"], 0) * sympy.Integer(item["n"]) for item in items]

    def balance(count: int) -> sympy.Rational:
        """The balance after the first `count` items."""
        return sum(payments[i] * sympy.prod(factors[i:count]) for i in range(count + 1))

    gained = sum(balance(i) * (factors[i] - 1) for i in range(len(items)) if items[i]["kind"] == "interest")
    return {"balance": Fraction(str(balance(len(items)))), "interest": Fraction(str(gained))}


def _extend_account(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        kind = rng.choice(("interest", "interest", "deposit", "fee", "cut"))
        n = rng.choice((2, 4, 5, 10, 20, 25)) if kind in ("interest", "cut") else 10 * rng.randint(1, 40)
        longer = [*items, {"kind": kind, "n": n}]
        _solve_account(args, longer)
        return longer

    return attempts(make)


def _draw_account(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"start": 100 * rng.randint(2, 40), **fixed}, _extend_account)


def _solve_load(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    total, steps = Fraction(args["empty"]), []
    for item in items:
        total += item["n"] * base_units(item["each"])
        steps.append(("part", total))
    return {"mass": total, "goods": total - args["empty"], "boxes": sum(item["n"] for item in items)}, steps


def _check_load(args: Args, items: Items) -> dict[str, Value]:
    """Computes in grams instead of kilograms."""
    grams = sum(i["n"] * i["each"]["n"] * (1000 if i["each"]["unit"] == "kilograms" else 1) for i in items)
    boxes = [box for item in items for box in range(item["n"])]
    return {"mass": Fraction(grams + 1000 * args["empty"], 1000), "goods": Fraction(grams, 1000), "boxes": len(boxes)}


def _extend_load(rng: random.Random, args: Args, items: Items) -> list:
    del args
    each = {"n": 50 * rng.randint(3, 60), "unit": "grams"}
    each = each if rng.random() < 0.6 else {"n": rng.randint(1, 20), "unit": "kilograms"}
    return [*items, {"kind": "part", "n": rng.randint(2, 40), "each": each}]


def _draw_load(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"empty": rng.randint(1, 900), **fixed}, _extend_load)


OPERATIONS = (
    Operation(
        name="account",
        family="finance",
        wordings=("An account opens with {start} <coins>.", "We put {start} <coins> into a new account."),
        slots={"start": number(1, 10**5, link=True)},
        items={
            "interest": Item(
                ("Then {n} percent interest on the balance is credited.", "It earns {n} percent of what is in it."),
                {"n": number(1, 30)},
            ),
            "deposit": Item(("Then {n} <coins> are paid in.", "We add {n} <coins>."), {"n": number(1, 999)}),
            "fee": Item(("Then {n} <coins> are paid out.", "We take out {n} <coins>."), {"n": number(1, 999)}),
            "cut": Item(
                ("Then {n} percent of the balance is lost.", "It loses {n} percent of what is in it."),
                {"n": number(1, 30)},
            ),
        },
        wants={
            "balance": "the exact final balance in <coins>",
            "interest": "the exact sum of all interest in <coins>",
        },
        most=6,
        draw=_draw_account,
        solve=_solve_account,
        check=_check_account,
        extend=_extend_account,
    ),
    Operation(
        name="load",
        family="units",
        wordings=("An empty cart weighs {empty} kilograms.", "We load a cart that weighs {empty} kilograms."),
        slots={"empty": number(1, 10**5, link=True)},
        items={
            "part": Item(
                ("Onto it go {n} <boxes> of {each} each.", "It takes {n} <boxes>, each of {each}."),
                {"n": number(2, 40), "each": quantity("mass")},
            )
        },
        wants={
            "mass": "the mass of cart and load in kilograms",
            "goods": "the mass of the load without the cart in kilograms",
            "boxes": "the number of <boxes> on the cart",
        },
        most=6,
        draw=_draw_load,
        solve=_solve_load,
        check=_check_load,
        extend=_extend_load,
    ),
)
