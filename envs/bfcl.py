"""BFCL-V4 multi-turn: the official tasks and tools, graded by the official checker.

An episode is a sequence of user turns. In each turn the policy calls tools until it sends a message without a readable
call; then the next user turn follows. More than STEP_LIMIT messages with calls in one turn end the episode, which fails
unless that was the last turn. In the category miss_func a tool is held out until a later user turn reveals it. All of
this follows the package's own loop (model_handler/base_handler.py) and its handler for Qwen's function calling.

Tools have one of two forms: "qwen_fc", the descriptions as that handler writes them into the prompt, or "chat", OpenAI
function schemas as everywhere else in this repository.

An episode differs from the package's on purpose in these points:

- The policy's messages stay in the conversation unchanged. (The handler drops text beside calls, and unreadable calls.)
- Names of tools inside strings are not rewritten.
- A message has at most MOST_CALLS calls.
- A turn that exceeds its token budget ends the episode.
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
# The package's loader appends it to the descriptions of tools, except held-out ones.
HINT = " Note that the provided function is in Python 3 syntax."

# Most assistant messages of an episode: the longest task has eight user turns.
MAX_TURNS = 8 * (bfcl_backend.STEP_LIMIT + 1)

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    id: the package's.
    root: tasks of the four categories with the same root are variants of one scenario.
    entry: the package's record (initial_config, involved_classes, question, ...).
    functions: descriptions of the tools, without those in `revealed`.
    revealed: number of the user turn -> descriptions of the tools that it reveals.
    truth: for each user turn the ground truth's calls, as Python text.
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
    """The description of the tool `name`."""
    return next(function for function in functions if function["name"] == name)


class Bfcl:
    """One episode of one task; implements envs.base.Env. Raises ValueError for an unknown form of the tools."""

    def __init__(self, task: Task, form: str = FORMS[0]):
        if form not in FORMS:
            raise ValueError(f"bfcl: unknown form {form!r}, expected one of {', '.join(FORMS)}")
        self.task = task
        self._form = form
        self.tools = self._shown(task.functions)
        # Held-out tools can be called before they are revealed, as in the package.
        self._names = {f["name"] for name in task.entry["involved_classes"] for f in bfcl_backend.functions(name)}
        self._session = bfcl_backend.Session(task.entry)
        self._turns: list[list[list[str]]] = [[]]  # turn -> step -> calls
        self._closed = ""  # why the episode is over: "user", "steps" or "size"

    def _shown(self, functions: Sequence[Record]) -> list[Record]:
        """Converts tool descriptions to the episode's form."""
        return list(functions) if self._form == "qwen_fc" else [schema(function) for function in functions]

    async def reset(self) -> list[Message]:
        """Returns the user's first messages; the benchmark has no system message."""
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
        """Runs the calls of an assistant message; without calls the next user turn begins, or the episode ends.

        Raises RuntimeError if the episode has ended.
        """
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
        """1.0 if the package's checker accepts the episode, else 0.0 with the checker's error as the violation."""
        if self._closed not in ("user", "steps"):
            return Score(0.0, {"checker": False}, ["state_too_large" if self._closed else "unfinished"])
        if len(self._turns) < len(self.task.truth):
            return Score(0.0, {"checker": False}, ["multi_turn:force_terminated"])
        found = bfcl_backend.check(self.task.entry, self._turns, self.task.truth)
        violations = [] if found["valid"] else [f"{found['error_type']}: {found['error_message']}"]
        return Score(float(found["valid"]), {"checker": found["valid"]}, violations)

    def close(self) -> None:
        """Removes the tools' state."""
        self._session.close()


def schema(function: Record) -> Record:
    """Converts one of the package's tool descriptions to an OpenAI function schema."""
    described = {key: function[key] for key in ("name", "description")}
    return {"type": "function", "function": {**described, "parameters": _json_schema(function["parameters"])}}


def _json_schema(described: Record) -> Record:
    """Converts a parameter's description, and those inside it, to a JSON schema."""
    found = {key: described[key] for key in ("description", "enum", "required") if key in described}
    found["type"] = bfcl_backend.JSON_TYPES[described["type"]]
    if "properties" in described:
        found["properties"] = {name: _json_schema(value) for name, value in described["properties"].items()}
    if "items" in described:
        found["items"] = _json_schema(described["items"])
    return found


def make(task: Task, form: str = FORMS[0]) -> Bfcl:
    """A new episode of a task. form: one of FORMS. Raises ValueError for another form."""
    return Bfcl(task, form)


def oracle(task: Task) -> Actor:
    """A scripted actor that earns reward 1.0: makes a turn's true calls in one message, then ends the turn."""
    turns = [[_read_truth(task, call) for call in calls] for calls in task.truth]
    script = iter([message for calls in turns for message in ([calls, []] if calls else [[]])])
    number = 0

    async def act(messages: list[Message]) -> Message:
        nonlocal number
        del messages  # a script ignores the conversation
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
    """{"name", "arguments"} of a call of the ground truth; positional arguments get their parameters' names."""
    call = ast.parse(text, mode="eval").body
    name = call.func.id
    owner = next(c for c in task.entry["involved_classes"] if any(f["name"] == name for f in bfcl_backend.functions(c)))
    pairs = [*zip(bfcl_backend.parameters(owner, name), call.args), *((k.arg, k.value) for k in call.keywords)]
    return {"name": name, "arguments": json.dumps({key: ast.literal_eval(value) for key, value in pairs})}
