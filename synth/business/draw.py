"""Draws what records hold: names, addresses, identifiers, dates, amounts, nested objects and lists."""

from __future__ import annotations

import random
import string
from typing import Any

from synth.business.paths import day
from synth.business.schema import Business, Collection, Field, item_of

_SURNAMES = (
    "Adeyemi Almeida Andersen Bakker Bianchi Brandt Castellano Chowdhury Clarke Costa Dahl Delgado Eriksen Farrell "
    "Fischer Fontaine Garrido Haddad Hansen Hughes Ibrahim Jansen Kaminski Kapoor Keller Kovac Larsen Lindqvist Lopez "
    "Marino Mbeki Meyer Moreau Nakamura Novak Nowak Okafor Oliveira Osei Patel Petrov Quigley Ramos Reyes Rossi Sato "
    "Schneider Silva Sokolov Tanaka Tran Ueda Vargas Vogel Walsh Weber Yilmaz Zhang Zielinski"
).split()
_FIRST = (
    "Ada Aisha Alan Amara Anton Beatriz Ben Carla Chloe Colin Daria Dmitri Edith Elif Emeka Farid Fiona Grace Hana "
    "Hugo Ines Ivan Jun Kofi Lars Lena Magda Mateo Mei Nadia Nils Olga Omar Paolo Priya Quinn Rosa Ruth Samir Sven "
    "Tara Theo Uma Viktor Wanda Wen Yara Yusuf Zoe"
).split()
_STREETS = (
    "Alder Beacon Birch Bridge Canal Castle Cedar Chapel Church Dock Elm Fern Forge Garden Grange Green Harbour High "
    "Hill Holly King Lake Lime Maple Market Meadow Mill Oak Orchard Park Pine Quarry Queen River Rose School Spring "
    "Station Tower Union Vale Victoria Water Willow Wood"
).split()
_WAYS = ("Street", "Road", "Lane", "Avenue", "Close", "Way", "Court")
_CITIES = (
    "Ashbourne Brackley Calder Corbridge Dunmore Eastleigh Fairhaven Glenford Harwick Kelso Langport Marlow Newbury "
    "Oakham Petersfield Ripley Selby Thornbury Ullapool Wareham Westbrook Yarrow"
).split()
_MAILS = ("mailbox.example", "post.example", "inbox.example", "letters.example")


def name(rng: random.Random, first: str = "") -> str:
    """A person's name; with `first` as the first name if it is given."""
    return f"{first or rng.choice(_FIRST)} {rng.choice(_SURNAMES)}"


def code(pattern: str, rng: random.Random) -> str:
    """A text after a pattern: # is a digit (the first is not 0), @ a capital letter, everything else itself."""
    text = ""
    for letter in pattern:
        if letter == "#":
            text += rng.choice("123456789" if not text or text[-1] not in string.digits else string.digits)
        else:
            text += rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") if letter == "@" else letter
    return text


def address(rng: random.Random) -> dict[str, str]:
    """An address: street with number, city, postcode."""
    street = f"{rng.randint(1, 180)} {rng.choice(_STREETS)} {rng.choice(_WAYS)}"
    return {"street": street, "city": rng.choice(_CITIES), "postcode": code("@@# #@@", rng)}


def email(person: str, rng: random.Random) -> str:
    """An email address that goes with a person's name."""
    first, last = person.lower().split()[0], person.lower().split()[-1]
    local = rng.choice((f"{first}.{last}", f"{first[0]}{last}", f"{last}{rng.randint(10, 99)}", f"{first}_{last}"))
    return f"{local}@{rng.choice(_MAILS)}"


def value(field: Field, now: str, rng: random.Random, ids: dict[str, list[str]], person: str = "") -> Any:
    """A value of a field.

    Args:
      field: what the field holds.
      now: the task's day; dates are drawn around it.
      rng: draws everything.
      ids: collection -> identifiers that a ref may take. A ref to a collection without one is "".
      person: the name of whom the record is about; "" for none.
    """
    draws = {
        "name": lambda: person or name(rng),
        "email": lambda: email(person or name(rng), rng),
        "phone": lambda: code("07### ######", rng),
        "address": lambda: address(rng),
        "postcode": lambda: code("@@# #@@", rng),
        "time": lambda: f"{rng.randint(8, 17):02d}:{rng.choice(('00', '15', '30', '45'))}",
        "id": lambda: code(field.pattern, rng),
        "digits": lambda: code(field.pattern, rng),
        "text": lambda: rng.choice(field.values),
        "enum": lambda: rng.choice(field.values),
        "flag": lambda: rng.random() < 0.5,
        "integer": lambda: rng.randint(field.low, field.high),
        "cents": lambda: rng.randrange(field.low, field.high + 1, field.step),
        "date": lambda: day(now, rng.randint(field.low, field.high)),
        "ref": lambda: rng.choice(ids[field.to]) if ids.get(field.to) else "",
        "object": lambda: fields(field.fields, now, rng, ids),
        "list": lambda: [value(item_of(field), now, rng, ids) for _ in range(rng.randint(field.min, field.max))],
    }
    if field.optional and rng.random() < 0.4:
        return None
    return draws[field.type]()


def fields(
    described: dict[str, Field], now: str, rng: random.Random, ids: dict[str, list[str]], person: str = ""
) -> dict[str, Any]:
    """A value for every field. Arguments as in `value`."""
    return {key: value(field, now, rng, ids, person) for key, field in described.items()}


def identifiers(collection: Collection, count: int, rng: random.Random) -> list[str]:
    """`count` different identifiers of a collection. Raises ValueError if its pattern has too few."""
    found: dict[str, None] = {}
    for _ in range(1000 * count):
        if len(found) == count:
            return list(found)
        found[code(collection.id, rng)] = None
    raise ValueError(f"identifiers like {collection.id!r} do not suffice for {count}")


def now(rng: random.Random) -> str:
    """The day and time of a task, "2026-03-12 10:20"; a weekday is not asked for."""
    return f"{day('2026-01-05', rng.randint(0, 700))} {rng.randint(9, 16):02d}:{rng.choice(('05', '20', '35', '50'))}"


def record(b: Business, kind: str, key: str, now: str, rng: random.Random, ids: dict[str, list[str]], person: str = ""):
    """A record of a kind with the given identifier; the arguments as in `value`."""
    collection = b.collections[b.of_kind[kind]]
    return {collection.key: key, **fields(collection.fields, now, rng, ids, person)}
