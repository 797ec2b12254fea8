"""What generating from an exported policy needs beside its weights: where a turn ends, and how to sample.

Without it `generate()` of transformers, and servers that read the same files, run past the end of a turn.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from typing import Any

from model import files
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
      ValueError: a file of `source` is not a JSON object, or its eos_token_id is no id; it names the file.
    """
    special, settings = read(source, stop_ids, pad_id)
    load.write_json(pathlib.Path(path) / GENERATION_FILE, {**settings, **special})
    exported = files.read_object(pathlib.Path(path) / load.CONFIG_FILE)
    load.write_json(pathlib.Path(path) / load.CONFIG_FILE, {**exported, **special})


def read(
    source: str | pathlib.Path, stop_ids: Iterable[int], pad_id: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(special ids, sampling settings) that `save` adds, for the same arguments.

    Called before training, so that a broken file is noticed then and not at the export. Raises ValueError as `save`.
    """
    paths = [pathlib.Path(source) / name for name in (load.CONFIG_FILE, GENERATION_FILE)]
    config, settings = (files.read_object(path) if path.is_file() else {} for path in paths)
    ends = {end for path, record in zip(paths, (config, settings)) for end in _ids(path, record)} | set(
        map(int, stop_ids)
    )
    special: dict[str, Any] = {"eos_token_id": sorted(ends)}
    for key, default in (("bos_token_id", None), ("pad_token_id", pad_id)):
        found = settings.get(key, config.get(key))
        if (value := default if found is None else found) is not None:
            special[key] = value
    return special, settings


def _ids(file: pathlib.Path, record: dict[str, Any]) -> list[int]:
    """The eos_token_id of a file's record as a list: there are one id, several, or none. Raises ValueError."""
    value = record.get("eos_token_id")
    found = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(end) is int for end in found):
        raise ValueError(f"{file}: eos_token_id: expected a token id or a list of them, found {value!r}")
    return found
