"""The soak's teacher: an endpoint on loopback with random faults; the tasks are those that it teaches without any."""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.soaking import common
from benchmarks.soaking.common import Ended, Soak, expect
from tests.support import small_run

KEY = "a-secret-of-the-soak"
KEYS = {
    "synth__teacher": "llm", "synth__teacher_model": "scripted", "synth__domains": "hotels", "synth__rounds": 2,
    "synth__operators": "guard,hidden,boundary", "synth__train_roots": 6, "synth__teacher_timeout": 3.0,
    "synth__teacher_attempts": 6, "rl__sft_steps": 0,
}  # fmt: skip
WORDING = {
    "intro": "You serve {domain}.", "rule": "Fine when {rule}; otherwise {outcome}.",
    "owner_rule": "The {owner} must have {rule}; otherwise {outcome}.", "consent": "Changes need consent.",
}  # fmt: skip
# Faults that are no answer, and answers that are none.
BROKEN = (
    429,
    500,
    503,
    408,
    529,
    "drop",
    "hang",
    "drip",
    b"",
    b"<html>bad gateway</html>",
    b'{"choices": []}',
    b"[" * 50_000,
)
MALFORMED = ("", "{", "[]", '{"nonsense": 1}', '{"intro": NaN}', '{"condition": "\\ud800"}')


def answer(question: str) -> Any:
    """What a good model answers."""
    if "Word the policy" in question:
        return WORDING
    if "Name the best first" in question:
        return {"operators": sorted(json.loads(_found(r"about: (\{.*?\})\. Name", question)))[::-1]}
    field, values = next(iter(json.loads(_found(r"values: (\{.*?\})\. The rule", question)).items()))
    condition = {"op": "le" if isinstance(values[0], int) else "eq", "field": field, "value": values[1]}
    return {"condition": condition, "otherwise": "transfer"}


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "{}"


class Endpoint(http.server.ThreadingHTTPServer):
    """The endpoint. plan: of its faults; None for none. kill: called after so many answers."""

    daemon_threads = True

    def __init__(self, soak: Soak, plan: str | None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.soak, self.plan, self.lock, self.down = soak, plan, threading.Lock(), False
        self.faults: dict[str, list[Any]] = {}
        self.answers = 0
        self.enough = threading.Event()  # set after `wanted` answers
        self.wanted = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def fault(self, body: bytes, repaired: bool) -> Any:
        """The next fault for a request, None for a good answer."""
        key = hashlib.sha256(body).hexdigest()
        with self.lock:
            if self.plan is None:
                return None
            if key not in self.faults:
                rng = random.Random(f"{self.plan}/{key}")
                found: list[Any] = [rng.choice(BROKEN) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
                if not repaired and rng.random() < 0.3:
                    found.append(rng.choice(MALFORMED))
                self.faults[key] = found
            return self.faults[key].pop(0) if self.faults[key] else None

    def handle_error(self, request: Any, address: Any) -> None:
        """Says nothing: clients that leave are part of the plan."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        """Answers, or does not."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        record = json.loads(body)
        question = next(m["content"] for m in record["messages"] if m["role"] == "user")
        fault = 503 if self.server.down else self.server.fault(body, len(record["messages"]) > 2)
        if fault is not None:
            with self.server.lock:
                kind = (
                    f"answered {fault[:20]!r}"
                    if isinstance(fault, (bytes, str)) and fault not in ("drop", "hang", "drip")
                    else fault
                )
                self.server.soak.counts[f"teacher: faults, {kind}"] += 1
        if fault in ("drop", "hang", "drip"):
            self.close_connection = True
            if fault == "drip":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(40):  # longer than the client's patience, and never silent for as long
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.2)
            elif fault == "hang":
                time.sleep(8)
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = fault if isinstance(fault, int) else 200
        text = fault if isinstance(fault, str) else json.dumps(answer(question))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        told: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
                                "choices": [choice], "usage": usage}  # fmt: skip
        if status != 200:  # as careless endpoints do, with the key in the error
            told = {"error": {"message": f"no: {self.headers['Authorization']}"}}
        data = fault if isinstance(fault, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if fault is None:
            with self.server.lock:
                self.server.answers += 1
                if self.server.answers >= self.server.wanted > 0:
                    self.server.enough.set()

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


class Lessons:
    """Rounds of tasks that the endpoint words and grows. expected: what they are without faults."""

    def __init__(self, soak: Soak):
        self.soak, self.policy = soak, small_run.folder(soak.folder / "pupil")
        endpoint = Endpoint(soak, None)
        place = soak.folder / "untroubled"
        try:
            common.run(self.command(place), self.environment(endpoint)).in_one_line(0)
        finally:
            endpoint.shutdown()
            endpoint.server_close()
        self.expected, self.answers = tasks(place), endpoint.answers
        expect(self.answers > 10, f"only {self.answers} answers")
        common.remove(place)

    def command(self, place: Path) -> list[str | Path]:
        """The command."""
        return ["main.py", *small_run.arguments(self.policy, **KEYS), f"--workdir={place}", "--stage=synth"]

    def environment(self, endpoint: Endpoint) -> dict[str, str]:
        """The environment in which it asks the endpoint."""
        url = f"http://127.0.0.1:{endpoint.server_port}/v1"
        return common.environment(self.soak, OPENAI_BASE_URL=url, OPENAI_API_KEY=KEY)

    def trial(self, rng: random.Random, folder: Path) -> None:
        """Lessons under faults; maybe killed amid them, or begun while the endpoint is down; at the end the same."""
        place, endpoint = folder / "run", Endpoint(self.soak, str(rng.random()))
        found: list[Ended] = []
        way = rng.choice(("faults", "faults", "killed", "down"))
        try:
            if way == "down":
                endpoint.down = True
                ended = common.run(
                    [*self.command(place), "--config.synth.teacher_attempts=1"], self.environment(endpoint)
                )
                found.append(ended.in_one_line(1))
                endpoint.down = False
            elif way == "killed":
                endpoint.wanted = rng.randint(1, self.answers - 1)
                with common.started(self.command(place), env=self.environment(endpoint)) as process:
                    while process.poll() is None and not endpoint.enough.wait(0.05):
                        pass
                    if process.poll() is None:
                        process.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
                    found.append(common.wait(process).in_one_line(0, -9, 143, 130))
            self.soak.counts[f"teacher: {way}"] += 1
            found.append(common.run(self.command(place), self.environment(endpoint)).in_one_line(0))
        finally:
            endpoint.shutdown()
            endpoint.server_close()
        expect(tasks(place) == self.expected, f"{way}: other tasks than without faults")
        self.soak.counts["teacher: files compared"] += len(self.expected)
        expect(not any(KEY in ended.out + ended.err for ended in found), "the key was printed")
        expect(not any(KEY.encode() in f.read_bytes() for f in place.rglob("*") if f.is_file()), "the key was written")
        common.nobody_left(self.soak)


def tasks(place: Path) -> dict[str, bytes]:
    """The datasets of a workdir, by file."""
    return {
        f.relative_to(place).as_posix(): f.read_bytes() for f in place.rglob("*") if "/round_" in str(f) and f.is_file()
    }


def soak(soak: Soak, only: int | None) -> None:
    """Trials until the time is up, or one."""
    lessons, number = Lessons(soak), 0
    while only is not None or time.monotonic() < soak.ends:
        soak.trial("teacher", number if only is None else only, lessons.trial)
        if only is not None:
            return
        number += 1
