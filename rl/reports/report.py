"""Reads a run's workdir: metrics, summary and rollouts as plain data, as text, and as figures.

    ./run -m rl.reports.report --workdir=DIR [--random=N [--seed=S] | --rollout=N] [--round=K]
        [--phase=train|initial|before|after|current|initial_greedy|...] [--outcome=any|pass|fail]

prints the table of the rounds, or how far the run is while it has none, and, if asked, N conversations drawn at random,
or the N-th one. For the conversations of stage=evaluate pass --workdir=DIR/evaluation.

Files of a workdir: metrics.jsonl (one flat dict per line), summary.json, rollouts/*.jsonl (one episode per line: the
fields of rl.trajectory.Trajectory, "round" and other tags of the loop).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from rl.reports import show
from synth.trees import expr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]


def metrics(workdir: str | Path) -> list[Record]:
    """The rows of metrics.jsonl, oldest first. Raises FileNotFoundError if it is missing, ValueError for a bad line."""
    return list(read_lines(Path(workdir) / "metrics.jsonl"))


def curve(rows: Iterable[Record], y: str, x: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(xs, ys) for plotting: the values of the keys x and y in the rows that have both, arrays [rows].

    Without x, xs counts those rows from 0. Raises ValueError, listing the known keys, if no row has them.
    """
    rows = list(rows)
    chosen = [row for row in rows if row.get(y) is not None and (x is None or row.get(x) is not None)]
    if not chosen:
        known = sorted({key for row in rows for key in row})
        raise ValueError(f"no metrics row has {y if x is None else f'{x} and {y}'}; known keys: {', '.join(known)}")
    xs = np.arange(len(chosen)) if x is None else np.array([row[x] for row in chosen])
    return xs, np.array([row[y] for row in chosen])


def summary(workdir: str | Path) -> Record:
    """summary.json. Raises FileNotFoundError if the run has not written one."""
    return json.loads((Path(workdir) / "summary.json").read_text())


def rollouts(workdir: str | Path, round: int | None = None, phase: str | None = None) -> Iterator[Record]:
    """The recorded episodes, file by file in order of name; only those of `round` and `phase`, if given.

    phase: "train" for training episodes. For held-out episodes the policy that played them: "initial" (the initial
    policy), "before" or "after" (before or after the round's RL). With the ending "_greedy", those at temperature 0.

    Raises FileNotFoundError if there are no rollout files and ValueError for a bad line.
    """
    files = sorted((Path(workdir) / "rollouts").glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"no rollout files in {Path(workdir) / 'rollouts'}")
    for file in files:
        for record in read_lines(file):
            if round in (None, record.get("round")) and phase in (None, record.get("phase")):
                yield record


def select(records: Iterable[Record], outcome: str = "any") -> Iterator[Record]:
    """The records with an outcome: "pass" (reward 1.0), "fail" (below 1.0) or "any" (also faults).

    Raises ValueError for another outcome.
    """
    wanted = {
        "any": lambda reward: True,
        "pass": lambda reward: reward == 1.0,
        "fail": lambda reward: reward is not None and reward < 1.0,
    }
    if outcome not in wanted:
        raise ValueError(f"outcome {outcome!r}: expected one of {', '.join(wanted)}")
    return (record for record in records if wanted[outcome](record["score"]["reward"]))


def sample(records: Iterable[Record], count: int, seed: int) -> list[Record]:
    """At most `count` records drawn at random without replacement, in their original order. seed: of the draw."""
    records = list(records)
    chosen = random.Random(seed).sample(range(len(records)), min(count, len(records)))
    return [records[i] for i in sorted(chosen)]


def format_trajectory(record: Record) -> str:
    """One episode (a line of rollouts/*.jsonl) as readable text: the conversation, then how it was scored."""
    facts = f"task {record['task_id']}, member {record['member']}"
    facts += "".join(f", {tag} {record[tag]}" for tag in ("round", "phase", "step") if tag in record)
    lines = [f"== {facts}: {record['turns']} turns, ended by {record['reason']}"]
    for message in record["messages"]:
        lines += format_message(message)
    return "\n".join([*lines, *format_score(record["score"])])


def format_tree(tree: Record) -> str:
    """A behaviour tree (`tree.to_dict`) as indented text: one node per line, after the label of the edge to it."""
    lines = [_format_node(tree)]
    children = tree["children"]
    for i, child in enumerate(children):
        last = i == len(children) - 1
        head, *rest = format_tree(child["node"]).split("\n")
        lines.append(f"{'└─' if last else '├─'} {child['when']}: {head}")
        lines += [f"{'   ' if last else '│  '}{line}" for line in rest]
    return "\n".join(lines)


def table(rounds: Sequence[Record]) -> str:
    """A run's final table, one line per entry of summary.json's "rounds". Pass rates in % with 95 % intervals."""
    head = ("round", "flywheel", "train", "held-out", "branches", "depth", "initial %", "before %", "after %", "gain")
    rows = [head]
    for entry in rounds:
        counts = (entry["round"], entry["flywheel"], entry["train_tasks"], entry["heldout_tasks"])
        means = (f"{entry[key]:.1f}" if key in entry else "-" for key in ("branches_mean", "depth_mean"))
        rates = (_interval(entry[key]) for key in ("pass_initial", "pass_before", "pass_after"))
        rows.append((*map(str, counts), *means, *rates, f"{100 * gain(entry):+.1f}"))
    return _aligned(rows)


def overview(workdir: str | Path) -> str:
    """What there is to say of a run: the tables of its rounds and, while it has none, its last RL step.

    Raises FileNotFoundError if the folder is missing or holds nothing of a run.
    """
    folder = Path(workdir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if (folder / "summary.json").exists():
        rounds = summary(folder)["rounds"]
        return "\n\n".join(filter(None, (table(rounds), world_table(rounds))))
    rows = metrics(folder) if (folder / "metrics.jsonl").exists() else []
    if rows := [row for row in rows if "step" in row]:  # the others are evaluations
        last = rows[-1]
        told = f"{folder}: no round is finished; {len(rows)} RL steps so far, the last in round {last['round']}"
        return told + (f" with reward {last['reward']:.3f}" if last.get("reward") is not None else "")
    known = ("config.json", "tasks", "sft", "rollouts", "report.json")
    if not any((folder / name).exists() for name in known):
        runs = sorted(file.parent for file in folder.glob("*/config.json"))  # of a sweep
        hint = f"; {len(runs)} have written into folders in it, the first into {runs[0]}" if runs else ""
        raise FileNotFoundError(f"{folder}: no run has written into this folder{hint}")
    return f"{folder}: no RL step is finished"


def world_table(rounds: Sequence[Record]) -> str:
    """As `table`, with a line per round and world of the reasoning flywheel; "" without rounds of that flywheel."""
    phases = ("pass_initial", "pass_before", "pass_after")
    rows = [("round", "world", "initial %", "before %", "after %", "gain")]
    for entry in rounds:
        for world in sorted({world for phase in phases for world in entry[phase].get("worlds", ())}):
            # A phase in which all episodes of a world faulted has no rate of it.
            rates = {p: rate for p in phases if (rate := entry[p].get("worlds", {}).get(world)) is not None}
            intervals = (_interval(rates[phase]) if phase in rates else "-" for phase in phases)
            gained = f"{100 * gain(rates):+.1f}" if {"pass_before", "pass_after"} <= rates.keys() else "-"
            rows.append((str(entry["round"]), world, *intervals, gained))
    return _aligned(rows) if len(rows) > 1 else ""


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows with the same number of cells as lines of aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def gain(entry: Record) -> float:
    """The gain of a round's RL: held-out pass rate after it minus before it, in [-1, 1]."""
    return entry["pass_after"]["mean"] - entry["pass_before"]["mean"]


def plot(workdir: str | Path) -> Figure:
    """A figure of the run with two parts.

    Left: reward and pass rate of every RL step, and the pass rate by environment if there are several. Right: held-out
    pass rates of every round with 95 % intervals; empty while the run has no summary.json.
    Raises as `metrics` and `curve` do.
    """
    # Not at the top: the training loop imports this module for its tables and does not need matplotlib.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    steps, rounds = figure.subplots(1, 2)
    rows = [row for row in metrics(workdir) if row.get("reward") is not None]
    rows = [{**row, "place": place} for place, row in enumerate(rows)]
    environments = sorted({key for row in rows for key in row if key.startswith("pass_rate/")})
    for key in ("reward", "pass_rate", *(environments if len(environments) > 1 else ())):
        steps.plot(*curve(rows, key, "place"), label=key.replace("_", " "), linestyle=":" if "/" in key else "-")
    numbers = [row["round"] for row in rows]
    for i in range(1, len(rows)):
        if numbers[i] != numbers[i - 1]:
            steps.axvline(i - 0.5, color="0.8")
    steps.set(xlabel="RL step, rounds separated by lines", ylabel="mean over the step's episodes", ylim=(0, 1))
    steps.legend()
    if (Path(workdir) / "summary.json").exists():
        entries = summary(workdir)["rounds"]
        for key in ("pass_initial", "pass_before", "pass_after"):
            mean, low, high = (np.array([entry[key][part] for entry in entries]) for part in ("mean", "low", "high"))
            errors = np.stack([mean - low, high - mean])
            rounds.errorbar([entry["round"] for entry in entries], mean, errors, label=key[5:], capsize=3, marker="o")
        rounds.set_xticks(sorted({entry["round"] for entry in entries}))
        rounds.legend()
    rounds.set(xlabel="round", ylabel="held-out pass rate (95 %)", ylim=(0, 1))
    return figure


def read_lines(path: Path) -> Iterator[Record]:
    """The records of a JSON-lines file. A last line without newline is left out: it may still be being written.

    Raises ValueError, naming file and line, for a line that is not JSON.
    """
    with path.open() as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error


def format_message(message: Record) -> list[str]:
    """One message as lines of text. Further lines of its content are indented."""
    label = f"[{message['role']}"
    label += f" {message['tool_call_id']}]" if "tool_call_id" in message else "]"
    lines = []
    if message.get("content") or not message.get("tool_calls"):
        lines.append(f"{label} " + (message.get("content") or "(nothing)").strip().replace("\n", "\n    "))
    for call in message.get("tool_calls") or ():
        lines.append(f"{label} {call['id']}: {call['function']['name']}({call['function']['arguments']})")
    return lines


def format_score(score: Record) -> list[str]:
    """Lines of text on an episode's reward and the reasons for it."""
    if score["reward"] is None:
        return [f"-- no reward, infrastructure failed: {score['error']}"]
    subgoals = ", ".join(f"{name} {'reached' if hit else 'MISSED'}" for name, hit in score["subgoals"].items())
    lines = [f"-- reward {score['reward']:.2f}", f"   subgoals: {subgoals or 'none'}"]
    lines.append(f"   violations: {', '.join(score['violations']) or 'none'}")
    for path, (before, after) in score["delta"].items():
        lines.append(f"   changed {path}: {json.dumps(before)} -> {json.dumps(after)}")
    if score.get("node"):
        lines.append(f"   left its branch at {score['node']}")
    return lines


def _format_node(node: Record) -> str:
    """Id, kind and spec of a tree node as text, with its condition in words."""
    spec = dict(node["spec"])
    words = [expr.render(spec.pop("condition"))] if "condition" in spec else []
    words += [f"{key}={value}" for key, value in spec.items() if value not in ("", None, False)]
    return " ".join([node["id"], node["kind"], *words])


def _interval(rate: Record) -> str:
    """A {"mean", "low", "high"} as text, in percent, with the number of episodes that are missing from it, if any."""
    return f"{100 * rate['mean']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]{show.missing(rate)}"


def main(argv: Sequence[str]) -> None:
    """The command at the top of this file."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "The run's folder.", flag_values=values, required=True)
    flags.DEFINE_integer("rollout", None, "Print the N-th matching rollout (from 0).", 0, flag_values=values)
    flags.DEFINE_integer("random", 0, "Print N matching rollouts drawn at random.", 0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed of the draw.", flag_values=values)
    flags.DEFINE_integer("round", None, "Only rollouts of this round.", 0, flag_values=values)
    measured = ["initial", "before", "after", "current"]
    phases = ["train", *measured, *(f"{name}_greedy" for name in measured)]
    flags.DEFINE_enum("phase", None, phases, "Only these.", flag_values=values)
    flags.DEFINE_enum("outcome", "any", ["any", "pass", "fail"], "Only rollouts that end so.", flag_values=values)
    try:
        values(["", *argv])
        print(overview(values.workdir))
        if values.random or values.rollout is not None:
            records = list(select(rollouts(values.workdir, values.round, values.phase), values.outcome))
            if not records:
                wanted = {"round": values.round, "phase": values.phase, "outcome": values.outcome}
                asked = ", ".join(f"--{name}={value}" for name, value in wanted.items() if value not in (None, "any"))
                raise ValueError(f"{values.workdir}: no rollout matches {asked or 'the request'}")
            one = values.rollout is not None
            if values.rollout is not None and values.rollout >= len(records):
                raise ValueError(f"--rollout={values.rollout}: there are {len(records)} matching rollouts")
            chosen = [records[values.rollout]] if one else sample(records, values.random, values.seed)
            print("\n" + "\n\n".join(format_trajectory(record) for record in chosen))
    except (flags.Error, FileNotFoundError, ValueError) as error:
        sys.exit(f"rl.reports.report: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
