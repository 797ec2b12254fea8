"""BFCL-V4 multi-turn: the official tasks and tools, graded by the official checker.

An episode is a sequence of user turns. In each the policy calls tools until it answers without a call that can be read;
then the next user turn follows. More than STEP_LIMIT messages with calls in one turn end the episode, which fails
unless that was the last turn. In the category miss_func a tool is held out, and a later user turn reveals it. All of
this is as in the package's own loop (model_handler/base_handler.py) with its handler of Qwen's function calling.

Two forms of the tools: "qwen_fc", the descriptions as that handler writes them into the prompt, and "chat", OpenAI
function schemas as everywhere else in this repository.

Where an episode differs from the package's, on purpose: what the policy said stays in the conversation as it said it
(the handler drops text beside calls, and calls it cannot parse); names of tools inside strings are not rewritten;
a message has at most MOST_CALLS calls; a turn that runs over its token budget ends the episode.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from envs.base import Actor, Message, Score, Step
from envs.official import bfcl_backend, bfcl_calls

CATEGORIES = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
FORMS = ("qwen_fc", "chat")
# What the package's loader adds to the descriptions, but not to those of held-out tools.
HINT = " Note that the provided function is in Python 3 syntax."

# Assistant messages of an episode at most: the longest task has eight user turns.
MAX_TURNS = 8 * (bfcl_backend.STEP_LIMIT + 1)

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    id: the package's. root: tasks of the four categories with the same root are variations of one scenario.
    entry: the package's record (initial_config, involved_classes, question, ...).
    functions: descriptions of the tools, those of `revealed` excluded. revealed: turn -> tools that it reveals.
    truth: the calls of the ground truth, as Python text, per turn.
    """

    id: str
    root: str
    entry: Record
    functions: list[Record]
    revealed: dict[int, list[Record]]
    truth: list[list[str]]


def tasks(split: str) -> Sequence[Task]:
    """The 200 tasks of a category. Raises ValueError for an unknown split."""
    if split not in CATEGORIES:
        raise ValueError(f"bfcl.tasks: unknown split {split!r}, expected one of {', '.join(CATEGORIES)}")
    return _tasks(split)


@functools.cache
def _tasks(split: str) -> tuple[Task, ...]:
    """The tasks of a category."""
    entries = bfcl_backend.lines(f"BFCL_v4_{split}.json")
    truths = bfcl_backend.lines(f"possible_answer/BFCL_v4_{split}.json")
    return tuple(_task(entry, truth["ground_truth"]) for entry, truth in zip(entries, truths, strict=True))


def _task(entry: Record, truth: list[list[str]]) -> Task:
    """The task of a record and its ground truth."""
    functions = [f for name in entry["involved_classes"] for f in bfcl_backend.functions(name)]
    held_out = {int(turn): names for turn, names in entry.get("missed_function", {}).items()}
    revealed = {turn: [_named(functions, name) for name in names] for turn, names in held_out.items()}
    hidden = {function["name"] for found in revealed.values() for function in found}
    shown = [{**f, "description": f["description"] + HINT} for f in functions if f["name"] not in hidden]
    return Task(entry["id"], entry["id"].rsplit("_", 1)[1], entry, shown, revealed, truth)


def _named(functions: Sequence[Record], name: str) -> Record:
    """The description of that name."""
    return next(function for function in functions if function["name"] == name)


class Bfcl:
    """One episode of one task; implements envs.base.Env."""

    def __init__(self, task: Task, form: str = FORMS[0]):
        if form not in FORMS:
            raise ValueError(f"bfcl: unknown form {form!r}, expected one of {', '.join(FORMS)}")
        self.task = task
        self._form = form
        self.tools = self._shown(task.functions)
        # A held-out tool can be called before it is revealed: the package does not prevent it either.
        self._names = {f["name"] for name in task.entry["involved_classes"] for f in bfcl_backend.functions(name)}
        self._session = bfcl_backend.Session(task.entry)
        self._turns: list[list[list[str]]] = [[]]  # turn -> step -> calls
        self._closed = ""  # why the episode is over: "user", "steps" or "size"

    def _shown(self, functions: Sequence[Record]) -> list[Record]:
        """Tool descriptions in the episode's form."""
        return list(functions) if self._form == "qwen_fc" else [schema(function) for function in functions]

    async def reset(self) -> list[Message]:
        """The first user message; the benchmark has no system message."""
        return self._user()

    def _user(self) -> list[Message]:
        """The user's messages of the current turn."""
        turn = len(self._turns) - 1
        if turn not in self.task.revealed:
            return [dict(message) for message in self.task.entry["question"][turn]]
        revealed = self._shown(self.task.revealed[turn])
        text = revealed if self._form == "qwen_fc" else json.dumps(revealed)
        return [{"role": "user", "content": bfcl_backend.REVEAL_WITH_FUNCTIONS.format(functions=text)}]

    async def step(self, message: Message) -> Step:
        """Runs the calls of an assistant message, or goes on to the next user turn when there is none."""
        if self._closed:
            raise RuntimeError(f"{self.task.id}: step after the episode ended ({self._closed})")
        calls = bfcl_calls.read(message)
        if not calls:
            if len(self._turns) == len(self.task.entry["question"]):
                self._closed = "user"
                return Step([], True)
            self._turns.append([])
            return Step(self._user(), False)
        ids = [call_id for call_id, _, _ in calls]
        texts = [bfcl_calls.expression(name, arguments, self._names) for _, name, arguments in calls]
        texts = texts[: bfcl_calls.MOST_CALLS]
        self._turns[-1].append(texts)
        try:
            results = self._session.execute(texts)
        except bfcl_backend.StateTooLargeError:
            self._closed = "size"
            return Step([], True)
        results += [f"Error: at most {bfcl_calls.MOST_CALLS} calls at a time"] * (len(ids) - len(results))
        if len(self._turns[-1]) > bfcl_backend.STEP_LIMIT:
            self._closed = "steps"
        answers = [{"role": "tool", "tool_call_id": i, "content": result} for i, result in zip(ids, results)]
        return Step(answers, bool(self._closed))

    async def score(self) -> Score:
        """1.0 if the package's checker accepts the episode, else 0.0 with what it objects to as the violation."""
        if self._closed not in ("user", "steps"):
            return Score(0.0, {"checker": False}, ["state_too_large" if self._closed else "unfinished"])
        if len(self._turns) < len(self.task.truth):
            return Score(0.0, {"checker": False}, ["multi_turn:force_terminated"])
        found = bfcl_backend.check(self.task.entry, self._turns, self.task.truth)
        violations = [] if found["valid"] else [f"{found['error_type']}: {found['error_message']}"]
        return Score(float(found["valid"]), {"checker": found["valid"]}, violations)

    def close(self) -> None:
        """Forgets the tools' state."""
        self._session.close()


def schema(function: Record) -> Record:
    """The OpenAI function schema of one of the package's descriptions."""
    described = {key: function[key] for key in ("name", "description")}
    return {"type": "function", "function": {**described, "parameters": _json_schema(function["parameters"])}}


def _json_schema(described: Record) -> Record:
    """JSON schema of a parameter's description: its type's name in JSON, and the same for what it holds."""
    found = {key: described[key] for key in ("description", "enum", "required") if key in described}
    found["type"] = bfcl_backend.JSON_TYPES[described["type"]]
    if "properties" in described:
        found["properties"] = {name: _json_schema(value) for name, value in described["properties"].items()}
    if "items" in described:
        found["items"] = _json_schema(described["items"])
    return found


def make(task: Task, form: str = FORMS[0]) -> Bfcl:
    """A fresh episode of a task, its tools in one of FORMS."""
    return Bfcl(task, form)


def oracle(task: Task) -> Actor:
    """The actor that earns reward 1.0: the ground truth's calls of a turn in one message, then a word to the user."""
    turns = [[_read_truth(task, call) for call in calls] for calls in task.truth]
    script = iter([message for calls in turns for message in ([calls, []] if calls else [[]])])
    number = 0

    async def act(messages: list[Message]) -> Message:
        nonlocal number
        del messages  # the script does not listen
        functions, number = next(script), number + 1
        if not functions:
            return {"role": "assistant", "content": "Done."}
        calls = [
            {"id": f"call_{number - 1}_{i}", "type": "function", "function": function}
            for i, function in enumerate(functions)
        ]
        return {"role": "assistant", "content": "", "tool_calls": calls}

    return act


def _read_truth(task: Task, text: str) -> dict[str, str]:
    """{"name", "arguments"} of a call in the ground truth; positional arguments get their names."""
    call = ast.parse(text, mode="eval").body
    name = call.func.id
    owner = next(c for c in task.entry["involved_classes"] if any(f["name"] == name for f in bfcl_backend.functions(c)))
    pairs = [*zip(bfcl_backend.parameters(owner, name), call.args), *((k.arg, k.value) for k in call.keywords)]
    return {"name": name, "arguments": json.dumps({key: ast.literal_eval(value) for key, value in pairs})}
