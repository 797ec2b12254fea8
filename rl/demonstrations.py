"""Demonstrations: transcripts of scripted agents, careful or sloppy, as trajectories that SFT trains on.

A demonstration is a function of (seed, index): a root of the given split, grown by a random number of operators, one of
its branches, and an agent whose decisions go wrong at the given rates. For the shipped base this is what pretraining
is to a real Qwen: it shows every behaviour the tasks need, and sloppy ones beside them.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

from envs import actors, world
from envs.base import Score
from model.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth import domains, expr, generate, invert, operators, script, tree
from synth.domains import Domain
from synth.operators import Operator
from synth.task import Task
from synth.workflow import Workflow

FLAWS = ("skip_read", "misjudge", "skip_ask", "skip_confirm", "refuse", "swap_control", "quit")


def parse_flaws(text: str) -> dict[str, float]:
    """"skip_read=0.3,quit=0.1" as a dict. Raises ValueError naming an unknown flaw or a rate outside [0, 1]."""
    rates = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, rate = part.partition("=")
        if name not in FLAWS:
            raise ValueError(f"rl.sft_flaws: unknown flaw {name!r}, expected some of {', '.join(FLAWS)}")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ValueError(f"rl.sft_flaws: {part!r}, expected name=rate") from None
        if not 0 <= rates[name] <= 1:
            raise ValueError(f"rl.sft_flaws: rate of {name} must be in [0, 1], got {rates[name]}")
    return rates


def draw_task(
    workflows: Sequence[Workflow], chosen: Sequence[Operator], max_growth: int, seed: int, index: int
) -> Task:
    """The task of demonstration `index`: a workflow grown 0 to `max_growth` times, legal and illegal branches alike."""
    rng = random.Random(f"{seed}/demonstration/{index}")
    workflow = rng.choice(workflows)
    for _ in range(rng.randint(0, max_growth)):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            workflow = operators.expand(workflow, rng.choice(options), rng.randrange(2**32))
    legal = rng.random() < 0.5
    choices = tree.branches(workflow.tree)
    branch = rng.choice([b for b in choices if generate.is_legal(b) == legal] or choices)
    return invert.invert(workflow, branch, index, seed)


def comparison(chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int) -> Trajectory:
    """Checks of random values against random rules, one after the other, at most `length` tokens; the loss is on the verdicts.

    Whether a value is what a rule asks for is learned all at once, after some ten thousand verdicts and hardly before.
    Here they cost twelve tokens each.
    """
    rng = random.Random(f"{seed}/comparison/{index}")
    verdicts = {chat.tokenizer.encode(text)[1] for text in (": yes.", ": no, decline.")}
    tokens: list[int] = []
    while True:
        domain = rng.choice(chosen)
        condition = domains.guard_candidates(domain, rng.choice((domain.record, domain.owner)), set(), rng)[0]
        wanted = rng.random() < 0.5
        values = [v for v in domain.values()[condition["field"]] if expr.holds(condition, {condition["field"]: v}) == wanted]
        text = script.check_text(condition, rng.choice(values), wanted, rng.choice(("decline", "transfer")))
        more = chat.tokenizer.encode(text + " ")
        if len(tokens) + len(more) > length:
            break
        tokens += more
    return _bare(f"comparison/{index}", tokens, [int(token in verdicts) for token in tokens], [])


def exercise(workflows: Sequence[Workflow], chat: Chat, seed: int, index: int) -> Trajectory:
    """A record held against rules and nothing else: many verdicts in few tokens, as often no as yes.

    Deciding by joining a record with a rule is what takes a small model longest to learn, and a transcript holds one
    such decision in hundreds of tokens. The rules and the reasoning are worded as in the tasks.
    """
    rng = random.Random(f"{seed}/exercise/{index}")
    workflow = rng.choice(workflows)
    domain = workflow.spec
    record = domains.draw_record(domain.record, domains.draw_ids(1, rng)[0][0], rng)
    record |= domains.draw_record(domain.owner, domains.draw_ids(1, rng)[1][0], rng)
    conditions = [c for e in (domain.record, domain.owner) for c in domains.guard_candidates(domain, e, set(), rng)]
    rng.shuffle(conditions)
    policy, checks = [], []
    for condition in conditions:
        entity, field = condition["field"].split(".")
        wanted = rng.random() < 0.5
        values = [v for v in domain.values()[condition["field"]] if expr.holds(condition, {condition["field"]: v}) == wanted]
        record[field] = rng.choice(values)
        outcome = rng.choice(("decline", "transfer"))
        policy.append(invert.rule_text(workflow, condition, outcome, entity != domain.record.kind))
        checks.append(script.check_text(condition, record[field], wanted, outcome))
    messages = [
        {"role": "system", "content": "\n".join(policy)},
        {"role": "user", "content": json.dumps(record)},
        {"role": "assistant", "content": " ".join(checks)},
    ]
    return _bare(f"exercise/{index}", *chat.encode(messages), messages)


def _bare(name: str, tokens: list[int], loss_mask: list[int], messages: list[dict]) -> Trajectory:
    """A record of tokens that no episode stands behind."""
    nothing = Score(1.0, {}, [])
    return Trajectory(name, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, nothing, messages, [], 1)


def demonstrate(task: Task, rates: dict[str, float], chat: Chat, seed: int) -> Trajectory:
    """Plays a task with an agent of the given flaw rates (none: the oracle) and records it token by token."""
    case = script.Case.of(task)
    fields = tuple(reference.split(".")[1] for reference in case.values)
    judge = script.Sloppy(random.Random(f"{seed}/judge/{task.id}"), fields, **rates)
    steps = script.walk(tree.from_dict(task.tree), case, judge)
    messages, score = asyncio.run(actors.play(world.make(task), actors.scripted(steps)))
    tokens, loss_mask = chat.encode(messages, task.tools)
    turns = sum(m["role"] == "assistant" for m in messages)
    return Trajectory(
        task.id, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, score, messages, task.tools, turns
    )
