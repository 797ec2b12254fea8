"""Standing rules of composed businesses, and the sentences about them."""

from __future__ import annotations

from synth.business.composing import elements
from synth.business.composing import words as english
from synth.business.composing.draft import Draft
from synth.business.composing.elements import Data


def standing(d: Draft, actions: Data) -> list[Data]:
    """Two or three rules for each action, on attributes that as few other rules as possible are about."""
    rng, counts = d.rng, dict.fromkeys(d.attributes, 0)
    rules = []
    for key in actions:
        order = sorted(d.attributes, key=lambda name: (counts[name], rng.random()))
        for name in order[: rng.choice((2, 2, 3))]:
            counts[name] += 1
            otherwise = "decline" if rng.random() < 0.7 else "transfer"
            rules.append({"action": key, "attribute": name, **_limit(d, name), "otherwise": otherwise})
    return rules


def _limit(d: Draft, name: str) -> Data:
    """A comparison that a standing rule may make."""
    rng, spec = d.rng, d.attributes[name]
    good = d.facts_of[name].spec.get("good", "") if name in d.facts_of else ""
    if spec["kind"] in ("flag", "defined"):
        return {"op": "eq", "value": good or rng.choice(("yes", "no"))}
    values = spec["values"]
    if spec["kind"] == "word":
        if good == "first":
            return {"op": "in", "value": values[:2]} if len(values) > 2 else {"op": "eq", "value": values[0]}
        if good == "notfirst":
            return {"op": "ne", "value": values[0]}
        if len(values) > 3 and rng.random() < 0.5:
            return {"op": "in", "value": rng.sample(values, 2)}
        return {"op": "ne", "value": rng.choice(values)}
    up = good == "high" or (not good and rng.random() < 0.5)
    place = rng.randint(1, max(1, len(values) // 2 - 1))
    return {"op": "ge", "value": values[place]} if up else {"op": "le", "value": values[-1 - place]}


def setting(d: Draft) -> list[str]:
    """Three to five sentences about the business."""
    rng, own = d.rng, elements.part("links")[d.link_type]["setting"]
    about = [text for text in own if "{the_holder}" in text or ("record}" in text) != d.on_owner]
    texts = [*rng.sample(d.trade["setting"], rng.randint(1, 2)), *rng.sample(d.archetype["setting"], rng.randint(1, 2))]
    texts.sort(key=lambda text: "{Title}" not in text)
    holder = f"every {d.words['owner' if d.on_owner else 'record']}"
    return [english.upper(d.fill(text, the_holder=holder)) for text in [*texts, rng.choice(about)]]


def notes(d: Draft) -> Data:
    """Sections of further sentences: a part of those that the trade has."""
    sections = d.rng.sample(sorted(d.trade["notes"]), d.rng.randint(4, 5))
    several = {section: d.trade["notes"][section] for section in sections}
    return {
        name: [d.fill(t) for t in d.rng.sample(lines, d.rng.randint(2, len(lines)))] for name, lines in several.items()
    }
