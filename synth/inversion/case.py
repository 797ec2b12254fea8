"""The situation of a task, as seen by an agent that knows everything, and the branch that is right in it."""

from __future__ import annotations

import dataclasses
from typing import Any

from synth.business import catalogue  # noqa: F401 (whoever reads a task finds its business from here on)
from synth.business.view import Service
from synth.task import Task
from synth.trees import domains, expr
from synth.trees.domains import Action, Domain, Entity, State
from synth.trees.tree import Branch, Node


@dataclasses.dataclass(frozen=True)
class Case:
    """The situation of one goal: the records in play, what the user wants, has said and will consent to.

    The goals that follow it are in `later`.
    """

    domain: Domain
    action: Action
    record_id: str
    owner_id: str
    link_id: str  # "" where the task has no linked records
    values: dict[str, Any]  # field reference -> value in the records in play
    choice: str  # the slot value the user wants
    given: bool  # whether the first message contains that value
    accepts: bool  # whether the user consents to the write
    amended: str  # the slot value that the user changes to when asked for consent; "" for no change
    several: bool  # whether the user names only the owner and that owner has several records
    fault: str  # an edge of an attempt node: how the first tries of the write go
    insists: int  # how many times the user argues with a refusal
    later: tuple[Case, ...]  # the situations of the goals after this one, in order
    spoken: bool  # whether the user makes later requests only once the earlier ones are settled
    state: State  # the task's state at reset
    now: str  # the task's day, "" where nothing depends on it
    script: dict[str, Any]  # the user script
    slots: dict[str, Any]  # what the user wants, by argument: the choice and, in a business, further details

    @classmethod
    def of(cls, task: Task) -> Case:
        """The situation of a task's first goal, with the others in `later`.

        Raises ValueError if the state lacks a record in play.
        """
        later = task.user.get("later", [])
        first, *rest = (cls._goal(task, goal) for goal in (task.user, *later))
        return dataclasses.replace(first, later=tuple(rest), spoken=any("request" in goal for goal in later))

    @classmethod
    def _goal(cls, task: Task, goal: dict[str, Any]) -> Case:
        """The situation of one goal. `goal`: the user script itself, or an entry of its "later"."""
        domain, user = domains.find(task.domain), task.user
        if isinstance(domain, Service) and not domain.made(task.tools, task.state):
            raise ValueError(
                f"{task.id}: the business {task.domain} is not the one that this task was made of, whose tools or "
                "records were others; go on with the version that made it, or make the tasks again in a new workdir"
            )
        now = user.get("now", "")
        action = next(a for a in domain.actions if a.verb == user["verb"])
        record = _record(task, domain.record, goal["record_id"])
        owner = _record(task, domain.owner, record[domain.owner.key])
        return cls(
            domain=domain,
            action=action,
            record_id=goal["record_id"],
            owner_id=record[domain.owner.key],
            link_id=(record if domain.link.key in record else owner).get(domain.link.key, ""),
            values=domain.values_of(task.state, goal["record_id"], now),
            choice=user["slots"][action.slot],
            given=not user["withheld"],
            accepts=goal["accepts"],
            amended=user.get("amends", {}).get(action.slot, ""),
            several=user.get("find", {}).get("several", False),
            fault=task.effects[domain.write_tool(action)].get("faults", {}).get(goal["record_id"], "done"),
            insists=len(user.get("insists", ())),
            later=(),
            spoken=False,
            state=task.state,
            now=now,
            script=user,
            slots=user["slots"],
        )

    @property
    def args(self) -> dict[str, Any]:
        """The right arguments of the write, with the detail that the user wants at first."""
        return self.domain.arguments(self.action, self.state, self.record_id, self.slots, self.now)

    @property
    def siblings(self) -> list[str]:
        """The identifiers of the owner's other records."""
        key, records = self.domain.owner.key, self.state[self.domain.record.collection]
        return [i for i, record in records.items() if record[key] == self.owner_id and i != self.record_id]

    @property
    def wishes(self) -> list[Any]:
        """The values of the detail that a user might want."""
        return self.domain.wishes(self.action, self.choice, self.now)

    @property
    def guesses(self) -> list[Any]:
        """Values that might be made up for the copied argument, the right one among them."""
        return self.domain.guesses(self.action, self.args[self.action.copied])

    @property
    def goals(self) -> tuple[Case, ...]:
        """This goal and the later ones."""
        return self, *self.later

    def id_of(self, entity: Entity) -> str:
        """The identifier of this goal's record of the given entity; "" for a link that the task does not have."""
        kinds = [e.kind for e in self.domain.entities]
        return (self.record_id, self.owner_id, self.link_id)[kinds.index(entity.kind)]

    @property
    def answer(self) -> str:
        """How the user answers a request for consent, as an edge of confirm and review nodes."""
        if not self.accepts:
            return "refused"
        return "amended" if self.amended else "accepted"


def _record(task: Task, entity: Entity, record_id: str) -> dict[str, Any]:
    """A record of the task's state. Raises ValueError if it is not there."""
    if record_id not in task.state[entity.collection]:
        raise ValueError(f"{task.id}: no record {record_id!r} in {entity.collection}")
    return task.state[entity.collection][record_id]


def edge(node: Node, case: Case, known: bool) -> str:
    """The right edge at an inner node. `known`: whether the user has already said the detail.

    Raises KeyError for a terminal, which has no edges, or for a condition on a field that is not in `case.values`.
    """
    if node.kind == "guard":
        return "holds" if expr.holds(node.spec["condition"], case.values) else "fails"
    if node.kind == "ask":
        return "given" if known else "missing"
    choices = {
        "goals": "each",
        "find": "several" if case.several else "one",
        "choose": "chosen",
        "tell": "told",
        "action": "done",
        "confirm": case.answer,
        "review": case.answer,
        "attempt": case.fault,
    }
    return choices[node.kind]


def true_branch(root: Node, case: Case) -> Branch:
    """The one branch whose conditions all hold in the situation: the path that an agent has to take."""
    found: Branch = []
    known = case.given
    for goal in case.goals if root.kind == "goals" else (case,):
        node = root
        while node.kind != "terminal":
            taken = edge(node, goal, known)
            found.append((node, taken))
            known = known or node.kind == "ask"
            node = node.child(taken)
        found.append((node, ""))
        if node.spec["outcome"] == "transfer":
            break
    return found
