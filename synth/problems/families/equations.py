"""Systems of linear equations: bills for baskets of wares whose prices are unknown."""

from __future__ import annotations

import random
from fractions import Fraction

import sympy

from synth.problems.operation import BASKET, Args, Item, Items, Operation, Steps, Value, attempts, number

WARES = ("plum", "fig", "nut", "pear", "date", "kiwi", "lime")


def _wares(items: Items) -> list[str]:
    return sorted({ware for item in items for _, ware in item["basket"]})


def _rows(args: Args, items: Items) -> list[list[Fraction]]:
    """The augmented matrix, shape [bills, wares + 1]: counts of each ware, then the total without the fee."""
    wares = _wares(items)
    counts = [{ware: count for count, ware in item["basket"]} for item in items]
    return [
        [*(Fraction(count.get(ware, 0)) for ware in wares), Fraction(item["total"] - args["fee"])]
        for count, item in zip(counts, items, strict=True)
    ]


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """Gauss-Jordan elimination over the rationals."""
    rows, wares = _rows(args, items), _wares(items)
    if len(rows) != len(wares):
        raise ValueError(f"{len(rows)} bills for {len(wares)} wares")
    for column in range(len(wares)):
        pivot = next((r for r in range(column, len(rows)) if rows[r][column]), None)
        if pivot is None:
            raise ValueError("the bills do not settle the prices")
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for r in range(len(rows)):
            if r != column:
                rows[r] = [a - rows[r][column] * b for a, b in zip(rows[r], rows[column], strict=True)]
    prices = {ware: row[-1] for ware, row in zip(wares, rows, strict=True)}
    if min(prices.values()) <= 0:
        raise ValueError("a price that is not positive")
    return _wants(prices), []


def _wants(prices: dict[str, Value]) -> dict[str, Value]:
    return {**{f"price:{ware}": price for ware, price in prices.items()}, "all": sum(prices.values())}


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Solves the bills, written as sympy expressions, with sympy.linsolve."""
    price = {ware: sympy.Symbol(ware) for item in items for _, ware in item["basket"]}
    bills = [sum(count * price[ware] for count, ware in item["basket"]) + args["fee"] - item["total"] for item in items]
    (found,) = sympy.linsolve(bills, *price.values())  # the set has one element, in which free symbols may be left
    if any(value.free_symbols for value in found):
        raise ValueError("the bills do not settle the prices")
    return _wants({ware: Fraction(str(value)) for ware, value in zip(price, found, strict=True)})


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    """Draws prices first, then bills that determine them."""
    args = {"fee": rng.randint(0, 5), **fixed}
    wares = rng.sample(WARES, min(max(size, 2), len(WARES)))
    prices = {ware: rng.randint(1, 12) for ware in wares}

    def make() -> list:
        items = []
        for _ in wares:
            chosen = sorted(rng.sample(wares, rng.randint(min(2, len(wares)), min(3, len(wares)))))
            basket = [[rng.randint(1, 6), ware] for ware in chosen]
            total = sum(count * prices[ware] for count, ware in basket) + args["fee"]
            items.append({"kind": "bill", "basket": basket, "total": total})
        if _wares(items) != sorted(wares):
            raise ValueError("a ware on no bill")
        _solve(args, items)
        return items

    return args, attempts(make)


OPERATIONS = (
    Operation(
        name="bills",
        family="equations",
        wordings=(
            "Every bill at the market includes a fee of {fee} <coins>, and each ware has one price.",
            "A stall sells each ware at one price and adds {fee} <coins> to every bill.",
        ),
        slots={"fee": number(0, 5000, link=True)},
        items={
            "bill": Item(
                ("The bill for {basket} was {total} <coins>.", "For {basket} the bill came to {total} <coins>."),
                {"basket": BASKET, "total": number(1, 9999)},
            )
        },
        wants={
            "price": "the price of one {of} in <coins>",
            "all": "the price in <coins> of one of each ware together, without the fee",
        },
        most=5,
        draw=_draw,
        solve=_solve,
        check=_check,
    ),
)
