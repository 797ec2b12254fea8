"""The task record: one branch of one behaviour tree, turned by inversion into everything an episode needs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Task:
    """A frozen, JSON-serialisable task. World, user, reward and oracle are functions of this record alone.

    id: unique; "<root>@r<round>/<leaf>/<variant>", the leaves joined by "+" where the branch has several goals.
    root: id of the round-0 workflow that the tree descends from.
    parent: id of the workflow that this tree was expanded from; "" in round 0.
    operator: the operator that made this tree from its parent; "" in round 0 and for a tree carried over unchanged;
        "simplify" for a tree that went back to a simpler one (synth.trees.workflow.SIMPLIFY).
    seed: the run's seed; the random draws of state, wording and identifiers derive from it and the id.
    round: the flywheel round the task was made in.
    domain, persona: names in synth/trees/domains.py and synth/personas.py.
    branch: ids of the nodes from the root of the tree to the leaf.
    legal: whether the branch ends in the write, for each of its goals.
    policy: the standard operating procedure that the agent reads (the system message).
    tools: OpenAI function schemas.
    effects: what each tool does, as data (see synth.trees.domains.tool_specs).
    state: {collection: {record id: {field: value}}} at reset.
    user: the user script (see envs/user.py).
    subgoals, violations: predicates as data (see envs/world.py).
    oracle: the scripted steps that earn reward 1.0 (see envs/actors.py).
    tree: the behaviour tree as data (synth/trees/tree.py).
    reward_source: what rewards the episodes: "code", or "llm" for a language model (envs/simulation). JSON text omits
        the field where it is "code".
    """

    id: str
    root: str
    parent: str
    operator: str
    seed: int
    round: int
    domain: str
    persona: str
    branch: list[str]
    legal: bool
    policy: str
    tools: list[dict[str, Any]]
    effects: dict[str, dict[str, Any]]
    state: dict[str, dict[str, dict[str, Any]]]
    user: dict[str, Any]
    subgoals: list[dict[str, Any]]
    violations: list[dict[str, Any]]
    oracle: list[dict[str, Any]]
    tree: dict[str, Any]
    reward_source: str = "code"

    @property
    def split(self) -> str:
        """The split of the task's root ("base" | "train" | "heldout"): the root's id begins with it."""
        return self.root.split("-")[0]

    def to_json(self) -> str:
        """JSON text; equal tasks give equal bytes.

        Keys keep their order and are not sorted, because the policy sees tool schemas and records in this order.
        """
        record = dataclasses.asdict(self)
        if self.reward_source == "code":
            del record["reward_source"]
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Task:
        """Inverse of `to_json`. Raises ValueError for malformed JSON, or naming the missing or unknown fields."""
        record = {"reward_source": "code", **json.loads(text)}
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(record) != expected:
            missing, unknown = sorted(expected - set(record)), sorted(set(record) - expected)
            raise ValueError(f"task record: missing fields {missing}, unknown {unknown}")
        return cls(**record)
