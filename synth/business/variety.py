"""How different businesses are from each other: their tools, and the words of their manuals.

python -m synth.business.variety 200 [SEED]
"""

from __future__ import annotations

import collections
import json
import statistics
import sys
from collections.abc import Sequence

from synth.business import catalogue, manual
from synth.business.schema import Business
from synth.business.view import view

_NOW = "2026-03-12 10:20"
_GRAM = 5  # words


def text(b: Business) -> str:
    """A manual of the business, with the standing rules of all of its actions."""
    return manual.render(b, _NOW, [], list(manual._FEATURES), f"variety-{b.name}")


def grams(manual_text: str) -> frozenset[tuple[str, ...]]:
    """Every run of five words of a text."""
    words = manual_text.split()
    return frozenset(tuple(words[place : place + _GRAM]) for place in range(len(words) - _GRAM + 1))


def nearest(sets: Sequence[frozenset]) -> list[float]:
    """For each set the highest Jaccard similarity with another one. Expects at least two sets."""
    holders: dict[object, list[int]] = collections.defaultdict(list)
    for place, items in enumerate(sets):
        for item in items:
            holders[item].append(place)
    best = []
    for place, items in enumerate(sets):
        shared = collections.Counter(other for item in items for other in holders[item] if other != place)
        best.append(max((n / (len(items) + len(sets[other]) - n) for other, n in shared.items()), default=0.0))
    return best


def shared(sets: Sequence[frozenset]) -> float:
    """The share of all different items that stand in two or more of the sets."""
    counts = collections.Counter(item for items in sets for item in items)
    return sum(count > 1 for count in counts.values()) / len(counts)


def figures(businesses: Sequence[Business]) -> dict[str, float]:
    """The figures of two or more businesses, by name."""
    tools = [frozenset(view(b).tools[1]) for b in businesses]
    manuals = [text(b) for b in businesses]
    said = [grams(manual_text) for manual_text in manuals]
    near, near_tools = nearest(said), nearest(tools)
    names = frozenset().union(*tools)
    schemas = {json.dumps(view(b).tools[0], sort_keys=True) for b in businesses}
    words = {word for name in names for word in name.split("_")}
    attributes = [frozenset(name.split(".")[1] for name in b.attributes) for b in businesses]
    fields = [frozenset(name for c in b.collections.values() for name in c.fields) for b in businesses]
    return {
        "businesses": len(businesses),
        "different_schemas": len(schemas),
        "tool_names": len(names),
        "tool_words": len(words),
        "field_names": len(frozenset().union(*fields)),
        "manual_words": len({word for manual_text in manuals for word in manual_text.lower().split()}),
        "words_per_manual_median": statistics.median(len(manual_text.split()) for manual_text in manuals),
        "tools_per_business_median": statistics.median(map(len, tools)),
        "tool_names_shared": round(shared(tools), 4),
        "attributes_shared": round(shared(attributes), 4),
        "manual_5grams_shared": round(shared(said), 4),
        "nearest_manual_median": round(statistics.median(near), 4),
        "nearest_manual_max": round(max(near), 4),
        "nearest_tools_median": round(statistics.median(near_tools), 4),
        "nearest_tools_max": round(max(near_tools), 4),
    }


def main(arguments: Sequence[str]) -> None:
    """Prints the figures of composed businesses as JSON. Raises SystemExit if the count is missing."""
    if not arguments:
        raise SystemExit("python -m synth.business.variety COUNT [SEED]")
    count, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    print(json.dumps(figures(catalogue.composed(count, seed)), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
