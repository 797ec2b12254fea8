"""main.py --help=SECTION: every key with its default and its comment, read from the source of configs/default.py."""

import main
from configs import default, describe, validate

KEYS = dict(validate.leaves(default.get_config()))
SOURCE = """
def f():
    c.seed = 0  # of everything
    c.rl = config_dict.ConfigDict()  # how it learns
    c.rl.x = 1e-6  # first
    # second
    c.rl.y = "a#b"  # third

    # of nobody
    c.env = config_dict.ConfigDict()
    c.env.z = ""  # fourth
"""


def test_a_comment_goes_on_below_its_key():
    assert describe.keys(SOURCE) == [
        ("seed", "0", "of everything"), ("rl.x", "1e-06", "first second"), ("rl.y", "'a#b'", "third"),
        ("env.z", "''", "fourth"),
    ]  # fmt: skip


def test_a_section_has_the_comment_of_the_line_that_begins_it():
    assert describe.sections(SOURCE) == {"rl": "how it learns", "env": ""}


def test_every_key_is_listed_with_its_default_and_a_comment():
    found = {key.name: key for key in describe.keys()}
    assert found.keys() == KEYS.keys()
    assert all(len(key.comment) > 5 for key in found.values())
    assert found["rl.group_size"].default == "8"
    assert set(describe.sections()) == {name.split(".")[0] for name in KEYS if "." in name}


def test_help_prints_a_section(capsys):
    assert main.main(["--help=mesh"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("--config.") == sum(name.startswith("mesh.") for name in KEYS)
    assert printed.startswith("mesh: ") and "\n--config.mesh.fsdp=-1\n    " in printed
    assert main.main(["--help=all"]) == 0
    assert capsys.readouterr().out.count("--config.") == len(KEYS)


def test_help_names_the_sections(capsys):
    assert main.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed.splitlines()[-1] for name in describe.sections())
    assert main.main(["--help=al"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "--help=al: no such section; expected all or one of model, mesh, sampler" in captured.err
