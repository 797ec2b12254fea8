"""Tasks of businesses at scale: what the gates keep, how fast, and whether customers understand other wordings.

    ./run -m benchmarks.businesses --tasks=10000

It makes so many tasks, in rounds 0 to 3, over the written and 200 composed businesses, grown by all operators in turn.
Every task passes the gates or is counted, and its oracle is played again with its questions reworded. The last line is
JSON.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections import Counter

from absl import app, flags

from envs import world
from rl.reports import show
from synth import generate, operators, registers
from synth.gating import gates
from synth.growth import selection
from synth.inversion import dialect, script
from synth.inversion.case import Case
from synth.task import Task
from synth.trees import workflow

TASKS = flags.DEFINE_integer("tasks", 10_000, "how many tasks", lower_bound=8)
BUSINESSES = flags.DEFINE_integer("businesses", 200, "composed businesses beside the written ones", lower_bound=0)
ROUNDS, VARIANTS = 4, 2
ASKS = (
    "What is your {fact}?",
    "Could I take your {fact}, please?",
    "To find you in our system, I need the {fact}. Could you share it?",
    "Thanks for getting in touch! May I have the {fact} first?",
    "Please let me know the {fact}.",
)
WHICH = (
    "I can see more than one. Which one is it about?",
    "You have several with us: which of them do you mean?",
    "Could you tell me which one this is about?",
    "Which one would you like me to look at?",
    "There are a few on your account. Which is the right one?",
)
CONSENTS = (
    "I can {verb} {record} for you ({details}). Would you like me to go ahead?",
    "Just to confirm: you want me to {verb} {record}, {details}. Is that right?",
    "Here is what I would do:\n- {verb} {record}\n- {details}\n\nDo you agree?",
    "I'm ready to {verb} {record} ({details}). Please reply yes and I'll proceed.",
    "Before I do anything, may I {verb} {record} with these details: {details}?",
)


def reworded(task: Task, way: int) -> list[script.Step]:
    """The oracle's steps with the questions of one of five wordings."""
    case, words = Case.of(task), dialect.PLAIN
    steps = []
    for step in task.oracle:
        text = step.get("say", "")
        if "call" not in step:
            text = _reworded(case, words, text, way)
        steps.append({**step, "say": text})
    return steps


def _reworded(case: Case, words: dialect.Plain, text: str, way: int) -> str:
    for goal in case.goals:
        business, write = dialect.service(goal).business, dialect.service(goal).write(goal.action)
        for choice in (None, goal.choice, goal.amended or None):
            if text.endswith(words.confirm(goal, choice)):
                wanted = goal.slots | ({goal.action.slot: choice} if choice is not None else {})
                details = ", ".join(
                    f"{write.args[n].fact[0]} {dialect.stated(write.args[n], v)}" for n, v in wanted.items()
                )
                record = f"{business.nouns[0]} {goal.record_id}"
                return CONSENTS[way].format(verb=write.verbs[0], record=f"the {record}", details=details)
        if text.endswith(words.ask(goal, goal.action.slot)):
            return ASKS[way].format(fact=write.args[goal.action.slot].fact[0]).replace("your ", "the ")
        if text.endswith(words.which(goal)):
            return WHICH[way]
    if text.startswith("Could you tell me your"):
        return ASKS[way].format(fact=case.script["identity"]["by"].replace("_", " "))
    return text


def main(argv: list[str]) -> None:
    """Prints progress, and the figures as JSON."""
    del argv
    chosen = registers.select("business", "all", BUSINESSES.value, 0.0)["train"]
    roots = TASKS.value // (ROUNDS * VARIANTS)
    flows = workflow.roots("train", roots, chosen, 0)
    seen, made, passed = gates.Seen(), 0, 0
    rejected: Counter[str] = Counter()
    misheard: Counter[int] = Counter()
    constants: dict[int, Counter] = {}
    started, cpu = time.perf_counter(), time.process_time()
    gating = 0.0
    names: set[str] = set()
    examples: list[str] = []
    for number in range(ROUNDS):
        if number:
            flows = selection.grow(flows, {}, operators.select("all"), selection.Selection(), 0)
        found = constants.setdefault(number, Counter())
        for slot in generate.slots(flows, VARIANTS, 0.2 if number else 1.0, 0.75):
            before = time.process_time()
            tasks = generate.of_tree(*slot, 0)
            kept, report = gates.select(tasks, world.reward, seen)
            gating += time.process_time() - before
            made, passed = made + report.seen, passed + report.passed
            rejected.update(report.rejected)
            examples += list(report.examples.values())
            for task in kept:
                names.add(task.domain)
                found["tasks"] += 1
                for name in script.CONSTANTS:
                    found[name] += world.reward(task, script.constant(task, name)) == 1.0
                for way in range(len(CONSENTS)):
                    misheard[way] += world.reward(task, reworded(task, way)) != 1.0
            if random.Random(made).random() < 0.01:
                show.line(f"round {number}: {made} tasks, {passed} kept, {made / gating:.1f} a second and core")
    figures = {
        "tasks": made,
        "kept": passed,
        "yield": round(passed / made, 4),
        "businesses": len(names),
        "rejected": dict(rejected),
        "examples": examples[:10],
        "tasks_per_second_and_core": round(made / gating, 1),
        "misheard_by_wording": dict(misheard),
        "constants": {
            number: {name: round(found[name] / found["tasks"], 3) for name in script.CONSTANTS}
            for number, found in constants.items()
        },
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "seconds": round(time.perf_counter() - started),
        "cpu_seconds": round(time.process_time() - cpu),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    app.run(main, [sys.argv[0], *sys.argv[1:]])
