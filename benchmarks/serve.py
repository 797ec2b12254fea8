"""The endpoint under load: clients of the tiny policy that converse with executable worlds, through the openai client.

    ./run -m benchmarks.serve [--clients=16] [--conversations=64] [--slots=16]

Prints one JSON line: requests, output tokens and conversations per second, and percentiles of the seconds until the
first chunk and until the end of an answer. Every client plays one conversation after the other; a first one each is not
counted, because it compiles.
"""

import argparse
import asyncio
import json
import threading
import time

import jax
import numpy as np
import openai

from configs import tiny
from envs import world
from model.checkpoints import load
from model.text import tokenizer
from model.text.chat import Chat
from rl import setup
from rl.serving import serve

TURNS = 12


async def converse(client: openai.AsyncOpenAI, task, seed: int, found: list) -> None:
    """Plays one episode. For each answer appends (seconds to the first chunk, seconds to the end, output tokens) to
    `found`."""
    env = world.make(task)
    messages = await env.reset()
    for _ in range(TURNS):
        start, first, calls, text, usage = time.perf_counter(), None, [], "", None
        stream = await client.chat.completions.create(
            model="policy", messages=messages, tools=env.tools, seed=seed, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                calls += [call.model_dump(exclude={"index"}) for call in choice.delta.tool_calls or ()]
                if first is None and (choice.delta.content or choice.delta.tool_calls):
                    first = time.perf_counter() - start
        end = time.perf_counter() - start
        found.append((end if first is None else first, end, usage.completion_tokens))
        message = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
        step = await env.step(message)
        messages = [*messages, message, *step.messages]
        if step.done:
            break


async def load_test(address: str, clients: int, conversations: int) -> dict:
    """The figures of `conversations` conversations, played by `clients` clients at a time, one after the other each."""
    tasks = world.tasks("heldout", register="tiny")
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        await asyncio.gather(*(converse(client, tasks[i % len(tasks)], i, []) for i in range(clients)))
        found, queue = [], list(range(conversations))

        async def one() -> None:
            while queue:
                number = queue.pop()
                await converse(client, tasks[number % len(tasks)], number, found)

        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        seconds = time.perf_counter() - start
    first, end, tokens = np.array(found).T
    percentiles = (50, 90, 99)
    return {
        "clients": clients,
        "conversations_per_second": round(conversations / seconds, 2),
        "requests_per_second": round(len(found) / seconds, 2),
        "tokens_per_second": round(float(tokens.sum()) / seconds, 1),
        "first_chunk_seconds": {p: round(float(np.percentile(first, p)), 3) for p in percentiles},
        "answer_seconds": {p: round(float(np.percentile(end, p)), 3) for p in percentiles},
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--conversations", type=int, default=64)
    parser.add_argument("--slots", type=int, default=16)
    arguments = parser.parse_args()
    config = tiny.get_config()
    config.serve.slots, config.serve.port = arguments.slots, 0
    mesh = setup.make_mesh(config, jax.devices()[:1])
    policy, architecture = load.from_pretrained(config.model.checkpoint, mesh=mesh)
    chat = Chat(tokenizer.load(config.model.checkpoint))
    parts = setup.Parts(config, chat, policy, architecture, mesh)
    server = serve.server(parts, parts.initial_params, "benchmark", "")
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    host, port = server.servers[0].sockets[0].getsockname()
    result = asyncio.run(load_test(f"http://{host}:{port}", arguments.clients, arguments.conversations))
    server.should_exit = True
    thread.join()
    print(json.dumps({"benchmark": "serve", "slots": arguments.slots, **result}))


if __name__ == "__main__":
    main()
