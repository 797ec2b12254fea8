"""Sequences: two starting terms, a linear recurrence, and places at which a number is added to the term."""

from __future__ import annotations

import random

import sympy

from synth.problems.operation import Args, Item, Items, Operation, Steps, Value, attempts, number

_LARGEST = 10**9


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    jumps = {item["place"]: item["n"] for item in items}
    if len(jumps) < len(items) or any(not 3 <= place <= args["last"] for place in jumps):
        raise ValueError("a place that is disturbed twice, or not in the sequence")
    terms = [args["first"], args["second"]]
    for place in range(3, args["last"] + 1):
        terms.append(args["p"] * terms[-1] + args["q"] * terms[-2] + jumps.get(place, 0))
    if abs(terms[-1]) > _LARGEST:
        raise ValueError("terms that are too large")
    return _wants(terms), [("term", term) for term in terms[2:]]


def _wants(terms: list[int]) -> dict[str, Value]:
    return {"last": terms[-1], "sum": sum(terms), "even": sum(term % 2 == 0 for term in terms)}


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Superposition: each term is the sum of what the start and the jumps contribute to it.

    Powers of the companion matrix give these contributions.
    """
    companion = sympy.Matrix([[args["p"], args["q"]], [1, 0]])
    powers = [sympy.eye(2)]
    for _ in range(args["last"]):
        powers.append(companion * powers[-1])
    start = sympy.Matrix([args["second"], args["first"]])
    terms = [args["first"]]
    for place in range(2, args["last"] + 1):
        jumps = sum(item["n"] * powers[place - item["place"]][0, 0] for item in items if item["place"] <= place)
        terms.append(int((powers[place - 2] * start)[0] + jumps))
    return _wants(terms)


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        item = {"kind": "jump", "place": rng.randint(3, args["last"]), "n": rng.randint(1, 20)}
        longer = [*items, item]
        _solve(args, longer)
        return longer

    return attempts(make)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    def make() -> tuple[Args, list]:
        args = {name: rng.randint(1, 9) for name in ("first", "second")}
        args |= {"p": rng.randint(1, 3), "q": rng.randint(-2, 3), "last": rng.randint(5, 12), **fixed}
        items: list = []
        for _ in range(size - 1):
            items = _extend(rng, args, items)
        _solve(args, items)
        return args, items

    return attempts(make)


OPERATIONS = (
    Operation(
        name="recurrence",
        family="sequences",
        wordings=(
            "A sequence of {last} terms starts with {first} and {second}, and from place 3 on each term is {p} times "
            "the one before plus {q} times the one before that.",
            "The first two of {last} terms are {first} and {second}, and each later term is the sum of {p} times its "
            "predecessor and {q} times the term before its predecessor.",
        ),
        slots={
            "last": number(5, 12),
            "first": number(-(10**4), 10**4, link=True),
            "second": number(1, 9),
            "p": number(1, 3),
            "q": number(-2, 3),
        },
        items={
            "jump": Item(
                (
                    "But the term in place {place} is {n} more than that, and the later ones build on it.",
                    "Only in place {place} a further {n} is added, which the later terms build on.",
                ),
                {"place": number(3, 12), "n": number(1, 20)},
            )
        },
        wants={
            "last": "the last term of the sequence",
            "sum": "the sum of all terms of the sequence",
            "even": "the number of even terms in the sequence",
        },
        most=4,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
