"""Logic grids: who lives in which house with which animal. The clues leave exactly one possibility."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from synth.problems.operation import NAME, NAMES, WORD, WORDS, Args, Item, Items, Operation, Steps, Value, number
from synth.problems.trades import NAMES as PEOPLE

ANIMALS = ("owl", "cat", "dog", "goat", "hen")

World = tuple[dict[str, int], dict[str, int]]  # person -> house, animal -> house; houses count from 0


def _true(world: World, clue: dict, first: int) -> bool:
    houses, animals = world
    kind = clue["kind"]
    if kind == "keeps":
        return houses[clue["a"]] == animals[clue["x"]]
    if kind == "keeps_not":
        return houses[clue["a"]] != animals[clue["x"]]
    if kind == "lives":
        return houses[clue["a"]] + first == clue["h"]
    if kind == "animal_in":
        return animals[clue["x"]] + first == clue["h"]
    if kind == "left":
        return houses[clue["a"]] < houses[clue["b"]]
    return abs(houses[clue["a"]] - animals[clue["x"]]) == 1  # beside


def _values(worlds: list[World], args: Args) -> dict[str, Value]:
    """The values by want of the one world that the clues leave. Raises ValueError if there is not exactly one."""
    if len(worlds) != 1:
        raise ValueError(f"the clues leave {len(worlds)} possibilities")
    houses, animals = worlds[0]
    at = {house: name for name, house in houses.items()}
    return {
        **{f"house:{name}": house + args["first"] for name, house in houses.items()},
        **{f"keeper:{animal}": at[house] for animal, house in animals.items()},
    }


def _holds(people: tuple[str, ...], animals: tuple[str, ...], clue: dict, first: int) -> bool:
    """Whether a clue is true. `people`, `animals`: those in the houses, from left to right."""
    kind, a, x = clue["kind"], clue.get("a"), clue.get("x")
    if kind in ("keeps", "keeps_not"):
        return ((a, x) in zip(people, animals)) == (kind == "keeps")
    if kind in ("lives", "animal_in"):
        numbered = enumerate(people if kind == "lives" else animals, first)
        return (clue["h"], a if kind == "lives" else x) in numbered
    if kind == "left":
        return a in people[: people.index(clue["b"])]
    return (a, x) in zip(people, animals[1:]) or (a, x) in zip(people[1:], animals)  # beside


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Tries all orders of people and animals. To be independent, it shares no code with `_solve`."""
    first = args["first"]
    (street,) = [  # raises ValueError if the clues do not leave exactly one possibility
        (people, animals)
        for people in itertools.permutations(args["names"])
        for animals in itertools.permutations(args["animals"])
        if all(_holds(people, animals, clue, first) for clue in items)
    ]
    houses = {f"house:{name}": number for number, name in enumerate(street[0], first)}
    return houses | {f"keeper:{animal}": name for name, animal in zip(*street)}


def _search(args: Args, items: Items) -> Iterator[World]:
    """Yields the worlds in which all clues are true, by backtracking.

    It places the people, then the animals. It abandons a partial world as soon as a clue whose parts are all placed is
    false.
    """
    people, animals = args["names"], args["animals"]
    parts = [{part for key in ("a", "b", "x") if (part := clue.get(key))} for clue in items]

    def place(todo: list[str], houses: dict[str, int], kept: dict[str, int]) -> Iterator[World]:
        placed = {*houses, *kept}
        for clue, needed in zip(items, parts, strict=True):
            if needed <= placed and not _true((houses, kept), clue, args["first"]):
                return
        if not todo:
            yield houses, kept
            return
        name, *rest = todo
        own = houses if name in people else kept
        for house in set(range(len(people))) - set(own.values()):
            changed = {**own, name: house}
            yield from place(rest, changed if own is houses else houses, changed if own is kept else kept)

    return place([*people, *animals], {}, {})


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    return _values(list(itertools.islice(_search(args, items), 2)), args), []


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    """Adds true clues of a random world until one possibility is left, then removes the clues that are not needed."""
    count = 3 if size <= 3 else 4
    args = {
        "names": rng.sample(PEOPLE, count),
        "animals": rng.sample(ANIMALS, count),
        "first": rng.randint(1, 20),
        **fixed,
    }
    world = tuple(dict(zip(names, rng.sample(range(count), count))) for names in (args["names"], args["animals"]))
    clues = []
    for a, x in itertools.product(args["names"], args["animals"]):
        clues += [{"kind": kind, "a": a, "x": x} for kind in ("keeps", "keeps_not", "beside")]
    clues += [{"kind": "left", "a": a, "b": b} for a, b in itertools.permutations(args["names"], 2)]
    first = args["first"]
    clues += [{"kind": "lives", "a": a, "h": first + h} for a in args["names"] for h in range(count)]
    clues += [{"kind": "animal_in", "x": x, "h": first + h} for x in args["animals"] for h in range(count)]
    clues = [clue for clue in clues if _true(world, clue, first)]
    rng.shuffle(clues)
    chosen: list[dict] = []
    for clue in clues:
        chosen.append(clue)
        if len(list(itertools.islice(_search(args, chosen), 2))) == 1:
            break
    for clue in list(chosen):
        fewer = [other for other in chosen if other != clue]
        if len(list(itertools.islice(_search(args, fewer), 2))) == 1:
            chosen = fewer
    if len(chosen) > 10:
        raise ValueError(f"{len(chosen)} clues")
    return args, chosen


OPERATIONS = (
    Operation(
        name="houses",
        family="logic",
        wordings=(
            "In a row of houses, numbered from {first} on from left to right, live {names}, one in each, and each "
            "keeps another one of these animals: {animals}.",
            "From left to right the houses of a street have the numbers {first} and so on, one house and one animal to "
            "each of {names}, the animals being {animals}.",
        ),
        slots={"first": number(1, 10**4, link=True), "names": NAMES, "animals": WORDS},
        items={
            "keeps": Item(("The {x} belongs to {a}.", "The owner of the {x} is {a}."), {"a": NAME, "x": WORD}),
            "keeps_not": Item(
                ("The {x} does not belong to {a}.", "The owner of the {x} is not {a}."), {"a": NAME, "x": WORD}
            ),
            "beside": Item(
                ("Right beside the house with the {x} lives {a}.", "The {x} is next door to {a}."),
                {"a": NAME, "x": WORD},
            ),
            "left": Item(
                ("Somewhere left of {b} lives {a}.", "The house of {a} is further left than that of {b}."),
                {"a": NAME, "b": NAME},
            ),
            "lives": Item(
                ("In house {h} lives {a}.", "House {h} is the home of {a}."), {"a": NAME, "h": number(1, 10**4)}
            ),
            "animal_in": Item(
                ("In house {h} there is the {x}.", "House {h} has the {x}."), {"x": WORD, "h": number(1, 10**4)}
            ),
        },
        wants={"house": "the number of the house of {of}", "keeper": "the name of the one who keeps the {of}"},
        most=10,
        draw=_draw,
        solve=_solve,
        check=_check,
    ),
)
