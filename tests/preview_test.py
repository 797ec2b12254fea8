"""--stage=synth over several rounds: what it writes and prints, the same for any number of processes."""

import json

import main
import pytest
import small_run

from rl import stages
from synth import dataset, domains, invert, operators, preview, tree, workflow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The stage on one and on two processes: (workdir, what it printed) each."""
    found, policy = [], small_run.folder(tmp_path_factory.mktemp("policy") / "policy")
    for processes in (1, 2):
        workdir = tmp_path_factory.mktemp(f"on{processes}")
        arguments = small_run.arguments(
            policy, synth__rounds=3, synth__processes=processes, synth__train_roots=12, synth__domains="all",
            synth__operators="all", synth__selection="failures", synth__distinct_trees=True,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            printed = []
            patch.setattr("builtins.print", lambda *args, **_: printed.append(" ".join(map(str, args))))
            stages.synth(*main.parse([*arguments, f"--workdir={workdir}", "--stage=synth"])[:2])
        found.append((workdir, "\n".join(printed)))
    return found


def test_any_number_of_processes_writes_the_same_bytes(runs):
    files = [
        {p.relative_to(workdir): p.read_bytes() for p in (workdir / "synth").rglob("*") if p.is_file()}
        for workdir, _ in runs
    ]
    assert files[0] == files[1] and len(files[0]) > 12


def test_several_rounds_stay_out_of_the_flywheels_way(runs):
    workdir, _ = runs[0]
    assert not (workdir / "tasks").exists()
    assert {p.name for p in (workdir / "synth" / "tasks").glob("round_*")} == {"round_0", "round_1", "round_2"}


def test_the_figures_are_those_of_the_tasks(runs):
    workdir, printed = runs[0]
    folder = workdir / "synth" / "tasks"
    figures = json.loads((folder / "preview.json").read_text())
    tasks = {s: [t for k in range(3) for t in dataset.read(folder / f"round_{k}", s)] for s in ("train", "heldout")}
    assert figures["tasks"] == {split: len(found) for split, found in tasks.items()}
    assert figures["domains"] == len({t.domain for found in tasks.values() for t in found})
    notes = [json.loads(line) for k in range(3) for line in open(folder / f"gates_{k}.jsonl")]
    gates = figures["gates"]
    assert gates["proposed"] == len(notes) and gates["kept"] == sum(figures["tasks"].values())
    assert (gates["oracle_worst"], gates["mutants_survived"], gates["twins"]) == (1.0, 0, gates["twins_flipped"])
    assert gates["twins"] > 10 and max(gates["adversaries_best"].values()) < 1
    assert printed.count("== train-") == 3 and "oracle: get_" in printed and '"yield": ' in printed


def test_a_tree_is_drawn_with_the_branch_that_was_taken():
    flow = workflow.roots("train", 1, domains.select("hotels"), 0)[0]
    for name in ("guard", "confirm", "multi"):
        flow = operators.expand(flow, operators.OPERATORS[name], 0)
    task = invert.invert(flow, tree.branches(flow.tree)[0], 0, 0)
    lines = preview.draw(flow.tree, task.branch)
    assert lines[:2] == ["2 goals, in one request *", "  action booking *"]
    assert len(lines) == len(list(tree.nodes(flow.tree)))
    assert [line.endswith("*") for line in lines].count(True) == len(set(task.branch))
    assert "holds: confirm" in lines[3] and lines[-1].strip().startswith("fails: ")


def test_shapes_leave_out_fields_and_values():
    flows = workflow.roots("train", 8, domains.select("all"), 0)
    grown = [operators.expand(flow, operators.OPERATORS["confirm"], 0) for flow in flows]
    assert len({preview.shape(flow.tree) for flow in grown}) == 1
    ruled = {preview.shape(operators.expand(flow, operators.OPERATORS["guard"], 0).tree) for flow in flows}
    assert 1 < len(ruled) <= 6  # three comparisons, two ways to refuse
