"""Wrong command lines fail at once, in one line that names the fault; every config key has a comment."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import main
from configs import base as base_config
from configs import default, tiny, validate
from rl import command_line
from rl.warmstart import tiny as untrained

REPOSITORY = Path(__file__).parents[2]
KEYS = sorted(dict(validate.leaves(default.get_config())))
TINY = str(REPOSITORY / "configs" / "tiny.py")


@pytest.fixture
def base(tmp_path) -> list[str]:
    """A command line with nothing wrong in it, on a checkpoint folder that looks like one."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).touch()
    return [f"--config={TINY}", f"--workdir={tmp_path / 'run'}", f"--config.model.checkpoint={folder}"]


def checked(tmp_path, **changes):
    """A config that is valid but for `changes` (keys with "__" for ".")."""
    (tmp_path / "config.json").write_text("{}")
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).touch()
    config = default.get_config()
    config.model.checkpoint = str(tmp_path)
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return config


def test_a_right_command_line(base, tmp_path):
    config, workdir, stage, only_check = main.parse([*base, "--config.rl.learning_rate=1", "--config.rl.rounds", "7"])
    assert (workdir, stage, only_check) == (tmp_path / "run", "flywheel", False)
    assert config.rl.learning_rate == 1.0 and isinstance(config.rl.learning_rate, float)
    assert config.rl.rounds == 7
    assert config.sampler.context == tiny.get_config().sampler.context  # what is not overridden is the file's
    assert not main.parse([*base, "--noconfig.evaluate.greedy"])[0].evaluate.greedy
    assert main.parse([*base, "--stage=synth", "--only_check_args"])[2:] == ("synth", True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--config.rl.lerning_rate=1", "config.rl.lerning_rate: no such key; did you mean learning_rate"),
        ("--config.modle.dtype=1", "config.modle: no such key; did you mean model?"),
        ("--config.rl.rounds.x=1", "config.rl.rounds is a value, not a section"),
        ("--config.rl={}", "config.rl is a section; set one of its keys: adam_b2,"),
        ("--config.rl.rounds=abc", "--config.rl.rounds=abc"),
        ("--config.rl.rounds=2.5", "--config.rl.rounds=2.5"),
        ("--config.evaluate.greedy=maybe", "--config.evaluate.greedy=maybe"),
        ("--config.rl.rounds", "--config.rl.rounds"),
        ("--config.rl.group_size=1", "rl.group_size must be >= 2, got 1"),
        ("--config.rl.learning_rate=nan", "rl.learning_rate must be finite, got nan"),
        ("--config.sampler.top_p=0.9", "sampler.top_k must be >= 1 for stage flywheel with sampler.top_p"),
        ("--config.sampler.context=641", "rl.row_length must be >= sampler.context = 641"),
        ("--config.rl.sft_flaws=lunch=1", "rl.sft_flaws: unknown flaw 'lunch'"),
        ("--config.rl.sft_drill_share=0.5", "rl.sft_clean_steps must be > 0 steps of drills and comparisons"),
        ("--config.rl.sft_decay_steps=5", "rl.sft_decay_steps must be <= rl.sft_steps - rl.warmup_updates = 0, got 5"),
        ("--config.evaluate.context=9", "evaluate.context must be >= sampler.prefill_chunk = 64, got 9"),
        ("--config.evaluate.policies=best", "evaluate.policies must be one of 'initial', 'current'"),
        ("--config.evaluate.bfcl_form=fc", "evaluate.bfcl_form must be one of 'qwen_fc', 'chat', got 'fc'"),
        ("--config.evaluate.user=gpt-4.1", "evaluate.user_url must be set together with evaluate.user, got ''"),
        ("--config.serve.port=70000", "serve.port must be a port, or 0 for any that is free, got 70000"),
        ("--config.serve.context=9", "serve.context must be >= sampler.prefill_chunk = 64, got 9"),
        ("--config.synth.selection=worst", "synth.selection must be one of 'failures', 'even', 'random', 'resample'"),
        ("--config.synth.operator_quota=0", "synth.operator_quota must be > 0 and <= 1, got 0"),
        ("--config.synth.operators=guard,gaurd", "synth.operators: unknown ['gaurd'], expected 'all' or some of guard"),
        ("--config.synth.processes=0", "synth.processes must be >= 1, got 0"),
        ("--config.synth.refused_share=2", "synth.refused_share must be between 0 and 1, got 2"),
        ("--config.synth.runner=dask", "synth.runner must be one of 'local', 'beam', got 'dask'"),
        ("--config.synth.runner=beam --config.synth.processes=2", "synth.processes must be 1 with synth.runner = "),
        ("--config.synth.dry_run=True --stage=synth", "synth.dry_run must be False without a model as teacher"),
        ("--config.synth.teacher_users=True", "synth.teacher_users must be False without a model as teacher"),
        (
            "--config.synth.teacher=llm --config.synth.teacher_model=m --config.synth.dry_run=True",
            "synth.dry_run must be False for stage flywheel, got True",
        ),
        (
            "--config.synth.teacher=replay --config.synth.teacher_model=m --config.synth.teacher_users=True "
            "--config.synth.processes=2",
            "synth.processes must be 1 with synth.teacher_users, got 2",
        ),
        ("--config.env.simulator=llm", "rl.reward must be 'llm' with env.simulator = 'llm'"),
        ("--config.rl.reward=judge", "rl.reward must be one of 'code', 'llm', got 'judge'"),
        ("--config.rl.reward=llm", "env.model must be the endpoint's name of the model that judges, got ''"),
        (
            "--config.rl.reward=llm --config.env.model=m --config.rl.turn_credit=True",
            "rl.turn_credit must be False with rl.reward = 'llm'",
        ),
        ("--config.synth.teacher=llm", "synth.teacher_model must be the endpoint's name of the model, got ''"),
        ("--config.synth.teacher_attempts=0", "synth.teacher_attempts must be >= 1, got 0"),
        ("--config.synth.teacher_concurrency=0", "synth.teacher_concurrency must be >= 1, got 0"),
        ("--config.synth.teacher_timeout=0", "synth.teacher_timeout must be > 0, got 0"),
        ("--config.rl.kl_coef=0.1 --config.rl.kl_estimator=k1", "rl.kl_estimator must be 'k2' or 'k3' in the loss"),
        ("--config.rl.algorithm=cispo --config.rl.dual_clip=3", "rl.dual_clip must be 0 with cispo"),
        ("--config.rl.algorithm=reinforce++ --config.rl.max_refills=1", "rl.max_refills must be 0 with reinforce++"),
        ("--stage=serve --config.sampler.constrain_calls=True", "sampler.constrain_calls must be False"),
        (
            "--stage=evaluate --config.sampler.constrain_calls=True --config.evaluate.suites=bfcl",
            "evaluate.suites must be 'agentic' with sampler.constrain_calls",
        ),
        (
            "--config.synth.teacher=llm --config.synth.teacher_model=m --config.mesh.processes=2",
            "mesh.processes must be 1 with synth.teacher = 'llm'",
        ),
        ("--config.mesh.data=-1", "mesh.data and mesh.fsdp are -1"),
        ("--config.model.checkpoint=/no/such", "model.checkpoint = '/no/such': no such folder"),
        ("--config.model.dtype=fp32", "model.dtype must be one of 'float32', 'bfloat16', got 'fp32'"),
        ("--config.rl.algorithm=ppo", "rl.algorithm must be one of 'grpo', 'dr_grpo', 'dapo', 'rloo', 'reinforce++', "),
        ("--config.rl.lora_rank=-1", "rl.lora_rank must be >= 0, got -1"),
        ("--config.rl.lora_alpha=0", "rl.lora_alpha must be > 0, got 0"),
        ("--config.rl.lora_targets=q_proj,q", "rl.lora_targets must be 'all' or comma-separated names of q_proj,"),
        ("--config.rl.loss_aggregation=mean", "rl.loss_aggregation must be one of '', 'token-mean', "),
        ("--config.rl.clip_low=0", "rl.clip_low must be > 0 and <= 1, or -1 for the algorithm's, got 0"),
        ("--config.rl.dual_clip=0.5", "rl.dual_clip must be > 1, or 0 for none, got 0.5"),
        ("--config.rl.max_staleness=2", "rl.max_staleness must be 0 or 1 without rl.partial_turns, got 2"),
        ("--config.rl.partial_turns=2", "rl.max_staleness must be >= 1 with rl.partial_turns, got 0"),
        (
            "--config.rl.partial_turns=2 --config.rl.max_staleness=3 --config.rl.max_refills=1",
            "rl.max_refills must be 0 with rl.partial_turns",
        ),
        ("--config.rl.importance=truncate", "rl.importance must be one of 'none', 'tis', 'icepop', got 'truncate'"),
        ("--stage=flywhel", "--stage=flywhel: no such stage; did you mean flywheel?"),
        ("--stag=synth", "--stag: no such flag; did you mean stage?"),
        ("--learning_rate=1", "--learning_rate: no such flag"),
        ("synth", "'synth': unexpected argument"),
        (f"--workdir={__file__}", "is a file, not a folder"),
        ("--workdir=", "--workdir is missing"),
    ],
)
def test_wrong_arguments_are_named(base, wrong, message):
    with pytest.raises(ValueError) as error:
        main.parse([*base, *wrong.split()])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=", "--workdir=x"], "--config is missing"),
        ([f"--config={TINY}"], "--workdir is missing"),
        ([f"--config={TINY[:-7]}tiyn.py", "--workdir=x"], "tiyn.py: no such file; did you mean tiny.py?"),
        ([f"--config={TINY}:tinier", "--workdir=x"], "unknown argument 'tinier'; expected none or 'runlocal'"),
        (["--config.rl.rounds=1", f"--config={TINY}", "--workdir=x"], "--config.rl.rounds"),
    ],
)
def test_missing_flags_and_files_are_named(arguments, message):
    with pytest.raises(ValueError) as error:
        main.parse(arguments)
    assert message in str(error.value)


def test_misspelt_keys_and_wrong_types_in_a_config_file_are_named(base, tmp_path):
    file = tmp_path / "mine.py"
    text = "from configs import default\n\ndef get_config():\n    c = default.get_config()\n    {}\n    return c\n"
    for line, message in (
        ("c.rl.lerning_rate = 1e-3", "config.rl.lerning_rate is not a key"),
        ("del c.rl.rounds", "config.rl.rounds is missing"),
        ("c.rl.rounds = True", "rl.rounds must be of type int, got True"),
    ):
        file.write_text(text.format(line))
        with pytest.raises(ValueError, match=message):
            main.parse([f"--config={file}", *base[1:]])
    file.write_text("rounds = 3\n")
    with pytest.raises(ValueError, match=r"defines no get_config\(\)"):
        main.parse([f"--config={file}", *base[1:]])


def test_unknown_suites_are_named(base):
    wrong = "--config.evaluate.suites=agentic,bfc"
    with pytest.raises(ValueError, match="evaluate.suites: unknown suite 'bfc', expected some of agentic, bfcl, tau2"):
        main.parse([*base, "--stage=evaluate", wrong])
    assert main.parse([*base, wrong])[2] == "flywheel"  # which measures no suites


def test_command_fails_with_status_2_and_one_line_before_jax_starts(base):
    """The process as a person meets it: status, one line on stderr, no traceback, no jax."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "main.py", *base, "--config.rl.lerning_rate=1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "main.py: config.rl.lerning_rate: no such key; did you mean learning_rate or sft_learning_rate?"
    ]
    program = "import sys, main\nassert main.main(sys.argv[1:]) == 0\nassert 'jax' not in sys.modules"
    command = [sys.executable, "-c", program, *base, "--only_check_args"]
    subprocess.run(command, check=True, cwd=REPOSITORY)


def test_help_names_every_stage(capsys):
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {stage} " in text for stage in main.STAGES)


def test_a_model_needs_a_key_before_anything_is_written(base, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    teaches = ["--config.synth.teacher=llm", "--config.synth.teacher_model=m"]
    judges = ["--config.rl.reward=llm", "--config.env.model=m", "--config.env.simulator=llm"]
    for asking in ([*teaches, "--stage=synth"], teaches, judges, [*judges, "--stage=rl"]):
        assert main.main([*base, *asking]) == 2
        assert re.fullmatch(r"main.py: .* OPENAI_API_KEY is not set\n", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
    teaches[0] = "--config.synth.teacher=replay"
    dry = ["--config.synth.teacher=llm", "--config.synth.dry_run=True", "--stage=synth"]
    for silent in (teaches, [*teaches, *dry], [*judges, "--stage=synth"]):
        main.parse([*base, *silent])
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    main.parse([*base, *judges])


def test_validation_depends_on_the_stage(tmp_path):
    truncated = checked(tmp_path, sampler__top_p=0.9)
    validate.validate(truncated, "evaluate")
    for stage in ("flywheel", "rl"):
        with pytest.raises(ValueError, match=f"sampler.top_k must be >= 1 for stage {stage} with .*top_p.*, got 0"):
            validate.validate(truncated, stage)
        validate.validate(checked(tmp_path, sampler__top_p=0.9, sampler__constrain_calls=True, sampler__top_k=5), stage)
    with pytest.raises(ValueError, match="rl.sft_steps must be >= 1 for stage sft"):
        validate.validate(checked(tmp_path), "sft")


def test_checkpoint_folder_must_hold_what_is_loaded(tmp_path):
    config = checked(tmp_path)
    validate.validate(config)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no \*.safetensors"):
        validate.validate(config)
    validate.validate(config, "plan")  # needs none
    config.model.init = "random"
    validate.validate(config)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=f"model.checkpoint = .*: the folder has no {name}, which a tokenizer's"):
            validate.validate(config)
        validate.validate(config, "plan")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="no config.json"):
        validate.validate(config)
    config.model.checkpoint = "model"
    assert validate.checkpoint_folder(config.model.checkpoint) == REPOSITORY / "model"


def test_relations_between_keys(tmp_path):
    for changes, message in (
        ({"sampler__prefill_chunk": 15000}, "sampler.context must be >= sampler.prefill_chunk = 15000"),
        ({"sampler__max_new_tokens": 15000}, "sampler.context must be >= sampler.max_new_tokens = 15000"),
        ({"rl__minibatches": 17}, "rl.groups must be >= rl.minibatches = 17"),
        ({"rl__overlong_buffer": 15000}, "rl.overlong_buffer must be <= sampler.context = 12288, got 15000"),
        ({"rl__teacher": "model", "rl__turn_credit": True}, "rl.turn_credit must be off .* with rl.teacher"),
        ({"rl__teacher": "no/such"}, "rl.teacher = 'no/such': no such folder"),
        ({"rl__kl_in_reward": True}, "rl.kl_coef must be > 0 for rl.kl_in_reward"),
    ):
        with pytest.raises(ValueError, match=message):
            validate.validate(checked(tmp_path, **changes))


def test_the_repositorys_configs_are_possible(tmp_path):
    files = [file for file in (REPOSITORY / "configs").glob("*.py") if "def get_config" in file.read_text()]
    files.remove(REPOSITORY / "configs" / "saved.py")  # that needs a workdir
    for spec in (*map(str, files), f"{TINY}:runlocal"):
        config = command_line.load_config(spec)
        config.model.checkpoint = checked(tmp_path).model.checkpoint
        validate.validate(config)
    assert len(files) >= 2


@pytest.mark.parametrize("name", ["qwen3_0p6b", "agenticqwen_8b", "agenticqwen_30b_a3b"])
def test_configs_of_real_sizes_plan_without_weights_and_train_with_those_they_are_given(name, base, tmp_path):
    """Never with random ones, because somebody has given a checkpoint and it was not read."""
    command = [f"--config={REPOSITORY / 'configs' / name}.py", f"--workdir={tmp_path / 'run'}"]
    main.parse([*command, "--stage=plan"])
    with pytest.raises(ValueError, match=r"model.checkpoint = .*the folder has no \*.safetensors"):
        main.parse(command)
    assert main.parse([*command, base[2]])[0].model.init == "checkpoint"


@given(st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("ae_.x"))
def test_no_misspelt_key_gets_through(key, position, letter):
    """A letter too many anywhere in any key; the right spelling passes."""
    config = default.get_config()
    command_line.check_key(config, key)
    position = min(position, len(key))
    with pytest.raises(ValueError, match="^config"):
        command_line.check_key(config, key[:position] + letter + key[position:])


def test_a_workdir_keeps_its_config(base, tmp_path):
    config, workdir, *_ = main.parse(base)
    main.save_config(config, workdir)
    (workdir / "metrics.jsonl").touch()  # something was produced
    assert json.loads((workdir / "config.json").read_text()) == config.to_dict()
    main.parse(base)
    main.parse([*base, "--config.rl.rounds=9", "--config.checkpoint.every=1"])
    main.parse([*base, "--stage=evaluate", "--config.evaluate.trials=16"])
    for wrong in (["--config.rl.rounds=1"], ["--config.evaluate.trials=16"], ["--config.seed=1"]):
        key = wrong[0].split("=")[0].removeprefix("--config.")
        with pytest.raises(ValueError, match=f"another config: {key} .*use another workdir"):
            main.parse([*base, *wrong])
    assert main.main([*base, "--config.seed=1", "--only_check_args"]) == 2
    config.synth.teacher, config.synth.teacher_model = "llm", "m"
    main.save_config(config, workdir)
    main.parse([*base, "--config.synth.teacher=replay", "--config.synth.teacher_model=m"])
    with pytest.raises(ValueError, match="another config: synth.teacher "):
        main.parse([*base, "--config.synth.teacher_model=m"])


def test_the_saved_config_of_a_workdir_is_the_one_it_was_made_with(base, tmp_path):
    command = [*base, "--config.rl.learning_rate=1", "--config.synth.domains=orders", "--config.evaluate.trials=2"]
    config, workdir, *_ = main.parse(command)
    main.save_config(config, workdir)
    (workdir / "metrics.jsonl").touch()  # something was produced
    spec = f"--config={REPOSITORY}/configs/saved.py:{workdir}"
    assert main.parse([spec, base[1], "--stage=serve"])[0].to_dict() == config.to_dict()
    assert main.parse([spec, base[1], "--config.rl.rounds=9"])[0].rl.rounds == 9
    with pytest.raises(ValueError, match=f"or the config of this one: --config=configs/saved.py:{workdir}"):
        main.parse(base)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no .*/config.json; expected --config=configs/saved.py:WORKDIR of a run"),
        ("{", "config.json cannot be read: "),
        ("[]", "config.json cannot be read: "),
        ('{"rl": {"rounds": "many"}}', "config.json cannot be read: "),
        ('{"rl": {"rounts": 1}}', "config.json cannot be read: no longer a key: rl.rounts"),
    ],
)
def test_a_saved_config_that_cannot_be_read_is_refused(text, message, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        command_line.load_config(f"{REPOSITORY}/configs/saved.py:{tmp_path}")


def test_every_key_has_a_comment():
    """Every assignment `c.section.key = value` in the default config, and all keys are made by such assignments."""
    source = (REPOSITORY / "configs" / "default.py").read_text()
    lines = source.splitlines()
    assigned = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            assigned[ast.unparse(node.targets[0]).removeprefix("c.")] = rest
    assert assigned.keys() >= set(KEYS)
    assert [key for key in KEYS if not assigned[key].strip().startswith("# ")] == []


def test_the_demo_and_its_base_know_the_same_domains_and_operators():
    """What the base was trained on is what the demo asks of it, down to the tokenizer's corpus."""
    for config in (tiny.get_config(), base_config.get_config()):
        assert (config.synth.domains, config.synth.operators) == (untrained.DOMAINS, untrained.OPERATORS)
