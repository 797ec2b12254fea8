"""An OpenAI-compatible endpoint on loopback, a real HTTP server that is at fault as its test says.

The fixture `server` has the attributes answer (question -> what a good model answers), fault (question, number of
messages -> None or what goes wrong: a status, "hang", "drop", "drip" (a byte now and then, for ever), a text to be
answered instead or, as bytes, the whole body of a response that says that all is well), retry_after (of statuses, the
header), complaint (of statuses, the message), delay; and what it noticed: requests, paid (how often each request was
answered), most (requests at a time).
"""

import collections
import http.server
import json
import threading
import time

import pytest

from synth.trees import domains


def completion(text, **changes):
    """The body of a response that answers `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    record = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice],
              "usage": usage, **changes}  # fmt: skip
    return json.dumps(record).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """POST /v1/chat/completions; what goes wrong is decided by the server's script."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = next(m["content"] for m in body["messages"] if m["role"] == "user")
        server = self.server
        with server.lock:
            server.requests.append((self.path, self.headers["Authorization"], body))
            server.active += 1
            server.most = max(server.most, server.active)
            fault = server.fault(question, len(body["messages"]))
        time.sleep(server.delay)
        status, text = 200, json.dumps(server.answer(question))
        if fault == "hang":
            server.released.wait(30)
        elif fault == "drop":  # the connection breaks without an answer
            self.close_connection = True
            with server.lock:
                server.active -= 1
            return
        elif isinstance(fault, int):
            status = fault
        elif isinstance(fault, str):
            text = fault
        if isinstance(fault, bytes):
            data = fault
        else:
            data = completion(text) if status == 200 else json.dumps({"error": {"message": server.complaint}}).encode()
            if status == 200 and fault not in ("hang", "drip"):
                with server.lock:
                    server.paid[json.dumps(body["messages"])] += 1
        with server.lock:
            server.active -= 1
        try:
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if data.startswith(b"<") else "application/json")
            if status != 200 and server.retry_after:
                self.send_header("Retry-After", server.retry_after)
            self.send_header("Content-Length", str(len(data) if fault != "drip" else 10**6))
            self.end_headers()
            while fault == "drip" and not server.released.wait(0.02):
                self.wfile.write(b" ")
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has given up waiting

    def log_message(self, *args):
        """Says nothing."""


@pytest.fixture
def server(monkeypatch):
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.lock, found.requests, found.paid = threading.Lock(), [], collections.Counter()
    found.released, found.answer = threading.Event(), lambda question: {}
    found.active, found.most, found.delay, found.fault = 0, 0, 0.0, lambda question, turns: None
    found.retry_after, found.complaint = "", "no"
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{found.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    monkeypatch.setattr(domains, "DOMAINS", dict(domains.DOMAINS))
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.released.set()
    found.shutdown()
    thread.join()
    found.server_close()
