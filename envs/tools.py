"""Checks tool calls against JSON schemas. A bad call becomes an error text for the model, never an exception."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema


def schema(name: str, description: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The OpenAI function schema of a tool. properties: argument -> JSON schema; all arguments are required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def validators(schemas: list[dict[str, Any]]) -> dict[str, jsonschema.Draft202012Validator]:
    """Tool name -> validator of its arguments, which rejects arguments that are not in the schema.

    Raises ValueError, naming the tool, if a schema is malformed.
    """
    return _validators(json.dumps(schemas))


@functools.lru_cache(maxsize=4096)  # each episode of a task needs them, and compiling schemas is slow
def _validators(text: str) -> dict[str, jsonschema.Draft202012Validator]:
    found = {}
    for schema in json.loads(text):
        function = schema["function"]
        try:
            jsonschema.Draft202012Validator.check_schema(function["parameters"])
        except jsonschema.SchemaError as error:
            raise ValueError(f"tool {function['name']}: parameters are not a JSON schema: {error.message}") from error
        parameters = {"additionalProperties": False, **function["parameters"]}
        found[function["name"]] = jsonschema.Draft202012Validator(parameters)
    return found


def parse_arguments(
    known: dict[str, jsonschema.Draft202012Validator], name: str, arguments: str
) -> tuple[dict[str, Any], str | None]:
    """(arguments, None) of a valid call, else ({}, error text). known: from `validators`; arguments: JSON text."""
    if name not in known:
        return {}, f"no tool {name!r}, use one of {', '.join(known)}"
    try:
        parsed = json.loads(arguments)
        problem = jsonschema.exceptions.best_match(known[name].iter_errors(parsed))
    except RecursionError:  # from parsing, or from the validator's message
        return {}, "arguments are nested too deeply"
    except ValueError:
        return {}, "arguments are not JSON"
    return ({}, problem.message) if problem else (parsed, None)
