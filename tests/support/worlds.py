"""Tasks of every kind of branch, and scripted conversations with their worlds; helper of several tests."""

import asyncio
import json

from envs import actors, world
from rl.warmstart import tiny
from synth import generate, operators
from synth.growth import selection
from synth.trees import domains, workflow

OPERATORS = operators.select("guard,hidden,missing,confirm")  # the others: tests/synth/growth_test.py


def generated(roots, rounds, seed, names=tiny.DOMAINS, chosen=OPERATORS):
    """Ungated tasks of several rounds."""
    flows, found = workflow.roots("train", roots, domains.select(names), seed), []
    for number in range(rounds):
        if number:
            flows = selection.grow(flows, {}, chosen, selection.Selection(), seed)
        found += generate.tasks(flows, 2, 0.5, seed)
    return found


TASKS = generated(roots=20, rounds=5, seed=2)


def kinds(task):
    """Kinds of the nodes on the task's branch."""
    found, nodes = {}, [task.tree]
    while nodes:
        node = nodes.pop()
        found[node["id"]] = node["kind"]
        nodes += [child["node"] for child in node["children"]]
    return [found[node_id] for node_id in task.branch]


def pick(*wanted, legal):
    """The first task whose branch has exactly these kinds of nodes before its leaf."""
    return next(task for task in TASKS if kinds(task)[:-1] == list(wanted) and task.legal == legal)


LINEAR = pick("action", legal=True)
OWNER = pick("action", "action", "guard", legal=True)
ONE_RULE = [t for t in TASKS if kinds(t)[:-1] == ["action", "guard"]]
DECLINE = next(t for t in ONE_RULE if t.oracle[-1].get("say") == "Sorry, declined.")
TRANSFER = next(t for t in ONE_RULE if t.oracle[-1].get("call") == "transfer")
MISSING = next(t for t in TASKS if kinds(t)[:-1] == ["action", "ask"] and t.user["withheld"])
CONSENT = pick("action", "confirm", legal=True)
REFUSED = pick("action", "confirm", legal=False)


def names(task):
    """(read tool, its key, write tool, copied argument, slot, record id, the right arguments of the write)."""
    domain = domains.DOMAINS[task.domain]
    action = next(a for a in domain.actions if a.verb == task.user["verb"])
    record_id = task.user["record_id"]
    copied = task.state[domain.record.collection][record_id][action.copied]
    args = {domain.record.key: record_id, action.copied: copied, action.slot: task.user["slots"][action.slot]}
    record = domain.record
    return record.read_tool, record.key, domain.write_tool(action), action.copied, action.slot, record_id, args


def call(*pairs, say=""):
    """An assistant message of calls: (tool, arguments as a dict or as text)."""
    calls = [
        {"id": f"call_9_{i}", "type": "function",
         "function": {"name": name, "arguments": args if isinstance(args, str) else json.dumps(args)}}
        for i, (name, args) in enumerate(pairs)
    ]  # fmt: skip
    return {"role": "assistant", "content": say, "tool_calls": calls}


def say(text):
    return {"role": "assistant", "content": text}


def steps_of(task):
    """The oracle as assistant messages."""
    return [actors.to_message(step, turn) for turn, step in enumerate(task.oracle)]


def play(task, messages):
    """(score, every answer) of assistant messages played until the episode ends or they do."""

    async def run():
        env, answers = world.make(task), []
        await env.reset()
        for message in messages:
            step = await env.step(message)
            answers.append(step.messages)
            if step.done:
                break
        return await env.score(), answers

    return asyncio.run(run())


def reward(task, messages):
    return play(task, messages)[0].reward


def scrambled(task, rng):
    """The oracle's messages with steps dropped, repeated, moved, merged into one message, and others thrown in."""
    read, key, write, copied, slot, record_id, args = names(task)
    domain = domains.DOMAINS[task.domain]
    fields = [*domain.record.fields, *domain.owner.fields]
    other = next(c for a in domain.actions if a.slot == slot for c in a.choices if c != args[slot])
    extra = [
        call((read, {key: record_id})), call((write, args)), call((write, {**args, slot: other})),
        *(call((control, {"reason": field})) for control in ("decline", "transfer") for field in fields),
        say(f'Please confirm: "{record_id}"?'), say(f'Which "{slot}"?'), say("Done."), say(""),
    ]  # fmt: skip
    messages = steps_of(task)
    for _ in range(rng.randint(1, 4)):
        change, at = rng.choice(("drop", "repeat", "move", "merge", "insert")), rng.randrange(len(messages))
        if change == "drop" and len(messages) > 1:
            messages.pop(at)
        elif change == "repeat":
            messages.insert(rng.randrange(len(messages) + 1), messages[at])
        elif change == "move":
            messages.insert(rng.randrange(len(messages)), messages.pop(at))
        elif change == "merge" and at + 1 < len(messages) and messages[at].get("tool_calls"):
            calls = messages[at]["tool_calls"] + messages[at + 1].get("tool_calls", [])
            messages[at : at + 2] = [{**messages[at], "tool_calls": calls}]
        elif change == "insert":
            messages.insert(at, rng.choice(extra))
    return messages
