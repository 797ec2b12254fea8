"""The tiny tokenizer: round trips, ids, pieces, determinism, HF folders, and its chat template's format."""

import contextlib
import json

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.text import tokenizer as tokenizer_lib

TEXTS = [
    'Refund only if the status is "shipped" and the amount is below 40. Otherwise refuse.',
    '{"name": "get_order", "arguments": {"order_id": "W1234"}}',
    '{"order_id": "W1234", "status": "shipped", "amount": 35, "items": ["lamp", "desk"]}',
    "<|im_start|>user\nI want my money back for order W1234, please.<|im_end|>\n",
] * 8


@pytest.fixture(scope="module")
def tiny():
    return tokenizer_lib.train(TEXTS, vocab_size=400)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_round_trips(tiny, text):
    ids = tiny(text, add_special_tokens=False)["input_ids"]
    assert tiny.decode(ids) == text
    assert all(0 <= i < len(tiny) for i in ids)


def test_vocabulary_size_and_special_ids(tiny):
    assert len(tiny) == 400
    assert tiny.eos_token == "<|im_end|>" and tiny.pad_token == "<|endoftext|>"
    names = list(tokenizer_lib.SPECIAL_TOKENS)
    ids = [tiny(name, add_special_tokens=False)["input_ids"] for name in names]
    assert [len(i) for i in ids] == [1] * len(names)
    assert [i[0] for i in ids] == list(range(ids[0][0], ids[0][0] + len(names)))  # consecutive, after the BPE's
    # "<|im_start|>" occurs in the texts and must not have become merges.
    assert not [token for token in tiny.backend_tokenizer.get_vocab() if "im_" in token and not token.startswith("<|")]


def test_calls_and_thinking_survive_skipping_special_tokens(tiny):
    text = "<|im_start|><think>a</think><tool_call>b</tool_call><tool_response>c</tool_response><|im_end|><|endoftext|>"
    kept = tiny.decode(tiny(text)["input_ids"], skip_special_tokens=True)
    assert kept == "<think>a</think><tool_call>b</tool_call><tool_response>c</tool_response>"


def test_few_texts_are_padded_with_unused_tokens():
    few = tokenizer_lib.train(["abc abc"], vocab_size=300)
    assert len(few) == 300
    assert few.convert_ids_to_tokens(299).startswith("<|unused_")


def test_vocabulary_too_small_is_refused():
    with pytest.raises(ValueError, match="vocab_size=264: expected at least 265"):
        tokenizer_lib.train(TEXTS, vocab_size=264)


def test_training_is_deterministic_whatever_the_order(tiny):
    for texts in (iter(TEXTS), TEXTS[::-1]):
        again = tokenizer_lib.train(texts, vocab_size=400)
        assert again.backend_tokenizer.to_str() == tiny.backend_tokenizer.to_str()


def test_pieces(tiny):
    def pieces(text):
        return [piece.replace("Ġ", " ") for piece, _ in tiny.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    call = ["{", '"order_id": "', "W", "1", "2", '", ', '"gift": ', "true", ", ", '"n": ', "5", "}}"]
    assert pieces('{"order_id": "W12", "gift": true, "n": 5}}') == call
    rule = ["Only", " if", ' "amount" at most ', "4", "0", ",", " and", ' "status" is "', "paid", '".']
    assert pieces('Only if "amount" at most 40, and "status" is "paid".') == rule
    schema = pieces('"properties": {"order_id": {"type": "string"}, "n": {"type": "integer"}}, "required": ["n"]')
    assert [piece for piece in schema if "_id" in piece or piece == "n"] == ["order_id", "n", "n"]
    prose = ["Refuse", " if", " it", " is", ' "', "shipped", '",', " after", " ", "1", "0", " days", "."]
    assert pieces('Refuse if it is "shipped", after 10 days.') == prose
    assert pieces("a\n\n  b") == ["a", "Ċ", "Ċ", " ", " b"]


def test_quoted_value_is_the_same_token_in_json_and_prose(tiny):
    shipped = tiny.convert_tokens_to_ids("shipped")
    assert shipped is not None
    for text in ('{"status": "shipped"}', 'if the status is "shipped".'):
        assert tiny(text)["input_ids"].count(shipped) == 1


@pytest.mark.parametrize("model_type", [None, "qwen3"])
def test_save_and_load(tiny, tmp_path, model_type):
    tokenizer_lib.save(tiny, tmp_path / "hf")
    if model_type:  # a model in the same folder must not make transformers pick that model's tokenizer class
        (tmp_path / "hf/config.json").write_text(json.dumps({"model_type": model_type}))
    files = {path.name for path in (tmp_path / "hf").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= files
    loaded = tokenizer_lib.load(tmp_path / "hf")
    assert loaded.backend_tokenizer.to_str() == tiny.backend_tokenizer.to_str()
    assert loaded.chat_template == tiny.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tiny.eos_token_id, tiny.pad_token_id)


def test_load_names_what_is_missing(tiny, tmp_path):
    with pytest.raises(ValueError, match="nowhere.*does not exist"):
        tokenizer_lib.load(tmp_path / "nowhere")
    tokenizer_lib.save(tiny, tmp_path / "hf")
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / "hf" / name).unlink()
        with pytest.raises(ValueError, match=f"hf' has no {name}"):
            tokenizer_lib.load(tmp_path / "hf")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\xff\xfe", "[" * 100_000, '{"x": 1}', '{"model": {}}'])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_files_that_do_not_parse_are_named(tiny, tmp_path, name, text):
    tokenizer_lib.save(tiny, tmp_path / "hf")
    (tmp_path / "hf" / name).write_bytes(text.encode("latin-1"))
    if name != "tokenizer.json" and text.startswith('{"'):
        assert tokenizer_lib.load(tmp_path / "hf").get_vocab() == tiny.get_vocab()
    else:
        with pytest.raises(ValueError, match=rf"hf/{name}: (not JSON|expected a JSON object|not a tokenizer)"):
            tokenizer_lib.load(tmp_path / "hf")


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "LlamaTokenizer"}, {"tokenizer_class": "NoSuchTokenizer"}, {"tokenizer_class": 3},
        {"eos_token": 3}, {"added_tokens_decoder": {"x": 1}}, {"extra_special_tokens": 5}, {"chat_template": 7},
        {"chat_template": [{"name": "x"}]}, {"auto_map": 3},
    ],
    ids=str,
)  # fmt: skip
def test_values_of_the_wrong_type_are_refused_or_change_nothing(tiny, tmp_path, changes):
    tokenizer_lib.save(tiny, tmp_path / "hf")
    file = tmp_path / "hf/tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    try:
        assert tokenizer_lib.load(tmp_path / "hf").get_vocab() == tiny.get_vocab()
    except ValueError as error:
        assert str(file) in str(error) and "\n" not in str(error)


def test_code_in_a_folder_is_never_run(tiny, tmp_path):
    """Whatever names it: a tokenizer class, an auto_map. The folder's Python would leave a file behind."""
    folder, trace = tmp_path / "hf", tmp_path / "trace"
    tokenizer_lib.save(tiny, folder)
    code = f"open({str(trace)!r}, 'w').close()\nclass Evil: pass\nclass EvilConfig: pass\n"
    for name in ("evil", "tokenization_evil", "configuration_evil", "tokenization_qwen2", "sitecustomize", "__init__"):
        (folder / f"{name}.py").write_text(code)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    evil = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "configuration_evil.EvilConfig"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": evil}))
    for changes in (
        {"auto_map": evil},
        {"auto_map": evil, "tokenizer_class": "Evil"},
        {"tokenizer_class": "evil.Evil"},
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))
        with contextlib.suppress(ValueError):
            tokenizer_lib.load(folder)
        assert not trace.exists()


def _call(name, arguments):
    return {"id": "call_0_0", "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Looking.", "tool_calls": [_call("get", '{"id": 1}'), _call("get", '{"id": 2}')]},
    {"role": "tool", "tool_call_id": "call_0_0", "content": "one"},
    {"role": "tool", "tool_call_id": "call_0_1", "content": "two"},
    {"role": "assistant", "content": None, "tool_calls": [_call("end", "{}")]},
    {"role": "tool", "tool_call_id": "call_1_0", "content": "ended"},
    {"role": "assistant", "content": "Done."},
]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("get", "end")]


def test_template_renders_the_qwen3_format(tiny):
    """Written out by hand from Qwen3's format."""
    system = (
        "<|im_start|>system\nBe brief.\n\nTools you may call:\n<tools>\n"
        '{"type": "function", "function": {"name": "get", "parameters": {}}}\n'
        '{"type": "function", "function": {"name": "end", "parameters": {}}}\n'
        "</tools><|im_end|>\n"
    )
    rest = (
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nLooking.\n"
        '<tool_call>\n{"name": "get", "arguments": {"id": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get", "arguments": {"id": 2}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "end", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nended\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nDone.<|im_end|>\n"
    )
    assert tiny.apply_chat_template(CONVERSATION, tools=TOOLS, tokenize=False) == system + rest
    without_tools = "<|im_start|>system\nBe brief.<|im_end|>\n" + rest
    assert tiny.apply_chat_template(CONVERSATION, tokenize=False) == without_tools


def test_template_is_prefix_stable(tiny):
    whole = tiny.apply_chat_template(CONVERSATION, tools=TOOLS, tokenize=False)
    for end, nxt in ((2, "assistant"), (3, "tool"), (5, "assistant"), (6, "tool"), (7, "assistant"), (8, None)):
        prefix = tiny.apply_chat_template(
            CONVERSATION[:end], tools=TOOLS, tokenize=False, add_generation_prompt=nxt == "assistant"
        )
        assert whole.startswith(prefix)


def test_template_takes_arguments_as_an_object_too(tiny):
    as_object = [{"role": "assistant", "content": "", "tool_calls": [_call("get", {"id": "é", "n": [1, None]})]}]
    as_text = [{"role": "assistant", "content": "", "tool_calls": [_call("get", '{"id": "é", "n": [1, null]}')]}]
    assert tiny.apply_chat_template(as_object, tokenize=False) == tiny.apply_chat_template(as_text, tokenize=False)


def test_template_alone_is_valid_jinja():
    jinja2.Environment().parse(tokenizer_lib.CHAT_TEMPLATE)
