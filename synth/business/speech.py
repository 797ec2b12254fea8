"""What customers say: how they name values and records, what they know, and how they open a conversation.

Customers do not know record identifiers. They have names, emails, postcodes, and words for their things.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import re
from typing import Any

from synth.business import clauses
from synth.business.paths import get
from synth.business.schema import Argument, Attribute, Business

_JOINING = frozenset(
    "at because by for from in into on to until with".split()
)  # a detail that begins so is added to the wish
_CLERKS = re.compile(r"\b(records?|recorded|entries|on file|shows|count)\b")  # how the manual speaks, and no customer
_MONTHS = ("January February March April May June July August September October November December").split()


@dataclasses.dataclass(frozen=True)
class Voice:
    """How a customer speaks. Templates are drawn from; `name` is what figures call it.

    openings: {name}; wishes: {want}; closings: none. details: {fact} and {value}. asked: {said}. yes, no, unclear
    ({wish}), meant ({wish}), waiting, unknown, thanks: whole answers. ends: to "anything else?", where there is not.
    """

    name: str
    openings: tuple[str, ...]
    wishes: tuple[str, ...]
    identities: tuple[str, ...]
    closings: tuple[str, ...]
    asked: tuple[str, ...]
    yes: tuple[str, ...]
    no: tuple[str, ...]
    unclear: tuple[str, ...]
    meant: tuple[str, ...]
    waiting: tuple[str, ...]
    unknown: tuple[str, ...]
    more: tuple[str, ...]
    insists: tuple[str, ...]
    pleads: tuple[str, ...]
    ends: tuple[str, ...]


VOICES = (
    Voice(
        "plain",
        ("Hello, my name is {name}.", "Hi, this is {name}.", "Good morning, {name} here.", "Hello, I'm {name}.", "Hi."),
        ("I'd like to {want}.", "I would like to {want}.", "Could you help me {want}?", "I want to {want}.",
         "I'm writing because I need to {want}.", "Is it possible to {want}?"),
        ("My {fact} is {value}.", "You'll find me under the {fact} {value}.", "The {fact} on file is {value}."),
        ("Thanks.", "Thank you.", "Thanks for your help.", "", ""),
        ("{said}.", "Sure: {said}.", "Here you are: {said}."),
        ("Yes, please.", "Yes, go ahead.", "Yes, that's right.", "Yes, that works for me.", "Yes, do that."),
        ("No, I've changed my mind.", "No, please don't.", "No, let's leave it as it is.", "No thanks, leave it."),
        ("Sorry, I don't quite understand. I'd like to {wish}.", "I'm not sure what you mean. I want to {wish}."),
        ("No, I meant something else: I'd like to {wish}.", "No, that's not it. I want to {wish}."),
        ("Okay.", "All right.", "Sure, take your time."),
        ("I'm afraid I don't know that.", "I don't have that to hand, sorry."),
        ("I'd also like to {want}, with the same details.",
         "One more thing: I need to {want}, same details as before."),
        ("But {claim}.", "I'm quite sure that {claim}.", "That can't be right, {claim}."),
        ("Could you make an exception, just this once?", "Is there really nothing you can do?"),
        ("No, that's all, thank you.", "No, that was everything. Thanks for your help.", "That's all, thanks. Bye!"),
    ),
    Voice(
        "terse",
        ("Hi.", "{name} here.", "Hello.", "", ""),
        ("Need to {want}.", "I need to {want}.", "Want to {want}.", "Please help me {want}."),
        ("{fact}: {value}.", "My {fact}: {value}."),
        ("Thx.", "", "", "Cheers."),
        ("{said}", "{said}."),
        ("Yes.", "Yep.", "Yes, do it.", "Ok yes.", "Sure."),
        ("No.", "No, leave it.", "Nope, forget it."),
        ("What? I want to {wish}.", "Don't follow. I want to {wish}."),
        ("No. I said I want to {wish}.", "No, wrong. I want to {wish}."),
        ("Ok.", "Fine.", "Go on."),
        ("Don't know.", "No idea."),
        ("Also need to {want}. Same details.", "Next: I want to {want}, same as before."),
        ("But {claim}.", "No, {claim}."),
        ("Come on, just this once.", "Just do it, please."),
        ("No, that's it.", "Nope, thanks.", "No. Bye."),
    ),
    Voice(
        "chatty",
        ("Hi there, hope you're having a lovely day! I'm {name}.", "Hello hello, {name} speaking, long-time customer!",
         "Good afternoon! My name's {name} and I hope you can help me.", "Hiya, it's {name} again."),
        ("So, the thing is, I was hoping to {want}.", "My sister said I should just ask, so: can I {want}?",
         "You know how it is, plans change, and now I'd love to {want}.", "I was wondering whether I could {want}."),
        ("In case it helps, my {fact} is {value}.", "I think you have me down with the {fact} {value}."),
        ("Thanks so much in advance!", "You're a star.", "Many thanks, and greetings to the team!", "No rush at all."),
        ("Of course: {said}.", "Oh yes, sorry, I should have said: {said}.", "Let me see... {said}."),
        ("Yes please, that would be wonderful.", "Oh yes, absolutely, go ahead.", "Yes, perfect, thank you so much!"),
        ("Hmm, no, on second thoughts I'd rather not.", "Oh, no, then let's leave everything as it is."),
        ("Ah, I'm lost, sorry! All I'd like is to {wish}.", "Goodness, I don't follow. I was hoping to {wish}."),
        ("Oh no, that isn't what I meant! I'd like to {wish}.", "No no, I was after something else: to {wish}."),
        ("Lovely, I'll wait.", "Take all the time you need!", "No problem at all."),
        ("Oh dear, I really couldn't tell you that.", "Hmm, I've no idea, to be honest."),
        ("Oh, and while I have you: I'd love to {want} as well, just the same way.",
         "And before I forget, could I {want} too, with the same details?"),
        ("Oh, but {claim}, I'm certain of it!", "That's odd, because {claim}."),
        ("Oh please, couldn't you bend the rules a tiny bit for me?", "Please, it would mean the world to me."),
        ("No, that was all, you've been lovely! Bye-bye!", "Nothing else, thank you so much, have a great day!"),
    ),
    Voice(
        "cross",
        ("{name} here, and I'm not happy.", "This is the third time I'm writing.", "Look, I've no time for this.",
         "{name}. I hope this goes faster than last time."),
        ("I want to {want}.", "I need to {want}, today.", "For days I've been trying to {want}.",
         "All I want is to {want}."),
        ("My {fact} is {value}, as I've told you people before.", "The {fact} is {value}, you should have it."),
        ("And please be quick.", "", "I'm waiting.", "Don't send me round in circles."),
        ("{said}. Is that so hard to look up?", "{said}.", "For the second time: {said}."),
        ("Yes, obviously.", "Yes. Get on with it.", "Yes, that's what I said.", "Yes, finally."),
        ("No. Forget the whole thing.", "No, not like this. Leave it."),
        ("What is that supposed to mean? I want to {wish}.", "That makes no sense. I want to {wish}."),
        ("No! I want to {wish}. Please read what I write.", "No, that is not what I asked for. I want to {wish}."),
        ("Fine. Hurry up.", "I'm waiting.", "Go on then."),
        ("How should I know?", "I haven't got that."),
        ("I'm not done. I also want to {want}, same details.", "And I want to {want}, the same way."),
        ("Nonsense, {claim}.", "You're wrong, {claim}."),
        ("This is ridiculous. Just do it.", "I've been a customer for years, you can surely do this once."),
        ("No. That was all.", "No, I've spent enough time on this. Goodbye."),
    ),
    Voice(
        "second language",
        ("Hello, I am {name}.", "Good day, my name is {name}.", "Hello please, here is {name}.",
         "Dear team, I am {name}."),
        ("I want please to {want}.", "I would like that I can {want}.", "It is possible for me to {want}?",
         "I have the wish to {want}."),
        ("My {fact} it is {value}.", "You can find me with {fact} {value}."),
        ("Thank you very much.", "I thank you.", "Sorry for my English.", "Please help."),
        ("{said}.", "{said}, please.", "The answer is: {said}."),
        ("Yes, please do so.", "Yes, it is correct.", "Yes, I agree.", "Yes, is good for me."),
        ("No, I do not want it anymore.", "No, please let it stay so."),
        ("I do not understand, sorry. I want to {wish}.", "Please explain, I only want to {wish}."),
        ("No, this I did not mean. I want to {wish}.", "No, it is another thing: I want to {wish}."),
        ("Yes, I wait.", "Okay, thank you.", "It is okay."),
        ("This I do not know.", "Sorry, I have not this information."),
        ("Also I want to {want}, please, all same as before.", "One more: I want to {want}, with same details."),
        ("But it is so that {claim}.", "Excuse me, {claim}."),
        ("Please, I ask you to make exception.", "Please help me, only one time."),
        ("No, it is all. Thank you very much.", "No, nothing more. I thank you for the help."),
    ),
)  # fmt: skip


def spoken(argument: Argument, value: Any, now: str, rng: random.Random) -> str:
    """How a customer says a value of an argument."""
    if argument.type == "date":
        return date(value, now, rng)
    if argument.type == "cents":
        return clauses.money(value).removesuffix(".00") if rng.random() < 0.5 else clauses.money(value)
    if argument.type == "address":
        return f"{value['street']}, {value['city']}, {value['postcode']}"
    if argument.type == "enum":
        return argument.told.get(value, value.replace("_", " "))
    if argument.type == "flag":
        return "yes" if value else "no"
    return str(value)


def date(value: str, now: str, rng: random.Random) -> str:
    """How a customer says an ISO date: "14 March", "March 14", with the year where it is another than now's."""
    day = datetime.date.fromisoformat(value)
    month = _MONTHS[day.month - 1]
    said = rng.choice((f"{day.day} {month}", f"{month} {day.day}", f"the {day.day}{_ordinal(day.day)} of {month}"))
    return said if value[:4] == now[:4] else f"{said} {day.year}"


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def describe(template: str, record: dict[str, Any]) -> str:
    """What a customer calls a record, after a template of `Business.it`."""
    return re.sub(r"\{([^}]*)\}", lambda match: str(get(record, match[1])), template)


def distinct(
    b: Business, records: dict[str, dict[str, Any]], wanted: list[str], rng: random.Random
) -> list[str] | None:
    """A description of each wanted record that fits no other of `records`; None if no template tells them apart."""
    for template in rng.sample(b.it, len(b.it)):
        said = {key: describe(template, record).lower() for key, record in records.items()}
        if all(list(said.values()).count(said[key]) == 1 for key in wanted):
            return [describe(template, records[key]) for key in wanted]
    return None


def spoken_subjects(attribute: Attribute) -> list[str]:
    """The subjects by which a customer speaks of an attribute: those that do not sound of records, if there are any."""
    return [s for s in attribute.subjects if not _CLERKS.search(s)] or [min(attribute.subjects, key=len)]


def claim(b: Business, reference: str, value: Any, rng: random.Random) -> str:
    """A customer's statement that an attribute has a value."""
    attribute = b.attributes[reference]
    if attribute.numeric:
        unit = {"days_until": " days away", "days_since": " days ago"}.get(attribute.kind, "")
        told = clauses.money(value) if attribute.kind == "cents" else f"{value}{unit}"
        return f"{rng.choice(spoken_subjects(attribute))} is {told}"
    if attribute.kind == "word":  # nobody says of their own thing that its status "is set to" anything
        return f"{rng.choice(spoken_subjects(attribute))} is {attribute.told[value]}"
    return clauses.say(b, {"op": "eq", "field": reference, "value": value}, rng)


def opening(
    voice: Voice, name: str, want: str, details: list[str], identity: tuple[str, str] | None, rng: random.Random
) -> str:
    """The first message.

    Args:
      voice: how the customer speaks.
      name: the customer's name.
      want: a wish of the action, with the record in it.
      details: what the customer says about the wish.
      identity: (what identifies the customer, its value), if the customer gives it at once.
      rng: draws the words.
    """
    joined = [said for said in details if said.split()[0] in _JOINING]
    wish = rng.choice(voice.wishes).format(want=" ".join([want, *joined]))
    parts = [rng.choice(voice.openings).format(name=name), wish]
    parts += [f"{said[0].upper()}{said[1:]}." for said in details if said not in joined]
    if identity:
        told = rng.choice(voice.identities).format(fact=identity[0], value=identity[1])
        parts.insert(rng.randint(1, len(parts)), told[0].upper() + told[1:])
    return " ".join(part for part in [*parts, rng.choice(voice.closings)] if part)
