"""Requests and answers in the format of OpenAI's chat completions.

A field that asks for something this server cannot do is refused with an error that names it. Ignoring such a field
could distort what a client measures.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from model.text.chat import Chat, Message
from rl.serving.batcher import Progress

MOST_STOPS = 4
MOST_LEVELS = 100  # of lists and objects within each other in a field; far below what JSON and templates can recurse
# Every field of a request is of one of three kinds. Any other is refused, because it may be a misspelt one or ask for
# another way of sampling than the one that is measured.
_READ = frozenset(
    """
    model messages tools tool_choice temperature top_p max_tokens max_completion_tokens seed stop n logprobs stream
    stream_options
""".split()
)  # fields that `parse` reads
# They change nothing about the answer.
_HARMLESS = frozenset(
    """
    user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options
    request_id
""".split()
)
_NEUTRAL = {  # unsupported field, of OpenAI, vLLM or SGLang -> its values that ask for nothing and are accepted
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "top_logprobs": (0,),
    "response_format": ({"type": "text"},), "tool_choice": ("auto", "none"), "parallel_tool_calls": (True,),
    "functions": ([],), "function_call": (), "audio": (), "prediction": (), "modalities": (["text"],),
    "reasoning_effort": ("none",), "web_search_options": (), "moderation": (), "verbosity": ("medium",),
    "top_k": (0, -1), "min_p": (0,), "repetition_penalty": (1,), "length_penalty": (1,), "min_tokens": (0,),
    "stop_token_ids": ([],), "ignore_eos": (False,), "skip_special_tokens": (True,), "best_of": (1,),
    "use_beam_search": (False,), "add_generation_prompt": (True,), "continue_final_message": (False,), "echo": (False,),
    "chat_template_kwargs": ({}, {"enable_thinking": False}), "bad_words": ([],), "logits_processors": ([],),
    "top_a": (0,), "typical_p": (1,), "include_stop_str_in_output": (False,), "no_stop_trim": (False,),
    "add_special_tokens": (False,), "spaces_between_special_tokens": (True,), "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,), "priority": (0,), "allowed_token_ids": (), "stop_regex": (), "regex": (), "ebnf": (),
    "structured_outputs": (), "guided_json": (), "guided_regex": (), "guided_choice": (), "guided_grammar": (),
}  # fmt: skip


class BadRequestError(ValueError):
    """A request that cannot be answered. param: the wrong field. code: OpenAI's error code, if there is one. status:
    of the HTTP response."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


@dataclasses.dataclass(frozen=True)
class Limits:
    """What requests may ask for.

    model: the name of the served model. max_new_tokens: most tokens of an answer. choices: most answers to one request
    ("n"). top_p: the only accepted value.
    """

    model: str
    max_new_tokens: int
    choices: int
    top_p: float


@dataclasses.dataclass(frozen=True)
class Request:
    """A valid request. None means that the client leaves the choice to the server.

    max_new_tokens: tokens per answer. stops: texts that end an answer. choices: number of answers. stream_usage:
    whether the stream ends with token counts.
    """

    messages: list[Message]
    tools: list[dict] | None
    temperature: float | None
    max_new_tokens: int | None
    seed: int | None
    stops: tuple[str, ...]
    choices: int
    logprobs: bool
    stream: bool
    stream_usage: bool


def parse(body: Any, limits: Limits) -> Request:
    """The request in a decoded JSON body. Raises BadRequestError if it is malformed or asks for what is not
    supported."""
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    fields = {name: value for name, value in body.items() if value is not None}
    for name, value in fields.items():  # first, because nobody can print or render what is nested too deeply
        if _levels(value) > MOST_LEVELS:
            raise BadRequestError(f"{name} has more than {MOST_LEVELS} lists and objects within each other", name)
    if fields.get("model") != limits.model:
        message = f"there is no model {fields.get('model')!r} here, only {limits.model!r}"
        raise BadRequestError(message, "model", "model_not_found", 404)
    for name in sorted(fields.keys() - _READ - _HARMLESS - _NEUTRAL.keys()):
        raise BadRequestError(f"there is no field {name!r}{_meant(name)}", name, "unknown_parameter")
    for name, neutral in _NEUTRAL.items():
        if name in fields and fields[name] not in neutral:
            raise BadRequestError(f"{name} = {fields[name]!r} is not supported", name)
    top_p = _number(fields, "top_p", 0, 1)
    if top_p is not None and top_p != limits.top_p:
        raise BadRequestError(f"top_p = {top_p} is not supported: this server samples with {limits.top_p}", "top_p")
    budgets = [_integer(fields, name, 1, limits.max_new_tokens) for name in ("max_tokens", "max_completion_tokens")]
    stream = _boolean(fields, "stream")
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise BadRequestError("stream_options must be an object", "stream_options")
    return Request(
        messages=_messages(fields.get("messages")),
        tools=None if fields.get("tool_choice") == "none" else _tools(fields.get("tools")),
        temperature=_number(fields, "temperature", 0, 2),
        max_new_tokens=min((budget for budget in budgets if budget is not None), default=None),
        seed=_integer(fields, "seed", 0, 2**32 - 1),
        stops=_stops(fields.get("stop", ())),
        choices=_integer(fields, "n", 1, limits.choices) or 1,
        logprobs=_boolean(fields, "logprobs"),
        stream=stream,
        stream_usage=_boolean(options, "include_usage"),
    )


def _levels(value: Any) -> int:
    """How many lists and objects of a decoded JSON value lie within each other; stops counting above MOST_LEVELS."""
    level, inner = 0, [value]
    while level <= MOST_LEVELS:
        inner = [part for part in inner if isinstance(part, (list, dict))]
        if not inner:
            break
        level += 1
        inner = [part for outer in inner for part in (outer.values() if isinstance(outer, dict) else outer)]
    return level


def _meant(name: str) -> str:
    """The end of an error message: the known field that an unknown one resembles, if there is one."""
    near = difflib.get_close_matches(name, sorted(_READ | _HARMLESS | _NEUTRAL.keys()), 1, 0.8)
    return f"; did you mean {near[0]!r}?" if near else ""


def _number(fields: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """The field's value, a number from low to high; None if it is missing. Raises BadRequestError."""
    value = fields.get(name)
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high
    ):
        raise BadRequestError(f"{name} must be a number from {low} to {high}, found {value!r}", name)
    return value


def _integer(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """The field's value, a whole number from low to high; None if it is missing. Raises BadRequestError."""
    value = _number(fields, name, low, high)
    if isinstance(value, float):
        raise BadRequestError(f"{name} must be a whole number, found {value!r}", name)
    return value


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    """The field's value, a boolean; False if it is missing. Raises BadRequestError."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadRequestError(f"{name} must be true or false, found {value!r}", name)
    return value


def _stops(value: Any) -> tuple[str, ...]:
    """The texts that end an answer. Raises BadRequestError."""
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(stop, str) and stop for stop in found):
        raise BadRequestError("stop must be a text or a list of texts, none of them empty", "stop")
    if len(found) > MOST_STOPS:
        raise BadRequestError(f"stop must have at most {MOST_STOPS} texts", "stop")
    return tuple(found)


def _tools(value: Any) -> list[dict] | None:
    """The function schemas, None if there are none. Raises BadRequestError."""
    if value is None or value == []:
        return None
    for tool in value if isinstance(value, list) else [None]:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequestError('tools must be a list of {"type": "function", "function": {"name", ...}}', "tools")
    return value


def _messages(value: Any) -> list[Message]:
    """The conversation with contents as text. Raises BadRequestError, also if it begins or ends with an assistant's
    message."""
    if not isinstance(value, list) or not value:
        raise BadRequestError("messages must be a list with at least one message", "messages")
    found = [_message(message, f"messages[{index}]") for index, message in enumerate(value)]
    if found[0]["role"] == "assistant" or found[-1]["role"] == "assistant":
        raise BadRequestError("messages must neither begin nor end with the assistant's", "messages")
    return found


def _message(value: Any, place: str) -> Message:
    """One message of the conversation. place: its name in errors. Raises BadRequestError."""
    role = value.get("role") if isinstance(value, dict) else None
    role = "system" if role == "developer" else role
    if role not in ("system", "user", "assistant", "tool"):
        raise BadRequestError(f"{place}.role must be system, developer, user, assistant or tool", "messages")
    message = {"role": role, "content": _text(value.get("content"), place)}
    if role == "tool":
        message["tool_call_id"] = value.get("tool_call_id")
    if role == "assistant" and value.get("tool_calls"):
        try:
            message["tool_calls"] = [
                {"function": {key: call["function"][key] for key in ("name", "arguments")}}
                for call in value["tool_calls"]
            ]
        except (TypeError, KeyError) as error:
            text = f"{place}.tool_calls: a call has a function's name and arguments"
            raise BadRequestError(text, "messages") from error
        for call in message["tool_calls"]:
            function = call["function"]
            if not all(isinstance(text, str) for text in function.values()):
                raise BadRequestError(f"{place}.tool_calls: name and arguments must be texts", "messages")
            if not function["arguments"].strip():  # what some clients send for a call without arguments
                function["arguments"] = "{}"
    return message


def _text(content: Any, place: str) -> str:
    """A message's content as text. It may be a text, None, or a list of text parts. Raises BadRequestError."""
    if content is None or isinstance(content, str):
        return content or ""
    try:
        if all(part["type"] == "text" for part in content):
            return "".join(part["text"] for part in content)
    except (TypeError, KeyError):
        pass
    raise BadRequestError(f"{place}.content must be text or parts of text", "messages")


class Reply:
    """One choice of an answer while it is sampled.

    turn: number of assistant messages before it in the conversation.
    """

    def __init__(self, chat: Chat, request: Request, turn: int):
        self._chat, self._request, self._turn = chat, request, turn
        self._told = 0  # number of tokens whose logprobs have been sent to the stream
        self._sent = ""  # content that has been sent to the stream
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish_reason = ""  # in OpenAI's terms; "" while the choice goes on
        self.message: Message = {}

    def update(self, progress: Progress) -> None:
        """Sets the reply to what has been sampled so far. Ends it at the first stop text, if there is one."""
        tokens, logprobs = progress.tokens, progress.logprobs
        found = self._first_stop(tokens)
        if found is not None:
            count, content = found
            self.tokens, self.logprobs, self.finish_reason = tokens[:count], logprobs[:count], "stop"
            self.message = self._chat.parse(self.tokens, self._turn)
            if "tool_calls" not in self.message:
                self.message["content"] = content
            return
        self.tokens, self.logprobs = tokens, logprobs
        self.message = self._chat.parse(tokens, self._turn)
        if progress.finish_reason:
            calls = "tool_calls" in self.message and progress.finish_reason == "stop"
            self.finish_reason = "tool_calls" if calls else "stop" if progress.finish_reason == "stop" else "length"

    def _first_stop(self, tokens: Sequence[int]) -> tuple[int, str] | None:
        """(number of tokens up to the end of the first stop text, the text before it); None without a stop text."""
        text = self._decode(tokens)
        places = [text.find(stop) for stop in self._request.stops if stop in text]
        if not places:
            return None
        stops = self._request.stops
        count = next(n for n in range(1, len(tokens) + 1) if any(stop in self._decode(tokens[:n]) for stop in stops))
        return count, text[: min(places)]

    def _decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens without those that end a turn."""
        return self._chat.tokenizer.decode([t for t in tokens if t not in self._chat.stop_ids])

    def body(self) -> dict[str, Any]:
        """The complete message, for an answer that is not streamed."""
        content = self.message["content"]
        message = {"role": "assistant", "content": content, "refusal": None}
        if "tool_calls" in self.message:
            message |= {"content": content or None, "tool_calls": self.message["tool_calls"]}
        return message

    def logprob_items(self, start: int = 0) -> dict[str, Any] | None:
        """The log-probabilities of the tokens from index `start` on; None if the request does not ask for them.

        Each item has "token_id" in addition to OpenAI's fields.
        """
        if not self._request.logprobs:
            return None
        items = []
        for token, logprob in list(zip(self.tokens, self.logprobs))[start:]:
            if token not in self._chat.stop_ids:
                text = self._chat.tokenizer.decode([token])
                whole = "\ufffd" not in text  # else the token begins or ends within a character
                item = {"token": text, "bytes": list(text.encode()) if whole else None, "top_logprobs": []}
                items.append({**item, "logprob": logprob, "token_id": token})
        return {"content": items, "refusal": None}

    def deltas(self) -> list[dict[str, Any]]:
        """The parts {"delta", "logprobs"} that a stream has to send now.

        Content is sent as soon as later tokens cannot change it, tool calls when the choice has ended.
        """
        content = self.message["content"]
        if not self.finish_reason:
            # Held back, from the end: a character whose bytes are incomplete, which may read as several; what may be
            # the beginning of a stop text; and a newline, which may belong to a tool call that follows.
            if "tool_calls" in self.message:
                return []
            margin = max(map(len, self._request.stops), default=1) - 1
            content = content.rstrip("\ufffd")
            content = content[: max(len(content) - margin, 0)].removesuffix("\n")
        fresh = content[len(self._sent) :] if content.startswith(self._sent) else ""
        self._sent += fresh
        found = [{"delta": {"content": fresh}}] if fresh else []
        if self.finish_reason:
            calls = self.message.get("tool_calls", ())
            found += [{"delta": {"tool_calls": [{"index": i, **call}]}} for i, call in enumerate(calls)]
        for delta in found[:1]:
            delta["logprobs"] = self.logprob_items(self._told)
            self._told = len(self.tokens)
        return found


def usage(prompt_tokens: int, replies: Sequence[Reply]) -> dict[str, int]:
    """The token counts of an answer with all its choices."""
    sampled = sum(len(reply.tokens) for reply in replies)
    return {
        "prompt_tokens": prompt_tokens, "completion_tokens": sampled, "total_tokens": prompt_tokens + sampled
    }  # fmt: skip


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON body of an error response. kind: OpenAI's error type. param: the wrong field. code: OpenAI's code."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
