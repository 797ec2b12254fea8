"""What environments hand back: whatever passes is strict JSON and reads back equal; everything else is named."""

import dataclasses
import enum
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import contract
from envs.base import Score, Step

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
# What json.loads and environments' code can make, JSON or not.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary()
    | st.text(st.characters(codec=None, categories=["L", "N", "Cs"]))
    | st.sampled_from([np.float32(0.5), np.float64("nan"), np.int8(3), np.bool_(True), np.str_("a"), np.ones(2), 1j]),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.sets(st.integers())
    | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)  # fmt: skip


def strict(value):
    """The value, written as strict JSON in UTF-8 and read back. Raises ValueError if it is none."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode(), parse_constant=refuse)


@given(JSON)
def test_json_data_passes_unchanged_and_shares_nothing(value):
    found = contract.data(value, "x")
    assert found == value == strict(found)
    if isinstance(value, (list, dict)) and value:
        value.clear()
        assert found


@given(ANYTHING)
def test_whatever_passes_can_be_written_and_read_back(value):
    try:
        found = contract.data(value, "x")
    except ValueError as error:
        assert str(error).startswith(("x", "a key of x")) and "\n" not in str(error)
        str(error).encode()
        return
    assert strict(found) == found


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float16(1.0), 1.0),
        (np.longdouble(0.25), 0.25),
        (np.int64(-7), -7),
        (np.uint8(255), 255),
        (np.bool_(False), False),
        (np.str_("a"), "a"),
        (Colour.RED, "red"),
        (Level.HIGH, 2),
        ((1, (2,)), [1, [2]]),
        ({Colour.RED: 1}, {"red": 1}),
    ],
)
def test_scalars_that_equal_json_values_become_them(value, expected):
    found = contract.data(value, "x")
    assert found == expected and type(found) is type(expected)
    if isinstance(found, dict):
        assert [type(key) for key in found] == [str]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\ud83d", r"x: text that UTF-8 cannot hold, '\\ud83d'"),
        ({"a": ["\udc00"]}, r"x.a\[0\]: text that UTF-8"),
        ({"\ud83d": 1}, "a key of x: text that UTF-8"),
        (b"a", "x: expected JSON data, got bytes"),
        (np.bytes_(b"a"), "x: expected JSON data, got bytes_"),
        ({1}, "x: expected JSON data, got set"),
        ({"a": {1: 2}}, "x.a: expected text as keys, got int"),
        (math.nan, "x: expected a finite number, got nan"),
        (np.float32("inf"), "x: expected a finite number, got inf"),
        (np.longdouble("1e4000"), "x: expected a finite number, got inf"),
        (np.array(1.0), "x: expected JSON data, got ndarray"),
        (np.timedelta64(1, "D"), "x: expected JSON data, got timedelta64"),
        (np.datetime64(1, "D"), "x: expected JSON data, got datetime64"),
        (1j, "x: expected JSON data, got complex"),
        (object(), "x: expected JSON data, got object"),
    ],
)
def test_everything_else_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        contract.data(value, "x")


def test_integers_that_python_does_not_read_back_are_refused():
    assert strict(contract.data(10**4300 - 1, "x")) == 10**4300 - 1
    for value in (10**4300, -(10**4300)):
        with pytest.raises(ValueError, match="x: expected an integer of at most 4300 digits"):
            contract.data(value, "x")


def test_data_that_contains_itself_is_refused():
    own: list = []
    own.append(own)
    with pytest.raises(ValueError, match="more than 100 levels"):
        contract.data(own, "x")


@pytest.mark.parametrize(
    ("given", "reward"),
    [
        (None, None), (0, 0.0), (1, 1.0), (True, 1.0), (0.25, 0.25), (np.float32(1.0), 1.0), (np.bool_(True), 1.0),
        (1 + 2e-16, 1.0), (1 + 1e-7, 1.0), (-1e-17, 0.0),
    ],
)  # fmt: skip
def test_rewards_that_pass(given, reward):
    """Sums of weights miss 1 by rounding; they are passes all the same."""
    found = contract.score(Score(given, {}, [])).reward
    assert found == reward and type(found) is type(reward)


@pytest.mark.parametrize("reward", [1.001, -0.001, 1e30, math.nan, math.inf, "1.0", [1.0], np.ones(1), b"1", 2, {}])
def test_rewards_that_do_not(reward):
    for name in ("reward", "code_reward"):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            contract.score(dataclasses.replace(Score(1.0, {}, []), **{name: reward}))


def test_a_score_of_ones_own_class_becomes_the_records():
    """Further fields would not be read back."""

    @dataclasses.dataclass(frozen=True)
    class Mine(Score):
        more: int = 3

    found = contract.score(Mine(1.0, {"a": np.bool_(True)}, ("rule",), delta={"a/b/c": (None, 1)}))
    assert type(found) is Score and found == Score(1.0, {"a": True}, ["rule"], delta={"a/b/c": [None, 1]})


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("subgoals", ["a"], "subgoals: expected an object, got list"),
        ("subgoals", {"a": None}, "subgoals.a: expected True or False, got NoneType"),
        ("subgoals", {"a": 2}, "subgoals.a: expected True or False, got 2"),
        ("violations", "rule", "violations: expected a list of texts, got 'rule'"),
        ("violations", [1], "violations: expected a list of texts, got list"),
        ("delta", {"a": 1}, r"delta: expected an object of pairs \[before, after\], got dict"),
        ("error", 3, "error: expected text or None, got 3"),
        ("node", ["n1"], "node: expected text or None, got list"),
        ("reward_source", None, "reward_source: expected text, got NoneType"),
    ],
)
def test_parts_of_a_score_are_named(part, value, message):
    with pytest.raises(ValueError, match=message):
        contract.score(dataclasses.replace(Score(1.0, {}, []), **{part: value}))


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (contract.score, None, "score: expected an envs.base.Score, got NoneType"),
        (contract.score, 1.0, "score: expected an envs.base.Score, got float"),
        (contract.step, ([], True), "step: expected an envs.base.Step, got tuple"),
        (contract.step, Step([], None), "done: expected True or False, got NoneType"),
        (contract.step, Step("hello", True), "messages: expected a list, got 'hello'"),
        (contract.messages, iter(()), "messages: expected a list, got tuple_iterator"),
        (contract.messages, ["hello"], r"messages\[0\]: expected an object, got 'hello'"),
        (contract.messages, [{"content": "a"}], r"messages\[0\]: expected a role that is text"),
        (contract.messages, [{"role": "user", "content": ["a"]}], "user message: expected content as a string"),
        (contract.tools, {}, "tools: expected a list, got dict"),
        (contract.tools, [{"x": math.nan}], r"tools\[0\].x: expected a finite number"),
    ],
)
def test_parts_of_an_episode_are_named(check, value, message):
    with pytest.raises(ValueError, match=message):
        check(value)
