"""Conditions as data: solving against brute force, negation, boundaries, rendering, and errors that name the fault."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.trees import expr

DOMAINS = {"e.a": tuple(range(5)), "e.b": ("x", "y", "z"), "o.c": tuple(range(10, 14))}
SPACE = [dict(zip(DOMAINS, values)) for values in itertools.product(*DOMAINS.values())]


def leaf(field):
    """Every kind of comparison that makes sense of one field, limits outside its domain included."""
    values = DOMAINS[field]
    compare = [("eq", st.sampled_from(values)), ("ne", st.sampled_from(values))]
    compare.append(("in", st.lists(st.sampled_from(values), max_size=3)))
    if isinstance(values[0], int):
        limits = st.integers(values[0] - 1, values[-1] + 1)
        compare += [(op, limits) for op in ("le", "ge", "lt", "gt")]
    return st.one_of(
        st.builds(lambda value, op=op: {"op": op, "field": field, "value": value}, value) for op, value in compare
    )


LEAVES = st.one_of(*(leaf(field) for field in DOMAINS))
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a: {"op": "not", "args": [a]}, inner),
        st.builds(
            lambda op, a: {"op": op, "args": a}, st.sampled_from(("and", "or")), st.lists(inner, min_size=1, max_size=3)
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(st.lists(CONDITIONS, max_size=4), st.integers(0, 99), st.sampled_from((0.0, 0.5, 1.0)))
def test_solve_finds_a_solution_exactly_where_brute_force_does(constraints, seed, prefer_boundary):
    solution = expr.solve(constraints, DOMAINS, random.Random(seed), prefer_boundary)
    exists = any(all(expr.holds(c, values) for c in constraints) for values in SPACE)
    assert (solution is not None) == exists
    if solution is not None:
        assert all(expr.holds(c, solution) for c in constraints)
        assert set(solution) == {field for c in constraints for field in expr.fields(c)}
        assert all(value in DOMAINS[field] for field, value in solution.items())


@settings(max_examples=100)
@given(CONDITIONS)
def test_negate_is_the_complement(condition):
    expr.check(condition)
    expr.check(expr.negate(condition))
    assert expr.fields(expr.negate(condition)) == expr.fields(condition)
    for values in SPACE:
        assert expr.holds(expr.negate(condition), values) is not expr.holds(condition, values)


def test_negate_pushes_into_equalities_and_takes_off_a_not():
    equal = {"op": "eq", "field": "e.b", "value": "x"}
    assert expr.negate(equal) == {"op": "ne", "field": "e.b", "value": "x"}
    assert expr.negate(expr.negate(equal)) == equal
    assert expr.negate({"op": "not", "args": [equal]}) == equal


@pytest.mark.parametrize(
    ("op", "value", "true_of"),
    [("eq", 2, [2]), ("ne", 2, [0, 1, 3, 4]), ("in", [0, 4], [0, 4]), ("in", [], []), ("le", 2, [0, 1, 2]),
     ("ge", 2, [2, 3, 4])],
)  # fmt: skip
def test_holds_says_what_the_operator_means(op, value, true_of):
    condition = {"op": op, "field": "e.a", "value": value}
    assert [v for v in DOMAINS["e.a"] if expr.holds(condition, {"e.a": v})] == true_of


def test_holds_of_an_absent_field_is_an_error():
    with pytest.raises(KeyError, match="e.a"):
        expr.holds({"op": "eq", "field": "e.a", "value": 1}, {"e.b": "x"})


@pytest.mark.parametrize("op", ["le", "ge"])
def test_boundary_straddles_the_limit(op):
    condition = {"op": op, "field": "e.a", "value": 2}
    truths = [expr.holds(condition, {"e.a": v}) for v in expr.boundary(condition)]
    assert expr.boundary(condition) == [1, 2, 3]
    assert set(truths) == {True, False}
    assert truths[1], "both limits are inclusive"


def test_boundary_collects_limits_and_nothing_else():
    named = {"op": "eq", "field": "e.b", "value": "x"}
    limit = {"op": "ge", "field": "o.c", "value": 12}
    assert expr.boundary(named) == []
    assert expr.boundary({"op": "and", "args": [named, {"op": "not", "args": [limit]}]}) == [11, 12, 13]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(("le", "ge")), st.integers(1, 3), st.booleans())
def test_solve_prefers_values_at_the_boundary(seed, op, limit, negated):
    condition = {"op": op, "field": "e.a", "value": limit}
    constraint = expr.negate(condition) if negated else condition
    assert expr.solve([constraint], DOMAINS, random.Random(seed), 1.0)["e.a"] in expr.boundary(condition)


def test_solve_reaches_beyond_the_boundary_too():
    constraint = {"op": "ge", "field": "e.a", "value": 0}
    found = {expr.solve([constraint], DOMAINS, random.Random(seed), 0.0)["e.a"] for seed in range(40)}
    assert found == set(DOMAINS["e.a"])


def test_solve_treats_fields_that_nothing_links_apart():
    # Searched as one product, 90 values of 20 fields would never end.
    domains = {f"e.f{i}": tuple(range(90)) for i in range(20)}
    constraints = [{"op": "eq", "field": field, "value": 77} for field in domains]
    assert expr.solve(constraints, domains, random.Random(0)) == dict.fromkeys(domains, 77)
    contradiction = [*constraints, {"op": "ne", "field": "e.f13", "value": 77}]
    assert expr.solve(contradiction, domains, random.Random(0)) is None


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (None, "expected an object"),
        ({}, "expected an object"),
        ({"op": ["eq"], "field": "e.a", "value": 1}, "expected an object"),
        ({"op": "near", "field": "e.a", "value": 1}, "unknown op 'near'"),
        ({"op": "eq", "field": "e.a"}, "expected keys"),
        ({"op": "eq", "field": "e.a", "value": 1, "else": 2}, "expected keys"),
        ({"op": "eq", "field": "a", "value": 1}, "expected keys"),
        ({"op": "eq", "field": "e.a.b", "value": 1}, "expected keys"),
        ({"op": "eq", "field": "e.", "value": 1}, "expected keys"),
        ({"op": "eq", "field": 1.5, "value": 1}, "expected keys"),
        ({"op": "le", "field": "e.a", "value": "2"}, "le compares with an integer"),
        ({"op": "ge", "field": "e.a", "value": True}, "ge compares with an integer"),
        ({"op": "in", "field": "e.a", "value": "xyz"}, "'in' takes a list"),
        ({"op": "in", "field": "e.a", "value": ["x", {"y": 1}]}, "values are texts and integers"),
        ({"op": "eq", "field": "e.a", "value": None}, "values are texts and integers"),
        ({"op": "and", "args": []}, "and needs arguments"),
        ({"op": "or"}, "or needs arguments"),
        ({"op": "not", "args": [{"op": "eq", "field": "e.a", "value": 1}] * 2}, "not needs one argument"),
        ({"op": "not", "args": [{"op": "or", "args": [{"op": "like"}]}]}, "unknown op 'like'"),
    ],
)
def test_check_names_the_fault(condition, named):
    with pytest.raises(ValueError, match=named):
        expr.check(condition)


def test_render_in_words():
    named, limit = {"op": "eq", "field": "e.b", "value": "x"}, {"op": "le", "field": "e.a", "value": 2}
    assert expr.render(named) == '"b" is "x"'
    assert expr.render(limit) == '"a" at most 2'
    assert [expr.render({**limit, "op": op}) for op in ("lt", "gt")] == ['"a" below 2', '"a" above 2']
    assert expr.render({"op": "in", "field": "e.b", "value": ["x", "y"]}) == '"b" is one of "x", "y"'
    assert expr.render({"op": "not", "args": [limit]}) == 'not ("a" at most 2)'
    assert expr.render({"op": "and", "args": [named, limit]}) == '"b" is "x" and "a" at most 2'
    # Without parentheses "a and b or c" would have two readings.
    either = {"op": "or", "args": [named, limit]}
    assert expr.render({"op": "and", "args": [limit, either]}) == '"a" at most 2 and ("b" is "x" or "a" at most 2)'


def test_fields_in_order_without_repetition():
    leaves = [{"op": "eq", "field": f, "value": 1} for f in ("o.c", "e.a", "o.c")]
    assert expr.fields({"op": "or", "args": [*leaves, {"op": "not", "args": leaves[:1]}]}) == ["o.c", "e.a"]
