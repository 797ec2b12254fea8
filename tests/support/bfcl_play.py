"""Playing BFCL episodes with given assistant messages; helper of the tests of envs/bfcl.py."""

import asyncio
import contextlib
import itertools
import json

from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils

from envs import bfcl

TURNS = 400  # assistant messages, more than any episode may have
SPREAD = [task for split in bfcl.CATEGORIES for task in bfcl.tasks(split)[::17]]


def say(text):
    return {"role": "assistant", "content": text}


def call(*pairs):
    """An assistant message of calls: (name, arguments as a dict or as text)."""
    texts = [(name, args if isinstance(args, str) else json.dumps(args)) for name, args in pairs]
    calls = [
        {"id": f"call_0_{i}", "type": "function", "function": {"name": name, "arguments": text}}
        for i, (name, text) in enumerate(texts)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def play(task, messages, form="qwen_fc"):
    """(score, every answer) of assistant messages played until the episode ends; empty ones after the last."""

    async def run():
        with contextlib.closing(bfcl.make(task, form)) as env:
            answers = []
            await env.reset()
            for message in itertools.chain(messages, itertools.repeat(say(""), 20)):
                step = await env.step(message)
                answers.append(step.messages)
                if step.done:
                    break
            score = await env.score()
            assert score == await env.score()  # grading twice gives the same
            return score, answers

    return asyncio.run(run())


def truth(task):
    """The oracle's messages."""

    async def run():
        act, calls = bfcl.oracle(task), sum(1 + bool(turn) for turn in task.truth)
        return [await act([]) for _ in range(calls)]

    return asyncio.run(run())


def left_behind():
    """What episodes left in the package's globals."""
    return [name for name in vars(multi_turn_utils) if name.startswith("episode_")]
