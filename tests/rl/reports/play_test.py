"""Playing a task by hand: what is typed, what is shown, and what is scored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from envs import base
from rl.reports import play, report, typed
from synth import dataset

REPOSITORY = Path(__file__).parents[3]
TOOLS = [
    {"type": "function", "function": {
        "name": "move_visit", "description": "Move a visit.",
        "parameters": {"type": "object", "required": ["visit_id", "fee_cents"], "additionalProperties": False,
                       "properties": {"visit_id": {"type": "string"}, "fee_cents": {"type": "integer"},
                                      "note": {"type": "string", "description": "A note."},
                                      "tell": {"type": "boolean"}, "to": {"type": "object"}}}}},
    {"type": "function", "function": {
        "name": "calculate", "description": "Calculate.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}}}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ('move_visit {"visit_id": "V1", "fee_cents": 3}', {"visit_id": "V1", "fee_cents": 3}),
        ("move_visit visit_id=V1 fee_cents=3", {"visit_id": "V1", "fee_cents": 3}),
        ("move_visit visit_id=V1 fee_cents=3 note=by the back door tell=true",
         {"visit_id": "V1", "fee_cents": 3, "note": "by the back door", "tell": True}),
        ('move_visit note="a=b, it\'s" visit_id=V1 fee_cents=3',
         {"note": "a=b, it's", "visit_id": "V1", "fee_cents": 3}),
        ('move_visit visit_id=V1 fee_cents=3 to={"a":1}', {"visit_id": "V1", "fee_cents": 3, "to": {"a": 1}}),
    ],
)  # fmt: skip
def test_calls_are_read_as_json_or_pairs(line, arguments):
    name, text = typed.call(line, TOOLS)
    assert (name, json.loads(text)) == ("move_visit", arguments)


@pytest.mark.parametrize(
    "line",
    ["Hello, how are you?", "calculate it yourself", "Shall I move_visit?", "> move_visit now", "x = 3", "Note: {"],
)
def test_words_are_words(line):
    message = typed.message(line, TOOLS, 0)
    assert message == {"role": "assistant", "content": line.removeprefix("> ")}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("move_vist visit_id=V1", "did you mean move_visit?"),
        ("move_visit soon", "begin with '> '"),
        ("move_visit {broken", "not JSON"),
        ("move_visit visit_id=V1", "'fee_cents' is a required property"),
        ("move_visit visit_id=V1 fee_cents=three", "expected integer"),
        ("move_visit visit_id=V1 fee_cents=3 colour=red", "colour"),
        ('move_visit "V1" visit_id=V1', "begin with '> '"),
        ("  ", "nothing to send"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(line, told):
    with pytest.raises(ValueError) as error:
        typed.message(line, TOOLS, 0)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_message_holds_words_and_several_calls():
    message = typed.message("One moment.\ncalculate expression=1+1\ncalculate expression=2", TOOLS, 4)
    assert message["content"] == "One moment."
    assert [call["id"] for call in message["tool_calls"]] == ["call_4_0", "call_4_1"]


def session(task, *lines):
    """(the record, everything that was shown) of a session with these lines."""
    shown, left, game = [], list(lines), play.Game(task)
    desk = play.Desk(game, lambda: left.pop(0) if left else None, shown.append, echo=True)
    try:
        return base.run(desk.play()), "\n".join(shown)
    finally:
        game.close()


def lines_of(task):
    """The oracle's steps as a person would type them."""
    found = []
    for step in task.oracle:
        if "call" in step:
            found.append(f"{step['call']} {json.dumps(step['args'])}")
        else:
            found.append(step["say"])
    return found


@pytest.fixture(scope="module")
def task():
    return play.fresh("business", "cycle_repair", "guard,confirm", "legal", 5)


@pytest.fixture(scope="module")
def tiny():
    return play.fresh("tiny", "", "guard", "illegal", 1)


def test_an_oracle_typed_by_hand_earns_everything(task, tiny):
    for one in (task, tiny):
        record, _ = session(one, *lines_of(one))
        assert record["score"]["reward"] == 1.0 and record["reason"] == "ended"
        assert "-- reward 1.00" in report.format_trajectory(record)


def test_commands_show_what_they_should_and_nothing_secret(task):
    _, shown = session(task, ":manual", ":tools", ":state", ":tools nothing", ":nonsense", ":help", "no_tool a=1")
    assert task.policy in shown and "calculate: Calculate" in shown and "0 messages sent" in shown
    assert "there is no tool nothing" in shown and ":nonsense: no such command" in shown
    assert "no tool no_tool" in shown
    assert "subgoals" not in shown and task.branch[-1] not in shown.split()
    _, cheated = session(task, ":cheat")
    assert '"subgoals"' in cheated and "guard" in cheated


def test_undo_takes_back_a_message(task):
    first = lines_of(task)
    record, shown = session(task, ":undo", "Nonsense?", ":undo", *first)
    assert "nothing to take back" in shown and "taken back" in shown
    assert record["score"]["reward"] == 1.0 and record["turns"] == len(task.oracle)


def test_the_end_tells_the_node_and_what_the_oracle_does(task):
    record, _ = session(task, "Hello!", ":end", "never said")
    told = play.ending(task, record, base.run(play.oracle(task)))
    assert "was not brought to an end" in told and "left its branch at n0" in told and "in the tree: n0" in told
    assert "The oracle plays it so:" in told and "never said" not in told


@pytest.mark.parametrize("name", play.WORLDS)
def test_questions_can_be_played(name):
    question = play.asked(name, 1)
    record, shown = session(question, ":tools", f"\\boxed{{{question.answer}}}")
    assert record["reason"] == "ended" and record["score"]["subgoals"]["answer"]
    assert play.ending(question, record, base.run(play.oracle(question)))


def test_tasks_of_a_run_are_found(task, tiny, tmp_path):
    dataset.write(tmp_path / "tasks" / "round_0", {"heldout": [task], "train": [tiny]})
    assert play.stored(str(tmp_path), None, "heldout", "") == task
    assert play.stored(str(tmp_path), 0, "train", tiny.id) == tiny
    for wanted in ((1, "train", ""), (0, "train", "7"), (0, "train", "nobody"), (0, "base", "")):
        with pytest.raises(ValueError):
            play.stored(str(tmp_path), *wanted)
    with pytest.raises(FileNotFoundError):
        play.stored(str(tmp_path / "none"), None, "train", "")


def command(*flags, typed_in=""):
    line = [sys.executable, "-m", "rl.reports.play", *flags]
    done = subprocess.run(line, input=typed_in, capture_output=True, text=True, cwd=REPOSITORY)
    return done.returncode, done.stdout, done.stderr


def test_the_command_plays_from_standard_input_and_saves(tmp_path):
    file = tmp_path / "played.json"
    flags = ("--register=tiny", "--operator=guard", "--seed=1", f"--save={file}")
    code, out, _ = command(*flags, typed_in="Hello.\n")
    assert code == 0 and "[assistant] Hello." in out and "The oracle plays it so:" in out
    assert json.loads(file.read_text())["turns"] == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--business=nobody",), "nobody"),
        (("--operator=nothing",), "nothing"),
        (("--task=3",), "--task needs --workdir"),
        (("--workdir=nowhere",), "no round"),
        (("stray",), "unexpected argument"),
        (("--world=moon",), "world"),
    ],
)
def test_wrong_flags_are_told_in_a_line(flags, told, capsys):
    with pytest.raises(SystemExit) as end:
        play.main(list(flags))
    assert told in str(end.value) and str(end.value).startswith("rl.reports.play: ")
