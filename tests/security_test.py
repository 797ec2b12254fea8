"""docs/security.md names tests that exist; and what its lines rest on in the whole code: text is not executed."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PACKAGES = ("configs", "model", "synth", "envs", "rl")
EXECUTE = {"eval", "exec", "compile", "__import__"}  # as bare names; methods of these names are other things
UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}  # modules
SHELL = {"system", "popen"}  # of os
OPTIONS = {"trust_remote_code", "allow_pickle", "shell"}  # that may only be False
# The sandbox: what runs in a confined process, and what starts one.
CONFINED = {"envs/sandbox/python_worker.py"}


def lines(page):
    """The entries of the page's lists, each on one line, without those of the last section."""
    promised = page.partition("\n## Not promised")[0]
    return [" ".join(entry.split()) for entry in re.findall(r"^- (.*?)(?=^- |^\n|\Z)", promised + "\n\n", re.M | re.S)]


def names_in(path):
    """The names of the tests in a file, {} if there is none."""
    file = REPOSITORY / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def page_faults(page):
    """Lines that name no test, and tests that there are not."""
    found = [f"names no test: {line}" for line in lines(page) if not NAME.search(line)]
    return found + [f"no {path}::{name}" for path, name in NAME.findall(page) if name not in names_in(path)]


def test_every_line_names_a_test_that_exists():
    assert page_faults(PAGE) == []
    assert len(lines(PAGE)) >= 40 and len(set(NAME.findall(PAGE))) >= 50


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- It may not.", "names no test"),
        ("- It may not\n  do it.\n- It may (`tests/security_test.py::lines`).", "names no test: It may not do it."),
        ("- No (`tests/security_test.py::test_nothing`).", "no tests/security_test.py::test_nothing"),
        ("- No (`tests/nothing_test.py::test_it`).", "no tests/nothing_test.py::test_it"),
    ],
)
def test_the_page_is_read_as_it_is_written(text, fault):
    assert [found for found in page_faults(f"# Page\n\n{text}\n\n## Not promised\n\n- All.\n") if fault in found]


def executing(source):
    """What in a source executes text, reads pickles or starts a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLE]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in UNPICKLE else []
        elif isinstance(node, ast.Call):
            name = node.func
            if isinstance(name, ast.Name) and name.id in EXECUTE:
                found.append(name.id)
            elif isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name):
                owner = (name.value.id, name.attr)
                bad = owner[0] == "os" and owner[1] in SHELL or owner == ("torch", "load")
                found += [".".join(owner)] if bad else []
            for option in node.keywords:
                off = isinstance(option.value, ast.Constant) and option.value.value is False
                found += [option.arg] if option.arg in OPTIONS and not off else []
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("eval(x)", ["eval"]), ("def f():\n    exec(x)", ["exec"]), ("import pickle", ["pickle"]),
        ("from yaml import load", ["yaml"]), ("import os\nos.system(x)", ["os.system"]), ("re.compile(x)", []),
        ("subprocess.run(x, shell=True)", ["shell"]), ("run(x, shell=False)", []), ("torch.load(f)", ["torch.load"]),
        ("numpy.load(f, allow_pickle=y)", ["allow_pickle"]), ("model.eval()", []),
        ("a.from_pretrained(f, trust_remote_code=True)", ["trust_remote_code"]),
    ],
)  # fmt: skip
def test_what_executes_is_recognised(source, found):
    assert executing(source) == found


def test_only_the_sandbox_executes_text():
    files = [REPOSITORY / "main.py", *(file for name in PACKAGES for file in (REPOSITORY / name).rglob("*.py"))]
    found = {file.relative_to(REPOSITORY).as_posix(): executing(file.read_text()) for file in files}
    assert {name for name, calls in found.items() if calls} == CONFINED
