"""Turns scripted policies (oracle, adversaries, baselines) into actors and plays them against environments."""

from __future__ import annotations

import json
from collections.abc import Sequence

from envs.base import Actor, Env, Message, Score
from synth.inversion import dialect, script

MAX_TURNS = 24  # most assistant turns of a scripted episode


def scripted(steps: Sequence[script.Step]) -> Actor:
    """An actor that plays the given steps in order and then keeps saying that it is done."""
    remaining = list(steps)
    turn = 0

    async def act(messages: list[Message]) -> Message:
        nonlocal turn
        del messages  # a script ignores the conversation
        step = remaining.pop(0) if remaining else {"say": dialect.TINY.closings["write"]}
        turn += 1
        return to_message(step, turn - 1)

    return act


def transferring(tools: Sequence[dict]) -> Actor | None:
    """An actor that transfers the conversation to a person at once; None if no tool's name starts with "transfer"."""
    functions = [tool.get("function", tool) for tool in tools]
    function = next((f for f in functions if f["name"].startswith("transfer")), None)
    if function is None:
        return None
    known = function["parameters"]["properties"]
    args = {key: known[key].get("enum", ["other"])[0] for key in function["parameters"].get("required", ())}
    return scripted([{"say": "", "call": function["name"], "args": args}])


def to_message(step: script.Step, turn: int) -> Message:
    """Converts a step to an assistant message, whose call id is "call_<turn>_0"."""
    if "call" not in step:
        return {"role": "assistant", "content": step["say"]}
    function = {"name": step["call"], "arguments": json.dumps(step["args"])}
    call = {"id": f"call_{turn}_0", "type": "function", "function": function}
    return {"role": "assistant", "content": step["say"], "tool_calls": [call]}


async def play(env: Env, actor: Actor, max_turns: int = MAX_TURNS) -> tuple[list[Message], Score]:
    """Plays an episode to its end or for max_turns assistant turns, and closes it. Returns (messages, score)."""
    try:
        messages = await env.reset()
        for _ in range(max_turns):
            message = await actor(messages)
            step = await env.step(message)
            messages = [*messages, message, *step.messages]
            if step.done:
                break
        return messages, await env.score()
    finally:
        env.close()
