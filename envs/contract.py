"""What environments hand back, checked in one place: tools, messages, steps and scores.

The checks return plain copies: None, booleans, integers, finite floats, text that UTF-8 can hold, lists, and dicts
whose keys are such texts. So a record of them is strict JSON and reads back equal. An environment that goes on to
change what it handed back changes no record. Tuples become lists, and numpy scalars become the equal JSON values.

Anything else is a fault of the environment. The checks then raise ValueError with one line that names the part and
what was expected.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import numpy as np

from envs.base import Message, Score, Step

DEPTH = 100  # most levels of lists and dicts inside each other
ROUNDING = 1e-6  # by so much a reward may lie outside [0, 1]: weighted sums have rounding errors. It is cut off.


def data(value: Any, name: str, depth: int = DEPTH) -> Any:
    """A plain copy of JSON data. name: of the value, for the message. Raises ValueError if it is not JSON data."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        text = str.__str__(value)  # of a subclass, such as numpy's, the text itself
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: text that UTF-8 cannot hold, {ascii(text[error.start])}") from None
        return text
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        return _whole(int(value), name)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{name}: expected a finite number, got {number}")
        return number
    if isinstance(value, (list, tuple, dict)) and not depth:
        raise ValueError(f"{name}: lists and objects lie more than {DEPTH} levels deep in each other")
    if isinstance(value, (list, tuple)):
        return [data(part, f"{name}[{place}]", depth - 1) for place, part in enumerate(value)]
    if isinstance(value, dict):
        if strange := [type(key).__name__ for key in value if not isinstance(key, str)]:
            raise ValueError(f"{name}: expected text as keys, got {strange[0]}")
        return {data(key, f"a key of {name}"): data(part, f"{name}.{key}", depth - 1) for key, part in value.items()}
    raise ValueError(f"{name}: expected JSON data, got {type(value).__name__}")


def tools(value: Any) -> list[dict[str, Any]]:
    """A copy of function schemas. Raises ValueError unless they are a list of objects."""
    return _objects(value, "tools")


def messages(value: Any) -> list[Message]:
    """A copy of an environment's messages.

    Raises ValueError unless they are a list of objects, each with a role other than "assistant" and a content that is
    text or None.
    """
    found = _objects(value, "messages")
    for place, message in enumerate(found):
        role = message.get("role")
        if not isinstance(role, str) or role == "assistant":
            raise ValueError(f"messages[{place}]: expected a role that is text and not 'assistant', got {_shown(role)}")
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise ValueError(f"{role} message: expected content as a string, got {type(content).__name__}")
    return found


def step(value: Any) -> Step:
    """A copy of a step. Raises ValueError if it is not a Step, or a part of it is wrong."""
    if not isinstance(value, Step):
        raise ValueError(f"step: expected an envs.base.Step, got {type(value).__name__}")
    return Step(messages(value.messages), _flag(value.done, "done"))


def score(value: Any) -> Score:
    """A copy of a score. Raises ValueError if it is not a Score, a reward lies outside [0, 1], or a part is wrong."""
    if not isinstance(value, Score):
        raise ValueError(f"score: expected an envs.base.Score, got {type(value).__name__}")
    found = {field.name: data(getattr(value, field.name), field.name) for field in dataclasses.fields(Score)}
    for name in ("reward", "code_reward"):
        found[name] = None if found[name] is None else _reward(found[name], name)
    _expect(isinstance(found["subgoals"], dict), "subgoals", "an object", found["subgoals"])
    found["subgoals"] = {goal: _flag(met, f"subgoals.{goal}") for goal, met in found["subgoals"].items()}
    named = isinstance(found["violations"], list) and all(isinstance(rule, str) for rule in found["violations"])
    _expect(named, "violations", "a list of texts", found["violations"])
    pairs = isinstance(found["delta"], dict) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in found["delta"].values()
    )
    _expect(pairs, "delta", "an object of pairs [before, after]", found["delta"])
    for name in ("error", "node"):
        _expect(found[name] is None or isinstance(found[name], str), name, "text or None", found[name])
    _expect(isinstance(found["reward_source"], str), "reward_source", "text", found["reward_source"])
    return Score(**found)


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    """A copy of a list of objects."""
    _expect(isinstance(value, (list, tuple)), name, "a list", value)
    for place, part in enumerate(value):
        _expect(isinstance(part, dict), f"{name}[{place}]", "an object", part)
    return data(value, name)


def _whole(value: int, name: str) -> int:
    """The integer, unless it has more digits than Python reads."""
    most = sys.get_int_max_str_digits()
    if most and value.bit_length() > 3 * most and abs(value) >= 10**most:  # a digit has more than three bits
        raise ValueError(f"{name}: expected an integer of at most {most} digits")
    return value


def _reward(value: Any, name: str) -> float:
    """The reward as a float in [0, 1]."""
    number = isinstance(value, (bool, int, float)) and -ROUNDING <= value <= 1 + ROUNDING
    _expect(number, name, "a number in [0, 1] or None", value)
    return min(max(float(value), 0.0), 1.0)


def _flag(value: Any, name: str) -> bool:
    """The boolean; 0 and 1 count as such."""
    _expect(isinstance(value, (bool, np.bool_, int, float)) and value in (0, 1), name, "True or False", value)
    return bool(value)


def _expect(right: bool, name: str, expected: str, got: Any) -> None:
    """Raises ValueError unless `right`."""
    if not right:
        raise ValueError(f"{name}: expected {expected}, got {_shown(got)}")


def _shown(value: Any) -> str:
    """A value in a message: a number or short text itself, of others the type. Never calls code of the environment."""
    if type(value) in (bool, int, float):
        return f"{value}"[:40]
    return ascii(value) if type(value) is str and len(value) < 40 else type(value).__name__
