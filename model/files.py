"""Reads the JSON files of a checkpoint, which others have written."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def read_object(file: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError, naming the file, if it holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise ValueError(f"{file}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(found).__name__}")
    return found
