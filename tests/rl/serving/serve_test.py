"""The endpoint as the official openai client meets it: equal to in-process sampling, clear about what it refuses."""

import asyncio
import contextlib
import dataclasses
import json
import threading
import time

import httpx2
import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest

from configs import tiny
from envs import world
from model.checkpoints import load
from model.sampling import draw, sampler
from model.text import chat, tokenizer
from rl import setup
from rl.serving import access, batcher, endpoint, serve
from tests.support.worlds import TASKS

SLOTS, MOST = 8, 48  # slots, tokens of a turn
KEY = "a key for tests"
HELLO = [{"role": "system", "content": "You work for hotels."}, {"role": "user", "content": "Hello, I am Ben."}]


@pytest.fixture(scope="module")
def parts():
    config = tiny.get_config()
    config.mesh.fsdp = 1
    config.sampler.decode_steps = 2
    config.serve.slots, config.serve.max_new_tokens, config.serve.port, config.serve.queue = SLOTS, MOST, 0, 16
    mesh = setup.make_mesh(config, jax.devices()[:1])  # of eight: prompts are shared between slots of one device
    policy, architecture = load.from_pretrained(config.model.checkpoint, dtype=jnp.float32, mesh=mesh)
    return setup.Parts(config, chat.Chat(tokenizer.load(config.model.checkpoint)), policy, architecture, mesh)


@contextlib.contextmanager
def running(parts):
    """A server in a thread: (the uvicorn server, its address)."""
    server = serve.server(parts, parts.initial_params, "0 updates", KEY)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()
        yield server, f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(parts):
    with running(parts) as (_, address):
        yield address


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served}/v1", api_key=KEY, max_retries=0)


class Local:
    """In-process sampling as a rollout does it: one slot per conversation, tokens are never made from text again."""

    def __init__(self, parts):
        self.chat, self.engine = parts.chat, parts.engine(SLOTS, 0, MOST)
        self.params = self.engine.place(parts.initial_params)

    def turn(self, slot, tokens, seed, choice, turn, temperature=None):
        key = draw.turn_keys(seed, [endpoint.SEED_NAME], [choice], [turn])[0]
        return self.engine.turn(self.params, [sampler.Request(slot, tokens, key, temperature)])[0]

    def once(self, messages, seed, choice=0, temperature=None):
        """One answer to a prompt."""
        sample = self.turn(0, self.chat.prompt(messages), seed, choice, 0, temperature)
        self.engine.release(0)
        return sample

    def play(self, task, seed, turns):
        """(messages, tokens and logprobs of each turn) of a conversation with the task's world."""

        async def run():
            env, found = world.make(task), []
            messages = await env.reset()
            pending = self.chat.prompt(messages, env.tools)
            for turn in range(turns):
                sample = self.turn(0, pending, seed, 0, turn)
                message = self.chat.parse(sample.tokens, turn)
                step = await env.step(message)
                messages = [*messages, message, *step.messages]
                found.append((sample.tokens, sample.logprobs))
                if step.done or sample.finish_reason != "stop":
                    break
                pending = self.chat.increment(step.messages)
            self.engine.release(0)
            return messages, found

        return asyncio.run(run())


@pytest.fixture(scope="module")
def local(parts):
    return Local(parts)


async def ask(client, streaming, **request):
    """(message as a dict, logprob items, finish reason) of an answer, streamed or not."""
    if not streaming:
        choice = (await client.chat.completions.create(**request, logprobs=True)).choices[0]
        message = {"role": "assistant", "content": choice.message.content or ""}
        if choice.message.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in choice.message.tool_calls]
        return message, choice.logprobs.content, choice.finish_reason
    message, items, reason = {"role": "assistant", "content": ""}, [], None
    async for chunk in await client.chat.completions.create(**request, logprobs=True, stream=True):
        (choice,) = chunk.choices
        message["content"] += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            message.setdefault("tool_calls", []).append(call.model_dump(exclude={"index"}))
        items += choice.logprobs.content if choice.logprobs else []
        reason = choice.finish_reason or reason
    return message, items, reason


async def converse(client, task, seed, turns, streaming):
    """As Local.play, through the endpoint."""
    env, found = world.make(task), []
    messages = await env.reset()
    for _ in range(turns):
        request = {"model": "policy", "messages": messages, "tools": env.tools, "seed": seed}
        message, items, reason = await ask(client, streaming, **request)
        step = await env.step(message)
        messages = [*messages, message, *step.messages]
        found.append(([item.token_id for item in items], [item.logprob for item in items]))
        if step.done or reason == "length":
            break
    return messages, found


def test_sixteen_clients_converse_with_the_world_as_in_process(parts, served, local):
    """Whole tool-use conversations, half of them streamed: the same messages, tokens and logprobs as in-process.

    Logprobs of the first turn are the same to the bit. Later ones are not quite: a request prefills the conversation at
    once, while a rollout's cache holds what was decoded token by token.
    """
    tasks, turns = TASKS[:16], 4

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key=KEY, max_retries=0) as client:
            calls = [converse(client, task, i, turns, bool(i % 2)) for i, task in enumerate(tasks)]
            return await asyncio.gather(*calls)

    found, calls = asyncio.run(run()), 0
    for i, (task, (messages, sampled)) in enumerate(zip(tasks, found)):
        expected, expected_sampled = local.play(task, i, turns)
        assert messages == expected
        for turn, ((tokens, logprobs), ours) in enumerate(zip(sampled, expected_sampled, strict=True)):
            told = [(token, logprob) for token, logprob in zip(*ours) if token not in parts.chat.stop_ids]
            assert tokens == [token for token, _ in told]
            np.testing.assert_allclose(logprobs, [logprob for _, logprob in told], rtol=0, atol=1e-4 * bool(turn))
        calls += sum("tool_calls" in message for message in messages)
    assert calls > 16  # so tools were used, several in a conversation


def test_choices_have_keys_of_their_own(client, local, parts):
    answer = client.chat.completions.create(model="policy", messages=HELLO, seed=5, n=4, logprobs=True)
    samples = [local.once(HELLO, 5, choice) for choice in range(4)]
    contents = [parts.chat.parse(sample.tokens, 0)["content"] for sample in samples]
    assert [choice.message.content for choice in answer.choices] == contents and len(set(contents)) > 1
    assert answer.usage.completion_tokens == sum(len(sample.tokens) for sample in samples)
    assert answer.usage.prompt_tokens == len(parts.chat.prompt(HELLO))


def test_temperature_zero_needs_no_seed(client, local, parts):
    sample = local.once(HELLO, 0, temperature=0.0)
    for _ in range(2):
        answer = client.chat.completions.create(model="policy", messages=HELLO, temperature=0)
        assert answer.choices[0].message.content == parts.chat.parse(sample.tokens, 0)["content"]


@pytest.mark.parametrize("streaming", [False, True])
def test_stop_texts_and_budgets_cut_a_turn(served, local, parts, streaming):
    """The text before the first stop, wherever in a token it begins; streams never show part of it."""

    async def answer(**request):
        async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key=KEY, max_retries=0) as client:
            return await ask(client, streaming, model="policy", messages=HELLO, seed=3, temperature=2, **request)

    tokens = local.once(HELLO, 3, temperature=2.0).tokens
    whole = parts.chat.parse(tokens, 0)["content"]
    assert len(whole) > 12
    stop = whole[5:8]
    message, items, reason = asyncio.run(answer(stop=["no such text", stop]))
    assert (message["content"], reason) == (whole[: whole.find(stop)], "stop")
    assert len(items) < len(tokens)
    message, items, reason = asyncio.run(answer(max_tokens=3))
    assert (len(items), reason) == (3, "length") and whole.startswith(message["content"].rstrip("\ufffd"))


def test_calls_end_with_their_reason_and_streams_count_usage(client, local, parts):
    """A task's first request makes the policy read a record; the last chunk of a stream counts tokens."""
    task = TASKS[0]
    messages, _ = local.play(task, 0, 1)
    asked = {"model": "policy", "messages": messages[:2], "tools": task.tools, "seed": 0}
    answer = client.chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.tool_calls
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == answer.usage
    without = client.chat.completions.create(**asked, tool_choice="none")
    assert without.usage.prompt_tokens < answer.usage.prompt_tokens


def test_an_altered_history_is_taken_as_text(client, parts):
    """What a client writes into the assistant's mouth is tokenised; a list of text parts is text."""
    said = [*HELLO, {"role": "assistant", "content": "Good evening."}, {"role": "user", "content": "Which room?"}]
    answer = client.chat.completions.create(model="policy", messages=said, seed=1, max_tokens=1)
    tokens, _ = parts.chat.encode(said[:3])
    assert answer.usage.prompt_tokens == len(tokens) + len(parts.chat.increment(said[3:]))
    parts_of_text = [{"type": "text", "text": text} for text in ("Which ", "room?")]
    parted = [*said[:3], {"role": "user", "content": parts_of_text}]
    again = client.chat.completions.create(model="policy", messages=parted, seed=1, max_tokens=1)
    assert again.usage == answer.usage and again.choices[0].message == answer.choices[0].message


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "no model 'gpt' here, only 'policy'"),
        ({"top_p": 0.5}, openai.BadRequestError, "top_p = 0.5 is not supported: this server samples with 1.0"),
        ({"temperature": 3}, openai.BadRequestError, "temperature must be a number from 0 to 2, found 3"),
        ({"max_tokens": 1000}, openai.BadRequestError, f"max_tokens must be a number from 1 to {MOST}, found 1000"),
        ({"max_completion_tokens": 0}, openai.BadRequestError, "max_completion_tokens must be a number from 1"),
        ({"n": SLOTS + 1}, openai.BadRequestError, f"n must be a number from 1 to {SLOTS}"),
        ({"seed": 1.5}, openai.BadRequestError, "seed must be a whole number"),
        ({"stop": [""]}, openai.BadRequestError, "stop must be a text or a list of texts"),
        ({"stop": list("abcde")}, openai.BadRequestError, "stop must have at most 4 texts"),
        ({"logprobs": True, "top_logprobs": 3}, openai.BadRequestError, "top_logprobs = 3 is not supported"),
        ({"frequency_penalty": 0.5}, openai.BadRequestError, "frequency_penalty = 0.5 is not supported"),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice = 'required' is not supported"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format"),
        ({"tools": [{"name": "x"}]}, openai.BadRequestError, "tools must be a list of"),
        ({"messages": []}, openai.BadRequestError, "at least one message"),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, r"messages\[0\].role must be"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "neither begin nor end"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, openai.BadRequestError, "parts of text"),
        ({"messages": [{"role": "user", "content": "again " * 2000}]}, openai.BadRequestError, "takes at most 447"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(client, changes, error, message):
    with pytest.raises(error, match=message):
        client.chat.completions.create(**{"model": "policy", "messages": HELLO, **changes})


def test_bodies_that_are_no_requests(served):
    headers = {"Authorization": f"Bearer {KEY}"}
    for body in (b"", b"{", b"[]", b"[" * 100_000, b'{"model": "policy", "messages": 3}', b"\xff\xfe"):
        answer = httpx2.post(f"{served}/v1/chat/completions", content=body, headers=headers)
        assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error", body[:20]


def test_key_models_and_health(served, client):
    assert [model.id for model in client.models.list()] == ["policy"]
    assert httpx2.get(f"{served}/v1/models").status_code == 401
    for wrong in ("x", KEY + "x"):
        other = openai.OpenAI(base_url=f"{served}/v1", api_key=wrong, max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="wrong or missing API key"):
            other.models.list()
        with pytest.raises(openai.AuthenticationError):
            other.chat.completions.create(model="policy", messages=HELLO)
    health = httpx2.get(f"{served}/health").json()
    assert (health["status"], health["slots"]) == ("ok", SLOTS)


def test_overload_is_answered_with_429(served):
    """Eight choices fill the slots, eight more and eight again the queue; of six such requests some are refused."""

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key=KEY, max_retries=0) as client:
            asked = {"model": "policy", "messages": HELLO, "n": SLOTS, "temperature": 2}
            calls = [client.chat.completions.create(**asked) for _ in range(6)]
            return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(run())
    refused = [answer for answer in found if isinstance(answer, openai.RateLimitError)]
    assert 1 <= len(refused) <= 3 and all(len(a.choices) == SLOTS for a in found if a not in refused)
    assert "try again later" in str(refused[0])


def test_batcher_takes_all_jobs_or_none_and_frees_what_nobody_wants(parts, local):
    """Jobs given up leave their slots after the step under way, waiting ones are forgotten, the others go on."""
    engine = parts.engine(2, 0, MOST)
    prompt = parts.chat.prompt(HELLO)
    told = {}

    def job(number, temperature=2.0):
        key = np.array([number, 7], np.uint32)
        return batcher.Job(prompt, key, temperature, None, False, lambda news: told.setdefault(number, news))

    async def run():
        work = batcher.Batcher(engine, engine.place(parts.initial_params), most_waiting=2)
        jobs = [job(number) for number in range(4)]
        with pytest.raises(batcher.OverloadedError, match="0 turns are under way and 0 are waiting"):
            work.submit([*jobs, job(9)])
        assert work.load == (0, 0)
        work.submit(jobs)
        with pytest.raises(batcher.OverloadedError):
            work.submit([job(9)])
        work.give_up([jobs[0], jobs[2]])
        task = asyncio.create_task(work.run())
        while len(told) < 2:
            await asyncio.sleep(0.01)
        assert set(told) == {1, 3} and all(isinstance(news, batcher.Progress) for news in told.values())
        work.submit([job(4, 0.0)])
        task.cancel()
        await asyncio.wait([task])
        assert isinstance(told[4], batcher.StoppedError)
        with pytest.raises(batcher.StoppedError, match="the server is stopping"):
            work.submit([job(5)])

    asyncio.run(run())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_disconnects_frees_its_slots(parts, streaming, monkeypatch):
    """An answer is broken off: its turns, which nothing but their budget would end, end early."""
    config, budget = parts.config.copy_and_resolve_references(), 400
    config.sampler.decode_steps, config.serve.max_new_tokens = 1, budget
    monkeypatch.setattr(parts.chat, "stop_ids", frozenset())
    endless = dataclasses.replace(parts, config=config)
    body = {"model": "policy", "messages": HELLO, "n": SLOTS, "stream": streaming}
    with running(endless) as (server, address):
        url, headers = f"{address}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}
        if streaming:
            with httpx2.stream("POST", url, json=body, headers=headers) as stream:
                assert any('"content": "' in line for line in stream.iter_lines())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(url, json=body, headers=headers, timeout=0.5)
        while (health := httpx2.get(f"{address}/health").json())["running"]:
            time.sleep(0.02)
        assert health["waiting"] == 0
        assert server.config.app.state.batcher.engine.stats.sampled_tokens < SLOTS * budget


def test_stopping_finishes_what_is_under_way(parts):
    with running(parts) as (server, address):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        stream = client.chat.completions.create(model="policy", messages=HELLO, seed=3, temperature=2, stream=True)
        chunks = [next(iter(stream))]
        server.should_exit = True
        chunks += list(stream)
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    with pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_only_this_machine_may_come_without_a_key(monkeypatch):
    config = tiny.get_config()
    for host in ("127.0.0.1", "::1", "localhost"):
        config.serve.host = host
        assert access.api_key(config) == ""
    for host in ("0.0.0.0", "10.0.0.1", "example.org"):
        config.serve.host = host
        with pytest.raises(ValueError, match="lets other machines connect: set serve.key_env to the name"):
            access.api_key(config)
    config.serve.key_env = "A_KEY_FOR_TESTS"
    with pytest.raises(ValueError, match="the environment variable A_KEY_FOR_TESTS is not set"):
        access.api_key(config)
    monkeypatch.setenv("A_KEY_FOR_TESTS", KEY)
    assert access.api_key(config) == KEY


def test_the_format_of_a_stream(served):
    """Server-sent events end with [DONE], and every chunk names the answer it belongs to."""
    body = {"model": "policy", "messages": HELLO, "stream": True, "seed": 1}
    answer = httpx2.post(f"{served}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, rest = answer.text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
