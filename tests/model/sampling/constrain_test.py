"""Constrained tool calls: whatever is drawn, a call that ends names a tool that exists, with arguments that parse."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network import transformer
from model.sampling import constrain, decoding, draw, sampler
from model.text import tokenizer
from model.text.chat import Chat
from tests.support import policies

NAMES = ("get_order", "get", "näme-2")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in NAMES]


@functools.cache
def parts():
    """(chat, calls, V): a tokenizer trained here for a model whose vocabulary is larger."""
    texts = ['<tool_call>\n{"name": "get_order", "arguments": {"order_id": "amber", "n": 12}}\n</tool_call> say'] * 3
    chat = Chat(tokenizer.train(texts, vocab_size=320))
    return chat, constrain.Calls(chat.tokenizer, 325), 325


def ids(bits_W, V):
    """The tokens whose bits are set."""
    return np.flatnonzero(np.unpackbits(bits_W.view(np.uint8), bitorder="little")[:V])


def check(message):
    """The call can be read and names a tool."""
    (call,) = message["tool_calls"]
    assert call["function"]["name"] in NAMES and isinstance(json.loads(call["function"]["arguments"]), dict)


@pytest.mark.parametrize("V", [320, 321, 351, 352, 353, 384, 1536, 151936, 152064])
def test_bitmasks_are_as_wide_as_the_vocabulary(V):
    """Inside a call and outside, whether or not 32 divides V; no id beyond V is allowed."""
    chat, _, _ = parts()
    calls = constrain.Calls(chat.tokenizer, V)
    turn = calls.turn(TOOLS)
    turn.consume(calls.open)
    bits_W = turn.allowed()
    assert bits_W.shape == calls.turn([]).allowed().shape == (-(-V // 32),)
    assert 0 < len(ids(bits_W, V)) < 50 and np.unpackbits(bits_W.view(np.uint8), bitorder="little")[V:].sum() == 0


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_whatever_is_drawn_a_call_that_ends_parses(random):
    chat, calls, V = parts()
    turn, tokens = calls.turn(TOOLS), [calls.open]
    turn.consume(calls.open)
    while (bits_W := turn.allowed()) is not None and len(tokens) < 300:
        allowed = ids(bits_W, V)
        assert len(allowed) and not chat.stop_ids & set(allowed.tolist()) and allowed.max() < len(chat.tokenizer)
        # Towards the end what closes something comes first, or strings would grow for ever.
        texts = {token: chat.tokenizer.decode([token]) for token in allowed.tolist()}
        closing = [token for token, text in texts.items() if text in ('"', "}", "]", "\n", "}\n", "</tool_call>")]
        tokens.append(random.choice(closing if closing and len(tokens) > 40 else list(texts)))
        turn.consume(tokens[-1])
    assert tokens[-1] == calls.close and turn.allowed() is None
    check(chat.parse(tokens, 0))


def test_every_well_formed_call_of_a_tool_is_allowed():
    """Text of any language, escapes, numbers, nesting; and then another call."""
    chat, calls, V = parts()
    turn = calls.turn(TOOLS)
    values = {"a b": ['ü \u2028 "q" \\', -1.5e3, True, None, {}, []], "x": {"y": {"z": 0}}}
    functions = [{"name": name, "arguments": json.dumps(values, ensure_ascii=False)} for name in NAMES]
    message = {"role": "assistant", "content": "so", "tool_calls": [{"function": function} for function in functions]}
    tokens = chat.assistant(message)
    for token in tokens:
        bits_W = turn.allowed()
        assert bits_W is None or token in ids(bits_W, V)
        turn.consume(token)
    assert [call["function"] for call in chat.parse(tokens, 0)["tool_calls"]] == functions


@pytest.mark.parametrize("wrong", [
    '\n{"name": "put", "arguments": {}}\n', '\n{"name": "get", "arguments": []}\n', '\n{"name": "get"}\n',
    '\n{"name": "get", "arguments": {"a": 01}}\n', '\n{"name": "get", "arguments": {"a": "\\ud800"}}\n',
    '\n{"name": "get", "arguments": {"a": 1e999}}\n', '\n{"name": "get", "arguments": {"a": NaN}}\n',
])  # fmt: skip
def test_what_is_no_call_is_not_allowed(wrong):
    chat, calls, V = parts()
    turn = calls.turn(TOOLS)
    turn.consume(calls.open)
    with pytest.raises(ValueError, match="not among those allowed"):
        for token in [*chat.tokenizer.encode(wrong, add_special_tokens=False), calls.close]:
            assert (token in ids(turn.allowed(), V)) or not turn.consume(token)


def test_without_tools_no_call_begins():
    chat, calls, V = parts()
    assert set(range(V)) - set(ids(calls.turn([]).allowed(), V).tolist()) == {calls.open}


def test_the_engine_draws_what_is_allowed_and_neighbours_do_not_notice():
    """A turn inside a call ends as one; logprobs are those of what was allowed; the others are the same to the bit."""
    chat, calls, V = parts()
    config = transformer.Config(
        vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    graphdef, params = policies.sharp(config)
    engine = sampler.Engine(
        graphdef, config, slots=3, context=400, prefill_chunk=16, max_new_tokens=300, stop_ids=[calls.close],
        truncation=draw.Truncation(V), decode_steps=4,
    )  # fmt: skip
    params, key = engine.place(params), draw.turn_keys(0, ["t"], [0], [0])[0]

    def constraint():
        turn = calls.turn(TOOLS)
        turn.consume(calls.open)
        return turn

    prompt = chat.tokenizer.encode("say", add_special_tokens=False)
    free = sampler.Request(2, prompt, key, max_new_tokens=20)
    found = engine.turn(params, [sampler.Request(0, [*prompt, calls.open], key, constraint=constraint()), free])
    walk = constraint()
    for token, logprob, kept in zip(found[0].tokens, found[0].logprobs, found[0].kept, strict=True):
        allowed = walk.allowed()
        assert set(kept) <= set(ids(allowed, V).tolist()) and token in kept and logprob <= 1e-6
        walk.consume(token)
    assert len({len(kept) for kept in found[0].kept}) > 3
    if found[0].finish_reason == decoding.STOP:
        check(chat.parse([calls.open, *found[0].tokens], 0))
    engine.release(2)
    assert engine.turn(params, [free]) == found[1:]
