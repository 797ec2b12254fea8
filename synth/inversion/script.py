"""Turns a tree and a situation into assistant steps, for oracles, adversaries and sloppy demonstrators alike.

A step is data: {"say": text} is a message to the user; {"call": tool, "args": {...}, "say": text} is a tool call after
some written reasoning. The walker asks a `Judgement` at every node. The truthful `Judgement` yields the oracle. Its
subclasses go wrong in a chosen way and do everything else right.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from synth.inversion import dialect
from synth.inversion.case import Case, edge
from synth.task import Task
from synth.trees import expr
from synth.trees.tree import Node, from_dict

Step = dict[str, Any]


def closes(step: Step) -> bool:
    """Whether a step consists of closing words."""
    return step.get("say") in dialect.CLOSINGS and "call" not in step


class Judgement:
    """The decisions of a truthful agent. Subclasses override some of them."""

    def reads(self, entity: str) -> bool:
        """Whether to read this entity's record."""
        return True

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        """Whether the agent takes the rule to hold.

        truth: whether it does hold. known: whether the record that the condition is about has been read.
        """
        return truth

    def asks(self) -> bool:
        """Whether to ask for a missing detail instead of inventing it."""
        return True

    def finds(self) -> bool:
        """Whether to ask which of several records is meant instead of taking one."""
        return True

    def compares(self) -> bool:
        """Whether to read all records among which the user singles one out."""
        return True

    def tells(self) -> bool:
        """Whether to tell the user an amount before it is charged or paid."""
        return True

    def checks(self) -> bool:
        """Whether to read the record after a write without an answer, before writing again."""
        return True

    def confirms(self) -> bool:
        """Whether to obtain consent before the write."""
        return True

    def outcome(self, outcome: str) -> str:
        """The outcome that is carried out where `outcome` was concluded."""
        return outcome

    def reason(self, reason: str) -> str:
        """The reason that is given to decline or transfer where `reason` was concluded."""
        return reason

    def guess(self, options: Sequence) -> Any:
        """A made-up value, one of `options`, for something that was neither looked up nor asked for."""
        return options[0]

    def quits(self) -> bool:
        """Whether to tell the user that all is done without doing it; decided before the outcome is carried out."""
        return False


def walk(root: Node, case: Case, judge: Judgement) -> list[Step]:
    """The steps of an agent that follows the tree with the given judgement, goal by goal, until a transfer."""
    words = dialect.of(case)
    steps: list[Step] = words.begin(case)
    if root.kind != "goals":
        return [*steps, *_Walk(case, judge, case.choice if case.given else None).goal(root)]
    choice = case.choice if case.given else None
    read: set[str] = set()
    for number, goal in enumerate(case.goals):
        one = _Walk(goal, judge, choice, several=True, read=read)
        done = one.goal(root.child("each"))
        handed = done[-1].get("call") == case.domain.control("transfer")
        last, choice = number == len(case.later) or handed, one.choice
        # Several requests made in one message get closing words only once, at the end.
        steps += done if last or case.spoken else [step for step in done if not closes(step)]
        if last:
            break
    return steps


class _Walk:
    """The walk for one goal.

    choice: the detail, None if the user has not said it. several: whether a refusal names the record it is about.
    read: identifiers of the records that were read for earlier goals, which are not read again.
    """

    def __init__(
        self, case: Case, judge: Judgement, choice: str | None, several: bool = False, read: set[str] | None = None
    ):
        self.read = set() if read is None else read
        self.case, self.judge, self.choice, self.several = case, judge, choice, several
        self.words = dialect.of(case)
        self.steps: list[Step] = []
        self.checks: list[str] = []
        self.known: set[str] = set()
        self.attempted = False

    def goal(self, node: Node) -> list[Step]:
        """The steps from this node to the closing words."""
        while node.kind != "terminal":
            node = node.child(getattr(self, f"_{node.kind}")(node))
        return [*self.steps, *self._finish(node)]

    def _say(self, text: str) -> None:
        self.steps.append({"say": " ".join([*self.checks, text])})
        self.checks = []

    def _call(self, tool: str, args: dict[str, Any]) -> None:
        self.steps.append({"call": tool, "args": args, "say": " ".join(self.checks)})
        self.checks = []

    def _find(self, node: Node) -> str:
        case = self.case
        for step in self.words.find(case):
            self._call(step["call"], step["args"])
        if case.several and self.judge.finds():
            self._say(self.words.which(case))
        return edge(node, case, True)

    def _choose(self, node: Node) -> str:
        record = self.case.domain.record
        if self.judge.compares():
            for other in self.case.siblings:
                self._call(record.read_tool, {record.key: other})
        return edge(node, self.case, True)

    def _tell(self, node: Node) -> str:
        if self.judge.tells():
            self._say(self.words.tell(self.case))
        return edge(node, self.case, True)

    def _action(self, node: Node) -> str:
        if self.judge.reads(node.spec["entity"]):
            entity = self.case.domain.entity(node.spec["entity"])
            wanted = self.case.id_of(entity)
            if wanted not in self.read:
                self._call(entity.read_tool, {entity.key: wanted})
            self.read.add(wanted)
            self.known.add(entity.kind)
        return "done"

    def _guard(self, node: Node) -> str:
        condition, values = node.spec["condition"], self.case.values
        was_read = condition["field"].split(".")[0] in self.known
        verdict = self.judge.verdict(condition, expr.holds(condition, values), was_read)
        if was_read:
            self.checks.append(self.words.check(self.case, condition, verdict, node.spec["otherwise"]))
        return "holds" if verdict else "fails"

    def _ask(self, node: Node) -> str:
        given = self.choice is not None
        if not given and self.judge.asks():
            self._say(self.words.ask(self.case, node.spec["slot"]))
            self.choice = self.case.choice
        return "given" if given else "missing"

    def _confirm(self, node: Node) -> str:
        if not self.judge.confirms():
            return "accepted"
        self._say(self.words.confirm(self.case, self.choice))
        return self.case.answer

    def _review(self, node: Node) -> str:
        answer = self._confirm(node)
        if answer == "amended":
            self.choice = self.case.amended
        return answer

    def _attempt(self, node: Node) -> str:
        self.attempted = True
        return self.case.fault

    def _finish(self, leaf: Node) -> list[Step]:
        """The steps of the outcome: the write or control call, then the closing words."""
        case, judge, closings = self.case, self.judge, self.words.closings
        if judge.quits():
            return [{"say": closings["write"]}]
        outcome = judge.outcome(leaf.spec["outcome"])
        if outcome == "stop":
            return [{"say": closings["stop"]}]
        if outcome == "write":
            return [*(self._tries() if self.attempted else [self._write()]), {"say": closings["write"]}]
        tries = self._tries() if self.attempted and case.fault == "down" else []
        named = self.several or case.domain.names_record
        about = {case.domain.record.key: case.record_id} if named and outcome == "decline" else {}
        args = {"reason": judge.reason(leaf.spec["reason"]), **about}
        call = {"call": case.domain.control(outcome), "args": args, "say": "" if tries else " ".join(self.checks)}
        if outcome == "transfer":
            return [*tries, call]
        return [call, *[{"say": closings[outcome]}] * (1 + case.insists)]

    def _write(self) -> Step:
        case, judge, action = self.case, self.judge, self.case.action
        args = case.args
        if case.domain.record.kind not in self.known:
            args[action.copied] = judge.guess(case.guesses)
        args[action.slot] = self.choice if self.choice is not None else judge.guess(case.wishes)
        return {"call": case.domain.write_tool(action), "args": args, "say": " ".join(self.checks)}

    def _tries(self) -> list[Step]:
        """The write. If it gets no answer, a read to check whether it was made, and a second try if it was not."""
        entity, write = self.case.domain.record, self._write()
        look = {"call": entity.read_tool, "args": {entity.key: self.case.record_id}, "say": ""}
        again = [{**write, "say": ""}] if self.case.fault != "lost" or not self.judge.checks() else []
        if self.case.fault == "done":
            return [write]
        return [write, *([look] if self.judge.checks() else []), *again]


@dataclasses.dataclass
class Sloppy(Judgement):
    """A demonstrator of mixed quality. Each kind of decision goes wrong with its own probability, in [0, 1]."""

    rng: random.Random
    reasons: tuple[str, ...]  # made-up reasons are drawn from these
    skip_read: float = 0.0
    misjudge: float = 0.0
    skip_ask: float = 0.0
    skip_confirm: float = 0.0
    refuse: float = 0.0  # decline or transfer where the write is due
    swap_control: float = 0.0  # decline instead of transfer, or transfer instead of decline
    quit: float = 0.0

    def _slips(self, rate: float) -> bool:
        return self.rng.random() < rate

    def reads(self, entity: str) -> bool:
        """Skips the read with probability `skip_read`."""
        return not self._slips(self.skip_read)

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        """Misjudges with probability `misjudge`; tosses a coin if the record has not been read."""
        return truth != self._slips(self.misjudge) if known else self._slips(0.5)

    def asks(self) -> bool:
        """Invents the detail with probability `skip_ask`."""
        return not self._slips(self.skip_ask)

    def confirms(self) -> bool:
        """Writes without asking for consent with probability `skip_confirm`."""
        return not self._slips(self.skip_confirm)

    def outcome(self, outcome: str) -> str:
        """Refuses a write that is due with probability `refuse`; refuses the wrong way with `swap_control`."""
        if outcome == "write" and self._slips(self.refuse):
            return self.rng.choice(("decline", "transfer"))
        if outcome in ("decline", "transfer") and self._slips(self.swap_control):
            return "transfer" if outcome == "decline" else "decline"
        return outcome

    def reason(self, reason: str) -> str:
        """The concluded reason, or a made-up one if there is none."""
        return reason or self.rng.choice(self.reasons)

    def guess(self, options: Sequence) -> Any:
        """Any of the options, with equal probability."""
        return self.rng.choice(options)

    def quits(self) -> bool:
        """Gives up with probability `quit`."""
        return self._slips(self.quit)


FLAWS = tuple(f.name for f in dataclasses.fields(Sloppy) if f.name not in ("rng", "reasons"))


def parse_flaws(text: str, known: Sequence[str] = FLAWS) -> dict[str, float]:
    """Parses "skip_read=0.3,quit=0.1" into {flaw: rate}. `known`: the flaws that are allowed.

    Raises ValueError for an unknown flaw, or a rate that is not a number in [0, 1].
    """
    rates = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, rate = part.partition("=")
        if name not in known:
            raise ValueError(f"rl.sft_flaws: unknown flaw {name!r}, expected some of {', '.join(known)}")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ValueError(f"rl.sft_flaws: {part!r}, expected name=rate") from None
        if not 0 <= rates[name] <= 1:
            raise ValueError(f"rl.sft_flaws: rate of {name} must be in [0, 1], got {rates[name]}")
    return rates


class _Constant(Judgement):
    """Reads every record, then takes every rule to hold, or every rule to fail (`holds`), whatever the records say.

    polite: whether it asks for missing details and for consent.
    """

    def __init__(self, holds: bool, polite: bool):
        self._holds, self._polite = holds, polite

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        return self._holds

    def asks(self) -> bool:
        return self._polite

    def confirms(self) -> bool:
        return self._polite

    def reason(self, reason: str) -> str:
        return reason or "policy"

    def outcome(self, outcome: str) -> str:
        return "decline" if outcome == "write" and not self._holds else outcome


CONSTANTS = {
    "read_then_refuse": _Constant(holds=False, polite=True),  # cites the first rule and refuses as that rule says
    "read_then_write": _Constant(holds=True, polite=False),
    "read_ask_confirm_write": _Constant(holds=True, polite=True),
}


def constant(task: Task, name: str) -> list[Step]:
    """The steps, in a task, of the policy `name` in CONSTANTS, whose decisions do not depend on the records' values.

    Raises KeyError for an unknown name.
    """
    return walk(from_dict(task.tree), Case.of(task), CONSTANTS[name])
