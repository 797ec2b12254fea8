"""Reads JSONL files provided by users. Error messages name the file, the line and the key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any


def records(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) for a JSONL file in UTF-8, with or without a byte order mark.

    Blank lines are skipped. Raises ValueError, naming file and line, for a line that is not a JSON object, and
    FileNotFoundError if the file does not exist.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                record = json.loads(text)
                # Python reads more than JSON: NaN, numbers beyond any float, and halves of characters ("\\ud83d").
                json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON in UTF-8 ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: expected an object")
            yield number, record


def text(record: dict[str, Any], key: str, where: str) -> str:
    """The value of `key`, a text or number, as stripped text.

    Raises ValueError if it is missing, blank or of another type. `where` is the start of the message.
    """
    value = record.get(key)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    raise ValueError(f"{where}: expected {key}, a text that is not empty or a number, got {value!r}")
