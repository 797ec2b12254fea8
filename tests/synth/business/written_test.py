"""The businesses that were written by hand: rich enough, and no path of one attribute gets in the way of another."""

import re
from pathlib import Path

import pytest

from synth.business.schema import Business, field_at

REPOSITORY = Path(__file__).parents[3]
FILES = sorted((REPOSITORY / "synth/business/written").glob("*.json"))
RICH = [file for file in FILES if file.stem != "cycle_repair"]  # the example of the schema is smaller
OPS = {"path", "sum", "percent", "times", "days", "pick", "each"}
RESERVED = {"calculate", "log_refusal", "transfer_to_human"}  # tools that every business has
BENCHMARKS = "airline airlines flight flights retail retailer shop store telecom telco phone mobile tau bfcl gorilla"
RULING = (  # words of rules and orders, which the notes are to be free of
    r"\b(must|should|shall|only if|unless|never|not allowed|have to|has to|may not|is required|are required|make sure"
    r"|ask for|agents?)\b"
)


def named(file):
    return file.stem


def read(file):
    return Business.read(file)


def overlap(one, other):
    """Whether two paths lead to the same field, or one into the other's."""
    a, b = one.replace("[]", "").split("."), other.replace("[]", "").split(".")
    return a[: len(b)] == b[: len(a)]


def paths(b):
    """(attribute, kind.path) of every path that an attribute uses."""
    for name, attribute in b.attributes.items():
        kind = name.partition(".")[0]
        for path in [attribute.path] if attribute.path else [condition.path for condition in attribute.when]:
            yield name, f"{kind}.{path}"


def field(b, path):
    kind, _, rest = path.partition(".")
    return field_at(b.collections[b.of_kind[kind]].fields, rest)


def targets(b):
    """(action, effect, kind.path) of every effect."""
    for action in b.actions.values():
        for effect in action.effects:
            kind = {"record": b.record, "owner": b.owner, "link": b.link}[effect.on]
            yield action, effect, f"{kind}.{effect.path}"


def user_arguments(b):
    """(name, argument) of everything that only a customer knows, action by action."""
    for action in b.actions.values():
        yield from ((name, argument) for name, argument in action.args.items() if argument.comes == "user")


def holds(value, op, wanted):
    if op == "in":
        return value in wanted
    return {"eq": value == wanted, "ne": value != wanted, "le": op == "le" and value <= wanted,
            "ge": op == "ge" and value >= wanted}[op]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=named)
def test_it_is_read_and_called_as_its_file(file):
    b = read(file)
    assert b.name == file.stem
    assert not set(re.findall(r"[a-z]+", f"{b.title} {b.trade}".lower())) & set(BENCHMARKS.split())


def test_names_and_trades_differ():
    businesses = [read(file) for file in FILES]
    assert len({b.trade for b in businesses}) == len({b.title for b in businesses}) == len(businesses) >= 8


@pytest.mark.parametrize("file", RICH, ids=named)
def test_it_is_rich(file):
    b = read(file)
    assert len(b.collections) >= 5
    main, owner = b.collections[b.of_kind[b.record]].fields, b.collections[b.of_kind[b.owner]].fields
    assert 10 <= len(main) <= 18
    assert sum(field.type == "object" for field in main.values()) >= 2
    assert sum(field.type == "list" for field in main.values()) >= 3
    assert "address" in {field.type for field in owner.values()} and "payment_methods" in owner
    of_kind = {kind: [a for n, a in b.attributes.items() if n.startswith(f"{kind}.")] for kind in b.kinds}
    assert 14 <= len(b.attributes) <= 18
    assert len(of_kind[b.record]) >= 7 and len(of_kind[b.owner]) >= 4 and len(of_kind[b.link]) >= 3
    assert len({a.kind for a in of_kind[b.record] if a.numeric}) >= 3
    assert any(a.kind == "defined" and len(a.when) == 2 for a in of_kind[b.record])
    assert 5 <= len(b.actions) <= 6 and 4 <= len(b.searches) <= 6 and len(b.it) >= 4
    assert len(b.notes) >= 5 and all(3 <= len(sentences) <= 4 for sentences in b.notes.values())
    assert 2 <= len(b.setting) <= 4 and len(b.nouns) >= 3


@pytest.mark.parametrize("file", RICH, ids=named)
def test_its_actions_have_arguments_of_many_sorts(file):
    b = read(file)
    tools = [*b.searches, *(action.tool for action in b.actions.values()), *(f"get_{kind}" for kind in b.of_kind)]
    assert len(set(tools)) == len(tools) and not RESERVED & set(tools)
    assert {a.formula.op for action in b.actions.values() for a in action.args.values() if a.formula} == OPS
    assert len({argument.type for _, argument in user_arguments(b)}) >= 5
    users = [sum(argument.comes == "user" for argument in action.args.values()) for action in b.actions.values()]
    assert sum(count == 2 for count in users) >= 3
    assert any(argument.comes == "free" for action in b.actions.values() for argument in action.args.values())
    for action in b.actions.values():
        assert 3 <= len(action.args) <= 6 and len(action.wants) >= 8 and len(action.gerund) >= 2
        assert len(set(action.wants)) == len(action.wants) and len(action.verbs) >= 3
        written = str([effect.value for effect in action.effects])
        for name, argument in action.args.items():
            assert argument.comes != "case" or argument.formula.words
            assert (f"'${name}'" in written) == (argument.comes in ("user", "case")), name
    for name, argument in user_arguments(b):
        assert len(argument.says) >= 3 and all("{value}" in text for text in argument.says), name
        assert argument.type != "enum" or set(argument.told) == set(argument.values), name
        assert len(argument.fact) >= 2, name


@pytest.mark.parametrize("file", RICH, ids=named)
def test_its_attributes_can_be_said_and_held(file):
    b = read(file)
    for name, attribute in b.attributes.items():
        of = field(b, f"{name.partition('.')[0]}.{attribute.path}") if attribute.path else None
        assert attribute.kind == "defined" or len(set(attribute.subjects)) >= 3, name
        if attribute.kind == "word":
            assert attribute.values == of.values and of.type == "enum", name
            assert all(text == text.lower() for text in attribute.told.values()), name
        if attribute.kind == "flag":
            assert of.type == "flag", name
        low, high = (of.min, of.max) if of and of.type == "list" else (of.low, of.high) if of else (0, 0)
        if attribute.kind == "days_since":
            low, high = -high, -low
        if attribute.numeric:
            assert not of.optional and low <= attribute.values[0] and attribute.values[-1] <= high, name
            assert all((value - low) % of.step == 0 for value in attribute.values), name
            assert len(set(attribute.values)) == len(attribute.values), name
        for condition in attribute.when:
            drawn = field(b, f"{name.partition('.')[0]}.{condition.path}")
            domain = {"flag": [False, True], "enum": drawn.values, "text": drawn.values}.get(
                drawn.type, range(drawn.low, drawn.high + 1, drawn.step)
            )
            assert {holds(value, condition.op, condition.value) for value in domain} == {True, False}, name


@pytest.mark.parametrize("file", RICH, ids=named)
def test_a_path_of_an_attribute_is_used_by_nothing_else(file):
    b = read(file)
    used = list(paths(b))
    for at, (name, path) in enumerate(used):
        assert not [other for other, second in used[at + 1 :] if overlap(path, second)], name
    others = [a.formula.path for action in b.actions.values() for a in action.args.values() if a.formula]
    others += [f"{b.record}.{path}" for template in b.it for path in re.findall(r"\{([^}]*)\}", template)]
    kinds = {collection: kind for kind, collection in b.of_kind.items()}
    others += [
        f"{kinds[search.collection]}.{path}"
        for search in b.searches.values()
        for path in [*search.by.values(), *search.show]
    ]
    for name, path in used:
        assert not [other for other in others if overlap(path, other)], name
    for template in b.it:
        for path in re.findall(r"\{([^}]*)\}", template):
            assert field(b, f"{b.record}.{path}").type in ("text", "enum"), template


@pytest.mark.parametrize("file", RICH, ids=named)
def test_a_write_changes_the_state_and_no_attribute_in_a_confusing_way(file):
    b = read(file)
    used = dict((path, name) for name, path in paths(b))
    formulas = {a.formula.path for action in b.actions.values() for a in action.args.values() if a.formula}
    for action, effect, target in targets(b):
        hit = [name for path, name in used.items() if overlap(path, target)]
        asked = action.args.get(effect.value[1:]) if str(effect.value).startswith("$") else None
        if hit:  # a date that is set beyond those at reset, or a status that no record has at reset
            assert effect.op == "set" and [target] == [path for path in used if overlap(path, target)], target
            assert b.attributes[hit[0]].kind in ("days_until", "word"), target
        assert not [path for path in formulas if overlap(path, target)], target
        drawn = field(b, target)
        if effect.op == "set" and asked and asked.comes == "user" and asked.type not in ("address", "time"):
            if asked.type in ("enum", "text"):
                assert not set(asked.values) & set(drawn.values), target
            else:
                assert drawn.high < asked.low <= asked.high, target
        if effect.op == "set" and not asked:
            assert effect.value not in drawn.values, target
        inner = effect.value.values() if isinstance(effect.value, dict) else [effect.value]
        for value in (value for value in inner if "$" in str(value)):  # a whole argument, not a part of a text
            assert value == "$now" or value[1:] in action.args, target
        if effect.op == "append" and isinstance(effect.value, dict):
            assert set(effect.value) - {"items"} == set(drawn.of.fields), target  # a write may list what it was about
    for name, action in b.actions.items():
        assert any(effect.op == "append" for effect in action.effects), name


@pytest.mark.parametrize("file", RICH, ids=named)
def test_its_standing_rules_can_be_met_and_broken(file):
    b = read(file)
    rules = [(rule.action, rule.attribute) for rule in b.standing]
    assert len(set(rules)) == len(rules)
    assert {rule.otherwise for rule in b.standing} == {"decline", "transfer"}
    assert {rule.attribute for rule in b.standing} == set(b.attributes)
    for name in b.actions:
        assert sum(action == name for action, _ in rules) >= 3, name
    for rule in b.standing:
        choices, wanted = b.attributes[rule.attribute].choices, rule.value
        assert {holds(value, rule.op, wanted) for value in choices} == {True, False}, rule
        assert all(value in choices for value in (wanted if isinstance(wanted, list) else [wanted])), rule


@pytest.mark.parametrize("file", RICH, ids=named)
def test_its_searches_find_and_show(file):
    b = read(file)
    assert {search.collection for search in b.searches.values()} == set(b.collections)
    assert any(f"{b.owner}_id" in s.by for s in b.searches.values() if s.collection == b.of_kind[b.record])
    finds = next(search for search in b.searches.values() if search.collection == b.of_kind[b.owner])
    assert all(set(way) <= set(finds.by) for way in b.identify) and len(b.identify) >= 2
    for name, search in b.searches.items():
        shown = [path.split(".")[-1] for path in search.show]
        assert len(set(shown)) == len(shown) and not any("[]" in path for path in search.show), name


@pytest.mark.parametrize("file", RICH, ids=named)
def test_its_notes_state_facts(file):
    b = read(file)
    sentences = [*b.setting, *(sentence for section in b.notes.values() for sentence in section)]
    for sentence in sentences:
        assert sentence.endswith(".") and not re.search(RULING, sentence.lower()), sentence
    assert len(set(sentences)) == len(sentences)
    assert 250 <= len(" ".join(sentences).split()) <= 700
