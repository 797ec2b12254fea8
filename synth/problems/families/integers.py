"""Number theory: remainders, divisors, and a wheel, which reduces any earlier value to a small whole number."""

from __future__ import annotations

import math
import random

import sympy
from sympy.ntheory import modular

from synth.problems.operation import Args, Item, Items, Operation, Steps, Value, attempts, grown, number


def _solve_congruences(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """A sieve (constructive Chinese remainder theorem): each condition restricts the candidates left so far."""
    value, step, steps = args["low"] + 1, 1, []
    for item in items:
        for _ in range(item["m"]):
            if value % item["m"] == item["r"]:
                break
            value += step
        else:
            raise ValueError("the remainders contradict each other")
        step = math.lcm(step, item["m"])
        steps.append(("remainder", value))
    return {"least": value, "digits": sum(map(int, str(value))), "next": value + step}, steps


def _check_congruences(args: Args, items: Items) -> dict[str, Value]:
    found = modular.solve_congruence(*((item["r"], item["m"]) for item in items))
    if found is None:
        raise ValueError("the remainders contradict each other")
    remainder, modulus = map(int, found)
    first = args["low"] + 1
    least = first + (remainder - first) % modulus
    return {"least": least, "digits": sum(int(digit) for digit in str(least)), "next": least + modulus}


def _extend_congruences(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        modulus = rng.randint(3, 17)
        if any(item["m"] == modulus for item in items):
            raise ValueError("a second condition of the same modulus")
        longer = [*items, {"kind": "remainder", "m": modulus, "r": rng.randint(0, modulus - 1)}]
        _solve_congruences(args, longer)
        return longer

    return attempts(make)


def _draw_congruences(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"low": rng.randint(10, 400), **fixed}, _extend_congruences)


def _solve_divisors(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    common, multiple, steps = args["n"], args["n"], []
    for item in items:
        common, multiple = math.gcd(common, item["n"]), math.lcm(multiple, item["n"])
        steps.append(("other", common))
    count = sum(1 for d in range(1, common + 1) if common % d == 0)
    return {"gcd": common, "lcm": multiple, "count": count}, steps


def _check_divisors(args: Args, items: Items) -> dict[str, Value]:
    """Computes all values from prime factors."""
    numbers = [sympy.factorint(n) for n in (args["n"], *(item["n"] for item in items))]
    primes = sorted({p for factors in numbers for p in factors})
    low = {p: min(factors.get(p, 0) for factors in numbers) for p in primes}
    high = {p: max(factors.get(p, 0) for factors in numbers) for p in primes}
    gcd, lcm = (math.prod(p**e for p, e in powers.items()) for powers in (low, high))
    return {"gcd": gcd, "lcm": lcm, "count": math.prod(e + 1 for e in low.values())}


def _extend_divisors(rng: random.Random, args: Args, items: Items) -> list:
    factors = [d for d in range(2, min(args["n"], 60) + 1) if args["n"] % d == 0] or [1]
    return [*items, {"kind": "other", "n": rng.choice(factors) * rng.randint(2, 30)}]


def _draw_divisors(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"n": 12 * rng.randint(3, 40), **fixed}, _extend_divisors)


def _solve_wheel(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    place = args["n"] % args["m"]
    steps = [("wheel", place)]
    for item in items:
        place = (place + item["n"]) % args["m"]
        steps.append(("turn", place))
    return {"place": place, "turns": (args["n"] + sum(item["n"] for item in items)) // args["m"]}, steps


def _check_wheel(args: Args, items: Items) -> dict[str, Value]:
    total = args["n"] + sum(item["n"] for item in items)
    turns = math.floor(sympy.Rational(total, args["m"]))
    return {"place": total - args["m"] * turns, "turns": turns}


def _extend_wheel(rng: random.Random, args: Args, items: Items) -> list:
    del args
    return [*items, {"kind": "turn", "n": rng.randint(5, 500)}]


def _draw_wheel(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"n": rng.randint(50, 3000), "m": rng.randint(5, 23), **fixed}, _extend_wheel)


OPERATIONS = (
    Operation(
        name="remainders",
        family="number theory",
        wordings=(
            "We look for whole numbers greater than {low} with the properties below.",
            "Consider the whole numbers above {low} that meet all of these conditions.",
        ),
        slots={"low": number(0, 10**6, link=True)},
        items={
            "remainder": Item(
                ("Divided by {m} the number leaves {r}.", "The remainder on division by {m} is {r}."),
                {"m": number(2, 20), "r": number(0, 19)},
            )
        },
        wants={
            "least": "the smallest such number",
            "digits": "the digit sum of the smallest such number",
            "next": "the second smallest such number",
        },
        most=5,
        draw=_draw_congruences,
        solve=_solve_congruences,
        check=_check_congruences,
        extend=_extend_congruences,
    ),
    Operation(
        name="divisors",
        family="number theory",
        wordings=("Our list of whole numbers begins with {n}.", "The first whole number on the list is {n}."),
        slots={"n": number(1, 10**6, link=True)},
        items={"other": Item(("Also on the list is {n}.", "Another number on it is {n}."), {"n": number(2, 9999)})},
        wants={
            "gcd": "the greatest common divisor of all numbers on the list",
            "lcm": "the least common multiple of all numbers on the list",
            "count": "the number of positive whole numbers that divide every number on the list",
        },
        most=5,
        draw=_draw_divisors,
        solve=_solve_divisors,
        check=_check_divisors,
        extend=_extend_divisors,
    ),
    Operation(
        name="wheel",
        family="number theory",
        wordings=(
            "A wheel has {m} places numbered from 0, and from place 0 it moves on by {n} places.",
            "From place 0 of a wheel with {m} places, numbered from 0, we go {n} places forward.",
        ),
        slots={"n": number(0, 10**9, link=True), "m": number(2, 99)},
        items={"turn": Item(("It moves on by {n} more.", "We go another {n} forward."), {"n": number(1, 999)})},
        wants={
            "place": "the number on the place where the wheel stops",
            "turns": "the number of full turns that the wheel makes",
        },
        most=6,
        draw=_draw_wheel,
        solve=_solve_wheel,
        check=_check_wheel,
        extend=_extend_wheel,
    ),
)
