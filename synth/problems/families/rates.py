"""Rates: journeys with several legs, and people who work at the same time."""

from __future__ import annotations

import random
from fractions import Fraction

import sympy

from synth.problems.operation import (
    NAME,
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
from synth.problems.trades import NAMES


def _solve_journey(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    hours, way, steps = Fraction(0), Fraction(args["done"]), []
    for item in items:
        spent = base_units(item["t"])
        hours += spent
        way += spent * item["v"] if item["kind"] == "leg" else 0
        steps.append((item["kind"], way))
    if way == args["done"]:
        raise ValueError("a journey without a leg")
    return {"distance": way, "hours": hours, "mean": (way - args["done"]) / hours}, steps


def _check_journey(args: Args, items: Items) -> dict[str, Value]:
    """Computes in metres and minutes instead of kilometres and hours."""
    minutes = [item["t"]["n"] * {"hours": 60, "minutes": 1}[item["t"]["unit"]] for item in items]
    metres = sum(Fraction(1000 * item.get("v", 0) * spent, 60) for item, spent in zip(items, minutes, strict=True))
    total = Fraction(sum(minutes), 60)
    return {"distance": metres / 1000 + args["done"], "hours": total, "mean": metres / 1000 / total}


def _extend_journey(rng: random.Random, args: Args, items: Items) -> list:
    time = {"n": rng.choice((15, 20, 30, 40, 45, 90)), "unit": "minutes"}
    time = time if rng.random() < 0.5 else {"n": rng.randint(1, 6), "unit": "hours"}
    if items and rng.random() < 0.3:
        return [*items, {"kind": "rest", "t": time}]
    return [*items, {"kind": "leg", "t": time, "v": 12 * rng.randint(1, 10)}]


def _draw_journey(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"done": rng.randint(0, 50), **fixed}, _extend_journey)


def _solve_work(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    rate, steps = Fraction(0), []
    for item in items:
        rate += Fraction(1 if item["kind"] == "worker" else -1, item["n"])
        steps.append((item["kind"], rate))
    if rate <= 0:
        raise ValueError("work that is never done")
    return {"hours": args["jobs"] / rate, "rate": rate}, steps


def _check_work(args: Args, items: Items) -> dict[str, Value]:
    """Solves the equation "work done in so many hours = jobs"."""
    hours = sympy.Symbol("hours", positive=True)
    signs = {"worker": 1, "undoes": -1}
    done = sum(signs[item["kind"]] * hours / item["n"] for item in items)
    (found,) = sympy.solve(sympy.Eq(done, args["jobs"]), hours)
    return {"hours": Fraction(str(found)), "rate": args["jobs"] / Fraction(str(found))}


def _extend_work(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        name = rng.choice([n for n in NAMES if all(n != item["name"] for item in items)])
        kind = "undoes" if items and rng.random() < 0.25 else "worker"
        longer = [*items, {"kind": kind, "name": name, "n": rng.randint(2, 24)}]
        _solve_work(args, longer)
        return longer

    return attempts(make)


def _draw_work(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, max(size, 2), {"jobs": rng.randint(1, 4), **fixed}, _extend_work)


OPERATIONS = (
    Operation(
        name="journey",
        family="rates",
        wordings=(
            "I set out with {done} kilometres already behind me.",
            "The meter shows {done} kilometres as I leave.",
        ),
        slots={"done": number(0, 5000, link=True)},
        items={
            "leg": Item(
                ("I travel for {t} at {v} kilometres per hour.", "For {t} I go at {v} kilometres per hour."),
                {"t": quantity("time"), "v": number(1, 120)},
            ),
            "rest": Item(("I stop for {t}.", "A break takes {t}."), {"t": quantity("time")}),
        },
        wants={
            "distance": "the number of kilometres behind me at the end",
            "hours": "the number of hours between leaving and the end",
            "mean": "my average speed between leaving and the end, stops included, in kilometres per hour",
        },
        most=7,
        draw=_draw_journey,
        solve=_solve_journey,
        check=_check_journey,
        extend=_extend_journey,
    ),
    Operation(
        name="work",
        family="rates",
        wordings=(
            "The same order of <items> has to be done {jobs} times, by all of us at once.",
            "Together we have to finish {jobs} equal orders of <items>.",
        ),
        slots={"jobs": number(1, 60, link=True)},
        items={
            "worker": Item(
                ("Alone, {name} finishes one order in {n} hours.", "One order takes {name} {n} hours alone."),
                {"name": NAME, "n": number(2, 24)},
            ),
            "undoes": Item(
                (
                    "Meanwhile {name} takes apart one finished order every {n} hours, at a steady pace.",
                    "In every {n} hours {name} steadily undoes one finished order.",
                ),
                {"name": NAME, "n": number(2, 24)},
            ),
        },
        wants={
            "hours": "the number of hours until everything is done",
            "rate": "the number of orders that get done in one hour",
        },
        most=6,
        draw=_draw_work,
        solve=_solve_work,
        check=_check_work,
        extend=_extend_work,
    ),
)
