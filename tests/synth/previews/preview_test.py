"""--stage=synth over several rounds: what it writes and prints, the same for any number of processes."""

import itertools
import json
import os
import re
import sys
from xml.etree import ElementTree

import pytest

import main
from rl import stages
from rl.evaluation import pass_rates
from rl.rounds import candidates
from synth import dataset, operators
from synth.inversion import invert
from synth.previews import drawing, preview
from synth.trees import domains, tree, workflow
from tests.support import small_run


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Runs the stage on a workdir; gives (workdir, what it printed)."""
    policy = small_run.folder(tmp_path_factory.mktemp("policy") / "policy")

    def run(workdir, **changes):
        changes = {
            "synth__rounds": 3, "synth__train_roots": 12, "synth__domains": "all", "synth__operators": "all",
            "synth__selection": "failures", "synth__distinct_trees": True, **changes,
        }  # fmt: skip
        arguments = small_run.arguments(policy, **changes)
        with pytest.MonkeyPatch.context() as patch:
            printed = []
            patch.setattr("builtins.print", lambda *args, **_: printed.append(" ".join(map(str, args))))
            stages.synth(*main.parse([*arguments, f"--workdir={workdir}", "--stage=synth"])[:2])
        return workdir, "\n".join(printed)

    return run


@pytest.fixture(scope="module")
def runs(stage, tmp_path_factory):
    """On one process, which is killed while it writes round 1 and started again, and on two."""
    first = tmp_path_factory.mktemp("on1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", fail_at(os.rename, "round_1"))
        with pytest.raises(OSError, match="killed"):
            stage(first)
    return stage(first), stage(tmp_path_factory.mktemp("on2"), synth__processes=2)


def fail_at(function, name):
    def failing(*args):
        if str(args[-1]).endswith(name):
            raise OSError("killed")
        return function(*args)

    return failing


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_any_number_of_processes_writes_the_same_bytes(runs):
    found = [files(workdir / "synth") for workdir, _ in runs]
    assert found[0] == found[1] and len(found[0]) > 15


def test_beam_writes_the_same_bytes(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        candidates.require_beam()
    except ValueError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(candidates, "PART", 3)
    changes = {"synth__rounds": 2, "synth__train_roots": 8}
    local, _ = stage(tmp_path / "local", **changes)
    done = tmp_path / "beam" / "synth" / "tasks" / ".candidates_0_train"
    done.mkdir(parents=True)
    (done / ".examined_0.jsonl.1.ab").write_text('{"task": "half')  # as a killed worker leaves it
    beam, _ = stage(tmp_path / "beam", synth__runner="beam", **changes)
    assert files(local / "synth") == files(beam / "synth") and len(files(local / "synth")) > 10


def test_a_part_that_was_examined_is_not_made_again(tmp_path):
    flows = workflow.roots("train", 2, domains.select("hotels"), 0)
    lines = [json.dumps({"workflow": flow.to_dict(), "wanted": ["legal"]}) + "\n" for flow in flows]
    (tmp_path / "trees_0.jsonl").write_text("".join(lines))
    candidates.examine_part(tmp_path, 0, list(domains.DOMAINS.values()), 0)
    records = [json.loads(line) for line in open(tmp_path / "examined_0.jsonl")]
    assert [json.loads(r["task"])["root"] for r in records] == [flow.root for flow in flows]
    assert [r["problem"] for r in records] == [None, None]
    (tmp_path / "examined_0.jsonl").write_text("kept")
    candidates.examine_part(tmp_path, 0, list(domains.DOMAINS.values()), 0)
    assert (tmp_path / "examined_0.jsonl").read_text() == "kept"


def test_without_beam_the_command_says_how_to_get_it(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ValueError, match="synth.runner = 'beam': apache-beam is not installed; make setup-beam"):
        stage(tmp_path / "run", synth__runner="beam")
    assert not (tmp_path / "run").exists()


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
    for number, split in itertools.product(range(3), tasks):
        legal = [t.legal for t in tasks[split] if t.round == number]
        assert figures["legal_share"][f"round {number}, {split}"] == round(sum(legal) / len(legal), 3)
    notes = [json.loads(line) for k in range(3) for line in open(folder / f"gates_{k}.jsonl")]
    gates = figures["gates"]
    sharing = [n for n in notes if n["id"].startswith("heldout") and not n["problem"] and n["other_split"]["grams"]]
    assert gates["heldout_tasks_sharing_13_words_with_train"] == len(sharing) > 0
    assert gates["proposed"] == len(notes) and gates["kept"] == sum(figures["tasks"].values())
    assert (gates["oracle_worst"], gates["mutants_survived"], gates["twins"]) == (1.0, 0, gates["twins_flipped"])
    assert gates["twins"] > 10 and max(gates["adversaries_best"].values()) < 1
    assert printed.count("== train-") == 3 and "oracle: get_" in printed and '"yield": ' in printed
    last = [t for found in tasks.values() for t in found if t.round == 2]
    outcomes = figures["last_round_by_outcome"]
    assert outcomes["all"]["tasks"] == len(last) == sum(o["tasks"] for n, o in outcomes.items() if n != "all")
    constants = {name: round(rate, 3) for name, rate in pass_rates.constant_pass_rates(last).items()}
    assert outcomes["all"] == {"tasks": len(last), **constants}
    assert {o["read_ask_confirm_write"] for n, o in outcomes.items() if n == "write"} == {1.0}
    assert {o["read_then_write"] for n, o in outcomes.items() if n in ("decline", "transfer")} == {0.0}


def test_the_trees_that_are_shown_are_drawn(runs):
    """Every node has a box with its label, the branch in another colour, and no two boxes touch."""
    workdir, printed = runs[0]
    pictures = sorted((workdir / "synth" / "tasks" / "preview").glob("*.svg"))
    assert len(pictures) == 3 and all(str(path) in printed for path in pictures)
    folder = workdir / "synth" / "tasks"
    tasks = {t.id.replace("/", "_"): t for k in range(3) for t in dataset.read(folder / f"round_{k}", "train")}
    for path in pictures:
        task, space = tasks[path.stem], "{http://www.w3.org/2000/svg}"
        root = tree.from_dict(task.tree)
        picture = ElementTree.parse(path).getroot()
        boxes = [box for box in picture.iter(f"{space}rect") if box.get("stroke")]
        texts = [text.text for text in picture.iter(f"{space}text") if not text.get("font-size")]
        assert sorted(texts) == sorted(preview.label(node) for node in tree.nodes(root))
        assert sum(box.get("stroke") == drawing.TAKEN for box in boxes) == len(set(task.branch))
        assert len(list(picture.iter(f"{space}line"))) == len(texts) - 1
        corners = [[float(box.get(name)) for name in ("x", "y", "width", "height")] for box in boxes]
        for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(corners, 2):
            assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y
        width, height = (float(picture.get(name)) for name in ("width", "height"))
        assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in corners)


def test_a_dry_run_writes_nothing_and_says_what_it_will_cost(stage, tmp_path):
    _, printed = stage(
        tmp_path / "run", synth__teacher="llm", synth__teacher_model="any", synth__dry_run=True, synth__rounds=2,
        synth__teacher_users=True, synth__teacher_domains=1, synth__prompt_price=1e6, synth__train_roots=4,
        synth__operators="guard,hidden", synth__selection="even",
    )  # fmt: skip
    told = re.search(r"would ask (\d+) times .* (\d+) prompt tokens, .* cost ([\d.]+)$", printed)
    asked, tokens, cost = told.groups()
    # One domain, the wordings of 6 roots, the users of two tasks of each tree in both rounds, a rule for each tree.
    assert int(asked) == 1 + 6 + 2 * 12 + 6 and float(cost) == int(tokens) > 0
    assert not (tmp_path / "run").exists()


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
