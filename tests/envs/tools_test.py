"""Bad calls: whatever a policy writes is answered with an error it can read, and never raises."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import tools
from tests.support.worlds import CONSENT, LINEAR, MISSING, OWNER, call, names, play, reward, say, steps_of


def bad_calls():
    """(what is wrong, arguments of the write as text, words of the error)."""
    _, key, _, copied, slot, record_id, args = names(LINEAR)
    text = json.dumps(args)
    return [
        ("missing argument", json.dumps({key: record_id, copied: args[copied]}), f"'{slot}' is a required property"),
        ("extra argument", json.dumps({**args, "force": True}), "'force' was unexpected"),
        ("text for a number", json.dumps({**args, copied: str(args[copied])}), "is not of type 'integer'"),
        ("true for a number", json.dumps({**args, copied: True}), "True is not of type 'integer'"),
        ("fraction", json.dumps({**args, copied: args[copied] + 0.5}), "is not of type 'integer'"),
        ("not a number", json.dumps({**args, copied: float("nan")}), "nan is not of type 'integer'"),
        ("infinite", text.replace(f": {args[copied]}", ": 1e999"), "inf is not of type 'integer'"),
        ("number for an id", json.dumps({**args, key: 417}), "is not of type 'string'"),
        ("list for an id", json.dumps({**args, key: [record_id]}), "is not of type 'string'"),
        ("object for an id", json.dumps({**args, key: {"id": record_id}}), "is not of type 'string'"),
        ("no such choice", json.dumps({**args, slot: "bitcoin"}), "'bitcoin' is not one of"),
        ("null", "null", "None is not of type 'object'"),
        ("a list", "[]", "[] is not of type 'object'"),
        ("a string", '"x"', "'x' is not of type 'object'"),
        ("nothing", "", "arguments are not JSON"),
        ("cut off", text[:-1], "arguments are not JSON"),
        ("raw call", f"<tool_call>{text}", "arguments are not JSON"),
        ("thousands of digits", text.replace(f": {args[copied]}", ": " + "9" * 5000), "arguments are not JSON"),
        ("too deep", "[" * 100_000, "arguments are nested too deeply"),
    ]


@pytest.mark.parametrize(("arguments", "words"), [case[1:] for case in bad_calls()], ids=[c[0] for c in bad_calls()])
def test_bad_arguments_are_answered_with_an_error_and_change_nothing(arguments, words):
    write = names(LINEAR)[2]
    messages = steps_of(LINEAR)
    score, answers = play(LINEAR, [call((write, arguments)), *messages])
    (answer,) = answers[0]
    assert answer["role"] == "tool" and answer["tool_call_id"] == "call_9_0"
    assert words in json.loads(answer["content"])["error"]
    assert score.reward == 1.0, "a call that was not carried out costs nothing"


@pytest.mark.parametrize("depth", range(700, 1000, 20))
def test_no_depth_of_nesting_escapes_as_an_exception(depth):
    # Between "parses" and "too deep to parse" there are depths at which only the validator's message overflows.
    known = tools.validators(LINEAR.tools)
    read, key, *_ = names(LINEAR)
    parsed, error = tools.parse_arguments(known, read, json.dumps({key: 0}).replace("0", "[" * depth + "]" * depth))
    assert parsed == {} and error


def test_a_whole_float_is_an_integer_as_json_schema_has_it():
    read, key, write, copied, _, record_id, args = names(LINEAR)
    messages = [call((read, {key: record_id})), call((write, {**args, copied: float(args[copied])})), say("Done.")]
    assert reward(LINEAR, messages) == 1.0


@pytest.mark.parametrize("name", ["", "refund", "get_ORDER", "eval", "__class__"])
def test_an_unknown_tool_is_answered_with_the_known_ones(name):
    score, answers = play(LINEAR, [call((name, "{}")), *steps_of(LINEAR)])
    error = json.loads(answers[0][0]["content"])["error"]
    assert repr(name) in error and all(tool["function"]["name"] in error for tool in LINEAR.tools)
    assert score.reward == 1.0


@pytest.mark.parametrize("record_id", ["", "0", "1000", " ", "abc", "1 2", "../..", "n0"])
def test_an_unknown_record_is_an_error_and_no_event(record_id):
    read, key, write, _, _, _, args = names(LINEAR)
    wrong = call((read, {key: record_id}), (write, {**args, key: record_id}))
    score, answers = play(LINEAR, [wrong, *steps_of(LINEAR)])
    assert [json.loads(m["content"]) for m in answers[0]] == [{"error": f"no {key} {record_id}"}] * 2
    assert score.reward == 1.0


def test_ids_with_spaces_are_other_ids():
    read, key, *_, record_id, args = names(LINEAR)
    score, answers = play(LINEAR, [call((read, {key: f" {record_id}"})), *steps_of(LINEAR)[1:]])
    assert "error" in json.loads(answers[0][0]["content"])
    assert "write_before_read" in score.violations


def test_a_malformed_schema_names_its_tool():
    broken = [{"type": "function", "function": {"name": "get_order", "parameters": {"type": "objekt"}}}]
    with pytest.raises(ValueError, match="tool get_order: parameters are not a JSON schema"):
        tools.validators(broken)


def junk(task):
    """Assistant messages of any content: real and unreal tools, real and unreal arguments."""
    read, key, write, copied, slot, record_id, args = names(task)
    text = st.text(st.characters(codec="utf-8"), max_size=8)
    real = st.sampled_from([record_id, *args.values()])
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, real)
    values = st.recursive(
        scalars, lambda v: st.one_of(st.lists(v, max_size=2), st.dictionaries(text, v, max_size=2)), max_leaves=4
    )
    keys = st.one_of(st.sampled_from([key, copied, slot, "reason"]), text)
    objects = st.dictionaries(keys, values, max_size=4)
    arguments = st.one_of(text, st.just(json.dumps(args)), values.map(json.dumps), objects.map(json.dumps))
    tool = st.one_of(st.sampled_from([t["function"]["name"] for t in task.tools]), text)
    words = st.lists(st.sampled_from(["confirm", "?", record_id, slot, "Which", "Done.", "\n", "999"]), max_size=5)
    calls = st.lists(st.tuples(tool, arguments), max_size=3)
    return st.one_of(st.one_of(words.map(" ".join), text).map(say), calls.map(lambda pairs: call(*pairs)))


@settings(max_examples=60)
@given(st.data())
def test_nothing_a_policy_writes_raises(data):
    task = data.draw(st.sampled_from([LINEAR, OWNER, MISSING, CONSENT]))
    messages = data.draw(st.lists(junk(task), max_size=6))
    score, answers = play(task, messages)
    assert 0.0 <= score.reward <= 1.0
    assert play(task, messages) == (score, answers)
    for message, answer in zip(messages, answers):
        calls = [c["id"] for c in message.get("tool_calls", ())]
        if calls:
            assert [m["tool_call_id"] for m in answer] == calls[: len(answer)]
            assert all(isinstance(json.loads(m["content"]), dict) for m in answer)
        else:
            assert [m["role"] for m in answer] in ([], ["user"])
