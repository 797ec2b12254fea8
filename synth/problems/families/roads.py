"""Graphs: towns and roads; shortest ways and numbers of walks."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random

from synth.problems.operation import NAME, Args, Item, Items, Operation, Steps, Value, attempts, number

TOWNS = ("Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Larch", "Oak")


def _towns(items: Items) -> list[str]:
    return sorted({item[end] for item in items for end in ("a", "b")})


def _roads(args: Args, items: Items) -> dict[tuple[str, str], int]:
    """(from, to) -> kilometres with the toll added, in both directions.

    Raises ValueError for two roads between the same towns, or a road from a town to itself.
    """
    found = {}
    for item in items:
        if item["a"] == item["b"] or (item["a"], item["b"]) in found:
            raise ValueError("a road told twice, or from a town to itself")
        found[item["a"], item["b"]] = found[item["b"], item["a"]] = item["d"] + args["toll"]
    return found


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """Shortest ways by Dijkstra's algorithm from every town; walks over three roads by dynamic programming."""
    roads, towns = _roads(args, items), _towns(items)
    values: dict[str, Value] = {}
    for start in towns:
        best, queue = {}, [(0, start)]
        while queue:
            way, town = heapq.heappop(queue)
            if town not in best:
                best[town] = way
                for (a, b), d in roads.items():
                    if a == town and b not in best:
                        heapq.heappush(queue, (way + d, b))
        if len(best) < len(towns):
            raise ValueError("towns that no road joins")
        counts = {town: int(town == start) for town in towns}
        for _ in range(3):
            counts = {b: sum(counts[a] for a in towns if (a, b) in roads) for b in towns}
        for goal in towns:
            if goal != start:
                values[f"shortest:{start}-{goal}"] = best[goal]
            values[f"walks:{start}-{goal}"] = counts[goal]
    return values, []


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Shortest ways by the Floyd-Warshall recursion over the towns that a way may pass; walks by enumeration."""
    roads = {frozenset((item["a"], item["b"])): item["d"] + args["toll"] for item in items}
    if len(roads) < len(items) or min(map(len, roads)) < 2:
        raise ValueError("two roads between the same towns, or one that leads nowhere")
    towns = sorted(frozenset.union(*roads))

    @functools.cache
    def shortest(a: str, b: str, allowed: int) -> float:
        if allowed == 0:
            return 0 if a == b else roads.get(frozenset((a, b)), math.inf)
        via = towns[allowed - 1]
        through = shortest(a, via, allowed - 1) + shortest(via, b, allowed - 1)
        return min(shortest(a, b, allowed - 1), through)

    values: dict[str, Value] = {}
    for a, b in itertools.product(towns, towns):
        if a != b:
            values[f"shortest:{a}-{b}"] = shortest(a, b, len(towns))
        walks = ((a, c, d, b) for c, d in itertools.product(towns, towns))
        values[f"walks:{a}-{b}"] = sum(all(frozenset(pair) in roads for pair in itertools.pairwise(w)) for w in walks)
    return values


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    """Adds a road to a new town, or between two towns that are not yet joined by a road."""

    def make() -> list:
        known = _towns(items)
        new = [town for town in TOWNS if town not in known]
        a = rng.choice(known)
        b = rng.choice(new) if new and rng.random() < 0.5 else rng.choice(known)
        longer = [*items, {"kind": "road", "a": a, "b": b, "d": rng.randint(2, 30)}]
        _roads(args, longer)
        return longer

    return attempts(make)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    args = {"toll": rng.randint(0, 3), **fixed}
    a, b = rng.sample(TOWNS, 2)
    items = [{"kind": "road", "a": a, "b": b, "d": rng.randint(2, 30)}]
    for _ in range(max(size, 3) - 1):
        items = _extend(rng, args, items)
    return args, items


OPERATIONS = (
    Operation(
        name="roads",
        family="graphs",
        wordings=(
            "Roads can be used both ways, and because of roadworks each is {toll} kilometres longer than stated.",
            "All roads go both ways, and to every length stated below {toll} kilometres must be added.",
        ),
        slots={"toll": number(0, 10**4, link=True)},
        items={
            "road": Item(
                ("A road of {d} kilometres joins {a} and {b}.", "Between {a} and {b} runs a road of {d} kilometres."),
                {"a": NAME, "b": NAME, "d": number(1, 99)},
            )
        },
        wants={
            "shortest": "the length in kilometres of the shortest way from {of}",
            "walks": "the number of walks over exactly three roads, repeats allowed, from {of}",
        },
        most=10,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
