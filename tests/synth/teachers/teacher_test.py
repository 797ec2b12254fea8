"""A language model as teacher: a real HTTP server on loopback speaks the OpenAI API and is often at fault."""

import asyncio
import json
import re
import traceback
import urllib.parse
from collections import Counter

import pytest

import main
from rl import flywheel
from rl.rounds import agentic
from synth import dataset, generate, operators
from synth.growth import selection
from synth.inversion import dialect
from synth.inversion.case import Case
from synth.teachers import llm, teacher
from synth.teachers.llm import Question
from synth.trees import domains, tree, workflow
from tests.support import scripted_endpoint, small_run

server = scripted_endpoint.server

BAKERY = {
    "name": "bakery", "number": "weight",
    "record": {"kind": "cake", "collection": "cakes", "fields": {
        "dough": ["yeast", "sour", "short", "puff"], "icing": ["plain", "choco", "berry", "nut"],
        "stage": ["mixed", "baked", "cooled", "packed"]}},
    "owner": {"kind": "baker", "collection": "bakers", "fields": {
        "shop": ["old", "new", "west", "east"], "badge": ["red", "blue", "green", "grey"]}},
    "link": {"kind": "guild", "collection": "guilds", "fields": {
        "rank": ["first", "second", "third", "fourth"], "seat": ["inland", "coastal", "alpine", "island"]}},
    "actions": [{"verb": "deliver", "slot": "hour", "choices": ["dawn", "noon", "dusk"]},
                {"verb": "decorate", "slot": "motif", "choices": ["star", "rose", "bow"]}],
}  # fmt: skip
WORDING = {
    "intro": "You serve {domain}.", "rule": "Fine when {rule}; otherwise {outcome}.",
    "owner_rule": "The {owner} must have {rule}; otherwise {outcome}.", "consent": "Changes need consent.",
}  # fmt: skip


def answer(question):
    """What a good model answers to the teacher's questions."""
    if "Word the policy" in question:
        return WORDING
    if "line of business" in question:
        return BAKERY
    if "Name the best first" in question:
        return {"operators": sorted(json.loads(re.search(r"about: (\{.*?\})\. Name", question)[1]))[::-1]}
    if "Add a rule" in question:
        field, values = next(iter(json.loads(re.search(r"values: (\{.*?\})\. The rule", question)[1]).items()))
        condition = {"op": "le" if isinstance(values[0], int) else "eq", "field": field, "value": values[1]}
        return {"condition": condition, "otherwise": "transfer"}
    return {"sum": sum(map(int, re.findall(r"\d+", question)))}


@pytest.fixture(autouse=True)
def good_answers(server):
    server.answer = answer


SUM = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"], "additionalProperties": False}
SUMS = [Question([{"role": "user", "content": f"{i} + {i}"}], SUM) for i in range(1, 13)]


def client(cache, **changes):
    return llm.Client("scripted", cache, **{"backoff": 0.01, **changes})


def test_answers_are_in_order_and_paid_for_once(server, tmp_path):
    ours = client(tmp_path)
    assert ours.ask_all(SUMS) == [{"sum": 2 * i} for i in range(1, 13)]
    assert (ours.ledger.answers, ours.ledger.prompt_tokens, ours.ledger.completion_tokens) == (12, 120, 60)
    path, key, body = server.requests[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret-of-the-test", "scripted")
    again = client(tmp_path)
    assert again.ask_all(SUMS) == ours.ask_all(SUMS) and len(server.requests) == 12
    assert (again.ledger.answers, again.ledger.cached) == (0, 12)
    assert not any("secret-of-the-test" in file.read_text() for file in tmp_path.iterdir())


def test_every_fault_is_survived_and_nothing_paid_for_twice(server, tmp_path):
    """Each question meets another sequence of faults before its answer."""
    bad = (429, 500, "drop", "{not json", json.dumps({"sum": "two"}), json.dumps([1]), "")
    left = {f"{i} + {i}": [bad[(i + k) % len(bad)] for k in range(2)] for i in range(1, 13)}
    server.fault = lambda question, turns: left[question].pop(0) if left[question] else None
    ours = client(tmp_path)
    assert ours.ask_all(SUMS) == [{"sum": 2 * i} for i in range(1, 13)]
    assert not any(left.values()) and set(server.paid.values()) == {1}
    assert ours.ledger.answers == sum(server.paid.values()) == len(list(tmp_path.iterdir()))
    assert ours.ledger.retries + ours.ledger.repairs == 24 and ours.ledger.repairs > 8


NO_ANSWERS = {
    "cut off": b'{"id": "x", "cho', "empty": b"", "page": b"<html>bad gateway</html>", "list": b"[1]",
    "error": b'{"error": {"message": "overloaded"}}', "deep": b"[" * 100_000,
    "no choices": scripted_endpoint.completion("", choices=None),
    "no choice": scripted_endpoint.completion("", choices=[]),
    "no message": scripted_endpoint.completion("", choices=[{"index": 0, "finish_reason": "stop", "message": None}]),
    "timeout": 408, "conflict": 409, "overloaded": 529,
}  # fmt: skip


def test_what_is_no_answer_is_asked_for_again(server, tmp_path):
    """Whatever comes instead of a completion is not kept and costs no repair; where nothing else comes, it is shown."""
    left = {f"{i} + {i}": [fault] for i, fault in enumerate(NO_ANSWERS.values(), 1)}
    server.fault = lambda question, turns: left[question].pop() if left[question] else None
    ours = client(tmp_path)
    assert ours.ask_all(SUMS) == [{"sum": 2 * i} for i in range(1, 13)] and not any(left.values())
    assert (ours.ledger.answers, ours.ledger.retries, ours.ledger.repairs) == (12, 12, 0)
    assert len(list(tmp_path.iterdir())) == 12
    server.fault = lambda question, turns: NO_ANSWERS["page"]
    with pytest.raises(llm.NoAnswer, match="2 attempts: .* no chat completion: '<html>bad gateway"):
        client(tmp_path / "other", attempts=2).ask_all(SUMS[:1])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 15, "completion_tokens": 5}, [3], {"prompt_tokens": "9"}])
def test_an_answer_counts_whatever_it_says_of_its_tokens(server, tmp_path, usage):
    server.fault = lambda question, turns: scripted_endpoint.completion('{"sum": 2}', usage=usage)
    ours = client(tmp_path)
    assert ours.ask_all(SUMS[:1]) == [{"sum": 2}] and ours.ledger.answers == len(server.requests) == 1
    counted = 5 if usage and "total_tokens" in usage else 0
    assert (ours.ledger.prompt_tokens, ours.ledger.completion_tokens) == (0, counted)


def test_an_endpoint_says_when_it_wants_to_be_asked_again(server, tmp_path, monkeypatch):
    slept, sleep = [], asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: slept.append(seconds) or sleep(0))
    for asked in ("7", "0.5", "900", "Fri, 31 Dec 1999 23:59:59 GMT", "-1", "nan", ""):
        server.retry_after, faults = asked, iter([429])
        server.fault = lambda question, turns, faults=faults: next(faults, None)
        client(tmp_path / asked[:3], timeout=60.0).ask_all(SUMS[:1])
    assert slept[:3] == [7, 0.5, 60] and all(0.005 <= seconds <= 0.015 for seconds in slept[3:]) and len(slept) == 7


def test_texts_that_no_file_can_hold_are_sent_back(server, tmp_path, monkeypatch):
    bad = ['{"sum": "\\ud800"}', '{"sum": NaN}', "\ud800"]
    monkeypatch.setattr(llm, "REPAIRS", len(bad))
    server.fault = lambda question, turns, left=iter(bad): next(left, None)
    assert client(tmp_path).ask_all(SUMS[:1]) == [{"sum": 2}]
    sent = [message["content"] for message in server.requests[-1][2]["messages"]]
    assert sent[1::2] == [*bad[:2], "?"] and all("not JSON in UTF-8" in complaint for complaint in sent[2::2])


def test_what_was_spent_is_known_after_a_kill(server, tmp_path):
    """Answers are priced at what they cost when they were asked for."""
    prices = llm.Prices(prompt=2e5, completion=4e5)
    first = client(tmp_path, prices=prices)
    first.ask_all(SUMS[:4])
    assert first.ledger.cost == pytest.approx(4 * (10 * 0.2 + 5 * 0.4)) == first.total().cost
    second = client(tmp_path, prices=llm.Prices(prompt=1e5))
    second.ask_all(SUMS[:6])
    assert second.ledger == llm.Ledger(2, 4, 0, 0, 0, 20, 10, pytest.approx(2.0))
    assert second.total() == llm.Ledger(6, 0, 0, 0, 0, 60, 30, pytest.approx(18.0))
    in_all = "; in all 6 answers, 60 prompt tokens, 30 completion tokens, 18.0 cost"
    assert teacher.Llm(second).spent().endswith(in_all)
    unpriced = client(tmp_path / "other")
    unpriced.ask_all(SUMS[:1])
    assert "cost" not in teacher.Llm(unpriced).spent()


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_an_answer_that_does_not_come_is_asked_for_again(server, tmp_path, fault):
    """Also one whose body never ends, though each byte comes soon after the one before."""
    faults = iter([fault])
    server.fault = lambda question, turns: next(faults, None)
    ours = client(tmp_path, timeout=1.0, attempts=30)
    assert ours.ask_all(SUMS[:1]) == [{"sum": 2}]
    assert ours.ledger.retries >= 1 and ours.ledger.answers == 1


def test_malformed_answers_are_sent_back_with_what_is_wrong(server, tmp_path):
    server.fault = lambda question, turns: json.dumps({"sum": "two"}) if turns < 3 else None
    assert client(tmp_path).ask_all(SUMS[:1]) == [{"sum": 2}]
    sent = server.requests[-1][2]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    assert "$.sum: 'two' is not of type 'integer'" in sent[-1]["content"]
    server.fault = lambda question, turns: json.dumps({"sum": "two"})
    stubborn = client(tmp_path)
    assert stubborn.ask_all(SUMS[1:2]) == [None]
    assert (stubborn.ledger.failures, stubborn.ledger.answers) == (1, 1 + llm.REPAIRS)


def test_a_killed_run_goes_on_where_it_was(server, tmp_path):
    server.fault = lambda question, turns: 500 if int(question.split()[0]) > 6 else None
    first = client(tmp_path, attempts=2)
    with pytest.raises(llm.NoAnswer, match="2 attempts: .*500"):
        first.ask_all(SUMS)
    assert (first.ledger.answers, first.ledger.retries) == (6, 6)
    (tmp_path / "half.partial").write_text("{")  # as a killed write leaves it
    server.fault = lambda question, turns: None
    second = client(tmp_path)
    assert second.ask_all(SUMS) == [{"sum": 2 * i} for i in range(1, 13)]
    assert (second.ledger.answers, second.ledger.cached) == (6, 6) and set(server.paid.values()) == {1}
    offline = client(tmp_path, offline=True)
    count = len(server.requests)
    assert offline.ask_all(SUMS) == second.ask_all(SUMS)
    with pytest.raises(llm.NoAnswer, match="not in the cache"):
        offline.ask_all([*SUMS, Question([{"role": "user", "content": "1"}], SUM)])
    assert len(server.requests) == count


def test_what_cannot_be_helped_is_not_tried_again(server, tmp_path, monkeypatch):
    server.fault = lambda question, turns: 401
    ours = client(tmp_path)
    with pytest.raises(llm.NoAnswer, match="the endpoint refuses: .*401"):
        ours.ask_all(SUMS[:1])
    assert len(server.requests) == 1 and ours.ledger.retries == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set"):
        client(tmp_path).ask_all(SUMS[:1])


def test_a_timeout_is_for_the_whole_answer_and_says_so(server, tmp_path):
    server.fault = lambda question, turns: "drip"
    with pytest.raises(llm.NoAnswer, match="^2 attempts: no whole answer within 0.5 s$"):
        client(tmp_path, timeout=0.5, attempts=2).ask_all(SUMS[:3])


@pytest.mark.parametrize(
    ("backoff", "attempt", "seconds"),
    [(1.0, 1, 1), (1.0, 2, 2), (1.0, 6, 32), (1.0, 7, 60), (1.0, 5000, 60), (0.01, 1, 0.01), (100.0, 1, 60)],
)
def test_the_pause_between_attempts_is_bounded(backoff, attempt, seconds):
    assert llm._pause(backoff, attempt) == seconds <= llm.MOST_BACKOFF


SECRET = "sk-live_0123456789/abc+DEF="  # a key with characters that JSON, URLs and Python write in other ways


@pytest.mark.parametrize(
    "echo",
    [
        SECRET, f"Bearer {SECRET}", repr(SECRET), json.dumps({"key": SECRET}), SECRET[:20], SECRET[-12:],
        urllib.parse.quote_plus(SECRET), SECRET.replace("/", "\\/"), SECRET * 3, "x" * (llm.MOST_SHOWN - 30) + SECRET,
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", [401, 500, "body"])
def test_a_key_that_the_endpoint_sends_back_is_not_shown(server, tmp_path, monkeypatch, caplog, capfd, echo, how):
    """Neither in the error's text nor in the traceback of what it was made from, nor in a log."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.complaint = f"wrong key: {echo}"
    server.fault = lambda question, turns: how if isinstance(how, int) else f"<p>{echo}</p>".encode()
    with caplog.at_level("DEBUG"), pytest.raises(llm.NoAnswer) as caught:
        client(tmp_path, attempts=2).ask_all(SUMS[:1])
    assert server.requests[0][1] == f"Bearer {SECRET}"
    told = "".join(traceback.format_exception(caught.value))
    assert "attempts" in told or "refuses" in told
    pieces = [SECRET[i : i + llm.PIECE] for i in range(len(SECRET) - llm.PIECE + 1)]
    assert not [piece for piece in pieces if piece in told + "".join(capfd.readouterr())]
    assert not [record for record in caplog.records if SECRET in record.getMessage()]


def test_a_key_in_an_answer_is_written_nowhere(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    text = {"type": "object", "properties": {"text": {"type": "string"}}}
    server.answer = lambda question: {"text": f"the key is {SECRET}"}
    asked = [Question([{"role": "user", "content": "tell"}], text)]
    assert client(tmp_path).ask_all(asked) == [{"text": "the key is [key]"}]
    assert not any(SECRET in file.read_text() for file in tmp_path.iterdir())
    monkeypatch.setenv("OPENAI_API_KEY", "none")  # a word that answers hold
    server.answer = lambda question: {"text": "none"}
    assert client(tmp_path / "other").ask_all(asked) == [{"text": "none"}]


@pytest.mark.parametrize(
    "damage", ["", "{", "null", "[]", "{}", '{"text": 3}', '{"text": "x", "cost": "1"}', "\xff", "[" * 100_000]
)
def test_a_damaged_answer_is_asked_for_again_and_named(server, tmp_path, capsys, damage):
    client(tmp_path).ask_all(SUMS[:2])
    file = min(tmp_path.iterdir())
    file.write_bytes(damage.encode("latin-1"))
    ours = client(tmp_path)
    assert ours.total().answers == 1
    with pytest.raises(llm.NoAnswer, match=f"{file.name}: the cached answer is damaged"):
        client(tmp_path, offline=True).ask_all(SUMS[:2])
    assert ours.ask_all(SUMS[:2]) == [{"sum": 2}, {"sum": 4}]
    assert (ours.ledger.answers, ours.ledger.cached, ours.total().answers) == (1, 1, 2)
    assert capsys.readouterr().out == f"{file}: the cached answer is damaged; asking again\n"


def test_equal_questions_are_asked_once(server, tmp_path):
    server.delay = 0.05
    ours = client(tmp_path)
    assert ours.ask_all([SUMS[0]] * 5) == [{"sum": 2}] * 5
    assert len(server.requests) == 1 and (ours.ledger.answers, ours.ledger.cached) == (1, 4)


def test_no_more_requests_at_a_time_than_allowed(server, tmp_path):
    server.delay = 0.02
    client(tmp_path, concurrency=3).ask_all(SUMS)
    assert server.most <= 3


def test_faults_halve_the_limit_and_answers_widen_it():
    async def run():
        limit, seen = llm._Limit(8), []
        for fails in (True, True, True, True, False, False, False):
            try:
                async with limit:
                    if fails:
                        raise OSError
            except OSError:
                pass
            seen.append(limit._now)
        return seen

    assert asyncio.run(run()) == [4, 2, 1, 1, 2, 2.5, 2.9]


def arguments(policy, workdir, **changes):
    changes = {"synth__teacher": "llm", "synth__teacher_model": "scripted", "synth__teacher_domains": 1,
               "synth__operators": "guard,hidden,boundary,misdirect", "synth__train_roots": 6,
               "synth__domains": "hotels", "synth__teacher_concurrency": 3, "synth__prompt_price": 1e6,
               **changes}  # fmt: skip
    return main.parse([*small_run.arguments(policy, **changes), f"--workdir={workdir}", "--stage=synth"])[:2]


def test_a_model_teaches_a_round_from_end_to_end(server, tmp_path, monkeypatch, capsys):
    """Domain, wordings and rules are the model's, truth and gates ours; the replayed run writes the same bytes."""
    plain, policy = server.fault, small_run.folder(tmp_path / "policy")
    faults = iter([500, "{", json.dumps({}), 429, json.dumps({**WORDING, "rule": "Fine when {rule}."})] * 3)
    server.fault = lambda question, turns: next(faults, None) if len(server.requests) % 2 else None
    built_in, made = dict(domains.DOMAINS), {}
    monkeypatch.setattr(llm, "REPAIRS", 4)

    def synth(config, workdir):
        domains.DOMAINS.clear()
        domains.DOMAINS.update(built_in)
        by = agentic.make_teacher(config, workdir)
        if isinstance(by, teacher.Llm):
            by.client._backoff = 0.01
        trees = agentic.first_workflows(config, by)
        for number in range(3):
            if number:
                trees = agentic.next_workflows(config, trees, {}, by)
            made[number] = flywheel.round_tasks(config, workdir, number, trees)
        return by.client.ledger

    config, workdir = arguments(policy, tmp_path / "run")
    ledger = synth(config, workdir)
    tasks = [task for found in made.values() for task in found["train"]]
    assert {task.domain for task in tasks} == {"hotels", "bakery"}
    assert {task.policy.split("\n")[0] for task in tasks} == {"You serve hotels.", "You serve bakery."}
    assert any(re.search(r'^Fine when ".*; otherwise transfer\.$', task.policy, re.M) for task in tasks)
    answers = len(list((workdir / "teacher").iterdir()))
    assert f"teacher: {answers} answers, " in (printed := capsys.readouterr().out) and f"; in all {answers} " in printed
    assert ledger.failures == 0 and ledger.repairs > 0 and set(server.paid.values()) == {1}
    assert server.most <= 3 and ledger.cost == ledger.prompt_tokens == 10 * answers
    server.fault, count = plain, len(server.requests)
    (tmp_path / "replay").mkdir()
    (workdir / "teacher").rename(tmp_path / "replay" / "teacher")
    replayed = arguments(policy, tmp_path / "replay", synth__teacher="replay")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert synth(*replayed).answers == 0 and len(server.requests) == count
    for number in range(3):
        one, two = (d / "tasks" / f"round_{number}" for d in (workdir, tmp_path / "replay"))
        assert [t.to_json() for t in dataset.read(one, "train")] == [t.to_json() for t in dataset.read(two, "train")]
    for file in (tmp_path / "replay").rglob("*.json*"):
        assert "secret-of-the-test" not in file.read_text()


def test_where_the_model_has_nothing_usable_the_program_steps_in(server, tmp_path):
    server.fault = lambda question, turns: json.dumps({"nonsense": 1})
    by = teacher.Llm(client(tmp_path))
    flows = workflow.roots("train", 4, domains.select("hotels"), 0)
    assert by.domains(2) == [] and by.word(flows) == flows
    pairs = [(flow, operators.OPERATORS["guard"]) for flow in flows]
    assert by.expand(pairs, 7) == selection.expand(pairs, 7)
    assert by.rank([(flow, selection.Outcome(), operators.select("guard,hidden")) for flow in flows]) == {}


def test_a_model_says_by_what_trees_grow_and_quotas_hold(server, tmp_path):
    flows, chosen = workflow.roots("train", 8, domains.select("hotels"), 0), operators.select("guard,hidden,boundary")
    outcomes = {flow.id: selection.Outcome(8, 2, (), ("gave_in",) * 6) for flow in flows}
    by = teacher.Llm(client(tmp_path))
    for quota, expected in ((1.0, {"hidden": 8}), (0.5, {"hidden": 4, "guard": 4})):
        how = selection.Selection("failures", 1.0, quota, 1.0)
        grown = selection.grow(flows, outcomes, chosen, how, 0, rank=by.rank)
        assert Counter(flow.operator for flow in grown) == expected
    (question,) = [text for _, _, body in server.requests if flows[0].id in (text := body["messages"][1]["content"])]
    assert "passed 2 of 8 conversations" in question and '{"gave_in": 6}' in question


RULE = {"condition": {"op": "eq", "field": "booking.status", "value": "open"}, "otherwise": "decline"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"value": "teapot"}, "['teapot'] for booking.status, expected some of"),
        ({"op": "in", "value": ["open", 'open", else accept']}, "else accept'] for booking.status, expected some of"),
        ({"op": "in", "value": ["open", {"x": 1}]}, "values are texts and integers"),
        ({"op": "in", "value": ["open", "open"]}, "'used', 'void'), each once"),
        ({"op": "in", "value": ["open", 1]}, "['open', 1] for booking.status, expected some of"),
        ({"op": "in", "value": []}, "does not tell the values of booking.status apart"),
        ({"op": "in", "value": ["open", "paid", "used", "void"]}, "does not tell the values of booking.status apart"),
        ({"op": "ge", "value": 3}, "numbers are compared by le"),
        ({"field": "booking.price", "value": "open"}, "numbers are compared by le"),
    ],
)
def test_rules_that_mean_nothing_are_sent_back(server, tmp_path, change, complaint):
    bad = {**RULE, "condition": {**RULE["condition"], **change}}
    server.fault = lambda question, turns: json.dumps(bad if turns < 4 else RULE)
    flow = workflow.roots("train", 1, domains.select("hotels"), 0)[0]
    by = teacher.Llm(client(tmp_path))
    (grown,) = by.expand([(flow, operators.OPERATORS["guard"])], 0)
    assert complaint in server.requests[-1][2]["messages"][-1]["content"]
    assert next(n for n in tree.nodes(grown.tree) if n.kind == "guard").spec["condition"] == RULE["condition"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"number": "dough"}, "the number 'dough' must be another name"),
        ({"name": "hotels"}, "another one of that name"),
        ({"name": "bakery\n"}, r"lower-case words, got \['bakery\\n'\]"),
        ({"name": "all"}, "'all'. mean something in every domain"),
        ({"owner": {**BAKERY["owner"], "kind": "cake"}}, "'cake'. stand for two things"),
        ({"link": {**BAKERY["link"], "kind": "policy"}}, "'policy'. mean something in every domain"),
        ({"number": "unavailable"}, "'unavailable'. mean something in every domain"),
        ({"actions": [BAKERY["actions"][0]] * 2}, "'deliver'. stand for two things"),
        *[({"actions": [BAKERY["actions"][0] | part, BAKERY["actions"][1]]}, complaint) for part, complaint in (
            ({"verb": "get"}, "'get'. mean something in every domain"),
            ({"slot": "which"}, "'which'. mean something in every domain"),
            ({"slot": "decorate"}, "'decorate'. stand for two things"),
            ({"slot": "amber"}, "'amber'. mean something in every domain"),
            ({"choices": ["dawn", "noon", "fox"]}, "'fox'. mean something in every domain"),
            ({"choices": ["dawn", "noon", "confirm"]}, "'confirm'. mean something in every domain"),
        )],
    ],
)  # fmt: skip
def test_domains_that_could_be_misread_are_sent_back(server, tmp_path, change, complaint):
    wrong = {**BAKERY, **change}
    server.fault = lambda question, turns: json.dumps(wrong) if turns < 4 else None
    assert teacher.Llm(client(tmp_path)).domains(1) == [teacher._domain(BAKERY)]
    assert re.search(complaint, server.requests[-1][2]["messages"][-1]["content"])
    with pytest.raises(ValueError, match=complaint):
        domains.register([teacher._domain(wrong)])


def test_a_second_domain_is_another_one(server, tmp_path):
    """A name that was proposed before is sent back; where it comes again and again, one domain is left."""
    other = {**BAKERY, "name": "zoo"}
    server.fault = lambda question, turns: json.dumps(other) if turns > 2 else None
    found = teacher.Llm(client(tmp_path)).domains(2)
    assert [domain.name for domain in found] == ["bakery", "zoo"]
    server.fault = lambda question, turns: None
    stubborn = teacher.Llm(client(tmp_path / "other"))
    assert [domain.name for domain in stubborn.domains(3)] == ["bakery"] and stubborn.client.ledger.failures == 2
    domains.register(found)


def test_what_agents_ask_in_is_reserved():
    """A detail of such a name would be told by a user who was asked for something else."""
    (task,) = generate.tasks(workflow.roots("train", 1, domains.select("hotels"), 0), 1, 0.5, 0)
    case = Case.of(task)
    words = dialect.TINY
    asked = words.ask(case, case.action.slot) + words.confirm(case, None) + words.which(case)
    own = {case.action.slot, case.action.verb, case.record_id, case.owner_id, "booking", "booking_id", "guest"}
    assert set(re.findall(r"\w+", asked.lower())) - own == {"which", "of", "please", "confirm"} <= domains.RESERVED


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rule": "Fine when {rule:d}; otherwise {outcome}."}, "rule: placeholders .* with nothing but the name"),
        ({"rule": "Fine when {rule:.0s}; otherwise {outcome}."}, "rule: placeholders"),
        ({"rule": "Fine when {rule!x}; otherwise {outcome}."}, "rule: placeholders"),
        ({"rule": "Fine when {rule:{outcome}}; otherwise {outcome}."}, "rule: placeholders"),
        ({"rule": "Fine when {rule.real}; otherwise {outcome}."}, "rule: placeholders"),
        ({"rule": "Fine when {; otherwise {outcome}."}, "unexpected '{' in field name"),
        ({"rule": "Fine when {rule}; otherwise {outcome}.\n"}, "rule: expected one line of printable characters"),
        ({"rule": "Never when {rule}, otherwise {outcome}."}, r"rule: must do without \['never'\]"),
        ({"owner_rule": "{outcome} if the {owner} has {rule}, otherwise fine."}, "owner_rule: expected {rule}, then"),
        ({"consent": "No consent is ever needed."}, r"consent: must do without \['no'\]"),
        ({"consent": "Changes are made."}, "consent: expected 'consent'"),
    ],
)
def test_wordings_that_say_something_else_are_sent_back(server, tmp_path, change, complaint):
    server.fault = lambda question, turns: json.dumps({**WORDING, **change} if turns < 4 else WORDING)
    flow = workflow.roots("train", 1, domains.select("hotels"), 0)[0]
    (worded,) = teacher.Llm(client(tmp_path)).word([flow])
    assert worded.wording == tuple(WORDING.values())
    assert re.search(complaint, server.requests[-1][2]["messages"][-1]["content"])
