"""Strings: a word whose letters are moved, replaced, removed, doubled and added."""

from __future__ import annotations

import random
import string

from synth.problems.operation import WORD, Args, Item, Items, Operation, Steps, Value, attempts, grown, number

WORDS = ("lantern", "marble", "copper", "garden", "silver", "window", "basket", "anchor", "meadow", "violin", "pepper",
         "harbour", "compass", "thunder", "blanket", "orchard", "feather", "cobalt", "saddle", "mirror")  # fmt: skip
_VOWELS = "aeiou"


def _rotate(word: str, count: int) -> str:
    count %= len(word)
    return word[count:] + word[:count]


def _apply(word: str, item: dict) -> str:
    kind = item["kind"]
    if kind == "reverse":
        return word[::-1]
    if kind == "rotate":
        if item["n"] > len(word):
            raise ValueError(f"the first {item['n']} letters of a word of {len(word)}")
        return _rotate(word, item["n"])
    if kind == "shift":
        letters = string.ascii_lowercase
        return word.translate(str.maketrans(letters, _rotate(letters, item["n"])))
    if kind == "drop":
        return "".join(letter for place, letter in enumerate(word, 1) if place % item["n"])
    if kind == "double":
        return "".join(letter * 2 if letter in _VOWELS else letter for letter in word)
    return word + item["w"]  # append


def _wants(word: str) -> dict[str, Value]:
    if not 2 <= len(word) <= 24:
        raise ValueError(f"a word of {len(word)} letters")
    return {"word": word, "length": len(word), "kinds": len(set(word)), "vowels": sum(c in _VOWELS for c in word)}


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    word = _rotate(args["word"], args["n"])
    steps: Steps = [("rotate", word)]
    for item in items:
        word = _apply(word, item)
        _wants(word)
        steps.append((item["kind"], word))
    return _wants(word), steps


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Works letter by letter on a list of places in the alphabet, 0 for "a"."""
    places = [ord(letter) - 97 for letter in args["word"]]
    for item in [{"kind": "turn", "n": args["n"]}, *items]:
        kind, n = item["kind"], item.get("n", 0)
        if kind == "reverse":
            places = [places[-1 - i] for i in range(len(places))]
        elif kind in ("turn", "rotate"):  # move the first letter to the end n times, or the first n letters at once
            if kind == "rotate" and n > len(places):
                raise ValueError(f"there are no {n} letters to move")
            for _ in range(n % len(places)):
                places.append(places.pop(0))
        elif kind == "shift":
            places = [(place + n) % 26 for place in places]
        elif kind == "drop":
            for index in range(len(places) // n * n - 1, -1, -n):
                del places[index]
        elif kind == "double":
            for index in range(len(places) - 1, -1, -1):
                if places[index] in (0, 4, 8, 14, 20):
                    places.insert(index, places[index])
        else:
            places.extend(ord(letter) - 97 for letter in item["w"])
    return _wants("".join(chr(place + 97) for place in places))


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    def make() -> list:
        kind = rng.choice(("reverse", "rotate", "shift", "drop", "double", "append"))
        item = {"kind": kind}
        if kind in ("rotate", "shift", "drop"):
            item["n"] = rng.randint(2, 9) if kind == "shift" else rng.randint(2, 4)
        if kind == "append":
            item["w"] = rng.choice(("ing", "ed", "ly", "ness"))
        longer = [*items, item]
        if _solve(args, longer)[0]["word"] == _solve(args, items)[0]["word"]:
            raise ValueError("a change that changes nothing")
        return longer

    return attempts(make)


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    return grown(rng, size, {"word": rng.choice(WORDS), "n": rng.randint(1, 5), **fixed}, _extend)


OPERATIONS = (
    Operation(
        name="word",
        family="strings",
        wordings=(
            "Take the word {word} and move its first letter to the end, {n} times over.",
            "In the word {word} the first letter goes to the end, and this is done {n} times.",
        ),
        slots={"word": WORD, "n": number(0, 10**6, link=True)},
        items={
            "reverse": Item(("Then write it backwards.", "Next, turn it round, last letter first."), {}),
            "rotate": Item(
                ("Then move the first {n} letters to the end.", "Next, its first {n} letters go to the end."),
                {"n": number(2, 4)},
            ),
            "shift": Item(
                (
                    "Then replace each letter by the one {n} places later in the alphabet, with a following z.",
                    "Next, every letter steps {n} places on in the alphabet, from z back to a.",
                ),
                {"n": number(2, 9)},
            ),
            "drop": Item(
                (
                    "Then leave out every letter whose place is a multiple of {n}, counting from 1.",
                    "Next, strike the letters in all places divisible by {n}, the first place being 1.",
                ),
                {"n": number(2, 4)},
            ),
            "double": Item(
                (
                    "Then write every vowel, that is a, e, i, o and u, twice.",
                    "Next, each of the vowels a, e, i, o and u is doubled.",
                ),
                {},
            ),
            "append": Item(("Then add {w} at the end.", "Next, {w} is put behind it."), {"w": WORD}),
        },
        wants={
            "word": "the string of letters that results",
            "length": "the number of letters in the result",
            "kinds": "the number of different letters in the result",
            "vowels": "the number of vowels a, e, i, o and u in the result, repeats counted",
        },
        most=6,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
