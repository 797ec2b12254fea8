"""Puts the official tau2-bench on the path, and makes sure that it is no other package of that name.

The benchmark is not on the package index (the `tau2` there is a different package). Two environment variables name a
checkout's folders: TAU2_SRC its `src`, TAU2_DATA_DIR its `data`. Its dependencies are in requirements-tau2.txt.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

RELEASE = "v0.2.0"
_VERSION = "0.2.1-dev"  # the version in pyproject.toml of that release


def load() -> None:
    """Puts the checkout on the path and imports it. Raises ImportError if something is missing or wrong."""
    source, data = os.environ.get("TAU2_SRC"), os.environ.get("TAU2_DATA_DIR")
    if not source or not data:
        raise ImportError(
            f"tau2 needs a checkout of sierra-research/tau2-bench at {RELEASE} (the package tau2 of the package index "
            "is a different package): set TAU2_SRC to its folder src and TAU2_DATA_DIR to its folder data"
        )
    for name, path in (("TAU2_SRC", Path(source, "tau2", "registry.py")), ("TAU2_DATA_DIR", Path(data, "tau2"))):
        if not path.exists():
            raise ImportError(f"{name} = {os.environ[name]!r} is not of tau2-bench: there is no {path}")
    project = Path(source).resolve().parent / "pyproject.toml"
    found = re.search(r'^version = "(.*)"', project.read_text(), re.MULTILINE) if project.exists() else None
    if not found or found[1] != _VERSION:
        raise ImportError(
            f"TAU2_SRC = {source!r}: expected {RELEASE}, whose {project.name} says {_VERSION}, found "
            f"{found[1] if found else 'none'}"
        )
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise the import downloads prices
    sys.path.insert(0, str(Path(source).resolve()))
    try:
        from loguru import logger

        logger.disable("tau2")  # it logs every step
        package = importlib.import_module("tau2.registry")
    except ImportError as missing:
        raise ImportError(f"tau2 needs {missing.name}: pip install -r requirements-tau2.txt") from missing
    finally:
        sys.path.remove(str(Path(source).resolve()))
    if not Path(package.__file__).resolve().is_relative_to(Path(source).resolve()):
        raise ImportError(f"another package named tau2 is in the way: {package.__file__}; uninstall it")


load()
