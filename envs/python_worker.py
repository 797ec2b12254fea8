"""The fork server behind envs/python_tool.py: a warm interpreter that forks once per call and confines the child.

Speaks with its parent over standard input and output: messages are JSON with a four-byte length before it. The first
message it sends says what protects a call, or why calls are refused. It ends when its input does.
"""

from __future__ import annotations

import ast
import gc
import io
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import sysconfig
import time
import traceback
from typing import Any, BinaryIO

from envs import confine

PROGRAM = "<program>"  # the file name of a call's code in tracebacks


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Writes one message."""
    data = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Reads one message; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return json.loads(stream.read(struct.unpack(">I", head)[0]))


def execute(code: str, given: dict[str, Any]) -> int:
    """Runs a program that knows the given names and prints its last expression's value; returns the exit status."""
    names: dict[str, Any] = {"__name__": "__main__", **given}
    try:
        tree = ast.parse(code, PROGRAM)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, PROGRAM, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), PROGRAM, "eval"), names)
            if value is not None:
                print(repr(value))
        sys.stdout.flush()
    except SystemExit:
        sys.stdout.flush()
    except BaseException as error:  # whatever a program raises is its result
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == PROGRAM]
        where = f"line {frames[-1].lineno}: " if frames else ""
        print(where + "".join(traceback.format_exception_only(error)).strip())
        sys.stdout.flush()
        return 1
    return 0


def _child(
    message: dict[str, Any], output: int, limits: dict[str, int], scratch: str, readable: list[str], writes: bool
) -> None:
    """Gives up everything that the program does not need, and runs it. Does not return."""
    status = 3  # what is left if the confinement itself fails: the program is not run then
    try:
        os.setsid()
        confine.die_with_parent(signal.SIGKILL)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, source in ((0, null), (1, output), (2, output)):
            os.dup2(source, descriptor)
        os.closerange(3, 1024)
        sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", errors="backslashreplace")
        sys.stderr = sys.stdout
        os.chdir(scratch)
        confine.limit(
            {
                resource.RLIMIT_CORE: 0,
                resource.RLIMIT_CPU: limits["cpu_seconds"],
                resource.RLIMIT_FSIZE: limits["scratch_bytes"],
                resource.RLIMIT_NOFILE: limits["open_files"],
                resource.RLIMIT_NPROC: 0,
                resource.RLIMIT_MEMLOCK: 0,
                resource.RLIMIT_MSGQUEUE: 0,
                resource.RLIMIT_AS: limits["memory_bytes"],
            }
        )
        confine.landlock(readable, [scratch] if writes else [])
        random.seed(0)
        confine.seccomp()
        status = 1  # what is left if telling an error fails in its turn, out of memory for one
        status = execute(message["code"], message["names"])
    except BaseException as error:
        os.write(1, f"{error!r}".encode("utf-8", errors="replace"))
    finally:
        os._exit(status)


def _collect(pid: int, source: int, limits: dict[str, int]) -> tuple[bytes, str, int]:
    """Reads the child's output until it ends or is stopped. Returns (output, why it was stopped or "", wait status)."""
    deadline, data, stopped = time.monotonic() + limits["wall_seconds"], b"", ""
    watch = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(watch, select.POLLIN)
    ended = False
    while not ended and not stopped:
        ready = dict(poll.poll(max(0, int(1000 * (deadline - time.monotonic())))))
        ended = watch in ready
        if source in ready:
            piece = os.read(source, 1 << 16)
            data += piece
            if not piece:
                poll.unregister(source)  # closed by the program, which may still run
        if len(data) > limits["output_bytes"]:
            stopped = "output"
        elif not ready:
            stopped = "time"
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it has not come to setsid yet, or is a zombie already
    status = os.waitpid(pid, 0)[1]
    os.close(watch)
    os.set_blocking(source, False)
    while not stopped:  # what it wrote last
        try:
            piece = os.read(source, 1 << 16)
        except BlockingIOError:
            break
        data += piece
        if not piece or len(data) > limits["output_bytes"]:
            break
    if len(data) > limits["output_bytes"]:
        stopped = "output"
    return data[: limits["output_bytes"]], stopped, status


def call(
    message: dict[str, Any], limits: dict[str, int], scratch: str, readable: list[str], mounts: bool
) -> dict[str, Any]:
    """One call, {"code", "names": values it knows}: {"output", "stopped", "status", "signal"}."""
    if mounts:
        confine.mount_scratch(scratch, limits["scratch_bytes"], limits["scratch_files"])
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(message, sink, limits, scratch, readable, mounts)
    os.close(sink)
    data, stopped, status = _collect(pid, source, limits)
    os.close(source)
    if mounts:
        confine.unmount(scratch)
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if signalled == signal.SIGXCPU or (signalled == signal.SIGKILL and not stopped):
        stopped = "time"  # the kernel's: soft or hard limit on CPU time
    output = data.decode("utf-8", errors="replace")
    exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
    return {"output": output, "stopped": stopped, "status": exit_status, "signal": signalled}


def _warm_up(modules: list[str], prelude: str) -> list[str]:
    """Imports what programs will want and runs the prelude; returns the folders and files that programs may read."""
    found = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), "/usr/lib", "/lib", "/lib64"]
    found.append(os.path.join(sys.base_prefix, "lib"))
    found.append("/etc/ld.so.cache")
    for name in modules:
        module = __import__(name)
        if name in ("sympy", "mpmath"):
            found.append(os.path.dirname(module.__file__))
    exec(prelude, {})
    return found


def serve(scratch: str, modules: list[str], limits: dict[str, int], prelude: str = "") -> None:
    """Answers calls until standard input ends. prelude: our own code, run once so that what it imports is warm."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    os.environ.clear()
    sys.path.remove(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the repository: only we need it
    readable = _warm_up(modules, prelude)
    try:
        confine.own_namespaces()
        lacking = ""
    except confine.Unavailable as error:
        lacking = str(error)
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, the pages that children share
    trial = call({"code": "1 + 1", "names": {}}, limits, scratch, readable, not lacking)
    refused = "" if (trial["status"], trial["output"]) == (0, "2\n") else trial["output"] or "the trial call died"
    send(outgoing, {"lacking": lacking, "refused": refused})
    while not refused and (message := receive(incoming)) is not None:
        send(outgoing, call(message, limits, scratch, readable, not lacking))


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3]), sys.argv[4])
