"""Combinatorics: teams that are chosen one after the other, and people in a row under conditions."""

from __future__ import annotations

import functools
import itertools
import math
import random

import sympy

from synth.problems.operation import NAME, NAMES, Args, Item, Items, Operation, Steps, Value, attempts, grown, number
from synth.problems.trades import NAMES as PEOPLE


def _solve_teams(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    left, ways, steps = args["n"], 1, []
    for item in items:
        ways *= math.comb(left, item["k"]) if item["kind"] == "team" else math.perm(left, item["k"])
        left -= item["k"]
        if left < 0 or ways > 10**12:
            raise ValueError(f"{item['k']} chosen of too few, or too many ways")
        steps.append((item["kind"], ways))
    return {"ways": ways, "left": left}, steps


def _check_teams(args: Args, items: Items) -> dict[str, Value]:
    """A single quotient of factorials: n! / (left! times k! for each unordered team)."""
    left = args["n"] - sum(item["k"] for item in items)
    unordered = sympy.prod([sympy.factorial(item["k"]) for item in items if item["kind"] == "team"])
    return {"ways": int(sympy.factorial(args["n"]) / sympy.factorial(left) / unordered), "left": left}


def _extend_teams(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        longer = [*items, {"kind": rng.choice(("team", "roles")), "k": rng.randint(1, 4)}]
        _solve_teams(args, longer)
        return longer

    return attempts(make)


def _draw_teams(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"n": rng.randint(6, 18), **fixed}, _extend_teams)


def _fits(row: tuple[str, ...], item: dict) -> bool:
    a, b = row.index(item["a"]), row.index(item["b"]) if "b" in item else -1
    kind = item["kind"]
    if kind == "before":
        return a < b
    if kind == "apart":
        return abs(a - b) != 1
    if kind == "together":
        return abs(a - b) == 1
    return 0 < a < len(row) - 1  # inside


def _check_row(args: Args, items: Items) -> dict[str, Value]:
    """Lists all orders."""
    rows = [row for row in itertools.permutations(args["names"]) if all(_fits(row, item) for item in items)]
    return {"orders": len(rows), **{f"first:{name}": sum(row[0] == name for row in rows) for name in args["names"]}}


def _solve_row(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """Fills the row from left to right, by a recursion over (who has a place, who has the last place)."""
    everyone = frozenset(args["names"])
    befores = [(item["a"], item["b"]) for item in items if item["kind"] == "before"]
    apart = {frozenset((item["a"], item["b"])) for item in items if item["kind"] == "apart"}
    pairs = {frozenset((item["a"], item["b"])) for item in items if item["kind"] == "together"}
    inside = {item["a"] for item in items if item["kind"] == "inside"}

    @functools.cache
    def count(placed: frozenset[str], last: str) -> int:
        if placed == everyone:
            return last not in inside
        total = 0
        for name in everyone - placed:
            if not placed and name in inside or frozenset((last, name)) in apart:
                continue
            if any(b == name and a not in placed for a, b in befores):
                continue
            # If one of a pair of neighbours has a place, the other must come right after it. `torn`: the last person
            # still waits for a partner who is not `name`. `late`: `name` has a partner further to the left.
            torn = any(len(pair & placed) == 1 and pair != {last, name} and last in pair for pair in pairs)
            late = any(name in pair and len(pair & placed) == 1 and last not in pair for pair in pairs)
            if not torn and not late:
                total += count(placed | {name}, name)
        return total

    def beginning(name: str) -> int:
        if name in inside or any(b == name for _, b in befores):
            return 0
        return count(frozenset((name,)), name)

    first = {f"first:{name}": beginning(name) for name in args["names"]}
    orders = sum(first.values())
    if not orders:
        raise ValueError("no order meets the conditions")
    return {"orders": orders, **first}, []


def _extend_row(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        a, b = rng.sample(args["names"], 2)
        kind = rng.choice(("before", "apart", "together", "inside"))
        item = {"kind": kind, "a": a} if kind == "inside" else {"kind": kind, "a": a, "b": b}
        longer = [*items, item]
        if item in items or _solve_row(args, longer)[0]["orders"] == _solve_row(args, items)[0]["orders"]:
            raise ValueError("a condition that changes nothing")
        return longer

    return attempts(make)


def _draw_row(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"names": rng.sample(PEOPLE, rng.randint(4, 6)), **fixed}, _extend_row)


_PAIR = {"a": NAME, "b": NAME}

OPERATIONS = (
    Operation(
        name="teams",
        family="combinatorics",
        wordings=(
            "There are {n} <people>, and nobody is chosen twice.",
            "Out of {n} <people> we choose, nobody twice.",
        ),
        slots={"n": number(1, 60, link=True)},
        items={
            "team": Item(
                ("From those still free, a team of {k} is chosen.", "We choose a team of {k} of those who are left."),
                {"k": number(1, 9)},
            ),
            "roles": Item(
                (
                    "From those still free, {k} are given different numbered roles.",
                    "We hand out {k} different roles to those who are left, one each.",
                ),
                {"k": number(1, 9)},
            ),
        },
        wants={
            "ways": "the number of ways to make all these choices",
            "left": "the number of <people> who are not chosen",
        },
        most=6,
        draw=_draw_teams,
        solve=_solve_teams,
        check=_check_teams,
        extend=_extend_teams,
    ),
    Operation(
        name="row",
        family="combinatorics",
        wordings=("In a row, from left to right, stand {names}.", "A row is formed from left to right by {names}."),
        slots={"names": NAMES},
        items={
            "before": Item(
                ("Somewhere to the left of {b} stands {a}.", "The place of {a} is left of that of {b}."), _PAIR
            ),
            "apart": Item(("Next to {a} there is no {b}.", "No two neighbours are {a} and {b}."), _PAIR),
            "together": Item(("Neighbours are {a} and {b}.", "Side by side stand {a} and {b}."), _PAIR),
            "inside": Item(("At neither end stands {a}.", "Both ends are taken by others than {a}."), {"a": NAME}),
        },
        wants={
            "orders": "the number of possible orders of the row",
            "first": "the number of possible orders of the row in which the leftmost is {of}",
        },
        most=5,
        draw=_draw_row,
        solve=_solve_row,
        check=_check_row,
        extend=_extend_row,
    ),
)
