"""Phrases with alternatives and gaps, looked up at each place of a sentence.

A pattern is a line of words: "a|b" either word, "(a)" may be left out, ".." up to five words of one clause, ".n" up to
n words, "=a" the word itself and not its other forms, "^" the sentence's start (fillers may stand before), "$" its end.
Words are compared by stem. Between two words of a pattern, fillers ("the", "please") are skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from envs.hearing import tokens as tk

FILLERS = frozenset(
    "the a an your my our his her this that these those any please just also then now still exactly again quickly "
    "currently there so right well simply ' ( )".split()
) | {'"'}
# before a sentence's first word
OPENERS = FILLERS | frozenset(
    "and , - – — ! : great ok thanks thank perfect sure lovely alright hi hello and but oh ah no yes understood "
    "got it noted brilliant super cool fine to you for certainly of course absolutely".split()
)
GAP = 5
# what a gap does not go over
_STOPS = frozenset(
    ". ; : , ? ! – — and or but no with without at if because when while unless whether that which".split()
)


_FOR = frozenset("you me us".split())


def _next(tokens: list[tk.Token], at: int) -> tuple[str, ...]:
    return (tokens[at + 1].word,) if at + 1 < len(tokens) else ()


class Match(NamedTuple):
    """One pattern found at tokens start to end (exclusive); weight: how many words of the pattern it has."""

    start: int
    end: int
    label: Any
    weight: int


def _compiled(pattern: str) -> Iterable[tuple]:
    """The element tuples of a pattern, one for each choice of what may be left out."""
    choices: list[tuple[str | None, ...]] = []
    for piece in pattern.split():
        if piece.startswith("(") and piece.endswith(")"):
            choices.append((piece[1:-1], None))
        else:
            choices.append((piece,))
    for chosen in itertools.product(*choices):
        yield tuple(_element(piece) for piece in chosen if piece is not None)


def _element(piece: str) -> Any:
    if piece == "..":
        return GAP
    if piece[0] == "." and piece[1:].isdigit():
        return int(piece[1:])
    if piece in ("^", "$"):
        return piece
    words = []
    for word in piece.split("|"):
        exact = word.startswith("=") and len(word) > 1
        word = tk.fold(word[1:] if exact else word)
        words.append("=" + word if exact or word.isdigit() else tk.expanded(word)[0][1] if word[0].isalpha() else word)
    return frozenset(words)


class Matcher:
    """Patterns by their first word. Looking them up in a sentence takes time linear in its tokens."""

    def __init__(self, patterns: Iterable[tuple[str, Any]]):
        # first word -> (elements, label, the last element's words or None if it is the first)
        self._first: dict[str, list[tuple[tuple, Any, frozenset[str] | None]]] = {}
        self._anchored: dict[str, list[tuple[tuple, Any, frozenset[str] | None]]] = {}
        for pattern, label in patterns:
            for elements in _compiled(pattern):
                into = self._first
                if elements and elements[0] == "^":
                    elements, into = elements[1:], self._anchored
                if not elements or not isinstance(elements[0], frozenset):
                    raise ValueError(f"a pattern starts with a word: {pattern!r}")
                words = [element for element in elements if isinstance(element, frozenset)]
                last = words[-1] if len(words) > 1 else None
                for word in elements[0]:
                    entry = into.setdefault(word, [])
                    if (elements, label, last) not in entry:
                        entry.append((elements, label, last))

    def find(self, tokens: list[tk.Token]) -> list[Match]:
        """All matches, in order of their start; at one start of one label only the one with most words."""
        found: list[Match] = []
        opening = True
        present = {token.stem for token in tokens}
        present.update("=" + token.word for token in tokens)
        for at, token in enumerate(tokens):
            best: dict[Any, Match] = {}
            tables = (self._first, self._anchored) if opening else (self._first,)
            for table in tables:
                for key in (token.stem, "=" + token.word):
                    for elements, label, last in table.get(key, ()):
                        if last is not None and last.isdisjoint(present):
                            continue
                        end = self._ends(elements, tokens, at)
                        if end and (label not in best or len(elements) > best[label].weight):
                            best[label] = Match(at, end, label, len(elements))
            found.extend(best.values())
            if token.word not in OPENERS:
                opening = False
        return found

    @staticmethod
    def _ends(elements: tuple, tokens: list[tk.Token], at: int) -> int:
        """Where the pattern that begins at token `at` ends (exclusive); 0: it does not stand there."""
        place, gap = at, 0
        for element in elements:
            if isinstance(element, int):
                gap = element
                continue
            if element == "$":
                while place < len(tokens) and (tokens[place].kind == "mark" or tokens[place].word in FILLERS):
                    place += 1
                if place < len(tokens):
                    return 0
                continue
            skipped = 0
            while True:
                if place >= len(tokens):
                    return 0
                token = tokens[place]
                if token.stem in element or "=" + token.word in element:
                    break
                if token.word in FILLERS:
                    place += 1
                    continue
                if (
                    skipped >= gap
                    or token.word in _STOPS
                    or token.word == "for"
                    and _FOR.isdisjoint(_next(tokens, place))
                ):
                    return 0
                skipped += 1
                place += 1
            place += 1
            gap = 0
        return place
