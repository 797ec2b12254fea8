"""Lets a person play the agent of a task in the terminal.

    ./run -m rl.reports.play [--register=business|tiny] [--business=NAME] [--operator=NAMES]
        [--outcome=any|legal|illegal] [--seed=N] [--save=FILE]
    ./run -m rl.reports.play --world=reasoning|search|data [--seed=N]
    ./run -m rl.reports.play --workdir=DIR [--round=K] [--split=heldout|train] [--task=ID or number]

Without a workdir the task is made: a workflow of the business, grown by the operators one after the other. What is
typed goes to the customer. A line `tool_name {json}` or `tool_name key=value ...` is a tool call. A line that ends in a
backslash goes on: the lines make one message, which may hold words and several calls. Commands begin with a colon.
"""

from __future__ import annotations

import dataclasses
import json
import pydoc
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from envs import actors, data, reasoning, registry, search, world
from envs.base import Env, Message, Score, run
from rl import command_line
from rl.reports import report, typed
from rl.trajectory import ENDED, MAX_TURNS
from synth import generate, operators, registers
from synth.gating import gates
from synth.question import Question
from synth.task import Task
from synth.trees import workflow

TRIES = 12  # workflows that are tried until one has a task that passes the gates
WORLDS = {"reasoning": reasoning, "search": search, "data": data}
HELP = """:manual   what the agent is given to read     :again   the conversation so far
:tools    the tools; :tools NAME for one     :undo    takes back your last message
:state    what you have done so far          :cheat   shows everything, also what is secret
:end      stops and scores                   :help    this
Anything else is said to the customer, or is a call: tool_name {"key": "value"} or tool_name key=value ...
A backslash at the end of a line goes on with the same message: words and calls, several of them."""


class Game:
    """One task, played by hand. `messages`: the conversation, system message first."""

    def __init__(self, task: Task | Question):
        self.task, self.messages, self.turns, self.done = task, [], 0, False
        self._env: Env | None = None

    async def begin(self) -> list[Message]:
        """Starts over. Returns the messages that the conversation begins with."""
        self.close()
        self._env = registry.make(self.task)
        self.messages, self.turns, self.done = await self._env.reset(), 0, False
        return self.messages

    @property
    def env(self) -> Env:
        """The episode. Raises ValueError before `begin`."""
        if self._env is None:
            raise ValueError("the game has not begun")
        return self._env

    async def send(self, message: Message) -> list[Message]:
        """Sends an assistant message. Returns the answers."""
        step = await self.env.step(message)
        self.messages = [*self.messages, message, *step.messages]
        self.turns, self.done = self.turns + 1, step.done
        return step.messages

    async def undo(self) -> None:
        """Takes back the last message of the assistant. Raises ValueError if there is none."""
        sent = [m for m in self.messages if m["role"] == "assistant"]
        if not sent:
            raise ValueError("there is nothing to take back")
        await self.begin()
        for message in sent[:-1]:
            await self.send(message)

    async def record(self) -> dict[str, Any]:
        """The episode as `report.format_trajectory` reads it."""
        score: Score = await self.env.score()
        reason = ENDED if self.done else MAX_TURNS
        return {"task_id": self.task.id, "member": 0, "turns": self.turns, "reason": reason,
                "messages": self.messages, "tools": self.env.tools, "score": vars(score)}  # fmt: skip

    def close(self) -> None:
        """Releases what the episode holds."""
        if self._env is not None:
            self._env.close()


def fresh(register: str, business: str, names: str, outcome: str, seed: int) -> Task:
    """A task that passes the gates.

    Args:
      register: "business" or "tiny".
      business: name of a business, or of a domain of the tiny register; "" for any.
      names: operators that the workflow grows by, one after the other, with commas between; "" for none.
      outcome: "legal", "illegal" or "any".
      seed: draws the rest.
    Raises:
      ValueError: unknown names, an operator that never applies, or no task within `TRIES` workflows.
    """
    chosen = [operators.select(name)[0] for name in names.split(",") if name.strip()]
    domains = registers.select(register, business or "all")["train"]
    said = ""
    for attempt in range(TRIES):
        flow = workflow.roots("train", 1, domains, seed + 1000 * attempt)[0]
        kind = outcome if outcome != "any" else random.Random(f"play/{flow.id}/{seed}").choice(("legal", "illegal"))
        try:
            for operator in chosen:
                flow = operators.expand(flow, operator, seed)
            if not chosen and kind == "illegal":
                kind = "legal"  # a linear tree has no other ending
            candidates = generate.of_tree(flow, [kind], seed)
        except ValueError as error:
            said = str(error)
            continue
        except IndexError:
            said = f"{flow.id} has no {kind} branch"
            continue
        accepted, rejected = gates.select(candidates, world.reward, gates.Seen())
        if accepted:
            return accepted[0]
        said = f"gates: {rejected}"
    raise ValueError(f"no task in {TRIES} workflows; the last: {said}")


def asked(name: str, seed: int) -> Question:
    """A question of a world, drawn by the seed."""
    found = list(WORLDS[name].tasks("train", rounds=1, seed=seed))
    return random.Random(seed).choice(found)


def stored(workdir: str, number: int | None, split: str, wanted: str) -> Task | Question:
    """A task of a run. number: the round, None for the last one. wanted: an id or a number; "" for the first.

    Raises ValueError or FileNotFoundError where there is none.
    """
    from synth import dataset  # not at the top: TFDS takes seconds to import, and a task that is made does not need it

    folder = Path(workdir) / "tasks"
    rounds = sorted(int(p.name[6:]) for p in folder.glob("round_*") if p.name[6:].isdigit())
    if not rounds:
        raise FileNotFoundError(f"{folder}: no round has written its tasks")
    if number is not None and number not in rounds:
        raise ValueError(f"--round={number}: {folder} has the rounds {', '.join(map(str, rounds))}")
    tasks = dataset.read(folder / f"round_{rounds[-1] if number is None else number}", split)
    if not wanted or wanted.isdigit():
        if int(wanted or 0) >= len(tasks):
            raise ValueError(f"--task={wanted}: there are {len(tasks)} {split} tasks")
        return tasks[int(wanted or 0)]
    if found := [task for task in tasks if task.id == wanted]:
        return found[0]
    raise ValueError(f"--task={wanted}: {command_line.did_you_mean(wanted, [task.id for task in tasks[:200]])}")


class Desk:
    """The terminal of a game: reads lines, prints what follows.

    read: returns a line, None at the end of the input. echo: whether to show what was read, which nobody typed here.
    """

    def __init__(self, game: Game, read: Callable[[], str | None], show: Callable[[str], None], echo: bool):
        self.game, self.read, self.show, self.echo = game, read, show, echo
        self.cheating = False

    async def play(self) -> dict[str, Any]:
        """Plays until the episode or the input ends. Returns the record of the episode."""
        for message in await self.game.begin():
            if message["role"] != "system":
                self.show(shown(message))
        while not self.game.done and (text := self._typed()) is not None:
            if text.startswith(":"):
                if text.strip() == ":end":
                    break
                await self._explained(self._command(*text[1:].split()))
            elif text.strip():
                await self._explained(self._say(text))
        return await self.game.record()

    async def _explained(self, doing: Any) -> None:
        try:
            await doing
        except ValueError as error:
            self.show(f"! {error}")

    def _typed(self) -> str | None:
        """The next message or command; None at the end of the input."""
        lines: list[str] = []
        while (line := self.read()) is not None:
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)
        return "\n".join(lines) if lines else None

    async def _say(self, text: str) -> None:
        message = typed.message(text, self.game.env.tools, self.game.turns)
        if self.echo:
            self.show(shown(message))
        for answer in await self.game.send(message):
            self.show(shown(answer))

    async def _command(self, name: str = "", *rest: str) -> None:
        simple = {"manual": self._manual, "again": self._again, "help": lambda: self.show(HELP), "state": self._state}
        if name in simple:
            simple[name]()
        elif name == "tools":
            self._tools(rest)
        elif name == "undo":
            await self.game.undo()
            self.show("taken back")
        elif name == "cheat":
            self.cheating = True
            self._state()
        else:
            known = [*simple, "tools", "undo", "cheat", "end"]
            raise ValueError(f":{name}: no such command; {command_line.did_you_mean(name, known)}")

    def _manual(self) -> None:
        text = "\n\n".join(m["content"] for m in self.game.messages if m["role"] == "system")
        if self.echo or not sys.stdout.isatty():
            self.show(text)
        else:
            pydoc.pager(text)

    def _again(self) -> None:
        self.show("\n".join(shown(m) for m in self.game.messages if m["role"] != "system"))

    def _tools(self, names: Sequence[str]) -> None:
        known = {typed.function(tool)["name"]: typed.function(tool) for tool in self.game.env.tools}
        for name in names:
            if name not in known:
                raise ValueError(f"there is no tool {name}; {command_line.did_you_mean(name, known)}")
        self.show("\n".join(typed.described(known[name]) for name in names or known))

    def _state(self) -> None:
        game = self.game
        calls = [c["function"]["name"] for m in game.messages for c in m.get("tool_calls", ())]
        self.show(f"{game.turns} messages sent; calls: {', '.join(calls) or 'none'}")
        if not self.cheating:
            return
        hidden = vars(game.task).items()
        self.show(json.dumps({k: v for k, v in hidden if k not in ("policy", "tools", "tree", "effects")}, indent=1))
        if isinstance(game.task, Task):
            self.show(report.format_tree(game.task.tree))


def shown(message: Message) -> str:
    """A message as text."""
    return "\n".join(report.format_message(message))


async def oracle(task: Task | Question) -> dict[str, Any]:
    """The record of the episode that the task's oracle plays."""
    messages, score = await actors.play(registry.make(task), registry.oracle(task))
    turns = sum(m["role"] == "assistant" for m in messages)
    return {"task_id": task.id, "member": "oracle", "turns": turns, "reason": ENDED, "messages": messages,
            "score": vars(score)}  # fmt: skip


def ending(task: Task | Question, record: dict[str, Any], reference: dict[str, Any]) -> str:
    """What is told at the end: the score, the node that was left, and what the oracle does."""
    score = record["score"]
    lines = [] if record["reason"] == ENDED else ["-- the conversation was not brought to an end"]
    lines += report.format_score(score)
    if isinstance(task, Task) and score.get("node"):
        tree = report.format_tree(task.tree).split("\n")
        lines += [f"   in the tree: {line.strip(' │├└─')}" for line in tree if f" {score['node']} " in f" {line} "]
    rest = {**reference, "messages": [m for m in reference["messages"] if m["role"] != "system"]}
    return "\n".join([*lines, "", "The oracle plays it so:", report.format_trajectory(rest)])


def _lines() -> tuple[Callable[[], str | None], bool]:
    """(what reads the next line of the standard input, whether lines are to be shown since nobody types them)."""
    typing = sys.stdin.isatty()
    if typing:
        import readline  # noqa: F401 (input() then has a history)

    def read() -> str | None:
        try:
            return input("> " if typing else "")
        except EOFError:
            return None

    return read, not typing


def _chosen(values: flags.FlagValues) -> Task | Question:
    if values.workdir:
        return stored(values.workdir, values.round, values.split, values.task)
    for name in ("round", "task"):
        if values[name].present:
            raise ValueError(f"--{name} needs --workdir")
    if values.world != "world":
        return asked(values.world, values.seed)
    return fresh(values.register, values.business, values.operator, values.outcome, values.seed)


def main(argv: Sequence[str]) -> None:
    """The command at the top of this file."""
    if {"-h", "--help"} & set(argv):
        print(f"{__doc__}\n{HELP}")
        return
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "A run's folder.", flag_values=values)
    flags.DEFINE_integer("round", None, "The round of that run; the last one if left out.", 0, flag_values=values)
    flags.DEFINE_enum("split", "heldout", ["heldout", "train"], "The split.", flag_values=values)
    flags.DEFINE_string("task", "", "The task's id, or its number in the split.", flag_values=values)
    flags.DEFINE_enum("world", "world", ["world", *WORLDS], "The world of a task that is made.", flag_values=values)
    flags.DEFINE_enum("register", "business", registers.REGISTERS, "Whose tasks.", flag_values=values)
    flags.DEFINE_string("business", "", "The business, or the domain of the tiny register.", flag_values=values)
    flags.DEFINE_string("operator", "", "Operators that the workflow grows by, with commas.", flag_values=values)
    flags.DEFINE_enum("outcome", "any", ["any", "legal", "illegal"], "What is right to do.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed of a task that is made.", flag_values=values)
    flags.DEFINE_string("save", "", "A file that the episode is written to, as JSON.", flag_values=values)
    try:
        _, *stray = values(["", *argv])
        if stray:
            raise ValueError(f"{stray[0]!r}: unexpected argument; everything is a flag, --name=value")
        task = _chosen(values)
        if values.save and not Path(values.save).parent.is_dir():
            raise ValueError(f"--save={values.save}: no such folder")
        record = run(_session(task))
        if values.save:
            Path(values.save).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except (flags.Error, FileNotFoundError, ValueError) as error:
        sys.exit(f"rl.reports.play: {error}")


async def _session(task: Task | Question) -> dict[str, Any]:
    """Plays a task in the terminal. Returns the record of the episode."""
    read, echo = _lines()
    game = Game(task)
    try:
        print(f"task {task.id}; :help lists the commands, :manual is what you are to follow\n")
        record = await Desk(game, read, print, echo).play()
    finally:
        game.close()
    print(f"\n{ending(task, record, await oracle(task))}")
    if dataclasses.is_dataclass(task) and isinstance(task, Question):
        print(f"-- the answer: {task.answer}")
    return record


if __name__ == "__main__":
    main(sys.argv[1:])
