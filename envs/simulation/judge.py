"""A language model as judge, as in the paper: it reads a conversation and says which points of a rubric are met.

It exists for comparison: rewards by code are the default, and the gates always use them. Judged scores have
`reward_source: "llm"`. If the endpoint fails or its answers stay malformed, the reward is None, never 0.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from envs import world
from envs.base import Env, Message, Score, Step
from envs.simulation.simulated import Simulated
from synth.task import Task
from synth.teachers.llm import Client, NoAnswer, Question

SYSTEM = (
    "You judge how an agent handled a conversation with a customer. You are given the agent's policy, the conversation "
    "with all tool calls and results, and a rubric. You answer with one JSON object."
)
RUBRIC = """Policy:
{policy}

Conversation, one message a line:
{conversation}

Points to be reached, each with what must have happened ("event") or must have been changed ("delta"):
{subgoals}

What must not have happened, unless something else ("unless_after") did in an earlier message:
{violations}

Name the points that were reached and the rules that were broken. Schema: {schema}"""


def question(task: Task, messages: Sequence[Message]) -> Question:
    """The question to the judge about a conversation."""
    told = ("event", "delta", "unless_after", "for")
    parts = {"subgoals": task.subgoals, "violations": task.violations}
    lines = {
        key: "\n".join(f"- {p['name']}: {json.dumps({k: p[k] for k in told if k in p})}" for p in found)
        for key, found in parts.items()
    }
    reached, broken = (
        {"type": "array", "items": {"enum": sorted({p["name"] for p in found})}} for found in parts.values()
    )
    schema = {
        "type": "object", "properties": {"reached": reached, "broken": broken, "reason": {"type": "string"}},
        "required": ["reached", "broken"], "additionalProperties": False,
    }  # fmt: skip
    shown = "\n".join(json.dumps(message) for message in messages if message["role"] != "system")
    text = RUBRIC.format(policy=task.policy, conversation=shown, schema=json.dumps(schema), **lines)
    return Question([{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}], schema)


async def judge(task: Task, messages: Sequence[Message], closed: bool, client: Client) -> Score:
    """The judge's score of a conversation. closed: whether the user ended it or the agent transferred it."""
    try:
        answer = await client.ask(question(task, messages))
    except NoAnswer as error:
        return Score(None, {}, [], error=f"judge: {error}", reward_source="llm")
    if answer is None:
        return Score(None, {}, [], error="judge: its answers stayed malformed", reward_source="llm")
    met = {goal["name"]: goal["name"] in answer["reached"] for goal in task.subgoals}
    broken = [rule for rule in task.violations if rule["name"] in answer["broken"]]
    return dataclasses.replace(world.graded(task, met, broken, (), closed), reward_source="llm")


class Judged:
    """One episode in the environment `env`, with the judge's score instead of the environment's own."""

    def __init__(self, task: Task, env: Env, client: Client):
        self.task, self.tools = task, env.tools
        self._env, self._client = env, client
        self._messages: list[Message] = []
        self._done = False

    async def reset(self) -> list[Message]:
        """Resets the environment and keeps its messages for the judge."""
        self._messages = await self._env.reset()
        return self._messages

    async def step(self, message: Message) -> Step:
        """Passes the message to the environment and keeps both sides for the judge."""
        step = await self._env.step(message)
        self._messages, self._done = [*self._messages, message, *step.messages], step.done
        return step

    async def score(self) -> Score:
        """The judge's score, with the environment's own reward, if it has one, as code_reward."""
        own = await self._env.score()
        found = await judge(self.task, self._messages, self._done, self._client)
        return dataclasses.replace(found, delta=own.delta, code_reward=own.reward)

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


def make(task: Task, client: Client, simulated: bool) -> Judged:
    """A new episode of a task that a model judges. simulated: whether the model also plays tools and user."""
    return Judged(task, Simulated(task, client) if simulated else world.make(task), client)
