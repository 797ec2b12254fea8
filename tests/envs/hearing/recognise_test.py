"""What is heard in an agent's message: a table of phrasings, and properties of any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.hearing.lexicon import Lexicon, Verb
from envs.hearing.recognise import Heard, Proposal, recognise
from tests.envs.hearing import phrasings as said
from tests.envs.hearing.phrasings import SHOP


def verbs(proposals):
    return [proposal.verb for proposal in proposals]


@pytest.mark.parametrize(("text", "expected"), [*said.CONSENT, *said.MORE_CONSENT])
def test_consent_is_heard(text, expected):
    assert verbs(recognise(text, SHOP).consent) == (expected.split() or [None])


@pytest.mark.parametrize(
    "text",
    [*said.NO_CONSENT, *said.MORE_NO_CONSENT, *said.WHICH, *said.NOT_DONE, *said.REFUSES, *said.MORE, *said.SMALLTALK],
)
def test_nothing_else_is_taken_for_consent(text):
    offered = [t for t, _ in said.CONSENT] + [
        "Shall I cancel the job?",
        "I can't cancel it, but I can move it to 3 June.",
    ]
    assert text in offered or recognise(text, SHOP).consent == ()


@pytest.mark.parametrize(("text", "expected"), said.ASK)
def test_facts_asked_for_are_heard_in_order(text, expected):
    heard = recognise(text, SHOP)
    assert (heard.asks, heard.consent) == (tuple(expected.split()), ())


@pytest.mark.parametrize("text", said.WHICH)
def test_a_choice_is_heard(text):
    assert recognise(text, SHOP).which


@pytest.mark.parametrize(("text", "expected"), said.DONE)
def test_what_was_done_is_heard(text, expected):
    assert verbs(recognise(text, SHOP).done) == (expected.split() or [None])


@pytest.mark.parametrize("text", [*said.NOT_DONE, *said.INFORMS, *said.SMALLTALK])
def test_nothing_else_is_taken_for_done(text):
    assert recognise(text, SHOP).done == ()


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("refuses", said.REFUSES),
        ("hands_over", said.HANDS_OVER),
        ("anything_else", said.MORE),
        ("smalltalk", said.SMALLTALK),
        ("unclear", said.UNCLEAR),
    ],
)
def test_other_acts_are_heard(field, texts):
    assert [text for text in texts if not getattr(recognise(text, SHOP), field)] == []


@pytest.mark.parametrize("text", said.NO_REFUSAL)
def test_nothing_else_is_taken_for_a_refusal(text):
    assert not recognise(text, SHOP).refuses


@pytest.mark.parametrize("text", said.INFORMS)
def test_information_is_no_act(text):
    assert recognise(text, SHOP) == Heard()


def test_proposals_have_the_values_of_their_clauses():
    text = "For W-204 I'd move the job to 14 March and refund $40.00 to your card. Shall I?"
    move, refund = recognise(text, SHOP).consent
    assert move == Proposal("reschedule_job", ("W-204", "--03-14"))
    assert refund == Proposal("refund_deposit", ("4000c",))
    summary = "**Action:** cancel\n- Job: W-204\n- Fee: $12.50\n\nDo you confirm?"
    assert recognise(summary, SHOP).consent == (Proposal("cancel_job", ("W-204", "1250c")),)


def test_a_fact_and_a_write_may_stand_in_one_message():
    heard = recognise("I've moved the job to 14 March. What's the best email for the receipt?", SHOP)
    assert (verbs(heard.done), heard.asks, heard.consent) == (["reschedule_job"], ("email",), ())


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="family 'fly' is none of"):
        recognise("Shall I?", Lexicon({}, (Verb("fly", (), "fly"),), ()))


OPENINGS = ("Hello! ", "Hi there, ", "Thanks for waiting. ", "Great, thank you! ", "Perfect. ", "Sure! ")
CLOSINGS = (" Thank you!", " Thanks.", " Thank you for your patience.")


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("opening", OPENINGS)
def test_greetings_and_thanks_around_a_message_change_nothing(opening, closing):
    for text, _ in [*said.CONSENT, *said.ASK, *((text, "") for text in said.NO_CONSENT)]:
        alone = recognise(text, SHOP)
        whole = opening + "\n" + text if "\n" in text or text[0] == ">" else opening + text + closing
        around = recognise(whole, SHOP)
        assert (text, around.asks, verbs(around.consent)) == (text, alone.asks, verbs(alone.consent))


PLAIN = {
    "cancel": "cancel W-204",
    "refund": "refund the payment",
    "reschedule": "reschedule the visit",
    "renew": "renew the contract",
    "pause": "pause the contract",
    "upgrade": "upgrade the contract",
    "extend": "extend the hire",
    "book": "book the room",
    "add_item": "add a lamp",
    "remove_item": "remove the lamp",
    "exchange": "exchange the lamp",
    "transfer": "transfer the ticket",
    "redirect": "redirect the parcel",
    "close_account": "close the account",
    "waive_fee": "waive the fee",
    "open_claim": "file a claim",
    "send_document": "email the invoice",
    "change_address": "change the delivery address",
    "change_payment": "update the payment method",
    "resume": "resume the contract",
}
TRADES = Lexicon({}, tuple(Verb(f"do_{family}", (), family) for family in PLAIN), ("order",))
ASKING = (
    "Shall I {} now?",
    "Would you like me to {}?",
    "I can {} for $5. Shall I go ahead?",
    "I'd {}. Is that OK?",
    "Please confirm that you want me to {}.",
    "Just say yes and I'll {}.",
    "**Next step:** {}\n\nDo you confirm (yes/no)?",
)
TELLING = (
    "I'll {} now.",
    "You don't want me to {}, right?",
    "May I ask why you want to {}?",
    "If I {}, what happens then?",
)


@pytest.mark.parametrize("family", PLAIN)
@pytest.mark.parametrize("frame", ASKING)
def test_another_verb_in_a_question_is_another_proposal(family, frame):
    assert verbs(recognise(frame.format(PLAIN[family]), TRADES).consent) == [f"do_{family}"]


@pytest.mark.parametrize("family", PLAIN)
@pytest.mark.parametrize("frame", TELLING)
def test_a_verb_alone_makes_no_consent(family, frame):
    assert recognise(frame.format(PLAIN[family]), TRADES).consent == ()


@given(st.text(st.characters(), max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_text_is_heard_without_raising(text):
    assert isinstance(recognise(text, SHOP), Heard)


@given(
    st.lists(
        st.sampled_from(
            [*"?!.,:;-–()*#\n\"'$ ", "shall", "I", "cancel", "it", "or", "not", "yes", "W-204", "$5", "\ud800"]
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_any_order_of_words_and_marks_is_heard_without_raising(pieces):
    assert isinstance(recognise(" ".join(pieces), SHOP), Heard)
    assert isinstance(recognise("".join(pieces), SHOP), Heard)


@pytest.mark.parametrize(
    "piece",
    ["a", "1", " ", "? ", "\n", "'", "-", "W-", "🙂", "\x00", "\ud800", "cancel ", "shall I ", "change to ", "$1 "],
)
def test_a_hundred_kilobytes_are_heard(piece):
    assert isinstance(recognise(piece * (100_000 // len(piece)), SHOP), Heard)


def test_the_work_is_linear_in_the_text(monkeypatch):
    """Counted in patterns that are tried, not in seconds."""
    from envs.hearing.patterns import Matcher

    counts = []
    ends = Matcher._ends

    def counted(elements, tokens, at):
        counts[-1] += 1
        return ends(elements, tokens, at)

    monkeypatch.setattr(Matcher, "_ends", staticmethod(counted))
    for times in (20, 40, 80):
        counts.append(0)
        recognise("I can cancel job W-204 and refund $40.00. Shall I go ahead? " * times, SHOP)
    assert counts[2] - counts[1] <= 2.2 * (counts[1] - counts[0])
