"""The customer of a business: whatever words an agent uses, it consents to what it wants and to nothing else."""

import random
import re

import pytest

from envs import world
from envs.customer import Customer
from synth import generate, operators, registers
from synth.trees import workflow

ASKING = (
    "Would you like me to {verb} {record}? {told}",
    "I can {verb} {record} for you, with {also}. Shall I go ahead?",
    "To confirm: I'll {verb} {record} ({also}). Is that right?",
    "Just to double-check before I do anything: you'd like me to {verb} {record}, with {also}. Correct?",
    "I'm ready to {verb} {record}. {told} Do you want me to proceed?",
    "May I {verb} {record}? {told}",
    "Are you happy for me to {verb} {record} with {also}?",
    "Here is what I'll do:\n\n- **Action:** {verb} {record}\n{listed}\n\nDo you confirm (yes/no)?",
    "**Summary**\n\n{listed}\n\nShall I {verb} {record} with these details?",
    "Please confirm that you want me to {verb} {record}, with {also}.",
    "Please reply \"yes\" and I will {verb} {record}. {told}",
    "So I'd {verb} {record} – {also}. OK?",
    "I'd {verb} {record}, {also}. Does that sound good?",
    "Do I have your permission to {verb} {record}? {told}",
    "Everything is in order. I would now {verb} {record} with {also}. Do you agree?",
    "Is it okay if I {verb} {record} with the following details?\n{listed}",
    "Do you want me to go ahead and {verb} {record}? {told}",
    "Let me know if you'd like me to {verb} {record}. {told}",
    "Once you confirm, I'll {verb} {record}. {told} Do you confirm?",
    "Thanks for that! I've checked and it's possible. Shall I {verb} {record}, {also}?",
    "Great news, that's allowed. I'll {verb} {record} with {also}. Are you okay with that?",
    "Good to go? I'd {verb} {record} with {also}.",
    "Could you confirm that I should {verb} {record}? {told}",
    "Could you please confirm with a simple yes that you'd like to {verb} {record}? {told}",
    "Before {doing} {record}, I need your consent. {told} Do you consent?",
    "I'm about to {verb} {record}. {told} Can I go ahead?",
    "You'd like to {verb} {record}; {also}. Is that correct?",
    "I will go ahead and {verb} {record} as follows:\n{listed}\n\nIs everything correct?",
    "Want me to {verb} {record}? {told}",
    "Shall we {verb} {record}, then? {told}",
    "Would it be alright if I {verb} {record}? {told}",
    "I understand you'd like to {verb} {record}. {told} Should I proceed with this?",
    "Are you sure you want me to {verb} {record}? {told}",
    "OK to {verb} {record}? {told}",
    "I have everything I need to {verb} {record}.\n\n{listed}\n\nWould you like me to proceed?",
    "With your approval I'd {verb} {record}. {told} Do you approve?",
    "Do you authorise me to {verb} {record}? {told}",
    "To {verb} {record}, I'd use these details:\n{listed}\nShall I go ahead?",
    "No fee is due. I can {verb} {record} right away, {also}. Would that be alright?",
    "### Please review\n{listed}\n\nIf you say yes, I'll {verb} {record}.",
)  # fmt: skip
QUESTIONS = (
    "What's the {fact}?", "Could I take the {fact}, please?", "May I have the {fact}?", "I'll need the {fact}.",
    "Please provide the {fact}.", "Please let me know the {fact}.", "And the {fact}?", "The {fact}, please?",
    "Could you share the {fact} with me?", "Before I can go on, could you confirm the {fact}?",
    "To proceed, please tell me:\n- {fact}", "Sure, I can help with that! What would the {fact} be?",
)  # fmt: skip
TELLING = (
    "I'll {verb} {record} now. {told}", "I won't {verb} {record}, okay?", "Did somebody already {verb} {record}?",
    "If I were to {verb} {record}, what would you say?", "Do you know what it costs to {verb} {record}?",
    "Shall I check whether I can {verb} {record}?", "May I ask why you want to {verb} {record}?",
    "I can't {verb} {record}, I'm afraid. Is that okay?",
)  # fmt: skip


def _tasks():
    """Tasks of every written and some composed businesses, in which a detail may be asked for and consent has to be."""
    domains = registers.select("business", "all", 12)["train"]
    roots = workflow.roots("train", 40, domains, 5)
    grown = [operators.expand(root, operators.OPERATORS["confirm"], 5) for root in roots]
    asks = operators.OPERATORS["missing"]
    grown = [operators.expand(w, asks, 5) if asks.applies(w) else w for w in grown]
    return generate.tasks(grown, 1, 1.0, 5)


@pytest.fixture(scope="module")
def tasks():
    return _tasks()


def _request(task):
    """(the oracle's step that asks for consent, the details that it names)."""
    for step in task.oracle:
        if match := re.search(r"Shall I go ahead and .* \((.*?)\)\?$", step.get("say", "")):
            return step, match[1].split("; ")
    raise AssertionError(task.id)


def _doing(verb):
    first, *rest = verb.split()
    if first in ("put", "set", "stop", "drop", "let", "get", "swap", "cancel", "ship", "scrap"):
        first += first[-1]
    return " ".join([first.removesuffix("e") + "ing", *rest])


def _parts(task, rng, details, name="", record=""):
    """What the templates are filled with. name: the verb's, if it is another. record: another identifier."""
    user = task.user
    words = next(v["words"] for v in user["hears"]["verbs"] if v["name"] == (name or user["verb"]))
    verb = rng.choice(words[:-1])  # the last one is the tool's name
    return {
        "verb": verb,
        "doing": _doing(verb),
        "record": f"the {user['hears']['records'][0]} {record or user['record_id']}",
        "also": "the " + " and ".join(d.replace(": ", " ", 1) for d in details),
        "told": " ".join(d[0].upper() + d[1:].replace(": ", " would be ", 1) + "." for d in details),
        "listed": "\n".join(f"- {d[0].upper()}{d[1:]}" for d in details),
    }


def _accepted(task, text):
    _, events = Customer(task.user).reply(text, False)
    return [event for event in events if event["type"] == "confirm" and event["answer"] == "accepted"]


def test_every_oracle_is_understood(tasks):
    assert [task.id for task in tasks if world.reward(task, task.oracle) < 1.0] == []


@pytest.mark.parametrize("template", ASKING)
def test_consent_is_given_in_whatever_words_it_is_asked_for(tasks, template):
    rng = random.Random(template)
    for task in rng.sample(tasks, 6):
        text = template.format(**_parts(task, rng, _request(task)[1]))
        assert (text, [event["id"] for event in _accepted(task, text)]) == (text, [task.user["record_id"]])


@pytest.mark.parametrize("template", ASKING)
def test_nothing_else_is_consented_to(tasks, template):
    rng = random.Random(template)
    for task in rng.sample(tasks, 6):
        user, details = task.user, _request(task)[1]
        others = [verb["name"] for verb in user["hears"]["verbs"] if verb["name"] != user["verb"]]
        if others:
            text = template.format(**_parts(task, rng, details, name=rng.choice(others)))
            assert (text, _accepted(task, text)) == (text, [])
        record = re.sub(r"\d", lambda match: str((int(match[0]) + 3) % 10), user["record_id"])
        if record not in user["its"]:
            text = template.format(**_parts(task, rng, details, record=record))
            assert (text, _accepted(task, text)) == (text, [])
        for name in user["slots"]:
            fact = user["knows"][name]
            if fact["others"]:
                changed = [f"{fact['words'][0]}: {rng.choice(list(fact['others'].values()))}"]
                text = template.format(**_parts(task, rng, changed))
                assert (text, _accepted(task, text)) == (text, [])


@pytest.mark.parametrize("template", TELLING)
def test_what_asks_for_no_consent_gets_none(tasks, template):
    rng = random.Random(template)
    for task in tasks:
        text = template.format(**_parts(task, rng, _request(task)[1]))
        assert (text, _accepted(task, text)) == (text, [])


@pytest.mark.parametrize("template", QUESTIONS)
def test_a_fact_is_told_in_whatever_words_it_is_asked_for(tasks, template):
    rng = random.Random(template)
    for task in rng.sample(tasks, 20):
        name = rng.choice(list(task.user["slots"]))
        fact = task.user["knows"][name]
        text = template.format(fact=fact["words"][0])
        said, events = Customer(task.user).reply(text, False)
        assert (text, {"type": "asked", "slot": name} in events, fact["says"] in said) == (text, True, True)


def test_an_oracle_in_other_words_earns_all(tasks):
    rng = random.Random(0)
    for task in rng.sample(tasks, 12):
        asked, details = _request(task)
        text = rng.choice(ASKING).format(**_parts(task, rng, details))
        steps = [step if step is not asked else {"say": text} for step in task.oracle]
        assert (text, world.reward(task, steps)) == (text, 1.0)
