"""Which folder may import which, read from the syntax tree of every Python file.

A *room* is a folder of a package ("rl/learn") or a module that stands at the package's top ("rl/train"). `ROOMS` says
what each room may import; rooms stand below everything they are imported by, so the table cannot have a cycle.
"""

import ast
import re
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
# Rooms of a package, lowest first: each -> the rooms of the same package it may import beside itself.
ROOMS = {
    "model": {
        "files": "",
        "network": "",
        "checkpoints": "files network",
        "sampling": "network",
        "text": "files",
    },
    "synth": {
        # the records, and what everything else reads or writes them with
        "task": "",
        "question": "",
        "personas": "",
        "jsonl": "",
        "tfds_folder": "",
        "keys": "",
        "dataset": "task question tfds_folder keys",
        # from a tree to a gated task
        "trees": "task",
        "business": "trees",
        "registers": "trees business",
        "operators": "trees",
        "growth": "task trees operators",
        "inversion": "task personas trees business",
        "generate": "task trees inversion",
        "gating": "task personas keys trees business inversion",
        "previews": "task keys trees business inversion gating",
        "teachers": "task trees business operators growth inversion previews",
        # questions
        "corpora": "question personas",
        "problems": "question personas jsonl tfds_folder gating teachers",
    },
    "envs": {
        "hearing": "",
        "base": "",
        "contract": "base",
        "tools": "",
        "user": "",
        "customer": "hearing user",
        "sandbox": "tools",
        "actors": "base",
        "answers": "sandbox",
        "asking": "base tools answers",
        "official": "base",
        # the worlds: each has tasks(split), make(task) and oracle(task)
        "world": "base tools user customer actors",
        "reasoning": "base actors answers asking sandbox",
        "search": "base tools actors asking",
        "data": "base tools asking sandbox",
        "bfcl": "base official",
        "tau2": "base actors official",
        "registry": "base asking world reasoning search data",
        "workers": "base actors",
        "simulation": "base tools world",
    },
    "rl": {
        "endings": "",
        "trajectory": "",
        "hosts": "",
        "workdir": "",
        "checkpoint": "hosts",
        "command_line": "",
        "compile_cache": "",
        "learn": "trajectory",
        "rollouts": "trajectory learn",
        "reports": "endings trajectory command_line",
        "setup": "endings trajectory hosts learn rollouts",
        "evaluation": "trajectory hosts rollouts reports setup",
        "warmstart": "trajectory hosts checkpoint learn reports setup",
        "serving": "reports setup",
        "plan": "learn setup",
        "train": "trajectory learn rollouts setup evaluation",
        "rounds": "endings trajectory hosts reports train",
        "flywheel": "trajectory hosts workdir checkpoint rollouts reports setup evaluation warmstart train rounds",
        "compare": "trajectory hosts learn rollouts reports setup flywheel",
        "stages": "hosts checkpoint reports setup evaluation warmstart serving plan rounds flywheel compare",
    },
}
OURS = {*PACKAGES, "main", "tests", "benchmarks", "notebooks"}
# Pure functions of arrays: they import nothing but jax.
ARRAY_ONLY = ("rl/learn/losses.py", "rl/learn/advantage.py")
FOLDERS = (*PACKAGES, "tests", "benchmarks")
FILES = [REPOSITORY / "main.py", *(file for name in FOLDERS for file in sorted((REPOSITORY / name).rglob("*.py")))]
MODULES = 16  # at most, in one folder: more than that nobody takes in at a glance


def imported(source: str) -> list[tuple[str, str]]:
    """(form, dotted module) of every import anywhere in the source; form is "import", "from" or "relative".

    `from model.network import moe` is ("from", "model.network.moe"), whether moe is a module or a name in one.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [("import", alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append(("relative", "."))
            else:
                found += [("from", f"{node.module}.{alias.name}") for alias in node.names]
    return found


def room(parts: tuple[str, ...]) -> str:
    """The room of a module within its package, from its dotted or path parts: ("rl", "learn", "losses") -> "learn"."""
    return parts[1] if len(parts) > 1 else ""


def faults(path: str, source: str) -> list[str]:
    """What in this file breaks the tables; `path` is relative to the repository."""
    place = tuple(Path(path).with_suffix("").parts)
    package, here = place[0], room(place)
    allowed = MAY_IMPORT.get(package, OURS)
    found = []
    for form, name in imported(source):
        module = name.split(".")[0]
        if form == "relative":
            found.append("relative import")
        elif form == "import" and module in PACKAGES:
            found.append(f"import {module}")
        elif module in OURS - allowed:
            found.append(f"imports {module}")
        elif path in ARRAY_ONLY and module not in ("jax", "__future__"):
            found.append(f"imports {module}")
        elif module == package and package in ROOMS:
            there = room(tuple(name.split(".")))
            if there != here and there not in ROOMS[package].get(here, "").split():
                found.append(f"{here} imports {there}")
    return found


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("model/x.py", "from rl import losses", ["imports rl"]),
        ("model/sampling/x.py", "from model.network import transformer\nimport jax", []),
        ("model/network/x.py", "from model.sampling import draw", ["network imports sampling"]),
        ("model/network/x.py", "from model.network.moe import experts", []),
        ("model/x.py", "import model", ["import model"]),
        ("model/x.py", "import model.network.transformer as t", ["import model"]),
        ("model/x.py", "from . import transformer", ["relative import"]),
        ("synth/x.py", "def f():\n    from envs.base import Env", ["imports envs"]),
        ("synth/trees/x.py", "from synth.gating import gates", ["trees imports gating"]),
        ("synth/problems/x.py", "from synth.problems.families import money", []),
        ("envs/world.py", "from synth.task import Task\nfrom envs import base", []),
        ("envs/world.py", "from envs import registry", ["world imports registry"]),
        ("envs/x.py", "from model import sampler", ["imports model"]),
        ("configs/x.py", "from rl import sweep", ["imports rl"]),
        ("rl/x.py", "from configs import default", ["imports configs"]),
        ("rl/x.py", "import main", ["imports main"]),
        ("rl/setup.py", "import numpy as np\nfrom model.sampling import sampler\nfrom rl.learn import learner", []),
        ("rl/learn/x.py", "from rl import setup", ["learn imports setup"]),
        ("rl/train.py", "def f():\n    from rl import flywheel, setup", ["train imports flywheel"]),
        ("rl/learn/losses.py", "import jax.numpy as jnp\nfrom jax import lax", []),
        ("rl/learn/losses.py", "import numpy as np", ["imports numpy"]),
        ("rl/learn/advantage.py", "from rl.learn import losses", ["imports rl"]),
        ("main.py", "from configs import validate\nfrom rl import flywheel", []),
        ("tests/x.py", "from model.checkpoints import load", []),
    ],
)
def test_checker_knows_the_tables(path, source, expected):
    assert faults(path, source) == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_file_keeps_the_import_tables(file):
    assert faults(file.relative_to(REPOSITORY).as_posix(), file.read_text()) == []


def started(source: str) -> list[str]:
    """Modules that the source starts as programs, by their names in strings: what follows "-m", and benchmarks."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.List, ast.Tuple)):
            texts = [e.value if isinstance(e, ast.Constant) else None for e in node.elts]
            found += [b for a, b in zip(texts, texts[1:]) if a == "-m" and b]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"benchmarks(\.\w+)+", str(node.value)):
            found.append(node.value)
    return [name for name in found if name.split(".")[0] in OURS]


def test_programs_that_are_started_by_name_exist():
    assert started('run([python, "-m", "rl.nothing", "x"])\nf("benchmarks.x")') == ["rl.nothing", "benchmarks.x"]
    names = {name for file in FILES if file.name != "layout_test.py" for name in started(file.read_text())}
    assert len(names) > 5
    assert [name for name in names if not (REPOSITORY / f"{name.replace('.', '/')}.py").is_file()] == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_stand_below_what_imports_them(package):
    """Every room there is stands in the table, and may import only rooms that stand above it there: no cycle."""
    folder = REPOSITORY / package
    here = {f.stem for f in folder.glob("*.py") if f.stem != "__init__"}
    here |= {f.parent.name for f in folder.glob("*/__init__.py")}
    assert set(ROOMS[package]) == here
    known = set()
    for name, allowed in ROOMS[package].items():
        assert set(allowed.split()) <= known, f"{package}/{name} may import a room that stands below it in the table"
        known.add(name)


@pytest.mark.parametrize("package", [*PACKAGES, "tests", "benchmarks"])
def test_folders_have_an_empty_init_and_can_be_taken_in_at_a_glance(package):
    folders = {file.parent for file in (REPOSITORY / package).rglob("*.py")}
    for folder in folders:
        assert (folder / "__init__.py").read_text() == ""
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= MODULES, folder


def test_array_only_files_exist():
    assert all((REPOSITORY / path).is_file() for path in ARRAY_ONLY)


def test_the_files_that_are_sorted_first_exist():
    from tests import conftest

    assert [name for name in conftest.LONGEST if not (REPOSITORY / "tests" / name).is_file()] == []
