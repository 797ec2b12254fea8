"""Demonstrations: transcripts of scripted agents, careful or sloppy, as trajectories for SFT.

A demonstration depends only on (seed, index): a root of the given split, grown by a random number of operators, one of
its branches, and an agent that makes mistakes at the given rates. For the shipped tiny base they take the place of
pretraining: they show every behaviour that the tasks need, and sloppy behaviour as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from envs import world
from model.text.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth import generate, operators
from synth.inversion import invert, script
from synth.operators import Operator
from synth.task import Task
from synth.trees import tree
from synth.trees.workflow import Workflow

MOST_TOO_LONG = 500  # demonstrations in a row that may be too long before none is expected to fit


def draw_task(
    workflows: Sequence[Workflow], chosen: Sequence[Operator], max_growth: int, seed: int, index: int
) -> Task:
    """The task of demonstration `index`: a workflow grown 0 to `max_growth` times by operators of `chosen`.

    A legal and an illegal branch are equally likely.
    """
    rng = random.Random(f"{seed}/demonstration/{index}")
    workflow = rng.choice(workflows)
    for _ in range(rng.randint(0, max_growth)):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            workflow = operators.expand(workflow, rng.choice(options), rng.randrange(2**32))
    legal = rng.random() < 0.5
    choices = [b for b in tree.branches(workflow.tree) if invert.possible(workflow, b)]
    branch = rng.choice([b for b in choices if generate.is_legal(b) == legal] or choices)
    return invert.invert(workflow, branch, index, seed)


def demonstrate(task: Task, rates: dict[str, float], chat: Chat, seed: int) -> Trajectory:
    """Plays a task with a scripted agent and records it token by token.

    rates: flaw -> rate in [0, 1]; without any the agent is the oracle.
    """
    case = script.Case.of(task)
    fields = tuple(reference.split(".")[1] for reference in case.values)
    judge = script.Sloppy(random.Random(f"{seed}/judge/{task.id}"), fields, **rates)
    steps = script.walk(tree.from_dict(task.tree), case, judge)
    messages, score = world.play_steps(task, steps)
    tokens, loss_mask = chat.encode(messages, task.tools)
    turns = sum(m["role"] == "assistant" for m in messages)
    return Trajectory(
        task.id, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, score, messages, task.tools, turns
    )


def fitting(make: Callable[[int, int], Trajectory], count: int, index: int, row_length: int) -> list[Trajectory]:
    """`count` demonstrations that fit into a packed row; one that is too long is replaced by the next.

    make: (index, number of demonstrations found so far) -> demonstration. index: the first one. row_length: tokens.
    Raises ValueError if MOST_TOO_LONG in a row do not fit, because then probably none does.
    """
    found: list[Trajectory] = []
    lengths: list[int] = []  # of those that are too long, since the last that fits
    while len(found) < count:
        item = make(index, len(found))
        index += 1
        if len(item.tokens) <= row_length:
            found.append(item)
            lengths.clear()
            continue
        lengths.append(len(item.tokens))
        if len(lengths) == MOST_TOO_LONG:
            raise ValueError(
                f"rl.row_length = {row_length}: {MOST_TOO_LONG} demonstrations in a row are longer, {min(lengths)} to "
                f"{max(lengths)} tokens with this checkpoint's tokenizer and chat template; raise rl.row_length"
            )
    return found
