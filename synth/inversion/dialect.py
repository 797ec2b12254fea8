"""What scripted agents say, and what they do before the first goal: in the tiny dialect, and in a business."""

from __future__ import annotations

import random
from typing import Any

from synth.business import clauses, speech
from synth.business.view import Service
from synth.inversion.case import Case
from synth.trees import expr

Step = dict[str, Any]


class Tiny:
    """The dialect of the tiny configs: one fixed sentence for each thing to say."""

    closings = {"write": "Done.", "decline": "Sorry, declined.", "stop": "Left as it is."}

    def begin(self, case: Case) -> list[Step]:
        """The steps before the first goal."""
        return []

    def find(self, case: Case) -> list[Step]:
        """The steps that list the owner's records where the user did not name one."""
        return [{"call": case.domain.find_tool, "args": {case.domain.owner.key: case.owner_id}}]

    def check(self, case: Case, condition: expr.Expr, verdict: bool, otherwise: str) -> str:
        """The reasoning that is written for one rule."""
        return check_text(condition, case.values[condition["field"]], verdict, otherwise)

    def ask(self, case: Case, slot: str) -> str:
        """The question for a missing detail."""
        return f'Which "{slot}"?'

    def confirm(self, case: Case, choice: Any) -> str:
        """The request for consent. choice: the detail as far as it is known, else None."""
        return f'Please confirm: {case.action.verb} {case.domain.record.kind} "{case.record_id}"?'

    def which(self, case: Case) -> str:
        """The question which record is meant, where the user only said whose it is."""
        return f'Which "{case.domain.record.key}" of {case.domain.owner.kind} "{case.owner_id}"?'

    def tell(self, case: Case) -> str:
        """What tells the user the amount of the write."""
        return f'"{case.action.copied}" is {case.args[case.action.copied]}.'


class Plain:
    """Plain English, as an agent of a business writes it."""

    closings = {
        "write": "That's done. Have a nice day!",
        "decline": "I'm sorry, but our rules don't allow this, so I can't do it.",
        "stop": "All right, then I'll leave everything as it is.",
    }

    def begin(self, case: Case) -> list[Step]:
        """Identifies the customer and lists the customer's records."""
        domain, identity = service(case), case.script["identity"]
        steps: list[Step] = []
        if not identity["given"]:
            steps.append({"say": f"Could you tell me your {identity['by'].replace('_', ' ')}, please?"})
        steps.append({"call": domain.identify_tool, "args": {identity["by"]: identity["value"]}, "say": ""})
        return [*steps, {"call": domain.find_tool, "args": {domain.owner.key: case.owner_id}, "say": ""}]

    def find(self, case: Case) -> list[Step]:
        """Nothing: the records have been listed."""
        return []

    def check(self, case: Case, condition: expr.Expr, verdict: bool, otherwise: str) -> str:
        """The reasoning that is written for one rule."""
        reference = expr.fields(condition)[0]
        name, told = reference.split(".")[1].replace("_", " "), case.values[reference]
        text = f"{name[0].upper()}{name[1:]} is {told if not isinstance(told, str) else told.replace('_', ' ')}"
        return f"{text}: {'fine' if verdict else 'not allowed, ' + otherwise}."

    def ask(self, case: Case, slot: str) -> str:
        """The question for a missing detail."""
        argument = service(case).write(case.action).args[slot]
        return f"Could you tell me the {argument.fact[0]} that you would like, please?"

    def confirm(self, case: Case, choice: Any) -> str:
        """The request for consent: the action, the record, and what the customer wants."""
        domain = service(case)
        write = domain.write(case.action)
        wanted = case.slots | ({case.action.slot: choice} if choice is not None else {})
        details = [f"{write.args[n].fact[0]}: {stated(write.args[n], v)}" for n, v in wanted.items()]
        record = f"{domain.business.nouns[0]} {case.record_id}"
        return f"Shall I go ahead and {write.verbs[0]} the {record} ({'; '.join(details)})?"

    def which(self, case: Case) -> str:
        """The question which record is meant."""
        return f"I see several {case.domain.record.collection.replace('_', ' ')} of yours. Which one do you mean?"

    def tell(self, case: Case) -> str:
        """What tells the customer the amount of the write."""
        name = case.action.copied
        return f"The {name.removesuffix('_cents').replace('_', ' ')} comes to {clauses.money(case.args[name])}."


def service(case: Case) -> Service:
    """The domain of a business's case."""
    assert isinstance(case.domain, Service)
    return case.domain


def stated(argument: Any, value: Any) -> str:
    """How an agent writes a value to a customer."""
    if argument.type == "date":
        return value
    if argument.type == "cents":
        return clauses.money(value)
    return speech.spoken(argument, value, "", random.Random(0))


TINY, PLAIN = Tiny(), Plain()
CLOSINGS = frozenset((*Tiny.closings.values(), *Plain.closings.values()))


def of(case: Case) -> Tiny | Plain:
    """The dialect of a case's domain."""
    return PLAIN if isinstance(case.domain, Service) else TINY


def check_text(condition: expr.Expr, actual: Any, verdict: bool, otherwise: str) -> str:
    """The reasoning that is written for one rule: what the record says, the rule, and the verdict.

    Args:
      condition: what the rule requires.
      actual: the field's value in the record.
      verdict: whether the agent takes the rule to hold.
      otherwise: the outcome where it fails.
    """
    name = condition["field"].split(".")[1]
    rule = f"rule {expr.render(condition)}, else {otherwise}"
    return f'"{name}": {expr.quote(actual)}, {rule}: {"yes" if verdict else "no"}.'
