"""The reasoning flywheel's part of the round loop: patterns of problems, questions of the other worlds, gates.

A round's tasks are problems, search questions and data questions in the shares of reasoning.weights. The patterns of
problems grow where the policy failed (synth/problems). Search and data questions need one more step every round.

Round 0 also contains the user's own sets: problems, search questions and data questions to train on, and evaluation
sets of all three kinds, which are held out.
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
from rl.rounds import clients, lengths
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
    """World -> its number of roots in the split, by reasoning.weights (see `shares`)."""
    return shares(config.reasoning[f"{split}_roots"], parse_weights(config.reasoning.weights))


def shares(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """name -> its share of `total` by weight, a whole number. The shares sum to `total`: after rounding down, what is
    left goes to the largest remainders."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    found = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: found[n] - exact[n])[: total - sum(found.values())]:
        found[name] += 1
    return found


def first_patterns(config: config_dict.ConfigDict) -> Patterns:
    """split -> the patterns of round 0.

    Checks all names and files in the config now, though some are used later only: raises ValueError or
    FileNotFoundError if one is wrong.
    """
    families = catalogue.select(config.reasoning.families)
    operators.select(config.reasoning.operators)
    train, heldout = (_located(config, split) for split in SPLITS)
    if train or heldout:
        lengths.Lengths.of(config).check_files(train, heldout)
    watch_own_sets(config)
    return {
        split: growth.roots(split, roots_of(config, split).get("reasoning", 0), families, config.seed)
        for split in SPLITS
    }


def next_patterns(config: config_dict.ConfigDict, patterns: Patterns, counts: Mapping[str, list]) -> Patterns:
    """split -> the next round's patterns, grown from `patterns`.

    Training patterns grow where the policy failed, held-out patterns by the same operators. counts: filled by `count`.
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
    """Adds rollouts of round `number`'s questions to `counts`; rollouts of other questions are ignored.

    counts: pattern id -> [episodes, passes, {charge: failures}]. The charge of a failed rollout is "operation/kind",
    for the operation that went wrong; without one in the transcript the failure has no charge. tasks: must contain
    those of the rollouts.
    """
    by_id = {task.id: task for task in tasks}
    for item in items:
        task = by_id[item.task_id]
        if task.round != number or item.reward is None or "teacher" in task.source:
            continue  # replayed, faulted, or not generated from a pattern
        entry = counts.setdefault(f"{task.root}@r{task.round}", [0, 0, {}])
        entry[0] += 1
        entry[1] += item.passed
        if item.score.node is not None:
            entry[2][item.score.node] = entry[2].get(item.score.node, 0) + 1


def gated_splits(
    config: config_dict.ConfigDict, workdir: Path, number: int, patterns: Patterns
) -> tuple[dict[str, list[Question]], dict[str, Any]]:
    """({split: the questions that pass the gates}, {split: report of the gates}) for round `number`.

    If a teacher rewrote problems, the reports also have its counts under "teacher". Raises ValueError if no question of
    a split passes, with the gates' report, or if the splits share a root.
    """
    splits, reports, taken = {}, {}, {}
    rewritten, tallies = rewrites(config, workdir, number)
    if tallies:
        reports["teacher"] = {kind: vars(tally) for kind, tally in tallies.items()}
    for earlier in range(number):
        for split in SPLITS:
            questions = dataset.read_round(workdir / "tasks", earlier, split, config.reasoning.rounds)
            taken |= {generate.fingerprint(question): question.id for question in questions}
    # The held-out split first, so that no question of an evaluation set is used for training.
    for split in reversed(SPLITS):
        more = rewritten if split == "train" else []
        splits[split], found = gated(config, split, number, patterns[split], more, taken)
        reports[split] = found.to_dict()
        if not splits[split]:
            raise ValueError(f"round {number}: no {split} question passed the gates: {reports[split]}")
    if leaks := {q.root for q in splits["train"]} & {q.root for q in splits["heldout"]}:
        raise ValueError(f"round {number}: roots in both the train and the heldout split: {sorted(leaks)[:5]}")
    return splits, reports


def failed_problems(config: config_dict.ConfigDict, workdir: Path, number: int, counts: dict[str, list]) -> list[str]:
    """The problems of round `number` that a teacher is to rewrite for the next round, as JSON texts.

    They are the reasoning.teacher_rewrites problems that failed most; an empty list if that is 0.
    """
    if not config.reasoning.teacher_rewrites:
        return []
    questions = dataset.read_round(workdir / "tasks", number, "train", config.reasoning.rounds)
    return [question.to_json() for question in rewrite.worst(questions, counts, config.reasoning.teacher_rewrites)]


def rewrites(
    config: config_dict.ConfigDict, workdir: Path, number: int
) -> tuple[list[Question], dict[str, rewrite.Tally]]:
    """(questions that a teacher made from tasks/failed_<number - 1>.json, {kind of rewrite: tally of its candidates}).

    Empty if there is no such file. The teacher's answers are kept in workdir/teacher. Raises ValueError if it needs an
    API key and the environment has none.
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
    """(the questions of a split in round `number` that pass the gates, report of the gates).

    more: further candidates, those of the teacher. taken: fingerprint -> id of the questions already in use; updated,
    see synth.problems.generate.select.
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
    own, fits = {question.id for question in evaluation}, lengths.Lengths.of(config).gate

    def check(question: Question) -> str | None:
        return first_gate(question, set() if question.id in own else forbidden, config.env.max_turns, fits)

    return generate.select(show.bar(candidates, f"round {number}: gates, {split}"), check, taken)


def own_sets(config: config_dict.ConfigDict) -> list[Question]:
    """The user's questions to train on. Raises ValueError or FileNotFoundError for a bad or missing file."""
    return [question for _, question in _located(config, "train")]


def watch_own_sets(config: config_dict.ConfigDict) -> None:
    """Prints a warning if more rounds follow round 0 but only round 0 will use the user's problems.

    Raises ValueError if the user's questions include a world without a weight, since no step would ever take them.
    """
    c, own = config.reasoning, Counter(question.env for question in own_sets(config))
    if without := sorted(own.keys() - parse_weights(c.weights).keys()):
        raise ValueError(
            f"reasoning.weights: {c.weights!r} has no weight for {without[0]}, but the config gives questions of it"
        )
    if own["reasoning"] and c.rounds > 1 and not c.teacher_rewrites:
        text = "do not grow: no operator knows their graphs, and reasoning.teacher_rewrites is 0"
        show.line(f"the {own['reasoning']} problems of reasoning.problems {text}; later rounds have generated ones")


def evaluation_set(config: config_dict.ConfigDict) -> list[Question]:
    """The user's held-out questions. Raises ValueError or FileNotFoundError for a bad or missing file."""
    return [question for _, question in _located(config, "heldout")]


def _located(config: config_dict.ConfigDict, split: str) -> list[tuple[str, Question]]:
    """The questions of the user's files for a split, each with its place in a file."""
    c = config.reasoning
    problems, search_file, data_file = {
        "train": (c.problems, c.search_questions, c.data_questions),
        "heldout": (c.evaluation, c.search_evaluation, c.data_evaluation),
    }[split]
    found = files.located_all([path.strip() for path in problems.split(",") if path.strip()], split)
    if search_file:
        found += search.located_questions(search_file, c.search_corpus, split)
    if data_file:
        found += data.located_questions(data_file, c.data_folder, split)
    return found


def first_gate(
    question: Question,
    forbidden: set[tuple[str, ...]],
    max_turns: int,
    fits: Callable[[Question], str | None] = lambda question: None,
) -> str | None:
    """The first gate that a question fails, as "gate: detail"; None if it passes all.

    The gates: those of generate.check; its prompt must fit; a scripted oracle must earn reward 1; doing nothing must
    earn 0. forbidden: n-grams of the evaluation set. max_turns: assistant turns within which the oracle must succeed.
    fits: the gate for the prompt (see lengths.Lengths.gate).
    """
    problem = generate.check(question, forbidden) or fits(question)
    if problem:
        return problem
    for trial in range(2):  # twice, since worlds must be deterministic and must not leak state between episodes
        if (got := _played(question, registry.oracle(question), max_turns)) != 1.0:
            return f"oracle: reward {got} in trial {trial}, within {max_turns} turns"
    if (got := _played(question, actors.scripted([{"say": "Done."}]), max_turns)) > 0.0:
        return f"adversary: doing nothing earns {got}"
    return None


def _played(question: Question, actor: base.Actor, max_turns: int = actors.MAX_TURNS) -> float | None:
    return base.run(actors.play(registry.make(question), actor, max_turns))[1].reward


_ANY_CALL = {  # world -> a tool call whose result tells nothing about the answer
    "reasoning": {"call": "python", "args": {"code": "0"}, "say": ""},
    "search": {"call": "search", "args": {"query": "the", "k": 1}, "say": ""},
    "data": {"call": "query", "args": {"sql": "select 0"}, "say": ""},
}


def constant_pass_rates(questions: Sequence[Question]) -> dict[str, float]:
    """Name -> pass rate, in [0, 1], of policies that ignore the question.

    "do_nothing" gives no answer. "most_frequent_answer" gives the most frequent answer of the question's world;
    "call_and_most_frequent" does so after a tool call whose result tells nothing.
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
    """The entries of summary.json that only reasoning rounds have. patterns, tasks: by split."""
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
    """The tasks of an RL step: as rl.train.step_tasks, but the current round's tasks are divided among the worlds by
    reasoning.weights.

    A world with fewer tasks than its share gives all it has. current, earlier: tasks of this round and of earlier ones.
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
