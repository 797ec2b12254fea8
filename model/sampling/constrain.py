"""Constrained tool calls: the text between <tool_call> and </tool_call> is always a valid call of an existing tool.

Outside calls everything may be sampled. The grammar of a call excludes JSON that parsers read differently: \\u escapes
and numbers that overflow. llguidance, which knows the bytes of each token, determines which tokens may come next.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import llguidance
import llguidance.hf
import numpy as np
from transformers import PreTrainedTokenizerFast

# In llguidance's dialect of Lark; <[id]> is the special token with this id.
_GRAMMAR = r"""
start: "\n{\"name\": \"" name "\", \"arguments\": " object "}\n" <[%d]>
name: %s
object: "{" (pair ("," SPACE pair)*)? "}"
array: "[" (value ("," SPACE value)*)? "]"
pair: STRING ":" SPACE value
value: object | array | STRING | NUMBER | "true" | "false" | "null"
STRING: /"([^"\\\x00-\x1f\x7f]|\\["\\\/bfnrt])*"/
NUMBER: /-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?/
SPACE: / ?/
"""


class Turn:
    """The constraint of one sampled turn. Call `allowed` before each token and `consume` after it."""

    def __init__(self, calls: Calls, names: tuple[str, ...]):
        self._calls, self._names = calls, names
        self._matcher: llguidance.LLMatcher | None = None  # None outside a call

    def allowed(self) -> np.ndarray | None:
        """A bitmask uint32 [W]: bit v % 32 of word v // 32 is set if token v may come next. None: any token may."""
        if self._matcher is not None:
            # llguidance gives V // 32 + 1 words, one too many where 32 divides V.
            return np.frombuffer(self._matcher.compute_bitmask(), np.uint32)[: len(self._calls.no_call)]
        return None if self._names else self._calls.no_call

    def consume(self, token: int) -> None:
        """Advances by the token drawn. Raises ValueError if it was not allowed."""
        if self._matcher is None:
            self._matcher = self._calls.matcher(self._names) if token == self._calls.open else None
            return
        if not self._matcher.consume_token(token):
            raise ValueError(f"constrained call: token {token} is not among those allowed")
        if token == self._calls.close:
            self._matcher = None


class Calls:
    """Makes constraints for one tokenizer.

    vocab_size: V of the model, which may be larger than the tokenizer's. Bitmasks have W = ceil(V / 32) words.
    Raises ValueError if the tokenizer lacks <tool_call> or </tool_call>.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocab_size: int):
        ids = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
        if not {"<tool_call>", "</tool_call>"} <= ids.keys():
            raise ValueError(f"tokenizer {tokenizer.name_or_path!r} lacks <tool_call> or </tool_call>")
        self.open, self.close = ids["<tool_call>"], ids["</tool_call>"]
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size)
        self.no_call = np.full((-(-vocab_size // 32),), 2**32 - 1, np.uint32)
        self.no_call[self.open // 32] &= ~np.uint32(1 << self.open % 32)
        self._compiled = functools.lru_cache(1024)(self._compiled)

    def turn(self, tools: Sequence[dict]) -> Turn:
        """The constraint of a turn in which only these tools (OpenAI function schemas) may be called.

        Without tools no call may be sampled.
        """
        return Turn(self, tuple(tool["function"]["name"] for tool in tools))

    def matcher(self, names: tuple[str, ...]) -> llguidance.LLMatcher:
        """A new matcher for the text after <tool_call>. Raises ValueError if llguidance refuses the grammar."""
        return self._compiled(names).deep_copy()

    def _compiled(self, names: tuple[str, ...]) -> llguidance.LLMatcher:
        """The compiled matcher of calls of these tools, which `matcher` copies."""
        inside = (json.dumps(name, ensure_ascii=False)[1:-1] for name in names)  # as written inside a JSON string
        spelled = " | ".join(json.dumps(text, ensure_ascii=False) for text in inside)
        matcher = llguidance.LLMatcher(self._tokenizer, _GRAMMAR % (self.close, spelled))
        if matcher.is_error():
            raise ValueError(f"constrained calls of {names}: {matcher.get_error()}")
        return matcher
