"""Every operator: what it makes of tree, state, user and rubric, in worlds that carry it out."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import world
from synth import operators
from synth.gating import gates, twin
from synth.inversion import invert
from synth.trees import domains, expr, tree, workflow
from tests.support.worlds import call, play, reward, say, steps_of

ROOTS = workflow.roots("train", 24, domains.select("all"), 0)


def grown(names, index=0, seed=0):
    """A root after these operators in turn."""
    flow = ROOTS[index]
    for name in names.split(","):
        flow = operators.expand(flow, operators.OPERATORS[name], seed)
    return flow


def inverted(flow, variant=0):
    return [invert.invert(flow, branch, variant, 0) for branch in tree.branches(flow.tree)]


def task_of(names, *edges, index=0):
    """The task of the first branch that takes all of these (kind, edge) steps."""
    flow = grown(names, index)
    branches = tree.branches(flow.tree)
    wanted = next(b for b in branches if set(edges) <= {(node.kind, edge) for node, edge in b})
    return invert.invert(flow, wanted, 0, 0)


def outcome(task):
    """Name and arguments of the oracle's last call."""
    return next((step["call"], step["args"]) for step in reversed(task.oracle) if "call" in step)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(ROOTS) - 1), st.lists(st.integers(0, 13), min_size=1, max_size=7), st.integers(0, 99))
def test_every_growth_gives_tasks_that_pass_every_gate(index, choices, seed):
    flow = ROOTS[index]
    for choice in choices:
        options = [o for o in operators.OPERATORS.values() if o.applies(flow)]
        if not options:
            break
        before, operator = flow, options[choice % len(options)]
        flow = operators.expand(flow, operator, seed)
        assert flow.tree != before.tree and tree.number(flow.tree) == flow.tree
        assert tree.from_dict(json.loads(json.dumps(tree.to_dict(flow.tree)))) == flow.tree
        assert len(tree.branches(flow.tree)) >= len(tree.branches(before.tree))
    branches = tree.branches(flow.tree)
    for branch in random.Random(seed).sample(branches, min(3, len(branches))):
        task = invert.invert(flow, branch, 0, seed)
        problem, figures = gates.examine(task, world.reward)
        assert problem is None, (task.id, problem)
        assert figures["oracle"] == [1.0, 1.0] and max(figures["adversaries"].values()) < 1


def test_each_operator_says_when_it_no_longer_applies():
    once = {"missing", "confirm", "escalate", "exception", "misdirect", "amend", "transient", "ambiguous", "boundary",
            "hop", "multi", "horizon"}  # fmt: skip
    for name in once:
        # A rule that ends in a decline, for those that need one.
        flow = next(f for seed in range(9) if outcome_of_rule(f := grown("guard", 3, seed)) == "decline")
        flow = operators.expand(flow, operators.OPERATORS[name], 0)
        assert not operators.OPERATORS[name].applies(flow), name
        with pytest.raises(ValueError, match=f"{name} does not apply"):
            operators.expand(flow, operators.OPERATORS[name], 0)
    assert once | {"guard", "hidden", "choose", "tell"} == set(operators.OPERATORS)  # the last two are for businesses
    assert not operators.OPERATORS["exception"].applies(ROOTS[0]), "there is no rule to make one from"
    assert not operators.OPERATORS["misdirect"].applies(ROOTS[0]), "there is nothing to claim"


def outcome_of_rule(flow):
    return next(n.spec["otherwise"] for n in tree.nodes(flow.tree) if n.kind == "guard")


def test_boundary_states_lie_at_the_limit_or_right_beside_it():
    seen = Counter()
    for seed in range(12):
        flow = grown("boundary", index=seed % len(ROOTS), seed=seed)
        rule = next(n.spec["condition"] for n in tree.nodes(flow.tree) if n.kind == "guard")
        entity, name = flow.spec.record, rule["field"].split(".")[1]
        for task in inverted(flow):
            value = task.state[entity.collection][task.user["record_id"]][name]
            assert abs(value - rule["value"]) <= 10
            assert expr.holds(rule, {rule["field"]: value}) == task.legal
            seen[rule["op"], value - rule["value"]] += 1
    assert {op for op, _ in seen} == {"le", "ge", "lt", "gt"}
    assert {(op, at) for op, at in seen if at == 0} == {("le", 0), ("ge", 0), ("lt", 0), ("gt", 0)}


def test_an_urgent_rule_comes_first_and_overrules_the_others():
    both = 0
    for index in range(8):
        flow = grown("guard,escalate", index)
        first = flow.tree.child("done")
        assert first.spec["urgent"] and first.child("fails").spec["outcome"] == "transfer"
        assert invert.policy_text(flow).split("\n")[1].startswith("Before all else: ")
        rule = first.child("holds").spec["condition"]
        for variant in range(4):
            task = next(t for t in inverted(flow, variant) if len(t.branch) == 3)
            record = task.state[flow.spec.record.collection][task.user["record_id"]]
            both += not expr.holds(rule, {rule["field"]: record[rule["field"].split(".")[1]]})
            assert outcome(task) == ("transfer", {"reason": first.spec["condition"]["field"].split(".")[1]})
    assert both > 4, "the other rule should sometimes fail as well"


def test_an_exception_excuses_a_failed_rule():
    flow = grown("guard,exception", index=2)
    rule = flow.tree.child("done")
    excuse = rule.child("fails")
    by_path = {tuple(edge for _, edge in b): t for b, t in zip(tree.branches(flow.tree), inverted(flow))}
    assert set(by_path) == {("done", "holds", ""), ("done", "fails", "holds", ""), ("done", "fails", "fails", "")}
    assert [by_path[path].legal for path in sorted(by_path)] == [False, True, True]
    name = rule.spec["condition"]["field"].split(".")[1]
    assert outcome(by_path["done", "fails", "fails", ""]) == (rule.spec["otherwise"], {"reason": name})
    assert f'Exempt from "{name}": {expr.render(excuse.spec["condition"])}.' in invert.policy_text(flow).split("\n")
    excused = by_path["done", "fails", "holds", ""]
    refusal = call((rule.spec["otherwise"], {"reason": name}))
    assert reward(excused, [steps_of(excused)[0], refusal, say("Sorry.")]) == 0.0


def test_the_deciding_field_lies_one_lookup_beyond_the_owner():
    for task in inverted(grown("hop", index=4)):
        domain = domains.DOMAINS[task.domain]
        reads = [step["call"] for step in task.oracle if step.get("call", "").startswith("get_")]
        assert reads == [entity.read_tool for entity in domain.entities]
        owner = task.state[domain.owner.collection][json.loads(read_first(task))[domain.owner.key]]
        assert owner[domain.link.key] in task.state[domain.link.collection]
        assert not task.policy.count(owner[domain.link.key])


def read_first(task):
    """What the first read answers."""
    return play(task, steps_of(task)[:1])[1][0][0]["content"]


def test_misdirection_claims_insists_and_pleads():
    flow = next(f for i in range(20) if outcome_of_rule(f := grown("guard", i)) == "decline")
    flow = operators.expand(flow, operators.OPERATORS["misdirect"], 0)
    legal, lie = inverted(flow)
    rule = flow.tree.child("done").spec["condition"]
    for task in (legal, lie):
        name, value = task.user["request"].split("The ")[-1].rstrip(".").split(" is ")
        record = task.state[flow.spec.record.collection][task.user["record_id"]]
        field = name.strip('"')
        assert expr.holds(rule, {rule["field"]: json.loads(value)}), "the user always claims what the rule asks for"
        assert (record[field] == json.loads(value)) == (task is legal)
    messages, score = world.play_steps(lie, lie.oracle)
    said = [m["content"] for m in messages if m["role"] == "user"][1:]
    assert said == lie.user["insists"] and len(said) == 2 and score.reward == 1.0
    read, refusal, sorry, *_ = steps_of(lie)
    write = steps_of(legal)[1]["tool_calls"][0]["function"]
    given_in = json.loads(write["arguments"])
    given_in |= {flow.spec.record.key: lie.user["record_id"]}
    assert reward(lie, [read, refusal, sorry, sorry, call((write["name"], given_in)), sorry]) == 0.0


def test_a_write_without_an_answer_is_looked_into_and_never_made_twice():
    for edge, rewarded in {"done": ("w", "wr"), "failed": ("wrw",), "lost": ("wr",), "down": ("wrwt",)}.items():
        task = task_of("transient", ("attempt", edge))
        read, write = steps_of(task)[:2]
        parts = {"r": read, "w": write, "t": call(("transfer", {"reason": "unavailable"}))}
        for tries in ("w", "ww", "wr", "wrw", "wrww", "wrwrw", "wt", "wrt", "wwt", "wrwt", "wrwrwt", "t"):
            messages = [read, *(parts[letter] for letter in tries), say("Done."), say("Done.")]
            assert (reward(task, messages) == 1.0) == (tries in rewarded), (edge, tries)
    lost = task_of("transient", ("attempt", "lost"))
    score, answers = play(lost, steps_of(lost))
    assert json.loads(answers[1][0]["content"]) == {"error": "no answer"} and len(score.delta) == 2
    again = play(task_of("transient", ("attempt", "failed")), steps_of(lost)[:2])[1]
    assert json.loads(again[1][0]["content"]) != {"ok": True}, "the answer does not tell a lost write from a failed one"


def test_the_owner_of_two_records_is_asked_which():
    one, several = (task_of("ambiguous", ("find", edge)) for edge in ("one", "several"))
    domain = domains.DOMAINS[one.domain]
    for task, count in ((one, 1), (several, 2)):
        found = json.loads(read_first(task))[domain.record.collection]
        assert len(found) == count and task.user["record_id"] in found
        assert f'"{task.user["record_id"]}"' not in task.user["request"]
    find, ask, *rest = steps_of(several)
    assert reward(several, [find, ask, *rest]) == 1.0
    assert reward(several, [find, *rest]) == 0.0  # the right one by luck
    other = [f"{r}" for r in json.loads(read_first(several))[domain.record.collection]]
    other.remove(several.user["record_id"])
    swapped = json.loads(json.dumps(rest).replace(several.user["record_id"], other[0]))
    assert reward(several, [find, ask, *swapped]) == 0.0
    assert reward(one, steps_of(one)) == 1.0


def test_consent_may_come_with_a_change():
    task = task_of("amend", ("review", "amended"))
    ((slot, changed),) = task.user["amends"].items()
    assert outcome(task)[1][slot] == changed != task.user["slots"][slot]
    read, ask, write, done = steps_of(task)
    stubborn = json.loads(write["tool_calls"][0]["function"]["arguments"]) | task.user["slots"]
    assert reward(task, [read, ask, call((outcome(task)[0], stubborn)), done]) == 0.0
    accepted, refused = (task_of("amend", ("review", edge)) for edge in ("accepted", "refused"))
    assert outcome(accepted)[1][slot] == accepted.user["slots"][slot]
    assert outcome(refused)[0].startswith("get_")


@pytest.mark.parametrize(("name", "count"), [("multi", 2), ("horizon", 3)])
def test_several_goals_in_one_conversation(name, count):
    flow = next(f for i in range(20) if outcome_of_rule(f := grown("guard", i)) == "decline")
    flow = operators.expand(flow, operators.OPERATORS[name], 0)
    tasks = inverted(flow)
    kinds = {tuple(tree.outcomes(b)) for b in tree.branches(flow.tree)}
    assert len(kinds) == 2**count and {("write", "decline"), ("decline", "write")} <= {kind[:2] for kind in kinds}
    for task in tasks:
        ids = [task.user["record_id"], *(goal["record_id"] for goal in task.user["later"])]
        assert len(set(ids)) == count
        assert all((f'"{i}"' in task.user["request"]) == (name == "multi" or i == ids[0]) for i in ids)
        messages, score = world.play_steps(task, task.oracle)
        assert score.reward == 1.0
        said = [m["content"] for m in messages if m["role"] == "user"]
        assert said[1:] == [goal["request"] for goal in task.user["later"] if name == "horizon"]
        assert {path.split("/")[1] for path in score.delta} <= set(ids)
    mixed = next(t for t in tasks if not t.legal and any(s.get("call") == "decline" for s in t.oracle))
    steps = [s for s in mixed.oracle if s.get("call") != "decline"]
    assert world.reward(mixed, steps) < 1, "the illegal part must be refused, not passed over"
    wrong = json.loads(json.dumps(mixed.oracle))
    refusal = next(s for s in wrong if s.get("call") == "decline")
    legal = [i for i in (mixed.user["record_id"], mixed.user["later"][0]["record_id"])
             if i != refusal["args"][flow.spec.record.key]]  # fmt: skip
    refusal["args"][flow.spec.record.key] = legal[0]
    assert world.reward(mixed, wrong) == 0.0, "the wrong one refused"


def test_a_detail_that_has_been_said_is_carried_over():
    flow = grown("missing,horizon")
    task = next(t for t in inverted(flow) if t.user["withheld"])
    ((slot, value),) = task.user["slots"].items()
    asked = [s for s in task.oracle if "call" not in s and "?" in s["say"]]
    assert len(asked) == 1 and sum(s.get("args", {}).get(slot) == value for s in task.oracle) == 3
    assert all("the same way" in goal["request"] and value not in goal["request"] for goal in task.user["later"])


def test_the_policy_text_does_not_tell_the_branch():
    rng = random.Random(0)
    for index in range(8):
        flow = ROOTS[index]
        for _ in range(5):
            options = [o for o in operators.OPERATORS.values() if o.applies(flow)]
            flow = operators.expand(flow, rng.choice(options), 0)
        tasks = inverted(flow)[:60]
        assert len({(t.policy, json.dumps(t.tools)) for t in tasks}) == 1
        ids = {i for task in tasks for collection in task.state.values() for i in collection}
        assert not ids & set(tasks[0].policy.replace('"', " ").split())


def test_twins_differ_in_one_field_and_want_the_opposite():
    fields, seen = Counter(), 0
    for name in ("guard", "hidden", "hop", "boundary", "guard,exception", "guard,multi", "confirm", "transient"):
        for task in inverted(grown(name, index=5)):
            other = twin.twin(task)
            assert other is not None, task.id
            seen += 1
            delta = world.state_delta(task.state, other.state)
            changed = [task.user["accepts"] != other.user["accepts"], task.effects != other.effects]
            assert len(delta) + sum(changed) == 1
            fields["state" if delta else "other"] += 1
            assert task.legal != other.legal or len(task.user.get("later", ())) > 0
            assert (world.reward(task, task.oracle), world.reward(other, other.oracle)) == (1.0, 1.0)
            assert world.reward(task, other.oracle) < 1 and world.reward(other, task.oracle) < 1
    assert seen >= 20 and fields["state"] > fields["other"] > 3
    assert twin.twin(inverted(ROOTS[0])[0]) is None


def decisions(messages):
    made = [c["function"] for m in messages for c in m.get("tool_calls", ())]
    made = [(f["name"], f["arguments"]) for f in made if not f["name"].startswith(("get_", "find_"))]
    return Counter(made)


def test_no_scrambled_oracle_is_paid_in_full_for_other_decisions():
    """Dropped, repeated, moved and merged steps: full pay only for exactly the oracle's writes and refusals."""
    rng, paid = random.Random(0), 0
    chains = ("transient", "ambiguous", "amend", "hop,misdirect", "guard,multi", "guard,confirm,horizon",
              "missing,escalate,transient", "guard,exception,ambiguous")  # fmt: skip
    tasks = [t for i, names in enumerate(chains) for t in inverted(safe(names, i))[:12]]
    for task in tasks:
        for _ in range(12):
            messages = steps_of(task)
            for _ in range(rng.randint(1, 3)):
                at, to = rng.randrange(len(messages)), rng.randrange(len(messages))
                change = rng.choice(("drop", "repeat", "move", "merge"))
                if change == "drop" and len(messages) > 1:
                    messages.pop(at)
                elif change == "repeat":
                    messages.insert(to, messages[at])
                elif change == "move":
                    messages.insert(to, messages.pop(at))
                elif at + 1 < len(messages) and messages[at].get("tool_calls"):
                    calls = messages[at]["tool_calls"] + messages[at + 1].get("tool_calls", [])
                    messages[at : at + 2] = [{**messages[at], "tool_calls": calls}]
            score, answers = play(task, [*messages, *[say("Done.")] * 3])
            if score.reward == 1.0:
                paid += 1
                wanted, got = decisions(steps_of(task)), decisions(messages[: len(answers)])
                exact = "attempt" in {n["kind"] for n in nodes(task.tree)}
                assert got == wanted if exact else set(got) == set(wanted), (task.id, messages)
    assert paid > 30


def nodes(root):
    yield root
    for child in root["children"]:
        yield from nodes(child["node"])


def safe(names, index):
    """As `grown`, leaving out what does not apply there."""
    flow = ROOTS[index]
    for name in names.split(","):
        if operators.OPERATORS[name].applies(flow):
            flow = operators.expand(flow, operators.OPERATORS[name], 0)
    return flow
