"""Amounts of composed businesses: formulas that they may follow from, and what they are called."""

from __future__ import annotations

import random

from synth.business.composing.draft import Draft
from synth.business.composing.elements import Data, Fact
from synth.business.composing.record import Plan

_TAILED = frozenset(
    "fee charge surcharge premium difference price total amount refund payout deposit share rate payment compensation "
    "reduction allowance adjustment prepayment credit sum penalty fine cost costs levy postage".split()
)
_TAILS = {"fee": ("fee", "charge"), "refund": ("amount", "sum"), "price": ("price",)}
_ROUND = (25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 2500, 5000)
_SEVERAL = {2: "twice", 3: "three times", 4: "four times"}


class _Choices:
    """Formulas over the main record, as they are collected."""

    def __init__(self, d: Draft, p: Plan):
        self.d, self.rng, self.found = d, d.rng, list[Data]()
        self.facts, self.lines = p.present, p.lines
        self.total = f"the sum of the prices of all {d.words['lines']}"
        self.on = f"on the {d.words['record']} record"

    def add(self, op: str, path: str, words: str, number: int = 0) -> None:
        self.found.append({"op": op, "path": f"{self.d.record}.{path}", "number": number, "words": words})

    def percent(self, path: str, of: str, choices: tuple[int, ...]) -> None:
        for number in self.rng.sample(choices, 2):
            self.add("percent", path, f"{number} percent of {of}, rounded down to the cent", number)

    def each(self, op: str, path: str, unit: str, most: int) -> None:
        """So much for each of something."""
        low, high = self.d.price // 400, min(most, max(100, self.d.price // 20))
        number = self.rng.choice([size for size in _ROUND if low <= size <= high] or [most])
        self.add(op, path, f"${number // 100}.{number % 100:02d} for each {unit}", number)

    def refunds(self, price: Fact) -> None:
        self.add("sum", self.lines["path"], self.total)
        self.percent(self.lines["path"], self.total, (50, 60, 75, 80, 90))
        self.add("path", price.path, f"the {price.label} {self.on}")
        self.percent(price.path, f"the {price.label}", (30, 40, 50, 60, 75, 80, 90))

    def prices(self, price: Fact) -> None:
        self.add("path", price.path, f"the {price.label} {self.on}")
        self.percent(price.path, f"the {price.label}", (70, 75, 80, 85, 90, 95))
        self.percent(self.lines["path"], self.total, (85, 90, 95))

    def fees(self, price: Fact) -> None:
        words = self.d.words
        if fee := self.facts.get("fee"):
            self.add("path", fee.path, f"the {fee.label} {self.on}")
            number = self.rng.choice((2, 3, 4))
            self.add("times", fee.path, f"{_SEVERAL[number]} the {fee.label} {self.on}", number)
        self.percent(price.path, f"the {price.label}", (2, 3, 4, 5, 8, 10, 12, 15, 20, 25))
        if units := self.facts.get("units"):
            self.each("times", units.path, f"{words['unit']} on the record", 5000)
        for counted in self.facts.values():
            if counted.spec.get("role") == "count":
                self.each("times", counted.path, f"{counted.spec['unit']} on the record", 500)
        self.each("times", self.lines["list"], f"{words['line']} listed", 5000)
        self.percent(self.lines["path"], self.total, (5, 8, 10, 15))
        date = self.facts["date"]
        self.each("days", date.path, f"day from today until the {date.label}", 1000)


def formulas(d: Draft, p: Plan, use: str, linked: Fact | None) -> list[Data]:
    """Formulas that an amount may follow from, in random order.

    Args:
      d: the business.
      p: its main record.
      use: what the amount is: "fee", "refund" or "price".
      linked: a fee on the linked record, or None.
    """
    choices = _Choices(d, p)
    price = choices.facts["price"]
    {"fee": choices.fees, "refund": choices.refunds, "price": choices.prices}[use](price)
    if linked and use == "fee":
        words = f"the {linked.label} on the {d.words['link']} record"
        choices.found.append({"op": "path", "path": f"{d.link}.{linked.path}", "number": 0, "words": words})
    d.rng.shuffle(choices.found)
    return choices.found


def called(name: str, use: str, rng: random.Random) -> str:
    """The name of an amount, such that it reads as one: "copy_cents" -> "copy_fee_cents"."""
    stem = name.removesuffix("_cents")
    return name if stem.split("_")[-1] in _TAILED else f"{stem}_{rng.choice(_TAILS[use])}_cents"
