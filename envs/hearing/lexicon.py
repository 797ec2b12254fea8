"""What a business calls its facts, its writes and its records; and the patterns made of that and of general English."""

from __future__ import annotations

import dataclasses
import functools

from envs.hearing import facts as fact_table
from envs.hearing import verbs as verb_table
from envs.hearing.patterns import Matcher

Label = tuple[str | None, int, bool, bool]


@dataclasses.dataclass(frozen=True)
class Verb:
    """One write that a business offers.

    name: such as "reschedule_job". words: base-form synonyms of the domain, in addition to general ones: ("move", "push
    back"). family: one of the general families, whose synonyms are envs/hearing/verbs.py; "" if its name is none.
    """

    name: str
    words: tuple[str, ...]
    family: str = ""


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The words of one business.

    facts: fact name -> the domain's own noun phrases for it; general ones of a common name are known. verbs: the
    writes. records: nouns for the main record. told: what values are called ("my plans have changed"), where no write
    is named. When it is first used, a ValueError names a family that is not known.
    """

    facts: dict[str, tuple[str, ...]]
    verbs: tuple[Verb, ...]
    records: tuple[str, ...]
    told: tuple[str, ...] = ()

    @functools.cached_property
    def writes(self) -> Matcher:
        """Names of writes.

        Label: (Verb.name or "" for none or None for what isn't offered, order, turned round, the domain's own words).
        """
        own: list[tuple[str, Label]] = []
        offered = set()
        families = {verb.family or verb.name for verb in self.verbs}
        for rank, verb in enumerate(self.verbs):
            family = verb.family or (verb.name if verb.name in verb_table.FAMILIES else "")
            if family and family not in verb_table.FAMILIES:
                raise ValueError(
                    f"verb {verb.name}: family {family!r} is none of {', '.join(sorted(verb_table.FAMILIES))}"
                )
            offered.add(family)
            spoken = verb.name.replace("_", " ")
            # one word, such as "place", is rather the name of a thing than what is said
            derived = () if family or verb.words and " " not in spoken else (spoken.replace(" ", " .. ", 1), spoken)
            apart = [phrase.replace(" ", " .. ", 1) for phrase in map(_checked, verb.words) if phrase.count(" ") == 1]
            for phrase in verb_table.FAMILIES.get(family, ()):
                if phrase != family and phrase in families:
                    continue  # "reserve" stands for "book" only where nothing can be reserved
                own += _both_ways(phrase, verb.name, rank, False)
            # "ending" alone is taken for a card's
            ending = [
                f"ending the|your|this{p[3:]}" for p in map(_checked, verb.words) if p == "end" or p[:4] == "end "
            ]
            for phrase in (*map(_checked, verb.words), *apart, *derived, *ending):
                own += _both_ways(phrase, verb.name, rank, True)
        other = [
            pair
            for rank, (family, phrases) in enumerate(verb_table.FAMILIES.items())
            if family not in offered
            for phrase in phrases
            for pair in _both_ways(phrase, None, len(self.verbs) + rank, False)
        ]
        return Matcher([*own, *other, *((phrase, ("", -1, False, False)) for phrase in verb_table.NEUTRAL)])

    @functools.cached_property
    def nouns(self) -> Matcher:
        """Noun phrases of the facts; label: (fact, whether the phrase is the domain's own)."""
        found = []
        for name, phrases in self.facts.items():
            found += [(_checked(phrase), (name, True)) for phrase in phrases]
            found += [(phrase, (name, False)) for phrase in fact_table.NOUNS.get(_general(name), ())]
            found += [(phrase, (name, False)) for phrase in _numbers(fact_table.NOUNS.get(_general(name), ()))]
            found.append((name.replace("_", " "), (name, True)))
        return Matcher(found)

    @functools.cached_property
    def questions(self) -> Matcher:
        """Wordings that are a question for a fact; label: the fact."""
        return Matcher((p, name) for name in self.facts for p in fact_table.QUESTIONS.get(_general(name), ()))

    @functools.cached_property
    def choices(self) -> Matcher:
        """What facts may be; label: the fact."""
        return Matcher((p, name) for name in self.facts for p in fact_table.CHOICES.get(_general(name), ()))

    @functools.cached_property
    def values(self) -> Matcher:
        return Matcher((_checked(phrase), phrase) for phrase in self.told)

    @functools.cached_property
    def record_nouns(self) -> Matcher:
        return Matcher((_checked(noun), noun) for noun in self.records)


def _both_ways(phrase: str, verb: str | None, rank: int, own: bool) -> list[tuple[str, Label]]:
    """A pattern with its label; and turned round, "address .. change", for "the address has been changed"."""
    found = [(phrase, (verb, rank, False, own))]
    parts = phrase.split(" .. ")
    if len(parts) == 2 and not parts[1].startswith((".", "#", "¤", "@")):
        found.append((f"{parts[1]} .. {parts[0]}", (verb, rank, True, own)))
    return found


def _numbers(phrases: tuple[str, ...]) -> list[str]:
    """Other ways to say "order number": "order no", "number of the order", "what number has your order"."""
    things = [phrase.removesuffix(" number") for phrase in phrases if phrase.endswith(" number") and ".." not in phrase]
    things = [thing for thing in things if " " not in thing and thing not in ("reference", "contact", "house", "card")]
    return [
        pattern for thing in things for pattern in (f"{thing} no|id|ref|digits", f"number of|on|for|has .. {thing}")
    ]


def _general(name: str) -> str:
    return fact_table.ALIASES.get(name, name)


def _checked(phrase: str) -> str:
    """A phrase of a lexicon as a pattern of plain words; ValueError if it has none."""
    words = [w for w in phrase.replace("_", " ").replace("-", " ").replace("'", " ").split() if w]
    if not words:
        raise ValueError("a phrase of the lexicon is empty")
    return " ".join(words)
