"""The writes of composed businesses: names of tools, arguments, amounts and effects, drawn from parts/actions.json and
the archetypes."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from synth.business import elements
from synth.business import words as english
from synth.business.elements import Data, Fact

_STYLES = ("verb_record", "record_verb", "verb_aspect", "request_noun", "record_noun", "update_aspect", "space_verb",
           "verb_record_aspect", "plural_verb", "noun_request", "noun_for_record", "aspect_verb")  # fmt: skip
_REQUESTS = ("submit", "file", "enter", "create", "process", "record", "post", "issue", "log", "register")
_UPDATES = ("update", "set", "edit", "amend", "modify", "adjust", "write", "save")
_SPACES = ("desk", "office", "admin", "core", "backoffice", "svc", "front", "ops")
_TAILS = ("request", "entry", "order_form", "action", "task", "job")
_CHARGES = ("It adds the {arg} to the {owner}'s {balance}.", "The {arg} is added to the {balance} of the {owner}.",
            "The {owner}'s {balance} rises by the {arg}.")  # fmt: skip
_BILLS = ("The {arg} is added to the {balance} of the {record}.", "It adds the {arg} to the {balance}.",
          "The {balance} of the {record} rises by the {arg}.")  # fmt: skip
_TAILED = ("fee", "charge", "surcharge", "premium", "difference", "price", "total", "amount", "refund", "payout", "deposit",
           "share", "rate", "payment", "compensation", "reduction", "allowance", "adjustment", "prepayment", "credit",
           "sum", "penalty", "fine", "cost", "costs", "levy", "postage")  # fmt: skip
_UNIT_CENTS = (25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1000, 1500, 2000, 2500, 5000)


@dataclasses.dataclass
class Setting:
    """What the actions of one business share.

    words: for templates. facts: of the main record, by key, with everything that formulas may read. link_fee: the fee on
    the linked record, or None. owing, owed: field names of the owner ("owner") or the record ("record") to which charges
    and refunds are added, as (on, path, label). log: path of the history and the keys of its entries. methods: path of
    the payment methods on the owner, their label and the key of an entry. paid_from: field for the method used.
    """

    words: dict[str, str]
    facts: dict[str, Fact]
    lines: Data
    link_fee: Fact | None
    owing: tuple[str, str, str]
    owed: tuple[str, str, str]
    log: tuple[str, list[str]]
    methods: tuple[str, str, str]
    paid_from: str
    allowance: Fact | None
    price: int
    kinds: tuple[str, str, str]
    used: set[str] = dataclasses.field(default_factory=set)


def style(rng: random.Random) -> dict[str, str]:
    """How a business names its tools."""
    return {"style": rng.choice(_STYLES), "request": rng.choice(_REQUESTS), "update": rng.choice(_UPDATES),
            "space": rng.choice(_SPACES), "tail": rng.choice(_TAILS)}  # fmt: skip


def tool(spec: Data, named: dict[str, str], words: dict[str, str], taken: set[str], rng: random.Random) -> str:
    """A name for the tool of an action that no other tool has."""
    snake = {key: english.snake(said) for key, said in words.items()}
    record, records = snake["record"], snake["records"]
    for _ in range(60):
        verb, aspect, noun = (rng.choice(spec[key]) for key in ("tv", "asp", "nom"))
        verb, aspect, noun = (english.snake(english.fill(text, snake)) for text in (verb, aspect, noun))
        tail = f"_{aspect}" if spec.get("always") and aspect != record else ""
        own = aspect if aspect != record else noun
        name = {
            "verb_record": f"{verb}_{record}{tail}",
            "record_verb": f"{record}{tail}_{verb}",
            "verb_aspect": f"{verb}_{own}" if own != noun else f"{verb}_{record}",
            "request_noun": f"{named['request']}_{noun}",
            "record_noun": f"{record}_{noun}",
            "update_aspect": f"{named['update']}_{record}_{own}",
            "space_verb": f"{named['space']}_{verb}_{own if tail else record}",
            "verb_record_aspect": f"{verb}_{record}_{own}" if own != noun else f"{verb}_{record}",
            "plural_verb": f"{records}_{verb}{tail}",
            "noun_request": f"{noun}_{named['tail']}",
            "noun_for_record": f"{noun}_for_{record}",
            "aspect_verb": f"{own}_{verb}" if own != noun else f"{record}_{verb}",
        }[named["style"]]
        parts = name.split("_")
        if name not in taken and all(a != b for a, b in zip(parts, parts[1:])):
            break
        name = f"{name}_{english.snake(rng.choice(spec['asp']).strip('{}'))}"
        if name not in taken and rng.random() < 0.1:
            break
    taken.add(name)
    return name


def formulas(use: str, setting: Setting, barred: set[str], rng: random.Random) -> list[Data]:
    """Formulas that an amount may follow from, in random order. use: "fee", "refund" or "price"."""
    record, owner, link = setting.kinds
    facts, lines, words = setting.facts, setting.lines, setting.words
    price, fee, units, date = (facts.get(key) for key in ("price", "fee", "units", "date"))
    noun, total = words["record"], f"the sum of the prices of all {words['lines']}"
    each = [size for size in _UNIT_CENTS if setting.price // 400 <= size <= max(100, setting.price // 20)]
    found: list[Data] = []

    def add(op: str, path: str, words: str, number: int = 0) -> None:
        found.append({"op": op, "path": path, "number": number, "words": words})

    def percent(path: str, of: str, choices: tuple[int, ...]) -> None:
        for number in rng.sample(choices, 2):
            add("percent", path, f"{number} percent of {of}, rounded down to the cent", number)

    if use == "refund":
        if lines:
            add("sum", f"{record}.{lines['path']}", total)
            percent(f"{record}.{lines['path']}", total, (50, 60, 75, 80, 90))
        if price:
            add("path", f"{record}.{price.path}", f"the {price.label} on the {noun} record")
            percent(f"{record}.{price.path}", f"the {price.label}", (30, 40, 50, 60, 75, 80, 90))
    elif use == "price":
        if price:
            add("path", f"{record}.{price.path}", f"the {price.label} on the {noun} record, as before")
            percent(f"{record}.{price.path}", f"the {price.label}", (70, 75, 80, 85, 90, 95))
        if lines:
            percent(f"{record}.{lines['path']}", total, (85, 90, 95))
    else:
        if fee:
            add("path", f"{record}.{fee.path}", f"the {fee.label} on the {noun} record")
            number = rng.choice((2, 3, 4))
            several = {2: "twice", 3: "three times", 4: "four times"}[number]
            add("times", f"{record}.{fee.path}", f"{several} the {fee.label} on the {noun} record", number)
        if price:
            percent(f"{record}.{price.path}", f"the {price.label}", (2, 3, 4, 5, 8, 10, 12, 15, 20, 25))
        if units:
            number = rng.choice(each)
            add("times", f"{record}.{units.path}", f"{money(number)} for each {words['unit']} on the record", number)
        for counted in (f for f in facts.values() if f.spec.get("role") == "count"):
            number = rng.choice([size for size in each if size <= 500] or [100])
            add(
                "times",
                f"{record}.{counted.path}",
                f"{money(number)} for each {counted.spec['unit']} on the record",
                number,
            )
        if lines:
            number = rng.choice(each)
            add("times", f"{record}.{lines['list']}", f"{money(number)} for each {words['line']} listed", number)
            percent(f"{record}.{lines['path']}", total, (5, 8, 10, 15))
        if date and date.low >= 0:
            number = rng.choice([size for size in each if size <= 1000] or [100])
            add(
                "days",
                f"{record}.{date.path}",
                f"{money(number)} for each day from today until the {date.label}",
                number,
            )
        if setting.link_fee:
            fee = setting.link_fee
            add("path", f"{link}.{fee.path}", f"the {fee.label} on the {words['link']} record")
    rng.shuffle(found)
    return [formula for formula in found if formula["path"] not in barred]


def money(amount: int) -> str:
    """An amount as manuals write it: 250 -> "$2.50"."""
    return f"${amount // 100}.{amount % 100:02d}"


def values(told: dict[str, str], rng: random.Random, count: int) -> dict[str, str]:
    """Some of the values that a customer may want, with how each is said."""
    return {key: told[key] for key in rng.sample(sorted(told), min(len(told), count))}


def user_argument(spec: Data, setting: Setting, rng: random.Random) -> Data:
    """An argument that only the customer knows, without its describe text, fact and says."""
    facts = setting.facts
    if "date_of" in spec:
        last = facts[spec["date_of"]].high
        first = last + rng.randint(2, 6)
        return {"type": "date", "from": first, "to": first + rng.randint(16, 40)}
    if "int_of" in spec:
        high = facts[spec["int_of"]].high
        span = max(4, high // 4)
        return {"type": "integer", "from": high + 1, "to": high + span}
    if "address" in spec:
        return {"type": "address"}
    if "text" in spec:
        return {"type": "text", "values": rng.sample(spec["text"], min(5, len(spec["text"])))}
    told = values(facts[spec["enum_of"]].offer if "enum_of" in spec else spec["enum"], rng, rng.randint(4, 5))
    return {"type": "enum", "values": list(told), "told": told}


def argument(spec: Data, setting: Setting, taken: set[str], rng: random.Random) -> tuple[str, Data]:
    """(name, argument) of something that only the customer knows; the name is added to `taken`."""
    names = [name for name, _ in english.options(spec["n"], setting.words)]
    name = next((n for n in rng.sample(names, len(names)) if n not in taken), f"{names[0]}_{len(taken)}")
    taken.add(name)
    told = {key: [english.fill(said, setting.words) for said in spec[key]] for key in ("fact", "says")}
    describe = english.fill(rng.choice(spec["describe"]), setting.words)
    return name, {"comes": "user", "describe": describe, **user_argument(spec, setting, rng), **told}


def action(spec: Data, name: str, also: list[tuple[str, Data, str]], setting: Setting, rng: random.Random) -> Data:
    """An action of a business.

    Args:
      spec: its entry in parts/.
      name: of its tool.
      also: further arguments that only the customer knows, as (name, argument, path that it is stored at).
      setting: the business.
      rng: draws everything.
    """
    words, taken = setting.words, {entry[0] for entry in also}
    record, owner, _ = setting.kinds
    slot, wanted = argument(spec["slot"], setting, taken, rng)
    use = spec["money"]["use"]
    barred = {f"{record}.{setting.facts[key].path}" for key, _ in spec["set"]}
    choices = [f for f in formulas(use, setting, barred, rng) if f["words"] not in setting.used]
    formula = choices[0] if choices else formulas(use, setting, barred, rng)[0]
    setting.used.add(formula["words"])
    on, path, balance = setting.owing if use != "refund" else setting.owed
    names = [_sum(n, use, rng) for n, _ in english.options(", ".join(spec["money"]["names"]), words)]
    paths = {fact.name for fact in setting.facts.values()} | {balance, *taken}
    amount = next((n for n in rng.sample(names, len(names)) if n not in paths and english.plain(n) not in formula["words"]),
                  "amount_cents")  # fmt: skip
    label = english.plain(amount)
    examples = f"Identifier of the {words['record']}{rng.choice((', as in our system', ' that it is about', ''))}."
    key = rng.choice((f"{record}_id", f"{record}_id", f"{record}_ref", record))
    parts: list[tuple[str, Data]] = [(slot, wanted), *((n, a) for n, a, _ in also)]
    case = {"comes": "case", "describe": f"{english.upper(label)} in cents: {formula['words']}.", "formula": formula}
    parts.insert(rng.randint(0, len(parts)), (amount, case))
    event, day, detail = setting.log[1]
    entry = {event: english.fill(rng.choice(spec["ev"]), words), day: "$now"}
    if wanted["type"] in ("date", "enum", "text"):
        entry[detail] = f"${slot}"
    effects: list[Data] = []
    for key_of, value in spec["set"]:
        target = setting.facts[key_of].path
        effects.append({"op": "set", "path": target, "value": f"${slot}" if value == "$slot" else value})
    effects += [{"op": "set", "path": place, "value": f"${n}"} for n, _, place in also]
    effects.append({"op": "append", "path": setting.log[0], "value": entry})
    effects.append({"op": "add", "path": path, "value": f"${amount}", "on": on})
    doc = [english.fill(rng.choice(spec["doc"]), words)]
    told = english.fill(rng.choice(_CHARGES if on == "owner" else _BILLS), words)
    doc.append(told.replace("{arg}", label).replace("{balance}", balance))
    if setting.paid_from and use != "refund" and len(parts) < 4 and rng.random() < 0.4:
        method = rng.choice(
            ("payment_method_id", "payment_method", "method_to_charge", "billing_method", "charged_method")
        )
        where, many, take = setting.methods
        first = f"the first entry under {many} on the {words['owner']} record"
        pick = {"op": "pick", "path": f"{owner}.{where}", "take": take, "words": first}
        parts.append((method, {"comes": "case", "describe": f"Identifier ({take}) of {first}.", "formula": pick}))
        effects.append({"op": "set", "path": setting.paid_from, "value": f"${method}"})
    if setting.allowance and use == "fee" and rng.random() < 0.25:
        effects.append({"op": "add", "path": setting.allowance.path, "value": -1, "on": "link"})
        doc.append(f"It takes one off the {setting.allowance.label} of the {words['link']}.")
    if len(parts) < 5 and rng.random() < 0.45:
        free = rng.choice(elements.part("actions")["free"])
        given = rng.choice([n.strip() for n in free["n"].split(",")])
        described = english.fill(free["describe"], words)
        parts.append(
            (given, {"comes": "free", "type": free["type"], "values": free.get("values", []), "describe": described})
        )
    return {
        "tool": name,
        "describe": " ".join(doc),
        "gerund": [],
        "verbs": [],
        "wants": [],
        "args": dict([(key, {"comes": "record", "describe": examples}), *parts]),
        "slot": slot,
        "effects": effects,
    }


def _sum(name: str, use: str, rng: random.Random) -> str:
    """The name of an amount, such that it reads as one: "copy_cents" -> "copy_fee_cents"."""
    stem = name.removesuffix("_cents")
    if stem.split("_")[-1] in _TAILED:
        return name
    return (
        f"{stem}_{rng.choice({'fee': ('fee', 'charge'), 'refund': ('amount', 'sum'), 'price': ('price',)}[use])}_cents"
    )


def said(spec: Data, found: Data, words: dict[str, str], used: dict[str, set[str]], rng: random.Random) -> None:
    """Adds what people call an action. used: gerunds, verbs and families that other actions of the business have."""
    for key, least, most in (("gerund", 2, 3), ("verbs", 3, 5), ("wants", 6, 8)):
        texts = [english.fill(text, words) for text in spec["ger" if key == "gerund" else key]]
        texts = [text for text in dict.fromkeys(texts) if text not in used[key]]
        chosen: list[Any] = rng.sample(texts, min(len(texts), rng.randint(least, most)))
        used[key].update(chosen)
        found[key] = chosen
    family = spec.get("fam", "") if not spec.get("nofam") else ""
    found["family"] = "" if family in used["family"] else family
    used["family"].add(family)
