"""Whether tasks fit into the context: a prompt that fills it leaves the policy no token to say.

The user's files are checked when they are read and a round's tasks before the round begins, so that no such task is
found by the step that draws it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ml_collections import config_dict

from envs import registry
from model.text import tokenizer
from model.text.chat import Chat
from rl.reports import show
from synth.question import Question
from synth.task import Task

SHOWN = 5  # most places of a file that a message names


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Measures prompts. chat: of the policy. context: sampler.context, in tokens."""

    chat: Chat
    context: int

    @classmethod
    def of(cls, config: config_dict.ConfigDict) -> Lengths:
        """With the tokenizer of model.checkpoint. Raises ValueError if that folder has none that can be used."""
        return cls(Chat(tokenizer.load(config.model.checkpoint)), config.sampler.context)

    def excess(self, task: Task | Question) -> int:
        """The tokens of the task's prompt if they leave no room to sample, else 0."""
        count = len(self.chat.prompt(*registry.opening(task)))
        return count if count >= self.context else 0

    def told(self, count: int) -> str:
        """What is wrong with a prompt of `count` tokens."""
        return f"the prompt has {count} tokens, which leaves no room in sampler.context = {self.context}"

    def gate(self, question: Question) -> str | None:
        """The gate: "length: detail" for a question whose prompt does not fit, else None."""
        count = self.excess(question)
        return f"length: {self.told(count)}" if count else None

    def check_files(self, train: Iterable[tuple[str, Question]], heldout: Iterable[tuple[str, Question]]) -> None:
        """Checks the user's own questions, given with their places in files.

        Raises ValueError, naming file and line, for a held-out question that does not fit: a set with fewer questions
        would measure something else. Of the questions to train on, which the gates leave out, prints how many and
        where.
        """
        if found := self._places(heldout):
            (where, count), many = found[0], _counted(len(found), "held-out question")
            raise ValueError(f"{where}: {self.told(count)} ({many} so); take it out or raise sampler.context")
        if found := self._places(train):
            places = "; ".join(f"{where}: {count} tokens" for where, count in found[:SHOWN])
            more = f"; and {len(found) - SHOWN} more" if found[SHOWN:] else ""
            show.line(
                f"{_counted(len(found), 'question')} to train on will be left out, since the prompt leaves no room in "
                f"sampler.context = {self.context}: {places}{more}"
            )

    def _places(self, located: Iterable[tuple[str, Question]]) -> list[tuple[str, int]]:
        """(place, tokens) of each question that does not fit."""
        return [(where, count) for where, question in located if (count := self.excess(question))]

    def fitting(self, number: int, tasks: Sequence[Task | Question]) -> list[Task | Question]:
        """The training tasks of round `number` whose prompts fit. Prints how many do not.

        Raises ValueError if none does.
        """
        counts = {task.id: self.excess(task) for task in tasks}
        found = [task for task in tasks if not counts[task.id]]
        if first := next((task for task in tasks if counts[task.id]), None):
            detail = f"the first, {first.id}: {self.told(counts[first.id])}"
            if not found:
                raise ValueError(f"round {number}: no train task fits; {detail}")
            left = len(tasks) - len(found)
            show.line(f"round {number}: {left} of {len(tasks)} train tasks do not fit and are left out; {detail}")
        return found

    def watch(self, number: int, tasks: Sequence[Task | Question]) -> None:
        """Prints how many held-out tasks of round `number` do not fit: all policies fail them, as in any evaluation."""
        if found := [(task.id, count) for task in tasks if (count := self.excess(task))]:
            show.line(
                f"round {number}: {len(found)} of {len(tasks)} held-out tasks do not fit and count as failed; the "
                f"first, {found[0][0]}: {self.told(found[0][1])}"
            )


def _counted(count: int, what: str) -> str:
    """For example "2 questions"."""
    return f"{count} {what}{'s' if count != 1 else ''}"
