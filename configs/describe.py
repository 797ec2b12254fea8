"""The keys of configs/default.py with their defaults and comments, as main.py --help=SECTION prints them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("default.py")


class Key(NamedTuple):
    """name: "section.key". default: as it is written in the source. comment: on one line."""

    name: str
    default: str
    comment: str


def keys(source: str | None = None) -> list[Key]:
    """Every key in the order of the source, which is that of configs/default.py if None.

    A key's comment stands behind its value, and goes on in the comment lines below it.
    """
    return [key for key in _assigned(source) if not _begins_section(key)]


def sections(source: str | None = None) -> dict[str, str]:
    """The sections in the order of the source, each with the comment of the line that begins it, or ""."""
    return {key.name: key.comment for key in _assigned(source) if _begins_section(key)}


def text(section: str) -> str:
    """What --help=SECTION prints; "all" is every key. Raises ValueError naming the sections for another name."""
    comments = sections()
    chosen = [key for key in keys() if section == "all" or key.name.split(".")[0] == section]
    if not chosen:
        raise ValueError(f"--help={section}: no such section; expected all or one of {', '.join(comments)}")
    lines, before = [], ""
    for key in chosen:
        name = key.name.split(".")[0]
        if name != before and comments.get(name):
            lines.append(f"{name}: {comments[name]}")
        lines += [f"--config.{key.name}={key.default}", _wrapped(key.comment)]
        before = name
    return "\n".join(lines)


def _assigned(source: str | None) -> Iterator[Key]:
    """Every assignment to an attribute of `c`, also those that begin a section."""
    text = SOURCE.read_text(encoding="utf-8") if source is None else source
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        assert node.end_lineno is not None  # of a node that comes from source, it is not
        comment = [lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()]
        for line in lines[node.end_lineno :]:
            if not line.strip().startswith("#"):
                break
            comment.append(line)
        words = " ".join(part.strip().removeprefix("#").strip() for part in comment)
        yield Key(ast.unparse(node.targets[0]).removeprefix("c."), ast.unparse(node.value), words)


def _begins_section(key: Key) -> bool:
    return key.default.startswith("config_dict.")


def _wrapped(comment: str, width: int = 100) -> str:
    """The comment in lines of at most `width` characters, indented."""
    words, lines = re.split(r"\s+", comment), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(f"    {line}" for line in lines)
