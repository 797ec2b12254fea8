"""Puts the figures of generated tasks beside those of BFCL and tau2-bench (synth/previews/realism.py)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envs import registry
from envs.official import tau2_files
from model.text.chat import Chat
from synth.previews import realism
from synth.previews.realism import Sample
from synth.task import Task

BFCL = "multi_turn_base"  # the other categories are variants of the same scenarios
# The figures of tau2-bench's retail domain that ours are held against: means over its 114 tasks, measured by this
# module on 2026-11-28, on commit a2c024725189473d2d7cea3a5cfdbcc67478e41f of sierra-research/tau2-bench.
RETAIL = {
    "policy_words": 1158, "tools": 16, "arguments_a_tool": 2.44, "arguments_a_write": 4.14, "tools_with_array": 0.19,
    "record_fields": 7, "record_depth": 4, "record_leaves": 35.83, "script_words": 89.95, "first_message_words": 64.03,
    "oracle_calls": 4.82, "oracle_distinct_tools": 3.34, "distinct_words": 1031, "distinct_2": 0.36,
}  # fmt: skip
FACTOR = 2.0  # ours are to lie between RETAIL / FACTOR and RETAIL * FACTOR
NAMES = (*realism.MEASURES, "distinct_words", "distinct_2")  # of all figures with a mean and a range

Figures = dict[str, Any]


def figures(tasks: Iterable[Task], chat: Chat | None = None) -> dict[str, Figures]:
    """Column -> the figures of our tasks ("written", "composed" or "tiny") and of the benchmarks that are there.

    chat: that of the policy, to count the tokens of prompts, or None.
    """
    count = None if chat is None else lambda task: len(chat.prompt(*registry.opening(task)))
    return {**realism.figures(tasks, count), **bfcl(chat), **tau2(chat)}


def bfcl(chat: Chat | None = None) -> dict[str, Figures]:
    """The figures of BFCL's multi-turn tasks, if its package is installed. The user's script is all that it says."""
    try:
        from envs import bfcl as official
    except ImportError:
        return {}
    tally = realism.Tally()
    for task in official.tasks(BFCL):
        turns = ["\n".join(message["content"] for message in turn) for turn in task.entry["question"]]
        tools = [official.schema(function) for function in task.functions]
        first = task.entry["question"][0]
        tally.add(
            Sample(
                tools=tools,
                script=turns,
                first=turns[0],
                turns=sum(1 + bool(calls) for calls in task.truth),
                calls=[call.partition("(")[0] for calls in task.truth for call in calls],
                tokens=None if chat is None else len(chat.prompt(first, tools)),
            )
        )
    return {"BFCL multi-turn": tally.figures()}


def tau2(chat: Chat | None = None) -> dict[str, Figures]:
    """The figures of those domains of tau2-bench that are in TAU2_DATA_DIR.

    The user's script is its instructions. Its first message, which a language model would write, is taken to be the
    reason for the call, and the oracle to be the expected actions of the agent: how often the two speak is not known.
    Tokens are counted if TAU2_SRC has the tools; the lines that the package puts around the policy are left out.
    """
    found = {}
    for domain in tau2_files.DOMAINS:
        if folder := tau2_files.folder(domain):
            tally, policy, rows = realism.Tally(), tau2_files.policy(folder), tau2_files.records(folder)
            tools, writes = tau2_files.tools(domain)
            for task in tau2_files.tasks(folder):
                sample = _tau2_sample(task, policy, rows, tools, writes)
                if chat and tools:
                    opening = [{"role": "system", "content": policy}, {"role": "user", "content": sample.first}]
                    sample = dataclasses.replace(sample, tokens=len(chat.prompt(opening, tools)))
                tally.add(sample)
            found[f"tau2 {domain}"] = tally.figures()
    return found


def _tau2_sample(
    task: Figures, policy: str, rows: Mapping[str, Any], tools: Sequence[Figures], writes: Sequence[str]
) -> Sample:
    """A task of tau2-bench. Its records are those that the expected actions name."""
    told = task["user_scenario"]["instructions"]
    keys = ("reason_for_call", "known_info", "unknown_info", "task_instructions")
    actions = (task["evaluation_criteria"] or {}).get("actions") or []
    named = json.dumps([action["arguments"] for action in actions])
    return Sample(
        policy=policy,
        tools=tools,
        writes=writes,
        records=[row for key, row in rows.items() if f'"{key}"' in named],
        script=[told[key] for key in keys if told.get(key)],
        first=told["reason_for_call"],
        calls=[action["name"] for action in actions if action.get("requestor") != "user"],
    )


def table(columns: Mapping[str, Figures]) -> str:
    """The figures as a markdown table: mean and, where tasks differ, range."""
    shared = sorted({name for found in columns.values() for name in found.get("shared", {})}, reverse=True)
    rows = [
        ("tasks", lambda f: str(f["tasks"])),
        *((_title(name), lambda f, name=name: _cell(f[name])) for name in NAMES),
        ("businesses", lambda f: str(f.get("businesses", "-"))),
        *((f"shared {_title(name)}", lambda f, name=name: _number(f.get("shared", {}).get(name))) for name in shared),
    ]
    lines = [f"| {' | '.join(['', *columns])} |", f"|{'---|' * (1 + len(columns))}"]
    lines += [f"| {' | '.join([title, *map(cell, columns.values())])} |" for title, cell in rows]
    return "\n".join(lines)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cell(found: Figures | None) -> str:
    if found is None:
        return "-"
    mean, low, high = map(_number, (found["mean"], found["low"], found["high"]))
    return mean if low == high else f"{mean} ({low} to {high})"


def off(columns: Mapping[str, Figures]) -> list[str]:
    """A line for each figure of our business tasks that is not within FACTOR of RETAIL's."""
    lines = []
    for name in ("written", "composed"):
        for key, theirs in RETAIL.items():
            ours = columns.get(name, {}).get(key)
            if ours and not theirs / FACTOR <= ours["mean"] <= theirs * FACTOR:
                lines.append(f"{name}: {_title(key)} {_number(ours['mean'])}, tau2 retail {_number(theirs)}")
    return lines
