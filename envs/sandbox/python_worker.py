"""The fork server behind python_tool.py: a warm interpreter that forks a child for each call and confines it.

It communicates with its parent over standard input and output, in frames that start with a four-byte length. A message
is a frame of JSON. The server first sends a message which says how calls are protected or why they are refused. Each
call is one message; its answer is one message and one frame of output. The server ends when its input ends.

The contents of a call must not stay in the server's memory, which later calls inherit and could search. So the child
reads the message itself, and the server passes on the output through a buffer that it wipes afterwards.
"""

from __future__ import annotations

import ast
import dataclasses
import gc
import glob
import io
import json
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import time
import traceback
from importlib import machinery
from typing import Any, BinaryIO

from envs.sandbox import confine

PROGRAM = "<program>"  # file name of a program in tracebacks
_LENGTH = struct.Struct(">I")
_PIECE = 1 << 16  # bytes of output that are read at a time
_THIRD_PARTY = ("site-packages", "dist-packages")  # folders that may be inside the standard library's

# Loads the extension modules in its arguments and prints what is mapped then, which includes the libraries they need.
_MAPS = """
import ctypes, sys
for path in sys.argv[1:]:
    try:
        ctypes.CDLL(path)
    except OSError:  # this machine lacks a library of it
        pass
print(open("/proc/self/maps").read())
"""


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Writes one message."""
    data = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Reads one message; None at the end of the stream."""
    data = receive_frame(stream)
    return None if data is None else json.loads(data)


def receive_frame(stream: BinaryIO) -> bytearray | None:
    """Reads one frame, and from an unbuffered stream not a byte more; None at the end of the stream."""
    head = _read(stream, _LENGTH.size)
    return _read(stream, *_LENGTH.unpack(head)) if len(head) == _LENGTH.size else None


def _read(stream: BinaryIO, count: int) -> bytearray:
    """Reads `count` bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < count and (piece := stream.read(count - len(data))):
        data += piece
    return data


def execute(code: str, given: dict[str, Any]) -> int:
    """Runs a program and prints the value of its last expression; returns the exit status.

    given: the program's global variables.
    """
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
    except BaseException as error:  # any exception of a program is its result
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == PROGRAM]
        where = f"line {frames[-1].lineno}: " if frames else ""
        print(where + "".join(traceback.format_exception_only(error)).strip())
        sys.stdout.flush()
        return 1
    return 0


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """What confines each call.

    limits: see python_tool.Limits. files: descriptor of the Landlock ruleset. scratch: the working folder. writes:
    whether scratch is a writable folder, mounted for each call.
    """

    limits: dict[str, int]
    files: int
    scratch: str
    writes: bool


def _child(incoming: BinaryIO, output: int, bounds: _Bounds) -> None:
    """Reads a call, gives up all rights that its program does not need, and runs it. Does not return."""
    status, limits = 3, bounds.limits  # exit status if the confinement fails; then the program is not run
    try:
        os.setsid()
        confine.die_with_parent(signal.SIGKILL)
        message = receive(incoming)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, source in ((0, null), (1, output), (2, output)):
            os.dup2(source, descriptor)
        confine.restrict_files(bounds.files)
        os.closerange(3, 1024)
        sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", errors="backslashreplace")
        sys.stderr = sys.stdout
        os.chdir(bounds.scratch)
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
        random.seed(0)
        confine.seccomp()
        status = 1  # exit status if reporting an error fails, too, for example without memory
        status = execute(message["code"], message["names"])
    except BaseException as error:
        os.write(1, f"{error!r}".encode("utf-8", errors="replace"))
    finally:
        os._exit(status)


def _collect(pid: int, source: int, limits: dict[str, int], buffer: memoryview) -> tuple[int, str, int]:
    """Reads the child's output until the child ends or is stopped.

    Returns (bytes of output in the buffer, why it was stopped or "", wait status).
    """
    deadline, length, stopped = time.monotonic() + limits["wall_seconds"], 0, ""
    watch = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(watch, select.POLLIN)
    ended = False
    while not ended and not stopped:
        ready = dict(poll.poll(max(0, int(1000 * (deadline - time.monotonic())))))
        ended = watch in ready
        if source in ready:
            count = os.readv(source, [buffer[length : length + _PIECE]])
            length += count
            if not count:
                poll.unregister(source)  # closed by the program, which may be still running
        if length > limits["output_bytes"]:
            stopped = "output"
        elif not ready:
            stopped = "time"
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # the child has not called setsid yet, or is a zombie already
    status = os.waitpid(pid, 0)[1]
    os.close(watch)
    os.set_blocking(source, False)
    while not stopped:  # output that is still in the pipe
        try:
            count = os.readv(source, [buffer[length : length + _PIECE]])
        except BlockingIOError:
            break
        length += count
        if length > limits["output_bytes"]:
            stopped = "output"
        elif not count:
            break
    return min(length, limits["output_bytes"]), stopped, status


def _call(incoming: BinaryIO, bounds: _Bounds, buffer: memoryview) -> tuple[dict[str, Any], int]:
    """Handles one call; returns ({"stopped", "status", "signal"}, bytes of output in the buffer)."""
    if bounds.writes:
        confine.mount_memory(bounds.scratch, bounds.limits["scratch_bytes"], bounds.limits["scratch_files"])
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(incoming, sink, bounds)
    os.close(sink)
    length, stopped, status = _collect(pid, source, bounds.limits, buffer)
    os.close(source)
    if bounds.writes:
        confine.unmount(bounds.scratch)
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if signalled == signal.SIGXCPU or (signalled == signal.SIGKILL and not stopped):
        stopped = "time"  # by the kernel, at the soft or hard limit of CPU time
    exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
    return {"stopped": stopped, "status": exit_status, "signal": signalled}, length


def _warm_up(modules: list[str], prelude: str) -> list[str]:
    """Imports modules and runs the prelude; returns the folders of all packages that this has loaded."""
    before = set(sys.modules)
    for name in modules:
        __import__(name)
    exec(prelude, {})
    packages = {name.partition(".")[0] for name in set(sys.modules) - before}
    return [folder for name in sorted(packages) for folder in getattr(sys.modules[name], "__path__", ())]


def _standard_library() -> tuple[list[str], list[str]]:
    """(the standard library's folders, the files and folders in them and the shared libraries that they need).

    In a virtual environment these are the folders of its base interpreter. Installed packages in them are left out.
    """
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    folders = sorted({os.path.realpath(sysconfig.get_path(name, vars=base)) for name in ("stdlib", "platstdlib")})
    files = [os.path.join(f, name) for f in folders for name in os.listdir(f) if name not in _THIRD_PARTY]
    extensions = [path for folder in folders for path in glob.glob(f"{glob.escape(folder)}/lib-dynload/*.so")]
    command = [sys.executable, "-I", "-S", "-c", _MAPS, *extensions]
    maps = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, text=True).stdout
    mapped = {parts[5] for line in maps.splitlines() if len(parts := line.split(maxsplit=5)) == 6}
    return folders, [*files, "/etc/ld.so.cache", *sorted(path for path in mapped if path.startswith("/"))]


def _forget_third_parties(folders: list[str]) -> None:
    """Restricts imports to the standard library and what is already loaded."""
    sys.path[:] = [*folders, *(os.path.join(folder, "lib-dynload") for folder in folders)]
    sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, machinery.PathFinder]


def _scratch(place: str) -> str:
    """Mounts a folder in memory over `place`; returns the folder in it where each call's folder will be mounted.

    Raises confine.Unavailable or OSError.
    """
    os.makedirs(place, exist_ok=True)
    confine.own_namespaces()
    confine.mount_memory(place, 1 << 16, 8)
    scratch = os.path.join(place, "files")
    os.mkdir(scratch)
    confine.make_read_only(place)
    return scratch


def serve(place: str, modules: list[str], limits: dict[str, int], prelude: str = "") -> None:
    """Answers calls until standard input ends.

    Args:
      place: an empty folder, created if missing. The server mounts a file system in memory over it, which only this
        server sees, so any number of servers can share the folder.
      modules: names of modules to import before the first call.
      limits: see python_tool.Limits.
      prelude: trusted code, run once before the first call.
    """
    incoming, outgoing = (open(fd, mode, buffering=0, closefd=False) for fd, mode in ((0, "rb"), (1, "wb")))
    os.environ.clear()
    repository = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    sys.path.remove(repository)  # only needed by this module
    packages = _warm_up(modules, prelude)
    folders, readable = _standard_library()
    _forget_third_parties(folders)
    lacking = refused = ""
    try:
        scratch = _scratch(place)
    except (confine.Unavailable, OSError) as error:
        scratch, lacking = "/", str(error)
    gc.collect()
    gc.freeze()  # so that the collector does not touch, and thereby copy, memory pages shared with children
    buffer = memoryview(bytearray(limits["output_bytes"] + _PIECE))
    try:
        files = confine.ruleset(readable + packages, folders, [] if lacking else [place])
    except confine.Unavailable as error:
        refused = str(error)
    else:
        bounds, trial = _Bounds(limits, files, scratch, not lacking), io.BytesIO()
        send(trial, {"code": "1 + 1", "names": {}})
        trial.seek(0)
        head, length = _call(trial, bounds, buffer)
        output = bytes(buffer[:length]).decode(errors="replace")
        if (head["status"], output) != (0, "2\n"):
            refused = output or "the trial call died"
    send(outgoing, {"lacking": lacking, "refused": refused})
    waiting = select.poll()
    waiting.register(incoming, select.POLLIN)
    while not refused and waiting.poll()[0][1] & select.POLLIN:  # POLLIN is not set at the end of the stream
        head, length = _call(incoming, bounds, buffer)
        send(outgoing, head)
        outgoing.write(_LENGTH.pack(length))
        rest = buffer[:length]
        while rest:
            rest = rest[outgoing.write(rest) :]
        buffer[:] = bytes(len(buffer))


if __name__ == "__main__":
    if confine.fix_addresses():
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # takes effect only in a newly executed program
    serve(sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3]), sys.argv[4])
