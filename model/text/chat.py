"""The chat format, token in / token out: conversations grow by appending tokens; sampled tokens are never rewritten.

The format is taken from the tokenizer's own chat template, once per pattern of roles: the template renders a dummy
conversation with placeholders as contents, and the text around the placeholders is kept. Real contents are then filled
in without rendering the template again. Any ChatML template with Hermes tool calls works (Qwen2.5, Qwen3, Qwen3-2507,
the tiny tokenizer).

Contents cannot forge structure. A special token is emitted only where the template has one. Contents and tool schemas
are encoded by a copy of the tokenizer without added tokens, so "<|im_end|>" in a tool result is ordinary text. The
whole text between two special tokens ("user\\n" and the content together) is encoded at once. So for contents without
special tokens the result equals the tokenizer's encoding of the rendered template.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import tokenizers
from transformers import PreTrainedTokenizerFast

# An OpenAI-style chat message: {"role", "content", "tool_calls"?, "tool_call_id"?}.
Message = dict[str, Any]

# Private-use characters that pass through the template unchanged. _MARK is put inside special-token strings in tool
# schemas, so that they are not taken for special tokens. "_HOLE <i> _HOLE" is the placeholder ("hole") of content i.
_MARK, _HOLE = "\ue000", "\ue001"
_HOLES = re.compile(f"{_HOLE}([0-9]+){_HOLE}")
_ARGUMENTS = re.compile(rf'\{{"({_HOLES.pattern})": ?0\}}')  # dummy arguments of a call: {hole: 0}
_CACHED = 2048  # size of each cache of a Chat: encoded texts and patterns

# A part of a rendered conversation: the id of a special token, or text with holes.
_Segment = int | str


class _Block(NamedTuple):
    """A part of a sampled turn: plain text, or the tokens after <tool_call>. closed: whether </tool_call> ended it."""

    is_call: bool
    closed: bool
    tokens: list[int]


class Chat:
    """Encodes and parses conversations for one tokenizer. Stateless except for its caches.

    Raises ValueError if the tokenizer has no chat template or lacks <|im_end|>, <tool_call> or </tool_call> as single
    tokens. The methods raise ValueError if the template is not ChatML with Hermes tool calls, if it refuses a
    conversation, or if a message is malformed.

    stop_ids: the ids that end a turn (<|im_end|>, <|endoftext|> and the tokenizer's eos).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        if not tokenizer.chat_template:
            raise ValueError(f"tokenizer {tokenizer.name_or_path!r} has no chat template")
        special = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
        missing = [content for content in ("<|im_end|>", "<tool_call>", "</tool_call>") if content not in special]
        if missing:
            raise ValueError(f"tokenizer {tokenizer.name_or_path!r} lacks the added tokens {missing}")
        self.tokenizer = tokenizer
        self._special = special
        self._special_text = re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)))
        self._im_end, self._open, self._close = (special[s] for s in ("<|im_end|>", "<tool_call>", "</tool_call>"))
        ends = {self._im_end, special.get("<|endoftext|>"), tokenizer.eos_token_id}
        self.stop_ids = frozenset(end for end in ends if end is not None)
        self._plain = _without_added_tokens(tokenizer.backend_tokenizer)
        # One cache per object, not per class, so that it is freed with the object.
        self._encode = functools.lru_cache(_CACHED)(self._encode)
        self._prompt_pattern = functools.lru_cache(_CACHED)(self._prompt_pattern)
        self._increment_pattern = functools.lru_cache(_CACHED)(self._increment_pattern)
        self._assistant_pattern = functools.lru_cache(_CACHED)(self._assistant_pattern)

    def prompt(self, messages: Sequence[Message], tools: Sequence[dict] | None = None) -> list[int]:
        """Tokens of the tools, the messages before the first assistant turn, and the generation prompt.

        Templates with a thinking mode get enable_thinking=False. Raises ValueError if there is no message, a message is
        an assistant's or a content is not text.
        """
        contents = [_content(message) for message in messages]
        schemas = json.dumps(list(tools), ensure_ascii=False) if tools else ""
        return self._fill(self._prompt_pattern(_pattern(messages, contents), schemas), contents)

    def increment(self, messages: Sequence[Message]) -> list[int]:
        """Tokens to append after a sampled turn that ends in <|im_end|>: the messages and the next generation prompt.

        messages: tool results and user turns; may be empty. The tokens start with what the template puts after
        <|im_end|> ("\\n"). Raises ValueError if a message is an assistant's or a content is not text.
        """
        contents = [_content(message) for message in messages]
        return self._fill(self._increment_pattern(_pattern(messages, contents)), contents)

    def assistant(self, message: Message) -> list[int]:
        """Tokens of an assistant message as the policy would sample them, up to and including <|im_end|>.

        Raises ValueError if the role is not "assistant", or if the name or arguments of a call are not strings.
        """
        if message["role"] != "assistant":
            raise ValueError(f"assistant: expected role 'assistant', got {message['role']!r}")
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        texts = [_content(message), *itertools.chain.from_iterable((c["name"], c["arguments"]) for c in calls)]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"tool call: expected name and arguments (JSON text) as strings, got {calls!r}")
        return self._fill(self._assistant_pattern(bool(texts[0]), len(calls)), texts)

    def encode(self, messages: Sequence[Message], tools: Sequence[dict] | None = None) -> tuple[list[int], list[int]]:
        """Returns (tokens, loss_mask) of a whole conversation, both of length T, built like those of a rollout.

        loss_mask is 1 for the tokens of assistant turns, <|im_end|> included, else 0. Messages after the last assistant
        turn are dropped. Raises ValueError if there is no assistant turn.
        """
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns:
            raise ValueError("encode: expected at least one assistant message")
        tokens = self.prompt(messages[: turns[0]], tools)
        loss_mask = [0] * len(tokens)
        for turn, next_turn in itertools.zip_longest(turns, turns[1:]):
            sampled = self.assistant(messages[turn])
            appended = self.increment(messages[turn + 1 : next_turn]) if next_turn is not None else []
            tokens += sampled + appended
            loss_mask += [1] * len(sampled) + [0] * len(appended)
        return tokens, loss_mask

    def parse(self, tokens: Iterable[int], turn: int) -> Message:
        """Parses sampled tokens into an assistant message with call ids "call_<turn>_<i>". Never raises.

        Reads up to the first of stop_ids. Calls are recognised by the token ids of <tool_call> and </tool_call>, not by
        their spelling.

        - A well-formed call is closed and holds {"name": str, "arguments": object} in strict JSON. Its arguments are
          dumped again as JSON.
        - Any other call keeps its name if one can be read, else "". Its arguments are the raw text from <tool_call> on.
          That is never valid JSON, so the environment answers with an error that the model can read.
        """
        blocks = self._blocks(itertools.takewhile(lambda token: token not in self.stop_ids, map(int, tokens)))
        content, calls = "", []
        for i, block in enumerate(blocks):
            text = self._plain_text(block.tokens)
            if block.is_call:
                call_id = f"call_{turn}_{len(calls)}"
                function = _parse_call(text, block.closed)
                calls.append({"id": call_id, "type": "function", "function": function})
            elif i == 0:
                content = text.removesuffix("\n") if len(blocks) > 1 else text  # the newline before <tool_call>
            elif text.strip():
                content = f"{content}\n{text.strip()}" if content else text.strip()
        message = {"role": "assistant", "content": content}
        return {**message, "tool_calls": calls} if calls else message

    def _blocks(self, tokens: Iterable[int]) -> list[_Block]:
        """Splits a turn at its call tokens. The first block is text, maybe empty; a lone </tool_call> is text."""
        blocks, current, is_call = [], [], False
        for token in tokens:
            if token == self._open:
                blocks.append(_Block(is_call, False, current))
                current, is_call = [], True
            elif token == self._close and is_call:
                blocks.append(_Block(True, True, current))
                current, is_call = [], False
            else:
                current.append(token)
        return [*blocks, _Block(is_call, False, current)]

    def _plain_text(self, tokens: list[int]) -> str:
        """Decodes tokens, special ones included. Invalid UTF-8 becomes U+FFFD; unknown ids are left out."""
        return self.tokenizer.backend_tokenizer.decode(tokens, skip_special_tokens=False)

    def _fill(self, pattern: tuple[_Segment, ...], contents: Sequence[str]) -> list[int]:
        """Tokens of a pattern whose hole i is filled with contents[i]."""
        tokens = []
        for segment in pattern:
            if isinstance(segment, int):
                tokens.append(segment)
            else:
                tokens += self._encode(_HOLES.sub(lambda hole: contents[int(hole[1])], segment))
        return tokens

    def _encode(self, text: str) -> tuple[int, ...]:
        """Tokens of text; special tokens' spellings in it are ordinary text. Raises ValueError for lone surrogates."""
        text.encode()  # which have no UTF-8; the tokenizer would raise TypeError
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def _prompt_pattern(self, pattern: tuple[tuple[str, bool], ...], schemas: str) -> tuple[_Segment, ...]:
        """The pattern that `prompt` fills, for these (role, has content). schemas: tools as JSON, "" for none."""
        if not pattern:
            raise ValueError("prompt: expected at least one message")
        if _MARK in schemas or _HOLE in schemas:
            raise ValueError("tools: the private-use characters U+E000 and U+E001 are reserved")
        schemas = self._special_text.sub(lambda special: special[0][0] + _MARK + special[0][1:], schemas)
        text = self._render(_dummies(pattern), json.loads(schemas) if schemas else None, True)
        return self._segments(text, [has_content for _, has_content in pattern])

    def _increment_pattern(self, pattern: tuple[tuple[str, bool], ...]) -> tuple[_Segment, ...]:
        """The pattern that `increment` fills, for messages of these (role, has content)."""
        turn = _hole(len(pattern))
        before = [{"role": "user", "content": "-"}, {"role": "assistant", "content": turn}]
        _, found, after = self._render([*before, *_dummies(pattern)], None, True).partition(turn)
        _, ended, text = after.partition("<|im_end|>")
        if not found or not ended:
            raise ValueError("chat template: expected <|im_end|> after the content of an assistant turn (ChatML)")
        return self._segments(text, [has_content for _, has_content in pattern])

    def _assistant_pattern(self, has_content: bool, calls: int) -> tuple[_Segment, ...]:
        """The pattern that `assistant` fills: hole 0: content; 2i + 1 and 2i + 2: name and arguments of call i."""
        # Arguments are an object: some templates dump any value as JSON, others only values that are not strings.
        functions = [{"name": _hole(2 * i + 1), "arguments": {_hole(2 * i + 2): 0}} for i in range(calls)]
        message = {"role": "assistant", "content": _hole(0) if has_content else ""}
        if calls:
            message["tool_calls"] = [
                {"id": f"call_0_{i}", "type": "function", "function": function} for i, function in enumerate(functions)
            ]
        user = {"role": "user", "content": "-"}
        prompt, whole = self._render([user], None, True), self._render([user, message], None, False)
        turn, ended, _ = whole.removeprefix(prompt).partition("<|im_end|>")
        if not whole.startswith(prompt) or not ended:
            raise ValueError("chat template: expected a turn to go on from the generation prompt to <|im_end|>")
        turn, found = _ARGUMENTS.subn(r"\1", turn)
        if found != calls:
            raise ValueError(f"chat template: expected arguments of calls as JSON objects (Hermes), got {turn!r}")
        return self._segments(turn + ended, [has_content] + [True] * 2 * calls)

    def _render(self, messages: list[Message], tools: list[dict] | None, generation: bool) -> str:
        """Renders the template to text, in non-thinking mode if it has one. Raises ValueError if the template
        refuses the conversation."""
        try:
            return self.tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=generation, tokenize=False, enable_thinking=False
            )
        except Exception as error:  # templates raise errors of their own, and any other on tools that they cannot read
            raise ValueError(f"chat template: {type(error).__name__}: {error}") from error

    def _segments(self, text: str, filled: Sequence[bool]) -> tuple[_Segment, ...]:
        """Splits rendered text at its special tokens. Raises ValueError unless hole i occurs filled[i] times."""
        expected = [str(i) for i, has_content in enumerate(filled) if has_content]
        if sorted(_HOLES.findall(text), key=int) != expected:
            raise ValueError(f"chat template: expected each content and call once and unaltered, got {text!r}")
        segments, start = [], 0
        for special in self._special_text.finditer(text):
            segments += [text[start : special.start()], self._special[special[0]]]
            start = special.end()
        segments.append(text[start:])
        return tuple(s.replace(_MARK, "") if isinstance(s, str) else s for s in segments if s != "")


def _without_added_tokens(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy of the tokenizer without its added tokens: any text encodes as ordinary text.

    HF's split_special_tokens is not enough: it keeps added tokens that are not `special`, such as </tool_response>.
    """
    plain = tokenizers.Tokenizer(backend.model)
    if backend.normalizer is not None:
        plain.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        plain.pre_tokenizer = backend.pre_tokenizer
    return plain


def _content(message: Message) -> str:
    """The content of a message, "" for None. Raises ValueError if it is not text."""
    content = message.get("content")
    if content is None:
        return ""
    if not isinstance(content, str):
        raise ValueError(f"{message['role']} message: expected content as a string, got {type(content).__name__}")
    return content


def _pattern(messages: Sequence[Message], contents: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """(role, has content) of messages that are not sampled. Raises ValueError if one is an assistant's."""
    roles = [message["role"] for message in messages]
    if "assistant" in roles:
        raise ValueError("prompt and increment: expected no assistant message (its tokens are sampled)")
    return tuple((role, bool(content)) for role, content in zip(roles, contents))


def _hole(index: int) -> str:
    """The placeholder of content `index`."""
    return f"{_HOLE}{index}{_HOLE}"


def _dummies(pattern: tuple[tuple[str, bool], ...]) -> list[Message]:
    """Dummy messages of these (role, has content), with holes as contents."""
    return [
        {"role": role, "content": _hole(i) if has_content else "", **({"tool_call_id": "-"} if role == "tool" else {})}
        for i, (role, has_content) in enumerate(pattern)
    ]


def _parse_call(text: str, closed: bool) -> dict[str, str]:
    """{"name", "arguments"} from the text of one call, well-formed or not; see `Chat.parse`."""
    try:
        if closed:
            return _read_call(text)
    except (ValueError, RecursionError):  # not strict JSON, not of this form, or nested too deeply
        pass
    name = re.search(r'"name"\s*:\s*"([^"\\]*)"', text)
    return {"name": name[1] if name else "", "arguments": f"<tool_call>{text}{'</tool_call>' if closed else ''}"}


def _read_call(text: str) -> dict[str, str]:
    """{"name", "arguments"} from a well-formed call. Raises ValueError or RecursionError for anything else."""
    call = json.loads(text, parse_constant=_refuse)
    name, arguments = (call.get("name"), call.get("arguments")) if isinstance(call, dict) else (None, None)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError('expected {"name": str, "arguments": object}')
    dumped = json.dumps(arguments, ensure_ascii=False, allow_nan=False)  # refuses 1e999, read as infinity
    (name + dumped).encode()  # ValueError for a lone surrogate (from "\ud800"), which has no UTF-8
    return {"name": name, "arguments": dumped}


def _refuse(constant: str) -> NoReturn:
    """Raises ValueError for NaN and Infinity, which json.loads accepts beyond JSON."""
    raise ValueError(f"{constant} is not JSON")
