"""Demonstrations: transcripts of scripted agents, careful or sloppy, as trajectories that SFT trains on.

A demonstration is a function of (seed, index): a root of the given split, grown by a random number of operators, one of
its branches, and an agent whose decisions go wrong at the given rates. For the shipped base this is what pretraining
is to a real Qwen: it shows every behaviour the tasks need, and sloppy ones beside them.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Sequence

from envs import actors, world
from envs.base import Score
from model.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth import domains, expr, generate, invert, operators, personas, script, tree
from synth.domains import Domain
from synth.operators import Operator
from synth.task import Task
from synth.workflow import Workflow

# In a check: the values, what follows if the rule fails, and the verdict.
_ANSWERS = re.compile(r'(?<=": ")\w+|(?<=is ")\w+|\d+|(?<=else )\w+|\w+(?=\.)')

FLAWS = ("skip_read", "misjudge", "skip_ask", "skip_confirm", "refuse", "swap_control", "quit")


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


def draw_task(
    workflows: Sequence[Workflow], chosen: Sequence[Operator], max_growth: int, seed: int, index: int
) -> Task:
    """The task of demonstration `index`: a workflow grown 0 to `max_growth` times, legal and illegal branches alike."""
    rng = random.Random(f"{seed}/demonstration/{index}")
    workflow = rng.choice(workflows)
    for _ in range(rng.randint(0, max_growth)):
        options = [o for o in chosen if o.applies(workflow)]
        if options:
            workflow = operators.expand(workflow, rng.choice(options), rng.randrange(2**32))
    legal = rng.random() < 0.5
    choices = tree.branches(workflow.tree)
    branch = rng.choice([b for b in choices if generate.is_legal(b) == legal] or choices)
    return invert.invert(workflow, branch, index, seed)


def comparison(
    chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int, numbers: float = 0.0
) -> Trajectory:
    """Checks of random values, one after the other, at most `length` tokens; the loss is on the verdicts alone.

    Whether a value is what a rule asks for is learned all at once, after some ten thousand verdicts and hardly before,
    and sooner where nothing else is learned beside it. `numbers` is the share of checks that must be of numbers,
    which take far longer than words.
    """
    rng = random.Random(f"{seed}/comparison/{index}")
    verdicts = {chat.tokenizer.encode(text)[1] for text in (": yes.", ": no.")}
    tokens: list[int] = []
    while True:
        domain = rng.choice(chosen)
        conditions = domains.guard_candidates(domain, rng.choice((domain.record, domain.owner)), set(), rng)
        if rng.random() < numbers:
            candidates = domains.guard_candidates(domain, domain.record, set(), rng)
            conditions = [c for c in candidates if isinstance(c["value"], int)] or conditions
        condition = conditions[0]
        more = chat.tokenizer.encode(_check(domain, condition, rng)[0] + " ")
        if len(tokens) + len(more) > length:
            break
        tokens += more
    return _bare(f"comparison/{index}", tokens, [int(token in verdicts) for token in tokens], [])


def _check(domain: Domain, condition: expr.Expr, rng: random.Random) -> tuple[str, object, str]:
    """(the check of a random value that meets the condition as often as not, the value, what follows if it does not)."""
    reference, outcome, wanted = condition["field"], rng.choice(("decline", "transfer")), rng.random() < 0.5
    value = rng.choice([v for v in domain.values()[reference] if expr.holds(condition, {reference: v}) == wanted])
    return script.check_text(condition, value, wanted, outcome), value, outcome


def drill(chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int) -> Trajectory:
    """Rules, a record and the checks, again and again, at most `length` tokens; the loss is on what needs thought.

    Copying what follows a key is learned all at once, after some ten thousand examples and hardly before; here they
    are cheap. Every second drill is of identifiers and choices, which the checks are not about.
    """
    rng = random.Random(f"{seed}/drill/{index}")
    tokens: list[int] = []
    mask: list[int] = []
    while True:
        text, spans = (_copies_text if index % 2 else _drill_text)(rng.choice(chosen), rng)
        encoded = chat.tokenizer(text, return_offsets_mapping=True)
        if len(tokens) + len(encoded["input_ids"]) > length:
            break
        tokens += encoded["input_ids"]
        # By its last character, since a word's token may begin with the space before it.
        mask += [int(any(a < end <= b for a, b in spans)) for _, end in encoded["offset_mapping"]]
    return _bare(f"drill/{index}", tokens, mask, [])


def _copies_text(domain: Domain, rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """(identifiers and choices as JSON and then one by one, the character spans of the latter)."""
    (record_id,), (owner_id,) = domains.draw_ids(1, rng)
    pairs = {domain.record.key: record_id, domain.owner.key: owner_id}
    pairs |= {action.slot: rng.choice(action.choices) for action in domain.actions}
    told = json.dumps(dict(rng.sample(list(pairs.items()), len(pairs)))) + "\n"
    text = told + " ".join(f'"{key}": "{pairs[key]}".' for key in rng.sample(list(pairs), len(pairs))) + "\n"
    return text, [found.span() for found in _ANSWERS.finditer(text, len(told))]


def _drill_text(domain: Domain, rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """(rules, a record and its checks, the character spans of the values, outcomes and verdicts in the checks)."""
    record: dict[str, object] = {}
    rules, checks = [], []
    for entity, (name,) in zip((domain.record, domain.owner), domains.draw_ids(1, rng)):
        record[entity.key] = name
        checks.append(f'"{entity.key}": "{record[entity.key]}".')
        for condition in domains.guard_candidates(domain, entity, set(), rng):
            check, value, outcome = _check(domain, condition, rng)
            record[condition["field"].split(".")[1]] = value
            rules.append(f"Only if {expr.render(condition)}, else {outcome}.\n")
            checks.append(check)
    rng.shuffle(rules)
    rng.shuffle(checks)
    told = "".join(rules) + json.dumps(dict(rng.sample(list(record.items()), len(record)))) + "\n"
    text = told + " ".join(checks) + "\n"
    return text, [found.span() for found in _ANSWERS.finditer(text, len(told))]


def exercise(workflows: Sequence[Workflow], chat: Chat, seed: int, index: int) -> Trajectory:
    """Every skill of a transcript in few tokens: both records read, rules on every field, the call that follows.

    Joining a record with a rule, and copying what is rare (the owner's identifier, the detail the user chose), take a
    small model longest, and a transcript holds one or none in hundreds of tokens. Here only the write is listed among
    the tools, a failed rule does not end the work, and the last rule decides. All else is worded as in the tasks.
    """
    rng = random.Random(f"{seed}/exercise/{index}")
    workflow = rng.choice(workflows)
    domain, action = workflow.spec, workflow.action
    (record_id,), (owner_id,) = domains.draw_ids(1, rng)
    record = domains.draw_record(domain.record, record_id, rng)
    owner = domains.draw_record(domain.owner, owner_id, rng)
    policy, checks, last = [], {}, {}
    for entity, found in ((domain.record, record), (domain.owner, owner)):
        conditions = domains.guard_candidates(domain, entity, set(), rng)
        checks[entity.kind] = []
        for condition in conditions:
            reference, outcome = condition["field"], rng.choice(("decline", "transfer"))
            name = reference.split(".")[1]
            # A failed last rule on the record would end the work before the owner is read.
            holds = rng.random() < 0.5 or (entity is domain.record and condition is conditions[-1])
            values = entity.fields[name]
            found[name] = rng.choice([v for v in values if expr.holds(condition, {reference: v}) == holds])
            policy.append(invert.rule_text(workflow, condition, outcome, entity is domain.owner))
            checks[entity.kind].append(script.check_text(condition, found[name], holds, outcome))
            last = {"holds": holds, "outcome": outcome, "reason": name}
    choice = rng.choice(action.choices)
    persona = rng.choice(personas.personas(workflow.split))
    if last["holds"]:
        args = {domain.record.key: record_id, action.copied: record[action.copied], action.slot: choice}
        decision = {"call": domain.write_tool(action), "args": args}
    else:
        decision = {"call": last["outcome"], "args": {"reason": last["reason"]}}
    steps = [
        {"call": domain.record.read_tool, "args": {domain.record.key: record_id}, "say": ""},
        {"call": domain.owner.read_tool, "args": {domain.owner.key: owner_id}, "say": " ".join(checks[domain.record.kind])},
        {**decision, "say": " ".join(checks[domain.owner.kind])},
    ]
    answers = [{domain.record.key: record_id, domain.owner.key: owner_id, **record}, owner]
    messages = [
        {"role": "system", "content": "\n".join(policy)},
        {"role": "user", "content": persona.ask(action.verb, domain.record.kind, record_id, {action.slot: choice})},
    ]
    for turn, step in enumerate(steps):
        messages.append(actors.to_message(step, turn))
        if turn < len(answers):
            messages.append({"role": "tool", "tool_call_id": f"call_{turn}_0", "content": json.dumps(answers[turn])})
    return _bare(f"exercise/{index}", *chat.encode(messages, _write_only(workflow)), messages)


def _write_only(workflow: Workflow) -> list[dict]:
    """The schema of the workflow's write."""
    schemas, _ = domains.tool_specs(workflow.spec, workflow.action, [])
    return [s for s in schemas if s["function"]["name"] == workflow.spec.write_tool(workflow.action)]


def _bare(name: str, tokens: list[int], loss_mask: list[int], messages: list[dict]) -> Trajectory:
    """A record of tokens that no episode stands behind."""
    nothing = Score(1.0, {}, [])
    return Trajectory(name, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, nothing, messages, [], 1)


def demonstrate(task: Task, rates: dict[str, float], chat: Chat, seed: int) -> Trajectory:
    """Plays a task with an agent of the given flaw rates (none: the oracle) and records it token by token."""
    case = script.Case.of(task)
    fields = tuple(reference.split(".")[1] for reference in case.values)
    judge = script.Sloppy(random.Random(f"{seed}/judge/{task.id}"), fields, **rates)
    steps = script.walk(tree.from_dict(task.tree), case, judge)
    messages, score = asyncio.run(actors.play(world.make(task), actors.scripted(steps)))
    tokens, loss_mask = chat.encode(messages, task.tools)
    turns = sum(m["role"] == "assistant" for m in messages)
    return Trajectory(
        task.id, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, score, messages, task.tools, turns
    )
