"""Tools of businesses, carried out from data."""

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.business import attributes, catalogue, draw, interpreter, paths
from synth.business.schema import Formula
from synth.business.view import view

NOW = "2026-03-02 10:05"
REPAIR = catalogue.find("cycle_repair")
RECORD = {
    "status": "ready",
    "bike": {"colour": "blue"},
    "lines": [{"id": "a", "cents": 250}, {"id": "b", "cents": 1050}],
}


def test_paths_lead_into_objects_and_through_lists():
    assert paths.get(RECORD, "bike.colour") == "blue"
    assert paths.get(RECORD, "lines[].cents") == [250, 1050]
    with pytest.raises(KeyError):
        paths.get(RECORD, "bike.weight")


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ({"op": "path", "path": "repair.estimate_cents"}, 12345),
        ({"op": "percent", "path": "repair.estimate_cents", "number": 10}, 1234),
        ({"op": "sum", "path": "repair.work[].price_cents"}, 1300),
        ({"op": "times", "path": "repair.work", "number": 300}, 600),
        ({"op": "times", "path": "repair.work[].minutes", "number": 2}, 90),
        ({"op": "days", "path": "repair.collect_on", "number": 150}, 150 * 8),
        ({"op": "pick", "path": "customer.methods", "where": "default", "take": "id"}, "pm_2"),
        ({"op": "pick", "path": "customer.methods", "take": "id"}, "pm_1"),
    ],
)  # fmt: skip
def test_amounts(formula, wanted):
    work = [{"price_cents": 250, "minutes": 15}, {"price_cents": 1050, "minutes": 30}]
    rows = {
        "repair": {"estimate_cents": 12345, "work": work, "collect_on": "2026-03-10"},
        "customer": {"methods": [{"id": "pm_1", "default": False}, {"id": "pm_2", "default": True}]},
    }
    assert paths.amount(Formula.model_validate(formula), rows, NOW) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("(1250 + 300) * 2", 3100), ("-7/2", -3.5), ("2*3.5", 7), ("+4", 4)])
def test_calculations(text, wanted):
    assert interpreter.calculate(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["1/0", "2**9", "__import__('os')", "a+1", "", "1" * 201, "(" * 150, "True+1", "1e308*1e308", "'a'*9", "[1]"],
)
def test_what_is_no_calculation_is_refused(text):
    with pytest.raises(ValueError):
        interpreter.calculate(text)


@given(st.text(max_size=60))
def test_a_calculation_gives_a_number_or_says_why_not(text):
    try:
        assert isinstance(interpreter.calculate(text), (int, float))
    except ValueError:
        pass


@pytest.mark.parametrize("name", sorted(b.name for b in (*catalogue.written(), *catalogue.composed(6))))
def test_writes_change_declared_records_only(name):
    b = catalogue.find(name)
    service, rng = view(b), random.Random(name)
    ids = {n: draw.identifiers(c, 3, rng) for n, c in b.collections.items()}
    state = {n: {key: draw.record(b, c.kind, key, NOW, rng, ids) for key in ids[n]} for n, c in b.collections.items()}
    before = copy.deepcopy(state)
    for action in service.actions:
        key = ids[b.of_kind[b.record]][0]
        wish = service.draw_wish(action, NOW, rng)
        arguments = service.arguments(action, state, key, wish, NOW)
        after = service.written(action, state, arguments, NOW)
        assert state == before, "the state is not changed in place"
        rows = service.rows(state, key)
        assert {n for n in after} == {b.of_kind[kind] for kind in rows}
        assert any(after[n][i] != before[n][i] for n in after for i in after[n]), f"{action.verb} changes nothing"
        assert all(record.keys() == before[n][i].keys() for n in after for i, record in after[n].items())


def test_a_search_needs_its_criteria_and_ignores_case():
    service = view(REPAIR)
    effect = service.tools[1]["find_customers"]
    state = {"customers": {"CU-1": {"customer_id": "CU-1", "email": "a@b.example", "name": "Ann Lee", "phone": "07",
                                    "address": {"postcode": "AB1 2CD"}}}}  # fmt: skip
    assert interpreter.search(effect, state, {"name": "ann lee", "postcode": "ab12cd"}) == ["CU-1"]
    assert interpreter.search(effect, state, {"name": "ann lee", "postcode": "zz12cd"}) == []
    with pytest.raises(ValueError, match="give at least 1 of email, name, postcode, phone"):
        interpreter.search(effect, state, {})


@pytest.mark.parametrize("name", sorted(b.name for b in catalogue.written()))
def test_attributes_are_written_so_that_they_are_read(name):
    b = catalogue.find(name)
    service = view(b)
    for reference, attribute in b.attributes.items():
        kind = reference.split(".")[0]
        for value in attribute.choices:
            rng = random.Random(f"{reference}{value}")
            record = draw.record(b, kind, "X-1", NOW, rng, {})
            attributes.write(attribute, value, record, service.fields(kind), NOW, rng)
            assert attributes.read(attribute, record, service.fields(kind), NOW) == value
