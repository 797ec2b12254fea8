"""The round loop on eight devices: what it leaves behind, that trees grow, splits hold and runs repeat."""

import asyncio
import dataclasses
import json
import shutil

import jax
import nbclient
import nbformat
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

import main
from envs import registry, world
from envs.base import Score
from model.checkpoints import load
from rl import flywheel, trajectory
from rl.rollouts import rollout
from rl.rounds import agentic
from synth import dataset, generate
from synth.gating import gates
from synth.growth import selection
from synth.trees import tree
from tests.support import small_run

# Eight devices share a micro-batch's rows; half of round 1's groups are replay.
CHANGES = {"rl__sft_steps": 0, "rl__rows": 8, "rl__replay_share": 0.5, "evaluate__trials": 2}


def config_of(policy, workdir, **changes):
    """(config, workdir) as main.py would hand them to the loop."""
    return main.parse([*small_run.arguments(policy, **{**CHANGES, **changes}), f"--workdir={workdir}"])[:2]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return small_run.folder(tmp_path_factory.mktemp("flywheel") / "policy")


@pytest.fixture(scope="module")
def runs(policy, tmp_path_factory):
    """Two finished runs of one config: the loop and its workdir."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout.Rollouts, "run", small_run.coin(rollout.Rollouts.run))
        for name in "ab":
            run = flywheel.Flywheel(*config_of(policy, tmp_path_factory.mktemp(name)))
            run.run()
            found.append(run)
    return found


@pytest.fixture(scope="module")
def run(runs):
    return runs[0]


def tasks_of(run, number, split):
    return dataset.read(run.workdir / "tasks" / f"round_{number}", split)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_summary_has_the_format_of_the_readme(run):
    summary = json.loads((run.workdir / "summary.json").read_text())
    assert set(summary) == {"seed", "config", "wall_seconds", "rounds"}
    assert summary["seed"] == 0 and summary["wall_seconds"] > 0 and summary["config"] == run.config.to_dict()
    assert len(summary["rounds"]) == 2
    for number, entry in enumerate(summary["rounds"]):
        assert (entry["round"], entry["flywheel"]) == (number, "agentic")
        for split in flywheel.SPLITS:
            assert entry[f"{split}_tasks"] == len(tasks_of(run, number, split))
        for name in ("pass_initial", "pass_before", "pass_after"):
            rate = entry[name]
            assert 0 <= rate["low"] <= rate["mean"] <= rate["high"] <= 1


def test_pass_rates_are_those_of_the_recorded_episodes(run):
    """Recomputed from rollouts/: the mean over the held-out tasks' trials, every task as often as the others."""
    for number, entry in enumerate(run.progress.rounds):
        wanted = {(task.id, member) for task in tasks_of(run, number, "heldout") for member in range(2)}
        for name in ("initial", "before", "after") if number else ("initial", "after"):
            found = lines(run.workdir / "rollouts" / f"round_{number}_heldout_{name}.jsonl")
            assert {(record["task_id"], record["member"]) for record in found} == wanted and len(found) == len(wanted)
            assert {(record["round"], record["phase"]) for record in found} == {(number, name)}
            passed = np.mean([record["score"]["reward"] == 1.0 for record in found])
            np.testing.assert_allclose(entry[f"pass_{name}"]["mean"], passed)
            greedy = lines(run.workdir / "rollouts" / f"round_{number}_heldout_{name}_greedy.jsonl")
            assert {(record["task_id"], record["member"]) for record in greedy} == {w for w in wanted if not w[1]}
            assert np.mean([e["score"]["reward"] == 1.0 for e in greedy]) == entry[f"pass_{name}"]["greedy"]
            assert entry[f"pass_{name}"]["greedy_faults"] == entry[f"pass_{name}"]["faults"] == 0
    assert run.progress.rounds[0]["pass_before"] == run.progress.rounds[0]["pass_initial"]


def test_metrics_and_training_rollouts_agree(run):
    metrics = lines(run.workdir / "metrics.jsonl")
    assert [(row["round"], row["step"]) for row in metrics] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sum(row["updates"] for row in metrics) == int(run.trainer.state.step) > 0
    for number in range(2):
        episodes = lines(run.workdir / "rollouts" / f"round_{number}.jsonl")
        for step, row in enumerate(metrics[2 * number : 2 * number + 2]):
            here = [e for e in episodes if (e["round"], e["phase"], e["step"]) == (number, "train", step)]
            assert len(here) == 2 * 4  # groups x group_size
            np.testing.assert_allclose(row["reward"], np.mean([e["score"]["reward"] for e in here]))
            old = {e["task_id"] for e in here} & {task.id for task in tasks_of(run, 0, "train")}
            assert len(old) == (1 if number else 2)


class Faulty(world.World):
    """A world that fails in a way of its task's root: five of six held-out ones, every other one to train on."""

    WAYS = ("", "exit", "text", "outside", "nan", "cancelled")

    def __init__(self, task, **options):
        super().__init__(task)
        number = int(task.root.split("-")[1])
        self.way = self.WAYS[number % 6] if task.split == "heldout" or number % 2 else ""

    async def reset(self):
        if self.way == "exit":
            raise SystemExit(f"lost {object()}")
        if self.way == "cancelled":
            raise asyncio.CancelledError
        return [{"role": "user", "content": "\ud83d"}] if self.way == "text" else await super().reset()

    async def score(self):
        score = await super().score()
        reward = {"outside": 1.5, "nan": float("nan")}.get(self.way, np.float32(score.reward))
        return dataclasses.replace(score, reward=reward)


@pytest.mark.slow
def test_faults_of_every_kind_end_no_run_and_resume_to_the_same_bytes(policy, tmp_path, monkeypatch):
    """Interrupted after a step whose record is written and whose checkpoint is not; the other run goes through."""
    monkeypatch.setattr(registry, "make", Faulty)
    monkeypatch.setattr(rollout.Rollouts, "run", small_run.coin(rollout.Rollouts.run))
    changes = {"rl__rounds": 1, "evaluate__greedy": False, "synth__train_roots": 4, "synth__heldout_roots": 6,
               "rl__steps": 3}  # fmt: skip
    told = []

    def step(number, index, steps, metrics):
        told.append(metrics)
        if len(told) == 2:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(flywheel.show, "step", step)
        with pytest.raises(KeyboardInterrupt):
            flywheel.Flywheel(*config_of(policy, tmp_path / "resumed", **changes)).run()
    runs = [flywheel.Flywheel(*config_of(policy, tmp_path / name, **changes)) for name in ("resumed", "whole")]
    assert [run.progress.step for run in runs] == [1, 0]
    for run in runs:
        run.run()
    for resumed, whole in zip(*(jax.tree.leaves(run.trainer.state.params) for run in runs)):
        np.testing.assert_array_equal(resumed, whole)
    resumed, whole = (
        {path.name: path.read_text(encoding="utf-8") for path in (run.workdir / "rollouts").iterdir()} for run in runs
    )
    assert resumed == whole
    errors = "".join(whole.values())
    for part in ("SystemExit('lost <object object at 0x...>')", "text that UTF-8", "got 1.5", "got nan", "Cancelled"):
        assert part in errors
    metrics = lines(runs[1].workdir / "metrics.jsonl")
    assert 0 < sum(row["faults"] for row in metrics) < 3 * 8 and all(row["signal_groups"] <= 2 for row in metrics)
    assert int(runs[1].trainer.state.step) == sum(row["updates"] for row in metrics) > 0
    assert runs[1].progress.rounds[0]["pass_after"]["faults"] > 0


def test_trees_grow_and_never_leave_their_split(run):
    trees = run.progress.trees("train") + run.progress.trees("heldout")  # of round 2, which has not been trained on
    assert {w.round for w in trees} == {2}
    first, second = run.progress.rounds
    for key in ("branches_mean", "depth_mean"):
        assert first[key] < second[key]
    assert second["branches_mean"] < np.mean([len(tree.branches(w.tree)) for w in trees])
    roots = {s: {t.root for k in range(2) for t in tasks_of(run, k, s)} for s in flywheel.SPLITS}
    assert not roots["train"] & roots["heldout"]
    assert {split: len(names) for split, names in roots.items()} == {"train": 3, "heldout": 2}
    for number in range(2):
        for split in flywheel.SPLITS:
            tasks = tasks_of(run, number, split)
            assert {task.round for task in tasks} == {number}
            assert all((task.operator != "") == (number == 1) == (task.parent != "") for task in tasks)


def test_no_task_stands_twice_and_the_gates_say_what_they_did(run):
    marks = [gates.fingerprint(t) for k in range(2) for s in flywheel.SPLITS for t in tasks_of(run, k, s)]
    assert len(set(marks)) == len(marks)
    for number in range(2):
        reports = json.loads((run.workdir / "tasks" / f"gates_{number}.json").read_text())
        for split in flywheel.SPLITS:
            report = reports[split]
            assert report["passed"] == len(tasks_of(run, number, split))
            assert report["seen"] == report["passed"] + sum(report["rejected"].values())


def test_exported_policy_is_the_trained_one_and_transformers_reads_it(run):
    ours, _ = load.from_pretrained(run.workdir / "policy")
    trained = jax.tree.leaves(run.trainer.state.params)
    for found, wanted in zip(jax.tree.leaves(nnx.state(ours)), trained, strict=True):
        np.testing.assert_array_equal(found, wanted)
    start = jax.tree.leaves(run.parts.initial_params)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(start, trained))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run.workdir / "policy", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.workdir / "policy")
    tokens_BT = np.array([tokenizer.encode("refund order 12")])
    with torch.no_grad():
        logits_BTV = theirs(torch.tensor(tokens_BT)).logits.numpy()
    np.testing.assert_allclose(ours(tokens_BT), logits_BTV, atol=1e-4)


def test_same_config_same_bytes_same_parameters(runs):
    one, two = runs
    for directory in ("tasks", "rollouts"):
        files = [
            {p.relative_to(run.workdir): p.read_bytes() for p in (run.workdir / directory).rglob("*") if p.is_file()}
            for run in runs
        ]
        assert files[0] == files[1] and len(files[0]) >= 4
    for a, b in zip(jax.tree.leaves(one.trainer.state), jax.tree.leaves(two.trainer.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_makes_other_tasks(policy, tmp_path):
    found = []
    for seed in range(2):
        config, workdir = config_of(policy, tmp_path / str(seed), seed=seed)
        found.append(flywheel.round_tasks(config, workdir, 0, agentic.first_workflows(config)))
    assert {task.user["request"] for task in found[0]["train"]} != {task.user["request"] for task in found[1]["train"]}


def test_learner_compiles_once(run):
    assert run.trainer.update.compiled._cache_size() == 1


@pytest.mark.parametrize("key", ["domains", "operators"])
def test_wrong_names_fail_at_once(policy, tmp_path, key):
    """On the command line, and in a config that did not come from one; nothing is written."""
    known = {"domains": "orders", "operators": "guard"}[key]
    with pytest.raises(ValueError, match=f"^synth.{key}: unknown .'gaurd'.*{known},"):
        config_of(policy, tmp_path / "run", **{f"synth__{key}": "gaurd"})
    config, workdir = config_of(policy, tmp_path / "run")
    config.synth[key] = "gaurd"
    with pytest.raises(ValueError, match=f"^synth.{key}: unknown .'gaurd'."):
        flywheel.Flywheel(config, workdir)
    assert not workdir.exists()


def test_a_round_without_tasks_is_an_error_that_names_the_gates(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "examine", lambda task, reward: ("oracle: reward 0.5 in trial 0", {}))
    config, workdir = config_of(policy, tmp_path / "run")
    with pytest.raises(ValueError, match="round 0: no train task passed the gates: .*'oracle': 'train-.*reward 0.5"):
        flywheel.round_tasks(config, workdir, 0, agentic.first_workflows(config))
    assert not (workdir / "tasks" / "round_0").exists()


def test_a_grown_round_that_is_nearly_all_legal_is_pointed_out(policy, tmp_path, capsys):
    config, workdir = config_of(policy, tmp_path / "run")
    trees = agentic.first_workflows(config)
    flywheel.round_tasks(config, workdir, 0, trees)
    assert "legal" not in capsys.readouterr().out, "linear trees have nothing else"
    flywheel.round_tasks(config, workdir, 1, {split: [w.kept() for w in found] for split, found in trees.items()})
    assert capsys.readouterr().out == "round 1: 100% of the train tasks are legal, expected 35% to 55%\n"


def test_failures_are_charged_to_the_node_that_was_left(policy, tmp_path):
    """Counts of passes and first departures per tree; faults and replayed tasks do not count."""
    config, _ = config_of(policy, tmp_path / "run")
    roots = agentic.first_workflows(config)["train"][:1]
    task = generate.tasks(roots, 1, 0.5, 0)[0]
    replayed = dataclasses.replace(task, id="old", round=-1)
    action, leaf = task.branch

    def episode(reward, node, of=task):
        score = Score(reward, {goal["name"]: False for goal in of.subgoals}, [], node=node)
        return trajectory.Trajectory(of.id, 0, [], [], [], 0, trajectory.ENDED, score, [], [], 1)

    progress = flywheel.Progress()
    outcomes = [(1.0, None), (0.5, leaf), (0.0, action), (0.0, action), (None, None)]
    progress.count([*(episode(*o) for o in outcomes), episode(0.0, leaf, replayed)], [task, replayed])
    found = agentic.outcomes(json.loads(json.dumps(dataclasses.asdict(progress)))["counts"])
    assert found == {roots[0].id: selection.Outcome(4, 1, ("action", "action", "terminal"), ("quit",) * 3)}


def test_the_notebook_opens_a_run(run, monkeypatch):
    monkeypatch.setenv("WORKDIR", str(run.workdir))
    path = small_run.REPOSITORY / "notebooks" / "inspect_run.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)  # the curves
    text = "".join(output.get("text", "") for output in outputs)
    for wanted in ("initial %", "-- reward 1.00", "[user]", "n0 action", "rollout_seconds"):
        assert wanted in text, wanted


def test_records_without_their_checkpoints_are_set_aside(run, tmp_path, capsys):
    """The same command on a finished run whose checkpoints are gone starts anew and deletes nothing."""
    workdir = tmp_path / "run"
    shutil.copytree(run.workdir, workdir)
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "rollouts" / "mine.jsonl").write_text("a person's\n")
    before = {path.relative_to(workdir): path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    again = flywheel.Flywheel(run.config, workdir)
    assert again.progress.round == 0 and f"are now in {workdir / 'set_aside_1'}" in capsys.readouterr().out
    for name, content in before.items():
        moved = workdir / "set_aside_1" / name
        place = moved if moved.exists() else workdir / name
        assert place.read_bytes() == content, name
    assert (workdir / "set_aside_1" / "metrics.jsonl").exists() and not (workdir / "metrics.jsonl").exists()
    assert (workdir / "rollouts" / "mine.jsonl").exists() and not (workdir / "policy").exists()
