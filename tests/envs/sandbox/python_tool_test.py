"""The Python tool: what it answers, that attacks do no harm and end, that nothing is carried from call to call."""

import asyncio
import io
import json
import os
import platform
import re
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from envs.base import run as run_coroutine
from envs.sandbox import confine, python_tool
from envs.sandbox.python_tool import Limits, PythonTool, Result

REPOSITORY = Path(__file__).parents[3]
ATTACKS = {  # name -> program
    name: code.split("\n##### ")[0]
    for name, code in re.findall(
        r"^=== (\w+)\n(.*?)(?=\n=== |\Z)", (REPOSITORY / "tests" / "support" / "attacks.txt").read_text(), re.M | re.S
    )
}
LIMITS = Limits(cpu_seconds=1, wall_seconds=2, scratch_bytes=1 << 20, scratch_files=32)


@pytest.fixture(scope="module")
def tool():
    found = PythonTool(1, LIMITS)
    yield found
    found.close()


@pytest.fixture(scope="module")
def victims(tool, tmp_path_factory):
    """What attacks are aimed at: a secret file, the fork server, this process, a listening socket."""
    secret = tmp_path_factory.mktemp("home") / "secret"
    secret.write_text("the password")
    tool.run("0")
    server = tool._free.queue[-1]._process.pid
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        names = {"SECRET": secret, "SERVER": server, "PARENT": os.getpid(), "REPOSITORY": REPOSITORY}
        names["PACKAGES"] = sysconfig.get_path("purelib")
        yield {**names, "PORT": listener.getsockname()[1]}, listener


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_there_are_enough_attacks():
    assert len(ATTACKS) >= 60


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers in the attacks are those of x86-64")
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_does_no_harm_and_ends(tool, victims, name):
    names, listener = victims
    code = re.sub("|".join(names), lambda match: str(names[match[0]]), ATTACKS[name])
    places = [Path("/tmp/harm"), Path("/dev/shm/harm"), Path.home() / "harm"]
    result = tool.run(code)  # returns: the server would be killed if it did not
    assert "HARM" not in result.text and "password" not in result.text
    assert len(result.text) <= LIMITS.output_bytes + 100
    assert tool.run("1 + 1") == Result(True, "2")  # and by the same server, whose state nothing has changed:
    assert tool._free.queue[-1]._process.pid == names["SERVER"] and children(names["SERVER"]) == []
    assert names["SECRET"].read_text() == "the password" and os.access(names["SECRET"], os.R_OK)
    assert not any(place.exists() for place in places)
    with pytest.raises(BlockingIOError):  # nobody has called
        listener.accept()
    assert list(Path(python_tool.PLACE).iterdir()) == []


@pytest.mark.parametrize(
    ("code", "ok", "text"),
    [
        ("1 + 1", True, "2"),
        ("print('a')\n'b'", True, "a\n'b'"),
        ("x = 3", True, "[no output]"),
        ("", True, "[no output]"),
        ("print(1); None", True, "1"),
        ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n[f(n) for n in (5, 6)]", True, "[5, 8]"),
        ("x = 1\0", False, "SyntaxError: source code string cannot contain null bytes"),
        ("import sympy\nsympy.factorint(84)", True, "{2: 2, 3: 1, 7: 1}"),
        ("open('a', 'w').write('hi')\nopen('a').read()", True, "'hi'"),
        ("import os\nos.listdir('.')", True, "[]"),
        ("object()", True, "<object object at 0x...>"),
        ("compile('1', 'f', 'eval')", True, '<code object <module> at 0x..., file "f", line 1>'),
        ("hex(123456789), '%#x' % 2**40", True, "('0x75bcd15', '0x10000000000')"),
        ("print('before')\n1 / 0", False, "before\nline 2: ZeroDivisionError: division by zero"),
        ("1 +", False, 'File "<program>", line 1\n    1 +\n       ^\nSyntaxError: invalid syntax'),
        ("import sys\nsys.exit('bye')", True, "[no output]"),
        ("while True: pass", False, "[stopped: more than 1 s of CPU time or 2 s in all]"),
        ("import os\nos._exit(7)", False, "[ended with status 7]"),
        ("print('é' * 3000)", False, "é" * 2000 + "\n[stopped: more than 4000 bytes of output]"),
        ("input()", False, "line 1: EOFError: EOF when reading a line"),
    ],
)  # fmt: skip
def test_answers(tool, code, ok, text):
    assert tool.run(code) == Result(ok, text)


def test_calls_know_nothing_of_each_other_and_repeat(tool):
    tool.run("import math, builtins\nmath.pi = 3\nbuiltins.len = None\nx = 5\nopen('f', 'w').write('x')")
    assert not tool.run("x").ok
    assert tool.run("import math, os\nmath.pi, len('abc'), os.listdir('.')").text == "(3.141592653589793, 3, [])"
    program = "import random\nrandom.random(), list({'a', 'b', 'c', 'd'}), hash('x')"
    assert tool.run(program) == tool.run(program)
    other = PythonTool(1, LIMITS)
    assert other.run(program) == tool.run(program)  # in another server too
    if subprocess.run(["setarch", "-R", "true"], check=False).returncode == 0:  # as do addresses, where that is allowed
        program = "list({None, int, len, str, print, Exception}), id(int)"
        assert other.run(program) == tool.run(program)
    other.close()


def test_no_trace_of_a_call_is_left_in_memory(tool):
    """What was said to and by an earlier call is not found again, neither by going through objects nor in memory."""
    rows = [{"a": f"ROWMARKER-{i}"} for i in range(300)]
    assert "CODEMARKER-1" in tool.run("print('CODEMARKER-1' * 50)" + "\n# pad" * 300, {"rows": rows}).text
    search = """
import ctypes, gc, re
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
marks, found = re.compile(b'MARKE' + b'R-[0-9]+'), set()
for size in [*range(16, 6000, 40), 8000, 12000, 16000, 24000, 32000, 65000, 100000]:
    for _ in range(3):
        found.update(marks.findall(ctypes.string_at(libc.malloc(size), size)))
for page in {id(thing) >> 12 for thing in gc.get_objects()}:
    found.update(marks.findall(ctypes.string_at(page << 12, 4096)))
found"""
    assert tool.run(search).text == "set()"


def test_programs_may_be_given_values(tool):
    assert tool.run("sum(row['a'] for row in rows)", {"rows": [{"a": 2}, {"a": 3}]}).text == "5"
    assert not tool.run("rows").ok


def test_a_program_that_is_too_long_is_refused(tool):
    result = tool.run("#" * (python_tool.MAX_CODE + 1))
    assert result == Result(False, "Error: the program has 20001 characters, at most 20000 are allowed.")


def test_calls_may_overlap_and_servers_are_replaced():
    pool = PythonTool(2, LIMITS)

    async def several():
        return await asyncio.gather(*(pool.call(f"{i} ** 2") for i in range(8)))

    assert [result.text for result in run_coroutine(several())] == [str(i**2) for i in range(8)]
    server = pool._free.queue[-1]
    server._process.kill()
    with pytest.raises(RuntimeError, match="the fork server broke"):
        pool.run("1")
    assert [pool.run("1 + 1").text for _ in range(3)] == ["2"] * 3
    processes = [s._process for s in pool._free.queue if s]
    pool.close()
    assert all(process.poll() is not None for process in processes)


def test_a_machine_that_cannot_confine_is_refused(monkeypatch):
    """What the server reports when a protection fails is a RuntimeError; without namespaces nothing can be written."""
    boot = "import dataclasses, json, sys, tempfile\n"
    boot += "from envs.sandbox import confine, python_worker as w, python_tool as p\n"
    boot += "def fail(*args):\n    raise confine.Unavailable('{0}: not on this machine')\nconfine.{0} = fail\n"
    boot += "sys.path.insert(0, {1!r})\n"
    boot += "w.serve(p.PLACE, ['math'], dataclasses.asdict(p.Limits()))"
    calls = b"".join(framed(code) for code in ("open('f', 'w')", "2 + 3"))
    for name in ("ruleset", "restrict_files", "seccomp"):
        command = [sys.executable, "-c", boot.format(name, str(REPOSITORY))]
        done = subprocess.run(command, cwd=REPOSITORY, input=calls, capture_output=True, check=True)
        (hello,) = frames(done.stdout)
        assert f"{name}: not on this machine" in json.loads(hello)["refused"]
    command = [sys.executable, "-c", boot.format("own_namespaces", str(REPOSITORY))]
    done = subprocess.run(command, cwd=REPOSITORY, input=calls, capture_output=True, check=True)
    hello, _, refused, _, answered = frames(done.stdout)
    assert json.loads(hello) == {"lacking": "own_namespaces: not on this machine", "refused": ""}
    assert b"PermissionError" in refused and answered == b"5\n"
    monkeypatch.setattr(python_tool.python_worker, "receive", lambda stream: {"lacking": "", "refused": "no Landlock"})
    with pytest.raises(RuntimeError, match="this machine cannot confine programs: no Landlock"):
        PythonTool(1).run("1")
    answer = {"lacking": "unshare: no", "refused": "", "stopped": "", "status": 0, "signal": 0}
    monkeypatch.setattr(python_tool.python_worker, "receive", lambda stream: answer)
    monkeypatch.setattr(python_tool.python_worker, "receive_frame", lambda stream: b"1\n")
    tool = PythonTool(1)
    with pytest.warns(UserWarning, match="python tool: unshare: no, so programs cannot write files here"):
        assert tool.run("1") == Result(True, "1")
    tool.close()


def framed(code):
    data = json.dumps({"code": code, "names": {}}).encode()
    return len(data).to_bytes(4, "big") + data


def frames(data):
    stream, found = io.BytesIO(data), []
    while (frame := python_tool.python_worker.receive_frame(stream)) is not None:
        found.append(frame)
    return found


def test_seccomp_knows_both_architectures():
    """No call that starts, signals or reaches anything is in the tables (numbers from the kernel's headers)."""
    forbidden = {
        "x86_64": (
            41,
            42,
            49,
            53,
            56,
            57,
            58,
            59,
            62,
            101,
            157,
            160,
            165,
            200,
            234,
            272,
            302,
            310,
            319,
            322,
            425,
            435,
            72,
            76,
            90,
            92,
            188,
            280,
        ),
        "aarch64": (
            198,
            200,
            203,
            199,
            220,
            221,
            129,
            117,
            167,
            164,
            40,
            130,
            131,
            97,
            261,
            270,
            279,
            281,
            425,
            435,
            25,
            45,
            52,
            54,
            5,
            88,
        ),
    }
    for machine, numbers in forbidden.items():
        assert not set(numbers) & set(confine._ALLOWED[machine])
