"""Probability: rolls of fair dice that meet conditions."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from fractions import Fraction

from synth.problems.operation import Args, Item, Items, Operation, Steps, Value, attempts, grown, number


def _fits(roll: tuple[int, ...], item: dict) -> bool:
    kind, n = item["kind"], item["n"]
    if kind == "at_least":
        return sum(roll) >= n
    if kind == "multiple":
        return sum(roll) % n == 0
    if kind == "shows":
        return n in roll
    return max(roll) <= n  # none_above


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Lists all rolls."""
    rolls = list(itertools.product(range(1, args["faces"] + 1), repeat=args["dice"]))
    good = sum(all(_fits(roll, item) for item in items) for roll in rolls)
    return {"chance": Fraction(good, len(rolls)), "rolls": good, "miss": 1 - Fraction(good, len(rolls))}


def _count(args: Args, items: Items) -> int:
    """The number of rolls that meet the conditions, by dynamic programming over the dice.

    A state is (the sum so far, the faces so far that a "shows" condition asks for).
    """
    wanted = {item["n"] for item in items if item["kind"] == "shows"}
    top = min([args["faces"], *(item["n"] for item in items if item["kind"] == "none_above")])
    states = Counter({(0, frozenset()): 1})
    for _ in range(args["dice"]):
        after: Counter = Counter()
        for (total, seen), ways in states.items():
            for face in range(1, top + 1):
                after[total + face, seen | ({face} & wanted)] += ways
        states = after
    least = max([0, *(item["n"] for item in items if item["kind"] == "at_least")])
    divisors = [item["n"] for item in items if item["kind"] == "multiple"]
    return sum(
        ways
        for (total, seen), ways in states.items()
        if seen == wanted and total >= least and not any(total % d for d in divisors)
    )


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    rolls = args["faces"] ** args["dice"]
    if rolls > 8000:
        raise ValueError(f"{rolls} rolls")
    steps = [(item["kind"], _count(args, items[: i + 1])) for i, item in enumerate(items)]
    good = steps[-1][1] if steps else rolls
    if not good:
        raise ValueError("no roll meets the conditions")
    return {"chance": Fraction(good, rolls), "rolls": good, "miss": Fraction(rolls - good, rolls)}, steps


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    before = _count(args, items)

    def make() -> list:
        kind = rng.choice(("at_least", "multiple", "shows", "none_above"))
        highest = {"at_least": args["dice"] * args["faces"], "multiple": 5}.get(kind, args["faces"])
        longer = [*items, {"kind": kind, "n": rng.randint(2, max(highest, 2))}]
        if not 0 < _count(args, longer) < before:
            raise ValueError("a condition that changes nothing")
        return longer

    return attempts(make)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    faces = fixed.get("faces", rng.choice((4, 6, 8, 10, 12)))
    dice = rng.choice([n for n in (2, 3, 4) if faces**n <= 8000])
    return grown(rng, size, {"dice": dice, "faces": faces}, _extend)


OPERATIONS = (
    Operation(
        name="dice",
        family="probability",
        wordings=(
            "We roll {dice} fair dice, each with faces from 1 to {faces}.",
            "On each of {dice} different fair dice the faces go from 1 to {faces}.",
        ),
        slots={"dice": number(1, 4), "faces": number(4, 30, link=True)},
        items={
            "at_least": Item(
                ("A roll is good only if its sum is at least {n}.", "A good roll has a sum of {n} or more."),
                {"n": number(2, 99)},
            ),
            "multiple": Item(
                ("A roll is good only if its sum is a multiple of {n}.", "A good roll has a sum divisible by {n}."),
                {"n": number(2, 9)},
            ),
            "shows": Item(
                ("A roll is good only if some die shows {n}.", "A good roll has at least one die that shows {n}."),
                {"n": number(1, 30)},
            ),
            "none_above": Item(
                ("A roll is good only if no die shows more than {n}.", "A good roll has no die above {n}."),
                {"n": number(1, 30)},
            ),
        },
        wants={
            "chance": "the probability that a roll is good",
            "rolls": "the number of good rolls, the dice being told apart",
            "miss": "the probability that a roll is not good",
        },
        most=4,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
