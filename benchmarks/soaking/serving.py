"""The soak's server: good, odd and hostile clients at once; good answers are those that a quiet server gave."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.soaking import common
from benchmarks.soaking.common import Failure, Soak, expect
from tests.support import small_run

Request = dict[str, Any]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SAID = ("Hello, I am Ben.", "Where is order 7?", "zoë ☂ ½ \u202e", "a " * 60, "")
# What a request of an odd client changes. The answer has to be one, or an error of OpenAI's shape.
ODD: tuple[Request, ...] = (
    {"model": "gpt"}, {"temperature": 3}, {"temperature": "hot"}, {"max_tokens": 0}, {"max_tokens": 10**9}, {"n": 99},
    {"seed": 1.5}, {"seed": -(2**40)}, {"stop": [""]}, {"stop": ["e", "a"]}, {"top_k": 5}, {"temprature": 1},
    {"messages": []}, {"messages": 7}, {"messages": [{"role": "robot", "content": "x"}]}, {"tools": [3]},
    {"messages": [{"role": "user", "content": "\ud800"}]}, {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": "long " * 5000}]}, {"stream": "yes"}, {"response_format": {"type": "x"}},
    {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, {"logit_bias": {"5": 1}},
    {"tools": [{"type": "function", "function": {"name": "a\nb", "parameters": {"$ref": "#"}}}]}, {"user": "u" * 9999},
)  # fmt: skip


class Server:
    """A served policy. address: (host, port)."""

    def __init__(self, soak: Soak, place: Path):
        keys = {"sampler__slots": 4, "sampler__max_new_tokens": 24, "serve__port": 0, "serve__queue": 32}
        policy = small_run.folder(place / "policy")
        command = ["main.py", *small_run.arguments(policy, **keys, rl__sft_steps=0), "--stage=serve"]
        self.errors = open(place / "errors", "w+")  # noqa: SIM115 (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command), f"--workdir={place / 'run'}"],
            cwd=common.REPOSITORY, env=common.environment(soak), stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip
        said, found = "", None
        for line in self.process.stdout or ():  # it may say more before it says where it is
            said += line
            if found := re.search(r"http://([\d.]+):(\d+)/v1", line):
                break
        expect(found is not None, f"the server does not start: {said!r} {self.told()}")
        assert found is not None
        self.address = found[1], int(found[2])
        for _ in range(common.PATIENCE * 10):  # bound, but it may not listen yet
            try:
                self.health()
                return
            except OSError:
                expect(self.process.poll() is None, f"the server ends: {self.told()}")
                time.sleep(0.1)

    def told(self) -> str:
        """What it has printed on standard error."""
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read()[-1500:]

    def ask(self, request: Request) -> tuple[int, Any]:
        """(status, the choices of the answer, streamed or not; else its body)."""
        connection = http.client.HTTPConnection(*self.address, timeout=common.PATIENCE)
        try:
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(request), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            return answer.status, json.loads(body)
        return 200, _streamed(body) if request.get("stream") is True else _whole(json.loads(body))

    def health(self) -> dict[str, Any]:
        """What /health says."""
        connection = http.client.HTTPConnection(*self.address, timeout=common.PATIENCE)
        try:
            connection.request("GET", "/health")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def end(self, number: signal.Signals) -> None:
        """Ends it by a signal. Raises Failure if it does not end in order."""
        try:
            self.process.send_signal(number)
            status = self.process.wait(common.PATIENCE)
            expect(
                status in ({0, 130} if number == signal.SIGINT else {0, 143, -15}), f"status {status}: {self.told()}"
            )
            expect("Traceback" not in self.told(), f"a traceback: {self.told()}")
        finally:
            self.close()

    def close(self) -> None:
        """Makes sure that it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()


def _whole(body: dict[str, Any]) -> list[Any]:
    """[(content, tool calls, finish reason)] of the choices of an answer in one piece."""
    found = []
    for choice in sorted(body["choices"], key=lambda choice: choice["index"]):
        calls = [call["function"] for call in choice["message"].get("tool_calls") or ()]
        found.append([choice["message"].get("content") or "", calls, choice["finish_reason"]])
    return found


def _streamed(body: bytes) -> list[Any]:
    """The same of a stream."""
    events = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: ")]
    expect(events[-1:] == ["[DONE]"], f"a stream without an end: {events[-1:]}")
    found: dict[int, list[Any]] = {}
    for event in map(json.loads, events[:-1]):
        for choice in event["choices"]:
            one = found.setdefault(choice["index"], ["", [], None])
            one[0] += choice["delta"].get("content") or ""
            one[1] += [call["function"] for call in choice["delta"].get("tool_calls") or ()]
            one[2] = choice["finish_reason"] or one[2]
    return [found[index] for index in sorted(found)]


def _good(rng: random.Random) -> Request:
    """A request that has one right answer."""
    request: Request = {"model": "policy", "messages": [{"role": "user", "content": rng.choice(SAID)}],
                        "seed": rng.randrange(10**6), "temperature": rng.choice((0, 0.7, 1, 1.5)),
                        "n": rng.choice((1, 1, 2)), "max_tokens": rng.randint(1, 24)}  # fmt: skip
    if rng.random() < 0.5:
        request["messages"].insert(0, {"role": "system", "content": "You work for hotels."})
    if rng.random() < 0.5:
        request["tools"] = [TOOL]
    return request


def _raw(
    address: tuple[str, int], *parts: bytes, pause: float = 0.0, reset: bool = False, read: int = 1 << 16
) -> bytes:
    """Sends bytes as they are; returns the beginning of what comes back. reset: break the connection off."""
    with socket.create_connection(address, timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        return connection.recv(read) if read else b""


def _post(body: bytes, length: int | None = None, more: str = "") -> bytes:
    length = len(body) if length is None else length
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _hostile(rng: random.Random, address: tuple[str, int], good: Request) -> tuple[str, bytes]:
    """(name, the beginning of the answer) of one thing that no decent client does."""
    whole = json.dumps(good).encode()
    streaming = json.dumps({**good, "stream": True}).encode()
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    ways: dict[str, Callable[[], bytes]] = {
        "no http": lambda: _raw(address, rng.randbytes(200) + b"\r\n\r\n"),
        "no json": lambda: _raw(address, _post(rng.randbytes(50))),
        "deep json": lambda: _raw(address, _post(b"[" * 100_000)),
        "deep message": lambda: _raw(address, _post(b'{"messages":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}")),
        "half a body": lambda: _raw(address, _post(whole[: len(whole) // 2], len(whole)), reset=True),
        "a drip": lambda: _raw(address, *(bytes([b]) for b in _post(whole)[:30]), pause=0.02, reset=True),
        "leaves amid an answer": lambda: _raw(address, _post(whole), pause=0.05 * rng.random(), reset=True),
        "leaves amid a stream": lambda: _raw(address, _post(streaming), pause=0.3 * rng.random(), reset=True),
        "says nothing": lambda: _raw(address, b"", pause=1.0, read=0),
        "wrong chunks": lambda: _raw(address, chunked + b"zz\r\n"),
        "many headers": lambda: _raw(address, _post(whole, None, "".join(f"X-{i}: {i}\r\n" for i in range(2000)))),
        "a long path": lambda: _raw(address, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        "another method": lambda: _raw(address, b"DELETE /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n"),
        "a length that lies": lambda: _raw(address, _post(whole, 10**15), reset=True),
        "two at once": lambda: _raw(address, _post(whole).replace(b"close", b"keep-alive") * 2),
    }  # fmt: skip
    name = rng.choice(list(ways))
    try:
        return name, ways[name]()
    except (OSError, TimeoutError):  # refused, which is its right
        return name, b""


def trial(soak: Soak, seconds: float, rng: random.Random, place: Path) -> None:
    """One server: answers while it is quiet, a storm, the same answers again, an orderly end."""
    server = Server(soak, place)
    try:
        requests = [_good(rng) for _ in range(12)]
        expected = []
        for request in requests:
            status, choices = server.ask(request)
            expect(status == 200, f"a good request got {status}: {choices}")
            expected.append(choices)
        files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        ends, lock = min(time.monotonic() + seconds, soak.ends), threading.Lock()
        wrong: list[str] = []

        def client(kind: str, number: int, own: random.Random) -> None:
            del number
            while time.monotonic() < ends and not wrong:
                index = own.randrange(len(requests))
                try:
                    name = one(kind, index, own)
                except Failure as failure:
                    with lock:
                        wrong.append(f"{kind} client: {failure}")
                    return
                except (OSError, http.client.HTTPException, ValueError) as error:
                    with lock:
                        wrong.append(f"{kind} client, request {index}: {error!r}")
                    return
                with lock:
                    soak.counts[f"serving: {name}"] += 1

        def one(kind: str, index: int, own: random.Random) -> str:
            if kind == "good":
                status, found = server.ask({**requests[index], "stream": own.random() < 0.5})
                if status == 429:
                    time.sleep(0.1)
                    return "good requests refused as too many"
                expect(
                    (status, found) == (200, expected[index]), f"request {index}: {status} {found}, {expected[index]}"
                )
                return "good answers compared"
            if kind == "odd":
                change = own.choice(ODD)
                status, found = server.ask({**requests[index], **change})
                shaped = status == 200 or (status < 500 and "message" in found.get("error", {}))
                expect(shaped, f"{change} got {status}: {found}")
                return "odd requests"
            name, answer = _hostile(own, server.address, requests[index])
            expect(not re.match(rb"HTTP/1.1 5", answer), f"{name!r} got {answer[:200]!r}")
            return f"hostile, {name}"

        kinds = ["good"] * 3 + ["odd"] * 2 + ["hostile"] * 3
        clients = [
            threading.Thread(target=client, args=(kind, i, random.Random(rng.random()))) for i, kind in enumerate(kinds)
        ]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        expect(not wrong, "; ".join(wrong))
        for _ in range(1200):
            if (load := server.health())["running"] == load["waiting"] == 0:
                break
            time.sleep(0.1)
        expect(load["status"] == "ok" and load["running"] == load["waiting"] == 0, f"not idle after the storm: {load}")
        for request, choices in zip(requests, expected):
            expect(server.ask(request) == (200, choices), f"another answer after the storm to {request}")
        soak.counts["serving: answers compared after the storm"] += len(requests)
        opened = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) - files
        soak.counts["serving: most open files added"] = max(soak.counts["serving: most open files added"], opened)
        server.end(rng.choice((signal.SIGINT, signal.SIGTERM)))
    finally:
        server.close()
    common.nobody_left(soak)


def soak(soak: Soak, only: int | None) -> None:
    """Servers of a minute each until the time is up, or one."""
    number = 0
    while only is not None or time.monotonic() < soak.ends:
        if only is not None:
            soak.ends = time.monotonic() + 120
        soak.trial("serving", number if only is None else only, lambda rng, place: trial(soak, 60, rng, place))
        if only is not None:
            return
        number += 1
