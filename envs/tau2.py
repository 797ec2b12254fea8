"""tau2-bench: the official environments, orchestrator and evaluator, with our policy as the agent.

The official orchestrator passes messages between agent, user and tools; its agent here repeats the policy's messages.
There are two users:

- the official simulator, played by a language model at an OpenAI-compatible endpoint;
- a scripted user without a model: it states its reason for calling, does an action if the agent names the tool, and
  ends the conversation otherwise.

Scores are comparable with the leaderboard only with the official user. The reward is the official evaluator's. Tasks
whose reward needs a language model as judge get reward None.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from envs import actors
from envs.base import Actor, Message, Score, Step
from envs.official import tau2_backend  # noqa: F401  puts the checkout on the path, for the imports below

# isort: split
from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent
from tau2.config import DEFAULT_LLM_USER, DEFAULT_MAX_STEPS
from tau2.data_model import message as official
from tau2.data_model.simulation import SimulationRun, TerminationReason
from tau2.data_model.tasks import RewardType
from tau2.data_model.tasks import Task as OfficialTask
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
from tau2.orchestrator.orchestrator import Orchestrator, Role
from tau2.registry import registry
from tau2.user.base import STOP, BaseUser, UserState
from tau2.user.user_simulator import DummyUser, UserSimulator

SPLITS = ("airline", "retail", "telecom", "telecom_solo")
OFFICIAL_USER = DEFAULT_LLM_USER
MAX_TURNS = DEFAULT_MAX_STEPS  # most assistant messages of an episode


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    id: unique over splits. root: the same as id; each task is a root of its own. domain: the benchmark's. solo: whether
    there is no user and the agent has the user's tools. record: the benchmark's task.
    """

    id: str
    root: str
    domain: str
    solo: bool
    record: OfficialTask


@dataclasses.dataclass(frozen=True)
class UserModel:
    """The language model that plays the user. name: of the model. url, key: of its OpenAI-compatible endpoint."""

    name: str
    url: str
    key: str


def tasks(split: str) -> Sequence[Task]:
    """The tasks of a split: airline 50, retail 114, telecom 114; telecom_solo has those that need no user.

    Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"tau2.tasks: unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    domain, _, solo = split.partition("_")
    records = registry.get_tasks_loader(domain)()
    return [
        Task(f"{split}/{record.id}", f"{split}/{record.id}", domain, bool(solo), record)
        for record in records
        if not solo or (record.ticket and LLMSoloAgent.check_valid_task(record))
    ]


class _Relay:
    """An agent that repeats the message in `said`."""

    said: official.AssistantMessage

    def generate_next_message(self, message: Any, state: Any) -> tuple[official.AssistantMessage, Any]:
        """Returns the message in `said`."""
        del message
        return self.said, state


class _Agent(_Relay, LLMAgent):
    """A relay with the official agent's system prompt."""


class _SoloAgent(_Relay, LLMSoloAgent):
    """A relay with the official solo agent's system prompt and stop tool."""


class ScriptedUser(BaseUser):
    """A user without a language model; see the top of the file.

    task: its expected user actions are those that this user can do, in their order.
    """

    def __init__(self, task: OfficialTask):
        super().__init__()
        self._instructions = task.user_scenario.instructions
        self._actions = [action for action in _actions(task) if action.requestor == "user"]
        self._spoke = False

    def get_init_state(self, message_history: list[official.Message] | None = None) -> UserState:
        """An empty state; this user keeps its state in the instance."""
        return UserState(system_messages=[], messages=message_history or [])

    def is_stop(self, message: official.UserMessage) -> bool:
        """Whether the message ends the conversation."""
        return UserSimulator.is_stop(message)

    def generate_next_message(self, message: Any, state: UserState) -> tuple[official.UserMessage, UserState]:
        """Answers the agent, or the result of the user's own tool call."""
        return self._answer(message), state

    def _answer(self, message: Any) -> official.UserMessage:
        if not self._spoke:
            self._spoke = True
            return _say(getattr(self._instructions, "reason_for_call", None) or str(self._instructions))
        if isinstance(message, official.ToolMessage):
            return _say(f"I did that. {message.content}")
        if self._actions and self._actions[0].name in (message.content or ""):
            action = self._actions.pop(0)
            call_id = f"user_{len(self._actions)}"
            call = official.ToolCall(id=call_id, name=action.name, arguments=action.arguments, requestor="user")
            return official.UserMessage(role="user", tool_calls=[call])
        return _say(STOP)


def _say(text: str) -> official.UserMessage:
    """A user message."""
    return official.UserMessage(role="user", content=text)


class Tau2:
    """One episode of one task; implements envs.base.Env.

    user: the language model that plays the user; None: the scripted user.
    """

    def __init__(self, task: Task, user: UserModel | None = None):
        self.task = task
        environment = registry.get_env_constructor(task.domain)(solo_mode=task.solo)
        tools = environment.get_tools()
        user_tools = environment.get_user_tools() if environment.user_tools is not None else None
        if task.solo:
            tools = tools + (user_tools or [])
            self._agent = _SoloAgent(tools=tools, domain_policy=environment.get_policy(), task=task.record)
            speaker = DummyUser()
        else:
            self._agent = _Agent(tools=tools, domain_policy=environment.get_policy())
            speaker = ScriptedUser(task.record) if user is None else _simulator(task.record, user_tools, user)
        self.tools = [tool.openai_schema for tool in self._agent.tools]
        self._world = Orchestrator(
            task.domain, self._agent, speaker, environment, task.record, DEFAULT_MAX_STEPS, solo_mode=task.solo
        )
        self._started = False
        self._broken = ""  # a violation that the benchmark has no rule for, "" if none

    async def reset(self) -> list[Message]:
        """Returns the official agent's system prompt and, unless solo, the user's first message.

        Raises ValueError for a task that begins with a conversation.
        """
        prompt = [{"role": "system", "content": self._agent.system_prompt}]
        if self.task.record.initial_state is not None and self.task.record.initial_state.message_history:
            raise ValueError(f"{self.task.id}: tasks that begin with a conversation are not supported")
        if self.task.solo:  # the agent speaks first, in `step`
            return prompt
        self._world.initialize()
        self._started = True
        return prompt + await asyncio.to_thread(self._advance)

    async def step(self, message: Message) -> Step:
        """Passes on the assistant's message, then runs until it is the assistant's turn again or the episode is over.

        Raises RuntimeError if the episode has ended.
        """
        if self._broken or self._world.done:
            raise RuntimeError(f"{self.task.id}: step after the episode ended")
        calls = [_tool_call(call) for call in message.get("tool_calls") or ()]
        text = message.get("content") or ""
        if not calls and (self.task.solo or not text.strip()):  # the official loop raises an error here
            self._broken = "no_call" if self.task.solo else "empty_message"
            return Step([], True)
        said = official.AssistantMessage(role="assistant", content=text or None, tool_calls=calls or None)
        self._agent.said = self._agent._check_if_stop_toolcall(said) if self.task.solo else said
        return Step(await asyncio.to_thread(self._advance), self._world.done)

    def _advance(self) -> list[Message]:
        """Runs the official loop until it is the agent's turn; returns the new messages that the agent sees."""
        world, before = self._world, len(self._world.trajectory)
        if not self._started:
            world.initialize()
            self._started = True
        elif world.to_role == Role.AGENT:
            self._one_step()
        while not world.done and world.to_role != Role.AGENT:
            self._one_step()
        return [found for item in world.trajectory[before:] if (found := _visible(item)) is not None]

    def _one_step(self) -> None:
        """Makes one step and applies the limit on steps, as Orchestrator.run does."""
        self._world.step()
        if self._world.step_count >= self._world.max_steps:
            self._world.done, self._world.termination_reason = True, TerminationReason.MAX_STEPS

    async def score(self) -> Score:
        """The official reward, with its parts as subgoals. An unfinished episode counts as one at the step limit."""
        if self._broken:
            return Score(0.0, {}, [self._broken])
        criteria = self.task.record.evaluation_criteria
        if criteria is not None and RewardType.NL_ASSERTION in criteria.reward_basis:
            return Score(None, {}, [], f"{self.task.id}: its reward needs a language model as a judge")
        reason = self._world.termination_reason if self._world.done else TerminationReason.MAX_STEPS
        record = SimulationRun(
            id=self.task.id, task_id=self.task.record.id, start_time="", end_time="", duration=0.0,
            termination_reason=reason, messages=self._world.get_trajectory(),
        )  # fmt: skip
        found = await asyncio.to_thread(
            evaluate_simulation, record, self.task.record, EvaluationType.ALL, self.task.solo, self.task.domain
        )
        parts = {kind.value: value == 1.0 for kind, value in (found.reward_breakdown or {}).items()}
        violations = [] if reason != TerminationReason.MAX_STEPS else [reason.value]
        return Score(float(found.reward), parts, violations)

    def close(self) -> None:
        """Does nothing: the instance holds no outside resources."""


def _simulator(task: OfficialTask, tools: Sequence[Any] | None, user: UserModel) -> UserSimulator:
    """The official user simulator at an endpoint, with the settings of the benchmark's own runs."""
    settings = {"api_base": user.url, "api_key": user.key or "none", "temperature": 0.0}
    return UserSimulator(
        tools=tools, instructions=str(task.user_scenario), llm=f"openai/{user.name}", llm_args=settings
    )


def _tool_call(call: dict[str, Any]) -> official.ToolCall:
    """Converts an assistant's call. Arguments that are not a JSON object become one that every tool rejects, so that
    the tool answers with an error."""
    text = call["function"]["arguments"]
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"unreadable_arguments": text[:200]}
    return official.ToolCall(id=call["id"], name=call["function"]["name"], arguments=arguments)


def _visible(item: official.Message) -> Message | None:
    """A message as the agent sees it; None for its own messages and for those between the user and its tools."""
    if isinstance(item, official.ToolMessage) and item.requestor == "assistant":
        return {"role": "tool", "tool_call_id": item.id, "content": item.content or ""}
    if isinstance(item, official.UserMessage) and not item.is_tool_call():
        return {"role": "user", "content": item.content or ""}
    return None


def _actions(task: OfficialTask) -> list[Any]:
    """The expected actions of a task."""
    return (task.evaluation_criteria.actions if task.evaluation_criteria else None) or []


def make(task: Task, user: UserModel | None = None) -> Tau2:
    """A new episode of a task; see Tau2."""
    return Tau2(task, user)


def oracle(task: Task) -> Actor:
    """A scripted actor that does the expected actions, asks the scripted user to do its own, and says what the task
    requires to be said."""
    steps = []
    for action in _actions(task.record):
        if action.requestor == "user" and not task.solo:
            steps.append({"say": f"Please do this: {action.get_func_format()}"})
        else:
            steps.append({"say": "", "call": action.name, "args": action.arguments})
    criteria = task.record.evaluation_criteria
    told = ", ".join((criteria.communicate_info if criteria else None) or ())
    return actors.scripted([*steps, _ending(task, told or "Done.")])


def idle(task: Task) -> Actor:
    """A scripted actor that ends the conversation at once."""
    return actors.scripted([_ending(task, "Done.")])


def transferring(task: Task) -> Actor:
    """A scripted actor that transfers the conversation to a person at once."""
    call = {"say": "", "call": LLMSoloAgent.TRANSFER_TOOL_NAME, "args": {"summary": "The user asks for help."}}
    return actors.scripted([call, _ending(task, "You are being transferred to a person.")])


def _ending(task: Task, text: str) -> dict[str, Any]:
    """The step that ends a conversation: a message to the scripted user or, if solo, the stop tool."""
    return {"say": "", "call": LLMSoloAgent.STOP_FUNCTION_NAME, "args": {}} if task.solo else {"say": text}
