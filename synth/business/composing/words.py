"""English for composed businesses: articles, plurals, templates whose words a business fills in, names for tools."""

from __future__ import annotations

import re

_ONSETS = ("eu", "one", "uni", "use", "usu", "uti")  # vowel letters that sound like consonants: "a European", "a unit"
_SILENT = ("hour", "heir", "honour", "honest")
_IRREGULAR = {"person": "people", "child": "children", "piece of music": "pieces of music", "scarf": "scarves",
              "half": "halves", "shelf": "shelves", "staff": "staff", "equipment": "equipment", "series": "series",
              "knife": "knives", "foot": "feet", "man": "men", "woman": "women", "mouse": "mice", "leaf": "leaves",
              "premises": "premises", "sheet music": "sheet music", "diet food": "diet foods",
              "loaf": "loaves"}  # fmt: skip


def article(noun: str) -> str:
    """The noun with "a" or "an" in front."""
    low = noun.lower()
    vowel = low[:1] in tuple("aeiou") and not low.startswith(_ONSETS) or low.startswith(_SILENT)
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a noun phrase, whose last word changes ("keeper of bees" is not asked for)."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    head, space, last = noun.rpartition(" ")
    for ending, many in _IRREGULAR.items():
        if last == ending or (last.endswith(ending) and ending in ("man", "woman", "shelf", "leaf")):
            return f"{head}{space}{last.removesuffix(ending)}{many}"
    for between in (" of ", " for ", " in "):
        if between in noun:
            first, _, rest = noun.partition(between)
            return f"{plural(first)}{between}{rest}"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def upper(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def snake(text: str) -> str:
    """The text as a lower-case identifier: "short-notice charge" -> "short_notice_charge"."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("'s", "").replace("'", "")).strip("_")


def fill(text: str, words: dict[str, str]) -> str:
    """The text with every {word} that is known replaced; {it} and {value} are kept for later."""
    return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), text)


def forms(key: str, noun: str, many: str = "") -> dict[str, str]:
    """The words that templates may use for a noun: {key}, {keys}, {a_key} and the same with a capital letter."""
    found = {key: noun, f"{key}s": many or plural(noun), f"a_{key}": article(noun)}
    return found | {upper(name): upper(said) for name, said in found.items()}


def options(text: str, words: dict[str, str]) -> list[tuple[str, str]]:
    """(name, label) of each entry of a list like "due_on=due date, deposit_cents": a label follows from the name."""
    found = []
    for entry in text.split(","):
        name, _, label = entry.strip().partition("=")
        name = snake(fill(name, {key: snake(said) for key, said in words.items()}))
        found.append((name, fill(label, words) if label else plain(name)))
    return found


def plain(name: str) -> str:
    """A field name in words: "deposit_cents" -> "deposit"."""
    return name.removesuffix("_cents").replace("_", " ")
