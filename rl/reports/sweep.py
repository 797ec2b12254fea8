"""Runs every combination of a config file's `sweep(add)` and compares them.

    ./run -m rl.reports.sweep --config=FILE[:arg] --workdir=DIR [--config.section.key=value ...]

Each combination is one run of main.py in DIR/<key=value,...>. Giving the same command again continues: finished runs
are skipped, killed ones resume. A run that fails is reported and the others go on. At the end one table is printed and
written to DIR/sweep.md and DIR/sweep.json: of the last round the held-out pass rates, those after RL with their 95 %
intervals, and the mean gain over all rounds. --only_check_args checks every combination and runs nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rl import command_line, endings
from rl.reports import report

MAIN = Path(__file__).resolve().parents[2] / "main.py"
FLAGS = (("workdir", None, "the folder of the sweep, for example --workdir=runs/sweep"),)
FAULTS = "faults"  # held-out episodes, of all rounds, that are missing from the rates; only where there were any
RESULTS = ("initial %", "before %", "after %", "mean gain", "seconds")
INTERVAL = ("after low %", "after high %")

LONGEST_NAME = 255  # bytes, on all file systems in common use

Combination = dict[str, Any]  # config key -> value


def combinations(sweep: Callable[[Callable[..., None]], None]) -> list[Combination]:
    """The combinations that `sweep` adds, in order. Raises ValueError if there is none, if one is added twice,
    or if the name of its folder would be too long."""
    added: list[Combination] = []
    sweep(lambda **values: added.append(values))
    if not added:
        raise ValueError("sweep(add) adds no combination")
    names = [run_name(combination) for combination in added]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"sweep(add) adds {', '.join(repeated)} more than once")
    for name in names:
        if (size := len(os.fsencode(name))) > LONGEST_NAME:
            raise ValueError(
                f"sweep(add) adds a combination whose folder's name has {size} bytes, and {LONGEST_NAME} are possible: "
                f"{name[:80]}...; use shorter values, or set the long one for all runs"
            )
    return added


def run_name(combination: Combination) -> str:
    """The name of a combination's folder: "key=value,key=value", with "/" replaced by "_"."""
    return ",".join(f"{key}={value}" for key, value in combination.items()).replace("/", "_")


def run_flags(argv: Sequence[str], workdir: Path, combination: Combination) -> list[str]:
    """main.py's arguments for a combination: those of the sweep, then the combination's values and folder, which
    override them."""
    swept = [f"--config.{key}={value}" for key, value in combination.items()]
    return [*argv, *swept, f"--workdir={workdir / run_name(combination)}"]


def is_finished(run: Path, rounds: int) -> bool:
    """Whether the run in folder `run` has written a summary with so many rounds."""
    if not (run / "summary.json").exists():
        return False
    return len({entry["round"] for entry in report.summary(run)["rounds"]}) >= rounds


def results(run: Path) -> dict[str, float]:
    """The RESULTS and INTERVAL of a finished run, by name: held-out pass rates of the last round and the mean gain over
    all rounds, both in %, and wall-clock seconds; the 95 % interval of the pass rate after RL; FAULTS, if any.
    """
    record = report.summary(run)
    last = record["rounds"][-1]
    rates = [100 * last[key]["mean"] for key in ("pass_initial", "pass_before", "pass_after")]
    gains = [100 * report.gain(entry) for entry in record["rounds"]]
    interval = [100 * last["pass_after"][key] for key in ("low", "high")]
    values = [*rates, sum(gains) / len(gains), record["wall_seconds"], *interval]
    found = dict(zip((*RESULTS, *INTERVAL), values, strict=True))
    phases = ("pass_initial", "pass_before", "pass_after")
    faults = sum(entry[phase].get("faults", 0) for entry in record["rounds"] for phase in phases)
    return found | ({FAULTS: faults} if faults else {})


def table(rows: Sequence[tuple[Combination, dict[str, float] | None]]) -> str:
    """A Markdown table. rows: (combination, its results, or None if the run failed)."""
    keys = list(dict.fromkeys(key for combination, _ in rows for key in combination))
    more = (FAULTS,) if any(found and FAULTS in found for _, found in rows) else ()

    def shown(found: dict[str, float], name: str) -> str:
        low, high = (found[key] for key in INTERVAL)
        return f"{found[name]:.1f}" + (f" [{low:.1f}, {high:.1f}]" if name == "after %" else "")

    lines = [(*keys, *RESULTS, *more)]
    for combination, found in rows:
        swept = [str(combination.get(key, "default")) for key in keys]
        cells = [shown(found, name) if found else "failed" for name in RESULTS]
        cells += [f"{found.get(name, 0):.0f}" if found else "failed" for name in more]
        lines.append((*swept, *cells))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]])


def prepare(argv: Sequence[str]) -> tuple[Path, list[tuple[Combination, list[str], int]]]:
    """Checks the whole sweep before the first run. Returns (its folder, [(combination, main.py's arguments, rounds)]).

    Raises ValueError for a mistake in the command line, the file's sweep(add) or a combination.
    """
    values = command_line.parse(argv, FLAGS)
    file = values["config"].config_filename.split(":")[0]
    module = command_line.load_module(file)
    if not hasattr(module, "sweep"):
        raise ValueError(f"--config={file}: the file defines no sweep(add)")
    workdir, runs = Path(values.workdir), []
    for combination in combinations(module.sweep):
        given = run_flags(argv, workdir, combination)
        rounds = command_line.parse(given, FLAGS).config.rl.rounds
        check = [sys.executable, MAIN, *given, "--only_check_args"]
        answer = subprocess.run(check, stderr=subprocess.PIPE, text=True, **endings.end_with_me())
        if answer.returncode:
            raise ValueError(f"{run_name(combination)}: {answer.stderr.strip()}")
        runs.append((combination, given, rounds))
    return workdir, runs


def run(combination: Combination, workdir: Path, given: Sequence[str], rounds: int) -> dict[str, float] | None:
    """Runs main.py for one combination unless that run is finished. Returns its results, None if it failed."""
    folder = workdir / run_name(combination)
    if is_finished(folder, rounds):
        print(f"sweep: {folder.name} is finished already", flush=True)
        return results(folder)
    print(f"sweep: {folder.name}", flush=True)
    status = subprocess.run([sys.executable, MAIN, *given], **endings.end_with_me()).returncode
    if status or not is_finished(folder, rounds):
        print(f"sweep: {folder.name} FAILED (exit status {status}); going on", file=sys.stderr, flush=True)
        return None
    return results(folder)


def main(argv: Sequence[str]) -> int:
    """Runs the sweep. Returns the exit status: 2 if the command is wrong, 1 if a run failed, else 0."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    try:
        workdir, runs = prepare(argv)
    except ValueError as error:
        print(f"rl.reports.sweep: {error}", file=sys.stderr)
        return 2
    if command_line.parse(argv, FLAGS).only_check_args:
        return 0
    rows = [(combination, run(combination, workdir, given, rounds)) for combination, given, rounds in runs]
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "sweep.md").write_text(table(rows) + "\n")
    record = [{"combination": combination, "results": found} for combination, found in rows]
    (workdir / "sweep.json").write_text(json.dumps(record, indent=2) + "\n")
    print(table(rows))
    return int(any(found is None for _, found in rows))


if __name__ == "__main__":
    endings.leave("rl.reports.sweep", lambda: main(sys.argv[1:]))
