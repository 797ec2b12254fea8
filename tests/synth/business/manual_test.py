"""Manuals and clauses: what is written is read back as the same, and other rules are not."""

import random

import pytest

from synth.business import catalogue, clauses, manual, speech
from synth.business.view import view
from synth.trees import domains, expr

BUSINESSES = {b.name: b for b in (*catalogue.written(), *catalogue.composed(6))}
NOW = "2026-03-02 10:05"


def drawn(b, rng):
    """Conditions on every attribute that a rule may be about, numeric ones twice."""
    service = view(b)
    for entity in service.entities:
        yield from domains.guard_candidates(service, entity, set(), rng)
        yield from domains.boundary_candidates(entity, set(), rng)
        for name, values in entity.fields.items():
            if not isinstance(values[0], int) and len(values) > 2:
                chosen = rng.sample(values, rng.randint(1, len(values) - 1))
                yield {"op": "in", "field": f"{entity.kind}.{name}", "value": chosen}
                yield {"op": "ne", "field": f"{entity.kind}.{name}", "value": chosen[0]}


@pytest.mark.parametrize("name", sorted(BUSINESSES))
def test_every_rule_is_read_back(name):
    b, rng = BUSINESSES[name], random.Random(name)
    conditions = list(drawn(b, rng))
    for number, condition in enumerate(conditions * 3):
        otherwise = rng.choice(("decline", "transfer"))
        exception = rng.choice((None, rng.choice(conditions)))
        urgent = otherwise == "transfer" and number % 2 == 0
        rule = manual.Rule(rng.choice(list(b.actions)), condition, otherwise, urgent, exception)
        text = manual.sentence(b, rule, f"seed {number}")
        readings = {repr(manual.normal(b, found)) for found in manual.parse_sentence(b, text)}
        assert readings == {repr(manual.normal(b, rule))}, text


@pytest.mark.parametrize("name", sorted(BUSINESSES))
def test_a_whole_manual_is_read_back(name):
    b, rng = BUSINESSES[name], random.Random(name)
    action = next(iter(b.actions))
    rules = [manual.Rule(action, condition, "decline") for condition in rng.sample(list(drawn(b, rng)), 3)]
    features = ["consent", "find", "goals"]
    text = manual.render(b, NOW, rules, features, f"train-0000-{name}-{action}")
    read = manual.parse(b, text)
    others = [rule for other in b.actions if other != action for rule in manual.standing(b, other)]
    assert sorted(map(repr, map(lambda r: manual.normal(b, r), read.rules))) == sorted(
        repr(manual.normal(b, rule)) for rule in [*rules, *others]
    )
    assert read.features == features
    assert b.title in text and NOW in text and 500 <= len(text.split()) <= 1600


def test_wording_does_not_depend_on_other_rules():
    b = BUSINESSES["cycle_repair"]
    first = manual.Rule("cancel_repair", {"op": "le", "field": "repair.estimate", "value": 10000}, "decline")
    second = manual.Rule("cancel_repair", {"op": "eq", "field": "repair.progress", "value": "ready"}, "transfer")
    alone = manual.render(b, NOW, [first], [], "train-0000-cycle_repair-cancel_repair")
    both = manual.render(b, NOW, [first, second], [], "train-0000-cycle_repair-cancel_repair")
    (line,) = set(both.split("\n")) - set(alone.split("\n"))
    assert manual.parse_sentence(b, line.removeprefix("- "))[0].condition == second.condition


@pytest.mark.parametrize(
    ("clause", "condition"),
    [
        ("the estimate is at most $150.00", {"op": "le", "field": "repair.estimate", "value": 15000}),
        ("the estimate exceeds $1,150.05", {"op": "gt", "field": "repair.estimate", "value": 115005}),
        ("the agreed collection date is at least 1 day away",
         {"op": "ge", "field": "repair.collection_notice", "value": 1}),
        ("the repair's status is none of ready and on the stand",
         {"op": "not", "args": [{"op": "in", "field": "repair.progress", "value": ["ready", "on_the_stand"]}]}),
        ("the repair is not a quick job", {"op": "eq", "field": "repair.quick_job", "value": "no"}),
        ("the service plan is paused", {"op": "eq", "field": "plan.plan_active", "value": "yes"}),
    ],
)  # fmt: skip
def test_clauses_mean_what_they_say(clause, condition):
    assert clauses.parse(BUSINESSES["cycle_repair"], clause) == [condition]


@pytest.mark.parametrize(
    "clause",
    [
        "the estimate is at most 150",
        "the estimate is at most $150.00 or so",
        "the repair's status is broken",
        "the weather is at least 3 days away",
        "",
    ],
)
def test_other_texts_are_no_clauses(clause):
    assert clauses.parse(BUSINESSES["cycle_repair"], clause) == []


def test_a_bullet_that_is_no_rule_is_named():
    with pytest.raises(ValueError, match="- Bring cake.* has 0 readings"):
        manual.parse(BUSINESSES["cycle_repair"], "Handbook\n- Bring cake on Fridays.")


def test_opposites_hold_where_the_condition_fails():
    for b in BUSINESSES.values():
        for condition in drawn(b, random.Random(0)):
            reference = condition["field"]
            against = clauses.opposite(condition, b.attributes[reference])
            for value in b.attributes[reference].choices:
                assert expr.holds(condition, {reference: value}) != expr.holds(against, {reference: value})


def test_definitions_name_a_field_within_another_as_people_do():
    b = catalogue.find("insurance_broker")
    said = manual.definition(b, next(name for name, a in b.attributes.items() if a.kind == "defined"))
    assert "if the party at fault of its loss is neighbour or contractor and the excess of its amounts is" in said


def test_customers_do_not_speak_of_records_and_entries():
    for b in catalogue.written():
        for name, attribute in b.attributes.items():
            if attribute.kind != "defined" and attribute.subjects:
                assert set(speech.spoken_subjects(attribute)) <= set(attribute.subjects)
            if attribute.kind == "word":
                said = speech.claim(b, name, attribute.values[0], random.Random(1))
                assert "is set to" not in said
