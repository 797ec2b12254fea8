"""The stages besides the flywheel: synth, sft and rl run one part of the loop on a workdir; evaluate, compare and serve
use its policy; plan needs no workdir."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ml_collections import config_dict

from envs import world
from model.text import tokenizer
from model.text.chat import Chat
from rl import checkpoint, flywheel, hosts, setup
from rl import compare as comparison
from rl.evaluation import benchmark, scoreboard, suites
from rl.plan import plan_search, planning
from rl.reports import realism, report, show
from rl.rounds import agentic, candidates
from rl.warmstart import sft as warm_start
from synth import dataset, operators
from synth.gating import gates
from synth.previews import drawing, preview
from synth.question import Question
from synth.task import Task
from synth.teachers import estimate, llm, teacher
from synth.trees import tree


def synth(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Writes the gated tasks of round 0 to tasks/round_0 and the gates' reports to tasks/gates_0.json and .jsonl.

    With synth.rounds above 1, more rounds are written, all to workdir/synth. A flywheel does not use those tasks: its
    trees grow where the policy fails, whereas these grow without any rollouts.

    If there are no reasoning rounds, a preview for a person is printed as well. Its figures are written beside the
    tasks (preview.json), and the trees of its sample tasks are drawn (preview/*.svg).

    With synth.dry_run nothing is written; only the cost of the teacher is estimated.
    Raises ValueError for a wrong name in the config, or if no task of a split passes the gates.
    """
    operators.select(config.synth.operators)
    if config.synth.dry_run:
        _dry_run(config, workdir)
        return
    by = agentic.make_teacher(config, workdir)
    progress = flywheel.begin(config, by)
    trees = {split: progress.trees(split) for split in flywheel.SPLITS}
    folder = workdir if config.synth.rounds == 1 else workdir / "synth"
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(config.synth.rounds):
        if number:
            trees = agentic.next_workflows(config, trees, {}, by)
        directory = flywheel.write_round(config, folder, number, trees, by)
        for split in flywheel.SPLITS:
            found = dataset.stream_round(directory.parent, number, split, config.reasoning.rounds)
            print(f"round {number}  {split}: {_counts(found)}")
    if config.reasoning.rounds:
        print(f"in {folder / 'tasks'}")
        return
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    last = config.synth.rounds - 1
    figures = preview.figures(_tasks(config, folder), _notes(config, folder), last, world.reward)
    beside = realism.figures((task for _, task in _tasks(config, folder)), _chat(config))
    figures["realism"] = beside
    hosts.write_json(folder / "tasks" / "preview.json", figures)
    count = figures["tasks"]["train"]
    chosen = random.Random(config.seed).sample(range(count), min(3, count))
    for index, (_, task) in zip(range(count), _tasks(config, folder)):
        if index in chosen:
            print(preview.full(task))
            picture = folder / "tasks" / "preview" / f"{task.id.replace('/', '_')}.svg"
            if hosts.first():
                picture.parent.mkdir(exist_ok=True)
                picture.write_text(drawing.svg(tree.from_dict(task.tree), task.branch))
            print(f"  drawn in {picture}")
    print(json.dumps({name: value for name, value in figures.items() if name != "realism"}, indent=2))
    print(realism.table(beside))
    for line in realism.off(beside):
        print(f"not between half and twice: {line}")
    gated = figures["gates"]["proposed"]
    print(f"{gated} candidates in {seconds:.1f} s, {cpu_seconds:.1f} s of this process's CPU; in {folder / 'tasks'}")


def _dry_run(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Makes the requests that stage=synth would send to a teacher, without sending them, and prints their cost."""
    c, encode = config.synth, tokenizer.load(config.model.checkpoint).encode
    prices = llm.Prices(c.prompt_price, c.completion_price)
    client = estimate.Estimate(c.teacher_model, workdir / "teacher", lambda text: len(encode(text)), prices)
    by = teacher.Llm(client)
    trees = agentic.first_workflows(config, by)
    for number in range(c.rounds):
        if number:
            trees = agentic.next_workflows(config, trees, {}, by)
        if c.teacher_users:
            for split in flywheel.SPLITS:
                for _ in candidates.spoken(config, trees[split], by):
                    pass
    counts = client.ledger
    print(
        f"would ask {counts.answers} times ({counts.cached} answers are there or asked for twice): "
        f"{counts.prompt_tokens} prompt tokens, about {counts.completion_tokens} completion tokens, "
        f"cost {counts.cost:.2f}"
    )


def _chat(config: config_dict.ConfigDict) -> Chat | None:
    """The policy's chat format, or None, with a line that says why, if its tokenizer cannot be used."""
    try:
        return Chat(tokenizer.load(config.model.checkpoint))
    except ValueError as error:
        show.line(f"the tokens of prompts are not counted: {error}")
        return None


def _counts(tasks: Iterable[Task | Question]) -> str:
    """A phrase: the number of tasks, of their roots and, unless they are questions, of legal tasks."""
    count, roots, legal = 0, set(), None
    for task in tasks:
        count += 1
        roots.add(task.root)
        if isinstance(task, Task):
            legal = (legal or 0) + task.legal
    return f"{count} tasks of {len(roots)} roots" + ("" if legal is None else f", {legal} legal")


def _tasks(config: config_dict.ConfigDict, folder: Path) -> Iterator[tuple[str, Task]]:
    """(split, task) for the tasks of all rounds that stage=synth has made, training tasks first."""
    for split in flywheel.SPLITS:
        for number in range(config.synth.rounds):
            for task in dataset.stream_round(folder / "tasks", number, split):
                yield split, task


def _notes(config: config_dict.ConfigDict, folder: Path) -> Iterator[gates.Figures]:
    """The gates' figures for every candidate of all rounds that stage=synth has made."""
    for number in range(config.synth.rounds):
        with open(folder / "tasks" / f"gates_{number}.jsonl", encoding="utf-8") as file:
            yield from map(json.loads, file)


def sft(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Trains on demonstrations for rl.sft_steps and writes the policy to workdir/sft/policy.

    A flywheel on the same workdir starts from that policy. Raises as warmstart.sft.run does.
    """
    print(f"policy in {warm_start.run(config, workdir / 'sft')}")


def rl(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Runs the RL of the workdir's current round (round 0 in a new workdir), without growing the next round's trees.

    Raises ValueError if all rounds are done.
    """
    run = flywheel.Flywheel(config, workdir)
    if run.progress.round >= (total := flywheel.total_rounds(config)):
        raise ValueError(f"rl: the {total} rounds of {workdir} are done; raise rl.rounds for another")
    run.train_current_round()
    run.export()
    print(f"round {run.progress.round}: {run.progress.step} RL steps done; policy in {workdir / 'policy'}")


def evaluate(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Measures evaluate.policies on evaluate.suites, and prints the report and writes it to workdir/evaluation.

    The rest of the workdir is not changed. Raises ValueError if a suite has no tasks or its package is missing, and as
    `_policies` does.
    """
    agentic.register(config, agentic.make_teacher(config, workdir))
    found = suites.load(config, workdir)
    parts, policies = _policies(config, workdir, config.evaluate.policies.split(","))
    against = Path(config.evaluate.against) if config.evaluate.against else None
    measured = benchmark.Evaluation(parts, workdir / "evaluation").run(found, policies, against)
    show.line(scoreboard.markdown(measured))
    show.line(f"in {workdir / 'evaluation'}")


def serve(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Serves the current policy over HTTP until the process is told to stop. Raises ValueError as `_policies` does."""
    from rl.serving import serve as server  # not at the top: no other stage needs a web server

    parts, (policy,) = _policies(config, workdir, ["current"])
    server.run(config, parts, policy.params, f"{policy.updates} updates")


def _policies(
    config: config_dict.ConfigDict, workdir: Path, names: Sequence[str]
) -> tuple[setup.Parts, list[benchmark.Policy]]:
    """(the run's parts, those of its policies "initial" and "current" that `names` asks for).

    "current" is, with a line that says so unless it is the first,
      1. the policy of the newest checkpoint;
      2. without checkpoints, the exported policy in workdir/policy;
      3. without that, the one that the run starts from. The two are the same then, and only "current" is returned when
         both are asked for.
    In the last two cases no optimiser state is loaded, which is twice as large as the policy.
    Raises ValueError if a policy cannot be loaded, or if the warm start that it comes from has not finished.
    """
    exported = workdir / "policy"
    if checkpoint.any_saved(workdir / "checkpoints"):
        run = flywheel.Flywheel(config, workdir, read_only=True)
        parts, current, updates = run.parts, run.trainer.state.params, int(run.trainer.state.step)
        trained = bool(updates)
    elif (exported / "config.json").exists():
        show.line(f"no checkpoint in {workdir / 'checkpoints'}: taking the exported policy in {exported}")
        current = setup.build(flywheel.from_folder(config, exported), workdir).initial_params
        parts, updates, trained = setup.build(flywheel.start(config, workdir), workdir), _updates(workdir), True
    else:
        first = flywheel.start(config, workdir)
        show.line(f"nothing has been trained in {workdir}: taking the initial policy, {first.model.checkpoint}")
        parts = setup.build(first, workdir)
        current, updates, trained = parts.initial_params, 0, False
    known = {
        "initial": benchmark.Policy("initial", parts.initial_params, 0),
        "current": benchmark.Policy("current", current, updates),
    }
    if not trained and "current" in names:
        del known["initial"]
    return parts, [policy for name, policy in known.items() if name in names]


def _updates(workdir: Path) -> int:
    """The number of updates that the workdir's metrics.jsonl tells of."""
    path = workdir / "metrics.jsonl"
    return sum(record.get("updates", 0) for record in report.read_lines(path)) if path.exists() else 0


def compare(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Prints losses and gradients of several algorithms on the same recorded episodes; see rl/compare.py."""
    comparison.run(config, workdir)


def plan(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Compiles the config's programs for plan.topology and prints the memory and time they need; see
    rl/plan/planning.py. With plan.search, compares the learners of varied configs instead; see rl/plan/plan_search.py.
    """
    (plan_search if config.plan.search else planning).run(config)
