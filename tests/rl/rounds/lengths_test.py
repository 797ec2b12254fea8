"""Prompts that leave no room in the context: found where files and tasks are read, not by the step that draws them."""

import dataclasses
import json

import pytest

import main
from configs import tiny
from envs import registry, world
from envs.base import run
from rl import flywheel
from rl.rounds import lengths, reasoning
from synth.corpora import facts, tables
from synth.question import Question
from tests.support import small_run

LONG = "In a field there is one more tree. " * 400 + "How many are 0 and 3?"
PAGE = {"id": "p1", "title": "Mill", "text": "Built by Ada."}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return small_run.folder(tmp_path_factory.mktemp("lengths") / "policy")


@pytest.fixture
def files(tmp_path):
    """kind -> a file whose third line does not fit, for the keys of the reasoning section."""
    found = {}
    for kind, more in (("problems", {}), ("search", {"evidence": ["p1"]}), ("data", {})):
        rows = [{"question": text, "answer": "7", **more} for text in ("How many are 2 and 5?", LONG, "And 3 and 4?")]
        (tmp_path / f"{kind}.jsonl").write_text("\n" + "\n".join(map(json.dumps, rows)))
        found[kind] = tmp_path / f"{kind}.jsonl"
    (tmp_path / "corpus.jsonl").write_text(json.dumps(PAGE))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("x\n1\n")
    return found | {"corpus": tmp_path / "corpus.jsonl", "folder": tmp_path / "tables"}


# kind -> the keys of questions to train on, of held-out ones, and of what they are about
KEYS = {
    "problems": ("problems", "evaluation", ""),
    "search": ("search_questions", "search_evaluation", "search_corpus"),
    "data": ("data_questions", "data_evaluation", "data_folder"),
}
ABOUT = {"search": "corpus", "data": "folder"}


def config_of(policy, workdir, files, kind, key):
    changes = {
        "reasoning__rounds": 1, "reasoning__train_roots": 3, "reasoning__heldout_roots": 3, "env__max_turns": 8,
        "sampler__context": 768, "rl__row_length": 768, "rl__sft_steps": 0, f"reasoning__{key}": files[kind],
    }  # fmt: skip
    if KEYS[kind][2]:
        changes[f"reasoning__{KEYS[kind][2]}"] = files[ABOUT[kind]]
    return main.parse([*small_run.arguments(policy, **changes), f"--workdir={workdir}"])[0]


@pytest.mark.parametrize("kind", KEYS)
def test_a_held_out_question_that_does_not_fit_is_refused_by_file_and_line(policy, files, tmp_path, kind):
    config = config_of(policy, tmp_path / "run", files, kind, KEYS[kind][1])
    message = f"{kind}.jsonl, line 3: the prompt has [0-9]+ tokens, .*sampler.context = 768 .1 held-out question so.; "
    with pytest.raises(ValueError, match=message):
        flywheel.Flywheel(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KEYS)
def test_a_question_to_train_on_that_does_not_fit_is_left_out_and_counted(policy, files, tmp_path, capsys, kind):
    config = config_of(policy, tmp_path / "run", files, kind, KEYS[kind][0])
    patterns = reasoning.first_patterns(config)
    told = capsys.readouterr().out
    assert "1 question to train on will be left out" in told and f"{kind}.jsonl, line 3: " in told
    accepted, report = reasoning.gated(config, "train", 0, patterns["train"], [], {})
    assert {"How many are 2 and 5?", "And 3 and 4?"} <= {q.prompt for q in accepted}
    assert LONG not in {q.prompt for q in accepted} and report.rejected["length"] == 1
    assert "sampler.context = 768" in report.examples["length"]


def test_what_is_measured_is_what_an_episode_begins_with(policy):
    """For tasks of every world."""
    found = lengths.Lengths.of(config_of_context(policy, 1))
    questions = [*facts.questions("train", 1, 1, 0, 0), *tables.questions("train", 1, 1, 0, 0)]
    problem = Question("a", "a", "", "", 0, 0, "reasoning", "How many are 2 and 5?", "7", {})
    for task in [*questions, problem, *world.tasks("heldout", 1, 1)]:
        env = registry.make(task)
        assert registry.opening(task) == (run(env.reset()), env.tools)
        env.close()
        count = len(found.chat.prompt(*registry.opening(task)))
        assert found.excess(task) == count
        for context, excess in ((count - 1, count), (count, count), (count + 1, 0)):
            assert dataclasses.replace(found, context=context).excess(task) == excess


def config_of_context(policy, context):
    config = tiny.get_config()
    config.model.checkpoint, config.sampler.context = str(policy), context
    return config


def test_tasks_of_a_round_that_do_not_fit_are_left_out_and_named(policy, capsys):
    """By hand: of three tasks one is longer than the context; then all are."""
    tasks = world.tasks("train", 1, 2, register="tiny")[:3]
    tasks[1] = dataclasses.replace(tasks[1], policy="Ask the member for the standing. " * 100)
    found = lengths.Lengths.of(config_of_context(policy, 500))
    assert found.fitting(2, tasks) == [tasks[0], tasks[2]]
    told = capsys.readouterr().out
    assert f"round 2: 1 of 3 train tasks do not fit and are left out; the first, {tasks[1].id}: the prompt has" in told
    found.watch(2, tasks)
    assert "round 2: 1 of 3 held-out tasks do not fit and count as failed; the first, " in capsys.readouterr().out
    found.watch(2, tasks[:1])
    assert found.fitting(2, tasks[:1]) == tasks[:1] and not capsys.readouterr().out
    with pytest.raises(ValueError, match="round 2: no train task fits; the first, .*sampler.context = 50$"):
        dataclasses.replace(found, context=50).fitting(2, tasks)
