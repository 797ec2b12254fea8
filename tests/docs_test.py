"""README, CONTRIBUTING and docs: links lead somewhere, commands pass their check, keys, files and targets exist."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import main
from configs import changes, default, validate
from rl import command_line

REPOSITORY = Path(__file__).parents[1]
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS]
KEYS = set(dict(validate.leaves(default.get_config())))
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (REPOSITORY / "Makefile").read_text(), re.M))
FOLDERS = "model|synth|envs|rl|configs|tests|docs|benchmarks|notebooks"
SUFFIXES = (".py", ".md", ".json", ".jsonl", ".ipynb", ".txt", ".toml", ".cff")
COMMAND = re.compile(r"(?:[A-Z_0-9]+=\S+ )*(?:\./run|make) ")


def prose_and_code(text: str) -> tuple[str, list[str]]:
    """(the text without its code blocks, the lines of the blocks, continued lines joined)."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^ {4}(?![-*\d]).*$", rest, re.M)
    rest = re.sub(r"^ {4}(?![-*\d]).*$", "", rest, flags=re.M)
    code = "\n".join([*fenced, *indented]).replace("\\\n", " ")
    return rest, code.splitlines()


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose_and_code(text)[0], re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_faults(text: str, folder: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)]+)\)", prose_and_code(text)[0]):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        if name and not (folder / name).exists():
            found.append(f"link {link}")
        elif anchor and anchor not in anchors((folder / name).read_text() if name else text):
            found.append(f"anchor {link}")
    return found


def known_flags(file: Path) -> set[str]:
    """The flags of a program: those it defines by absl or argparse, and those its docstring names."""
    tree = ast.parse(file.read_text())
    found = set(re.findall(r"--(\w+)", ast.get_docstring(tree) or ""))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            name, method = node.args[0], node.func.attr
            if isinstance(name, ast.Constant) and (method.startswith("DEFINE_") or method == "add_argument"):
                found.add(str(name.value).lstrip("-"))
    return found | {"help"}


def command_fault(command: str) -> str | None:
    """What is wrong with a command line of the docs, or None."""
    words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_0-9]+=", word)]
    if words[-1] == "&":
        del words[-1]
    if words[0] == "make":
        wrong = [word for word in words[1:] if word not in TARGETS]
        return f"make {wrong[0]}" if wrong else None
    program, rest = words[1], words[2:]
    if program == "main.py":
        if any(word.startswith("--help") for word in rest):
            return None if main.main(rest) == 0 else command
        try:
            main.parse([*rest, "--only_check_args"])
        except ValueError as error:
            return f"{command}: {error}"
        return None
    if program != "-m":
        return None if (REPOSITORY / program).is_file() else f"{command}: no such file"
    module, *rest = rest
    if importlib.util.find_spec(module) is None:
        return f"{command}: no such module"
    if module.split(".")[0] not in ("rl", "benchmarks"):  # pytest, pip: their arguments are theirs
        missing = [word for word in rest if word.endswith(SUFFIXES) and not (REPOSITORY / word).exists()]
        return f"{command}: no {missing[0]}" if missing else None
    if module == "rl.reports.sweep":
        try:
            command_line.parse(rest, (("workdir", None, ""),))
        except ValueError as error:
            return f"{command}: {error}"
        return None
    known = known_flags(REPOSITORY / f"{module.replace('.', '/')}.py")
    wrong = [word for word in rest if word.startswith("--") and word[2:].split("=")[0] not in known]
    return f"{command}: {wrong[0]}" if wrong else None


def name_faults(inline: str, folders: list[str]) -> list[str]:
    """Config keys, files and folders in `inline code` that there are not. folders: where a bare file name may stand."""
    found = []
    for word in inline.split():
        override = re.fullmatch(r"--config\.([\w.]+)(?:=.*)?", word)
        key = re.fullmatch(r"([a-z_]+)\.[a-z_0-9]+(?:=.*)?", word)
        if override:
            found += [f"key {word}"] if override[1] not in {*KEYS, "section.key"} else []
        elif key and key[1] in SECTIONS and not word.endswith(SUFFIXES) and word.split("=")[0] not in KEYS:
            found.append(f"key {word}")
    path = re.fullmatch(rf"((?:{FOLDERS})/[\w./-]*|[\w-]+\.(?:py|txt|toml|cff)|[A-Z]\w+(?:\.md)?)(?::\w+)?", inline)
    if path and ("/" in path[1] or "." in path[1]) and "NAME" not in path[1]:
        found += [] if any((REPOSITORY / f / path[1]).exists() for f in ("", *folders)) else [f"path {inline}"]
    return found


def import_faults(text: str) -> list[str]:
    """What the Python blocks of a page import and there is not; SyntaxError for a block that is none."""
    found = []
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [f"import {name}" for name in names if not _importable(name)]
    return found


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def faults(text: str, folder: Path) -> list[str]:
    """Everything that is wrong with a page."""
    prose, code = prose_and_code(text)
    inline = [" ".join(part.split()) for part in re.findall(r"`([^`]+)`", prose)]
    found = link_faults(text, folder) + import_faults(text)
    found += [command_fault(line.strip()) for line in [*code, *inline] if COMMAND.match(line.strip())]
    for line in re.split(r"\n(?=\||\n|- |\d+\. )", prose):  # rows of tables, entries of lists, paragraphs
        names = [" ".join(part.split()) for part in re.findall(r"`([^`]+)`", line)]
        folders = [name for name in names if re.fullmatch(rf"(?:{FOLDERS})/[\w/]*", name)]
        for name in names:
            found += [] if COMMAND.match(name) else name_faults(name, folders)
    return [fault for fault in found if fault]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_page_says_nothing_that_is_not_so(page, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(REPOSITORY)
    # Whatever lies in runs/ on this machine was made by somebody's own commands.
    monkeypatch.setattr(main, "check_workdir", lambda config, workdir, stage: "")
    assert faults(page.read_text(), page.parent) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("see [this](nowhere.md)", "link nowhere.md"),
        ("see [this](docs/running.md#nothing-like-it)", "anchor docs/running.md#nothing-like-it"),
        ("# One\n\nsee [this](#two)", "anchor #two"),
        ("Set `rl.lerning_rate`.", "key rl.lerning_rate"),
        ("Set `--config.synth.nothing=1`.", "key --config.synth.nothing=1"),
        ("Set `--config.mesh.fsdp=4\n--config.mesh.tensors=2`.", "key --config.mesh.tensors=2"),
        ("Set `--config.modle.dtype=float32`.", "key --config.modle.dtype=float32"),
        ("It is in `rl/nowhere.py`.", "path rl/nowhere.py"),
        ("It is in `requirements-moon.txt`.", "path requirements-moon.txt"),
        ("| `rl/` | `train.py` |\n| `rl/learn/` | `train.py`, `losses.py` |", "path train.py"),
        ("    make tests", "make tests"),
        ("Say `make nothing`.", "make nothing"),
        ("    ./run main.py --config=configs/tiny.py --workdir=runs/x --config.rl.stps=1", "did you mean steps"),
        ("```\n./run main.py --config=configs/tiny.py \\\n    --stage=nothing\n```", "no such stage"),
        ("Say `./run main.py\n--config=configs/tyni.py --workdir=runs/x`.", "no such file"),
        ("    ./run nothing.py", "no such file"),
        ("    ./run -m rl.nothing", "no such module"),
        ("    ./run -m rl.reports.report --workdir=runs/demo --rnadom=3", "--rnadom=3"),
        ("    ./run -m benchmarks.serve --clinets=3", "--clinets=3"),
        ("    ./run -m benchmarks.selection --workdir=runs/x --seds=3", "--seds=3"),
        ("    ./run -m pytest tests/nothing_test.py", "no tests/nothing_test.py"),
        ("    ./run -m rl.reports.sweep --config=configs/tyni.py --workdir=runs/x", "no such file"),
        ("```python\nfrom rl import report\n```", "import rl.report"),
        ("```python\nfrom rl.nothing import report\n```", "import rl.nothing.report"),
    ],
)
def test_the_checker_finds_what_is_wrong(text, fault, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert len(found := faults(text, REPOSITORY)) == 1 and fault in found[0]


def test_the_pages_hold_what_is_checked():
    """At least so many commands, keys and links: the checks above would pass on pages that they cannot read."""
    texts = [page.read_text() for page in PAGES]
    assert sum(bool(COMMAND.match(line.strip())) for text in texts for line in prose_and_code(text)[1]) >= 15
    assert sum(f"`{key}`" in text for text in texts for key in KEYS) >= 60


def test_the_readme_is_read_in_one_go():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_index():
    index = (REPOSITORY / "docs" / "README.md").read_text()
    assert [page.name for page in DOCS if f"({page.name})" not in index] == ["README.md"]


def test_the_architecture_page_names_every_module():
    """In the row of its folder; modules of problem families are too many to name."""
    rows = re.findall(r"^\| `([\w/]+)/`.*$", text := (REPOSITORY / "docs" / "architecture.md").read_text(), re.M)
    named = {row: re.search(rf"^\| `{row}/`.*$", text, re.M)[0] for row in rows}
    modules = [
        f.relative_to(REPOSITORY) for p in ("model", "synth", "envs", "rl") for f in (REPOSITORY / p).rglob("*.py")
    ]
    modules = [m for m in modules if m.stem != "__init__" and m.parent.name != "families"]
    assert [str(m) for m in modules if f"`{m.name}`" not in named.get(m.parent.as_posix(), "")] == []


def test_no_two_commands_want_different_configs_in_one_workdir(monkeypatch):
    """The second of them would be refused, as main.check_workdir does; so would a reader's who follows the pages."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(main, "check_workdir", lambda config, workdir, stage: "")
    first: dict[Path, dict] = {}
    for page in PAGES:
        prose, code = prose_and_code(page.read_text())
        for line in [*code, *(" ".join(part.split()) for part in re.findall(r"`([^`]+)`", prose))]:
            words = shlex.split(line, comments=True) if COMMAND.match(line.strip()) else []
            if "main.py" not in words or "--help" in line:
                continue
            words = [word for word in words[words.index("main.py") + 1 :] if word != "&"]
            config, workdir, stage, _ = main.parse(words)
            values = dict(validate.leaves(config))
            refused = changes.between(first.setdefault(workdir, values), values, stage).refused
            assert stage == "plan" or not refused, f"{page.name}: {line.strip()}: {workdir.name} has other {refused}"
