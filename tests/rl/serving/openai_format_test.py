"""Which fields of a request pass: what this server would not do is refused by name, whoever invented the field."""

import inspect
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import completion_create_params

from model.text import tokenizer
from model.text.chat import Chat
from rl.serving import openai_format
from rl.serving.batcher import Progress

LIMITS = openai_format.Limits("policy", 96, 8, 1.0)
BASE = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


def parse(**fields):
    return openai_format.parse({**BASE, **fields}, LIMITS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 20), ("min_p", 0.1), ("repetition_penalty", 1.1), ("chat_template_kwargs", {"enable_thinking": True}),
        ("stop_token_ids", [5]), ("structured_outputs", {"json": {}}), ("guided_json", {}), ("min_tokens", 5),
        ("continue_final_message", True), ("ignore_eos", True), ("temprature", 0.0), ("max_token", 5),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_change_the_answer_is_refused_by_name(name, value):
    with pytest.raises(openai_format.BadRequestError, match=name) as caught:
        parse(**{name: value})
    assert (caught.value.param, caught.value.status) == (name, 400)


def test_a_misspelt_field_is_told_the_right_name():
    with pytest.raises(openai_format.BadRequestError, match="'temprature'; did you mean 'temperature'"):
        parse(temprature=0.0)


def test_what_changes_nothing_passes():
    plain = parse()
    assert parse(user="u", metadata={"a": "b"}, store=True, service_tier="auto", prompt_cache_key="k") == plain
    assert parse(top_k=-1, min_p=0.0, repetition_penalty=1.0, chat_template_kwargs={"enable_thinking": False}) == plain
    assert parse(top_k=None, anything=None) == plain  # null asks for nothing


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in openai_format._NEUTRAL.items() for value in values]
    + [(name, "x") for name in sorted(openai_format._HARMLESS)]
    + [
        ("n", 1), ("presence_penalty", 0), ("frequency_penalty", 0.0), ("parallel_tool_calls", True), ("top_p", 1),
        ("tools", []), ("functions", []), ("stop", []), ("stream_options", {"include_usage": False}),
    ],
    ids=str,
)  # fmt: skip
def test_what_asks_for_nothing_passes(name, value):
    """A neutral value is taken; of a field with neutral values, any other is refused by the field's name."""
    neutral = openai_format._NEUTRAL.get(name)
    assert parse(**{name: value}) == parse()
    if neutral is not None:
        with pytest.raises(openai_format.BadRequestError, match=name) as caught:
            parse(**{name: "something else"})
        assert (caught.value.param, caught.value.status) == (name, 400)


def test_every_field_of_the_openai_client_is_known():
    """A client that sends a field of the official library is told about its value, not that there is no such field."""
    fields = typing.get_type_hints(completion_create_params.CompletionCreateParamsBase).keys()
    assert len(fields) > 25 and "messages" in fields
    unknown = []
    for name in fields:
        try:
            openai_format.parse({**BASE, name: BASE.get(name, object())}, LIMITS)
        except openai_format.BadRequestError as error:
            unknown += [name] if error.code == "unknown_parameter" else []
    assert not unknown, unknown


def test_fields_that_parse_reads_are_those_that_are_listed():
    source = inspect.getsource(openai_format.parse)
    assert [name for name in openai_format._READ if f'"{name}"' not in source] == []


@given(st.text(max_size=12), st.sampled_from([0, 1, 0.5, True, "x", [], {}]))
def test_no_unknown_field_is_ignored(name, value):
    known = openai_format._READ | openai_format._HARMLESS | openai_format._NEUTRAL.keys()
    if name not in known:
        with pytest.raises(openai_format.BadRequestError):
            parse(**{name: value})


CHAT = Chat(tokenizer.load("model/tiny_qwen3"))
SAID = 'Booking B7 is "open", é and 日本, at 12 Fox street.\nDone? x\n'
TEXTS = st.text(st.sampled_from('aé日\n "{<'), max_size=30) | st.sampled_from([SAID, SAID * 2])


def replied(tokens, stops, steps):
    """The reply to a request with these stop texts, told in steps: (the whole message, what a stream sends of it)."""
    request = openai_format.parse({**BASE, "stop": stops, "stream": True}, LIMITS)
    reply, sent, ends = openai_format.Reply(CHAT, request, 0), "", [*sorted(s for s in steps if s < len(tokens))]
    for end in [*ends, len(tokens)]:
        reply.update(Progress(tokens[:end], [0.0] * end, "stop" if end == len(tokens) else ""))
        for part in reply.deltas():
            sent += part["delta"].get("content", "")
        if reply.finish_reason:
            break
    return reply.message, sent


@given(TEXTS, st.lists(st.text(st.sampled_from('aé日\n "{<B7'), min_size=1, max_size=4), max_size=4), st.data())
def test_a_stream_sends_the_text_before_the_stop_and_nothing_else(text, stops, data):
    """Wherever the stop text begins within the tokens, and however many tokens come at a time."""
    tokens = [*CHAT._encode(text), CHAT._im_end]
    steps = data.draw(st.lists(st.integers(0, len(tokens)), max_size=len(tokens)))
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    message, sent = replied(tokens, stops, steps)
    assert message["content"] == sent == text[: min(places, default=len(text))]


@pytest.mark.parametrize("start", range(len(SAID) - 3))
def test_every_piece_of_an_answer_can_be_the_stop(start):
    tokens, stop = [*CHAT._encode(SAID), CHAT._im_end], SAID[start : start + 4]
    message, sent = replied(tokens, [stop], range(len(tokens)))
    assert message["content"] == sent == SAID[: SAID.find(stop)]
