"""The report of an evaluation as Markdown: our policies in the paper's table, then details of every suite.

A report is {"trials", "limit", "updates": {policy: n}, "suites": {name: {"tasks", "column", "note",
"baselines": {name: rate or None}, "baseline_faults": {name: episodes}, "policies": {name: figures},
"comparisons": {"a - b": figures}}}}. The figures come from rl/evaluation/pass_rates.py and rl/evaluation/trials.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rl.reports import show

Report = Mapping[str, Any]

COLUMNS = (
    "tau2 airline", "tau2 telecom", "tau2 retail",
    "BFCL-V4 base", "BFCL-V4 miss func", "BFCL-V4 miss param", "BFCL-V4 long ctx",
)  # fmt: skip
PAPER = {  # success in %, in the order of COLUMNS, and the paper's own mean (arXiv:2604.21590)
    "Qwen3-8B": (14.5, 7.9, 31.6, 35.5, 35.0, 20.5, 21.5, 23.8),
    "Qwen3-30B-A3B": (32.0, 31.6, 55.3, 47.0, 14.0, 28.0, 45.5, 36.2),
    "Qwen3-235B-A22B": (47.5, 53.2, 68.0, 58.5, 47.5, 35.0, 54.0, 52.0),
    "AgenticQwen-8B": (40.5, 53.5, 60.3, 56.0, 47.5, 33.5, 40.5, 47.4),
    "AgenticQwen-30B-A3B": (42.0, 52.6, 60.5, 60.0, 52.0, 29.0, 55.5, 50.2),
}


def markdown(report: Report) -> str:
    """The report as Markdown text. report: see the top of the file."""
    suites = report["suites"]
    parts = ["# Evaluation", _sources(report)]
    if any(entry["column"] for entry in suites.values()):
        parts += ["## Beside the paper", "Success in %, mean of the trials.", _paper_table(suites)]
    parts += ["## Policies", _policies(suites, report["trials"])]
    parts += ["## Baselines", "Pass rates in % of policies that need no model; a dash where there is no such move."]
    parts.append(_baselines(suites))
    if any(entry["comparisons"] for entry in suites.values()):
        parts += ["## Comparisons", "Differences of pass rates in points, paired by task.", _comparisons(suites)]
    return "\n\n".join(parts) + "\n"


def _sources(report: Report) -> str:
    """The policies, the number of trials, and the notes of the suites."""
    found = ", ".join(f"{name} ({updates} updates)" for name, updates in report["updates"].items())
    lines = [f"{report['trials']} sampled trials per task; 95 % intervals clustered by root. Policies: {found}."]
    if report["limit"]:
        lines.append(f"**Only the first {report['limit']} tasks of every suite: comparable with nothing else.**")
    lines += [f"**{name}: {entry['note']}**" for name, entry in report["suites"].items() if entry["note"]]
    return "\n\n".join(lines)


def _paper_table(suites: Mapping[str, Any]) -> str:
    """The paper's table with a row for each of our policies; a dash for a suite that was not measured. Behind a rate
    stands how many episodes are missing from it because their infrastructure failed."""
    rows = [(name, *(f"{value:.1f}" for value in values)) for name, values in PAPER.items()]
    by_column = {entry["column"]: entry for entry in suites.values() if entry["column"]}
    for policy in next(iter(by_column.values()))["policies"]:
        found = [by_column[c]["policies"][policy] if c in by_column else None for c in COLUMNS]
        cells = [_rate(figures["mean"]) + show.missing(figures) if figures else "-" for figures in found]
        measured = [figures for figures in found if figures]
        all_of = {key: sum(figures[key] for figures in measured) for key in ("episodes", "faults")}
        mean = sum(figures["mean"] for figures in measured) / len(found) if len(measured) == len(found) else None
        cells.append(_rate(mean) + (show.missing(all_of) if mean is not None else ""))
        rows.append((f"**ours, {policy}**", *cells))
    return _table(("model", *COLUMNS, "mean"), rows)


def _policies(suites: Mapping[str, Any], trials: int) -> str:
    """The table of every policy on every suite."""
    names = ["pass_at", "pass_hat"] if trials > 1 else []
    head = ["suite", "policy", "tasks", "pass rate", "greedy", *(_k_name(name, trials) for name in names)]
    rows = []
    for suite, entry in suites.items():
        for policy, figures in entry["policies"].items():
            greedy = _rate(figures.get("greedy")) + show.missing({"faults": figures.get("greedy_faults", 0)})
            measured = [_interval(figures[name].get(str(trials))) for name in names]
            ended = ", ".join(f"{reason} {count}" for reason, count in figures["reasons"].items())
            counts = (figures["episodes"], figures["faults"], ended)
            rows.append((suite, policy, entry["tasks"], _interval(figures), greedy, *measured, *counts))
    return _table([*head, "episodes", "faults", "ended by"], rows)


def _k_name(name: str, k: int) -> str:
    """The heading "pass@k" or "pass^k"."""
    return f"pass{'@' if name == 'pass_at' else '^'}{k}"


def _baselines(suites: Mapping[str, Any]) -> str:
    """The table of every baseline on every suite."""
    names = list(dict.fromkeys(name for entry in suites.values() for name in entry["baselines"]))
    rows = []
    for suite, entry in suites.items():
        faults = entry.get("baseline_faults", {})
        cells = (_rate(entry["baselines"].get(n)) + show.missing({"faults": faults.get(n, 0)}) for n in names)
        rows.append((suite, *cells))
    return _table(("suite", *(name.replace("_", " ") for name in names)), rows)


def _comparisons(suites: Mapping[str, Any]) -> str:
    """The table of every comparison on every suite."""
    rows = [
        (suite, name, _interval(figures, "+"), f"{figures['p_value']:.4f}", figures["tasks"])
        for suite, entry in suites.items()
        for name, figures in entry["comparisons"].items()
    ]
    return _table(("suite", "difference", "points", "p", "tasks"), rows)


def _rate(rate: float | None) -> str:
    """A rate in percent; a dash for None."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def _interval(figures: Mapping[str, float] | None, sign: str = "") -> str:
    """Mean and interval in percent; a dash for None."""
    if figures is None:
        return "-"
    mean, low, high = (f"{100 * figures[key]:{sign}.1f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
