"""A business while it is being composed: its words, and what its parts need to know of each other."""

from __future__ import annotations

import dataclasses
import random
import re

from synth.business.composing import elements
from synth.business.composing import words as english
from synth.business.composing.elements import Data, Fact

_TOWNS = (
    "Ashbourne Brackley Calder Corbridge Dunmore Eastleigh Fairhaven Glenford Harwick Kelso Langport Marlow Newbury "
    "Oakham Petersfield Ripley Selby Thornbury Ullapool Wareham Westbrook Yarrow"
).split()
_ENDS = ("", "_rule", "_check", "_limit", "_policy", "_terms", "_condition", "_clause")
_IDS = ("{p}-#####", "{p}#####", "{p}/####", "{p}.####.#", "{p}-@###", "{p}_####@", "#####{p}", "{p}-##-###",
        "{p}####@@")  # fmt: skip
_RESERVED = ("unavailable", "customer_asked", "other")  # codes that every business has
_GROUPS = "household, account_group, firm, circle"
_TERMS = "agreement, terms_sheet, policy, contract"


@dataclasses.dataclass
class Draft:
    """What is drawn once for a business.

    trade, archetype, cast: the data it is made of; the cast is the trade's for the archetype. turn: how often the two
    were combined before. record, owner, link, thing: names of the kinds, and of the object that a main record is about.
    link_type: a key of parts/links.json; on_owner: whether the owner holds its identifier. attributes: as in Business;
    facts_of: attribute -> its fact. used: texts that have a meaning already.
    """

    name: str
    trade: Data
    archetype: Data
    cast: Data
    turn: int
    rng: random.Random
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    attributes: Data = dataclasses.field(default_factory=dict)
    facts_of: dict[str, Fact] = dataclasses.field(default_factory=dict)
    used: set[str] = dataclasses.field(default_factory=set)
    prefixes: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        rng, cast, trade = self.rng, self.cast, self.trade
        self.price: int = trade["price"]
        self.record, self.owner = self.pick(cast["record"]), self.pick(trade["owner"])
        links = self.archetype["links"]
        self.link_type: str = links[(self.turn + rng.randrange(len(links))) % len(links)]
        names = {"plan": trade["plan"]["names"], "site": trade["place"], "staff": trade["staff"], "group": _GROUPS}
        several = names.get(self.link_type, _TERMS).split(",")
        free = [name.strip() for name in several if name.strip() not in (self.record, self.owner)]
        self.link = english.snake(rng.choice(free))
        self.on_owner: bool = rng.choice(elements.part("links")[self.link_type]["on"]) == "owner"
        self.thing = self.pick(cast["thing"])
        self.records, self.owners, self.links = (collection(kind) for kind in (self.record, self.owner, self.link))
        self._title()
        nouns = {"record": self.record, "owner": self.owner, "link": self.link, "thing": self.thing,
                 "line": cast["line"], "unit": cast["unit"], "option": cast["option"], "place": trade["place"],
                 "staff": self.pick(trade["staff"]),
                 "holder": rng.choice(self.archetype.get("holder", ["holder"]))}  # fmt: skip
        for key, noun in nouns.items():
            self.words |= english.forms(key, english.plain(noun), cast.get("units", "") if key == "unit" else "")
        self.end = rng.choice(_ENDS)
        self.id_style, self.id_lower, self.prefix = rng.choice(_IDS), rng.random() < 0.3, rng.randint(1, 3)

    def _title(self) -> None:
        short, comma, rest = self.rng.choice(self.trade["titles"]).partition(",")
        said = f"{short},{rest}," if comma else short
        self.words |= {"title": short, "Title": english.upper(said)}
        if self.turn or self.rng.random() < 0.4:
            short = f"{short} in {self.rng.choice(_TOWNS)}"
        self.title = f"{short}{comma}{rest}"

    def pick(self, text: str) -> str:
        """One of the entries of a list like "order, bouquet_order"."""
        return self.rng.choice([entry.strip() for entry in text.split(",")])

    def fill(self, text: str, **more: str) -> str:
        """The text with the business's words in it."""
        return english.fill(text, self.words | more)

    def fact(self, spec: Data, taken: set[str]) -> Fact:
        """Draws a fact; its name is added to `taken`."""
        return elements.fact(spec, self.words, self.price, taken, self.rng)

    def identifier(self, kind: str) -> str:
        """How identifiers of a kind look: with a prefix that no other kind has."""
        letters = [letter for letter in kind.upper() if letter.isalpha()]
        short = letters[0] + "".join(letter for letter in letters[1:] if letter not in "AEIOU")
        lengths = (self.prefix, self.prefix + 1, 4, 5, 6)
        found = next(text for n in lengths if (text := (short + "XYZ")[:n]) not in self.prefixes)
        self.prefixes.add(found)
        return self.id_style.format(p=found.lower() if self.id_lower else found)

    def code(self, kind: str, label: str, also: str) -> str:
        """A name for an attribute of a kind, such that no other has the same after the kind; `also` may be added."""
        label = re.sub(r"^(number|date|day|amount|length|end) of (the )?", "", label)
        stem = english.snake(re.sub(r" in (percent|minutes|days|months|weeks)$", "", label))
        taken = {name.partition(".")[2] for name in self.attributes} | set(_RESERVED)
        end = "" if stem.endswith((self.end, self.end[:-1])) else self.end
        names = (f"{stem}{end}", f"{stem}_{also}", f"{stem}_on_file", f"{stem}_2")
        return f"{kind}.{next(name for name in names if name not in taken)}"

    def attribute(self, kind: str, fact: Fact) -> None:
        """Adds the attribute that follows from a fact of a kind of record."""
        label = fact.name if fact.field["type"] == "flag" else fact.label
        name = self.code(kind, label, fact.field["type"])
        bare = kind == self.record  # "the due date" goes without saying whose
        self.attributes[name] = elements.attribute(fact, english.plain(kind), bare, self.used, self.rng)
        self.facts_of[name] = fact


def collection(kind: str) -> str:
    """The name of the collection of a kind: "tool_hire" -> "tool_hires"."""
    return english.snake(english.plural(english.plain(kind)))
