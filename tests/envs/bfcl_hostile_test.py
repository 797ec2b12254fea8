"""Policies that attack the benchmark's tools reach nothing, crash nothing and get an answer to everything."""

import ast
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

bfcl = pytest.importorskip("envs.bfcl", reason="bfcl-eval is not installed: make setup", exc_type=ImportError)

from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils  # noqa: E402

from envs import actors, base  # noqa: E402
from envs.official import bfcl_calls  # noqa: E402
from tests.support import bfcl_official  # noqa: E402
from tests.support.bfcl_play import TURNS, call, left_behind, play, say, truth  # noqa: E402

PAYLOAD = "__import__('os').environ.__setitem__('BFCL_ATTACKED', '1')"
ATTACKS = [
    (PAYLOAD, {}), ("__import__", {"name": "os"}), ("eval", {"source": PAYLOAD}), ("exec", {}),
    ("open", {"file": "/etc/passwd"}), ("exit", {}), ("kill", {}), ("globals", {}), ("print", {"x": 1}),
    ("_load_scenario", {"scenario": {}}), ("__init__", {}), ("__class__", {}), ("cd.__func__.__globals__", {}),
    (f"ls() or {PAYLOAD} or ls", {}), ("ls", {f"a=False) or {PAYLOAD} or dict(b": 1}), ("ls", {"**{}": 1}),
    ("ls", {"": 1}), ("ls", {"a": True, "lambda": 1}), ("ls", {"__class__": "x"}), ("ls", {"ａ": 1}),
    ("ｌｓ", {}), ("l\u200bs", {}), ("ls\n", {}), ("LS", {}), ("\ud800", {}), ("", {}), ("ls" * 100_000, {}),
    ("cat", {"file_name": f"') or {PAYLOAD} or ('"}), ("cat", {"file_name": f"\\') or {PAYLOAD} #"}),
    ("cat", {"file_name": f"{{{PAYLOAD}}}"}), ("cat", {"file_name": f'") or {PAYLOAD} or ("'}),
    ("cat", {"file_name": "\x00\n\r\u2028\ud800\U0001f600" * 9}), ("cat", {"file_name": "x" * 3_000_000}),
    ("mean", {"numbers": "[" * 50_000}), ("mean", {"numbers": [[[[1]]]]}), ("mean", '{"numbers": ' + "[" * 50_000),
    ("mean", '{"numbers": ' + "[" * 500 + "]" * 500 + "}"), ("mean", '{"numbers": [NaN, Infinity, 1e999]}'),
    ("mean", '{"numbers": [' + "9" * 5000 + "]}"), ("add", {"a": 10**4000, "b": "x"}),
    ("power", {"base": 10**4000, "exponent": 10**4000}), ("power", {"base": 9, "exponent": 10**9}),
    ("power", {"base": 9, "exponent": -(10**9)}), ("power", {"base": -1.5, "exponent": 10**300}),
    ("logarithm", {"value": 2, "base": 10, "precision": 10**9}),
    ("logarithm", {"value": 2, "base": 10, "precision": "9" * 9}),
    ("logarithm", {"value": "1e999999999999", "base": 10, "precision": 5}),
    ("square_root", {"number": 2, "precision": 10**9}), ("round_number", {"number": 1, "decimal_places": -(10**9)}),
    ("ls", "[]"), ("ls", "null"), ("ls", "{"), ("ls", '{"a": true, "a": false}'), ("ls", "\x00"), ("ls", "9" * 5000),
]  # fmt: skip
MATHS = next(
    task for task in bfcl.tasks("multi_turn_base")
    if set(task.entry["involved_classes"]) == {"MathAPI", "GorillaFileSystem"}
)  # fmt: skip


def attacked():
    return os.environ.pop("BFCL_ATTACKED", None) is not None


def test_the_package_itself_executes_what_it_is_given():
    """What these tests defend against is real: the same payload, joined as the package joins calls, is executed."""
    call_text = bfcl_official.OFFICIAL.convert_to_function_call([{PAYLOAD.removesuffix("()"): {}}])[0]
    multi_turn_utils.execute_multi_turn_func_call([call_text], {}, [], "attacked", "multi_turn_base_0")
    assert attacked()


def test_attacks_reach_nothing_and_change_nothing(tmp_path, monkeypatch):
    """Each attack alone and all at once, before the right calls: the episode passes as if they had not been made."""
    monkeypatch.chdir(tmp_path)
    for attack in ATTACKS:
        score, _ = play(MATHS, [call(attack, ("ls", {})), *truth(MATHS)])
        assert score.reward == 1.0, attack
    score, _ = play(MATHS, [call(*ATTACKS), *truth(MATHS)])
    assert score.reward == 1.0 and not attacked() and not list(tmp_path.iterdir()) and not left_behind()


def test_arguments_arrive_unaltered():
    """Names of tools inside text are not rewritten, whatever stands around them."""
    quoted = ('it\'s \\(x) \\\\(y) "z"', "\\x28 mean(1)", "é 日本 \U0001f600(", "\x00\n")
    for text in ("sort (it), then ls() and cd('..')", *quoted):
        _, answers = play(MATHS, [call(("echo", {"content": text}))])
        assert json.loads(answers[0][0]["content"]) == {"terminal_output": text}


def test_a_flood_of_calls_is_cut_off():
    many = bfcl_calls.MOST_CALLS
    score, answers = play(MATHS, [call(*[("mkdir", {"dir_name": f"d{i}"}) for i in range(10_000)])])
    assert score.reward == 0.0 and len(answers[0]) == 10_000
    assert {a["content"] for a in answers[0][:many]} == {"None"}
    assert {a["content"] for a in answers[0][many:]} == {f"Error: at most {many} calls at a time"}


@pytest.mark.parametrize(
    "calls",
    [
        [("mkdir", {"dir_name": "a"}), ("cp", {"source": "a", "destination": "a"})],  # a directory that holds itself
        [
            p for i in range(60) for p in (  # every level twice in the next
                ("mkdir", {"dir_name": f"{i + 1}"}),
                ("cp", {"source": f"{i}", "destination": f"{i}x"}),
                ("mv", {"source": f"{i}", "destination": f"{i + 1}"}),
                ("mv", {"source": f"{i}x", "destination": f"{i + 1}"}),
            )
        ],
        [p for i in range(128) for p in (("mkdir", {"dir_name": "d"}), ("cd", {"folder": "d"}))],
    ],
)  # fmt: skip
def test_states_that_cannot_be_compared_end_the_episode(calls):
    start = call(("mkdir", {"dir_name": "0"}))
    score, _ = play(MATHS, [start, call(*calls), call(*calls), call(*calls)])
    assert (score.reward, score.violations) == (0.0, ["state_too_large"])
    assert not left_behind()


def test_steps_after_the_end_are_refused():
    env = bfcl.make(MATHS)
    base.run(actors.play(env, actors.scripted([]), TURNS))
    with pytest.raises(RuntimeError, match=r"step after the episode ended \(user\)"):
        base.run(env.step(say("")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted(f["name"] for f in MATHS.functions)) | st.text()
PARAMETERS = sorted({p for f in MATHS.functions for p in f["parameters"]["properties"]})
CALLS = st.tuples(NAMES, st.dictionaries(st.sampled_from(PARAMETERS) | st.text(), JSON, max_size=4) | st.text())


@settings(max_examples=60)
@given(st.lists(st.lists(CALLS, max_size=4), max_size=4))
def test_any_calls_give_an_answer_each_and_a_score(found):
    """No exception whatever is called; every readable call gets a text, and the score is a verdict."""
    messages = [call(*calls) for calls in found]
    score, answers = play(MATHS, messages)
    assert score.reward in (0.0, 1.0) and score.error is None
    for message, answer in zip(messages, answers):
        if bfcl_calls.read(message) and "state_too_large" not in score.violations:
            assert [a["tool_call_id"] for a in answer] == [i for i, _, _ in bfcl_calls.read(message)]
            assert all(isinstance(a["content"], str) for a in answer)


@given(JSON)
def test_expressions_give_back_what_was_said(value):
    """A call's expression, read by Python's own parser, is that call with those values; nothing else gets through."""
    text = bfcl_calls.expression("echo", {"content": value}, {"echo"})
    tree = ast.parse(text, mode="eval").body
    assert text.isascii()
    if isinstance(tree, ast.Call):
        assert tree.func.id == "echo" and not tree.args and text.count("(") == 1
        assert ast.literal_eval(tree.keywords[0].value) == value
    else:  # what JSON does not have
        assert ast.literal_eval(tree).startswith("Error during execution")
        assert any(word in repr(value) for word in ("inf", "nan"))
