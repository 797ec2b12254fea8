"""The reasoning flywheel's side of the round loop: patterns that grow, questions of the other worlds, gates.

A round's tasks are problems, search questions and data questions in the shares of reasoning.weights. Problems grow
where the policy failed (synth/problems); search and data questions take one step more every round. Round 0 also holds
the user's own sets: problems, search and data questions to train on, and evaluation sets of each, which are held out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from envs import actors, answers, base, data, registry, search
from rl import train
from rl.reports import show
from rl.rounds import clients
from rl.trajectory import Trajectory
from synth import dataset
from synth.corpora import facts, tables
from synth.gating import gates
from synth.problems import catalogue, files, generate, growth, operators, rewrite
from synth.problems.growth import Outcome, Pattern
from synth.question import Question, parse_weights
from synth.task import Task

SPLITS = ("train", "heldout")
Patterns = dict[str, list[Pattern]]


def roots_of(config: config_dict.ConfigDict, split: str) -> dict[str, int]:
    """World -> how many of the split's roots it has; the largest remainders get what division leaves."""
    return shares(config.reasoning[f"{split}_roots"], parse_weights(config.reasoning.weights))


def shares(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` divided by weights into whole numbers."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    found = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: found[n] - exact[n])[: total - sum(found.values())]:
        found[name] += 1
    return found


def first_patterns(config: config_dict.ConfigDict) -> Patterns:
    """The round-0 patterns of both splits.

    Raises ValueError or FileNotFoundError for names and files that a later round would stumble over.
    """
    families = catalogue.select(config.reasoning.families)
    operators.select(config.reasoning.operators)
    evaluation_set(config)
    watch_own_sets(config)
    return {
        split: growth.roots(split, roots_of(config, split).get("reasoning", 0), families, config.seed)
        for split in SPLITS
    }


def next_patterns(config: config_dict.ConfigDict, patterns: Patterns, counts: Mapping[str, list]) -> Patterns:
    """The next round's patterns: training ones grow where the policy failed, held-out ones with the same operators.

    counts: as `count` leaves them.
    """
    if not patterns["train"]:
        return patterns
    chosen, c = operators.select(config.reasoning.operators), config.reasoning
    outcomes = {
        name: Outcome(episodes, passes, tuple(charge for charge, n in sorted(charges.items()) for _ in range(n)))
        for name, (episodes, passes, charges) in counts.items()
    }
    grown = growth.grow(patterns["train"], outcomes, chosen, c.expand_share, config.seed)
    return {"train": grown, "heldout": growth.grow_like(patterns["heldout"], grown, config.seed)}


def count(counts: dict[str, list], items: Sequence[Trajectory], tasks: Sequence[Task | Question], number: int) -> None:
    """Adds the rollouts of round `number`'s own questions: pattern id -> [episodes, passes, {charge: failures}].

    A failed attempt is charged to "operation/kind", if its transcript shows what went wrong.
    """
    by_id = {task.id: task for task in tasks}
    for item in items:
        task = by_id[item.task_id]
        if task.round != number or item.reward is None or "teacher" in task.source:
            continue  # replayed, faulted, or no question of a pattern
        entry = counts.setdefault(f"{task.root}@r{task.round}", [0, 0, {}])
        entry[0] += 1
        entry[1] += item.passed
        if item.score.node is not None:
            entry[2][item.score.node] = entry[2].get(item.score.node, 0) + 1


def gated_splits(
    config: config_dict.ConfigDict, workdir: Path, number: int, patterns: Patterns
) -> tuple[dict[str, list[Question]], dict[str, Any]]:
    """(the questions of round `number` that pass the gates by split, what the gates rejected by split).

    Raises ValueError, naming the gates and an example each, if a split has no question left.
    """
    splits, reports, taken = {}, {}, {}
    rewritten, tallies = rewrites(config, workdir, number)
    if tallies:
        reports["teacher"] = {kind: vars(tally) for kind, tally in tallies.items()}
    for earlier in range(number):
        for split in SPLITS:
            questions = dataset.read(workdir / "tasks" / f"round_{earlier}", split)
            taken |= {generate.fingerprint(question): question.id for question in questions}
    # Held-out ones first: what stands in an evaluation set is no longer free for training.
    for split in reversed(SPLITS):
        more = rewritten if split == "train" else []
        splits[split], found = gated(config, split, number, patterns[split], more, taken)
        reports[split] = found.to_dict()
        if not splits[split]:
            raise ValueError(f"round {number}: no {split} question passed the gates: {reports[split]}")
    if leaks := {q.root for q in splits["train"]} & {q.root for q in splits["heldout"]}:
        raise ValueError(f"round {number}: roots on both sides of the split: {sorted(leaks)[:5]}")
    return splits, reports


def failed_problems(config: config_dict.ConfigDict, workdir: Path, number: int, counts: dict[str, list]) -> list[str]:
    """The problems of round `number` that a teacher is to rewrite for the next, as JSON; none without a teacher."""
    if not config.reasoning.teacher_rewrites:
        return []
    questions = dataset.read(workdir / "tasks" / f"round_{number}", "train")
    return [question.to_json() for question in rewrite.worst(questions, counts, config.reasoning.teacher_rewrites)]


def rewrites(
    config: config_dict.ConfigDict, workdir: Path, number: int
) -> tuple[list[Question], dict[str, rewrite.Tally]]:
    """What a teacher makes of tasks/failed_<number - 1>.json, and what became of its candidates by kind.

    Its answers are kept in workdir/teacher. Raises ValueError if it needs a key and the environment has none.
    """
    path = workdir / "tasks" / f"failed_{number - 1}.json"
    if not path.exists():
        return [], {}
    failed = [Question.from_json(text) for text in json.loads(path.read_text())]
    client = clients.teacher(config, workdir, offline=config.synth.teacher == "replay")
    return rewrite.rewrite(failed, number, config.seed, client.ask_all, answers.same)


def gated(
    config: config_dict.ConfigDict,
    split: str,
    number: int,
    patterns: Sequence[Pattern],
    more: Sequence[Question],
    taken: dict[str, str],
) -> tuple[list[Question], gates.Report]:
    """The questions of a split in round `number` that pass the gates, `more` of them made elsewhere.

    taken: as in synth.problems.generate.select.
    """
    c, counts = config.reasoning, roots_of(config, split)
    evaluation = evaluation_set(config)
    forbidden = generate.evaluation_ngrams(q.prompt for q in evaluation)
    candidates = [*generate.questions(patterns, c.variants, config.seed), *more]
    candidates += facts.questions(split, counts.get("search", 0), c.variants, number, config.seed)
    candidates += tables.questions(split, counts.get("data", 0), c.variants, number, config.seed)
    if number == 0 and split == "train":
        candidates += own_sets(config)
    if number == 0 and split == "heldout":
        candidates += evaluation
    own = {question.id for question in evaluation}

    def check(question: Question) -> str | None:
        return first_gate(question, set() if question.id in own else forbidden, config.env.max_turns)

    return generate.select(show.bar(candidates, f"round {number}: gates, {split}"), check, taken)


def own_sets(config: config_dict.ConfigDict) -> list[Question]:
    """The user's questions to train on. Raises ValueError or FileNotFoundError for a set that is none."""
    c = config.reasoning
    return _sets(config, "train", c.problems, c.search_questions, c.data_questions)


def watch_own_sets(config: config_dict.ConfigDict) -> None:
    """Shows a line if the user's problems stand in round 0 only, where more rounds follow.

    Raises ValueError for questions to train on of a world without a weight, which no step would ever take.
    """
    c, own = config.reasoning, Counter(question.env for question in own_sets(config))
    if without := sorted(own.keys() - parse_weights(c.weights).keys()):
        raise ValueError(f"reasoning.weights: {c.weights!r} has no weight for {without[0]}, but questions are given")
    if own["reasoning"] and c.rounds > 1 and not c.teacher_rewrites:
        text = "do not grow: no operator knows their graphs, and reasoning.teacher_rewrites is 0"
        show.line(f"the {own['reasoning']} problems of reasoning.problems {text}; later rounds have generated ones")


def evaluation_set(config: config_dict.ConfigDict) -> list[Question]:
    """The user's questions that are held out. Raises ValueError or FileNotFoundError for a set that is none."""
    c = config.reasoning
    return _sets(config, "heldout", c.evaluation, c.search_evaluation, c.data_evaluation)


def _sets(
    config: config_dict.ConfigDict, split: str, problems: str, search_file: str, data_file: str
) -> list[Question]:
    """Questions of the user's files, to stand in a split."""
    found = files.read_all([path.strip() for path in problems.split(",") if path.strip()], split)
    if search_file:
        found += search.read_questions(search_file, config.reasoning.search_corpus, split)
    if data_file:
        found += data.read_questions(data_file, config.reasoning.data_folder, split)
    return found


def first_gate(question: Question, forbidden: set[tuple[str, ...]], max_turns: int) -> str | None:
    """The first gate that a question fails, as "gate: detail": those of its kind, then what scripted policies earn.

    max_turns: assistant turns of an episode, which the oracle must do with.
    """
    problem = generate.check(question, forbidden)
    if problem:
        return problem
    for trial in range(2):  # twice: the world must be deterministic and must not leak state between episodes
        if (got := _played(question, registry.oracle(question), max_turns)) != 1.0:
            return f"oracle: reward {got} in trial {trial}, within {max_turns} turns"
    if (got := _played(question, actors.scripted([{"say": "Done."}]), max_turns)) > 0.0:
        return f"adversary: doing nothing earns {got}"
    return None


def _played(question: Question, actor: base.Actor, max_turns: int = actors.MAX_TURNS) -> float | None:
    return base.run(actors.play(registry.make(question), actor, max_turns))[1].reward


_ANY_CALL = {  # a call that informs of nothing
    "reasoning": {"call": "python", "args": {"code": "0"}, "say": ""},
    "search": {"call": "search", "args": {"query": "the", "k": 1}, "say": ""},
    "data": {"call": "query", "args": {"sql": "select 0"}, "say": ""},
}


def constant_pass_rates(questions: Sequence[Question]) -> dict[str, float]:
    """Pass rates of policies that look at nothing: doing nothing, and the most frequent answer of each world.

    The latter is given at once, and after a call that informs of nothing.
    """
    worlds = {question.env for question in questions}
    most = {env: Counter(q.answer for q in questions if q.env == env).most_common(1)[0][0] for env in worlds}
    steps: dict[str, Callable[[Question], list[dict]]] = {
        "do_nothing": lambda question: [{"say": "Done."}],
        "most_frequent_answer": lambda question: [{"say": f"Answer: {most[question.env]}"}],
        "call_and_most_frequent": lambda question: [_ANY_CALL[question.env], {"say": f"Answer: {most[question.env]}"}],
    }
    return {
        name: sum(_played(q, actors.scripted(play(q))) == 1.0 for q in questions) / len(questions)
        for name, play in steps.items()
    }


def describe(patterns: Patterns, tasks: Mapping[str, Sequence[Question]]) -> dict[str, Any]:
    """What summary.json says of a reasoning round beside what it says of every round."""
    problems = [pattern.problem for found in patterns.values() for pattern in found]
    items = [len(node["items"]) for problem in problems for node in problem.nodes]
    return {
        "worlds": dict(sorted(Counter(question.env for question in tasks["train"]).items())),
        "nodes_mean": sum(len(problem.nodes) for problem in problems) / max(len(problems), 1),
        "items_mean": sum(items) / max(len(items), 1),
    }


def step_tasks(
    config: config_dict.ConfigDict,
    current: Sequence[Question],
    earlier: Sequence[Task | Question],
    seed: int,
    step: int,
) -> list[Task | Question]:
    """The tasks of an RL step: as rl.train.step_tasks, with the fresh ones divided among worlds by reasoning.weights.

    A world with fewer tasks than its share gives all it has.
    """
    c, worlds = config.rl, {question.env for question in current}
    old = min(round(c.replay_share * c.groups), c.groups - 1, len(earlier))
    weights = {env: w for env, w in parse_weights(config.reasoning.weights).items() if env in worlds}
    found: list[Task | Question] = []
    for env, count in shares(c.groups - old, weights).items():
        if count:
            found += train.step_tasks([q for q in current if q.env == env], [], count, 0.0, seed, step)
    replayed = train.step_tasks(current[:1], earlier, old + 1, 1.0, seed, step)[1:] if old else []
    return found + replayed
