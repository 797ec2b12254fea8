"""Composed businesses keep what the tasks rely on, and differ from each other."""

import itertools
import random
import re

import pytest

from synth.business import catalogue, compose, draw, manual, paths, speech, variety
from synth.business import view as views
from synth.business.composing import elements
from synth.business.composing import words as english
from synth.business.schema import Business, field_at
from synth.trees import domains

NOW = "2026-03-12 10:20"
SOME = [0, 1, 2, 3, *range(5, 215, 8)]  # thirty numbers, of every archetype and turn


@pytest.fixture(scope="module")
def some() -> list[Business]:
    return [compose.compose(number) for number in SOME]


@pytest.mark.parametrize(
    ("noun", "several", "one"),
    [
        ("lesson", "lessons", "a lesson"),
        ("enrolment", "enrolments", "an enrolment"),
        ("hour", "hours", "an hour"),
        ("unit", "units", "a unit"),
        ("berth contract", "berth contracts", "a berth contract"),
        ("pass", "passes", "a pass"),
        ("delivery", "deliveries", "a delivery"),
        ("bay", "bays", "a bay"),
        ("hour of work", "hours of work", "an hour of work"),
        ("event person", "event people", "an event person"),
        ("wooden shelf", "wooden shelves", "a wooden shelf"),
    ],
)
def test_nouns(noun, several, one):
    assert english.plural(noun) == several
    assert english.article(noun) == one


def test_templates_keep_what_is_filled_in_later():
    words = english.forms("record", "order")
    assert english.fill("{A_record} of {records}: {it} to {value}", words) == "An order of orders: {it} to {value}"
    assert english.options("due_on=due date, {record}_fee_cents", {"record": "tool hire"}) == [
        ("due_on", "due date"),
        ("tool_hire_fee_cents", "tool hire fee"),
    ]


def test_a_number_always_gives_the_same_business(some):
    assert [compose.compose(number) for number in SOME[:5]] == some[:5]
    assert compose.compose(0, seed=1) != some[0]
    with pytest.raises(ValueError, match="number: -1"):
        compose.compose(-1)


def test_every_combination_of_trade_and_archetype_comes_before_one_comes_again():
    count = len(elements.combinations())
    order = [compose.compose(number).name.rpartition("_")[0] for number in range(0, count, 7)]
    assert len(set(order)) == len(order)
    assert compose.compose(count).name.rpartition("_")[0] == compose.compose(0).name.rpartition("_")[0]


def faults(b: Business) -> list[str]:
    """What in a composed business breaks the rules that tasks rely on."""
    found = []
    kinds = dict(zip(("record", "owner", "link"), b.kinds))
    fields = {kind: b.collections[b.of_kind[kind]].fields for kind in b.kinds}
    tools, _ = views.view(b).tools
    names = [tool["function"]["name"] for tool in tools]
    writes = [len(action.args) for action in b.actions.values()]
    main = fields[b.record]

    def check(holds: object, said: str) -> None:
        if not holds:
            found.append(said)

    check(re.fullmatch(r"[a-z][a-z0-9_]*", b.name), "name")
    check(len(set(names)) == len(names) and 12 <= len(names) <= 20, f"{len(names)} tools, {len(set(names))} names")
    check(len(writes) >= 5 and all(3 <= count <= 6 for count in writes), f"arguments of writes: {writes}")
    check(len(b.collections) >= 4, "collections")
    check(8 <= len(main) <= 20, f"{len(main)} fields")
    check({"object", "list"} <= {field.type for field in main.values()}, "no nested values")
    owned = [sum(name.startswith(f"{kind}.") for name in b.attributes) for kind in b.kinds]
    check(owned[0] >= 7 and owned[1] >= 4 and owned[2] >= 3, f"attributes {owned}")
    # paths
    used: list[tuple[str, str]] = []
    for name, attribute in b.attributes.items():
        kind = name.split(".")[0]
        used += [(kind, attribute.path)] if attribute.path else [(kind, c.path) for c in attribute.when]
    check(len(set(used)) == len(used), f"read twice: {sorted(p for p in used if used.count(p) > 1)}")
    shown = [(b.record, path) for text in b.it for path in re.findall(r"\{([^}]*)\}", text)]
    for search in b.searches.values():
        shown += [(b.collections[search.collection].kind, p) for p in (*search.by.values(), *search.show)]
        last = [path.split(".")[-1] for path in search.show]
        check(len(set(last)) == len(last), f"shown under one name: {last}")
    check(not set(used) & set(shown), f"read and shown: {set(used) & set(shown)}")
    for way in b.identify:
        tool = next(s for s in b.searches.values() if s.collection == b.of_kind[b.owner])
        check(set(way) <= set(tool.by), f"identify by {way}")
    # actions
    said = [text for action in b.actions.values() for text in action.gerund]
    said += [text for action in b.actions.values() for text in action.verbs]
    wants = [text for action in b.actions.values() for text in action.wants]
    check(len(set(said)) == len(said) and len(set(wants)) == len(wants), "two actions are called the same")
    changed = {(kinds[e.on], e.path) for a in b.actions.values() for e in a.effects if e.on != "record"}
    for key, action in b.actions.items():
        check(len(action.gerund) >= 2 and len(action.wants) >= 6 and len(action.verbs) >= 2, f"{key}: few words")
        check(sum(s.action == key for s in b.standing) >= 2, f"{key}: few standing rules")
        ruled = [s.attribute for s in b.standing if s.action == key]
        check(len(set(ruled)) == len(ruled), f"{key}: two standing rules on one attribute")
        for argument in action.args.values():
            if argument.formula:
                kind, _, path = argument.formula.path.partition(".")
                check((kind, path) not in changed, f"{key}: reads {kind}.{path}, which an effect changes")
                read = field_at(fields[kind], path).type
                wanted = {"path": ("integer", "cents"), "percent": ("integer", "cents"), "sum": ("cents", "integer"),
                          "times": ("integer", "cents", "list"), "days": ("date",), "pick": ("list",),
                          "each": ("list",)}  # fmt: skip
                check(read in wanted[argument.formula.op], f"{key}: {argument.formula.op} of a {read}")
        for effect in action.effects:
            argument = action.args.get(str(effect.value).removeprefix("$"))
            field = field_at(fields[kinds[effect.on]], effect.path)
            if effect.op == "set" and argument and argument.comes == "user" and argument.type != "address":
                held = set(field.values)
                ruled = [a for n, a in b.attributes.items() if (n.split(".")[0], a.path) == (b.record, effect.path)]
                if argument.type in ("integer", "cents", "date"):
                    most = max([field.high, *(max(a.values) for a in ruled if a.kind != "days_since")])
                    check(argument.low > most or argument.high < field.low, f"{key}: {effect.path} may stay as it is")
                else:
                    check(not held & set(argument.values), f"{key}: {effect.path} may stay as it is")
            if effect.op == "append":
                check(set(effect.value) <= {*field.of.fields, "listed"}, f"{key}: appends {effect.value}")
    return found


def odd(b: Business) -> list[str]:
    """Texts of a business that are no good English, as far as a program can tell."""
    rules = manual.render(b, NOW, [], list(manual._FEATURES), "odd-1")
    texts = [rules, *b.setting, *(t for a in b.actions.values() for t in (*a.wants, *a.gerund, *a.verbs, a.describe))]
    texts += [t for a in b.actions.values() for x in a.args.values() for t in (x.describe, *x.fact, *x.says)]
    texts += [t for a in b.attributes.values() for t in (*a.subjects, *a.told.values())]
    found = []
    for text in texts:
        found += re.findall(r"\b(\w+) \1\b(?! that)", text)
        found += re.findall(r"\b[Aa] [aeioAEIO]\w+", text)
        found += re.findall(r"\ban [bcdfgjklmnpqrstvwxyz]\w+", text)
        found += [name for name in re.findall(r"\{(\w+)\}", text) if name not in ("it", "value")]
        found += re.findall(r"[ ,]{2,}[.,]|\.\.| ,", text)
    known = ("A one", "a one", "a European", "A European", "had had")
    return [said for said in found if said not in known]


def unread(b: Business, seed: int) -> list[str]:
    """Rules on attributes of a business that the manual says in words with another reading."""
    rng, found, service = random.Random(seed), [], views.view(b)
    conditions = [
        condition
        for entity in service.entities
        for candidates in (
            domains.guard_candidates(service, entity, set(), rng),
            domains.boundary_candidates(entity, set(), rng),
        )
        for condition in candidates
    ]
    rules = [manual.Rule(rng.choice(list(b.actions)), c, rng.choice(("decline", "transfer"))) for c in conditions]
    rules += [rule for action in b.actions for rule in manual.standing(b, action)]
    for rule in rules:
        if not isinstance(rule.condition.get("value"), list) and rng.random() < 0.3:
            rule = manual.Rule(rule.action, rule.condition, "transfer", True, rng.choice(conditions))
        for number in range(4):
            text = manual.sentence(b, rule, f"{seed}/{number}")
            read = {repr(manual.normal(b, found)) for found in manual.parse_sentence(b, text)}
            if read != {repr(manual.normal(b, rule))}:
                found.append(text)
    return found


def unchanged(b: Business, seed: int) -> list[str]:
    """Writes that leave the records as they are, and values of attributes that a record cannot be given."""
    rng, service, found = random.Random(seed), views.view(b), []
    ids = {name: draw.identifiers(collection, 3, rng) for name, collection in b.collections.items()}
    state = {
        name: {key: draw.record(b, collection.kind, key, NOW, rng, ids) for key in ids[name]}
        for name, collection in b.collections.items()
    }
    record = ids[b.of_kind[b.record]][0]
    for reference, attribute in b.attributes.items():
        for value in attribute.choices:
            service.put(state, record, reference, value, NOW)
            if service.values_of(state, record, NOW)[reference] != value:
                found.append(f"{reference}={value}")
    for action in service.actions:
        for _ in range(3):
            wish = service.draw_wish(action, NOW, rng)
            arguments = service.arguments(action, state, record, wish, NOW)
            rows = service.rows(state, record)
            after = service.written(action, state, arguments, NOW)
            for effect in b.actions[action.verb].effects:
                kind = dict(zip(("record", "owner", "link"), b.kinds))[effect.on]
                row = next(iter(after[b.of_kind[kind]].values()))
                if effect.op in ("set", "append") and paths.get(row, effect.path) == paths.get(rows[kind], effect.path):
                    found.append(f"{action.verb} leaves {effect.path}")
            said = [
                rng.choice(argument.says).format(value=speech.spoken(argument, wish[name], NOW, rng))
                for name, argument in b.actions[action.verb].args.items()
                if argument.comes == "user"
            ]
            want = rng.choice(b.actions[action.verb].wants).format(it=speech.describe(rng.choice(b.it), rows[b.record]))
            text = speech.opening(rng.choice(speech.VOICES), "Ada Okafor", want, said, None, rng)
            if "{" in text:
                found.append(text)
    return found


def alike(businesses: list[Business]) -> list[str]:
    """Pairs of businesses that have the same tools, fields, manual or words."""
    found = []
    made = [
        (
            {tool for tool in views.view(b).tools[1]},
            {f"{name}.{field}" for name, c in b.collections.items() for field in c.fields},
            variety.text(b),
            {word for a in b.actions.values() for word in (*a.gerund, *a.wants)},
        )
        for b in businesses
    ]
    for (one, first), (other, second) in itertools.combinations(zip(businesses, made), 2):
        if any(a == c for a, c in zip(first, second)):
            found.append(f"{one.name} and {other.name}")
    return found


def test_composed_businesses_keep_the_rules(some):
    assert {b.name: faults(b) for b in some if faults(b)} == {}


def test_texts_are_english(some):
    assert {b.name: odd(b) for b in some if odd(b)} == {}


def test_rules_are_read_back(some):
    assert {b.name: texts for number, b in enumerate(some) if (texts := unread(b, number))} == {}


def test_writes_change_records_and_attributes_take_their_values(some):
    assert {b.name: said for number, b in enumerate(some) if (said := unchanged(b, number))} == {}


def test_manuals_are_neither_short_nor_long(some):
    lengths = {b.name: len(variety.text(b).split()) for b in some}
    assert {name: count for name, count in lengths.items() if not 600 <= count <= 1500} == {}


def test_businesses_differ(some):
    assert alike(some) == []
    found = variety.figures(some)
    assert found["businesses"] == found["different_schemas"] == len(some)
    assert found["nearest_manual_median"] < 0.3
    assert found["nearest_manual_max"] < 0.5


def test_figures_of_sets_worked_out_by_hand():
    sets = [frozenset("abc"), frozenset("bcd"), frozenset("xy"), frozenset("xyz")]
    assert variety.nearest(sets) == [2 / 4, 2 / 4, 2 / 3, 2 / 3]
    assert variety.shared(sets) == 4 / 7
    assert variety.grams("a b c d e f") == {tuple("abcde"), tuple("bcdef")}


def test_catalogue_finds_written_and_composed_businesses(some):
    assert [b.name for b in catalogue.written()] == sorted(b.name for b in catalogue.written())
    assert catalogue.find("cycle_repair") in catalogue.written()
    assert [b.name for b in catalogue.composed(3)] == [b.name for b in some[:3]]
    assert catalogue.find(some[1].name) == some[1]
    for name in ("nothing", f"{some[1].name}1", "florist_order_0001", ""):
        with pytest.raises(ValueError, match=f"no business '{name}'"):
            catalogue.find(name)


@pytest.mark.slow
def test_three_hundred_businesses_keep_the_rules():
    businesses = catalogue.composed(300)
    assert len({b.name for b in businesses}) == 300
    for number, b in enumerate(businesses):
        assert (faults(b), odd(b), unread(b, number), unchanged(b, number)) == ([], [], [], []), b.name
        assert 600 <= len(variety.text(b).split()) <= 1500, b.name
    assert alike(businesses) == []
    assert variety.figures(businesses)["nearest_manual_median"] < 0.4


@pytest.mark.slow
def test_a_thousand_businesses_are_valid():
    for number in range(300, 1000):
        b = compose.compose(number)
        assert not faults(b), b.name
