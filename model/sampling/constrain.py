"""Constrained tool calls: what is sampled between <tool_call> and </tool_call> parses as a call of a tool that exists.

Outside of calls everything may be sampled. The grammar of a call is narrower than JSON where readers differ: no
escapes of single UTF-16 units, no numbers that overflow. llguidance, which knows the tokenizer's bytes, says which
tokens go on within it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import llguidance
import llguidance.hf
import numpy as np
from transformers import PreTrainedTokenizerFast

# In llguidance's dialect of Lark; <[id]> is a special token.
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
    """The constraint of one sampled turn: `allowed` before every token, `consume` after it."""

    def __init__(self, calls: Calls, names: tuple[str, ...]):
        self._calls, self._names = calls, names
        self._matcher: llguidance.LLMatcher | None = None  # inside a call

    def allowed(self) -> np.ndarray | None:
        """Bits uint32 [W]: bit v % 32 of word v // 32 is set if token v may come next. None: any may."""
        if self._matcher is not None:
            return np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        return None if self._names else self._calls.no_call

    def consume(self, token: int) -> None:
        """Goes on by a token that `allowed` admitted. Raises ValueError for one that it did not."""
        if self._matcher is None:
            self._matcher = self._calls.matcher(self._names) if token == self._calls.open else None
            return
        if not self._matcher.consume_token(token):
            raise ValueError(f"constrained call: token {token} is not among those allowed")
        if token == self._calls.close:
            self._matcher = None


class Calls:
    """Makes constraints for one tokenizer. Raises ValueError when it lacks <tool_call> or </tool_call>.

    vocab_size: the model's, V, which may be larger than the tokenizer's; W = ceil(V / 32).
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
        """The constraint of a turn in which these tools (OpenAI function schemas) may be called."""
        return Turn(self, tuple(tool["function"]["name"] for tool in tools))

    def matcher(self, names: tuple[str, ...]) -> llguidance.LLMatcher:
        """A fresh matcher of what comes after <tool_call>."""
        return self._compiled(names).deep_copy()

    def _compiled(self, names: tuple[str, ...]) -> llguidance.LLMatcher:
        """Raises ValueError when llguidance refuses the grammar."""
        inside = (json.dumps(name, ensure_ascii=False)[1:-1] for name in names)  # as it stands in a call
        spelled = " | ".join(json.dumps(text, ensure_ascii=False) for text in inside)
        matcher = llguidance.LLMatcher(self._tokenizer, _GRAMMAR % (self.close, spelled))
        if matcher.is_error():
            raise ValueError(f"constrained calls of {names}: {matcher.get_error()}")
        return matcher
