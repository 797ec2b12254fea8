"""The import table of the design, read from the syntax tree of every python file."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("configs", "model", "synth", "envs", "rl")
# package -> the repository's packages it may import
MAY_IMPORT = {
    "configs": {"configs"},
    "model": {"model"},
    "synth": {"synth"},
    "envs": {"synth", "envs"},
    "rl": {"model", "synth", "envs", "rl"},
}
OURS = {*PACKAGES, "main", "tests", "benchmarks", "notebooks"}
ARRAY_ONLY = ("rl/losses.py", "rl/advantage.py")  # pure functions of arrays: they import nothing but jax
FOLDERS = (*PACKAGES, "tests", "benchmarks")
FILES = [REPOSITORY / "main.py", *(file for name in FOLDERS for file in sorted((REPOSITORY / name).rglob("*.py")))]


def imported(source: str) -> list[tuple[str, str]]:
    """(form, top-level module) of every import anywhere in the source; form is "import", "from" or "relative"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [("import", alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(("relative", ".") if node.level else ("from", node.module.split(".")[0]))
    return found


def faults(path: str, source: str) -> list[str]:
    """What in this file breaks the table; `path` is relative to the repository."""
    package = path.split("/")[0]
    allowed = MAY_IMPORT.get(package, OURS)
    found = []
    for form, module in imported(source):
        if form == "relative":
            found.append("relative import")
        elif form == "import" and module in PACKAGES:
            found.append(f"import {module}")
        elif module in OURS - allowed:
            found.append(f"imports {module}")
        elif path in ARRAY_ONLY and module not in ("jax", "__future__"):
            found.append(f"imports {module}")
    return found


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("model/x.py", "from rl import losses", ["imports rl"]),
        ("model/x.py", "from model import transformer\nimport jax", []),
        ("model/x.py", "import model", ["import model"]),
        ("model/x.py", "import model.transformer as t", ["import model"]),
        ("model/x.py", "from . import transformer", ["relative import"]),
        ("synth/x.py", "def f():\n    from envs.base import Env", ["imports envs"]),
        ("envs/x.py", "from synth.task import Task\nfrom envs import base", []),
        ("envs/x.py", "from model import sampler", ["imports model"]),
        ("configs/x.py", "from rl import sweep", ["imports rl"]),
        ("rl/x.py", "from configs import default", ["imports configs"]),
        ("rl/x.py", "import main", ["imports main"]),
        ("rl/x.py", "import numpy as np\nfrom model import sampler", []),
        ("rl/losses.py", "import jax.numpy as jnp\nfrom jax import lax", []),
        ("rl/losses.py", "import numpy as np", ["imports numpy"]),
        ("rl/advantage.py", "from rl import losses", ["imports rl"]),
        ("main.py", "from configs import validate\nfrom rl import flywheel", []),
        ("tests/x.py", "from model import load", []),
    ],
)
def test_checker_knows_the_table(path, source, expected):
    assert faults(path, source) == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_file_keeps_the_import_table(file):
    assert faults(file.relative_to(REPOSITORY).as_posix(), file.read_text()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_have_an_empty_init(package):
    assert (REPOSITORY / package / "__init__.py").read_text() == ""


def test_array_only_files_exist():
    assert all((REPOSITORY / path).is_file() for path in ARRAY_ONLY)
