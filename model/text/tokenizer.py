"""Loads and saves HF tokenizer folders, and trains the tiny byte-level BPE in Qwen's format.

Real checkpoints have their own tokenizer (`load`). The tokenizer of the tiny configs is trained on generated text
(`train`). It has the same special tokens and the same chat format, with a vocabulary three orders of magnitude smaller.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from model import files

TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
OTHER_FILES = ("special_tokens_map.json", "added_tokens.json")  # which transformers reads, too, if they are there

# The added tokens of Qwen3 that text agents use, in the order of their ids in Qwen3. The value is HF's `special` flag,
# as in added_tokens_decoder of Qwen3's tokenizer_config.json. Decoding with skip_special_tokens drops only tokens with
# True, so it keeps tool calls and thinking.
SPECIAL_TOKENS = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<tool_response>": False,
    "</tool_response>": False,
    "<think>": False,
    "</think>": False,
}

# Pieces within which BPE may merge. The first alternative that matches is taken: fixed JSON; a key; a rule's field with
# its comparison; a newline; a word with the space before it; one digit; a run of other characters, without a last space
# if a word follows.
#
# A JSON key forms one piece with the characters before its value (`"status": "`), and so do a field and its comparison
# (`"amount" at most `). So a value is preceded by the same token wherever it is copied from or to. That helps because
# finding what followed the same token last time is the first thing that attention learns. A value is the same token in
# JSON and in prose if both quote it: `"status": "shipped"` and `is "shipped"`.
_JSON = (  # fixed parts of function schemas and calls, one piece each: half of what an agent reads
    r'\{"type": "function", "function": \{"name": "',
    r'", "description": "',
    r'\.", "parameters": \{"type": "object", "properties": \{"',
    r'": \{"type": "[a-z]+"',
    r'\}*, "required": \["',
    r', "enum": \["',
    r'\{"name": "',
    r'", "arguments": \{',
)
_KEY = r'"[A-Za-z_]+": (?!\{)"?| ?"[A-Za-z_]+" (?:is "|at most |at least )'
_OTHER = rf"(?:(?!{_KEY})[^A-Za-z_0-9\n])+"
PIECES = "|".join((*_JSON, _KEY, r"\n", r" ?[A-Za-z_]+", r"[0-9]", rf"{_OTHER}(?= [A-Za-z_])", _OTHER))

# The same for worlds that ask questions, where names and numbers are copied.
# - The space before a name or number belongs to the word before it, so that names and numbers have the same tokens
#   wherever they occur.
# - Two digits are one piece: a single digit occurs in too many places to be copied from the right one.
# - Phrases that programs and queries repeat are one piece.
QUESTION_PIECES = "|".join(
    (
        *_JSON,
        r"from fractions import Fraction as F; ",
        r"\)?; [a-z] [-+*/]*= (?:F\()?",
        r"[a-z] = (?:F\()?",
        r" \* F\(",
        r", 1000\)",
        _KEY,
        r"\n",
        r" ?[a-z]*\(?[a-z]\.[a-z_]+\)?",
        r" ?[a-z_]+ (?=[A-Z0-9])",
        r" ?[a-z_]+",
        r"[A-Z][a-z]*",
        r"[0-9]{1,2}",
        rf"{_OTHER}(?= [a-z_])",
        _OTHER,
    )
)

# Qwen3's chat format with a shorter text about tools (one line, because the tiny model's context is short). Like
# Qwen3-2507's template it is prefix-stable: adding a turn does not change what was rendered before.
CHAT_TEMPLATE = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- 'Tools you may call:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + tool | tojson }}
    {%- endfor %}
    {{- '\n</tools><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' else '' }}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' else '' }}
    {%- elif not (tools and loop.first and message.role == 'system') %}
        {%- set content = message.content or '' %}
        {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- for call in message.tool_calls or [] %}
            {{- '' if loop.first and not content else '\n' }}
            {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
""".strip()


def load(path: str | os.PathLike[str]) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of an HF folder, from local files only.

    Raises ValueError, naming the file, if the folder, tokenizer.json or tokenizer_config.json is missing, or if a file
    does not parse. Whether the chat template is one that can be used is for `chat.Chat` to say.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise ValueError(f"tokenizer folder {str(folder)!r} does not exist (or is not a folder)")
    for name in (TOKENIZER_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"tokenizer folder {str(folder)!r} has no {name}: expected a folder saved by transformers")
    for name in (TOKENIZER_FILE, CONFIG_FILE, *OTHER_FILES):
        if (folder / name).is_file():
            files.read_object(folder / name)
    try:
        tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"{folder / TOKENIZER_FILE}: not a tokenizer ({_line(error)})") from None
    try:
        # Code that the folder may name or hold is never run.
        found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # anything, if a value in one of the files is of another type than it should be
        raise ValueError(f"{folder / CONFIG_FILE}: transformers cannot load the tokenizer ({_line(error)})") from None
    if not isinstance(found, PreTrainedTokenizerFast):
        raise ValueError(f"{folder / CONFIG_FILE}: tokenizer_class: expected a fast one, got {type(found).__name__}")
    for kept in ("local_files_only", "trust_remote_code"):
        found.init_kwargs.pop(kept, None)  # `save` would write it as a property of the tokenizer
    return found


def _line(error: Exception) -> str:
    """The first line of an error, not too long."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def save(tokenizer: PreTrainedTokenizerFast, path: str | os.PathLike[str]) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into the folder, creating it if needed."""
    tokenizer.save_pretrained(os.fspath(path))


def train(texts: Iterable[str], vocab_size: int = 1024, pieces: str = PIECES) -> PreTrainedTokenizerFast:
    """Trains the tiny byte-level BPE. The same texts in any order give the same tokenizer.

    texts: may be rendered conversations; special tokens are cut out before merges are counted.
    vocab_size: len(tokenizer) of the result, always.
    pieces: a regular expression that matches the pieces within which BPE may merge.

    Ids have the order of Qwen's tokenizer: bytes and merges, then SPECIAL_TOKENS, then "<|unused_i|>" tokens if the
    texts are too few to fill the vocabulary. eos is <|im_end|>, pad is <|endoftext|>.

    Raises ValueError if vocab_size is too small for the 256 bytes and the special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size={vocab_size}: expected at least {len(alphabet) + len(SPECIAL_TOKENS)}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS), min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(_without_special_tokens(texts), trainer)
    backend.add_tokens([_added_token(content, special) for content, special in SPECIAL_TOKENS.items()])
    unused = vocab_size - backend.get_vocab_size()
    backend.add_tokens([_added_token(f"<|unused_{i}|>", True) for i in range(unused)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _added_token(content: str, special: bool) -> tokenizers.AddedToken:
    """An added token that matches exactly its text, without normalisation and without space around it."""
    return tokenizers.AddedToken(content, special=special, normalized=False)


def _without_special_tokens(texts: Iterable[str]) -> Iterator[str]:
    """Yields the parts of each text between special tokens."""
    boundary = re.compile("|".join(re.escape(content) for content in SPECIAL_TOKENS))
    for text in texts:
        yield from boundary.split(text)
