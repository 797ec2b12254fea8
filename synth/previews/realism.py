"""How far generated tasks are from real benchmarks: sizes of policies, tools, records, user scripts and oracles.

Every source of tasks, ours and the benchmarks', is reduced to the same `Sample`s, which `Tally` counts.
rl/reports/realism.py puts the figures of all sources side by side.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from synth.business import catalogue, variety
from synth.task import Task

CHUNK = 100  # tasks over which words are counted: a larger set always has more different ones, and longer texts too
SOURCES = ("written", "composed", "tiny")  # of worlds: two kinds of businesses, and the tiny dialect
KINDS = ("array", "object", "enum", "optional")  # what an argument may be

Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the figures are about, of one task. A field is None, or empty, where its source has no such thing.

    policy: the text that the agent has to follow. tools: OpenAI function schemas. writes: names of the tools that
    change something. records: the main records that the task is about. script: texts that the user may say or knows.
    first: the user's first message. turns: the oracle's messages. calls: names of the tools that it calls, in order.
    tokens: those of the prompt.
    """

    policy: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    writes: Collection[str] | None = None
    records: Sequence[Any] = ()
    script: Sequence[str] = ()
    first: str = ""
    turns: int | None = None
    calls: Sequence[str] | None = None
    tokens: int | None = None


def words(text: str) -> list[str]:
    """The words of a text as they are told apart: in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.lower())


def depth(value: Any) -> int:
    """How deep objects and lists are nested: 1 for a flat record, 0 for a value that is neither."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def leaves(value: Any) -> int:
    """The number of values in a record that are neither objects nor lists."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if inner is None else sum(map(leaves, inner))


def _arguments(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of a tool's arguments, by name."""
    return tool["function"]["parameters"].get("properties", {})


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A JSON schema and all schemas in it."""
    if isinstance(schema, dict):
        yield schema
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for value in inner:
        yield from _schemas(value)


def kinds(tool: Mapping[str, Any]) -> set[str]:
    """Which of KINDS occur among the arguments of a tool, at any depth ("optional": on top)."""
    arguments = _arguments(tool)
    found = {"optional"} if set(arguments) - set(tool["function"]["parameters"].get("required", ())) else set()
    for schema in _schemas(list(arguments.values())):
        found |= {"enum"} if isinstance(schema.get("enum"), list) else set()
        found |= {schema["type"]} & {"array", "object"} if isinstance(schema.get("type"), str) else set()
    return found


def _share(sample: Sample, kind: str) -> list[float]:
    return [sum(kind in kinds(tool) for tool in sample.tools) / len(sample.tools)] if sample.tools else []


def _called(calls: Sequence[str] | None, distinct: bool) -> list[int]:
    return [] if calls is None else [len(set(calls) if distinct else calls)]


# figure -> what a task adds to it: no value, one, or one for each tool or record.
MEASURES: dict[str, Callable[[Sample], Sequence[float]]] = {
    "policy_words": lambda s: [len(s.policy.split())] if s.policy else [],
    "tools": lambda s: [len(s.tools)] if s.tools else [],
    "arguments_a_tool": lambda s: [len(_arguments(t)) for t in s.tools],
    "arguments_a_write": lambda s: [len(_arguments(t)) for t in s.tools if t["function"]["name"] in (s.writes or ())],
    "tools_with_array": lambda s: _share(s, "array"),
    "tools_with_object": lambda s: _share(s, "object"),
    "tools_with_enum": lambda s: _share(s, "enum"),
    "tools_with_optional": lambda s: _share(s, "optional"),
    "record_fields": lambda s: [len(record) for record in s.records],
    "record_depth": lambda s: [depth(record) for record in s.records],
    "record_leaves": lambda s: [leaves(record) for record in s.records],
    "script_words": lambda s: [sum(len(text.split()) for text in s.script)] if s.script else [],
    "first_message_words": lambda s: [len(s.first.split())] if s.first else [],
    "oracle_turns": lambda s: [] if s.turns is None else [s.turns],
    "oracle_calls": lambda s: _called(s.calls, distinct=False),
    "oracle_distinct_tools": lambda s: _called(s.calls, distinct=True),
    "prompt_tokens": lambda s: [] if s.tokens is None else [s.tokens],
}


class _Range:
    """Mean, lowest and highest of numbers."""

    def __init__(self) -> None:
        self.count, self.total, self.low, self.high = 0, 0.0, float("inf"), float("-inf")

    def add(self, value: float) -> None:
        """Counts a number."""
        self.count, self.total = self.count + 1, self.total + value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def figures(self) -> Figures | None:
        """None if there were no numbers."""
        if not self.count:
            return None
        found = {"mean": self.total / self.count, "low": self.low, "high": self.high}
        return {name: round(value, 2) for name, value in found.items()}


class Tally:
    """The figures of a set of tasks. Its memory does not grow with the number of tasks."""

    def __init__(self) -> None:
        self.tasks = 0
        self._ranges = {name: _Range() for name in MEASURES}
        self._words: set[str] = set()
        self._pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        self._distinct, self._distinct_2 = _Range(), _Range()

    def add(self, sample: Sample) -> None:
        """Counts a task."""
        self.tasks += 1
        for name, measure in MEASURES.items():
            for value in measure(sample):
                self._ranges[name].add(value)
        for text in sample.script:
            said = words(text)
            self._words.update(said)
            self._pairs.update(zip(said, said[1:]))
        if self.tasks % CHUNK == 0:
            self._distinct.add(len(self._words))
            if self._pairs:
                self._distinct_2.add(len(self._pairs) / self._pairs.total())
            self._words.clear()
            self._pairs.clear()

    def figures(self) -> Figures:
        """The figures so far.

        "tasks"; for each of MEASURES {"mean", "low", "high"} over the tasks (over tools and records where a task has
        several), None if none has it. The same over every CHUNK tasks in a row, None if there are fewer:
        "distinct_words" of the users' texts, and "distinct_2", different pairs of successive words over all pairs.
        """
        found: Figures = {"tasks": self.tasks, **{name: ranged.figures() for name, ranged in self._ranges.items()}}
        return {**found, "distinct_words": self._distinct.figures(), "distinct_2": self._distinct_2.figures()}


def script(user: Mapping[str, Any]) -> list[str]:
    """What the user of a script may say or knows, each text once and none that is part of another.

    user: see envs/customer.py and, for the tiny dialect, envs/user.py. What only serves to understand the agent is left
    out.
    """
    later = user.get("later", ())
    texts = [user["request"], *(goal["request"] for goal in later if "request" in goal), *user.get("insists", ())]
    texts += [user[name] for name in ("wish", "yes", "no", "amended") if user.get(name)]
    texts += [*user.get("its", {}).values(), *user.get("voice", {}).values()]
    knows = user.get("knows")
    texts += map(str, user["slots"].values()) if knows is None else (fact["says"] for fact in knows.values())
    texts = [*dict.fromkeys(texts)]
    return [text for text in texts if not any(text in other for other in texts if other != text)]


def sample(task: Task, tokens: int | None = None) -> Sample:
    """A generated task. tokens: those of its prompt, if they are counted."""
    ids = [task.user["record_id"], *(goal["record_id"] for goal in task.user.get("later", ()))]
    return Sample(
        policy=task.policy,
        tools=task.tools,
        writes=[name for name, effect in task.effects.items() if effect["kind"] == "write"],
        records=[rows[key] for rows in task.state.values() for key in ids if key in rows],
        script=script(task.user),
        first=task.user["request"],
        turns=len(task.oracle),
        calls=[step["call"] for step in task.oracle if "call" in step],
        tokens=tokens,
    )


def _source(domain: str) -> str:
    """Where a domain is from (SOURCES); one that a teacher has proposed counts as "tiny"."""
    if any(b.name == domain for b in catalogue.written()):
        return "written"
    return "tiny" if catalogue.domain(domain) is None else "composed"


def figures(tasks: Iterable[Task], tokens: Callable[[Task], int] | None = None) -> dict[str, Figures]:
    """Source (SOURCES) -> the figures of its tasks (`Tally.figures`).

    Of businesses, if there are two or more: "businesses", and "shared", the shares of all tool names, attributes and
    runs of five words in their manuals that two or more of them have. tokens: counts those of a task's prompt. Memory
    does not grow with the number of tasks.
    """
    tallies: dict[str, Tally] = {}
    names: dict[str, dict[str, None]] = {}  # source -> domains
    sources: dict[str, str] = {}  # domain -> source
    for task in tasks:
        source = sources.get(task.domain) or sources.setdefault(task.domain, _source(task.domain))
        names.setdefault(source, {})[task.domain] = None
        tallies.setdefault(source, Tally()).add(sample(task, tokens(task) if tokens else None))
    found = {}
    for source in (name for name in SOURCES if name in tallies):
        found[source] = tallies[source].figures()
        if source != "tiny" and len(names[source]) > 1:
            found[source] |= _business([*names[source]])
    return found


def _business(names: Sequence[str]) -> Figures:
    """What two or more businesses share."""
    between = variety.figures([catalogue.find(name) for name in names])
    keys = {"tool_names": "tool_names_shared", "attributes": "attributes_shared", "5grams": "manual_5grams_shared"}
    return {"businesses": len(names), "shared": {name: between[key] for name, key in keys.items()}}
