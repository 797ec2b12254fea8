"""The record of one episode. Rollouts, packing, metrics and notebooks all use this definition."""

from __future__ import annotations

import dataclasses
from typing import Any

from envs.base import Message, Score

# Why an episode ended; Trajectory says what each reason means.
ENDED, MAX_TURNS, LENGTH, CONTEXT, ERROR = "ended", "max_turns", "length", "context", "error"


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Token-exact record of one episode.

    tokens: every token of the episode in order, prompt first; length T.
    loss_mask: 1 exactly on the tokens the policy sampled, else 0; length T.
    logprobs: log-probability, in nats, of each sampled token under the distribution it was drawn from
        (temperature and truncation included), 0.0 elsewhere; length T.
    kept: for each token the ids it was drawn from, most likely first; length T. [] for a token that was not sampled, or
        that was drawn from the whole vocabulary. Empty for an episode sampled without truncation (sampler.top_k).
    policy_version: number of optimiser updates that had been made to the parameters which sampled the first turn.
    versions: the policy version of every turn, if later turns were sampled by other parameters than the first; else [].
    reason: ENDED (the environment closed the episode), MAX_TURNS (the turn limit), LENGTH (a turn exceeded its token
        budget), CONTEXT (the slot's cache is full) or ERROR (infrastructure fault; score.reward is None).
    messages: the conversation, system message first. tools: the function schemas the policy saw.
    turns: assistant turns.
    """

    task_id: str
    member: int
    tokens: list[int]
    loss_mask: list[int]
    logprobs: list[float]
    policy_version: int
    reason: str
    score: Score
    messages: list[Message]
    tools: list[dict]
    turns: int
    kept: list[list[int]] = dataclasses.field(default_factory=list)
    versions: list[int] = dataclasses.field(default_factory=list)

    @property
    def reward(self) -> float | None:
        """The episode's reward, None when the infrastructure failed."""
        return self.score.reward

    @property
    def passed(self) -> bool:
        """Whether the reward is 1.0 (the project's definition of a pass)."""
        return self.score.reward == 1.0

    @property
    def turn_versions(self) -> list[int]:
        """The policy version of every turn."""
        return self.versions or [self.policy_version] * self.turns

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable dict, the line format of rollouts/*.jsonl. It shares its lists with the trajectory."""
        return {**vars(self), "score": vars(self.score)}  # dataclasses.asdict would copy every token: 2 ms an episode

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Trajectory:
        """The inverse of `to_json`. Other keys of the record, such as round and step, are ignored.

        Raises KeyError naming a missing field.
        """
        known = {field.name: record[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**known, "score": Score(**record["score"])})
