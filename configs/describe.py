"""The keys of configs/default.py with their defaults and comments, as main.py --help=SECTION prints them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("default.py")


class Key(NamedTuple):
    """One config key. name: "section.key". default: as written in the source. comment: in one line."""

    name: str
    default: str
    comment: str


def keys(source: str | None = None) -> list[Key]:
    """Every key, in the order of the source. source: Python text; None: configs/default.py.

    A key's comment starts on the key's line and continues in the comment lines directly below.
    """
    text = SOURCE.read_text(encoding="utf-8") if source is None else source
    lines, found = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        default = ast.unparse(node.value)
        if default.startswith("config_dict."):  # a section begins
            continue
        comment = [lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()]
        for line in lines[node.end_lineno :]:
            if not line.strip().startswith("#"):
                break
            comment.append(line)
        words = " ".join(part.strip().removeprefix("#").strip() for part in comment)
        found.append(Key(ast.unparse(node.targets[0]).removeprefix("c."), default, words))
    return found


def sections() -> list[str]:
    """The names of the sections, in order."""
    return list(dict.fromkeys(key.name.split(".")[0] for key in keys() if "." in key.name))


def text(section: str) -> str:
    """What --help=SECTION prints; "all": every key. Raises ValueError for an unknown section, naming the known ones."""
    chosen = [key for key in keys() if section == "all" or key.name.split(".")[0] == section]
    if not chosen:
        raise ValueError(f"--help={section}: no such section; expected all or one of {', '.join(sections())}")
    return "\n".join(f"--config.{key.name}={key.default}\n{_wrapped(key.comment)}" for key in chosen)


def _wrapped(comment: str, width: int = 100) -> str:
    """The comment, wrapped to lines of at most `width` characters and indented by four."""
    words, lines = re.split(r"\s+", comment), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(f"    {line}" for line in lines)
