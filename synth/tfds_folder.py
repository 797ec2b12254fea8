"""Opens TFDS dataset folders, which others may have made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

FEATURES_FILE = "features.json"
OURS = "tensorflow_datasets."  # beginning of the classes that a folder may name
CLASSES = ("pythonClassName", "python_class_name", "type", "proto_cls")  # keys under which it names them


def builder(folder: str | os.PathLike[str]) -> tfds.core.DatasetBuilder:
    """The builder of a dataset folder.

    Raises ValueError, naming the file, if features.json is missing, is not JSON, or names a class outside TFDS: TFDS
    would import whatever module it names.
    """
    path = Path(folder) / FEATURES_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    for name in _classes(found):
        if not name.startswith(OURS):
            raise ValueError(f"{path}: expected features of TFDS alone, found the class {name!r}")
    return tfds.builder_from_directory(os.fspath(folder))


def _classes(value: Any) -> Iterator[str]:
    """The names of classes anywhere in the content of features.json."""
    inner = [value]
    while inner:
        value = inner.pop()
        if isinstance(value, dict):
            yield from (value[key] for key in CLASSES if isinstance(value.get(key), str))
            inner += value.values()
        elif isinstance(value, list):
            inner += value
