"""64 multi-turn episodes, played in two ways: by the engine, and with static batches as published JAX samplers do.

There are 8 groups of 8 episodes. Each group has a system prompt of 1,000 tokens, 900 of which all groups share. An
episode has 6 turns of 8 to 128 tokens, most of them short, and tool results of 20 to 60 tokens that take 20 to 200 ms.
Lengths and delays are drawn once from a seed and are the same for both ways.

The static way samples one turn of the whole batch and waits for all tools. For the next turn it prefills every
conversation again from its first token. It uses the same compiled programs as the engine.
"""

import asyncio
import functools
import time

import numpy as np
from flax import nnx

from benchmarks.contestants import architecture
from model.network import transformer
from model.sampling import draw, sampler

GROUPS, MEMBERS, TURNS = 8, 8, 6
SHARED, OWN = 900, 100  # tokens of a system prompt: those that all groups share, those of the group alone
SLOTS, CONTEXT = 64, 2048
SHORTEST, LONGEST = 8, 128


@functools.cache
def script(group: int, member: int) -> list[tuple[list[int], int, float]]:
    """For each turn of an episode: (tokens to append, number of tokens to sample, seconds until the tool answers)."""
    shared, own = np.random.default_rng(0), np.random.default_rng([1, group])
    rng, vocabulary = np.random.default_rng([2, group, member]), architecture.CONFIG["vocab_size"]
    turns = []
    for turn in range(TURNS):
        given = np.concatenate([shared.integers(0, vocabulary, SHARED), own.integers(0, vocabulary, OWN)])
        given = given if turn == 0 else rng.integers(0, vocabulary, rng.integers(20, 61))
        length = int(np.clip(rng.exponential(28.0), SHORTEST, LONGEST))
        turns.append((given.tolist(), length, rng.uniform(0.02, 0.2)))
    return turns


def requests(turn: int, conversations: dict[tuple[int, int], list[int]]) -> list[sampler.Request]:
    """A request for each conversation, in the order of the slots, with all its tokens."""
    keys = draw.turn_keys(0, [f"group {g}" for g, _ in conversations], [m for _, m in conversations], [turn] * SLOTS)
    lengths = [script(*name)[turn][1] for name in conversations]
    return [
        sampler.Request(slot, tokens, keys[slot], None, lengths[slot])
        for slot, tokens in enumerate(conversations.values())
    ]


def engine_for(policy: transformer.Transformer, **changes) -> sampler.Engine:
    """An engine with a budget of LONGEST tokens per turn. changes: of its other settings."""
    sizes = dict(slots=SLOTS, context=CONTEXT, prefill_chunk=128, max_new_tokens=LONGEST, stop_ids=())
    return sampler.Engine(nnx.split(policy)[0], policy.config, **{**sizes, **changes})


def names() -> list[tuple[int, int]]:
    """(group, member) of every episode."""
    return [(group, member) for group in range(GROUPS) for member in range(MEMBERS)]


def static(policy: transformer.Transformer, turns: int = TURNS) -> dict:
    """Plays the episodes in static batches, with everything prefilled again for each turn; returns `report`."""
    engine = engine_for(policy, share_prompts=False)
    params = engine.place(nnx.split(policy)[1])
    start = time.perf_counter()
    conversations: dict[tuple[int, int], list[int]] = {name: [] for name in names()}
    for turn in range(turns):
        for name, tokens in conversations.items():
            tokens += script(*name)[turn][0]
        samples = engine.turn(params, requests(turn, conversations))
        for (name, tokens), sample in zip(conversations.items(), samples, strict=True):
            tokens += sample.tokens
            engine.release(names().index(name))
        time.sleep(max(script(*name)[turn][2] for name in conversations))
    return report(engine, start, turns, conversations)


def continuous(policy: transformer.Transformer, turns: int = TURNS) -> dict:
    """Plays every episode at its own pace in its own slot; returns `report`."""
    engine = engine_for(policy)
    params = engine.place(nnx.split(policy)[1])
    conversations: dict[tuple[int, int], list[int]] = {name: [] for name in names()}

    async def play() -> None:
        inbox: asyncio.Queue[sampler.Request] = asyncio.Queue()
        left = len(conversations)

        def ask(slot: int, turn: int) -> None:
            given, length, _ = script(*names()[slot])[turn]
            name = names()[slot]
            conversations[name] += given
            key = draw.turn_keys(0, [f"group {name[0]}"], [name[1]], [turn])[0]
            inbox.put_nowait(sampler.Request(slot, given, key, None, length))

        async def tool(slot: int, turn: int) -> None:
            await asyncio.sleep(script(*names()[slot])[turn][2])
            ask(slot, turn + 1)

        done, under_way = [0] * SLOTS, set()
        for slot in range(SLOTS):
            ask(slot, 0)
        while left:
            while not inbox.empty():
                engine.submit([inbox.get_nowait()])
            if not engine.busy:
                engine.submit([await inbox.get()])
            for slot, sample in await asyncio.to_thread(engine.step, params):
                conversations[names()[slot]] += sample.tokens
                done[slot] += 1
                if done[slot] < turns:
                    task = asyncio.create_task(tool(slot, done[slot] - 1))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                else:
                    left -= 1
                    engine.release(slot)

    start = time.perf_counter()
    asyncio.run(play())
    return report(engine, start, turns, conversations)


def report(engine: sampler.Engine, start: float, turns: int, conversations: dict) -> dict:
    """The figures of a run. "value": the number of tokens of all conversations and the sum of their ids, on which both
    ways must agree."""
    seconds, stats = time.perf_counter() - start, engine.stats
    return {
        "seconds": seconds,
        "value": [sum(map(len, conversations.values())), sum(map(sum, conversations.values()))],
        "occupancy": round((stats.sampled_tokens - turns * SLOTS) / stats.slot_steps, 3),
        "prefill_seconds": round(stats.prefill_seconds, 1),
        "decode_seconds": round(stats.decode_seconds, 1),
        "waiting_seconds": round(seconds - stats.prefill_seconds - stats.decode_seconds, 1),
        "prefill_tokens": stats.prefill_tokens,
        "shared_tokens": stats.shared_tokens,
        "sampled_tokens": stats.sampled_tokens,
    }
