"""Rewrites of failed problems by a teacher: they agree, disagree, agree on what is wrong; in a round, and replayed."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import main
from envs import answers
from rl import flywheel, hosts
from rl.rounds import reasoning
from synth import dataset
from synth.problems import catalogue, generate, grammar, graph, growth, rewrite
from synth.problems.graph import Problem
from synth.problems.trades import Persona
from synth.teachers import llm
from tests.support import small_run


def capable(question):
    """A teacher that can do it: retells, makes a harder problem of its own, and solves by what the text says."""
    prompt = question.messages[-1]["content"]
    text = prompt.rpartition("\n\n")[2]
    if prompt.startswith("Rewrite"):
        return {"problem": f"What is {len(text)} plus {sum(map(ord, text))}?"}
    if prompt.startswith("Retell"):
        return {"problem": text}
    added = re.fullmatch(r"What is (\d+) plus (\d+)\?", text)
    if added:
        return {"working": "", "answer": str(int(added[1]) + int(added[2]))}
    read = grammar.parse(text)
    solved = graph.solve(Problem(read["nodes"], read["distractors"], Persona(read["name"], read["trade"], "", 0)))
    return {"working": "as told", "answer": str(solved.values[-1])}


def rewritten(teach, count=4):
    """(failed questions, what rewrite makes of them) with a teacher that answers each question by `teach`."""
    failed = generate.questions(growth.roots("train", count, catalogue.select("all"), 0), 1, 0)
    asked = []

    def ask(questions):
        asked.extend(json.dumps(question.messages) for question in questions)
        return [teach(question) for question in questions]

    found, tallies = rewrite.rewrite(failed, 1, 0, ask, answers.same)
    assert len(set(asked)) == len(asked)  # equal requests would be one in the cache: no independent solutions
    return failed, found, tallies


def solving(answer):
    """Capable, but for its solutions."""

    def teach(question):
        if not question.messages[-1]["content"].startswith("Solve"):
            return capable(question)
        return answer(question)

    return teach


def test_what_the_teacher_agrees_on_is_kept():
    failed, found, tallies = rewritten(capable)
    assert {kind: (t.asked, t.kept) for kind, t in tallies.items()} == {"moved": (4, 4), "harder": (4, 4)}
    for question in failed:
        harder, moved = (q for q in found if q.root == question.root)
        assert (moved.answer, moved.operator) == (question.answer, "teacher_moved")
        assert harder.prompt.startswith("What is ") and harder.source == {"teacher": "harder"}
        assert moved.parent == harder.parent == question.id and moved.round == 1
    assert len({q.id for q in found}) == 8


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        (lambda q: None, "unusable"),
        (lambda q: {"working": "", "answer": re.search(r"attempt (\d)", q.messages[-1]["content"])[1]}, "disagreed"),
        (lambda q: {"working": "", "answer": "123456789"}, "agreed_wrong"),
    ],
)
def test_what_it_does_not_agree_on_or_agrees_on_wrongly_is_counted(answer, field):
    _, found, tallies = rewritten(solving(answer))
    assert getattr(tallies["moved"], field) == 4 and not [q for q in found if q.operator == "teacher_moved"]
    kept = 4 if field == "agreed_wrong" else 0  # of the harder ones nobody knows that they are wrong
    assert tallies["harder"].kept == kept == len(found)


def test_problems_that_the_teacher_does_not_give_are_counted():
    def teach(question):
        return None if question.messages[-1]["content"].startswith("Rewrite") else capable(question)

    _, found, tallies = rewritten(teach)
    assert (tallies["harder"].unusable, tallies["moved"].kept, len(found)) == (4, 4, 4)


class Handler(BaseHTTPRequestHandler):
    """The OpenAI API in front of `capable`; the server's `sent` holds the requests."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.sent.append(request)
        message = {"role": "assistant", "content": json.dumps(capable(llm.Question(request["messages"], {})))}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "strong", "choices": [choice]}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    """The requests that a local endpoint has got; the environment names it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.sent = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
        yield server.sent
        server.shutdown()


def test_a_round_holds_what_the_teacher_made_of_failures(tmp_path, monkeypatch, endpoint):
    """Over HTTP and the client's cache."""
    sent = endpoint
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    changes = {"reasoning__rounds": 2, "reasoning__train_roots": 8, "reasoning__heldout_roots": 4}
    changes |= {"reasoning__weights": "reasoning=1", "reasoning__teacher_rewrites": 3}
    changes |= {"synth__teacher": "llm", "synth__teacher_model": "strong"}
    policy = small_run.folder(tmp_path / "policy")
    config, workdir = main.parse([*small_run.arguments(policy, **changes), f"--workdir={tmp_path / 'run'}"])[:2]
    trees = {split: reasoning.first_patterns(config)[split] for split in flywheel.SPLITS}
    first = flywheel.round_tasks(config, workdir, 0, trees)["train"]
    counts = {f"{q.root}@r0": [4, i % 4, {}] for i, q in enumerate(first[::2])}
    failed = reasoning.failed_problems(config, workdir, 0, counts)
    assert [json.loads(text)["id"] for text in failed] == [first[i].id for i in (0, 8, 2)]  # two never passed, one once
    hosts.write_json(workdir / "tasks" / "failed_0.json", failed)
    grown = reasoning.next_patterns(config, trees, counts)
    second = flywheel.round_tasks(config, workdir, 1, grown)["train"]
    made = [q for q in second if "teacher" in q.source]
    assert len(made) == 6 and {q.round for q in made} == {1} and len(sent) == 3 + 6 + 18
    report = json.loads((workdir / "tasks" / "gates_1.json").read_text())["teacher"]
    assert report["moved"]["kept"] == report["harder"]["kept"] == 3
    (workdir / "tasks" / "round_1").rename(tmp_path / "before")
    config.synth.teacher = "replay"
    flywheel.round_tasks(config, workdir, 1, grown)
    assert len(sent) == 27 and dataset.read(tmp_path / "before", "train") == second


def test_rewrites_need_a_model(tmp_path):
    policy = small_run.folder(tmp_path / "policy")
    with pytest.raises(ValueError, match="reasoning.teacher_rewrites must be 0 without a model as teacher"):
        main.parse([*small_run.arguments(policy, reasoning__teacher_rewrites=3), f"--workdir={tmp_path / 'run'}"])
