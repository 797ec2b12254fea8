"""The user's JSONL files, read so that whatever is wrong with one is named by file, line and key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any


def records(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file in UTF-8, with or without a byte order mark; blank lines are none.

    Raises ValueError naming file and line of what is no JSON object, FileNotFoundError without such a file.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON in UTF-8 ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: expected an object")
            yield number, record


def text(record: dict[str, Any], key: str, where: str) -> str:
    """A text or number of a record, as text. Raises ValueError, beginning with `where`, for anything else."""
    value = record.get(key)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    raise ValueError(f"{where}: expected {key}, a text that is not empty or a number, got {value!r}")
