"""What people did who played agents by hand: every decision of docs/businesses.md, and what customers misheard."""

import json
import re
from pathlib import Path

import pytest

from envs import world
from envs.customer import Customer
from envs.hearing import gist
from rl.reports import play
from tests.support.worlds import call, say, steps_of
from tests.support.worlds import play as played
from tests.support.worlds import reward as earned


def test_every_test_that_the_page_names_is_here():
    page = (Path(__file__).parents[2] / "docs" / "businesses.md").read_text()
    assert [name for name in re.findall(r"`(test_\w+)`", page) if name not in globals()] == []


@pytest.fixture(scope="module")
def lesson():
    """A customer who agrees to a change of two details: 70 minutes, Saturday and the like."""
    return play.fresh("business", "music_school", "missing,confirm", "legal", 3)


@pytest.fixture(scope="module")
def moved():
    """A customer who changes a detail when asked for consent."""
    for seed in range(30):
        task = play.fresh("business", "self_storage", "amend", "legal", seed)
        if task.user.get("amends"):
            return task
    raise AssertionError("no task in which the customer changes a detail")


def script(**changes):
    """A customer of a music school who wants longer lessons."""
    verbs = [
        {"name": "plan", "words": ["lengthen", "upgrade"], "family": ""},
        {"name": "move", "words": ["move", "reschedule"], "family": "reschedule"},
        {"name": "withdraw", "words": ["withdraw", "cancel"], "family": "cancel"},
    ]
    knows = {
        "minutes": {"words": ["length in minutes"], "says": "72", "as": [], "type": "integer", "others": {}},
        "size": {"words": ["size"], "says": "three-quarter size", "as": [], "type": "enum",
                 "others": {"quarter": "quarter size", "half": "half size"}},
        "email": {"words": ["email"], "says": "ada@inbox.example", "as": []},
    }  # fmt: skip
    found = {
        "request": "Hello.", "record_id": "EN-1", "verb": "plan", "slots": {"minutes": 72, "size": "three_quarter"},
        "withheld": [], "accepts": True, "yes": "Yes.", "no": "No.", "now": "2026-07-09", "wish": "have longer lessons",
        "its": {"EN-1": "the violin lessons"}, "knows": knows, "hears": {"verbs": verbs, "records": ["lessons"]},
        "voice": {"unclear": "Pardon? I want to {wish}.", "meant": "No, I want to {wish}.", "waiting": "Okay.",
                  "unknown": "No idea.", "asked": "{said}.", "ends": "No, that's all, thank you."},
    }  # fmt: skip
    return {**found, **changes}


def reply(*texts, settled=False, **changes):
    """The last answer of a new customer to these messages."""
    customer = Customer(script(**changes))
    return [customer.reply(text, settled) for text in texts][-1]


ACCEPTED = [{"type": "confirm", "answer": "accepted", "id": "EN-1"}]
SUMMARY = "I'd make your lessons 72 minutes long, with a three-quarter size violin, for $17.50."


@pytest.mark.parametrize(
    "text",
    [
        f"{SUMMARY} Is that okay with you?",
        f"{SUMMARY} Are you happy with that?",
        f"{SUMMARY} Is that all right with you?",  # and not: is that all?
        "Shall I change your lessons to 72 minutes each, on a three-quarter size violin?",
        "Here's what I would set up: 72-minute lessons, three-quarter size. Are you happy with that?",
    ],
)
def test_whoever_reads_all_their_details_and_is_asked_says_yes(text):
    assert reply(text) == ("Yes.", ACCEPTED)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Shall I do that?", "Pardon?"),  # nothing was described
        ("I'd make them 72 minutes. Is that okay with you?", "Pardon?"),  # one detail of two
        ("So 72 minutes and three-quarter size?", "72, three-quarter size."),  # about the wish: nothing is offered
        ("Shall I cancel the lessons of 72 minutes with the three-quarter size violin?", "No,"),  # another action
        ("Shall I upgrade the lessons to 72 minutes on a half size violin?", "No,"),  # another detail
        ("Shall I upgrade the lessons to 72 minutes on a quarter size violin?", "No,"),
    ],
)
def test_no_consent_to_what_was_not_described_or_is_something_else(text, answer):
    said, events = reply(text)
    assert said.startswith(answer) and not any(event["type"] == "confirm" for event in events)


def test_shall_i_go_ahead_is_about_the_message_before():
    assert reply(SUMMARY, "Shall I go ahead?") == ("Yes.", ACCEPTED)
    assert reply("One moment.", "Shall I go ahead?")[1] == []
    assert reply(SUMMARY, "Sorry, one moment.", "Shall I go ahead?")[1] == []


def test_consent_may_be_asked_twice():
    assert reply(f"{SUMMARY} Okay?", f"{SUMMARY} Okay?") == ("Yes.", ACCEPTED)


def test_a_changed_detail_is_told_until_it_is_stated():
    changed = {"amends": {"size": "quarter"}, "amended": "quarter size"}
    event = [{"type": "confirm", "answer": "amended", "id": "EN-1"}]
    assert reply(f"{SUMMARY} Okay?", **changed) == ("Yes. But make it quarter size.", event)
    again = "Shall I upgrade the lessons to 72 minutes, quarter size?"
    assert reply(again, **changed) == ("Yes.", event)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Is there anything else I can do for you?", "No, that's all, thank you."),
        ("Done. Anything else?", "No, that's all, thank you."),
        ("That's done. Goodbye!", None),
        ("asdf qwer ]]", None),
        ("Thank you for your patience.", None),
        ("Shall I also cancel your cello lessons?", None),
    ],
)
def test_how_a_settled_conversation_ends(text, answer):
    assert reply(text, settled=True) == (answer, [{"type": "user_ended"}])


def test_a_question_by_its_kind_asks_for_the_one_detail_of_that_kind():
    assert reply("How long should they be?") == ("72.", [{"type": "asked", "slot": "minutes"}])


def test_needless_questions_are_answered_and_small_talk_is_borne_three_times():
    customer = Customer(script())
    for _ in range(6):
        assert customer.reply("What is your email, please?", False) == ("ada@inbox.example.", [])
    said = [customer.reply("Thanks! One moment, please.", False)[0] for _ in range(4)]
    assert said == ["Okay.", "Okay.", "Okay.", None]


def test_an_announced_refusal_is_no_riddle():
    assert reply("I'm sorry, but I can't do that.") == ("Okay.", [])


def with_closing(task, text):
    return [*steps_of(task)[:-1], say(text)]


def place(task, tool):
    """(number, arguments) of the oracle's step that calls a tool."""
    return next((i, step["args"]) for i, step in enumerate(task.oracle) if step.get("call") == tool)


def write_of(task):
    tool = next(
        n for n, e in task.effects.items() if e["kind"] == "write" and any(s.get("call") == n for s in task.oracle)
    )
    return tool, *place(task, tool)


@pytest.mark.parametrize("closing", ["x", "Done. Anything else?", "Bye!", "]] ??", "Shall I refund something?"])
def test_the_last_words_cost_nothing(lesson, closing):
    assert earned(lesson, with_closing(lesson, closing)) == 1.0


def test_a_repeated_identical_write_is_made_and_charged_twice(lesson):
    tool, at, args = write_of(lesson)
    steps = steps_of(lesson)
    score, _ = played(lesson, [*steps[: at + 1], call((tool, args)), *steps[at + 1 :]])
    assert score.reward == 0.0 and any(v.startswith("undeclared:") for v in score.violations)


def test_further_reads_calculations_questions_and_thanks_cost_nothing(lesson):
    steps = steps_of(lesson)
    reads = [step for step in lesson.oracle if step.get("call", "").startswith("get_")]
    extra = [call(*((step["call"], step["args"]) for step in reads)), call(("calculate", {"expression": "2*3"}))]
    extra += [say("Thank you for waiting."), say("What is your email, please?")]
    at = write_of(lesson)[1]
    assert earned(lesson, [*steps[:at], *extra, *steps[at:]]) == 1.0


def test_consent_asked_for_another_action_is_put_right_and_costs_nothing(lesson):
    steps, at = steps_of(lesson), write_of(lesson)[1]
    asked = say("Shall I refund the fees?")
    assert earned(lesson, [*steps[:at], asked, *steps[at:]]) == 1.0


def test_a_bare_question_for_consent_is_no_consent(lesson):
    steps = steps_of(lesson)
    at = next(i for i, step in enumerate(lesson.oracle) if "Shall I go ahead" in step.get("say", ""))
    before = steps[at - 1] if "tool_calls" not in steps[at - 1] else None
    bare = say("Shall I do it?")
    assert earned(lesson, [*steps[:at], *([say("One moment.")] if before else []), bare, *steps[at + 1 :]]) == 0.0


def test_reads_may_be_made_in_one_message(lesson):
    messages, calls = [], []
    for message in steps_of(lesson):
        made = message.get("tool_calls", [])
        if made and made[0]["function"]["name"].startswith("get_"):
            calls += made
            continue
        if calls:
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
            calls = []
        messages.append(message)
    assert earned(lesson, messages) == 1.0


def test_words_of_the_customer_count_however_they_are_written():
    customer = Customer(script(slots={"note": "use the side entrance", "to": {"postcode": "NG7 6JH"}}))
    assert customer.in_own_words("note", "Use the side entrance.") == "use the side entrance"
    assert customer.in_own_words("to", {"postcode": "ng7 6jh"}) == {"postcode": "NG7 6JH"}
    assert customer.in_own_words("note", "use the front entrance") == "use the front entrance"
    assert customer.in_own_words("other", 3) == 3


def test_the_changed_detail_is_told_in_an_episode(moved):
    answers = [m["content"] for step in played(moved, steps_of(moved))[1] for m in step if m["role"] == "user"]
    assert any(moved.user["amended"] in answer for answer in answers)


def test_a_rule_on_what_the_record_names_asks_for_no_look_at_its_owner():
    """A rental names its machine. Whether the client's record is read does not matter where no rule is about it."""
    task = play.fresh("business", "equipment_hire", "hop", "any", 1)
    kinds = json.dumps(task.tree)
    assert ('"entity": "client"' in kinds) == ('"client.' in kinds)
    assert world.reward(task, task.oracle) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on a three-quarter size violin", False),
        ("on a quarter size violin", True),
        ("a three_quarter size, not a quarter size", True),
    ],
)
def test_a_value_within_another_is_told_apart(text, expected):
    assert gist.states(text, "quarter", "quarter size", script()["knows"]["size"]) is expected


def test_free_text_is_known_by_most_of_its_words():
    fact = {"says": "use the side entrance", "type": "text", "others": {"ring": "ring at the gate"}}
    assert gist.states("using the side entrance", "use the side entrance", fact["says"], fact)
    assert not gist.states("and ring at the gate", "use the side entrance", fact["says"], fact)
