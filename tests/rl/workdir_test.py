"""One writer per workdir, whatever ends it; a config that produced nothing binds nobody; records are never lost."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import main
from rl import workdir as runs
from tests.support import small_run

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys, time, pathlib
from rl import workdir
with workdir.locked(pathlib.Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder, stage):
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), stage], cwd=REPOSITORY, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("end", ["done", "killed"])
def test_a_second_writer_is_refused_as_long_as_the_first_lives(tmp_path, end):
    folder = tmp_path / "new" / "run"
    process = holder(folder, "flywheel")
    for stage in ("flywheel", "synth", "sft", "rl"):
        with pytest.raises(ValueError, match=rf"run: in use by process {process.pid} on .* \(stage flywheel\)$"):
            with runs.locked(folder, stage):
                pass
    with runs.locked(folder, "evaluate"):  # writes into a folder of its own
        pass
    if end == "killed":
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with runs.locked(folder, "rl"):
        assert f"process {os.getpid()} " in (folder / runs.LOCK_FILE).read_text()
    assert (folder / runs.LOCK_FILE).read_text() == ""


def test_the_command_says_who_is_there_and_touches_nothing(tmp_path):
    policy, folder = small_run.folder(tmp_path / "policy"), tmp_path / "run"
    process = holder(folder, "flywheel")
    command = [sys.executable, "main.py", *small_run.arguments(policy), f"--workdir={folder}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=small_run.environment())
    process.communicate("")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"main.py: --workdir={folder}: in use by")
    assert [file.name for file in folder.iterdir()] == [runs.LOCK_FILE]


@pytest.fixture
def made(tmp_path):
    """(arguments, workdir) of a run whose config.json is there."""
    policy = small_run.folder(tmp_path / "policy")
    command = [*small_run.arguments(policy), f"--workdir={tmp_path / 'run'}"]
    config, workdir, *_ = main.parse(command)
    main.save_config(config, workdir)
    return command, workdir


def test_a_failed_first_attempt_binds_nobody(made):
    command, workdir = made
    for empty in ("rollouts", "checkpoints"):
        (workdir / empty).mkdir()
    with runs.locked(workdir, "rl"):
        main.parse([*command, "--config.seed=1"])
    (workdir / "tasks").mkdir()
    (workdir / "tasks" / "gates_0.json").write_text("{}")
    main.parse(command)
    with pytest.raises(ValueError, match="another config: seed "):
        main.parse([*command, "--config.seed=1"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"a"'], ids=repr)
def test_a_broken_config_is_named(made, content):
    command, workdir = made
    (workdir / "metrics.jsonl").write_text("{}\n")
    (workdir / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: (not JSON|expected a JSON object)"):
        main.parse(command)


def test_set_aside_takes_a_new_folder_each_time(tmp_path):
    for number in (1, 2):
        (tmp_path / "rollouts").mkdir(exist_ok=True)
        (tmp_path / "rollouts" / "round_0.jsonl").write_text(str(number))
        (tmp_path / "policy").mkdir()
        assert (
            runs.set_aside(tmp_path, ["rollouts/round_0.jsonl", "policy", "absent"]) == tmp_path / f"set_aside_{number}"
        )
        assert (tmp_path / f"set_aside_{number}" / "rollouts" / "round_0.jsonl").read_text() == str(number)
    assert not (tmp_path / "policy").exists() and not list((tmp_path / "rollouts").iterdir())


def test_a_config_that_another_process_wrote_meanwhile_is_not_overwritten(made, monkeypatch, capsys):
    """The first check passed; before the lock was free, a run with another config had written and ended."""
    command, workdir = made
    (workdir / "metrics.jsonl").write_text("{}\n")
    before = (workdir / "config.json").read_bytes()
    config = main.parse([*command, "--only_check_args"])[0]
    config.seed = 1
    monkeypatch.setattr(main, "parse", lambda argv: (config, workdir, "flywheel", False))
    monkeypatch.chdir(REPOSITORY)
    assert main.main(command) == 2 and "another config: seed " in capsys.readouterr().err
    assert (workdir / "config.json").read_bytes() == before


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(runs.fcntl, "lockf", lockf)
    with (
        pytest.raises(ValueError, match=r"\.lock: cannot be locked \(No locks available\)"),
        runs.locked(tmp_path, "rl"),
    ):
        pass
