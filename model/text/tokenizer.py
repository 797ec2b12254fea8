"""HF tokenizer folders in and out, and the tiny byte-level BPE in Qwen's format.

Real checkpoints bring their own tokenizer (`load`). The tiny config trains one on generated text (`train`): the same
special tokens, the same chat format, a vocabulary three orders of magnitude smaller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# Qwen3's added tokens that text agents use, in the order of their ids there. The value is HF's `special` flag:
# decoding with skip_special_tokens drops only the True ones, so calls and thinking survive it (as in Qwen3's
# tokenizer_config.json, added_tokens_decoder).
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

# Pieces within which BPE may merge, first alternative that matches: fixed JSON; a key; a rule's field with its
# comparison; a newline; a word with the space before it; one digit; a run of anything else, leaving a last space to
# the word that follows. A JSON key is one piece with what stands before its value (`"status": "`), and so are a
# field and its comparison (`"amount" at most `): the same token precedes a value wherever it is copied from or to,
# and looking for what came after a token last time is the first thing attention learns. A value has the same token
# in JSON and in prose as long as both quote it: `"status": "shipped"` and `is "shipped"`.
_JSON = (  # the fixed parts of a function schema and of a call, each one piece: they are half of what an agent reads
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

# The same for worlds that ask questions, where names and numbers are copied: a space belongs to the word before a name
# or number, so that these have the same tokens wherever they stand. Two digits are one piece, since a digit alone is
# found in too many places to be copied from the right one. What a program or query repeats is one piece.
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

# Qwen3's chat format in our words (one line about tools, because the tiny model's context is short). Prefix-stable as
# Qwen3-2507's: nothing that was rendered changes when a turn is added.
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
    """The tokenizer of an HF folder, from local files only.

    Raises ValueError naming the folder and the file when tokenizer.json or tokenizer_config.json is missing.
    """
    folder = os.fspath(path)
    if not os.path.isdir(folder):
        raise ValueError(f"tokenizer folder {folder!r} does not exist (or is not a folder)")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise ValueError(f"tokenizer folder {folder!r} has no {name}: expected a folder saved by transformers")
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def save(tokenizer: PreTrainedTokenizerFast, path: str | os.PathLike[str]) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into the folder, creating it if needed."""
    tokenizer.save_pretrained(os.fspath(path))


def train(texts: Iterable[str], vocab_size: int = 1024, pieces: str = PIECES) -> PreTrainedTokenizerFast:
    """Trains the tiny byte-level BPE: the same texts give the same tokenizer, whatever their order.

    pieces: a regular expression of the pieces within which BPE may merge.

    `texts` may be rendered conversations: special tokens are cut out of them before merges are counted. Ids are laid
    out as in Qwen's tokenizer: bytes and merges, then SPECIAL_TOKENS, then "<|unused_i|>" tokens if the texts are too
    few to fill the vocabulary, so len(tokenizer) == vocab_size always. eos is <|im_end|>, pad is <|endoftext|>.

    Raises ValueError when vocab_size has no room for the 256 bytes and the special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size={vocab_size}: expected at least {len(alphabet) + len(SPECIAL_TOKENS)}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(pieces), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
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
    """An added token that matches its exact text and nothing around it."""
    return tokenizers.AddedToken(content, special=special, normalized=False)


def _without_special_tokens(texts: Iterable[str]) -> Iterator[str]:
    """The stretches of text between special tokens."""
    boundary = re.compile("|".join(re.escape(content) for content in SPECIAL_TOKENS))
    for text in texts:
        yield from boundary.split(text)
