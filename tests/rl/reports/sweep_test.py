"""The sweep launcher: combinations, folder names, what is skipped, the table, and going on after a failed run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs import tiny
from rl.reports import sweep

REPOSITORY = Path(__file__).parents[3]


def rate(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def write_summary(run: Path, rounds: list[tuple[float, float, float]], seconds: float = 61.25) -> None:
    """summary.json in the format of the run: (initial, before, after) of each round."""
    entries = [
        {
            "round": k,
            "flywheel": "agentic",
            "train_tasks": 64,
            "heldout_tasks": 48,
            "branches_mean": 2.0,
            "depth_mean": 3.0,
            **dict(zip(("pass_initial", "pass_before", "pass_after"), map(rate, rates), strict=True)),
        }
        for k, rates in enumerate(rounds)
    ]
    run.mkdir(parents=True, exist_ok=True)
    record = {"seed": 0, "config": {}, "wall_seconds": seconds, "rounds": entries}
    (run / "summary.json").write_text(json.dumps(record))


@pytest.fixture
def argv(tmp_path) -> list[str]:
    """A sweep of three combinations over the tiny config, on a checkpoint folder that looks like one."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).touch()
    (tmp_path / "mine.py").write_text(
        "from configs import tiny\n\nget_config = tiny.get_config\n\n"
        "def sweep(add):\n"
        "    for rate in (1e-4, 3e-4):\n"
        "        add(**{'rl.learning_rate': rate, 'rl.clip_high': 0.28})\n"
        "    add(**{'seed': 1})\n"
    )
    return [
        f"--config={tmp_path / 'mine.py'}:runlocal",
        f"--workdir={tmp_path / 'sweep'}",
        f"--config.model.checkpoint={folder}",
    ]


def test_the_tiny_configs_sweep_is_a_grid_over_two_keys():
    found = sweep.combinations(tiny.sweep)
    assert {tuple(combination) for combination in found} == {("rl.learning_rate", "rl.clip_high")}
    values = [{combination[key] for combination in found} for key in ("rl.learning_rate", "rl.clip_high")]
    assert all(len(v) >= 2 for v in values) and len(found) == len(values[0]) * len(values[1])


def test_empty_and_repeated_combinations_are_refused():
    with pytest.raises(ValueError, match="adds no combination"):
        sweep.combinations(lambda add: None)

    def twice(add):
        add(**{"seed": 1})
        add(**{"seed": 1})

    with pytest.raises(ValueError, match="seed=1 more than once"):
        sweep.combinations(twice)


@pytest.mark.parametrize(("value", "possible"), [("x" * 241, True), ("x" * 242, False), ("é" * 121, False)])
def test_folders_whose_name_no_file_system_holds_are_refused(value, possible):
    """The name is "synth.domains=" and the value: 14 bytes and the value's, of 255."""

    def add_one(add):
        add(**{"synth.domains": value})

    if possible:
        assert len(sweep.combinations(add_one)) == 1
    else:
        with pytest.raises(ValueError, match="has 256 bytes, and 255 are possible: synth.domains="):
            sweep.combinations(add_one)


def test_run_name_is_one_folder():
    name = sweep.run_name({"rl.learning_rate": 1e-4, "rl.clip_high": 0.28})
    assert name == "rl.learning_rate=0.0001,rl.clip_high=0.28"
    assert Path(sweep.run_name({"model.checkpoint": "/a/b"})).name == "model.checkpoint=_a_b"


def test_a_run_is_finished_when_its_summary_holds_all_rounds(tmp_path):
    assert not sweep.is_finished(tmp_path, 1)
    write_summary(tmp_path, [(0.5, 0.5, 0.7), (0.3, 0.5, 0.6)])
    assert sweep.is_finished(tmp_path, 2)
    assert not sweep.is_finished(tmp_path, 3)


def test_results_and_table_by_hand(tmp_path):
    """Gains 0.7 - 0.5 and 0.65 - 0.55: 15 points in the mean; the pass rates are the last round's."""
    write_summary(tmp_path, [(0.5, 0.5, 0.7), (0.3, 0.55, 0.65)])
    found = sweep.results(tmp_path)
    expected = {"initial %": 30.0, "before %": 55.0, "after %": 65.0, "mean gain": 15.0, "seconds": 61.25}
    expected |= {"after low %": 60.0, "after high %": 70.0}
    assert found == pytest.approx(expected)
    rows = [({"rl.learning_rate": 1e-4, "seed": 0}, found), ({"rl.learning_rate": 3e-4}, None)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in sweep.table(rows).splitlines()]
    assert cells[0] == ["rl.learning_rate", "seed", "initial %", "before %", "after %", "mean gain", "seconds"]
    assert cells[2] == ["0.0001", "0", "30.0", "55.0", "65.0 [60.0, 70.0]", "15.0", "61.2"]
    assert cells[3] == ["0.0003", "default", *["failed"] * 5]


def test_faults_of_a_run_have_a_column(tmp_path):
    """Where there are any; a run without them has a 0 there."""
    write_summary(tmp_path, [(0.5, 0.5, 0.7)])
    whole = sweep.results(tmp_path)
    record = json.loads((tmp_path / "summary.json").read_text())
    record["rounds"][0]["pass_before"]["faults"], record["rounds"][0]["pass_after"]["faults"] = 3, 4
    (tmp_path / "summary.json").write_text(json.dumps(record))
    rows = [({"seed": 0}, whole), ({"seed": 1}, sweep.results(tmp_path)), ({"seed": 2}, None)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in sweep.table(rows).splitlines()]
    assert [line[-1] for line in (cells[0], *cells[2:])] == ["faults", "0", "7", "failed"]


def test_prepare_checks_every_combination_before_anything_runs(argv, tmp_path):
    workdir, runs = sweep.prepare(argv)
    assert workdir == tmp_path / "sweep" and not workdir.exists()
    assert [combination.get("rl.learning_rate") for combination, _, _ in runs] == [1e-4, 3e-4, None]
    assert [rounds for _, _, rounds in runs] == [1, 1, 1]
    given = runs[1][1]
    assert given[-1] == f"--workdir={workdir / 'rl.learning_rate=0.0003,rl.clip_high=0.28'}"
    assert "--config.rl.learning_rate=0.0003" in given

    assert [rounds for _, _, rounds in sweep.prepare([*argv, "--config.rl.rounds=4"])[1]] == [4, 4, 4]
    with pytest.raises(ValueError, match="0.28: main.py: rl.group_size must be >= 2, got 1"):
        sweep.prepare([*argv, "--config.rl.group_size=1"])
    with pytest.raises(ValueError, match="config.rl.lerning_rate: no such key"):
        sweep.prepare([*argv, "--config.rl.lerning_rate=1"])
    with pytest.raises(ValueError, match="--stage: no such flag"):
        sweep.prepare([*argv, "--stage=sft"])


def test_only_checking_runs_and_writes_nothing(argv, tmp_path, capsys):
    assert sweep.main([*argv, "--only_check_args"]) == 0
    assert capsys.readouterr().out == "" and not (tmp_path / "sweep").exists()


def test_a_config_without_a_sweep_is_named(argv):
    default = f"--config={REPOSITORY / 'configs' / 'default.py'}"
    with pytest.raises(ValueError, match=r"default.py: the file defines no sweep\(add\)"):
        sweep.prepare([default, *argv[1:]])


def test_finished_runs_are_skipped_and_failed_ones_reported(argv, tmp_path, monkeypatch, capfd):
    """The first run has finished, the second fails, the third writes its summary: two in the table, one failed."""
    first, second, third = (tmp_path / "sweep" / sweep.run_name(c) for c, _, _ in sweep.prepare(argv)[1])
    write_summary(first, [(0.4, 0.4, 0.6)])
    program = tmp_path / "program.py"  # stands where main.py does
    program.write_text(
        "import pathlib, sys\n"
        "if '--only_check_args' in sys.argv: sys.exit(0)\n"
        "run = pathlib.Path(sys.argv[-1].removeprefix('--workdir='))\n"
        "print('started', run.name)\n"
        "if run.name.startswith('rl.'): sys.exit(1)\n"
        "run.mkdir(parents=True)\n"
        f"(run / 'summary.json').write_text(open({str(first / 'summary.json')!r}).read())\n"
    )
    monkeypatch.setattr(sweep, "MAIN", program)
    assert sweep.main(argv) == 1
    out, err = capfd.readouterr()
    started = [line for line in out.splitlines() if line.startswith("started")]
    assert started == [f"started {second.name}", f"started {third.name}"]
    assert f"sweep: {second.name} FAILED (exit status 1)" in err
    text = (tmp_path / "sweep" / "sweep.md").read_text()
    assert text.count("failed") == 5 and text.count("60.0") == 2 and text in out
    record = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [entry["results"] is None for entry in record] == [False, True, False]
    assert record[2]["combination"] == {"seed": 1}


def test_command_line_error_is_one_line(argv):
    command = [sys.executable, "-m", "rl.reports.sweep", *argv, "--config.rl.rownds=3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr == "rl.reports.sweep: config.rl.rownds: no such key; did you mean rounds or rows?\n"
