"""Generated corpora: a knowledge graph written down as pages, and questions that need several pages.

There are three kinds of pages:
- register: one page per thing, with all of its facts;
- rumour: contradicts one fact of the register;
- namesake: about something else that has the same name as a thing.

A question names a thing and follows 2 to 4 relations from it. The register pages of the things that these relations
start from are its evidence.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterator
from typing import Any

from synth.personas import SPLITS
from synth.question import Question

COUNTS = {"person": 120, "book": 120, "company": 60, "city": 60, "river": 20, "sea": 6}  # kind -> number of things
RUMOURS = 0.25  # share of facts that a rumour contradicts
NAMESAKES = 0.3  # share of things that share their name with something else
MOST_HOPS = 4


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation from each thing of the kind `of` to exactly one thing of the kind `to`, which may be the same kind.

    phrase: noun phrase for questions, a template over the thing.
    sentence: sentence for pages, a template over both things.
    """

    name: str
    of: str
    to: str
    phrase: str
    sentence: str


RELATIONS = (
    Relation("birthplace", "person", "city", "the birthplace of {}", "{0} was born in {1}."),
    Relation("employer", "person", "company", "the employer of {}", "{0} works for {1}."),
    Relation("teacher", "person", "person", "the teacher of {}", "{0} learned everything from {1}."),
    Relation("author", "book", "person", "the author of {}", "{0} was written by {1}."),
    Relation("publisher", "book", "company", "the publisher of {}", "{0} came out with {1}."),
    Relation("seat", "company", "city", "the seat of {}", "{0} has its offices in {1}."),
    Relation("founder", "company", "person", "the founder of {}", "{0} was started by {1}."),
    Relation("river", "city", "river", "the river that runs through {}", "{0} lies on the {1}."),
    Relation("mayor", "city", "person", "the mayor of {}", "{0} is governed by {1}."),
    Relation("mouth", "river", "sea", "the sea that takes up {}", "The {0} ends in the {1}."),
)
_ASKED = "What is the name of {}?"
_NAMESAKES = ("a ship", "a song", "a racehorse", "a brand of tea", "a comet", "a board game")
_ONSETS, _VOWELS, _CODAS = (
    "b d f g h k l m n p r s t v z br dr gr kl tr".split(),
    "a e i o u".split(),
    "l n r s".split(),
)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The pages and the knowledge graph behind them.

    pages: [{"id", "title", "text"}]. kinds: name of a thing -> its kind.
    facts: (name of a thing, name of a relation) -> name of the related thing.
    page: name of a thing -> id of its register page.
    """

    pages: list[dict[str, str]]
    kinds: dict[str, str]
    facts: dict[tuple[str, str], str]
    page: dict[str, str]


@functools.cache
def _names() -> list[str]:
    """Made-up names of two syllables, in a fixed random order."""
    syllables = ["".join(parts) for parts in itertools.product(_ONSETS, _VOWELS)]
    names = ["".join(parts).capitalize() for parts in itertools.product(syllables, syllables, _CODAS)]
    random.Random("names of things").shuffle(names)
    return names


def names(split: str) -> list[str]:
    """The names of a split, none of which belongs to another split. Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"facts: unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    return _names()[SPLITS.index(split) :: len(SPLITS)]


@functools.lru_cache(maxsize=8)
def corpus(split: str, number: int, seed: int) -> Corpus:
    """The corpus of a split in round `number`. Its names occur in no other split.

    Same arguments, same corpus. Raises ValueError for an unknown split.
    """
    rng = random.Random(f"{seed}/corpus/{split}/{number}")
    drawn = iter(rng.sample(names(split), sum(COUNTS.values())))
    of_kind = {kind: [next(drawn) for _ in range(count)] for kind, count in COUNTS.items()}
    kinds = {name: kind for kind, members in of_kind.items() for name in members}
    facts, page, texts = {}, {}, []
    for name, kind in kinds.items():
        sentences = []
        for relation in RELATIONS:
            if relation.of == kind:
                other = rng.choice([n for n in of_kind[relation.to] if n != name])
                facts[name, relation.name] = other
                sentences.append(relation.sentence.format(name, other))
                if rng.random() < RUMOURS:
                    wrong = rng.choice([n for n in of_kind[relation.to] if n not in (name, other)])
                    text = f"Somebody heard this: {relation.sentence.format(name, wrong)} Nobody has checked it."
                    texts.append((f"{name} ({kind}, rumour)", text, ""))
        rng.shuffle(sentences)
        texts.append((f"{name} ({kind}, register)", " ".join([f"{name} is a {kind}.", *sentences]), name))
        if rng.random() < NAMESAKES:
            what = rng.choice(_NAMESAKES)
            texts.append((f"{name} ({what.split()[-1]})", f"{name} is also the name of {what}.", ""))
    rng.shuffle(texts)
    pages = []
    for index, (title, text, name) in enumerate(texts):
        pages.append({"id": f"p{index}", "title": title, "text": text})
        if name:
            page[name] = f"p{index}"
    return Corpus(pages, kinds, facts, page)


def read(prompt: str) -> tuple[str, list[Relation]]:
    """(the thing that a question starts from, the relations to follow from it, in order).

    Raises ValueError if the prompt contains no relation.
    """
    phrase, found = prompt.removeprefix(_ASKED.partition("{}")[0]).removesuffix("?"), []
    while known := [r for r in RELATIONS if phrase.startswith(r.phrase.partition("{}")[0])]:
        found.insert(0, known[0])
        phrase = phrase.removeprefix(known[0].phrase.partition("{}")[0])
    if not found:
        raise ValueError(f"{prompt!r} asks for no relation")
    return phrase, found


def _walks(found: Corpus, start: str, hops: int) -> Iterator[list[Relation]]:
    """Yields every chain of `hops` relations that starts at `start` and visits no thing twice."""

    def follow(at: list[str], chain: list[Relation]) -> Iterator[list[Relation]]:
        if len(chain) == hops:
            yield chain
            return
        for relation in RELATIONS:
            after = found.facts.get((at[-1], relation.name))
            if after is not None and after not in at:
                yield from follow([*at, after], [*chain, relation])

    return follow([start], [])


def questions(split: str, count: int, variants: int, number: int, seed: int) -> list[Question]:
    """`count` roots with `variants` questions each, all different, about the corpus of round `number`.

    A question of round 0 follows 2 relations, and each later round adds one, up to MOST_HOPS. Raises ValueError for an
    unknown split.
    """
    hops = min(2 + number, MOST_HOPS)
    found, known, asked = [], corpus(split, number, seed), set()
    for i in range(count):
        root = f"{split}-{i:05d}-search"
        rng = random.Random(f"{seed}/search/{root}/{number}")
        for variant in range(variants):
            while True:
                start = rng.choice(list(known.kinds))
                chains = [chain for chain in _walks(known, start, hops) if (start, *chain) not in asked]
                if chains:
                    break
            chain = rng.choice(chains)
            asked.add((start, *chain))
            phrase, at, evidence = start, start, []
            for relation in chain:
                phrase = relation.phrase.format(phrase)
                evidence.append(known.page[at])
                at = known.facts[at, relation.name]
            source: dict[str, Any] = {"corpus": {"split": split, "number": number, "seed": seed}, "evidence": evidence}
            parent, operator = (f"{root}@r{number - 1}", "hop") if number else ("", "")
            prompt = _ASKED.format(phrase)
            found.append(
                Question(
                    f"{root}@r{number}/{variant}", root, parent, operator, seed, number, "search", prompt, at, source
                )
            )
    return found
