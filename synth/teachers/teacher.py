"""Teachers propose domains, wordings and expansions. A teacher writes texts and structure; code decides what is true.

All proposals are checked here, and then go through the same operators, inversion and gates as everything else. If a
model's answers stay malformed, the program's own proposal replaces them, so that no tree is lost. If the endpoint does
not answer at all, the run stops; started again, it continues from the cached answers and arrives at the same trees.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from synth import operators
from synth.business import catalogue
from synth.growth import selection
from synth.growth.selection import Outcome
from synth.inversion import invert, utterances
from synth.operators import Operator
from synth.previews import preview
from synth.task import Task
from synth.teachers import businesses
from synth.teachers.estimate import Estimate
from synth.teachers.llm import Client, Message, Question
from synth.trees import domains
from synth.trees.domains import Action, Domain, Entity
from synth.trees.workflow import Workflow


class Teacher(Protocol):
    """The interface of every teacher.

    A teacher that asks an endpoint raises synth.teachers.llm.NoAnswer where the endpoint, or the cache of a replay,
    gives no answer, and ValueError if the environment names no key.
    """

    def domains(self, count: int) -> list[Domain]:
        """Up to `count` domains to add to the built-in ones."""
        ...

    def businesses(self, count: int) -> list[Domain]:
        """Up to `count` businesses to add to the written and composed ones."""
        ...

    def word(self, workflows: Sequence[Workflow]) -> list[Workflow]:
        """The round-0 workflows with the `wording` of their policy texts filled in; () stands for the built-in one."""
        ...

    def rank(self, trees: Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]) -> Mapping[str, Sequence[str]]:
        """Workflow id -> names of the operators to grow it by, the best first; see selection.Rank."""
        ...

    def expand(self, pairs: Sequence[tuple[Workflow, Operator]], seed: int) -> list[Workflow]:
        """Each workflow grown by its operator."""
        ...

    def speak(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks, with or without a new wording of what their users say."""
        ...

    def spent(self) -> str:
        """The requests and costs so far, in words; "" for a teacher that costs nothing."""
        ...


class Program:
    """The programmatic teacher: built-in domains and wordings, and randomly drawn conditions."""

    def domains(self, count: int) -> list[Domain]:
        """No further domains."""
        return []

    def businesses(self, count: int) -> list[Domain]:
        """No further businesses."""
        return []

    def word(self, workflows: Sequence[Workflow]) -> list[Workflow]:
        """The workflows unchanged, with the built-in wordings, which depend on the root alone."""
        return list(workflows)

    def rank(self, trees: Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]) -> Mapping[str, Sequence[str]]:
        """The empty ranking."""
        return selection.unranked(trees)

    def expand(self, pairs: Sequence[tuple[Workflow, Operator]], seed: int) -> list[Workflow]:
        """Each workflow grown by its operator, with conditions drawn from the seed."""
        return selection.expand(pairs, seed)

    def speak(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks unchanged: they already have the persona's wording."""
        return list(tasks)

    def spent(self) -> str:
        """The empty text, because nothing is spent."""
        return ""


_WORD = {"type": "string", "pattern": "^[a-z]+$", "maxLength": 20}
_WORDS = {"type": "array", "items": _WORD, "minItems": 4, "maxItems": 4, "uniqueItems": True}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _entity(fields: int) -> dict[str, Any]:
    some = {"type": "object", "propertyNames": _WORD, "additionalProperties": _WORDS}
    return _object(kind=_WORD, collection=_WORD, fields={**some, "minProperties": fields, "maxProperties": fields})


_ACTION = _object(verb=_WORD, slot=_WORD, choices={**_WORDS, "minItems": 3, "maxItems": 3})
DOMAIN = _object(
    name=_WORD, record=_entity(3), number=_WORD, owner=_entity(2), link=_entity(2),
    actions={"type": "array", "items": _ACTION, "minItems": 2, "maxItems": 2},
)  # fmt: skip
_TEMPLATE = {"type": "string", "maxLength": 120, "pattern": '^[^"\\n]+$'}
# Template -> its placeholders.
PLACEHOLDERS = {
    "intro": {"domain"}, "rule": {"rule", "outcome"}, "owner_rule": {"owner", "rule", "outcome"}, "consent": set(),
}  # fmt: skip
# Template -> (what it must contain, in words for error messages; as a regular expression). The order of the parts is
# fixed, so that the template cannot mean the opposite.
_RULE = ("{rule}, then 'else' or 'otherwise', then {outcome}", r"\{rule\}.*\b(else|otherwise)\b.*\{outcome\}")
SAID = {"rule": _RULE, "owner_rule": _RULE, "consent": ("'consent'", r"\bconsent\b")}
WORDING = _object(**{name: _TEMPLATE for name in PLACEHOLDERS})
_SYSTEM = {"role": "system", "content": "You design customer-service workflows. You answer with one JSON object."}


class Llm:
    """A language model as teacher; with an Estimate as client, it only counts what the model would cost."""

    def __init__(self, client: Client | Estimate):
        self.client = client
        # Count -> domains, -count -> businesses.
        # Asked only once, because the question names the known domains and so would differ later.
        self._proposed: dict[int, list[Domain]] = {}

    def domains(self, count: int) -> list[Domain]:
        """The domains that the model proposes and that `domains.check` accepts; at most `count`."""
        if count in self._proposed:
            return self._proposed[count]
        found: list[Domain] = []
        for number in range(count):  # one after the other, because each has to differ from those before it
            taken = [*domains.DOMAINS, *(domain.name for domain in found)]
            text = (
                f"Proposal {number + 1}: invent a line of business other than {', '.join(taken)}. A record "
                "(three fields of four words each, and the name of one number) belongs to an owner (two fields), which "
                "is linked to a third kind of record (two fields). Two actions change the record; each needs a detail "
                f"(slot) with three choices. All names are single lower-case words, no two alike. Schema: {DOMAIN}"
            )
            typical = json.dumps(dataclasses.asdict(domains.DOMAINS["orders"]))
            question = Question(_ask(text), DOMAIN, functools.partial(_check_domain, taken), typical)
            found += [_domain(answer) for answer in self.client.ask_all([question]) if answer is not None]
        self._proposed[count] = found
        return found

    def businesses(self, count: int) -> list[Domain]:
        """The businesses that the model proposes and that synth/teachers/businesses.py accepts; at most `count`."""
        if -count in self._proposed:
            return self._proposed[-count]
        found: list[Domain] = []
        for number in range(count):  # one after the other, because each has to differ from those before it
            taken = [*(b.name for b in catalogue.written()), *(domain.name for domain in found)]
            demand = functools.partial(businesses.demand, taken)
            typical = catalogue.written()[0].model_dump_json(by_alias=True, exclude_defaults=True)
            question = Question(_ask(businesses.prompt(number + 1, taken)), businesses.SCHEMA, demand, typical)
            found += [
                businesses.check(taken, answer) for answer in self.client.ask_all([question]) if answer is not None
            ]
        self._proposed[-count] = found
        return found

    def word(self, workflows: Sequence[Workflow]) -> list[Workflow]:
        """The workflows with the model's wording, or the built-in one if the model gave no valid wording.

        Workflows of a business keep its manual's wording.
        """
        questions, tiny = [], [workflow for workflow in workflows if type(workflow.spec) is Domain]
        for workflow in tiny:
            text = (
                f"Word the policy of a {workflow.domain} desk, workflow {workflow.root}, as short templates: "
                f"placeholders in braces, these and no others: { {k: sorted(v) for k, v in PLACEHOLDERS.items()} }. "
                "intro names the desk; rule and owner_rule say that something is allowed only if {rule} holds, else "
                "(or: otherwise) {outcome}, in this order; consent says, with this word, that changes need the user's "
                f"consent. Negate nothing. State conditions, no procedures. Schema: {WORDING}"
            )
            questions.append(Question(_ask(text), WORDING, _check_wording, invert.policy_text(workflow)))
        answers = self.client.ask_all(questions)
        wordings = [() if answer is None else tuple(answer[name] for name in PLACEHOLDERS) for answer in answers]
        worded = {w.id: dataclasses.replace(w, wording=found) for w, found in zip(tiny, wordings)}
        return [worded.get(workflow.id, workflow) for workflow in workflows]

    def rank(self, trees: Sequence[tuple[Workflow, Outcome, Sequence[Operator]]]) -> Mapping[str, Sequence[str]]:
        """The model's ranking for each tree; trees with one option, or without a valid answer, are left out."""
        asked = [tree for tree in trees if len(tree[2]) > 1]
        answers = self.client.ask_all([_rank_question(*tree) for tree in asked])
        return {tree[0].id: answer["operators"] for tree, answer in zip(asked, answers) if answer is not None}

    def expand(self, pairs: Sequence[tuple[Workflow, Operator]], seed: int) -> list[Workflow]:
        """The workflows grown by their operators, with the model's conditions for the operators that add a rule.

        The program carries out all other operators, and replaces missing or invalid conditions.
        """
        asked = [(w, o) for w, o in pairs if o.name in operators.RULES]
        answers = self.client.ask_all([_rule_question(w, o) for w, o in asked])
        proposed = {w.id: answer for (w, _), answer in zip(asked, answers) if answer is not None}
        found = []
        for workflow, operator in pairs:
            if (rule := proposed.get(workflow.id)) is None:
                found.append(operators.expand(workflow, operator, seed))
            else:
                grown = operators.with_rule(workflow, operator.name, rule["condition"], rule["otherwise"])
                found.append(workflow.grown(grown, operator.name))
        return found

    def speak(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with the model's wording, or the persona's if the model gave none with the same facts.

        synth/inversion/utterances.py checks the facts.
        """
        questions = []
        for task in tasks:
            said = utterances.of(task)
            text = (
                f"A customer of a {task.domain} desk says these things, each under its name: {json.dumps(said)}. Say "
                "the same in other words, as that person would. Keep everything in quotes with its quotes, and all "
                "names, verbs of the request, fields and values; add none. "
                "Negate nothing and call nothing off that they do not. "
                f"{' '.join(map(_answer_words, utterances.ANSWERS))} Schema: {_said(said)}"
            )
            check = functools.partial(utterances.check, task)
            questions.append(Question(_ask(text), _said(said), check, json.dumps(said)))
        answers = self.client.ask_all(questions)
        return [task if words is None else utterances.reworded(task, words) for task, words in zip(tasks, answers)]

    def spent(self) -> str:
        """The client's ledger, and what all cached answers have cost in this run and before, in words."""
        return f"teacher: {self.client.told()}"


def _ask(text: str) -> list[Message]:
    return [_SYSTEM, {"role": "user", "content": text}]


def _said(names: Iterable[str]) -> dict[str, Any]:
    """The JSON schema of an object with one line of text under each name."""
    line = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^\\n]+$"}
    return _object(**dict.fromkeys(names, line))


def _rank_question(workflow: Workflow, outcome: Outcome, options: Sequence[Operator]) -> Question:
    """The question by which operators a tree should grow."""
    names = [operator.name for operator in options]
    schema = _object(operators={"type": "array", "items": {"enum": names}, "minItems": 1, "uniqueItems": True})
    drawn = "\n".join(preview.draw(workflow.tree))
    text = (
        f"Tree {workflow.id} of {workflow.domain}, to {workflow.verb} one {workflow.spec.record.kind}:\n{drawn}\n"
        f"An agent passed {outcome.passes} of {outcome.episodes} conversations on it; its mistakes, with how often: "
        f"{json.dumps(Counter(outcome.mistakes), sort_keys=True)}. Which of these operators should the tree grow by, "
        f"so that the agent practises what it gets wrong? Operators, with the mistakes that they are about: "
        f"{json.dumps({o.name: o.cures for o in options})}. Name the best first. Schema: {schema}"
    )
    return Question(_ask(text), schema, typical=json.dumps({"operators": names[:3]}))


def _rule_question(workflow: Workflow, operator: Operator) -> Question:
    """The question which condition a rule operator should add."""
    kind = operators.RULES[operator.name]
    entity = getattr(workflow.spec, kind.entity)
    free = {c["field"]: entity.fields[c["field"].split(".")[1]] for c in operators.candidates(workflow, operator.name)}
    condition = _object(
        op={"enum": ["eq", "ne", "in", "le", "ge", "lt", "gt"]},
        field={"enum": sorted(free)},
        value={"type": ["string", "integer", "array"]},
    )
    schema = _object(condition=condition, otherwise={"enum": list(kind.otherwise)})
    drawn = "\n".join(preview.draw(workflow.tree))
    text = (
        f"Tree {workflow.id} of {workflow.domain}, to {workflow.verb} one {workflow.spec.record.kind}:\n{drawn}\n"
        f"Add a rule ({operator.name}) on one of these fields; they and their values: {json.dumps(free)}. "
        f"The rule says what must hold. Schema: {schema}"
    )

    def check(answer: dict[str, Any]) -> None:
        operators.with_rule(workflow, operator.name, answer["condition"], answer["otherwise"])

    typical = {"condition": operators.candidates(workflow, operator.name)[0], "otherwise": kind.otherwise[0]}
    return Question(_ask(text), schema, check, json.dumps(typical))


def _answer_words(name: str) -> str:
    """The instruction which words an answer to a request for consent may consist of."""
    return f'"{name}" has to say {name}, in these words alone: {" ".join(sorted(utterances.ANSWERS[name]))}.'


def _check_wording(answer: dict[str, str]) -> None:
    """Raises ValueError unless each template has exactly its placeholders and cannot mean the opposite.

    Placeholders must be plain names, without format or conversion. Words that negate are not allowed, except in the
    consent template, and the parts in SAID must occur.
    """
    for name, wanted in PLACEHOLDERS.items():
        parts = list(string.Formatter().parse(answer[name]))
        found = [field for _, field, _, _ in parts if field is not None]
        if set(found) != wanted or any(spec or conversion for _, _, spec, conversion in parts):
            raise ValueError(f"{name}: placeholders {found}, expected {sorted(wanted)}, with nothing but the name")
        utterances.check_line(name, answer[name])
        negated = utterances.refusals(answer[name])
        if negated and (name, negated) != ("consent", ["no", "without"]):  # allows "no change without consent"
            raise ValueError(f"{name}: must do without {negated}")
        expected, pattern = SAID.get(name, ("", ""))
        if not re.search(pattern, answer[name]):
            raise ValueError(f"{name}: expected {expected}, got {answer[name]!r}")


def _check_domain(taken: Collection[str], answer: dict[str, Any]) -> None:
    """Raises ValueError unless the answer is a domain with unambiguous names, and its own name is not taken."""
    domains.check(_domain(answer))
    if answer["name"] in taken:
        raise ValueError(f"domain {answer['name']!r}: there is another one of that name")


def _domain(answer: dict[str, Any]) -> Domain:
    """The domain that an answer of the schema DOMAIN describes.

    Raises ValueError if the numeric field has the name of one of the record's other fields.
    """
    if answer["number"] in answer["record"]["fields"]:
        raise ValueError(f"the number {answer['number']!r} must be another name than those of the record's fields")

    def entity(part: dict[str, Any], **more: tuple) -> Entity:
        fields = {name: tuple(values) for name, values in part["fields"].items()}
        return Entity(part["kind"], part["collection"], {**fields, **more})

    actions = tuple(Action(a["verb"], answer["number"], a["slot"], tuple(a["choices"])) for a in answer["actions"])
    record = entity(answer["record"], **{answer["number"]: domains.TENS})
    return Domain(answer["name"], record, entity(answer["owner"]), entity(answer["link"]), actions)


def create(name: str, client: Callable[[bool], Client]) -> Teacher:
    """The teacher of that name: "program", "llm", or "replay", which takes the model's answers from the cache only.

    client: makes the client. Its argument says whether the client must use the cache only.
    """
    return Program() if name == "program" else Llm(client(name == "replay"))
