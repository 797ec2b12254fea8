"""The figures on how realistic tasks are, worked out by hand."""

import pytest

from synth import generate
from synth.business import catalogue
from synth.previews import realism
from synth.previews.realism import Sample
from synth.trees import domains, workflow

LOOK = {"type": "function", "function": {"name": "look", "parameters": {
    "type": "object",
    "properties": {"place": {"type": "string", "enum": ["here", "there"]}, "deep": {"type": "integer"}},
    "required": ["place"],
}}}  # fmt: skip
MOVE = {"type": "function", "function": {"name": "move", "parameters": {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "boxes": {"type": "array", "items": {"type": "object", "properties": {"n": {"enum": [1, 2]}}}},
        "to": {"type": "string"},
    },
    "required": ["type", "boxes", "to"],
}}}  # fmt: skip
WAIT = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}}}
RECORD = {"id": "a", "address": {"city": "x", "lines": ["1", "2"]}, "items": [{"n": 1}, {"n": 2}], "none": None}


def test_an_example_worked_out_by_hand():
    tally = realism.Tally()
    tally.add(
        Sample(
            policy="Never move\n boxes twice.", tools=[LOOK, MOVE, WAIT], writes=["move"], records=[RECORD],
            script=["I want it moved.", "Ada Ng"], first="I want it moved.", turns=4, calls=["look", "look", "move"],
            tokens=50,
        )
    )  # fmt: skip
    tally.add(Sample(policy="Wait.", tools=[WAIT], writes=[], script=["Yes"], calls=[]))
    found = tally.figures()
    assert found["tasks"] == 2
    same = {
        "policy_words": (2.5, 1, 4),
        "tools": (2, 1, 3),
        "arguments_a_tool": (1.25, 0, 3),  # 2, 3, 0 and 0
        "arguments_a_write": (3, 3, 3),
        "tools_with_array": (0.17, 0, 0.33),
        "tools_with_object": (0.17, 0, 0.33),
        "tools_with_enum": (0.33, 0, 0.67),
        "tools_with_optional": (0.17, 0, 0.33),
        "record_fields": (4, 4, 4),
        "record_depth": (3, 3, 3),  # the record, the address, its lines
        "record_leaves": (7, 7, 7),  # a, x, 1, 2, 1, 2 and nothing
        "script_words": (3.5, 1, 6),
        "first_message_words": (4, 4, 4),
        "oracle_turns": (4, 4, 4),
        "oracle_calls": (1.5, 0, 3),
        "oracle_distinct_tools": (1, 0, 2),
        "prompt_tokens": (50, 50, 50),
    }
    assert {*same} == {*realism.MEASURES}
    for name, (mean, low, high) in same.items():
        assert found[name] == {"mean": mean, "low": low, "high": high}, name
    assert found["distinct_words"] is None and found["distinct_2"] is None


def test_words_are_counted_over_a_hundred_tasks_at_a_time():
    tally = realism.Tally()
    for number in range(250):
        tally.add(Sample(script=[f"Please, please move box {number % 150}."]))
    found = tally.figures()
    # please, move, box and a hundred numbers, twice; of the last 50 nothing is said
    assert found["distinct_words"] == {"mean": 103, "low": 103, "high": 103}
    # of four pairs each, three are the same everywhere, the last never
    assert found["distinct_2"]["mean"] == pytest.approx(103 / 400, abs=0.005)


def test_a_script_is_all_that_the_user_may_say_or_knows():
    user = {
        "request": "I'd like to move my box on Monday.", "wish": "move my box", "yes": "Yes.", "no": "No.",
        "record_id": "B1", "slots": {"day": "2026-03-02"}, "its": {"B1": "my box", "B2": "the red crate"},
        "knows": {"day": {"says": "Monday", "words": ["day"]}, "name": {"says": "Ada Ng", "words": []}},
        "voice": {"unclear": "Sorry, I'd like to {wish}."}, "insists": ["But it is light."],
        "hears": {"records": ["crate"]},
        "later": [{"record_id": "B2", "request": "And the red crate?"}],
    }  # fmt: skip
    assert set(realism.script(user)) == {
        "I'd like to move my box on Monday.", "Yes.", "No.", "Ada Ng", "Sorry, I'd like to {wish}.", "But it is light.",
        "And the red crate?",
    }  # fmt: skip
    tiny = {"request": 'Move "B1".', "yes": "Yes.", "no": "No.", "slots": {"day": "monday", "n": 3}, "record_id": "B1"}
    assert set(realism.script(tiny)) == {'Move "B1".', "Yes.", "No.", "monday", "3"}


@pytest.fixture(scope="module")
def made():
    """A task of two written businesses, of a composed one, and of a domain of the tiny dialect."""
    names = ["cycle_repair", "music_school", catalogue.composed(1)[0].name, "hotels"]
    flows = [workflow.roots("train", 1, [domains.find(name)], 0)[0] for name in names]
    return [task for flow in flows for task in generate.of_tree(flow, ["legal"], 0)]


def test_figures_are_by_where_the_world_is_from(made):
    found = realism.figures(made, tokens=lambda task: len(task.policy))
    assert [*found] == ["written", "composed", "tiny"] and found["written"]["tasks"] == 2
    assert found["written"]["businesses"] == 2 and "businesses" not in found["composed"]
    shared = found["written"]["shared"]
    assert set(shared) == {"tool_names", "attributes", "5grams"} and all(0 <= share < 0.5 for share in shared.values())
    longest = max(len(task.policy) for task in made if task.domain in ("cycle_repair", "music_school"))
    assert found["written"]["prompt_tokens"]["high"] == longest
    for name in ("written", "composed"):
        assert all(found[name][key] for key in realism.MEASURES)
    assert realism.figures(made)["tiny"]["prompt_tokens"] is None
