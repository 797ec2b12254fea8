"""From a tree and a situation to assistant steps: one walker for oracles, adversaries and sloppy demonstrators.

A step is data: {"say": text} is a message to the user, {"call": tool, "args": {...}, "say": text} a tool call with the
reasoning written before it. The walker asks a `Judgement` at every node; the truthful one yields the oracle, others
yield behaviour that goes wrong in a chosen way while everything else stays as it should be.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from synth import domains, expr
from synth.domains import Action, Domain
from synth.task import Task
from synth.tree import Node, from_dict

Step = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A situation: the records in play, what the user wants, gave and will consent to."""

    domain: Domain
    action: Action
    record_id: str
    owner_id: str
    values: dict[str, Any]  # field reference -> value in the records in play
    choice: str  # the slot value the user wants
    given: bool  # whether the first message says so
    accepts: bool  # whether the user consents to the write

    @classmethod
    def of(cls, task: Task) -> "Case":
        """The situation of a task."""
        domain = domains.DOMAINS[task.domain]
        record_id, user = task.user["record_id"], task.user
        record = task.state[domain.record.collection][record_id]
        owner_id = record[domain.owner.key]
        owner = task.state[domain.owner.collection][owner_id]
        values = {f"{domain.record.kind}.{f}": record[f] for f in domain.record.fields}
        values |= {f"{domain.owner.kind}.{f}": owner[f] for f in domain.owner.fields}
        action = next(a for a in domain.actions if a.verb == user["verb"])
        choice, given = user["slots"][action.slot], not user["withheld"]
        return cls(domain, action, record_id, owner_id, values, choice, given, user["accepts"])


class Judgement:
    """The truthful agent. Subclasses override single decisions."""

    def reads(self, entity: str) -> bool:
        """Whether to read this entity's record."""
        return True

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        """Whether the rule is taken to hold; `known` says that the record has been read."""
        return truth

    def asks(self) -> bool:
        """Whether to ask for a missing detail instead of inventing it."""
        return True

    def confirms(self) -> bool:
        """Whether to obtain consent before the write."""
        return True

    def outcome(self, outcome: str) -> str:
        """The outcome carried out where `outcome` was concluded."""
        return outcome

    def reason(self, reason: str) -> str:
        """The reason given to decline or transfer."""
        return reason

    def guess(self, options: tuple) -> Any:
        """A made-up value for something that was not looked up or asked."""
        return options[0]

    def quits(self) -> bool:
        """Whether to say it is done without having done it (asked before the outcome)."""
        return False


def check_text(condition: expr.Expr, actual: Any, verdict: bool, otherwise: str) -> str:
    """The reasoning written for one rule: what the record says, the rule as the policy words it, the verdict."""
    name = condition["field"].split(".")[1]
    rule = f"rule {expr.render(condition)}, else {otherwise}"
    return f'"{name}": {expr.quote(actual)}, {rule}: {"yes" if verdict else "no"}.'


CLOSINGS = {"write": "Done.", "decline": "Sorry, declined.", "stop": "Left as it is."}


def ask_text(slot: str) -> str:
    """The question for a missing detail."""
    return f'Which "{slot}"?'


def confirm_text(case: Case) -> str:
    """The request for consent."""
    return f'Please confirm: {case.action.verb} {case.domain.record.kind} "{case.record_id}"?'


def walk(root: Node, case: Case, judge: Judgement) -> list[Step]:
    """The steps of an agent that follows the tree with the given judgement."""
    steps: list[Step] = []
    checks: list[str] = []
    known: set[str] = set()
    choice = case.choice if case.given else None
    node = root
    while node.kind != "terminal":
        if node.kind == "action":
            if judge.reads(node.spec["entity"]):
                entity = case.domain.entity(node.spec["entity"])
                wanted = case.record_id if entity is case.domain.record else case.owner_id
                steps.append({"call": entity.read_tool, "args": {entity.key: wanted}, "say": " ".join(checks)})
                checks = []
                known.add(entity.kind)
            node = node.child("done")
        elif node.kind == "guard":
            condition = node.spec["condition"]
            was_read = condition["field"].split(".")[0] in known
            verdict = judge.verdict(condition, expr.holds(condition, case.values), was_read)
            if was_read:
                checks.append(check_text(condition, case.values[condition["field"]], verdict, node.spec["otherwise"]))
            node = node.child("holds" if verdict else "fails")
        elif node.kind == "ask":
            if choice is None and judge.asks():
                steps.append({"say": " ".join([*checks, ask_text(node.spec["slot"])])})
                checks, choice = [], case.choice
            node = node.child("given" if case.given else "missing")
        else:
            accepted = True
            if judge.confirms():
                steps.append({"say": " ".join([*checks, confirm_text(case)])})
                checks, accepted = [], case.accepts
            node = node.child("accepted" if accepted else "refused")
    return [*steps, *_finish(node, case, judge, checks, choice, known)]


def _finish(
    leaf: Node, case: Case, judge: Judgement, checks: list[str], choice: str | None, known: set[str]
) -> list[Step]:
    """The steps of the outcome: the write or control call, then the closing words."""
    if judge.quits():
        return [{"say": CLOSINGS["write"]}]
    outcome = judge.outcome(leaf.spec["outcome"])
    record, action = case.domain.record, case.action
    if outcome == "stop":
        return [{"say": CLOSINGS["stop"]}]
    if outcome == "write":
        if record.kind in known:
            copied = case.values[f"{record.kind}.{action.copied}"]
        else:
            copied = judge.guess(record.fields[action.copied])
        chosen = choice if choice is not None else judge.guess(action.choices)
        args = {record.key: case.record_id, action.copied: copied, action.slot: chosen}
        call = {"call": case.domain.write_tool(action), "args": args, "say": " ".join(checks)}
    else:
        call = {"call": outcome, "args": {"reason": judge.reason(leaf.spec["reason"])}, "say": " ".join(checks)}
    return [call] if outcome == "transfer" else [call, {"say": CLOSINGS[outcome]}]


@dataclasses.dataclass
class Sloppy(Judgement):
    """A demonstrator of mixed quality: every decision goes wrong with its own probability, drawn from `rng`."""

    rng: random.Random
    reasons: tuple[str, ...]  # what a made-up reason is drawn from
    skip_read: float = 0.0
    misjudge: float = 0.0
    skip_ask: float = 0.0
    skip_confirm: float = 0.0
    refuse: float = 0.0  # conclude decline or transfer where the write was due
    swap_control: float = 0.0  # decline instead of transfer and the other way round
    quit: float = 0.0

    def _slips(self, rate: float) -> bool:
        return self.rng.random() < rate

    def reads(self, entity: str) -> bool:
        """Skips the read at its rate."""
        return not self._slips(self.skip_read)

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        """Misjudges at its rate; without the record it is a coin toss."""
        return truth != self._slips(self.misjudge) if known else self._slips(0.5)

    def asks(self) -> bool:
        """Invents the detail at its rate."""
        return not self._slips(self.skip_ask)

    def confirms(self) -> bool:
        """Writes without consent at its rate."""
        return not self._slips(self.skip_confirm)

    def outcome(self, outcome: str) -> str:
        """Refuses what is due, or uses the other way of refusing, at their rates."""
        if outcome == "write" and self._slips(self.refuse):
            return self.rng.choice(("decline", "transfer"))
        if outcome in ("decline", "transfer") and self._slips(self.swap_control):
            return "transfer" if outcome == "decline" else "decline"
        return outcome

    def reason(self, reason: str) -> str:
        """A made-up reason where none was concluded."""
        return reason or self.rng.choice(self.reasons)

    def guess(self, options: tuple) -> Any:
        """Any value of the right kind."""
        return self.rng.choice(options)

    def quits(self) -> bool:
        """Gives up at its rate."""
        return self._slips(self.quit)


FLAWS = tuple(f.name for f in dataclasses.fields(Sloppy) if f.name not in ("rng", "reasons"))


def parse_flaws(text: str) -> dict[str, float]:
    """"skip_read=0.3,quit=0.1" as a dict. Raises ValueError naming an unknown flaw or a rate outside [0, 1]."""
    rates = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, rate = part.partition("=")
        if name not in FLAWS:
            raise ValueError(f"rl.sft_flaws: unknown flaw {name!r}, expected some of {', '.join(FLAWS)}")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ValueError(f"rl.sft_flaws: {part!r}, expected name=rate") from None
        if not 0 <= rates[name] <= 1:
            raise ValueError(f"rl.sft_flaws: rate of {name} must be in [0, 1], got {rates[name]}")
    return rates


class _Constant(Judgement):
    """Reads, then decides the same way whatever the record says."""

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
    "read_then_refuse": _Constant(holds=False, polite=True),  # for the first rule, in the way that rule asks for
    "read_then_write": _Constant(holds=True, polite=False),
    "read_ask_confirm_write": _Constant(holds=True, polite=True),
}


def constant(task: Task, name: str) -> list[Step]:
    """The steps of a policy that never looks at what the rules say of the record: one of CONSTANTS."""
    return walk(from_dict(task.tree), Case.of(task), CONSTANTS[name])
