"""What generating from an exported policy needs beside its weights: where a turn ends, and how to sample.

Without it `generate()` of transformers, and servers that read the same files, run past the end of a turn.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from model.checkpoints import load

GENERATION_FILE = "generation_config.json"


def save(path: str | pathlib.Path, source: str | pathlib.Path, stop_ids: Iterable[int], pad_id: int | None) -> None:
    """Adds generation_config.json to an exported folder, and the special ids to its config.json.

    - Sampling settings are those of the checkpoint that the policy was trained from.
    - The ids that end a turn are that checkpoint's and `stop_ids` together.
    - Further special ids (bos, pad) are the checkpoint's; `pad_id` is used if it has none.

    Args:
      path: the exported folder; it has a config.json.
      source: the checkpoint's folder. Files that it lacks are passed over.
      stop_ids: the ids at which sampling stopped in training.
      pad_id: the tokenizer's padding token, None if it has none.
    Raises:
      ValueError: a file of `source` is not a JSON object.
    """
    config, settings = (_read(pathlib.Path(source) / name) for name in (load.CONFIG_FILE, GENERATION_FILE))
    ends = {end for record in (config, settings) for end in _ids(record.get("eos_token_id"))} | set(map(int, stop_ids))
    special: dict[str, Any] = {"eos_token_id": sorted(ends)}
    for key, default in (("bos_token_id", None), ("pad_token_id", pad_id)):
        found = settings.get(key, config.get(key))
        if (value := default if found is None else found) is not None:
            special[key] = value
    load.write_json(pathlib.Path(path) / GENERATION_FILE, {**settings, **special})
    exported = _read(pathlib.Path(path) / load.CONFIG_FILE)
    load.write_json(pathlib.Path(path) / load.CONFIG_FILE, {**exported, **special})


def _ids(value: int | list[int] | None) -> list[int]:
    """An `eos_token_id` as a list: configs have one id, several, or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _read(file: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; {} if there is no such file. Raises ValueError, naming the file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(found).__name__}")
    return found
