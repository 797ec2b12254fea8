"""The manual of a business: what the agent reads, rendered from the rules in force and parsed back to the same rules.

A manual states conditions and never the procedure. The rules on the action that the task is about are those of its
tree; on every other action the business's standing rules are stated. Its wording is drawn once per root, so that a
tree that grows keeps the words of the rules it has.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from synth.business import clauses
from synth.business.schema import Business, Condition, Field, field_of
from synth.trees import expr


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule of the manual.

    action: its name in the business. condition: what must hold. otherwise: "decline" or "transfer" where it fails.
    urgent: whether it comes before every other rule. exception: a condition that excuses from it; None for none.
    """

    action: str
    condition: expr.Expr
    otherwise: str
    urgent: bool = False
    exception: expr.Expr | None = None

    @property
    def reason(self) -> str:
        """The code of a refusal or hand-over by this rule."""
        return expr.fields(self.condition)[0].split(".")[1]


# {doing}: the action; {Doing}: the same as the first word; {so}: what must hold; {not_so}: the opposite; {code}.
_RULES = {
    "decline": (
        "{Doing} is allowed only if {so}; otherwise the request is refused with code {code}.",
        "{Doing} is refused unless {so} (code {code}).",
        "{Doing} requires that {so}. Where this is not so, refuse with code {code}.",
        "If {not_so}, {doing} is refused (code {code}).",
        "We do not agree to {doing} if {not_so}; the code is {code}.",
        "A request for {doing} is turned down, with code {code}, if {not_so}.",
    ),
    "transfer": (
        "{Doing} is done by a chat agent only if {so}; otherwise a colleague takes over with code {code}.",
        "If {not_so}, {doing} is a matter for a colleague: hand over with code {code}.",
        "Agents may deal with {doing} only if {so}. Where this is not so, hand over with code {code}.",
        "A request for {doing} goes to a colleague, with code {code}, if {not_so}.",
    ),
    "urgent": (
        "This comes before every other rule on {doing}: if {not_so}, hand over with code {code}.",
        "One thing is looked at first about {doing}: if {not_so}, the matter is handed over with code {code}.",
        "{Doing} is never looked at further if {not_so}; hand over at once with code {code}, whatever else holds.",
    ),
}
_EXCEPTIONS = (
    "This rule does not apply if {so}.",
    "It is waived if {so}.",
    "An exception is made where {so}.",
    "None of this matters if {so}.",
)
_FEATURES = {
    "consent": (
        "Nothing is changed before the customer has been told what exactly will be done and has agreed to it.",
        "Say what you are about to change and get the customer's agreement first; without it nothing is changed.",
        "Every change needs the customer's agreement, given after you have described the change.",
    ),
    "tell": (
        "Before anything is charged or paid, the customer is told the exact amount.",
        "Nothing is charged or paid before the customer has been told the exact amount.",
    ),
    "claims": (
        "What customers say about their own case may be mistaken; the record decides.",
        "Where a customer's account and our records differ, the records are right.",
    ),
    "find": (
        "If what a customer says fits several records, the customer decides which one is meant.",
        "Do not guess between records that fit a description equally well; the customer knows which one is meant.",
    ),
    "attempt": (
        "A change that got no answer from the system may have been made all the same, and no change may be made twice. "
        "After two tries without effect the matter is handed over with code unavailable.",
        "The system sometimes fails to answer: the change may then have been made or not, and must not be made twice. "
        "If a second try has no effect either, a colleague takes over (code unavailable).",
    ),
    "goals": (
        "Several requests are dealt with in the order in which they were made; after a hand-over the colleague sees to "
        "all that is left.",
        "Take requests one after the other, in the customer's order. Whoever takes over gets everything that is still "
        "open.",
    ),
}  # fmt: skip
_IDENTITY = (
    "Customers rarely know our record numbers. They are found by {ways}.",
    "A customer is identified by {ways}; record numbers are for us and not for them.",
)
_REFUSING = (
    "A refusal is logged with log_refusal, with the code of the rule that forbids the request and the record in "
    "question. Then tell the customer. Only refusals that a rule demands are logged.",
    "Where a rule forbids what the customer wants, log it with log_refusal (the code stands with the rule) and explain "
    "it to the customer. A request that the customer takes back is not a refusal.",
)
_HANDING = (
    "Handing over is done with transfer_to_human and the code of the rule. It ends the conversation, and nothing is "
    "changed or refused before it.",
    "To hand over, call transfer_to_human with the code that stands with the rule; the chat ends there.",
)
_DATA = (
    "Dates are written year-month-day. All amounts in our system are in cents. Days are counted from today.",
    "Our records give dates as year-month-day and amounts in cents; {days} are counted from today.",
)
_OPENINGS = ("This is the handbook for chat agents of {title}.", "You work in chat for {title}. This is your handbook.",
             "Handbook for the customer chat of {title}.")  # fmt: skip
_HEADS = {
    "about": ("About us", "Who we are"),
    "identity": ("Finding customers", "Who is writing"),
    "terms": ("What our words mean", "Terms"),
    "amounts": ("Amounts", "What is charged or paid"),
    "refusing": ("Saying no", "Refusals"),
    "handing": ("Handing over", "When a colleague takes over"),
    "general": ("In general", "For every request"),
    "rules": ("Rules by request", "What is allowed"),
}


def render(b: Business, now: str, rules: Sequence[Rule], features: Sequence[str], root: str) -> str:
    """The manual.

    Args:
      b: the business.
      now: the task's day and time.
      rules: the rules on the task's action, in order; those on other actions are the standing ones.
      features: keys of _FEATURES that the task's tree needs stated.
      root: draws the wording.
    """
    rng = random.Random(f"manual/{root}")
    heads = {name: rng.choice(options) for name, options in _HEADS.items()}
    opening = f"{rng.choice(_OPENINGS).format(title=b.title)} It is now {now}."
    ways = " or by ".join(" and ".join(w.replace("_", " ") for w in way) for way in b.identify)
    identity = [rng.choice(_IDENTITY).format(ways=ways), rng.choice(_DATA).format(days="days")]
    sections = [
        (heads["identity"], identity),
        (heads["amounts"], list(amounts(b))),
        (heads["terms"], [definition(b, name) for name, a in b.attributes.items() if a.kind == "defined"]),
        *((name.replace("_", " ").capitalize(), list(lines)) for name, lines in b.notes.items()),
    ]
    rng.shuffle(sections)
    refusing, handing = rng.choice(_REFUSING), rng.choice(_HANDING)
    general = [random.Random(f"{root}/{name}").choice(_FEATURES[name]) for name in _FEATURES if name in features]
    sections.insert(0, (heads["about"], list(b.setting)))
    place = rng.randint(1, len(sections))
    sections[place:place] = [(heads["refusing"], [refusing]), (heads["handing"], [handing])]
    if general:
        sections.insert(rng.randint(1, len(sections)), (heads["general"], general))
    parts = [opening, *(f"## {head}\n{' '.join(lines)}" for head, lines in sections if lines)]
    parts.insert(rng.randint(2, len(parts)), f"## {heads['rules']}\n{_rules(b, rules, root)}")
    return "\n\n".join(parts)


def _rules(b: Business, rules: Sequence[Rule], root: str) -> str:
    """The bullets of all rules: for the task's action those given, else the standing ones."""
    mine = {rule.action for rule in rules}
    task = mine or {root.rpartition("-")[2]}
    bullets = []
    for name in b.actions:
        if name in task:
            bullets += [sentence(b, rule, root) for rule in rules]
        else:
            bullets += [sentence(b, rule, f"{b.name}/{root.split('-')[0]}") for rule in standing(b, name)]
    return "\n".join(f"- {bullet}" for bullet in bullets)


def standing(b: Business, action: str) -> list[Rule]:
    """The rules that hold for an action where the task is about another one."""
    return [
        Rule(action, {"op": s.op, "field": s.attribute, "value": s.value}, s.otherwise)
        for s in b.standing
        if s.action == action
    ]


def sentence(b: Business, rule: Rule, seed: str) -> str:
    """A rule in words. seed: with the rule's attribute, draws the wording."""
    reference = expr.fields(rule.condition)[0]
    rng = random.Random(f"{seed}/{rule.action}/{reference}")
    template = rng.choice(_RULES["urgent" if rule.urgent else rule.otherwise])
    doing = rng.choice(b.actions[rule.action].gerund)
    against = clauses.opposite(rule.condition, b.attributes[reference])
    text = template.format(
        doing=doing, Doing=doing[0].upper() + doing[1:], code=rule.reason,
        so=clauses.say(b, rule.condition, rng), not_so=clauses.say(b, against, rng),
    )  # fmt: skip
    if rule.exception:
        text += " " + rng.choice(_EXCEPTIONS).format(so=clauses.say(b, rule.exception, rng))
    return text


def parse_sentence(b: Business, text: str) -> list[Rule]:
    """Every rule that a sentence can be read as; a good sentence has exactly one."""
    exception: expr.Expr | None = None
    for template in _EXCEPTIONS:
        before, after = template.split("{so}")
        head, found, tail = text.rpartition(f" {before}")
        if found and tail.endswith(after):
            read = clauses.parse(b, tail[: len(tail) - len(after)])
            if len(read) == 1:
                text, exception = head, read[0]
                break
    rules = []
    for name, templates in _RULES.items():
        for template in templates:
            rules += _readings(b, text, name, template, exception)
    return rules


def _readings(b: Business, text: str, name: str, template: str, exception: expr.Expr | None) -> list[Rule]:
    gerunds = tuple(sorted({doing for action in b.actions.values() for doing in action.gerund}))
    match = _pattern(template, gerunds).fullmatch(text)
    if not match:
        return []
    parts: dict[str, Any] = match.groupdict()
    doing = parts.get("doing") or parts["Doing"][0].lower() + parts["Doing"][1:]
    actions = [action for action, spec in b.actions.items() if doing in spec.gerund]
    conditions = []
    for clause, wanted in ((parts.get("so"), True), (parts.get("not_so"), False)):
        for read in clauses.parse(b, clause) if clause else []:
            attribute = b.attributes[expr.fields(read)[0]]
            conditions.append(read if wanted else clauses.opposite(read, attribute))
    otherwise = "transfer" if name == "urgent" else name
    found = [Rule(a, c, otherwise, name == "urgent", exception) for a in actions for c in conditions]
    return [rule for rule in found if rule.reason == parts["code"]]


@functools.lru_cache(maxsize=8192)
def _pattern(template: str, gerunds: tuple[str, ...]) -> re.Pattern[str]:
    """The regular expression that a template's sentences match. gerunds: what actions may be called."""
    parts = {"so": ".+", "not_so": ".+", "code": r"\w+"}
    parts["doing"] = "|".join(map(re.escape, gerunds))
    parts["Doing"] = "|".join(re.escape(doing[0].upper() + doing[1:]) for doing in gerunds)
    escaped = re.escape(template)
    for name, pattern in parts.items():
        escaped = escaped.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>{pattern})")
    return re.compile(escaped)


@dataclasses.dataclass(frozen=True)
class Read:
    """What a manual says: its rules and the features stated."""

    rules: list[Rule]
    features: list[str]


def parse(b: Business, text: str) -> Read:
    """The rules and features that a manual states. Raises ValueError for a bullet without exactly one reading."""
    rules = []
    for line in text.split("\n"):
        if line.startswith("- "):
            found = parse_sentence(b, line[2:])
            if len({repr(normal(b, rule)) for rule in found}) != 1:
                raise ValueError(f"{line!r} has {len(found)} readings, expected one")
            rules.append(found[0])
    return Read(rules, [name for name, told in _FEATURES.items() if any(t in text for t in told)])


def normal(b: Business, rule: Rule) -> tuple:
    """A rule in a form in which rules are equal that allow and forbid the same."""
    table = [truths(b, condition) if condition else None for condition in (rule.condition, rule.exception)]
    return rule.action, rule.reason, table[0], rule.otherwise, rule.urgent, table[1]


def truths(b: Business, condition: expr.Expr) -> tuple[str, tuple[bool, ...]]:
    """(the attribute of a condition, whether it holds for each of the attribute's values and their neighbours)."""
    reference = expr.fields(condition)[0]
    choices = b.attributes[reference].choices
    if isinstance(choices[0], int):
        choices = tuple(sorted({int(v) + step for v in choices for step in (-1, 0, 1)}))
    return reference, tuple(expr.holds(condition, {reference: v}) for v in choices)


def amounts(b: Business) -> Iterator[str]:
    """Yields what the manual says about every amount that follows from the records."""
    for action in b.actions.values():
        for name, argument in action.args.items():
            if argument.formula is not None and argument.formula.words:
                verb = "are" if argument.formula.op == "each" else "is"
                yield f"For {action.gerund[0]}, the {_label(name)} {verb} {argument.formula.words}."


def definition(b: Business, reference: str) -> str:
    """What the manual says about a defined term."""
    attribute, kind = b.attributes[reference], reference.split(".")[0]
    fields = b.collections[b.of_kind[kind]].fields
    told = " and ".join(_condition(condition, field_of(fields, condition.path)) for condition in attribute.when)
    a = "an" if attribute.term[0] in "aeiou" else "a"
    said = clauses.plain(b, reference)
    return f"{'An' if said[0] in 'aeiou' else 'A'} {said} counts as {a} {attribute.term} if {told}."


def _label(path: str) -> str:
    """A field in words: "bike.storage_fee_cents" -> "bike storage fee"."""
    return path.removesuffix("_cents").replace("[]", "").replace(".", " ").replace("_", " ")


def _condition(condition: Condition, field: Field) -> str:
    """A condition of a defined term in words."""
    value, label = condition.value, _of_record(condition.path)
    if isinstance(value, list):
        *most, last = value
        return f"{label} is {', '.join(most)}{' or ' if most else ''}{last}"
    if field.type == "flag":
        return f"{label} is marked {'true' if (value is True) == (condition.op == 'eq') else 'false'}"
    if field.type == "date" and isinstance(value, int):
        near = (condition.op == "le") == (value >= 0)
        return f"{label} is {'at most' if near else 'at least'} {abs(value)} days {'ago' if value < 0 else 'away'}"
    told = clauses.money(value) if field.type == "cents" and isinstance(value, int) else str(value)
    return f"{label} is {({'eq': '', 'ne': 'not ', 'le': 'at most ', 'ge': 'at least '})[condition.op]}{told}"


def _of_record(path: str) -> str:
    """A field of a record in words: "workshop" -> "its workshop", "loss.party_at_fault" -> "the party at fault of its
    loss"."""
    *outer, last = path.split(".")
    return f"its {_label(last)}" if not outer else f"the {_label(last)} of its {_label('.'.join(outer))}"
