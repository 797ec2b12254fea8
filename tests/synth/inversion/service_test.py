"""Tasks in businesses: every task is solved by its oracle, read from its manual, and understood by its customer."""

import dataclasses
import functools
import re

import pytest

from envs import world
from synth import generate, operators, registers
from synth.gating import adversaries, gates, shape
from synth.growth import selection
from synth.inversion.case import Case, true_branch
from synth.task import Task
from synth.trees import tree, workflow

CHOSEN = registers.select("business", "all", 4)["train"]


@functools.cache
def made(rounds):
    """Tasks of written and composed businesses after `rounds` - 1 rounds of growth by all operators."""
    flows = workflow.roots("train", 28, CHOSEN, 3)
    for _ in range(rounds - 1):
        flows = selection.grow(flows, {}, operators.select("all"), selection.Selection(), 3)
    return flows, generate.tasks(flows, 1, 0.5, 3, 0.4)


@pytest.mark.parametrize("rounds", [1, 3])
def test_tasks_pass_the_gates(rounds):
    _, tasks = made(rounds)
    problems = {task.id: problem for task in tasks if (problem := gates.check(task, world.reward))}
    assert len(problems) <= len(tasks) * 0.05, problems
    assert {task.domain for task in tasks} >= {domain.name for domain in CHOSEN[:4]}


def test_tasks_are_the_same_again_and_survive_json():
    flows, tasks = made(2)
    again = generate.tasks(flows, 1, 0.5, 3, 0.4)
    assert [task.to_json() for task in tasks] == [task.to_json() for task in again]
    assert [Task.from_json(task.to_json()) for task in tasks] == tasks


def test_a_customer_names_no_record_and_tells_what_it_should():
    for task in made(2)[1]:
        assert not [key for rows in task.state.values() for key in rows if key in task.user["request"]]
        for name in task.user["slots"]:
            said = task.user["knows"][name]["says"].lower()
            stands = re.search(rf"(?<!\w){re.escape(said)}(?!\w)", task.user["request"].lower()) is not None
            assert stands == (name not in task.user["withheld"]), task.user["request"]


def test_goals_of_one_customer_agree_on_the_customer():
    """A rule on the customer cannot hold for one request and fail for the next."""
    _, tasks = made(3)
    several = [task for task in tasks if task.user.get("later")]
    assert several
    for task in several:
        case = Case.of(task)
        assert {goal.owner_id for goal in case.goals} == {case.owner_id}
        fails = {}
        for node, edge in _nodes(task):
            if node.kind == "guard" and node.spec["hidden"]:
                assert (
                    fails.setdefault(node.spec["condition"]["field"], edge) == edge
                    or case.domain.link.key in (case.domain.rows(task.state, case.record_id)[case.domain.record.kind])
                )


def _nodes(task):
    return true_branch(tree.from_dict(task.tree), Case.of(task))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: {"state": {**task.state, "extra": {}}}, "state: collections"),
        (lambda task: {"user": {**task.user, "slots": {}}}, "user.slots: expected"),
        (lambda task: {"user": {**task.user, "verb": "dance"}}, "user.verb"),
        (lambda task: {"user": {**task.user, "nonsense": 1}}, "user.nonsense"),
        (lambda task: {"policy": task.policy + "\n- Refuse everything."}, "prose: "),
        (lambda task: {"policy": task.policy.replace("- ", "* ", 1)}, "prose: "),
    ],
)  # fmt: skip
def test_malformed_tasks_are_named(change, message):
    task = made(2)[1][0]
    assert shape.fault(task) is None
    assert message in (gates.check(dataclasses.replace(task, **change(task)), world.reward) or "")


def test_businesses_have_operators_of_their_own():
    """Singled out by a number that only the records hold; told an amount before it is charged. Each applies once."""
    (flow,) = workflow.roots("train", 1, registers.select("business", "cycle_repair")["train"], 0)
    for name, kind in (("choose", "compared"), ("tell", "told_amount")):
        operator = operators.OPERATORS[name]
        grown = operators.expand(flow, operator, 0)
        assert not operator.applies(grown)
        for task in generate.of_tree(grown, ["legal", "legal"], 0):
            assert gates.check(task, world.reward) is None
            goals = [goal["name"] for goal in task.subgoals if goal["name"].startswith(kind)]
            assert len(goals) == (2 if name == "choose" else 1)
            assert adversaries.steps(task)[f"skip_{'compare' if name == 'choose' else 'tell'}"]


def test_a_task_of_a_business_that_has_changed_since_is_named():
    """The composer of another version makes another business of the same name."""
    task = made(2)[1][0]
    name = next(iter(task.state))
    records = {key: {f"old_{field}": value for field, value in row.items()} for key, row in task.state[name].items()}
    for changes in ({"tools": task.tools[1:]}, {"state": {**task.state, name: records}}):
        with pytest.raises(ValueError, match="is not the one that this task was made of"):
            Case.of(dataclasses.replace(task, **changes))
