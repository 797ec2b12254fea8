"""The scripted user: what it takes for a question, to what it consents, and when it leaves."""

import pytest

from envs.user import User
from tests.support.worlds import CONSENT, REFUSED, TASKS, play, say, steps_of

SCRIPT = {"request": "Hi.", "record_id": "482", "verb": "refund", "slots": {"method": "card"}, "withheld": ["method"],
          "accepts": True, "yes": "Yes.", "no": "No."}  # fmt: skip


def user(**changes):
    return User({**SCRIPT, **changes})


def test_the_user_reveals_what_it_is_asked_for():
    checked = '"status": "paid", rule is "paid": yes. Which "method"?'
    for text in ('Which "method"?', "which METHOD do you want?", checked):
        assert user().reply(text, False) == ('"method": "card".', [{"type": "asked", "slot": "method"}])


@pytest.mark.parametrize("text", ["method.", 'Tell me the "method"', "Which methods?", "Which way?", "?"])
def test_the_user_does_not_take_everything_for_the_question(text):
    assert user().reply(text, False) == ("Please go on.", [])


def test_the_user_consents_or_refuses():
    text = "Please confirm: refund order 482?"
    assert user().reply(text, False) == ("Yes.", [{"type": "confirm", "answer": "accepted", "id": "482"}])
    assert user(accepts=False).reply(text, False) == ("No.", [{"type": "confirm", "answer": "refused", "id": "482"}])
    checked = f'"amount": 42, rule at most 50: yes. {text}'
    assert user().reply(checked, False)[1] == [{"type": "confirm", "answer": "accepted", "id": "482"}]


@pytest.mark.parametrize("text", ["Please confirm?", "confirm 48?", "confirm 4820?", "confirm 4 8 2?", "confirm x482?"])
def test_consent_to_another_record_is_not_given(text):
    assert user().reply(text, False) == ("That is not mine.", [])


@pytest.mark.parametrize("text", ["confirm 482.", "Confirmed 482?", "482?"])
def test_what_does_not_ask_for_consent_gets_none(text):
    assert user().reply(text, False) == ("Please go on.", [])


def test_the_user_gives_up_after_one_reminder():
    impatient = user()
    assert impatient.reply("", False) == ("Please go on.", [])
    assert impatient.reply('Which "method"?', False)[0] == '"method": "card".'
    assert impatient.reply("Hm.", False) == (None, [{"type": "user_ended"}])


def test_the_user_leaves_when_the_matter_is_settled():
    assert user().reply("Done.", True) == (None, [{"type": "user_ended"}])
    assert user().reply("Anything else?", True) == (None, [{"type": "user_ended"}])
    assert user().reply('Which "method"?', True)[0] == '"method": "card".'


def test_the_user_of_an_episode_follows_its_script():
    for task, closing in ((CONSENT, "Done."), (REFUSED, "Left as it is.")):
        record_id = task.user["record_id"]
        score, answers = play(task, [steps_of(task)[0], say(f"Please confirm: {record_id}?"), say(closing), say("?")])
        wording = task.user["yes"] if task is CONSENT else task.user["no"]
        assert answers[1] == [{"role": "user", "content": wording}]
        assert score.subgoals[f"consent_{'accepted' if task is CONSENT else 'refused'}"]
        # A refusal settles the matter; consent does not: the write is still to come.
        reminder = [{"role": "user", "content": "Please go on."}]
        assert answers[2:] == ([reminder, []] if task is CONSENT else [[]])


def test_every_scripted_question_is_understood():
    for task in TASKS:
        for step in task.oracle:
            if "call" not in step and "?" in step["say"]:
                answer, events = User(task.user).reply(step["say"], False)
                slot, value = next(iter(task.user["slots"].items()))
                if "confirm" in step["say"]:
                    assert [e["type"] for e in events] == ["confirm"]
                else:
                    assert (answer, events) == (f'"{slot}": "{value}".', [{"type": "asked", "slot": slot}])
