"""Scheduling: tasks that may run at the same time, some of which wait for others."""

from __future__ import annotations

import random

from synth.problems.operation import WORD, WORDS, Args, Item, Items, Operation, Steps, Value, number

TASKS = ("wash", "sort", "dry", "pack", "weigh", "label", "press", "paint")


def _solve(args: Args, items: Items) -> tuple[dict[str, Value], Steps]:
    """Computes the earliest ends in the order of the text, in which a task only waits for earlier tasks."""
    ends: dict[str, int] = {}
    starts, steps = {}, []
    for item in items:
        if item["task"] in ends or any(name not in ends for name in item.get("after", ())):
            raise ValueError("a task told twice, or one that waits for a task told later")
        starts[item["task"]] = max((ends[name] for name in item.get("after", ())), default=args["delay"])
        ends[item["task"]] = starts[item["task"]] + item["t"]
        steps.append((item["kind"], ends[item["task"]]))
    work = sum(item["t"] for item in items)
    return {"end": max(ends.values()), "work": work, **{f"start:{name}": at for name, at in starts.items()}}, steps


def _check(args: Args, items: Items) -> dict[str, Value]:
    """Lists all chains of tasks that wait for each other; the longest chain determines the time."""
    tasks = {item["task"]: item for item in items}

    def chains(name: str) -> list[list[str]]:
        before = tasks[name].get("after", [])
        return [[*chain, name] for other in before for chain in chains(other)] if before else [[name]]

    def longest(name: str) -> int:
        return max(sum(tasks[part]["t"] for part in chain) for chain in chains(name))

    starts = {f"start:{name}": args["delay"] + longest(name) - task["t"] for name, task in tasks.items()}
    work = sum(task["t"] for task in tasks.values())
    return {"end": args["delay"] + max(map(longest, tasks)), "work": work, **starts}


def _extend(rng: random.Random, args: Args, items: Items) -> list:
    del args
    told = [item["task"] for item in items]
    item = {"kind": "free", "task": rng.choice([t for t in TASKS if t not in told]), "t": rng.randint(1, 12)}
    if told and rng.random() < 0.8:
        item |= {"kind": "waits", "after": sorted(rng.sample(told, rng.randint(1, min(2, len(told)))))}
    return [*items, item]


def _draw(rng: random.Random, size: int, fixed: Args) -> tuple[Args, list]:
    args, items = {"delay": rng.randint(0, 9), **fixed}, []
    for _ in range(max(size, 3)):
        items = _extend(rng, args, items)
    return args, items


OPERATIONS = (
    Operation(
        name="tasks",
        family="scheduling",
        wordings=(
            "Work at the <place> begins at hour {delay}, and tasks run side by side unless one must wait.",
            "From hour {delay} on there are hands for any number of tasks at once, though some must wait.",
        ),
        slots={"delay": number(0, 10**5, link=True)},
        items={
            "free": Item(
                ("Task {task} takes {t} hours.", "For task {task} we need {t} hours."),
                {"task": WORD, "t": number(1, 12)},
            ),
            "waits": Item(
                (
                    "Task {task} takes {t} hours and waits for the end of {after}.",
                    "For task {task} we need {t} hours, after the end of {after}.",
                ),
                {"task": WORD, "t": number(1, 12), "after": WORDS},
            ),
        },
        wants={
            "end": "the earliest hour at which every task can be finished",
            "start": "the earliest hour at which task {of} can begin",
            "work": "the number of hours of work in all tasks together",
        },
        most=8,
        draw=_draw,
        solve=_solve,
        check=_check,
        extend=_extend,
    ),
)
