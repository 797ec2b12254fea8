"""The gates let every generated task through and stop each kind of broken one at its gate."""

import dataclasses
import json

import pytest
from worlds import TASKS, kinds

from envs import world
from synth import adversaries, domains, gates


def first(wanted):
    """The first generated task of which `wanted` is true."""
    return next(task for task in TASKS if wanted(task))


def has_ask(task):
    return "ask" in kinds(task) and task.user["withheld"]


def has_owner(task):
    return kinds(task).count("action") == 2 and task.legal


def without(items, *names):
    """Subgoals or violations without the named ones, which must be there."""
    assert set(names) <= {item["name"] for item in items}
    return [item for item in items if item["name"] not in names]


def gate(task, reward=world.reward):
    """The gate that a task fails, None if it fails none."""
    problem = gates.check(task, reward)
    return problem and problem.split(":")[0]


def change(task, **changes):
    return dataclasses.replace(task, **changes)


def test_every_generated_task_passes():
    accepted, report = gates.select(TASKS, world.reward, {})
    assert report.to_dict() == {"seen": 200, "passed": 200, "rejected": {}, "examples": {}}
    assert accepted == TASKS
    outcomes = {(task.legal, tuple(sorted(set(kinds(task))))) for task in TASKS}
    assert len(outcomes) > 8, "the sample should hold many kinds of branches"


def test_adversaries_stand_where_the_branch_needs_them():
    always = {"no_op", "always_refuse", "always_transfer", "skip_read", "fabricate", "every_write", "retry_spam"}
    assert set(adversaries.steps(TASKS[0])) == always
    assert set(adversaries.steps(first(has_ask))) >= always | {"skip_ask"}
    assert set(adversaries.steps(first(lambda t: "confirm" in kinds(t)))) >= always | {"skip_confirm"}


def test_wrong_oracle_is_rejected():
    task = first(lambda t: t.legal)
    assert gate(change(task, oracle=task.oracle[:-2])) == "oracle"
    slot, value = next(iter(task.user["slots"].items()))
    write = next(step for step in task.oracle if slot in step.get("args", {}))
    other = next(choice for choice in choices(task) if choice != value)
    wrong = [{**step, "args": {**step["args"], slot: other}} if step is write else step for step in task.oracle]
    assert gates.check(change(task, oracle=wrong), world.reward) == "oracle: reward 0.0 in trial 0"


def test_missing_subgoal_is_rejected():
    task = first(has_owner)
    # Without the write's subgoal the oracle's write is an undeclared change; without a read's, the read is not needed.
    write = next(goal["name"] for goal in task.subgoals if "delta" in goal)
    assert gate(change(task, subgoals=without(task.subgoals, write))) == "oracle"
    owner = domains.DOMAINS[task.domain].owner
    assert gate(change(task, subgoals=without(task.subgoals, f"read_{owner.kind}"))) == "mutation"


def test_goal_that_is_already_true_is_rejected():
    task = first(lambda t: t.legal)
    # The state before equals the state after: the oracle changes nothing any more.
    delta = next(goal["delta"] for goal in task.subgoals if "delta" in goal)
    state = json.loads(json.dumps(task.state))
    for path, value in delta.items():
        collection, record_id, field = path.split("/")
        state[collection][record_id][field] = value
    assert gate(change(task, state=state)) == "oracle"
    ended = [{"name": "ended", "node": "n0", "weight": 1.0, "event": {"type": "user_ended"}}]
    refusal = first(lambda t: not t.legal and t.oracle[-1].get("say") == "Sorry, declined.")
    assert gate(change(refusal, subgoals=ended, violations=[])) == "already_true"


def test_oracle_step_that_is_not_needed_is_rejected():
    task = first(lambda t: t.legal)
    entity = domains.DOMAINS[task.domain].record
    other = next(i for i in task.state[entity.collection] if i != task.user["record_id"])
    detour = {"call": entity.read_tool, "args": {entity.key: other}, "say": ""}
    assert gates.check(change(task, oracle=[detour, *task.oracle]), world.reward) == "mutation: step 0 can be left out"


def test_adversary_that_passes_is_rejected():
    task = first(has_ask)
    slot = task.user["withheld"][0]
    lax = change(
        task,
        subgoals=without(task.subgoals, f"asked_{slot}"),
        violations=without(task.violations, "invented_argument"),
    )
    assert gates.check(lax, world.reward) == "adversary: skip_ask earns 1.0"
    task = first(lambda t: "confirm" in kinds(t) and t.legal)
    lax = change(
        task,
        subgoals=without(task.subgoals, "consent_accepted"),
        violations=without(task.violations, "write_without_consent"),
    )
    assert gates.check(lax, world.reward) == "adversary: skip_confirm earns 1.0"
    task = first(lambda t: kinds(t) == ["action", "guard", "terminal"] and not t.legal)
    control = next(step["call"] for step in task.oracle if step.get("call") in ("decline", "transfer"))
    record = domains.DOMAINS[task.domain].record
    lax = change(
        task,
        subgoals=without(task.subgoals, f"read_{record.kind}"),
        violations=without(task.violations, f"{control}_before_read"),
    )
    assert gate(lax) == "adversary"
    # every_write: nothing forbids further writes, and the last one happens to be the right one.
    task = first(lambda t: t.legal and choices(t)[-1] in t.user["slots"].values())
    lax = change(task, violations=without(task.violations, "other_write"))
    assert gates.check(lax, world.reward) == "adversary: every_write earns 1.0"


def choices(task):
    """The values that the write's tool offers for the detail."""
    slot = next(iter(task.user["slots"]))
    enums = [tool["function"]["parameters"]["properties"].get(slot, {}).get("enum") for tool in task.tools]
    return next(enum for enum in enums if enum)


def broken_schema(task, **changes):
    """The task with its first tool's parameters changed."""
    function = task.tools[0]["function"]
    changed = {"type": "function", "function": {**function, "parameters": {**function["parameters"], **changes}}}
    return change(task, tools=[changed, *task.tools[1:]])


def test_malformed_schema_is_rejected():
    task = TASKS[0]
    name = task.tools[0]["function"]["name"]
    assert gates.check(broken_schema(task, type="objekt"), world.reward).startswith(f"schema: {name}: 'objekt'")
    assert gates.check(broken_schema(task, required=["x"]), world.reward).startswith(f"schema: oracle's {name}: ")
    assert gate(change(task, tools=task.tools[1:])) == "schema"
    assert gate(change(task, effects={})) == "schema"


def test_malformed_tree_is_rejected():
    task = first(lambda t: kinds(t)[1] == "guard")
    root = json.loads(json.dumps(task.tree))
    root["children"][0]["node"]["spec"]["condition"]["op"] = "like"
    assert gates.check(change(task, tree=root), world.reward).startswith("tree: condition")
    looped = {**task.tree, "kind": "loop"}
    assert gates.check(change(task, tree=looped), world.reward).startswith("tree: tree node 'n0'")
    assert gates.check(change(task, branch=[*task.branch[:-1], "n99"]), world.reward).startswith("tree: ['n0', ")
    assert gate(change(task, branch=task.branch[:-1])) == "tree"


def test_a_world_that_is_not_repeatable_is_rejected():
    rewards = iter([1.0, 0.5])
    assert gates.check(TASKS[0], lambda task, steps: next(rewards)) == "oracle: reward 0.5 in trial 1"


def test_duplicates_are_rejected_within_and_across_splits():
    task, other = TASKS[0], TASKS[1]
    again = change(task, id="elsewhere@r0/n1/0", root="elsewhere", seed=9)
    taken = {}
    accepted, report = gates.select([task, again, other], world.reward, taken)
    assert accepted == [task, other]
    record = {"seen": 3, "passed": 2, "rejected": {"duplicate": 1}}
    record["examples"] = {"duplicate": f"{again.id}: duplicate: of {task.id}"}
    assert json.loads(json.dumps(report.to_dict())) == record
    accepted, report = gates.select([again], world.reward, taken)
    assert (accepted, report.seen, report.passed) == ([], 1, 0)


def test_rejected_tasks_do_not_bar_their_like():
    task, taken = TASKS[0], {}
    accepted, _ = gates.select([change(task, oracle=[]), task], world.reward, taken)
    assert accepted == [task]
    assert list(taken.values()) == [task.id]


@pytest.mark.parametrize("field", ["policy", "tools", "state", "user"])
def test_fingerprint_depends_on_what_an_agent_can_tell_apart(field):
    task = TASKS[0]
    assert gates.fingerprint(change(task, id="x", persona="y", oracle=[], branch=[])) == gates.fingerprint(task)
    other = next(t for t in TASKS if getattr(t, field) != getattr(task, field))
    assert gates.fingerprint(change(task, **{field: getattr(other, field)})) != gates.fingerprint(task)


def test_split_leaks_names_the_roots_on_both_sides():
    heldout = [change(TASKS[0], root="b"), change(TASKS[0], root="c")]
    train = [change(TASKS[0], root="a"), change(TASKS[0], root="b")]
    assert gates.split_leaks(train, heldout) == ["b"]
    assert gates.split_leaks(train[:1], heldout) == []
