"""Rounds of reasoning in the loop: mixed steps, records as in agentic rounds, growth from charges, runs that repeat."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

import main
from envs.base import Score
from rl import flywheel, stages, trajectory
from rl.rollouts import rollout
from rl.rounds import agentic, reasoning
from synth import dataset
from synth.corpora import facts
from synth.question import Question, parse_weights
from synth.task import Task
from tests.support import small_run

CHANGES = {
    "rl__sft_steps": 0,
    "rl__rounds": 1,
    "rl__groups": 4,
    "rl__replay_share": 0.5,
    "reasoning__rounds": 2,
    "reasoning__train_roots": 8,
    "reasoning__heldout_roots": 4,
    "reasoning__variants": 1,
    "env__max_turns": 8,  # what the oracle of a search over three pages needs, and one more
    "sampler__context": 768,
    "sampler__prefill_chunk": 256,
    "rl__row_length": 768,
    "rl__rows": 8,
    "evaluate__greedy": False,
}


def config_of(policy, workdir, **changes):
    return main.parse([*small_run.arguments(policy, **{**CHANGES, **changes}), f"--workdir={workdir}"])[:2]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return small_run.folder(tmp_path_factory.mktemp("reasoning") / "policy")


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    text = "A train leaves the old station at nine and needs three hours for its way to the sea. When does it arrive?"
    rows = {
        "mine": [("What is 2 + 3?", "#### 5"), (f"Quick question. {text}", "12"), ("And 3 + 4?", "7")],
        "test": [(text, "12"), ("and  3 + 4", "7")],
    }
    for name, pairs in rows.items():
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return {"reasoning__problems": folder / "mine.jsonl", "reasoning__evaluation": folder / "test.jsonl"}


@pytest.fixture(scope="module")
def run(policy, own_files, tmp_path_factory):
    """A finished run of two reasoning rounds and an agentic one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout.Rollouts, "run", small_run.coin(rollout.Rollouts.run))
        found = flywheel.Flywheel(*config_of(policy, tmp_path_factory.mktemp("run"), **own_files))
        found.run()
    return found


def tasks_of(run, number, split):
    return dataset.read(run.workdir / "tasks" / f"round_{number}", split)


def episodes_of(run, number):
    return [json.loads(line) for line in (run.workdir / "rollouts" / f"round_{number}.jsonl").read_text().splitlines()]


def test_both_flywheels_write_the_same_kinds_of_records(run):
    rounds = json.loads((run.workdir / "summary.json").read_text())["rounds"]
    assert [(entry["round"], entry["flywheel"]) for entry in rounds] == [
        (0, "reasoning"),
        (1, "reasoning"),
        (2, "agentic"),
    ]
    shared = {"round", "flywheel", "train_tasks", "heldout_tasks", "heldout_roots", "constants",
              "pass_initial", "pass_before", "pass_after"}  # fmt: skip
    for number, entry in enumerate(rounds):
        assert shared <= set(entry)
        kind = Task if number == 2 else Question
        for split in flywheel.SPLITS:
            found = tasks_of(run, number, split)
            assert len(found) == entry[f"{split}_tasks"] and {type(task) for task in found} == {kind}
    constants = rounds[1]["constants"]
    assert constants["do_nothing"] == constants["most_frequent_answer"] == 0.0
    assert constants["call_and_most_frequent"] < 1.0
    assert rounds[1]["worlds"] == {"data": 2, "reasoning": 4, "search": 2}
    metrics = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(row["round"], row["step"]) for row in metrics] == [(k, s) for k in range(3) for s in range(2)]
    common = [frozenset(name for name in row if "/" not in name) for row in metrics if row["updates"]]
    assert len(set(common)) == 1  # but for those of the worlds that a step's tasks are of
    assert all({"reward/reasoning", "pass_rate/search"} <= set(row) for row in metrics[:2])


def test_steps_mix_worlds_by_weight_and_replay_every_earlier_round(run):
    env_of = {}
    for number in range(3):
        for task in tasks_of(run, number, "train"):
            env_of[task.id] = (number, getattr(task, "env", "agentic"))
    for number, expected in ((0, {(0, "reasoning"): 2, (0, "search"): 1, (0, "data"): 1}), (1, None), (2, None)):
        for step in range(2):
            ids = {e["task_id"] for e in episodes_of(run, number) if e["step"] == step}
            found = Counter(env_of[name] for name in ids)
            assert len(ids) == 4
            if expected:
                assert found == expected
            else:
                assert sum(n for (made, _), n in found.items() if made < number) == 2
    worlds = {env_of[e["task_id"]][1] for e in episodes_of(run, 2)}
    assert "agentic" in worlds and len(worlds) >= 2


def test_tool_calls_of_an_untrained_policy_do_no_harm_and_faults_are_none(run):
    for number in range(3):
        assert all(episode["score"]["error"] is None for episode in episodes_of(run, number))


def test_own_problems_are_trained_on_and_evaluation_sets_held_out(run):
    train, heldout = (tasks_of(run, 0, split) for split in ("train", "heldout"))
    assert {q.prompt for q in train if not q.source} == {"What is 2 + 3?"}  # the others stand in the evaluation set
    assert [q.answer for q in heldout if not q.source] == ["12", "7"]
    report = json.loads((run.workdir / "tasks" / "gates_0.json").read_text())["train"]
    assert report["rejected"] == {"overlap": 1, "duplicate": 1}
    assert not [q for q in tasks_of(run, 1, "train") if not q.source]


def test_patterns_grow_and_never_leave_their_split(run):
    first, second = (tasks_of(run, k, "train") for k in (0, 1))
    problems = [q for q in second if q.source.get("problem")]
    assert {q.operator for q in first} == {""} and all(q.parent.endswith("@r0") for q in problems)
    assert len({q.operator for q in problems}) >= 3
    for split in flywheel.SPLITS:
        assert all(q.root.startswith(split) for k in (0, 1) for q in tasks_of(run, k, split))
    hops = [{len(q.source["evidence"]) for q in found if q.env == "search"} for found in (first, second)]
    assert hops == [{2}, {3}]


def test_failures_are_charged_and_choose_what_grows(policy, tmp_path):
    config, _ = config_of(policy, tmp_path / "run")
    progress = flywheel.begin(config)
    assert progress.flywheel == "reasoning"
    patterns = progress.trees("train")
    tasks = [Question(f"{p.id}/0", p.root, "", "", 0, 0, "reasoning", "?", "1", {}) for p in patterns]
    replayed = dataclasses.replace(tasks[0], id="old", round=-1)

    def episode(task, reward, node):
        return trajectory.Trajectory(task.id, 0, [], [], [], 0, "ended", Score(reward, {}, [], node=node), [], [], 1)

    items = [episode(task, 0.0, "stock/link") for task in tasks] + [episode(replayed, 0.0, None)]
    reasoning.count(progress.counts, items, [*tasks, replayed], 0)
    reasoning.count(progress.counts, [episode(tasks[0], 1.0, None), episode(tasks[0], None, None)], tasks, 0)
    assert progress.counts[patterns[0].id] == [2, 1, {"stock/link": 1}]
    before = {split: progress.trees(split) for split in flywheel.SPLITS}
    grown = reasoning.next_patterns(config, before, json.loads(json.dumps(progress.counts)))
    assert Counter(p.operator for p in grown["train"])["compose"] >= 1 and {p.round for p in grown["train"]} == {1}
    agentic.count(progress.counts, items, [*tasks, replayed], 0)  # takes no notice of questions
    assert progress.counts[patterns[0].id] == [2, 1, {"stock/link": 1}]


def test_same_config_same_bytes(run, policy, own_files, tmp_path):
    """The datasets of another run that starts anew, and one that takes up the finished run."""
    config, workdir = config_of(policy, tmp_path / "again", **own_files)
    trees = {split: flywheel.begin(config).trees(split) for split in flywheel.SPLITS}
    flywheel.round_tasks(config, workdir, 0, trees)
    for path in (workdir / "tasks").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (run.workdir / path.relative_to(workdir)).read_bytes()
    resumed = flywheel.Flywheel(run.config, run.workdir, read_only=True)
    assert dataclasses.asdict(resumed.progress)["rounds"] == run.progress.rounds and resumed.progress.round == 3


def test_questions_that_take_too_long_are_rejected():
    (question,) = facts.questions("train", 1, 1, 0, 0)  # search, open, search, open, answer
    assert reasoning.first_gate(question, set(), 5) is None
    assert reasoning.first_gate(question, set(), 4) == "oracle: reward 0.0 in trial 0, within 4 turns"


def test_shares_add_up():
    assert reasoning.shares(7, {"reasoning": 2, "search": 1, "data": 1}) == {"reasoning": 3, "search": 2, "data": 2}
    assert reasoning.shares(1, {"a": 1, "b": 1}) == {"a": 1, "b": 0}
    for total in range(20):
        assert sum(reasoning.shares(total, {"a": 1, "b": 1.5, "c": 0.3}).values()) == total


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weights", "maths=1", "reasoning.weights: 'maths=1'; expected one of reasoning, search, data"),
        ("weights", "search", "reasoning.weights: expected name=number in 'search'"),
        ("weights", "search=0", "leaves nothing to ask"),
        ("families", "maths", "reasoning.families: unknown .'maths'"),
        ("operators", "harder", "reasoning.operators: unknown .'harder'"),
        ("problems", "no/such.jsonl", "reasoning.problems must be an existing file or folder, got 'no/such.jsonl'"),
        (
            "search_questions",
            "README.md",
            "reasoning.search_corpus must be set together with reasoning.search_questions or reasoning.search_eval",
        ),
        ("data_evaluation", "README.md", "reasoning.data_folder must be set together with reasoning.data_questions"),
        ("untooled_reward", "1.5", "reasoning.untooled_reward must be between 0 and 1"),
        ("rounds", "-1", "reasoning.rounds must be >= 0"),
    ],
)
def test_wrong_keys_are_named(policy, tmp_path, key, value, message):
    with pytest.raises(ValueError, match=message):
        config_of(policy, tmp_path / "run", **{f"reasoning__{key}": value})
    assert not (tmp_path / "run").exists()


def test_a_broken_problem_set_is_named_before_anything_is_loaded(policy, tmp_path, monkeypatch):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "What is 1 + 1?"}')
    monkeypatch.setattr(flywheel.setup, "build", None)
    for key in ("problems", "evaluation"):
        config, workdir = config_of(policy, tmp_path / "run", **{f"reasoning__{key}": file})
        with pytest.raises(ValueError, match="mine.jsonl, line 1: expected answer, a text"):
            flywheel.Flywheel(config, workdir)
        assert not workdir.exists()


def test_own_problems_that_cannot_grow_or_are_never_asked_are_named(policy, own_files, tmp_path, capsys):
    config, _ = config_of(policy, tmp_path / "run", **own_files)
    reasoning.first_patterns(config)
    assert "the 3 problems of reasoning.problems do not grow: no operator knows" in capsys.readouterr().out
    config.reasoning.teacher_rewrites = 1
    reasoning.first_patterns(config)
    assert "do not grow" not in capsys.readouterr().out
    config.reasoning.weights = "search=1,reasoning=0"
    with pytest.raises(ValueError, match="reasoning.weights: .* has no weight for reasoning"):
        reasoning.first_patterns(config)


def test_own_search_and_data_questions_can_be_held_out(policy, tmp_path):
    """A question that stands on both sides is not trained on."""
    files = {name: tmp_path / f"{name}.jsonl" for name in ("pages", "train", "test")}
    files["pages"].write_text(json.dumps({"id": "a", "title": "Rome", "text": "Rome lies on the Tiber."}))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "rivers.csv").write_text("name,length\nTiber,406\n")
    for name, questions in (("train", ("Which river?", "Which town?")), ("test", ("Which river?",))):
        records = [json.dumps({"question": text, "answer": "Tiber", "evidence": ["a"]}) for text in questions]
        files[name].write_text("\n".join(records))
    sets = {"questions": "train", "evaluation": "test"}
    asked = {f"{env}_{kind}": files[name] for env in ("search", "data") for kind, name in sets.items()}
    about = {"search_corpus": files["pages"], "data_folder": tmp_path / "tables", "weights": "search=1,data=1"}
    config, _ = config_of(policy, tmp_path / "run", **{f"reasoning__{k}": v for k, v in (asked | about).items()})
    taken = {}
    for split, kept in (("heldout", "Which river?"), ("train", "Which town?")):
        found, _ = reasoning.gated(config, split, 0, [], [], taken)
        assert [(q.env, q.prompt) for q in found if q.answer == "Tiber"] == [("search", kept), ("data", kept)]


def test_a_run_needs_a_round(policy, tmp_path):
    with pytest.raises(ValueError, match="rl.rounds must be >= 1 without rounds of reasoning"):
        config_of(policy, tmp_path / "run", rl__rounds=0, reasoning__rounds=0)
    config_of(policy, tmp_path / "run", rl__rounds=0)
    assert parse_weights("search=1, data=2,reasoning=0") == {"search": 1.0, "data": 2.0}


def test_stage_synth_writes_round_0(policy, tmp_path, capsys):
    config, workdir = config_of(policy, tmp_path / "run")
    stages.synth(config, workdir)
    printed = capsys.readouterr().out
    assert "train: 8 tasks of 8 roots" in printed and "heldout: 4 tasks of 4 roots" in printed
    assert np.all([question.round == 0 for question in dataset.read(workdir / "tasks" / "round_0", "train")])
