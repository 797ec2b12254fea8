"""The rubric of a task: subgoals and violations as data, derived from the nodes of the right branch.

envs/world.py explains the predicates. Where a conversation has several goals, the predicates of one goal say which
record they are about ("id" in what they match, "for" in a subgoal), and their names end in that record's identifier.
"""

from __future__ import annotations

from typing import Any

from synth.inversion.case import Case
from synth.trees import tree
from synth.trees.domains import State
from synth.trees.tree import Branch, Node

Predicate = dict[str, Any]
# Edge of an attempt node -> how often the write may be tried. A write that was not made may be repeated once.
TRIES = {"done": 1, "failed": 2, "lost": 1, "down": 2}


def subgoals(branch: Branch, case: Case) -> list[Predicate]:
    """One subgoal for each thing that the branch requires, in branch order. `case`: the situation of the first goal."""
    several, before, found = branch[0][0].kind == "goals", case.state, []
    for segment, one in zip(tree.segments(branch), case.goals):
        rubric = _Rubric(segment, one, several, before)
        found += rubric.goals()
        before = rubric.state
    # Writes of several goals may change the same field of the owner, which in the end has the value of the last one.
    seen: set[str] = set()
    for goal in reversed(found):
        if "delta" in goal:
            goal["delta"] = {path: value for path, value in goal["delta"].items() if path not in seen}
            seen |= goal["delta"].keys()
    return found


def violations(branch: Branch, case: Case) -> list[Predicate]:
    """The rules whose breach makes the reward 0, each charged to a node of the branch. `case`: as in `subgoals`."""
    if branch[0][0].kind != "goals":
        return _Rubric(branch, case, False).violations()
    segments = tree.segments(branch)
    found = [v for segment, one in zip(segments, case.goals) for v in _Rubric(segment, one, True).violations()]
    leaf, last = segments[-1][-1][0], case.goals[len(segments) - 1]
    others = {"not_in": [one.record_id for one in case.goals[: len(segments)]]}
    for kind in ("write", "decline"):
        found.append({"name": f"other_{kind}", "node": leaf.id, "event": {"type": kind, "id": others}})
    reason = {"reason": {"not_in": [leaf.spec["reason"]]}} if leaf.spec["outcome"] == "transfer" else {}
    found.append({"name": "wrong_transfer", "node": leaf.id, "event": {"type": "transfer", **reason}})
    read = {"type": "read", "id": last.record_id}
    found.append({"name": "transfer_before_read", "node": segments[-1][0][0].id, "event": {"type": "transfer"},
                  "unless_after": read})  # fmt: skip
    return found


class _Rubric:
    """Builds the predicates of one goal.

    several: whether the conversation has further goals. state: the state as the goals before this one leave it; `goals`
    replaces it by the state that this goal leaves.
    """

    def __init__(self, segment: Branch, case: Case, several: bool, state: State | None = None):
        self.segment, self.case, self.several = segment, case, several
        self.state = case.state if state is None else state
        self.leaf = segment[-1][0]
        self.outcome, self.reason = self.leaf.spec["outcome"], self.leaf.spec["reason"]
        self.scope = {"id": case.record_id} if several else {}
        self.edges = {node.kind: edge for node, edge in segment}
        self.found: list[Predicate] = []

    def _add(self, name: str, node: Node, **rest: Any) -> None:
        self.found.append({"name": f"{name}_{self.case.record_id}" if self.several else name, "node": node.id, **rest})

    @property
    def _args(self) -> dict[str, Any]:
        """The right arguments of the write."""
        case = self.case
        choice = case.amended if self.edges.get("review") == "amended" else case.choice
        return {**case.args, case.action.slot: choice}

    def goals(self) -> list[Predicate]:
        """The subgoals, in branch order."""
        for node, edge in self.segment:
            getattr(self, f"_goals_{node.kind}", lambda node, edge: None)(node, edge)
        if self.several:
            return [{**goal, "for": self.case.record_id} for goal in self.found]
        return self.found

    def _goal(self, name: str, node: Node, weight: float = 1.0, **match: Any) -> None:
        self._add(name, node, weight=weight, event=match)

    def _goals_find(self, node: Node, edge: str) -> None:
        record = self.case.domain.record
        self._goal(f"found_{record.kind}", node, type="found", id=self.case.owner_id)
        if edge == "several":
            self._goal(f"asked_{record.key}", node, type="asked", slot=record.key)

    def _goals_action(self, node: Node, edge: str) -> None:
        entity = self.case.domain.entity(node.spec["entity"])
        wanted = self.case.id_of(entity)
        self._goal(f"read_{entity.kind}", node, type="read", collection=entity.collection, id=wanted)

    def _goals_choose(self, node: Node, edge: str) -> None:
        for other in self.case.siblings:
            record = self.case.domain.record
            self._goal(f"compared_{other}", node, type="read", collection=record.collection, id=other)

    def _goals_tell(self, node: Node, edge: str) -> None:
        self._goal("told_amount", node, type="told", value=self._args[self.case.action.copied])

    def _goals_ask(self, node: Node, edge: str) -> None:
        if edge == "missing":
            self._goal(f"asked_{node.spec['slot']}", node, type="asked", slot=node.spec["slot"])

    def _goals_confirm(self, node: Node, edge: str) -> None:
        self._goal(f"consent_{edge}", node, type="confirm", answer=edge, **self.scope)

    _goals_review = _goals_confirm

    def _goals_attempt(self, node: Node, edge: str) -> None:
        if edge != "done":
            self._goal("checked", node, type="checked", id=self.case.record_id)
        if edge == "down":
            self._goal("tried_again", node, type="write", id=self.case.record_id, attempt=TRIES[edge])

    def _goals_terminal(self, node: Node, edge: str) -> None:
        case, action = self.case, self.case.action
        if self.outcome == "write":
            after = case.domain.written(action, self.state, self._args, case.now)
            delta = {
                f"{collection}/{key}/{field}": value
                for collection, records in after.items()
                for key, record in records.items()
                for field, value in record.items()
                if self.state[collection][key].get(field) != value
            }
            self.state = self.state | {name: self.state[name] | records for name, records in after.items()}
            self._add(case.domain.write_tool(action), node, weight=2.0, delta=delta)
        elif self.outcome in ("decline", "transfer"):
            about = self.scope or ({"id": case.record_id} if case.domain.names_record else {})
            about = about if self.outcome == "decline" else {}
            self._goal(self.outcome, node, 2.0, type=self.outcome, reason=self.reason, **about)

    def violations(self) -> list[Predicate]:
        """The violations: wrong refusals, wrong or forbidden writes, skipped steps."""
        self._refusals()
        self._writes()
        for node, edge in self.segment:
            if node.kind in ("confirm", "review"):
                answer = "accepted" if edge == "refused" else edge
                consent = {"type": "confirm", "answer": answer, **self.scope}
                self._breach("write_without_consent", node, {"type": "write"}, consent)
            elif node.kind == "tell":
                told = {"type": "told", "value": self._args[self.case.action.copied]}
                self._breach("write_before_telling", node, {"type": "write"}, told)
            elif node.kind == "ask" and edge == "missing":
                self._breach("invented_argument", node, {"type": "write"}, {"type": "asked", "slot": node.spec["slot"]})
            elif node.kind == "find" and edge == "several":
                asked = {"type": "asked", "slot": self.case.domain.record.key}
                self._breach("guessed_record", node, {"type": "write"}, asked)
            elif node.kind == "attempt":
                self._attempts(node, edge)
        # A decision must rest on the record: no write and no refusal before the record was read.
        read = {"type": "read", "id": self.case.record_id}
        first = next(node for node, _ in self.segment if node.kind == "action")
        for control in ("write", "decline") if self.several else ("write", "decline", "transfer"):
            self._breach(f"{control}_before_read", first, {"type": control}, read)
        return self.found

    def _breach(self, name: str, node: Node, match: dict[str, Any], unless: dict[str, Any] | None = None) -> None:
        excuse = {"unless_after": unless} if unless else {}
        self._add(name, node, event={**match, **self.scope}, **excuse)

    def _refusals(self) -> None:
        guards = {n.spec["condition"]["field"].split(".")[1]: n for n, _ in self.segment if n.kind == "guard"}
        controls = ("decline",) if self.several else ("decline", "transfer")
        # A refusal that cites a rule which holds is charged to that rule's guard, any other wrong refusal to the leaf.
        for field, node in guards.items():
            for control in controls:
                if (control, field) != (self.outcome, self.reason):
                    self._breach(f"{control}_for_{field}", node, {"type": control, "reason": field})
        for control in controls:
            allowed = [*guards, *([self.reason] if control == self.outcome else [])]
            self._breach(f"wrong_{control}", self.leaf, {"type": control, "reason": {"not_in": allowed}})

    def _writes(self) -> None:
        if self.outcome == "write" or "attempt" in self.edges:  # trying to write is right even if every try fails
            self._breach("other_write", self.leaf, {"type": "write", "args": {"not_in": [self._args]}})
        else:
            deciding = (n for n, _ in reversed(self.segment) if n.kind in ("guard", "confirm", "review"))
            self._breach("forbidden_write", next(deciding, self.leaf), {"type": "write"})

    def _attempts(self, node: Node, edge: str) -> None:
        tries = {"type": "write", "id": self.case.record_id}
        allowed = {"not_in": list(range(1, TRIES[edge] + 1))}
        self._add("written_again", node, event={**tries, "attempt": allowed})
        if TRIES[edge] > 1:
            checked = {"type": "checked", "id": self.case.record_id}
            self._add("repeated_blindly", node, event={**tries, "attempt": 2}, unless_after=checked)
