"""The executable world: tools act on a real state store, a scripted user answers, and code computes the reward.

Subgoals and violations are data:

- A subgoal `{"name", "node", "weight", "event": match}` is met if some recorded event matches.
- A subgoal `{"name", "node", "weight", "delta": {path: value}}` is met if the state has changed at these paths, to
  these values.
- A subgoal with `"for": record_id` belongs to the goal on that record; a task may have several goals.
- A violation `{"name", "node", "event": match}` occurs if some event matches. It is excused if an event of an earlier
  message matches the optional `"unless_after": match`.
- A match maps an event's keys to the expected value each, or to `{"not_in": [...]}`.

The reward is 0 if a violation occurred, if the state changed in a way that no subgoal declares, or if the episode was
neither ended by the user nor transferred by the agent. Otherwise it is the weighted share of subgoals met.

Every event has the "turn" (number of the assistant message) in which it happened. The first write, decline or transfer
is the decision. What is read, asked or confirmed in the same message or later cannot have informed the decision, so it
meets no subgoal. With several goals each has its own decision: the first one on its record, or a transfer, which hands
over all of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from envs import actors, tools
from envs.base import Actor, Message, Score, Step
from envs.customer import Customer
from envs.user import User
from synth import generate, operators, registers
from synth.business import interpreter
from synth.gating import gates
from synth.growth import selection
from synth.inversion import script
from synth.task import Task
from synth.trees import workflow

Event = dict[str, Any]
INFORMING = ("read", "found", "asked", "told", "confirm")  # events that can inform a decision
DECISIONS = ("write", "decline", "transfer")


def matches(event: Event, match: dict[str, Any]) -> bool:
    """Whether the event has every key of `match`, with a value that `match` admits."""
    for key, wanted in match.items():
        if key not in event:
            return False
        if isinstance(wanted, dict) and set(wanted) == {"not_in"}:
            if event[key] in wanted["not_in"]:
                return False
        elif event[key] != wanted:
            return False
    return True


def state_delta(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    """{"collection/record_id/field": [before, after]} for every field that differs; None means that it is absent."""
    delta = {}
    for collection in sorted(set(before) | set(after)):
        old, new = before.get(collection, {}), after.get(collection, {})
        for record_id in sorted(set(old) | set(new)):
            first, last = old.get(record_id, {}), new.get(record_id, {})
            if first is last:  # most records are never written to
                continue
            for field in sorted(set(first) | set(last)):
                if first.get(field) != last.get(field):
                    delta[f"{collection}/{record_id}/{field}"] = [first.get(field), last.get(field)]
    return delta


class World:
    """One episode of one task; implements envs.base.Env."""

    def __init__(self, task: Task):
        self.task = task
        self.tools = task.tools
        self.events: list[Event] = []
        self._turn = 0
        # Records are shared with the task until a write replaces them by changed copies.
        self.state = {name: dict(records) for name, records in task.state.items()}
        self._user = Customer(task.user) if "hears" in task.user else User(task.user)
        self._validators = tools.validators(task.tools)
        self._closed_by: str | None = None

    async def reset(self) -> list[Message]:
        """Returns the system message (the policy text) and the user's request."""
        return opening(self.task)

    async def step(self, message: Message) -> Step:
        """Runs the tool calls of an assistant message or, if it has none, passes its text to the user.

        Raises RuntimeError if the episode has ended.
        """
        if self._closed_by:
            raise RuntimeError(f"{self.task.id}: step after the episode ended ({self._closed_by})")
        self._turn += 1
        calls = message.get("tool_calls") or []
        if not calls:
            settled, refused = self._settled()
            answer, events = self._user.reply(message.get("content") or "", settled, refused)
            self._record(*events)
            if answer is None or any(event["type"] == "user_ended" for event in events):
                self._closed_by = "user"
            said = [] if answer is None else [{"role": "user", "content": answer}]
            return Step(said, self._closed_by is not None)
        results = []
        for call in calls:
            results.append({"role": "tool", "tool_call_id": call["id"], "content": self._call(call["function"])})
            if self._closed_by:
                break
        return Step(results, self._closed_by is not None)

    def _record(self, *events: Event) -> None:
        """Records events of this turn."""
        self.events += [{**event, "turn": self._turn} for event in events]

    def _settled(self) -> tuple[bool, bool]:
        """(whether every request voiced so far has been carried out or refused, whether the last was declined)."""
        settling = [
            e
            for e in self.events
            if e["type"] == "decline"
            or (e["type"] == "write" and e["made"])
            or matches(e, {"type": "confirm", "answer": "refused"})
        ]
        if len(self._user.voiced) == 1 and settling:  # with a single request, any decision is about it
            return True, settling[-1]["type"] == "decline"
        ids = {e.get("id") for e in settling}
        return ids.issuperset(self._user.voiced), bool(settling) and settling[-1]["type"] == "decline"

    def _call(self, function: dict[str, str]) -> str:
        """Executes one tool call and returns the text of the tool message."""
        name = function["name"]
        arguments, error = tools.parse_arguments(self._validators, name, function["arguments"])
        if error:
            self._record({"type": "invalid_call", "tool": name})
            return json.dumps({"error": error})
        effect = self.task.effects[name]
        if effect["kind"] == "control":
            about = [i for name, i in arguments.items() if name not in ("reason", "summary")]  # which record
            event = {"type": effect["outcome"], "reason": arguments["reason"]}
            self._record({**event, "id": about[-1]} if about else event)
            if effect["outcome"] == "transfer":
                self._closed_by = "transfer"
            return json.dumps({"ok": True})
        if effect["kind"] in ("search", "calculate"):
            return self._service(effect, arguments)
        record_id = arguments[effect["key"]]
        if effect["kind"] == "find":
            found = [i for i, record in self.state[effect["collection"]].items() if record[effect["key"]] == record_id]
            self._record({"type": "found", "id": record_id})
            return json.dumps({effect["collection"]: found})
        record = self.state[effect["collection"]].get(record_id)
        if record is None:
            return json.dumps({"error": f"no {effect['key']} {record_id}"})
        if effect["kind"] == "read":
            self._record({"type": "read", "collection": effect["collection"], "id": record_id})
            if any(e["type"] == "write" and e["id"] == record_id and not e["answered"] for e in self.events):
                self._record({"type": "checked", "id": record_id})
            return json.dumps(record)
        return self._write(name, effect, record_id, arguments)

    def _service(self, effect: dict[str, Any], arguments: dict[str, Any]) -> str:
        """Executes a search or a calculation of a business."""
        try:
            if effect["kind"] == "calculate":
                return json.dumps({"result": interpreter.calculate(arguments["expression"])})
            found = interpreter.search(effect, self.state, arguments)
        except ValueError as error:
            return json.dumps({"error": str(error)})
        # That a customer's records were listed is recorded as in a tiny world, under the customer's identifier.
        self._record(*({"type": "found", "id": value} for name, value in arguments.items() if name.endswith("_id")))
        rows = self.state[effect["collection"]]
        return json.dumps({effect["collection"]: [interpreter.shown(effect, rows[i], effect["key"]) for i in found]})

    def _write(self, name: str, effect: dict[str, Any], record_id: str, arguments: dict[str, Any]) -> str:
        """Executes a write. The task's faults may leave it unanswered:

        - "lost": the first attempt is carried out, but not answered;
        - "failed": the first attempt is not carried out;
        - "down": no attempt is carried out.
        """
        fault = effect.get("faults", {}).get(record_id, "done")
        attempt = 1 + sum(e["type"] == "write" and e["id"] == record_id for e in self.events)
        answered = fault == "done" or (fault != "down" and attempt > 1)
        made = answered or fault == "lost"
        arguments = {name: value for name, value in arguments.items() if name not in effect.get("free", ())}
        if isinstance(self._user, Customer):
            arguments = {n: self._user.in_own_words(n, value) for n, value in arguments.items()}
        if made and "program" in effect:
            interpreter.write(effect, self.state, arguments, self.task.user["now"])
        elif made:
            changed = {field: arguments[argument] for field, argument in effect["set"].items()}
            records = self.state[effect["collection"]]
            records[record_id] = {**records[record_id], **changed}
        event = {"type": "write", "tool": name, "args": arguments, "id": record_id}
        self._record({**event, "attempt": attempt, "answered": answered, "made": made})
        return json.dumps({"ok": True} if answered else {"error": "no answer"})

    async def score(self) -> Score:
        """Scores the episode so far by the rules in the module's docstring."""
        delta = state_delta(self.task.state, self.state)
        final = {path: after for path, (_, after) in delta.items()}
        met, declared = {}, {}
        for goal in self.task.subgoals:
            if "delta" in goal:
                declared |= goal["delta"]
                met[goal["name"]] = all(final.get(path) == value for path, value in goal["delta"].items())
            else:
                met[goal["name"]] = any(matches(e, goal["event"]) for e in self._counted(goal.get("for")))
        broken = [rule for rule in self.task.violations if self._broken(rule)]
        undeclared = [path for path in delta if path not in declared or declared[path] != final[path]]
        found = graded(self.task, met, broken, [f"undeclared:{path}" for path in undeclared], bool(self._closed_by))
        return dataclasses.replace(found, delta=delta)

    def _counted(self, record_id: str | None) -> list[Event]:
        """The events that may meet a subgoal: not those too late to inform the decision (on `record_id`, if given)."""
        deciding = [e for e in self.events if e["type"] in DECISIONS]
        if record_id is not None:
            deciding = [e for e in deciding if e.get("id") == record_id or e["type"] == "transfer"]
        decided = deciding[0]["turn"] if deciding else math.inf
        return [e for e in self.events if e["type"] not in INFORMING or e["turn"] < decided]

    def _broken(self, rule: dict[str, Any]) -> bool:
        """Whether some event breaks the rule: it matches, and no event of an earlier turn matches `unless_after`."""
        excuses = [e["turn"] for e in self.events if "unless_after" in rule and matches(e, rule["unless_after"])]
        return any(matches(e, rule["event"]) and e["turn"] <= min(excuses, default=math.inf) for e in self.events)

    def close(self) -> None:
        """Does nothing: the instance holds no outside resources."""


def graded(
    task: Task, met: dict[str, bool], broken: Sequence[dict[str, Any]], further: Sequence[str], closed: bool
) -> Score:
    """The score of an episode, without the state changes.

    Args:
      met: name of each of the task's subgoals -> whether it was met.
      broken: the task's violations that occurred.
      further: names of violations that are not the task's.
      closed: whether the user ended the episode or the agent transferred it.
    """
    violations = [*(rule["name"] for rule in broken), *further]
    left = {rule["node"] for rule in broken} | {goal["node"] for goal in task.subgoals if not met[goal["name"]]}
    total = sum(goal["weight"] for goal in task.subgoals)
    share = sum(goal["weight"] for goal in task.subgoals if met[goal["name"]]) / total
    reward = 0.0 if violations or not closed else share
    node = next((n for n in task.branch if n in left), task.branch[-1] if reward < 1.0 else None)
    return Score(reward, met, violations, node=node)


def opening(task: Task) -> list[Message]:
    """The messages that an episode of a task begins with."""
    return [{"role": "system", "content": task.policy}, {"role": "user", "content": task.user["request"]}]


def make(task: Task) -> World:
    """A new episode of a task."""
    return World(task)


def oracle(task: Task) -> Actor:
    """The task's scripted reference solution, an actor that earns reward 1.0."""
    return actors.scripted(task.oracle)


def play_steps(task: Task, steps: Sequence[script.Step]) -> tuple[list[Message], Score]:
    """Plays scripted steps in a new episode. Returns (the conversation, its score)."""
    # Neither worlds nor scripted actors ever wait, so one send() runs the coroutine to its end. An event loop for each
    # of a task's many episodes would take half of the gates' time.
    try:
        actors.play(make(task), actors.scripted(steps)).send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError(f"{task.id}: a scripted episode waited for something")


def reward(task: Task, steps: Sequence[script.Step]) -> float:
    """The reward of playing scripted steps in a new episode; the gates use it."""
    return play_steps(task, steps)[1].reward


def tasks(split: str, rounds: int = 3, roots: int = 24, seed: int = 0, register: str = "business") -> list[Task]:
    """Makes tasks of a split ("train" | "heldout") that pass the gates, without a workdir or policy.

    register: "business" (the written businesses) or "tiny". roots: number of round-0 workflows. rounds: number of
    rounds; between them trees grow by all operators in turn, as they would for a policy that fails everywhere.
    Raises ValueError for an unknown split or register.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"world.tasks: unknown split {split!r}, expected 'train' or 'heldout'")
    workflows = workflow.roots(split, roots, registers.select(register, "all")[split], seed)
    found, seen = [], gates.Seen()
    for number in range(rounds):
        if number:
            workflows = selection.grow(workflows, {}, operators.select("all"), selection.Selection(), seed)
        legal_share = 0.5 if number else 1.0
        accepted, _ = gates.select(generate.tasks(workflows, 2, legal_share, seed), reward, seen)
        found += accepted
    return found
