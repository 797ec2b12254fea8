"""The gates let every generated task through and stop each kind of broken one at its gate."""

import dataclasses
import functools
import json
import operator
import re

import hypothesis
import pytest
from hypothesis import strategies as st

from envs import world
from synth import operators
from synth.gating import adversaries, gates, prose, similarity
from synth.growth import selection
from synth.inversion import invert, utterances
from synth.task import Task
from synth.trees import domains, tree, workflow
from tests.support.worlds import TASKS, generated, kinds


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
    accepted, report = gates.select(TASKS, world.reward, gates.Seen())
    legal = sum(task.legal for task in TASKS)
    assert report.to_dict() == {"seen": 200, "passed": 200, "legal": legal, "rejected": {}, "examples": {}}
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


def test_tools_that_are_not_the_trees_are_rejected():
    task = TASKS[0]
    name = task.tools[0]["function"]["name"]
    for tools in (broken_schema(task, type="objekt").tools, broken_schema(task, required=["x"]).tools, task.tools[1:]):
        assert gates.check(change(task, tools=tools), world.reward).startswith(f"schema: tools.0: expected {name} as ")
    assert gates.check(change(task, effects={}), world.reward).startswith(f"schema: effects.{name}: expected ")
    wrong = [{**task.oracle[0], "args": {}}, *task.oracle[1:]]
    assert gates.check(change(task, oracle=wrong), world.reward).startswith("schema: oracle.0.args: ")


def test_malformed_tree_is_rejected():
    task = first(lambda t: kinds(t)[1] == "guard")
    root = json.loads(json.dumps(task.tree))
    root["children"][0]["node"]["spec"]["condition"]["op"] = "like"
    assert gates.check(change(task, tree=root), world.reward).startswith("tree: condition")
    looped = {**task.tree, "kind": "loop"}
    assert gates.check(change(task, tree=looped), world.reward).startswith("tree: tree node 'n0'")
    assert gates.check(change(task, branch=[*task.branch[:-1], "n99"]), world.reward).startswith("tree: ['n0', ")
    assert gate(change(task, branch=task.branch[:-1])) == "tree"
    problem = f"tree: legal is {not task.legal} where the branch makes it {task.legal}"
    assert gates.check(change(task, legal=not task.legal), world.reward) == problem


ALL = generated(roots=28, rounds=4, seed=0, names="all", chosen=operators.select("all"))


def places(node, path=()):
    """The path of every part of JSON data."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield *path, key
        yield from places(value, (*path, key))


ABSENT = object()


@hypothesis.settings(max_examples=150)
@hypothesis.given(st.data())
def test_no_malformed_task_stops_the_gates(data):
    """Anything may be missing or be something else: the task passes or is refused, and says where."""
    record = {"reward_source": "code", **json.loads(data.draw(st.sampled_from(ALL)).to_json())}
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(list(places(record))))
        value = data.draw(st.sampled_from([None, {}, [], "", 0, 3, -1.5, True, "x", [[]], {"id": {}}, ABSENT]))
        node = functools.reduce(operator.getitem, path, record)
        if value is not ABSENT:
            node[last] = value
        elif path:  # a record that lacks a field is no task (synth/task.py)
            del node[last]
    task = Task(**record)
    if problem := gates.check(task, world.reward):
        assert len(problem.split(": ")) > 2 or problem.split(": ")[0] not in ("schema", "tree", "prose")
    else:
        gates.Seen(distinct=True).examine(task)
        gates.Sides().add("train", task)


def changed(path, value):
    """A task of one rule with another value at this place of its JSON data."""
    task = first(lambda t: kinds(t) == ["action", "guard", "terminal"] and t.legal)
    record = {"reward_source": "code", **json.loads(task.to_json())}
    *path, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    functools.reduce(operator.getitem, path, record)[last] = value
    return Task(**record)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("root", "zoo-1", "schema: root: 'zoo-1' belongs to no split"),
        ("domain", "zoo", "schema: domain: unknown 'zoo'"),
        ("user.verb", "fly", "schema: user.verb: "),
        ("user.accepts", None, "schema: user.accepts: "),
        ("state", {}, "schema: state: collections [], expected "),
        ("subgoals", [], "schema: subgoals: "),
        ("subgoals.0.weight", 0, "schema: subgoals.0.weight: "),
        ("subgoals.0.node", "n99", "tree: subgoals.0.node: the tree has no 'n99'"),
        ("tools", [{}], "schema: tools.0: expected get_"),
        ("oracle.0", {"call": "get_order", "say": ""}, "schema: oracle.0._Call.args: "),
        ("tree", {}, "tree: tree node None: expected id"),
        ("tree.spec", None, "tree: tree node 'n0': expected id"),
        ("tree.spec.entity", "moon", "tree: node n0: entity 'moon', expected "),
        ("tree.children.0.node.spec.condition.field", "moon.phase", "tree: node n1: condition "),
        ("tree.children.0.node.spec.otherwise", "stop", "tree: node n1: otherwise 'stop', expected decline or "),
        ("tree.children.0.node.children.1.node.spec.reason", "moon", "tree: node n3: "),
        ("user.later", [], "tree: user.later: expected none for this tree"),
    ],
)
def test_what_is_malformed_is_named(path, value, problem):
    assert gates.check(changed(path, value), world.reward).startswith(problem)


WORDED = ("Ask for the {domain} desk.", "Fine when {rule}; if it is not, {outcome}.",
          "The {owner} must have {rule}, or we {outcome}.", "Ask before you change things.")  # fmt: skip


def test_prose_of_every_operator_in_any_wording_passes():
    plain = {"choose", "tell"}  # only businesses have them
    assert {task.operator for task in ALL} == {"", *operators.OPERATORS} - plain
    for task in ALL:
        flow = dataclasses.replace(workflow.Workflow.of(task), wording=WORDED)
        worded = change(task, policy=invert.policy_text(flow))
        assert prose.fault(task) is prose.fault(worded) is None and worded.policy != task.policy


def test_policies_that_say_something_else_than_the_tree_are_rejected():
    task = first(lambda t: t.policy.count("\n") == 2 and "at most" in t.policy)
    line = next(line for line in task.policy.split("\n") if "at most" in line)
    limit = re.search(r"at most (\d+)", line)[1]
    outcome, other = ("decline", "transfer") if "decline" in line else ("transfer", "decline")
    for old, new, problem in (
        (task.policy, "", "the policy has 1 lines, the tree needs 3"),
        (task.policy, "Always refuse everything.", "the policy has 1 lines, the tree needs 3"),
        (line, "", "policy line '' lacks "),
        ("at most", "at least", f"policy line {line.replace('most', 'least')!r} lacks "),
        (f"at most {limit}", f"at most {limit}0", f"policy line {line.replace(limit, limit + '0')!r} lacks "),
        (line, f'{line} Only if "size" is "big", else decline.', "says more than"),
        (outcome, other, f"lacks ['{outcome}']"),
        (task.domain, "moons", f"policy line {task.policy.split(chr(10))[0].replace(task.domain, 'moons')!r} lacks "),
    ):
        found = gates.check(change(task, policy=task.policy.replace(old, new)), world.reward)
        assert found.startswith("prose: ") and problem in found


def test_every_fact_that_the_user_has_to_tell_is_needed():
    """Whichever quoted fact or yes and no is taken out, or told unasked, is missed."""
    for task in ALL[::8]:
        slot = next(iter(task.user["slots"]))
        for name, text in utterances.of(task).items():
            if name.startswith("insists"):
                continue
            before_claim = text.split(' The "')[0]
            facts = [name] if name in ("yes", "no") else [task.user["verb"], *re.findall(r'"([^"]*)"', before_claim)]
            for fact in set(facts) - {slot}:
                said = {**utterances.of(task), name: re.sub(rf"\b{fact}\b", "it", text, flags=re.I)}
                problem = f"the user's {name} lacks ['{fact}']"
                assert prose.fault(utterances.reworded(task, said)) == problem
    withheld = first(has_ask)
    (slot,) = withheld.user["withheld"]
    told = {**withheld.user, "request": f'{withheld.user["request"]} With "{slot}": "x".'}
    problem = f"prose: the user's request tells ['{slot}'] unasked"
    assert gates.check(change(withheld, user=told), world.reward) == problem
    greeting = change(withheld, user={**withheld.user, "request": "Hi."})
    assert gates.check(greeting, world.reward).startswith("prose: the user's request lacks ['")


def test_a_world_that_is_not_repeatable_is_rejected():
    rewards = iter([1.0, 0.5])
    assert gates.check(TASKS[0], lambda task, steps: next(rewards)) == "oracle: reward 0.5 in trial 1"


def test_duplicates_are_rejected_within_and_across_splits():
    task, other = TASKS[0], TASKS[1]
    again = change(task, id="elsewhere@r0/n1/0", root="train-elsewhere", seed=9)
    seen = gates.Seen()
    accepted, report = gates.select([task, again, other], world.reward, seen)
    assert accepted == [task, other]
    record = {"seen": 3, "passed": 2, "legal": task.legal + other.legal, "rejected": {"duplicate": 1}}
    record["examples"] = {"duplicate": f"{again.id}: duplicate: of {task.id}"}
    assert json.loads(json.dumps(report.to_dict())) == record
    accepted, report = gates.select([again], world.reward, seen)
    assert (accepted, report.seen, report.passed) == ([], 1, 0)


def test_rejected_tasks_do_not_bar_their_like():
    task, seen = TASKS[0], gates.Seen()
    accepted, _ = gates.select([change(task, oracle=[]), task], world.reward, seen)
    assert accepted == [task]
    assert seen.examine(task)[0] == f"duplicate: of {task.id}"


@pytest.mark.parametrize("field", ["policy", "tools", "state", "user"])
def test_fingerprint_depends_on_what_an_agent_can_tell_apart(field):
    task = TASKS[0]
    assert gates.fingerprint(change(task, id="x", persona="y", oracle=[], branch=[])) == gates.fingerprint(task)
    other = next(t for t in TASKS if getattr(t, field) != getattr(task, field))
    assert gates.fingerprint(change(task, **{field: getattr(other, field)})) != gates.fingerprint(task)


def leaks(train, heldout):
    sides = gates.Sides()
    for split, tasks in (("train", train), ("heldout", heldout)):
        for task in tasks:
            sides.add(split, task)
    return sides.leaks()


def test_leaks_are_roots_and_personas_on_both_sides():
    task = TASKS[0]
    heldout = change(task, root=task.root.replace("train", "heldout"))
    assert leaks([task], [heldout]) == []
    assert leaks([task], [heldout, task])[0] == task.root
    # As if a held-out task had been drawn from the personas of the training split.
    stranger = change(task, root="train-9999-hotels-move", id=task.id)
    (leak,) = leaks([task], [stranger])
    assert leak.startswith(f"persona Persona(name='{task.persona}'")


def test_near_duplicates_are_rejected():
    task = TASKS[0]
    collection = domains.DOMAINS[task.domain].record.collection
    record = task.state[collection][task.user["record_id"]]
    field = next(name for name, value in record.items() if name in domains.DOMAINS[task.domain].record.fields)
    state = {**task.state, collection: {**task.state[collection], task.user["record_id"]: {**record, field: "x"}}}
    wordy = change(task, id="wordy", policy=f"{task.policy} {' '.join(map(str, range(300)))}")
    twin = change(wordy, id="twin", state=state)
    seen = gates.Seen()
    accepted, report = gates.select([wordy, twin, task], world.reward, seen)
    assert accepted == [wordy, task] and report.rejected == {"near_duplicate": 1}
    nearest, alike = seen.examine(twin)[1]["nearest"]
    assert (nearest, alike >= similarity.NEAR) == ("wordy", True)


@pytest.mark.parametrize("shared", [0, 2, 5])
def test_estimated_similarity_is_near_the_exact_one(shared):
    """Against the definition: shingles in common over shingles of either."""
    texts = [" ".join(f"{name if i >= 40 * shared else 'w'}{i}" for i in range(240)) for name in "ab"]
    tasks = [change(TASKS[0], id=name, policy=text) for name, text in zip("ab", texts)]
    shingles = [similarity.grams(f"{similarity.prose(t)}\n{similarity._records(t)}", 3) for t in tasks]
    exact = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    index = similarity.Neighbours()
    found = similarity.jaccard(index._signature(tasks[0]), index._signature(tasks[1]))
    assert abs(found - exact) < 0.15  # three standard errors


def test_tasks_that_repeat_a_benchmark_are_rejected(tmp_path):
    task = max(TASKS, key=lambda t: len(similarity.prose(t)))
    said = similarity.words(similarity.prose(task))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "policy.md").write_text("Something else. " + " ".join(said[2:15]).upper())
    (tmp_path / "b.json").write_text(json.dumps({"id": task.user["record_id"], "text": " ".join(said[:12])}))
    corpus = similarity.Corpus.read(f"{tmp_path / 'a'}, {tmp_path / 'b.json'}")
    problem, figures = gates.Seen(corpus).examine(task)
    assert problem == "overlap: 1 runs of 13 words stand in the benchmarks too"
    assert task.user["record_id"] in figures["overlap"]["entities"]
    (tmp_path / "a" / "policy.md").write_text(" ".join(said[2:14]))
    fine = gates.Seen(similarity.Corpus.read(str(tmp_path))).examine(task)
    assert fine[0] is None and fine[1]["overlap"]["grams"] == 0
    assert similarity.Corpus.read("") is None
    with pytest.raises(ValueError, match="synth.benchmarks: no such file or folder: .*nowhere"):
        similarity.Corpus.read(f"{tmp_path}, {tmp_path / 'nowhere'}")


@pytest.mark.parametrize("suffix", ["md", "json", "jsonl"])
def test_a_policy_is_found_in_whatever_file_it_stands(tmp_path, suffix):
    task = max(TASKS, key=lambda t: len(t.policy))
    record = {"id": 1, "info": [{"policy": task.policy}], task.user["record_id"]: None}
    texts = {"md": task.policy, "json": json.dumps(record, indent=1), "jsonl": f'{{"id": 0}}\n{json.dumps(record)}\n'}
    (tmp_path / f"file.{suffix}").write_text(texts[suffix])
    found = similarity.Corpus.read(str(tmp_path)).shared(task)
    assert found["grams"] >= len(similarity.grams(task.policy, 13)) > 2
    assert found["entities"] == ([task.user["record_id"]] if suffix != "md" else [])


def test_benchmarks_that_are_installed_go_by_name(tmp_path, monkeypatch):
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "tasks.json").write_text('[{"id": "amber"}]')
    monkeypatch.setenv("TAU2_DATA_DIR", str(tmp_path))
    assert similarity.Corpus.read("tau2")._words == {"id", "amber"}
    (tmp_path / "tau2" / "tasks.json").write_text('[{"id": ]')
    with pytest.raises(ValueError, match="synth.benchmarks: .*tasks.json is not JSON: .* line 1 column 9"):
        similarity.Corpus.read("tau2")
    monkeypatch.delenv("TAU2_DATA_DIR")
    with pytest.raises(ValueError, match="synth.benchmarks: tau2 needs TAU2_DATA_DIR"):
        similarity.Corpus.read("tau2")
    monkeypatch.setattr(similarity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="synth.benchmarks: bfcl needs the package of requirements-bfcl.txt"):
        similarity.Corpus.read("bfcl")


def test_the_bfcl_that_evaluation_uses_is_the_one_that_is_read():
    backend = pytest.importorskip("envs.official.bfcl_backend", exc_type=ImportError)
    assert similarity.BENCHMARKS["bfcl"]() == backend._DATA
    record = backend.lines("BFCL_v4_multi_turn_base.json")[0]
    (text,) = similarity._texts(backend._DATA / "BFCL_v4_multi_turn_base.json")
    assert record["question"][0][0]["content"] in text


def test_words_shared_with_the_other_split_are_told():
    task = max(TASKS, key=lambda t: len(similarity.prose(t)))
    seen = gates.Seen()
    seen.add(task)
    again = change(task, id="again", policy=f"Otherwise: {task.policy}")
    everything = len(similarity.grams(similarity.prose(task), 13))
    for root, wanted in ((task.root, 0), (task.root.replace("train", "heldout"), everything)):
        assert seen.examine(change(again, root=root))[1]["other_split"] == {"grams": wanted}


def test_what_takes_too_long_or_stands_in_training_too_is_rejected():
    task = max(TASKS, key=lambda t: len(t.oracle))
    turns = len(task.oracle)
    assert gates.Seen(max_turns=turns).examine(task)[0] is None
    assert gates.Seen(max_turns=turns - 1).examine(task)[0] == f"length: the oracle takes {turns} turns of {turns - 1}"
    other = next(t for t in TASKS if t.tree == task.tree and t.domain == task.domain and t.id != task.id)
    for distinct, wanted in ((False, None), (True, "shared_tree: stands in the train split too")):
        seen = gates.Seen(distinct=distinct)
        seen.add(task)
        assert seen.examine(change(other, root=other.root.replace("train", "heldout")))[0] == wanted
        assert seen.examine(other)[0] is None


def test_a_task_whose_tree_fires_another_branch_is_rejected():
    task = first(lambda t: kinds(t) == ["action", "guard", "terminal"] and t.legal)
    field = task.tree["children"][0]["node"]["spec"]["condition"]["field"].split(".")[1]
    collection = domains.DOMAINS[task.domain].record.collection
    if field not in domains.DOMAINS[task.domain].record.fields:
        collection = domains.DOMAINS[task.domain].owner.collection
    state = json.loads(json.dumps(task.state))
    for record in state[collection].values():
        record[field] = "nothing" if isinstance(record[field], str) else 10**6 if "le" in str(task.tree) else -1
    problem = gates.check(change(task, state=state), world.reward)
    assert problem.startswith(f"tree: {task.branch} is not the branch that fires, [")


def test_every_gate_notes_its_figures():
    notes = []
    accepted, _ = gates.select(TASKS[:30], world.reward, gates.Seen(max_turns=12), notes.append)
    assert [n["id"] for n in notes] == [t.id for t in TASKS[:30]] and len(accepted) == 30
    for task, note in zip(TASKS, json.loads(json.dumps(notes))):
        assert note["oracle"] == [1.0, 1.0] and note["problem"] is None and note["turns"] == len(task.oracle)
        assert all(value < 1 for value in note["adversaries"].values()) and len(note["adversaries"]) >= 7
        spoken = [s for s in task.oracle if s.get("say") not in ("Done.", "Sorry, declined.", "Left as it is.")]
        assert note["mutants"] == {"made": len(spoken), "survived": []}
        if note["twin"]:
            assert note["twin"]["own"] == 1.0 and max(note["twin"]["here"], note["twin"]["there"]) < 1


def test_an_expansion_that_loses_a_branch_is_found():
    flows = workflow.roots("train", 12, domains.select("all"), 0)
    for _ in range(3):
        grown = selection.grow(flows, {}, operators.select("all"), selection.Selection(), 0)
        assert gates.replay_failures(flows, grown, world.reward, 0) == {}
        before, flows = flows, grown
    expanded = next(w for w in grown if len(tree.branches(w.tree)) > 2)
    stump = dataclasses.replace(expanded, tree=workflow.linear(expanded.spec))
    assert list(gates.replay_failures(before, [stump], world.reward, 0)) == [stump.id]
    assert "earns 0.5" in gates.replay_failures(before, [expanded], lambda *a: 0.5, 0)[expanded.id]
