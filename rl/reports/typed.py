"""What a person types who plays the agent: commands, words for the customer, tool calls."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

from envs import tools as checks
from envs.base import Message

_PAIR = re.compile(r"\w+=")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_PAIRS = re.compile(rf"(\w+)=({_QUOTED.pattern}|.*?)(?=\s+\w+=|\s*$)")


def function(tool: dict[str, Any]) -> dict[str, Any]:
    """The function of a tool's schema."""
    return tool.get("function", tool)


def message(text: str, tools: Sequence[dict[str, Any]], turn: int) -> Message:
    """The assistant message that typed lines make: lines that are tool calls become calls, all others its text.

    Raises ValueError, with a line that explains it, for a call that is malformed. Nothing is a call after "> ".
    """
    said, calls = [], []
    for line in text.split("\n"):
        if (found := call(line.strip(), tools)) is None:
            said.append(line.removeprefix("> "))
        else:
            name, arguments = found
            identifier = f"call_{turn}_{len(calls)}"
            calls.append({"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}})
    content = "\n".join(said).strip()
    if not content and not calls:
        raise ValueError("nothing to send: type words for the customer, or a tool call")
    return {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}


def call(line: str, tools: Sequence[dict[str, Any]]) -> tuple[str, str] | None:
    """(tool, arguments as JSON text) of `name {json}` or `name key=value ...`; None for words that are no call.

    Raises ValueError for a call to a tool that there is not, or with arguments that its schema does not admit.
    """
    known = {function(tool)["name"]: function(tool) for tool in tools}
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    alike = bool(rest) and (rest[0] == "{" or _PAIR.match(rest) is not None)
    if name not in known:
        if alike and re.fullmatch(r"[a-z]\w*", name):
            raise ValueError(f"there is no tool {name}; {_near(name, known)}")
        return None
    if rest and not alike:
        if "_" not in name:  # an English word as well
            return None
        raise ValueError(f"{name}: expected {usage(known[name])}; begin with '> ' to say this to the customer")
    schema = known[name]["parameters"]
    arguments = _json(name, rest) if rest.startswith("{") else _pairs(name, rest, schema)
    text = json.dumps(arguments, ensure_ascii=False)
    _, error = checks.parse_arguments(checks.validators(list(tools)), name, text)
    if error:
        raise ValueError(f"{name}: {error}; expected {usage(known[name])}")
    return name, text


def usage(of: dict[str, Any]) -> str:
    """How a tool is called: its name and arguments, those in brackets that may be left out."""
    needed = of["parameters"].get("required", ())
    names = of["parameters"].get("properties", {})
    return " ".join([of["name"], *(f"{n}=..." if n in needed else f"[{n}=...]" for n in names)])


def described(of: dict[str, Any]) -> str:
    """A tool with its arguments, as lines of text."""
    needed = of["parameters"].get("required", ())
    lines = [f"{of['name']}: {of.get('description', '')}"]
    for name, schema in of["parameters"].get("properties", {}).items():
        facts = [str(schema.get("type", "any")), *(["may be left out"] if name not in needed else [])]
        if "properties" in schema:
            facts.append("keys " + ", ".join(schema["properties"]))
        facts += ["one of " + ", ".join(map(str, schema["enum"]))] if "enum" in schema else []
        told = schema.get("description", "")
        lines.append(f"    {name} ({'; '.join(facts)}){': ' + told if told else ''}")
    return "\n".join(lines)


def _near(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, known)
    return f"did you mean {' or '.join(close)}?" if close else "see :tools"


def _json(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: the arguments are not JSON ({error})") from None
    assert isinstance(found, dict)  # it begins with a brace
    return found


def _pairs(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The arguments of key=value pairs, with the types that the schema wants. A value reaches to the next key."""
    found: dict[str, Any] = {}
    for key, value in _PAIRS.findall(text):
        wanted = schema.get("properties", {}).get(key, {}).get("type", "string")
        found[key] = value
        if wanted != "string" or _QUOTED.fullmatch(value):
            try:
                found[key] = json.loads(value)
            except ValueError:
                raise ValueError(f"{name}: {key}={value}: expected {wanted}") from None
    return found
