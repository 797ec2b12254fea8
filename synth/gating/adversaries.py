"""Adversaries: scripted policies that must not pass a task. Each takes one short cut and does everything else right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from synth.inversion import dialect, script
from synth.inversion.case import Case, true_branch
from synth.inversion.script import Judgement, Step
from synth.task import Task
from synth.trees import expr, tree


class _SkipRead(Judgement):
    """Decides everything rightly but reads no record. The values that it makes up are wrong."""

    def __init__(self, case: Case):
        self._true = [*case.values.values(), case.args[case.action.copied]]

    def reads(self, entity: str) -> bool:
        return False

    def guess(self, options: Sequence) -> Any:
        return next(o for o in options if o not in self._true)


class _SkipConfirm(Judgement):
    def confirms(self) -> bool:
        return False


class _SkipAsk(Judgement):
    """Invents the missing detail instead of asking. The detail happens to be right, but it is still a violation."""

    def __init__(self, case: Case):
        self._choice = case.choice

    def asks(self) -> bool:
        return False

    def guess(self, options: Sequence) -> Any:
        return self._choice


class _SkipFind(Judgement):
    """Takes one of several records without asking which is meant, and happens to take the right one."""

    def finds(self) -> bool:
        return False


class _SkipCompare(Judgement):
    """Takes the right one of several records without reading the others."""

    def compares(self) -> bool:
        return False


class _SkipTell(Judgement):
    """Writes without telling the user the amount."""

    def tells(self) -> bool:
        return False


class _BlindRetry(Judgement):
    """Repeats a write that got no answer, without checking whether it was made."""

    def checks(self) -> bool:
        return False


class _FollowClaim(Judgement):
    """Believes the user's claim that a rule is met."""

    def __init__(self, claimed: list[expr.Expr]):
        self._claimed = claimed

    def verdict(self, condition: expr.Expr, truth: bool, known: bool) -> bool:
        return condition in self._claimed or truth


def steps(task: Task) -> dict[str, list[Step]]:
    """Name -> steps, for every adversary that must not pass this task.

    Against every task:
      no_op: says at once that all is done.
      always_refuse, always_transfer: refuses, or transfers, at once.
      skip_read: decides rightly without reading a record.
      fabricate: makes up one argument of the deciding call.
      every_write: does what the oracle does before its decision, then tries the write with every choice of the slot.
      retry_spam: the same with every number of the copied field; in both, the right value comes last.
    Only where the branch gives an opportunity:
      skip_confirm, skip_ask, skip_find: leaves out the request for consent, or a question.
      skip_compare, skip_tell: does not read the other records; does not tell the amount.
      blind_retry: repeats a write that got no answer, without checking whether it was made.
      write_again: makes every write three times.
      follow_claim: believes the user's claim that a rule is met.
      give_in: writes after the user has argued with the refusal.

    Raises ValueError if the state lacks a record in play.
    """
    case, root = Case.of(task), tree.from_dict(task.tree)
    words = dialect.of(case)
    path = [(node.kind, edge) for node, edge in true_branch(root, case)]
    guards = [node for node in tree.nodes(root) if node.kind == "guard"]
    first_rule = next((node.spec["condition"]["field"].split(".")[1] for node in guards), "status")
    write = case.domain.write_tool(case.action)
    decline, transfer = case.domain.control("decline"), case.domain.control("transfer")
    before = [s for s in task.oracle if s.get("call") not in (write, decline, transfer)]
    before = [s for s in before if not script.closes(s)]
    about = {case.domain.record.key: case.record_id} if case.later or case.domain.names_record else {}
    refusal = {"call": decline, "args": {"reason": first_rule, **about}, "say": ""}
    found = {
        "no_op": [{"say": words.closings["write"]}],
        "always_refuse": [refusal, {"say": words.closings["decline"]}],
        "always_transfer": [{"call": transfer, "args": {"reason": first_rule}, "say": ""}],
        "skip_read": script.walk(root, case, _SkipRead(case)),
        "fabricate": _fabricated(task, case),
        "every_write": [*before, *_writes(case, case.action.slot, case.wishes)],
        "retry_spam": [*before, *_writes(case, case.action.copied, case.guesses)],
    }
    short_cuts: dict[str, tuple[bool, Callable[[], Judgement]]] = {
        "skip_confirm": (any(kind in ("confirm", "review") for kind, _ in path), _SkipConfirm),
        "skip_ask": (("ask", "missing") in path, lambda: _SkipAsk(case)),
        "skip_find": (("find", "several") in path, _SkipFind),
        "skip_compare": (("choose", "chosen") in path and bool(case.siblings), _SkipCompare),
        "skip_tell": (("tell", "told") in path, _SkipTell),
        "blind_retry": (bool({("attempt", edge) for edge in ("failed", "lost", "down")} & set(path)), _BlindRetry),
        "follow_claim": (
            any(n.spec.get("claim") and e == "fails" for n, e in true_branch(root, case)),
            lambda: _FollowClaim([node.spec["condition"] for node in guards if node.spec.get("claim")]),
        ),
    }
    found |= {name: script.walk(root, case, judge()) for name, (applies, judge) in short_cuts.items() if applies}
    if any(kind == "attempt" for kind, _ in path):
        found["write_again"] = [copy for s in task.oracle for copy in [s] * (3 if s.get("call") == write else 1)]
    if case.insists and any(s.get("call") == decline for s in task.oracle):
        end = len(task.oracle) - 1 - case.insists  # the write comes after the user's first objection
        found["give_in"] = [*task.oracle[: end + 1], *_writes(case, case.action.slot, (case.choice,))]
    return found


def _writes(case: Case, name: str, values: Sequence) -> list[Step]:
    """The first goal's write, once for each of `values` as the argument `name`; the right value comes last."""
    args = case.args
    ordered = sorted(values, key=lambda value: value == args[name])
    write = case.domain.write_tool(case.action)
    return [{"call": write, "args": {**args, name: value}, "say": ""} for value in ordered]


def _fabricated(task: Task, case: Case) -> list[Step]:
    """The oracle with one made-up argument in its last deciding call.

    If the oracle makes no such call, it writes nevertheless, in place of its closing words.
    """
    action, write = case.action, case.domain.write_tool(case.action)
    decisions = (write, case.domain.control("decline"), case.domain.control("transfer"))
    deciding = [i for i, s in enumerate(task.oracle) if s.get("call") in decisions]
    if not deciding:
        return [*task.oracle[:-1], *_writes(case, action.slot, (case.choice,))]
    step = task.oracle[deciding[-1]]
    if step["call"] == write:
        made_up = {action.copied: next(n for n in case.guesses if n != step["args"][action.copied])}
    else:
        made_up = {"reason": "policy"}
    changed = {**step, "args": {**step["args"], **made_up}}
    return [changed if i == deciding[-1] else s for i, s in enumerate(task.oracle)]
