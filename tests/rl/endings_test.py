"""How commands end: one line for what is no bug, the status of the table, no process left behind."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

import main
from rl import command_line, endings
from synth.teachers import llm
from tests.support import small_run

REPOSITORY = Path(__file__).parents[2]


def ended(work):
    """The exit status of work that is done as main.py's, with what it raises if it is a bug."""
    return endings.run("main.py", work)


def raises(error):
    def work():
        raise error

    return work


def test_what_the_repository_refuses_is_one_line_with_status_2(capsys):
    assert ended(lambda: command_line.load_module("/no/such.py")) == 2
    assert capsys.readouterr().err.startswith("main.py: --config=/no/such.py: no such file; ")
    assert ended(lambda: 0) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"), 1, "/a/b: No space left on device; free some space"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "/the/workdir: No space left on device; free"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "/a"), 1, "/a: File too large; raise the limit"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/a"), 1, "/a: Permission denied; make it"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a"), 1, "/a: No such file or directory"),
        (MemoryError(), 1, "out of memory: lower rl.rows"),
        (ValueError('RESOURCE_EXHAUSTED: at "/c/0": No space left on device [28]\n more'), 1, "/c/0: No space left on"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(error, status, said, capsys, monkeypatch):
    monkeypatch.setattr(endings, "_raised_here", lambda error: False)
    monkeypatch.setattr(endings, "_place", "")
    endings.writing_to(Path("/the/workdir"))

    def wrapped():
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a library's own words") from cause

    assert ended(wrapped) == status
    text = capsys.readouterr().err
    assert text.startswith(f"main.py: {said}") and text.count("\n") == 1


@pytest.mark.parametrize("wrong", [lambda: int("x"), lambda: {}["x"], lambda: (1).x, raises(AssertionError("y"))])
def test_a_bug_keeps_its_traceback(wrong):
    """Also a ValueError, if it is not this repository's own."""
    with pytest.raises(Exception) as error:
        ended(wrong)
    assert endings.verdict(error.value) is None


def test_an_endpoint_that_fails_is_no_mistake_of_the_command(capsys):
    assert ended(raises(llm.NoAnswer("5 attempts: no"))) == 1
    assert ended(raises(RuntimeError("10 updates in a row"))) == 1
    assert ended(raises(ValueError("one\nand two"))) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "main.py: one and two"


def test_a_mistake_found_after_another_error_is_told_instead(capsys):
    def work():
        try:
            open("/no/such")
        except OSError:
            raise ValueError("the key is wrong") from None

    assert ended(work) == 2 and capsys.readouterr().err == "main.py: the key is wrong\n"


WAITING = """
import sys, threading, time
from rl import endings
def work():
    threading.Thread(target=time.sleep, args=(60,)).start()  # nobody waits for it
    print("works", flush=True)
    time.sleep(60)
endings.leave("test", work)
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end (SIGTERM)")],
)
def test_a_signal_ends_a_command_at_once_with_a_line(number, status, said):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == "works\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == status
    assert told == f"test: {said}; the same command goes on from the last checkpoint\n"


def gone(pids):
    """Waits until the processes have ended; returns those that have not."""
    for _ in range(600):
        pids = [pid for pid in pids if alive(pid)]
        if not pids:
            break
        time.sleep(0.05)
    return pids


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children(pid):
    """Process ids of a process's children and theirs."""
    try:
        own = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [*map(int, own), *(grand for child in own for grand in children(child))]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_their_tracker_end_with_the_command(tmp_path, number):
    """synth.processes: two workers and multiprocessing's resource tracker."""
    policy = small_run.folder(tmp_path / "policy")
    changes = {"synth__processes": 2, "synth__train_roots": 400, "synth__domains": "all"}
    process = subprocess.Popen(
        [sys.executable, "main.py", *small_run.arguments(policy, **changes), f"--workdir={tmp_path / 'run'}",
         "--stage=synth"],
        cwd=REPOSITORY, env=small_run.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    notes = tmp_path / "run" / "tasks" / "gates_0.jsonl"
    while not notes.exists() or not notes.stat().st_size:  # until the workers have worked
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    left = children(process.pid)
    assert len(left) >= 3
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143}[number]
    assert told.count("\n") == (number != signal.SIGKILL), told
    assert gone(left) == []


PARENT = """
import subprocess, sys
from rl import endings
process = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, **endings.end_with_me())
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


def test_a_command_that_another_has_started_ends_with_it():
    """As the runs of a sweep do."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, WAITING], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE
    )
    child = int(process.stdout.readline())
    assert alive(child)
    process.kill()
    process.communicate()
    assert gone([child]) == []


def wrong_type(policy):
    record = json.loads((policy / "config.json").read_text())
    (policy / "config.json").write_text(json.dumps({**record, "model_type": "gpt2"}))


MISTAKES = {  # stage, keys, what is done to the policy's folder -> what is said
    "mesh": ("flywheel", {"mesh__data": 3}, None, "mesh: sizes .* do not fit 8 devices; the product must be"),
    "mesh of rl": ("rl", {"mesh__data": 3}, None, "mesh: sizes .* do not fit 8 devices; the product must be"),
    "mesh of sft": ("sft", {"mesh__data": 3}, None, "mesh: sizes .* do not fit 8 devices; the product must be"),
    "mesh of serve": ("serve", {"mesh__data": 3, "rl__sft_steps": 0}, None, "mesh: sizes .* do not fit 8 devices"),
    "rows": ("rl", {"rl__sft_steps": 0}, None, "rl.rows: 2 rows .* among the 8 devices .*; take a multiple of 8"),
    "slots": ("serve", {"sampler__slots": 3, "rl__sft_steps": 0}, None, "sampler.slots: expected a multiple of 8"),
    "evaluate": ("evaluate", {}, None, "evaluate: .*run holds no tasks; run --stage=synth or --stage=flywheel first"),
    "compare": ("compare", {}, None, "compare: .*rollouts holds no training episodes; run --stage=rl or "),
    "serve": ("serve", {}, None, r"sft/policy is missing: the warm start \(rl.sft_steps\) has not finished"),
    "tau2": ("evaluate", {"evaluate__suites": "tau2"}, None, "evaluate.suites: tau2 needs a checkout"),
    "model_type": ("rl", {"rl__sft_steps": 0}, wrong_type, "config.json: model_type: expected one of .*, found 'gpt2'"),
    "topology": ("plan", {"plan__topology": "v5p"}, None, "plan.topology: expected one of .* as in v5p:4x4x4, found"),
    "others": ("rl", {"mesh__processes": 2}, None, r"mesh.processes = 2: jax does not find .* \(docs/hosts.md\)"),
    "context": (
        "rl", {"sampler__context": 80, "rl__sft_steps": 0, "rl__rows": 8}, None,
        "round 0: no train task fits; .*: the prompt has [0-9]+ tokens, which leaves no room in sampler.context = 80",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_that_only_the_stage_can_see_are_one_line_with_status_2(what, tmp_path, monkeypatch, capsys):
    stage, keys, spoil, said = MISTAKES[what]
    policy = small_run.folder(tmp_path / "policy")
    if spoil is not None:
        spoil(policy)

    def initialize(*arguments):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.chdir(REPOSITORY)
    for name in ("TAU2_SRC", "TAU2_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    workdir = [] if stage == "plan" else [f"--workdir={tmp_path / 'run'}"]
    assert main.main([*small_run.arguments(policy, **keys), *workdir, f"--stage={stage}"]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(rf"main.py: .*{said}.*\n", told)
    assert not (tmp_path / "run" / "checkpoints").exists() or not any((tmp_path / "run" / "checkpoints").iterdir())


def test_a_workdir_that_cannot_be_made_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / "file").touch()
    policy = small_run.folder(tmp_path / "policy")
    place = tmp_path / "file" / "run"
    assert main.main([*small_run.arguments(policy), f"--workdir={place}"]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(
        rf"main.py: --workdir={place}: cannot be written \(.*: Not a directory\); take another .*\n", told
    )
