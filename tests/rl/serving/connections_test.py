"""Connections over loopback whose clients do nothing, or leave: they end, others go on, and the log stays quiet."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time

import pytest
import uvicorn

from model.text import tokenizer
from model.text.chat import Chat
from rl.serving import connections, endpoint, openai_format
from tests.rl.serving.endpoint_test import ASKED, FOLDER, Busy, body, held

KEY = "a key for tests"
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def running(app):
    """The address of a server of an application, in a thread."""
    config = uvicorn.Config(app, "127.0.0.1", 0, http=connections.Impatient, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


def made(key=""):
    limits = openai_format.Limits("policy", 96, 8, 1.0)
    return endpoint.Endpoint(Busy(), Chat(tokenizer.load(FOLDER)), limits, key, "0").app()


def post(text, **headers):
    """The bytes of a request."""
    lines = [
        f"POST {ASKED} HTTP/1.1",
        "Host: x",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        "",
        text,
    ]
    return "\r\n".join(lines).encode()


def connect(address):
    return socket.create_connection(address, timeout=60)


def read_to_end(link):
    """All that comes until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := link.recv(65536):
            found += part
    return found


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.3)


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"", []), (b"GET /heal", []), (b"GET /health HTTP/1.1\r\nHost: x\r\n", []), (GET, [200]),
        (GET + b"GET /heal", [200]), (GET + GET + b"P", [200, 200]), (post("x", Content_Length=999), [401]),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dripping", [False, True])
def test_a_client_that_asks_nothing_is_left(hasty, sent, answers, dripping):
    """Whether it is silent or sends a byte now and then that ends nothing: a head, or the body of a refused request."""
    with running(made(KEY)) as address, connect(address) as link:
        link.sendall(sent)
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    link.sendall(b"x")

        thread = threading.Thread(target=drip)
        if dripping and sent and sent != GET:  # else there is nothing that a byte would continue
            thread.start()
        found = read_to_end(link)
        ended.set()
        if thread.ident:
            thread.join()
        assert [int(part.split()[0]) for part in found.split(b"HTTP/1.1 ")[1:]] == answers


def test_a_client_that_waits_for_its_answer_is_not_left(hasty, monkeypatch):
    """However long it takes: here until others were left twice."""
    app = made()
    reached, go_on = held(monkeypatch)
    with running(app) as address, connect(address) as link:
        text = json.dumps(body())
        link.sendall(post(text, Content_Length=len(text), Connection="close"))
        assert reached.wait(60)
        for _ in range(2):
            with connect(address) as idle:
                assert read_to_end(idle) == b""
        go_on.set()
        assert read_to_end(link).startswith(b"HTTP/1.1 429 ")


def test_a_client_that_does_not_read_is_left(hasty):
    """An answer without end is broken off, so that what makes it can stop."""
    stopped = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        asking = asyncio.ensure_future(receive())
        while not asking.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
            if asking.done() and asking.result()["type"] == "http.request":
                asking = asyncio.ensure_future(receive())
        stopped.set()

    with running(app) as address, connect(address) as link:
        link.sendall(GET)
        assert stopped.wait(60)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_leaves_while_it_sends_leaves_no_trace_in_the_log(caplog, chunked):
    with running(made()) as address, caplog.at_level(logging.WARNING):
        for sent in ("", "{", '{"model": "policy", '):
            with connect(address) as link:
                head = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": 1000}
                link.sendall(post(f"{len(sent):x}\r\n{sent}\r\n" if chunked and sent else sent, **head))
        with connect(address) as link:
            link.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert b'"ok"' in read_to_end(link)
    assert [record.getMessage() for record in caplog.records] == []
