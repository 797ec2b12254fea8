"""Other words for what a user says: the same facts and no others, through the same gates; and what asking will cost."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import world
from synth import generate, operators
from synth.gating import gates
from synth.growth import selection
from synth.inversion import utterances
from synth.teachers import estimate, llm, teacher
from synth.trees import domains, workflow
from tests.support import scripted_endpoint

server = scripted_endpoint.server


def grown(rounds):
    flows, found = workflow.roots("train", 14, domains.select("all"), 0), []
    for _ in range(rounds):
        flows = selection.grow(flows, {}, operators.select("all"), selection.Selection(), 0)
        found += generate.tasks(flows, 2, 0.5, 0)
    return found


TASKS = grown(3)
CLAIMED = next(task for task in TASKS if "insists" in task.user)
LATER = next(task for task in TASKS if any("request" in goal for goal in task.user.get("later", ())))
WITH_DETAIL = next(task for task in TASKS if not task.user["withheld"] and "find" not in task.user)


def other_words(said):
    """What a good model makes of what a user says."""
    told = {name: f"Well then. {text.replace('Please', 'Kindly')}" for name, text in said.items()}
    return {**told, "yes": "Sure, yes.", "no": "Ah, no, leave that."}


def test_what_a_user_says_is_named_and_put_back():
    for task in TASKS:
        said = utterances.of(task)
        assert utterances.reworded(task, said) == task
        utterances.check(task, said)
        utterances.check(task, other_words(said))
    assert {"insists_0", "insists_1"} < set(utterances.of(CLAIMED)) and "later_1" in utterances.of(LATER)


@given(st.integers(0, 10_000))
def test_no_fact_can_be_lost_or_added(seed):
    rng = random.Random(seed)
    task = rng.choice(TASKS)
    said = utterances.of(task)
    quoted = said["request"].split('"')
    fact = rng.randrange(1, len(quoted), 2)
    lost = '"'.join([*quoted[:fact], "", *quoted[fact + 1 :]])
    domain = domains.DOMAINS[task.domain]
    value = rng.choice([str(v) for values in domain.record.fields.values() for v in values])
    no = rng.choice(["I do not need you to do this: ", "Never ", "I wouldn't want: ", "Do refrain: ", "CANCEL this: "])
    for changed in (lost, said["request"] + f' And "{value}".', said["request"] + " I am 90.", no + said["request"]):
        with pytest.raises(ValueError, match="^request: "):
            utterances.check(task, {**said, "request": changed})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"yes": "Sure."}, "yes: must say yes"),
        ({"yes": "Yes, but not now."}, r"yes: must say yes, without \['but', 'not', 'now'\]"),
        ({"yes": "Yes, but wait, I want to think it over, hold off."}, "yes: must say yes, without"),
        ({"yes": "Yes?"}, r"yes: must say yes, without \['yes\?'\]"),
        ({"no": "No problem, go ahead, do it."}, r"no: must say no, without \['ahead', 'do', 'go', 'problem'\]"),
        ({"no": "No, don\u2019t leave it."}, r"no: must say no, without \[\"don't\"\]"),
        ({"no": "No.\u2028Yes."}, "no: expected one line"),
        ({"insists_1": "Please, don\u2019t do that."}, r"insists_1: negations must be \[\], got \['not'\]"),
        ({"no": "Yes? No."}, "no: must say no"),
        ({"no": "Leave it."}, "no: must say no"),
        ({"insists_0": "But it is true."}, "insists_0: quotes must be"),
        ({"insists_1": "Please, Priya."}, "insists_1: facts must be"),
    ],
)
def test_what_is_wrong_is_named(change, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}"):
        utterances.check(CLAIMED, {**utterances.of(CLAIMED), **change})


def test_a_model_words_users_and_every_task_still_passes(server, tmp_path):
    """A third of the answers lose a fact at first, some for ever: then the persona's own words stay."""
    stubborn = TASKS[4]

    def answer(question):
        said = json.loads(question.split("under its name: ")[1].split(". Say the same")[0])
        words = other_words(said)
        return {**words, "request": "Do it."} if said == utterances.of(stubborn) else words

    server.answer = answer
    server.fault = lambda question, turns: "{}" if turns == 2 and len(question) % 3 == 0 else None
    by = teacher.Llm(llm.Client("scripted", tmp_path, backoff=0.001))
    chosen = TASKS[:20]
    spoken = by.speak(chosen)
    assert [task.id for task in spoken] == [task.id for task in chosen] and spoken[4] == stubborn
    for before, after in zip(chosen, spoken):
        if before != stubborn:
            assert after.user["request"].startswith("Well then. ") and after.user["yes"] == "Sure, yes."
            assert gates.check(after, world.reward) is None
    assert by.client.ledger.failures == 1 and by.client.ledger.repairs > 1
    assert teacher.Program().speak(chosen) == chosen


def test_a_dry_run_counts_what_is_asked_for(server, tmp_path):
    flows = workflow.roots("train", 6, domains.select("all"), 0)
    pairs = [(flow, operators.OPERATORS["guard"]) for flow in flows]
    tasks = generate.tasks(flows, 1, 0.5, 0)

    def go(by):
        by.word(flows)
        by.expand(pairs, 0)
        by.speak(tasks)

    dry = estimate.Estimate("scripted", tmp_path, lambda text: len(text.split()))
    go(teacher.Llm(dry))
    assert not server.requests and not list(tmp_path.iterdir())
    server.answer = lambda question: {"nonsense": 1}
    go(teacher.Llm(llm.Client("scripted", tmp_path)))
    first = [body["messages"] for _, _, body in server.requests if len(body["messages"]) == 2]
    assert dry.ledger.answers == len(first) == 18 and dry.ledger.cached == 0
    assert dry.ledger.prompt_tokens == sum(len(m["content"].split()) for messages in first for m in messages)
    said = sum(len(json.dumps(utterances.of(task)).split()) for task in tasks)
    assert dry.ledger.completion_tokens > said
    again = estimate.Estimate("scripted", tmp_path, len)  # every answer is in the cache by now
    go(teacher.Llm(again))
    assert (again.ledger.answers, again.ledger.cached) == (0, 18)
    server.answer = lambda question: other_words(utterances.of(tasks[0]))
    kept = llm.Client("scripted", tmp_path / "other")
    (spoken,) = teacher.Llm(kept).speak(tasks[:1])
    assert teacher.Llm(estimate.Estimate("scripted", tmp_path / "other", len)).speak(tasks[:1]) == [spoken] != tasks[:1]
    assert llm.Prices(0.5, 4.0).cost(2_000_000, 500_000) == 3.0
