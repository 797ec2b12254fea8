"""Checks at scale what the tests check a share of: ./run -m benchmarks.problems [--questions=500] [--roots=2100]

Prints one JSON line per check: generated problems of four rounds over all families (answers recomputed, renderings read
back, duplicates), and for every world what oracles and policies that look at nothing earn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence

from envs import actors, base, data, reasoning, registry, search
from rl.rounds.reasoning import constant_pass_rates
from synth.problems import catalogue, generate, growth, operators
from synth.question import Question

ROUNDS = 4


def problems(roots: int) -> dict[str, object]:
    """Gates `ROUNDS` rounds of problems of two splits, and checks again those that passed. roots: training roots."""
    start, taken, rejected, families = time.perf_counter(), {}, Counter(), Counter()
    examples: dict[str, str] = {}
    accepted: list[Question] = []
    splits = {s: growth.roots(s, n, catalogue.select("all"), 0) for s, n in (("train", roots), ("heldout", roots // 4))}
    for number in range(ROUNDS):
        if number:
            grown = growth.grow(splits["train"], {}, list(operators.OPERATORS.values()), 1.0, 0)
            splits = {"train": grown, "heldout": growth.grow_like(splits["heldout"], grown, 0)}
        for patterns in splits.values():
            found, report = generate.select(generate.questions(patterns, 2, 0), generate.check, taken)
            accepted += found
            rejected += report.rejected
            examples |= report.examples
            families.update(family for p in patterns for family in p.problem.families)
    marks = {generate.fingerprint(question) for question in accepted}
    return {
        "check": "problems",
        "rounds": ROUNDS,
        "accepted": len(accepted),
        "families": len(families),
        "rejected": dict(rejected),
        "examples": examples,
        "duplicates": len(accepted) - len(marks),
        "wrong": sum(generate.check(question) is not None for question in accepted),
        "seconds": time.perf_counter() - start,
    }


def world(name: str, questions: Sequence[Question]) -> dict[str, object]:
    """The rewards of oracles and the pass rates of constant policies on the questions."""
    start = time.perf_counter()
    rewards = [base.run(actors.play(registry.make(q), registry.oracle(q)))[1].reward for q in questions]
    return {
        "check": name,
        "questions": len(questions),
        "distinct": len({json.dumps([q.prompt, q.source], sort_keys=True) for q in questions}),
        "oracles_with_1": sum(reward == 1.0 for reward in rewards),
        "constant_pass_rates": constant_pass_rates(questions),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Runs every check and prints its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=500, help="of each world that oracles play")
    parser.add_argument(
        "--roots", type=int, default=2100, help="training roots of problems; a quarter more are held out"
    )
    arguments = parser.parse_args()
    print(json.dumps(problems(arguments.roots)), flush=True)
    roots = -(-arguments.questions // 6)  # a root has 6 questions: two variants in each of three rounds
    for module in (reasoning, search, data):
        found = list(itertools.islice(module.tasks("heldout", roots=roots + 4), arguments.questions))
        print(json.dumps(world(module.__name__.removeprefix("envs."), found)), flush=True)


if __name__ == "__main__":
    main()
