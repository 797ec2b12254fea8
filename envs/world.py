"""The executable world: tools act on a real state store, a scripted user answers, and code computes the reward.

Predicates are data. A subgoal is `{"name", "node", "weight", "event": match}` (some recorded event matches) or
`{..., "delta": {path: value}}` (the final state differs from the first at these paths, with these values). A violation
is `{"name", "node", "event": match}`, with an optional `"unless_after": match` that an event of an earlier message may
satisfy. A match gives a literal per key, or `{"not_in": [...]}`. A subgoal `"for"` a record belongs to one of several
goals. Reward: 0 if any violation occurred, if the state changed in any way that no subgoal declares, or if neither the
user ended the episode nor the agent transferred it; otherwise the weighted share of subgoals met.

Every event carries the "turn" (assistant message) it happened in. The first write, decline or transfer is the decision:
what is read, asked or confirmed in the same message or later cannot have informed it and meets no subgoal. Of several
goals each has its own decision: the first on its record, or the transfer that hands everything over.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from envs import actors, tools
from envs.base import Actor, Message, Score, Step
from envs.user import User
from synth import generate, operators
from synth.gating import gates
from synth.growth import selection
from synth.inversion import script
from synth.task import Task
from synth.trees import domains, workflow

Event = dict[str, Any]
INFORMING = ("read", "found", "asked", "confirm")  # events that a decision may rest on
DECISIONS = ("write", "decline", "transfer")


def matches(event: Event, match: dict[str, Any]) -> bool:
    """Whether an event has every key of `match` with an admitted value."""
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
    """{"collection/record_id/field": [before, after]} for every field that differs; None stands for absent."""
    delta = {}
    for collection in sorted(set(before) | set(after)):
        old, new = before.get(collection, {}), after.get(collection, {})
        for record_id in sorted(set(old) | set(new)):
            first, last = old.get(record_id, {}), new.get(record_id, {})
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
        self.state = copy.deepcopy(task.state)
        self._user = User(task.user)
        self._validators = tools.validators(task.tools)
        self._closed_by: str | None = None

    async def reset(self) -> list[Message]:
        """The system message (the policy text) and the user's request."""
        return [
            {"role": "system", "content": self.task.policy},
            {"role": "user", "content": self.task.user["request"]},
        ]

    async def step(self, message: Message) -> Step:
        """Runs the tool calls of an assistant message, or hands its text to the user."""
        if self._closed_by:
            raise RuntimeError(f"{self.task.id}: step after the episode ended ({self._closed_by})")
        self._turn += 1
        calls = message.get("tool_calls") or []
        if not calls:
            settled, refused = self._settled()
            answer, events = self._user.reply(message.get("content") or "", settled, refused)
            self._record(*events)
            if answer is None:
                self._closed_by = "user"
                return Step([], True)
            return Step([{"role": "user", "content": answer}], False)
        results = []
        for call in calls:
            results.append({"role": "tool", "tool_call_id": call["id"], "content": self._call(call["function"])})
            if self._closed_by:
                break
        return Step(results, self._closed_by is not None)

    def _record(self, *events: Event) -> None:
        """Notes what happened in this turn."""
        self.events += [{**event, "turn": self._turn} for event in events]

    def _settled(self) -> tuple[bool, bool]:
        """(whether all that the user has brought up is carried out or refused, whether the last of it was declined)."""
        settling = [
            e
            for e in self.events
            if e["type"] == "decline"
            or (e["type"] == "write" and e["made"])
            or matches(e, {"type": "confirm", "answer": "refused"})
        ]
        if len(self._user.voiced) == 1 and settling:  # with a single matter, any decision is on it
            return True, settling[-1]["type"] == "decline"
        ids = {e.get("id") for e in settling}
        return ids.issuperset(self._user.voiced), bool(settling) and settling[-1]["type"] == "decline"

    def _call(self, function: dict[str, str]) -> str:
        """Carries out one call; returns the tool message's text."""
        name = function["name"]
        arguments, error = tools.parse_arguments(self._validators, name, function["arguments"])
        if error:
            self._record({"type": "invalid_call", "tool": name})
            return json.dumps({"error": error})
        effect = self.task.effects[name]
        if effect["kind"] == "control":
            about = [i for name, i in arguments.items() if name != "reason"]  # which of several goals
            event = {"type": effect["outcome"], "reason": arguments["reason"]}
            self._record({**event, "id": about[-1]} if about else event)
            if effect["outcome"] == "transfer":
                self._closed_by = "transfer"
            return json.dumps({"ok": True})
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

    def _write(self, name: str, effect: dict[str, Any], record_id: str, arguments: dict[str, Any]) -> str:
        """Tries a write, which may stay without an answer, made ("lost") or not ("failed" once, "down" always)."""
        fault = effect.get("faults", {}).get(record_id, "done")
        attempt = 1 + sum(e["type"] == "write" and e["id"] == record_id for e in self.events)
        answered = fault == "done" or (fault != "down" and attempt > 1)
        made = answered or fault == "lost"
        if made:
            for field, argument in effect["set"].items():
                self.state[effect["collection"]][record_id][field] = arguments[argument]
        event = {"type": "write", "tool": name, "args": arguments, "id": record_id}
        self._record({**event, "attempt": attempt, "answered": answered, "made": made})
        return json.dumps({"ok": True} if answered else {"error": "no answer"})

    async def score(self) -> Score:
        """The reward of the episode so far; see the module's docstring."""
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
        """The events that may meet a subgoal: none that came too late to inform the decision (on that record)."""
        deciding = [e for e in self.events if e["type"] in DECISIONS]
        if record_id is not None:
            deciding = [e for e in deciding if e.get("id") == record_id or e["type"] == "transfer"]
        decided = deciding[0]["turn"] if deciding else math.inf
        return [e for e in self.events if e["type"] not in INFORMING or e["turn"] < decided]

    def _broken(self, rule: dict[str, Any]) -> bool:
        """Whether some event breaks the rule: it matches, and nothing in an earlier turn matches `unless_after`."""
        excuses = [e["turn"] for e in self.events if "unless_after" in rule and matches(e, rule["unless_after"])]
        return any(matches(e, rule["event"]) and e["turn"] <= min(excuses, default=math.inf) for e in self.events)

    def close(self) -> None:
        """Nothing is held outside the instance."""


def graded(
    task: Task, met: dict[str, bool], broken: Sequence[dict[str, Any]], further: Sequence[str], closed: bool
) -> Score:
    """The score of an episode that met these subgoals and broke these rules.

    Args:
      further: names of violations beside those of the task. closed: whether the user ended it or it was transferred.
    """
    violations = [*(rule["name"] for rule in broken), *further]
    left = {rule["node"] for rule in broken} | {goal["node"] for goal in task.subgoals if not met[goal["name"]]}
    total = sum(goal["weight"] for goal in task.subgoals)
    share = sum(goal["weight"] for goal in task.subgoals if met[goal["name"]]) / total
    reward = 0.0 if violations or not closed else share
    node = next((n for n in task.branch if n in left), task.branch[-1] if reward < 1.0 else None)
    return Score(reward, met, violations, node=node)


def make(task: Task) -> World:
    """A fresh episode of a task."""
    return World(task)


def oracle(task: Task) -> Actor:
    """The actor that earns reward 1.0 on a task."""
    return actors.scripted(task.oracle)


def play_steps(task: Task, steps: Sequence[script.Step]) -> tuple[list[Message], Score]:
    """Plays scripted steps in a fresh episode. Returns the conversation and its score."""
    # Neither a world nor a scripted actor ever waits for anything, so the coroutine runs through at its first step. An
    # event loop for each of a task's many episodes would take half of the time of the gates.
    try:
        actors.play(make(task), actors.scripted(steps)).send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError(f"{task.id}: a scripted episode waited for something")


def reward(task: Task, steps: Sequence[script.Step]) -> float:
    """The reward of playing scripted steps: what the gates are given."""
    return play_steps(task, steps)[1].reward


def tasks(split: str, rounds: int = 3, roots: int = 24, seed: int = 0) -> list[Task]:
    """Gated tasks of a split ("train" | "heldout") made on the spot: no workdir, no policy.

    Trees grow for `rounds` rounds with every operator in turn, as they would for a policy that fails everywhere.
    Raises ValueError for an unknown split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"world.tasks: unknown split {split!r}, expected 'train' or 'heldout'")
    workflows = workflow.roots(split, roots, domains.select("all"), seed)
    found, seen = [], gates.Seen()
    for number in range(rounds):
        if number:
            workflows = selection.grow(workflows, {}, operators.select("all"), selection.Selection(), seed)
        legal_share = 0.5 if number else 1.0
        accepted, _ = gates.select(generate.tasks(workflows, 2, legal_share, seed), reward, seen)
        found += accepted
    return found
