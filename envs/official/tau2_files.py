"""What the files of tau2-bench say, read without its package: TAU2_DATA_DIR, and TAU2_SRC for its tools.

For figures about the benchmark. Whatever file a checkout lacks is left out.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# domain -> the collection of its main records
DOMAINS = {"retail": "orders", "airline": "reservations", "telecom": "lines"}
_POLICIES = ("policy.md", "main_policy.md", "tech_support_manual.md")  # telecom's agent reads the last two
_JSON = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}

Record = dict[str, Any]


def folder(domain: str) -> Path | None:
    """The folder of a domain's data, None if there is none."""
    data = os.environ.get("TAU2_DATA_DIR")
    found = Path(data, "tau2", "domains", domain) if data else None
    return found if found is not None and found.is_dir() else None


def policy(domain: Path) -> str:
    """What the agent of a domain has to follow."""
    return "\n\n".join(file.read_text(encoding="utf-8") for name in _POLICIES if (file := domain / name).exists())


def tasks(domain: Path) -> list[Record]:
    """The tasks of a domain as they are measured: those of the split "base" if there is one.

    If a checkout lacks tasks.json, those of tasks_small.json.
    """
    files = [file for name in ("tasks.json", "tasks_small.json") if (file := domain / name).exists()]
    if not files:
        return []
    found = json.loads(files[0].read_text(encoding="utf-8"))
    splits = domain / "split_tasks.json"
    base = json.loads(splits.read_text(encoding="utf-8")).get("base") if splits.exists() else None
    return [task for task in found if base is None or task["id"] in base] or found


def records(domain: Path) -> dict[str, Record]:
    """Identifier -> main record of a domain (see DOMAINS); {} if a checkout lacks its database."""
    name = DOMAINS[domain.name]
    if (file := domain / "db.json").exists():
        return json.loads(file.read_text(encoding="utf-8"))[name]
    if (file := domain / "db.toml").exists():
        rows = tomllib.loads(file.read_text(encoding="utf-8"))[name]
        return {row[f"{name.removesuffix('s')}_id"]: row for row in rows}
    return {}


def tools(domain: str) -> tuple[list[Record], list[str]]:
    """(the agent's tools as OpenAI function schemas, the names of those that write), from the signatures in TAU2_SRC.

    The fields of objects are left out. Both are empty if there is no source.
    """
    source = os.environ.get("TAU2_SRC")
    if not source or not (file := Path(source, "tau2", "domains", domain, "tools.py")).exists():
        return [], []
    types = file.with_name("data_model.py")
    found = dict(_tools(ast.parse(file.read_text(encoding="utf-8")), _choices(types) if types.exists() else {}))
    return [schema for schema, _ in found.values()], [name for name, (_, writes) in found.items() if writes]


def _choices(file: Path) -> dict[str, ast.expr]:
    """Name -> the Literal that a module gives it."""
    named = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign)]
    return {ast.unparse(n.targets[0]): n.value for n in named if ast.unparse(n.value).startswith("Literal[")}


def _tools(module: ast.Module, choices: dict[str, ast.expr]) -> Iterator[tuple[str, tuple[Record, bool]]]:
    """(name, (schema, whether it writes)) of every method that is marked as a tool."""
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = [ast.unparse(d) for d in node.decorator_list]
        if mark := next((m for m in marks if m.startswith("is_tool(")), None):
            yield node.name, (_schema(node, choices), mark.endswith("WRITE)"))


def _schema(function: ast.FunctionDef, choices: dict[str, ast.expr]) -> Record:
    """The schema of a tool, from its signature and docstring."""
    given = function.args.args[1:]  # without self
    needed = given[: len(given) - len(function.args.defaults)]
    described, _, rest = (ast.get_docstring(function) or "").partition("\nArgs:\n")
    about = dict(re.findall(r"^ +(\w+): (.*)", rest.partition("\nReturns:")[0], re.MULTILINE))
    properties = {
        argument.arg: {**_argument(argument.annotation, choices), "description": about.get(argument.arg, "")}
        for argument in given
    }
    parameters = {"type": "object", "properties": properties, "required": [argument.arg for argument in needed]}
    return {
        "type": "function",
        "function": {"name": function.name, "description": described.strip(), "parameters": parameters},
    }


def _argument(annotation: ast.expr | None, choices: dict[str, ast.expr]) -> Record:
    """The schema of a type: of a text, number, choice or list; everything else is an object.

    Of a union that of its first member, as of Optional.
    """
    if annotation is None:
        return {}
    if isinstance(annotation, ast.BinOp):  # X | None
        return _argument(annotation.left, choices)
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        outer = ast.unparse(annotation.value)
        if outer == "Literal":
            return {"enum": [ast.literal_eval(value) for value in inner]}
        if outer in ("Optional", "Union"):
            return _argument(inner[0], choices)
        if outer in ("List", "list"):
            return {"type": "array", "items": _argument(inner[0], choices)}
        return {"type": "object"}
    name = ast.unparse(annotation)
    return _argument(choices[name], {}) if name in choices else {"type": _JSON.get(name, "object")}
