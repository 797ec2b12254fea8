"""Which policy a stage takes from a workdir, and what it says of input that is wrong: one line, status 2."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

import main
from model.checkpoints import load
from model.text import tokenizer
from rl import flywheel, setup, stages
from rl.serving import serve
from tests.support import small_run

SHAPES = "model/architectures/qwen3_0p6b"  # a folder of nothing but a config.json
OTHER_SEED = 7  # of the trained policy's weights


def config_of(policy, workdir, stage, **changes):
    changes = {"rl__sft_steps": 0, **changes}
    return main.parse([*small_run.arguments(policy, **changes), f"--workdir={workdir}", f"--stage={stage}"])[0]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The checkpoint that runs start from: random weights of seed 0."""
    return small_run.folder(tmp_path_factory.mktemp("base") / "policy")


@pytest.fixture
def served(monkeypatch):
    """What stage=serve would serve: [(parameters, version)]."""
    found = []
    monkeypatch.setattr(serve, "run", lambda config, parts, params, version: found.append((params, version)))
    return found


def export(base, folder):
    """Writes another policy, as a run does at its end."""
    policy, architecture = load.from_pretrained(base, init="random", seed=OTHER_SEED)
    load.save_pretrained(policy, architecture, folder)
    tokenizer.save(tokenizer.load(base), folder)


def same(params, folder, **options):
    expected = load.from_pretrained(folder, **options)[0]
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(nnx.split(expected)[1]), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "one that was set aside"])
@pytest.mark.parametrize("warm", [False, True])
def test_without_checkpoints_the_exported_policy_is_taken(base, tmp_path, served, capsys, left, warm):
    """Not the initial one: a user who deletes the checkpoints of a finished run keeps what it made."""
    export(base, tmp_path / "policy")
    steps = [{"updates": 2}, {"updates": 1}, {}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    if left != "nothing":
        (tmp_path / "checkpoints").mkdir()
    if left == "one that was set aside":
        (tmp_path / "checkpoints" / "3.damaged").mkdir()
    if warm:
        export(base, tmp_path / "sft" / "policy")
    config = config_of(base, tmp_path, "serve", rl__sft_steps=3 * warm)
    stages.serve(config, tmp_path)
    ((params, version),) = served
    assert same(params, tmp_path / "policy") and version == "3 updates"
    line = f"no checkpoint in {tmp_path / 'checkpoints'}: taking the exported policy in {tmp_path / 'policy'}\n"
    assert capsys.readouterr().out == line
    _, policies = stages._policies(config, tmp_path, ["initial", "current"])
    assert [(policy.name, policy.updates) for policy in policies] == [("initial", 0), ("current", 3)]
    assert same(policies[1].params, tmp_path / "policy")
    first = (tmp_path / "sft" / "policy", {}) if warm else (base, {"init": "random"})
    assert same(policies[0].params, first[0], **first[1])


def test_where_nothing_was_trained_the_initial_policy_is_taken_and_named(base, tmp_path, served, capsys):
    stages.serve(config_of(base, tmp_path / "run", "serve"), tmp_path / "run")
    ((params, version),) = served
    assert same(params, base, init="random") and version == "0 updates"
    line = f"nothing has been trained in {tmp_path / 'run'}: taking the initial policy, {base}\n"
    assert capsys.readouterr().out == line and not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"sft/policy is missing: the warm start .* has not finished$"):
        stages.serve(config_of(base, tmp_path / "run", "serve", rl__sft_steps=3), tmp_path / "run")


def test_a_checkpoint_comes_before_the_exported_policy(base, tmp_path, served, capsys):
    config = config_of(base, tmp_path, "rl", rl__rows=8)
    run = flywheel.Flywheel(config, tmp_path)
    run.save()
    export(base, tmp_path / "policy")
    stages.serve(config, tmp_path)
    assert same(served[0][0], base, init="random") and "exported" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "changes", "line"),
    [
        ("serve", {"serve__host": "0.0.0.0"}, "serve.host = '0.0.0.0' lets other machines connect: set serve.key_env"),
        ("serve", {"serve__host": "example.org"}, "serve.host = 'example.org' lets other machines connect"),
        ("serve", {"serve__key_env": "NO_SUCH_KEY"}, "serve.key_env: the environment variable NO_SUCH_KEY is not set"),
        ("rl", {"model__checkpoint": SHAPES}, f"model.checkpoint = {SHAPES!r}: the folder has no tokenizer.json"),
    ],
    ids=str,
)
def test_what_is_lacking_is_said_before_anything_is_loaded(base, tmp_path, capsys, stage, changes, line):
    arguments = [*small_run.arguments(base, **changes), f"--workdir={tmp_path / 'run'}", f"--stage={stage}"]
    assert main.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"main.py: {line}") and said.err.count("\n") == 1 and said.out == ""
    assert not (tmp_path / "run").exists()


def broken(base, folder, name):
    """A copy of the base in which a file is missing, or damaged if `name` ends with "!"."""
    shutil.copytree(base, folder)
    (folder / name.rstrip("!")).unlink(missing_ok=True)
    if name.endswith("!"):
        (folder / name.rstrip("!")).write_text("{{ damaged")
    return folder


@pytest.mark.parametrize("damage", ["", "!"])
@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja", "generation_config.json",
     "special_tokens_map.json", "added_tokens.json"],
)  # fmt: skip
def test_every_file_of_a_checkpoint_is_refused_by_name(base, tmp_path, name, damage):
    config = config_of(base, tmp_path / "run", "rl")
    config.model.checkpoint = str(broken(base, tmp_path / "policy", name + damage))
    optional = not damage and name in ("generation_config.json", "special_tokens_map.json", "added_tokens.json")
    try:
        setup.build(config)
        assert optional
    except ValueError as error:
        assert not optional and "\n" not in str(error) and str(tmp_path / "policy") in str(error)
        assert name in str(error) or "chat template" in str(error)
