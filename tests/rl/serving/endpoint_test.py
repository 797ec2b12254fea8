"""Errors of the endpoint: whatever a client sends, it gets JSON of OpenAI's shape and a status that says whose fault
it is."""

import asyncio
import json
import shutil
import threading
import types
from concurrent import futures

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from model.text import tokenizer
from model.text.chat import Chat
from rl.serving import batcher, endpoint, openai_format

FOLDER = "model/tiny_qwen3"
LOOP = "{%- for message in messages %}\n"
ASKED = "/v1/chat/completions"
TAKEN = 429  # what the stand-in says to whatever is asked rightly


class Busy:
    """Stands for the batcher: takes no job."""

    engine, load, failure = types.SimpleNamespace(context=4096, slots=1), (0, 0), None

    async def run(self):
        await asyncio.Event().wait()

    def submit(self, jobs):
        raise batcher.OverloadedError("busy")

    def give_up(self, jobs):
        pass


class Broken(Busy):
    """Fails in a way that nobody foresaw."""

    def submit(self, jobs):
        raise ZeroDivisionError("a secret")


def client(folder=FOLDER, work=Busy, model="policy", key=""):
    limits = openai_format.Limits(model, 96, 8, 1.0)
    app = endpoint.Endpoint(work(), Chat(tokenizer.load(folder)), limits, key, "0").app()
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture(scope="module")
def web():
    with client() as found:
        yield found


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A client of a policy whose template refuses system messages but the first, and reads the tools' parameters."""
    folder = tmp_path_factory.mktemp("strict") / "policy"
    shutil.copytree(FOLDER, folder)
    text = (folder / "chat_template.jinja").read_text()
    late = (
        "{%- if message.role == 'system' and not loop.first %}{{- raise_exception('system comes first') }}{%- endif %}"
    )
    read = "{%- for tool in tools or [] %}{%- for name in tool.function.parameters.properties.items() %}{%- endfor %}"
    assert LOOP in text
    text = f"{read}{{%- endfor %}}{text.replace(LOOP, LOOP + late, 1)}"
    (folder / "chat_template.jinja").write_text(text)
    with client(folder) as found:
        yield found


def body(**changes):
    return {"model": "policy", "messages": [{"role": "user", "content": "hi"}], **changes}


def nested(levels):
    """Lists within each other, as JSON."""
    return "[" * levels + "]" * levels


def refused(answer, status, kind="invalid_request_error"):
    """The error of a response, which must have OpenAI's shape."""
    assert answer.headers["content-type"] == "application/json", answer.text[:80]
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"]
    assert (answer.status_code, error["type"]) == (status, kind), error
    return error


@pytest.mark.parametrize(
    "roles",
    ["user system", "system developer user", "system user assistant system user", "user assistant system"],
)
def test_what_a_template_refuses_is_the_clients_fault(strict, roles):
    messages = [{"role": role, "content": "x"} for role in roles.split()]
    error = refused(strict.post(ASKED, json=body(messages=messages)), 400)
    assert error["param"] == "messages" and "system comes first" in error["message"]


def test_a_template_that_cannot_read_the_tools_refuses_them(strict):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    refused(strict.post(ASKED, json=body(tools=tools)), TAKEN, "rate_limit_error")
    for parameters in ({}, {"properties": 3}, [], "x"):
        tools[0]["function"]["parameters"] = parameters
        error = refused(strict.post(ASKED, json=body(tools=tools)), 400)
        assert "chat template" in error["message"]


def test_text_that_has_no_utf8_is_refused(web):
    """Half a character, wherever it stands: JSON can hold it, tokens cannot."""
    half, call = "a \ud800", {"function": {"name": "f", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "f", "description": half}}
    asked = {"role": "user", "content": "x"}
    for changes in (
        {"messages": [{"role": "user", "content": half}]},
        {"messages": [{"role": "system", "content": half}, asked]},
        {"messages": [asked, {"role": "assistant", "content": half}, asked]},
        {"messages": [asked, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": half}]},
        {
            "messages": [
                asked,
                {"role": "assistant", "tool_calls": [{"function": {**call["function"], "name": half}}]},
                asked,
            ]
        },
        {"tools": [tool]},
    ):
        refused(web.post(ASKED, content=json.dumps(body(**changes))), 400)


@pytest.mark.parametrize("levels", [90, 101, 200, 490, 800, 5000, 100_000])
@pytest.mark.parametrize("field", ["tools", "messages", "model", "metadata", "temperature", "response_format", "x"])
def test_what_is_nested_deeply_is_refused_by_name(web, field, levels):
    answer = web.post(ASKED, content=json.dumps(body(**{field: "HERE"})).replace('"HERE"', nested(levels)))
    if field == "metadata" and levels == 90:
        refused(answer, TAKEN, "rate_limit_error")
    else:
        error = refused(answer, 404 if field == "model" and levels == 90 else 400)
        assert field in error["message"] or "not JSON" in error["message"]


@pytest.mark.parametrize("levels", [20, 80, 120, 490])
def test_a_nested_schema_is_taken_or_refused(web, levels):
    schema = {"type": "string"}
    for _ in range(levels // 2):  # each adds an object for the property and one for the properties
        schema = {"type": "object", "properties": {"x": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    answer = web.post(ASKED, json=body(tools=tools))
    if levels < openai_format.MOST_LEVELS:
        refused(answer, TAKEN, "rate_limit_error")
    else:
        assert refused(answer, 400)["param"] == "tools"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/v1", 404), ("POST", "/v1/completions", 404), ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models/gpt", 404), ("GET", "/v1/models/policy/x", 404), ("GET", ASKED, 405), ("PUT", ASKED, 405),
        ("POST", "/v1/models", 405), ("DELETE", "/v1/models/policy", 405), ("POST", "/health", 405),
    ],
)  # fmt: skip
def test_paths_and_methods_that_are_not_here(web, method, path, status):
    answer = web.request(method, path)
    error = refused(answer, status)
    assert ("allow" in answer.headers) == (status == 405)
    assert error["code"] == ("model_not_found" if path.startswith("/v1/models/") and status == 404 else None)


@pytest.mark.parametrize("name", ["policy", "Qwen/Qwen3-4B"])
def test_a_model_is_described_by_its_name(name):
    with client(model=name) as web:
        (listed,) = web.get("/v1/models").json()["data"]
        for written in (name, name.replace("/", "%2F")):
            assert web.get(f"/v1/models/{written}").json() == listed
        assert web.get("/v1/models/").json()["data"] == [listed]


@pytest.mark.parametrize("origin", ["https://example.org", "http://127.0.0.1:8000", "null"])
def test_web_pages_may_ask_only_with_a_key(web, origin):
    """Any page can make its reader's browser ask a server on that machine."""
    for answer in (
        web.post(ASKED, json=body(), headers={"Origin": origin}),
        web.get("/v1/models", headers={"Origin": origin}),
    ):
        assert "serve.key_env" in refused(answer, 403)["message"]
    with client(key="k") as other:
        given = {"Origin": origin, "Authorization": "Bearer k"}
        refused(other.post(ASKED, json=body(), headers=given), TAKEN, "rate_limit_error")
        refused(other.post(ASKED, json=body(), headers={"Origin": origin}), 401, "authentication_error")


@pytest.fixture
def narrow(monkeypatch):
    """A body may have 1000 bytes."""
    monkeypatch.setattr(endpoint, "MOST_BYTES", 1000 - endpoint.MOST_BYTES_PER_TOKEN * Busy.engine.context)


def test_chunked_bodies_have_the_limit_of_others(narrow):
    sent = []

    def pieces(length):
        text = json.dumps(body()).encode()
        text += b" " * (length - len(text))
        for start in range(0, length, 100):
            sent.append(start)
            yield text[start : start + 100]

    with client() as web:
        for length, status, kind in ((1000, TAKEN, "rate_limit_error"), (1001, 413, None), (5000, 413, None)):
            for content in (pieces(length), b"".join(pieces(length))):
                refused(web.post(ASKED, content=content), status, kind or "invalid_request_error")


def status_of(receive):
    """The status of the answer to a request whose body comes from `receive`, straight from the application."""
    sent = []

    async def send(message):
        sent.append(message)

    limits = openai_format.Limits("policy", 96, 8, 1.0)
    app = endpoint.Endpoint(Busy(), Chat(tokenizer.load(FOLDER)), limits, "", "0").app()
    scope = {"type": "http", "method": "POST", "path": ASKED, "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def test_a_chunked_body_is_read_no_further_than_the_limit(narrow):
    """An endless one is answered, too."""
    read = []

    async def receive():
        read.append(100)
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    assert status_of(receive) == 413 and sum(read) == 1100


def test_a_body_that_does_not_end_is_given_up(monkeypatch):
    """Whether its client sends nothing more or a byte now and then."""
    monkeypatch.setattr(endpoint, "UPLOAD", 0.05)

    async def silent():
        await asyncio.Event().wait()

    async def dripping():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    for receive in (silent, dripping):
        assert status_of(receive) == 408


def test_requests_that_arrive_are_limited_in_number(monkeypatch):
    """Each holds a body of up to the limit in memory."""
    monkeypatch.setattr(endpoint, "MOST_ARRIVING", 3)
    statuses = []

    async def run():
        limits = openai_format.Limits("policy", 96, 8, 1.0)
        made = endpoint.Endpoint(Busy(), Chat(tokenizer.load(FOLDER)), limits, "", "0")
        app, sending = made.app(), asyncio.Event()
        scope = {"type": "http", "method": "POST", "path": ASKED, "headers": [], "query_string": b""}

        async def receive():
            await sending.wait()
            return {"type": "http.request", "body": b"{", "more_body": False}

        async def send(message):
            statuses.append(message.get("status"))

        tasks = [asyncio.create_task(app(scope, receive, send)) for _ in range(5)]
        while len(statuses) < 4:  # two answers of two parts
            await asyncio.sleep(0.01)
        assert [status for status in statuses if status] == [429, 429]
        sending.set()
        await asyncio.gather(*tasks)
        assert made._arriving == 0

    asyncio.run(run())
    assert [status for status in statuses if status] == [429, 429, 400, 400, 400]


def held(monkeypatch):
    """(where encoding waits, event that ends the wait) for chats from now on."""
    reached, go_on, encode = threading.Event(), threading.Event(), Chat.prompt

    def prompt(self, *arguments):
        reached.set()
        assert go_on.wait(60)
        return encode(self, *arguments)

    monkeypatch.setattr(Chat, "prompt", prompt)
    return reached, go_on


def test_others_are_answered_while_a_prompt_is_encoded(monkeypatch):
    with client() as web, futures.ThreadPoolExecutor() as pool:
        reached, go_on = held(monkeypatch)
        slow = [pool.submit(web.post, ASKED, json=body()) for _ in range(2 * endpoint.READERS)]
        assert reached.wait(60)
        for _ in range(3):
            assert web.get("/health").status_code == 200  # hangs if the event loop encodes
        assert not any(answer.done() for answer in slow)
        go_on.set()
        for answer in slow:
            refused(answer.result(60), TAKEN, "rate_limit_error")


def test_a_prompt_that_cannot_fit_is_refused_before_it_is_encoded(monkeypatch):
    """From the size of its texts alone, wherever they stand; one token's text bounds how much fits."""
    with client() as web:
        monkeypatch.setattr(Chat, "_encode", lambda self, text: pytest.fail("it was encoded"))
        long = "word " * 100_000
        call = {"function": {"name": "f", "arguments": json.dumps({"x": long})}}
        for messages in (
            [{"role": "user", "content": long}],
            [{"role": "system", "content": long[:250_000]}, {"role": "user", "content": long[250_000:]}],
            [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}, {"role": "tool"}],
        ):
            error = refused(web.post(ASKED, json=body(messages=messages)), 400)
            assert error["code"] == "context_length_exceeded" and "at least" in error["message"]


def test_errors_quote_a_bounded_part_of_what_was_sent(web):
    for changes in ({"model": "x" * 500_000}, {"x" * 500_000: 1}, {"top_k": "x" * 500_000}):
        answer = web.post(ASKED, json=body(**changes))
        assert answer.status_code in (400, 404) and len(answer.content) < 5000


def test_turns_are_remembered_up_to_a_number_of_tokens(monkeypatch):
    monkeypatch.setattr(endpoint, "REMEMBERED", 1000)
    turns = endpoint.Turns()
    messages = [{"role": "assistant", "content": f"{i}"} for i in range(100)]
    for message in messages:
        turns.note([1, 2], message, list(range(99)))
    kept = [turns.recall([1, 2], message) for message in messages]
    assert kept[:90] == [None] * 90 and kept[90:] == [list(range(99))] * 10
    turns.note([1], messages[0], list(range(100_000)))  # one turn alone does not push out all others
    assert turns.recall([1], messages[0]) is None and turns.recall([1, 2], messages[-1])


def test_a_client_that_leaves_while_it_sends_breaks_nothing():
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return parts.pop(0)

    assert status_of(receive) == 499


def test_a_fault_of_the_server_says_so_and_no_more():
    with client(work=Broken) as web:
        error = refused(web.post(ASKED, json=body()), 500, "server_error")
    assert "secret" not in error["message"]


def test_calls_without_arguments_have_empty_ones():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    said = [*body()["messages"], {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "x"}]
    request = openai_format.parse(body(messages=said), openai_format.Limits("policy", 96, 8, 1.0))
    assert request.messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(sorted(openai_format._READ | openai_format._NEUTRAL.keys()) + ["\ud800", "x"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": JSON},
        optional={"tool_calls": JSON, "tool_call_id": JSON, "name": JSON},
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=3), MESSAGES)
def test_no_body_makes_the_server_fail(web, fields, messages):
    """Statuses of clients' faults, or that of a taken request."""
    sent = json.dumps({"model": "policy", "messages": messages, **fields})
    answer = web.post(ASKED, content=sent)
    assert answer.status_code in (400, 404, TAKEN)
    refused(answer, answer.status_code, "rate_limit_error" if answer.status_code == TAKEN else "invalid_request_error")
