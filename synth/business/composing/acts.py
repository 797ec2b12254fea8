"""The writes of composed businesses: arguments, effects and wording, from parts/actions.json and the archetypes."""

from __future__ import annotations

import dataclasses
import random
import re

from synth.business.composing import amounts, elements, names
from synth.business.composing import words as english
from synth.business.composing.around import Linked, People
from synth.business.composing.draft import Draft
from synth.business.composing.elements import Data, Fact
from synth.business.composing.record import Plan

_CHARGED = ("It adds the {arg} to the {balance} of the {holder}.",
            "The {arg} is added to the {balance} of the {holder}.",
            "The {holder}'s {balance} rises by the {arg}.")  # fmt: skip
_TOTALS = {
    "refund": "refunded_cents=refunded amount, credited_cents=credited amount, paid_back_cents=amount paid back",
    "fee": "billed_cents=billed amount, charged_cents=amount charged so far, extras_cents=sum of extras",
}
_KITS = 2  # different things, at most, that customers are asked beside the slots, so that the record stays small
_METHODS = ("payment_method_id", "payment_method", "method_to_charge", "billing_method", "paying_method")
# A detail that begins so is added to the wish, which therefore must not name the detail already.
_JOINED = ("at", "by", "for", "from", "in", "into", "on", "to", "until", "with")
_OPEN = re.compile(
    r"\b(another|different|differently|other|later|longer|new|dates?|day|end|deadline|elsewhere|address|somewhere"
    r"|something|some|extra|next)\b"
)


def choose(d: Draft) -> dict[str, Data]:
    """The entries of five to seven actions, by key: of the archetype, and some of those that all share."""
    rng, own, shared = d.rng, d.archetype["actions"], elements.part("actions")["generic"]
    generic = [key for key in d.archetype["generic"] if not (key == "place" and d.link_type == "site")]
    keys = rng.sample(sorted(own), rng.randint(3, 5)) + rng.sample(generic, rng.randint(1, 2))
    missing = [key for key in [*sorted(own), *generic] if key not in keys]
    keys += rng.sample(missing, max(0, 5 - len(keys)))
    rng.shuffle(keys)
    return {key: own.get(key) or shared[key] for key in keys}


@dataclasses.dataclass
class Setting:
    """What the actions of one business share.

    totals: use of an amount -> where it is added: (on, path, label). method: the argument for a payment method, stored
    at `paid_from` of the record; "" for none. fields: those of the main record, to which further ones may be added.
    style: of the tools' names. used: words of formulas, gerunds, verbs, wishes and families that other actions have.
    """

    plan: Plan
    people: People
    link: Linked
    fields: Data
    totals: dict[str, tuple[str, str, str]]
    method: str
    paid_from: str
    style: dict[str, str]
    kits: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    used: set[str] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, d: Draft, p: Plan, people: People, link: Linked, chosen: dict[str, Data], fields: Data) -> Setting:
        """Draws it. chosen: the entries of the actions."""
        rng, uses = d.rng, {act["money"]["use"] for act in chosen.values()}
        owing, owed = (("owner", fact.name, fact.label) for fact in (people.balance, people.credit))
        totals = {"fee": owing, "price": owing, "refund": owed}
        p.taken |= {*fields}
        for use, several in _TOTALS.items():
            if use in uses and rng.random() < 0.5:
                fact = d.fact({"key": use, "type": "cents", "names": several, "share": [0, 0.1]}, p.taken)
                fields[fact.name] = fact.field
                totals[use] = ("record", fact.name, fact.label)
        paid_from = rng.choice(("paid_from", "last_paid_from", "charged_method")) if rng.random() < 0.5 else ""
        if paid_from:
            fields[paid_from] = {"type": "id", "pattern": people.methods[2]}
        return cls(p, people, link, fields, totals, rng.choice(_METHODS), paid_from, names.style(rng))


def actions(d: Draft, chosen: dict[str, Data], setting: Setting, taken: set[str]) -> Data:
    """The actions of a business. taken: names of tools that there are."""
    taken |= {f"get_{kind}" for kind in (d.record, d.owner, d.link)}
    found = {}
    for key, spec in chosen.items():
        tool = names.tool(spec, setting.style, d.words, taken, d.rng)
        found[key] = {"tool": tool, **_action(d, spec, setting)}
        _speak(d, spec, found[key], setting.used)
    return found


def _action(d: Draft, spec: Data, setting: Setting) -> Data:
    """An action without its tool and without what people call it."""
    rng, plan, use = d.rng, setting.plan, spec["money"]["use"]
    more = _further(d, spec, setting) if rng.random() < 0.3 else None
    taken = {more[0]} if more else set()
    slot, wanted = _argument(d, spec["slot"], plan.facts, taken)
    formula = _formula(d, spec, setting)
    on, path, balance = setting.totals[use]
    amount = _amount(d, spec["money"], formula, {fact.name for fact in plan.present.values()} | {path, *taken})
    label = english.plain(amount)
    case = {"comes": "case", "describe": f"{english.upper(label)} in cents: {formula['words']}.", "formula": formula}
    arguments: list[tuple[str, Data]] = [(slot, wanted), *([more[:2]] if more else [])]
    arguments.insert(rng.randint(0, len(arguments)), (amount, case))
    effects: list[Data] = [
        {"op": "set", "path": plan.facts[key].path, "value": f"${slot}" if value == "$slot" else value}
        for key, value in spec["set"]
    ]
    effects += [{"op": "set", "path": more[2], "value": f"${more[0]}"}] if more else []
    event, day, detail = plan.log[1]
    entry = {event: d.fill(rng.choice(spec["ev"])), day: "$now"}
    entry |= {detail: f"${slot}"} if wanted["type"] in ("date", "enum", "text") else {}
    effects.append({"op": "append", "path": plan.log[0], "value": entry})
    effects.append({"op": "add", "path": path, "value": f"${amount}", "on": on})
    holder = d.words["owner" if on == "owner" else "record"]
    doc = [d.fill(rng.choice(spec["doc"])), rng.choice(_CHARGED).format(arg=label, balance=balance, holder=holder)]
    if setting.paid_from and use != "refund" and len(arguments) < 4 and rng.random() < 0.4:
        where, taking, _ = setting.people.methods
        first = f"the first entry under {english.plain(where)} on the {d.words['owner']} record"
        pick = {"op": "pick", "path": f"{d.owner}.{where}", "take": taking, "words": first}
        told = f"Identifier ({taking}) of {first}."
        arguments.append((setting.method, {"comes": "case", "describe": told, "formula": pick}))
        effects.append({"op": "set", "path": setting.paid_from, "value": f"${setting.method}"})
    allowance = setting.link.allowance
    if allowance and use == "fee" and rng.random() < 0.25:
        effects.append({"op": "add", "path": allowance.path, "value": -1, "on": "link"})
        doc.append(f"It takes one off the {allowance.label} of the {d.words['link']}.")
    if len(arguments) < 5 and rng.random() < 0.45:
        arguments.append(_free(d))
    key = rng.choice((f"{d.record}_id", f"{d.record}_id", f"{d.record}_ref", d.record))
    about = f"Identifier of the {d.words['record']}{rng.choice((', as in our system', ' that it is about', ''))}."
    args = dict([(key, {"comes": "record", "describe": about}), *arguments])
    return {"describe": " ".join(doc), "args": args, "slot": slot, "effects": effects}


def _formula(d: Draft, spec: Data, setting: Setting) -> Data:
    """A formula for an action's amount, if possible one that no other action has. It reads nothing the action sets."""
    barred = {f"{d.record}.{setting.plan.facts[key].path}" for key, _ in spec["set"]}
    several = amounts.formulas(d, setting.plan, spec["money"]["use"], setting.link.fee)
    several = [formula for formula in several if formula["path"] not in barred]
    found = next((formula for formula in several if formula["words"] not in setting.used), several[0])
    setting.used.add(found["words"])
    return found


def _amount(d: Draft, money: Data, formula: Data, taken: set[str]) -> str:
    """A name for an action's amount: none that is taken, or that the formula's words have."""
    several = [name for name, _ in english.options(", ".join(money["names"]), d.words)]
    several = [amounts.called(name, money["use"], d.rng) for name in d.rng.sample(several, len(several))]
    free = [name for name in several if name not in taken and english.plain(name) not in formula["words"]]
    return free[0] if free else "amount_cents"


def _further(d: Draft, spec: Data, setting: Setting) -> tuple[str, Data, str] | None:
    """(name, argument, path) of something else that only the customer knows, for which the record gets a field.

    None where the record has as many of these as it may have, and none of them suits the action.
    """
    suited = list(spec.get("also", ("proof", "colleague", "pay")))
    if spec["money"]["use"] == "refund" and "pay" in suited:
        suited.remove("pay")
    if len(setting.kits) == _KITS:
        suited = [key for key in suited if key in setting.kits]
    if not suited:
        return None
    key = d.rng.choice(suited)
    kit = elements.part("actions")["also"][key]
    if key not in setting.kits:
        free = [option for option in english.options(kit["names"], d.words) if option[0] not in setting.plan.taken]
        setting.kits[key] = d.rng.choice(free or [(f"{key}_wanted", key)])
        setting.plan.taken.add(setting.kits[key][0])
        setting.fields[setting.kits[key][0]] = kit.get("field") or {"type": "enum", "values": kit["hold"]}
    name, label = setting.kits[key]
    given, argument = _argument(d, {**kit, "n": name}, {}, set(), label=label)
    return given, argument, name


def _argument(d: Draft, spec: Data, facts: dict[str, Fact], taken: set[str], **more: str) -> tuple[str, Data]:
    """(name, argument) of something that only the customer knows; the name is added to `taken`."""
    several = [name for name, _ in english.options(spec["n"], d.words)]
    name = next((n for n in d.rng.sample(several, len(several)) if n not in taken), f"{several[0]}_wanted")
    taken.add(name)
    told = {key: [d.fill(said, **more) for said in spec[key]] for key in ("fact", "says")}
    describe = d.fill(d.rng.choice(spec["describe"]))
    return name, {"comes": "user", "describe": describe, **_domain(spec, facts, d.rng), **told}


def _domain(spec: Data, facts: dict[str, Fact], rng: random.Random) -> Data:
    """What a customer may want: never what a record holds at reset."""
    if "date_of" in spec:
        first = facts[spec["date_of"]].high + rng.randint(2, 6)
        return {"type": "date", "from": first, "to": first + rng.randint(16, 40)}
    if "int_of" in spec:
        high = facts[spec["int_of"]].high
        return {"type": "integer", "from": high + 1, "to": high + max(4, high // 4)}
    if "address" in spec:
        return {"type": "address"}
    if texts := spec.get("text") or spec.get("values"):
        return {"type": "text", "values": rng.sample(texts, min(5, len(texts)))}
    told = facts[spec["enum_of"]].offer if "enum_of" in spec else spec["enum"]
    told = {key: told[key] for key in rng.sample(sorted(told), min(len(told), rng.randint(4, 5)))}
    return {"type": "enum", "values": list(told), "told": told}


def _free(d: Draft) -> tuple[str, Data]:
    """An optional argument that changes nothing."""
    spec = d.rng.choice(elements.part("actions")["free"])
    values = spec.get("values", [])
    return d.pick(spec["n"]), {
        "comes": "free",
        "type": spec["type"],
        "values": values,
        "describe": d.fill(spec["describe"]),
    }


def _speak(d: Draft, spec: Data, found: Data, used: set[str]) -> None:
    """Adds what people call an action; what other actions are called is in `used`."""
    for key, source, least, most in (("gerund", "ger", 2, 3), ("verbs", "verbs", 3, 5), ("wants", "wants", 9, 9)):
        texts = [text for text in dict.fromkeys(map(d.fill, spec[source])) if text not in used]
        found[key] = d.rng.sample(texts, min(len(texts), d.rng.randint(least, most)))
        used.update(found[key])
    found["gerund"].sort(key=lambda text: not text.split()[0].endswith("ing"))  # the first is said of amounts
    slot = found["args"][found["slot"]]
    found["wants"], slot["says"] = _fitting(found["wants"], slot["says"])
    family = "" if spec.get("nofam") else spec.get("fam", "")
    found["family"] = "" if f"family {family}" in used else family
    used.add(f"family {family}")


def _fitting(wants: list[str], says: list[str]) -> tuple[list[str], list[str]]:
    """Wishes and ways to give the detail, each of which goes with each: "on another day until 5 May" would not."""
    joined = [said for said in says if said.split()[0] in _JOINED]
    plain = [want for want in wants if not _OPEN.search(want)]
    if not joined or len(plain) == len(wants):
        return wants, says
    if len(plain) >= 6:
        return plain, says
    return wants, [said for said in says if said not in joined]
