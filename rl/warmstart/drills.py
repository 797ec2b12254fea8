"""Drills: the skills that a transcript needs, repeated many times in few tokens, for a model with random weights.

A small model has to learn to copy the value that follows a key, and to check a value against a rule. It learns each of
them suddenly, and only after about ten thousand examples (figures in benchmarks/RESULTS.md). A transcript has only a
few examples in hundreds of tokens. Pretrained checkpoints do not need drills.

Every drill depends only on (seed, index), and is worded nearly like the tasks.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence

from envs import actors
from envs.base import Score
from model.text.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from synth import personas
from synth.inversion import dialect, invert
from synth.trees import domains, expr
from synth.trees.domains import Domain, Entity
from synth.trees.workflow import Workflow

Text = tuple[str, list[tuple[int, int]]]  # (text, the character spans that the loss is on)

# Matches, in answers: the values, the outcome of a failed rule, and the verdict.
_ANSWERS = re.compile(r'(?<=": ")\w+|(?<=is ")\w+|\d+|(?<=else )\w+|\w+(?=\.)')
_VERDICTS = re.compile(r"\w+(?=\.)")


def comparisons(chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int, numbers: float) -> Trajectory:
    """Checks of random values, as many as fit into `length` tokens. The loss is on the verdicts only.

    With other tokens in the loss, or before the model can copy, verdicts stay at chance level for thousands of steps.
    numbers: the share of checks that are forced to be about numbers, which take longer to learn than words. Raises
    ValueError if not even one check fits.
    """

    def text(domain: Domain, rng: random.Random) -> Text:
        of_numbers = rng.random() < numbers
        entity = domain.record if of_numbers else rng.choice((domain.record, domain.owner))
        conditions = domains.guard_candidates(domain, entity, set(), rng)
        condition = next((c for c in conditions if isinstance(c["value"], int) or not of_numbers), conditions[0])
        check = _check(entity, condition, rng.random() < 0.5, rng)[0] + " "
        return check, [found.span() for found in _VERDICTS.finditer(check)]

    return _filled(f"comparisons/{index}", text, chosen, chat, length, random.Random(f"{seed}/comparisons/{index}"))


def checks(chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int) -> Trajectory:
    """Rules, a record, and the check of every field, as many as fit into `length` tokens. The loss is on the copied
    values, the outcomes and the verdicts. Raises ValueError if not even one text fits."""

    def text(domain: Domain, rng: random.Random) -> Text:
        record: dict[str, object] = {}
        rules, answers = [], []
        for entity, (name,) in zip((domain.record, domain.owner), domains.draw_ids(1, rng)):
            record[entity.key] = name
            answers.append(f'"{entity.key}": "{name}".')
            for condition in domains.guard_candidates(domain, entity, set(), rng):
                check, value, outcome = _check(entity, condition, rng.random() < 0.5, rng)
                record[_field(condition)] = value
                rules.append(f"Only if {expr.render(condition)}, else {outcome}.\n")
                answers.append(check)
        return _told("".join(rng.sample(rules, len(rules))), record, answers, rng)

    return _filled(f"checks/{index}", text, chosen, chat, length, random.Random(f"{seed}/checks/{index}"))


def copies(chosen: Sequence[Domain], chat: Chat, length: int, seed: int, index: int) -> Trajectory:
    """Identifiers and choices as JSON and then one by one, as many as fit into `length` tokens. The loss is on the
    values that are repeated. Raises ValueError if not even one text fits."""

    def text(domain: Domain, rng: random.Random) -> Text:
        (record_id,), (owner_id,) = domains.draw_ids(1, rng)
        pairs: dict[str, object] = {domain.record.key: record_id, domain.owner.key: owner_id}
        pairs |= {action.slot: rng.choice(action.choices) for action in domain.actions}
        return _told("", pairs, [f'"{key}": "{value}".' for key, value in pairs.items()], rng)

    return _filled(f"copies/{index}", text, chosen, chat, length, random.Random(f"{seed}/copies/{index}"))


def exercise(workflows: Sequence[Workflow], chat: Chat, seed: int, index: int) -> Trajectory:
    """A short conversation with all skills of a transcript: it reads both records, checks rules on all their fields,
    and makes the call that follows.

    Unlike in a transcript, only the write tool is listed, a failed rule does not end the work, and the last rule alone
    decides on the call.
    """
    rng = random.Random(f"{seed}/exercise/{index}")
    workflow = rng.choice(workflows)
    domain, action = workflow.spec, workflow.action
    (record_id,), (owner_id,) = domains.draw_ids(1, rng)
    record = domains.draw_record(domain.record, record_id, rng)
    owner = domains.draw_record(domain.owner, owner_id, rng)
    policy, found = [], {}
    for entity, values in ((domain.record, record), (domain.owner, owner)):
        conditions, found[entity.kind] = domains.guard_candidates(domain, entity, set(), rng), []
        for condition in conditions:
            # The last rule on the record always holds, because the next step is to read the owner.
            holds = rng.random() < 0.5 or (entity is domain.record and condition is conditions[-1])
            check, values[_field(condition)], outcome = _check(entity, condition, holds, rng)
            policy.append(invert.rule_text(workflow, condition, outcome, entity is domain.owner))
            found[entity.kind].append(check)
    choice = rng.choice(action.choices)
    if holds:  # the last value from the loop above: whether the last rule holds
        args = {domain.record.key: record_id, action.copied: record[action.copied], action.slot: choice}
        decision = {"call": domain.write_tool(action), "args": args}
    else:
        decision = {"call": outcome, "args": {"reason": _field(condition)}}
    persona = rng.choice(personas.personas(workflow.split))
    said = {kind: " ".join(texts) for kind, texts in found.items()}
    steps = [
        {"call": domain.record.read_tool, "args": {domain.record.key: record_id}, "say": ""},
        {"call": domain.owner.read_tool, "args": {domain.owner.key: owner_id}, "say": said[domain.record.kind]},
        {**decision, "say": said[domain.owner.kind]},
    ]
    answers = [{domain.record.key: record_id, domain.owner.key: owner_id, **record}, owner]
    messages = [
        {"role": "system", "content": "\n".join(policy)},
        {"role": "user", "content": persona.ask(action.verb, domain.record.kind, record_id, {action.slot: choice})},
        actors.to_message(steps[0], 0),
    ]
    for turn, (answer, step) in enumerate(zip(answers, steps[1:])):
        messages.append({"role": "tool", "tool_call_id": f"call_{turn}_0", "content": json.dumps(answer)})
        messages.append(actors.to_message(step, turn + 1))
    schemas, _ = domains.tool_specs(domain, action, [])
    tools = [schema for schema in schemas if schema["function"]["name"] == domain.write_tool(action)]
    return _trajectory(f"exercise/{index}", *chat.encode(messages, tools), messages)


def _field(condition: expr.Expr) -> str:
    """The name of the field that a rule is about."""
    return condition["field"].split(".")[1]


def _check(entity: Entity, condition: expr.Expr, holds: bool, rng: random.Random) -> tuple[str, object, str]:
    """(text of the check, the value, the outcome if the check fails) for a random value. holds: whether the value is to
    meet the condition."""
    values = [v for v in entity.fields[_field(condition)] if expr.holds(condition, {condition["field"]: v}) == holds]
    value, outcome = rng.choice(values), rng.choice(("decline", "transfer"))
    return dialect.check_text(condition, value, holds, outcome), value, outcome


def _told(rules: str, record: dict[str, object], answers: list[str], rng: random.Random) -> Text:
    """The rules, then the record with its keys in random order, then the answers in random order. The loss is on the
    answers' parts that _ANSWERS matches."""
    told = rules + json.dumps(dict(rng.sample(list(record.items()), len(record)))) + "\n"
    text = told + " ".join(rng.sample(answers, len(answers))) + "\n"
    return text, [found.span() for found in _ANSWERS.finditer(text, len(told))]


def _filled(
    name: str,
    text: Callable[[Domain, random.Random], Text],
    chosen: Sequence[Domain],
    chat: Chat,
    length: int,
    rng: random.Random,
) -> Trajectory:
    """Texts, each of a random domain, one after the other, as many as fit into `length` tokens.

    Raises ValueError if not even one fits.
    """
    tokens: list[int] = []
    mask: list[int] = []
    while True:
        part, spans = text(rng.choice(chosen), rng)
        encoded = chat.tokenizer(part, return_offsets_mapping=True)
        if len(tokens) + len(encoded["input_ids"]) > length:
            if not tokens:
                raise ValueError(f"rl.row_length: the drill {name} does not fit into half of it, {length} tokens")
            return _trajectory(name, tokens, mask, [])
        tokens += encoded["input_ids"]
        # A token counts by its last character, since a word's token may begin with the space before the word.
        mask += [int(any(a < end <= b for a, b in spans)) for _, end in encoded["offset_mapping"]]


def _trajectory(name: str, tokens: list[int], loss_mask: list[int], messages: list[dict]) -> Trajectory:
    """A Trajectory record for tokens that do not come from an episode."""
    nothing = Score(1.0, {}, [])
    return Trajectory(name, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, nothing, messages, [], 1)
