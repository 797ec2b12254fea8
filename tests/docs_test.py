"""README, CONTRIBUTING and docs: links lead somewhere, commands pass their check, keys, files and targets exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import main
from configs import default, describe, validate
from rl import command_line

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
KEYS = set(dict(validate.leaves(default.get_config())))
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (REPOSITORY / "Makefile").read_text(), re.M))
FLAGS = {  # of the programs beside main.py
    "rl.reports.report": {"workdir", "random", "seed", "rollout", "round", "phase", "outcome"},
    "rl.reports.agreement": {"workdir", "round"},
}


def prose_and_code(text: str) -> tuple[str, list[str]]:
    """(the text without its code blocks, the lines of the blocks, continued lines joined)."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^ {4}(?![-*\d]).*$", rest, re.M)
    rest = re.sub(r"^ {4}(?![-*\d]).*$", "", rest, flags=re.M)
    code = "\n".join([*fenced, *indented]).replace("\\\n", " ")
    return rest, code.splitlines()


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_faults(prose: str, folder: Path) -> list[str]:
    """Relative links that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = folder / name if name else None
        if target is not None and not target.exists():
            found.append(f"link {link}")
        elif anchor and target is not None and anchor not in anchors(target):
            found.append(f"anchor {link}")
    return found


def command_fault(command: str) -> str | None:
    """What is wrong with a command line of the docs, or None."""
    words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_0-9]+=", word)]
    if words[:1] == ["make"]:
        wrong = [word for word in words[1:] if "=" not in word and word not in TARGETS]
        return f"make {wrong[0]}" if wrong else None
    if words[:1] != ["./run"]:
        return None
    if words[1] == "main.py":
        if any(word.startswith("--help") for word in words):
            return None if main.main(words[2:]) == 0 else command
        try:
            main.parse([*words[2:], "--only_check_args"])
        except ValueError as error:
            return f"{command}: {error}"
        return None
    if words[1] != "-m":
        return None if (REPOSITORY / words[1]).is_file() else command
    if importlib.util.find_spec(words[2]) is None:
        return f"{command}: no such module"
    if words[2] == "rl.reports.sweep":
        try:
            command_line.parse(words[3:], (("workdir", None, ""),))
        except ValueError as error:
            return f"{command}: {error}"
    wrong = [
        w
        for w in words[3:]
        if w.startswith("--") and w[2:].split("=")[0] not in FLAGS.get(words[2], {w[2:].split("=")[0]})
    ]
    return f"{command}: {wrong[0]}" if wrong else None


def name_faults(inline: str) -> list[str]:
    """Config keys, files and folders in `inline code` that there are not."""
    found = []
    if match := re.fullmatch(r"(?:--config\.)?([a-z_]+)\.([a-z_0-9]+)(?:=.*)?", inline):
        file = f"{match[1]}.{match[2]}".endswith((".py", ".md", ".json", ".jsonl", ".ipynb", ".txt"))
        if not file and match[1] in SECTIONS and f"{match[1]}.{match[2]}" not in KEYS:
            found.append(f"key {inline}")
    path = re.fullmatch(r"((?:model|synth|envs|rl|configs|tests|docs|benchmarks|notebooks)/[\w./-]*)(?::\w+)?", inline)
    if path and "NAME" not in path[1] and not (REPOSITORY / path[1]).exists():
        found.append(f"path {inline}")
    return found


def faults(text: str, folder: Path) -> list[str]:
    """Everything that is wrong with a page."""
    prose, code = prose_and_code(text)
    inline = re.findall(r"`([^`\n]+)`", prose)
    found = link_faults(prose, folder)
    for line in [*code, *inline]:
        if re.match(r"(?:[A-Z_0-9]+=\S+ )*(?:\./run|make) ", line.strip()):
            found.append(command_fault(line.strip()))
    for name in inline:
        found += name_faults(name)
    return [fault for fault in found if fault]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_page_says_nothing_that_is_not_so(page, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(REPOSITORY)
    assert faults(page.read_text(), page.parent) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("see [this](nowhere.md)", "link nowhere.md"),
        ("see [this](docs/running.md#nothing-like-it)", "anchor docs/running.md#nothing-like-it"),
        ("Set `rl.lerning_rate`.", "key rl.lerning_rate"),
        ("Set `--config.synth.nothing=1`.", "key --config.synth.nothing=1"),
        ("It is in `rl/nowhere.py`.", "path rl/nowhere.py"),
        ("    make tests", "make tests"),
        ("Say `make nothing`.", "make nothing"),
        ("    ./run main.py --config=configs/tiny.py --workdir=runs/x --config.rl.stps=1", "did you mean steps"),
        ("```\n./run main.py --config=configs/tiny.py \\\n    --stage=nothing\n```", "no such stage"),
        ("    ./run -m rl.nothing", "no such module"),
        ("    ./run -m rl.reports.report --workdir=runs/demo --rnadom=3", "--rnadom=3"),
        ("    ./run -m rl.reports.sweep --config=configs/tyni.py --workdir=runs/x", "no such file"),
    ],
)
def test_the_checker_finds_what_is_wrong(text, fault, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert len(found := faults(text, REPOSITORY)) == 1 and fault in found[0]


def test_the_pages_hold_what_is_checked():
    """At least so many commands, keys and links: the checks above would pass on pages that they cannot read."""
    texts = [page.read_text() for page in PAGES]
    assert sum(line.strip().startswith("./run ") for text in texts for line in prose_and_code(text)[1]) >= 15
    assert sum(f"`{key}`" in text for text in texts for key in KEYS) >= 60


def test_the_readme_is_read_in_one_go():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_index():
    index = (REPOSITORY / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"({page.name})" not in index] == [
        "README.md"
    ]


def test_help_lists_every_key_with_its_comment(capsys):
    found = describe.keys()
    assert {key.name for key in found} == KEYS
    assert all(len(key.comment) > 5 for key in found)
    by_name = {key.name: key for key in found}
    assert by_name["rl.group_size"].default == "8"
    assert main.main(["--help=rl"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("--config.") == sum(key.startswith("rl.") for key in KEYS)
    assert "--config.rl.group_size=8\n" in printed
    assert main.main(["--help=al"]) == 2
    assert "expected all or one of model, mesh, sampler" in capsys.readouterr().err


def test_a_comment_goes_on_below_its_key():
    source = 'def f():\n    c.rl.x = 1  # first\n    # second\n    c.rl.y = "a"  # third\n\n    # of nobody\n'
    assert describe.keys(source) == [("rl.x", "1", "first second"), ("rl.y", "'a'", "third")]
