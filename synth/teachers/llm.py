"""A client of any OpenAI-compatible endpoint that asks for answers in JSON of a given schema.

Every answer is written to a cache, under a hash of its request, before it is used. So a killed run does not pay for an
answer twice, and a finished run can be replayed without a network. Base URL and key come from the environment
(OPENAI_BASE_URL, OPENAI_API_KEY) and are never written to a file. Where an endpoint sends the key back, in an error or
an answer, it is taken out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import openai

Message = dict[str, str]
Schema = dict[str, Any]
Check = Callable[[Any], None]
REPAIRS = 2  # how many times a malformed answer is sent back together with what is wrong with it
TRY_AGAIN = (408, 409, 429)  # HTTP statuses that may be temporary, as are all from 500 on
MOST_BACKOFF = 60.0  # seconds, on average, that a request waits at most before it is sent again
MOST_SHOWN = 1000  # characters of an endpoint's error
PIECE = 8  # characters of the key that are taken out of an error wherever they stand together
SECRET = 16  # shorter keys may be words ("none", "EMPTY") that an answer has every reason to hold
# The JSON schema of a response's body. Any other body is a fault of the endpoint. The field "usage" may be absent.
COMPLETION = jsonschema.Draft202012Validator({
    "type": "object", "required": ["choices"],
    "properties": {"choices": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["message"],
        "properties": {"message": {"type": "object", "properties": {"content": {"type": ["string", "null"]}}}},
    }}},
})  # fmt: skip


class NoAnswer(Exception):
    """The endpoint did not answer a request, or the cache of an offline client has no answer to it."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to the model.

    messages: the conversation that asks it, as OpenAI chat messages.
    schema: the JSON schema of the answer.
    check: raises ValueError for an answer that fits the schema but is wrong otherwise.
    typical: an answer of the usual length, from which the cost of asking is estimated; "" if none is known.
    """

    messages: list[Message]
    schema: Schema
    check: Check = lambda answer: None
    typical: str = ""


@dataclasses.dataclass
class Ledger:
    """Counts of requests, tokens and cost.

    Tokens are those of answers that were not in the cache, as far as the endpoint reports them. `cost` is their cost,
    in the currency of the prices; 0 if the prices are not known.
    """

    answers: int = 0  # requests the endpoint answered
    cached: int = 0  # requests answered from the cache
    retries: int = 0  # requests that were repeated after a fault of the endpoint
    repairs: int = 0  # malformed answers that were sent back
    failures: int = 0  # questions whose answers stayed malformed
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def add(self, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """Adds one answer of the endpoint."""
        self.answers += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.cost += cost

    def told(self) -> str:
        """The ledger in words, without the counts that are 0; "nothing" if all are."""
        counts = dataclasses.asdict(self).items()
        return ", ".join(f"{round(count, 4)} {name.replace('_', ' ')}" for name, count in counts if count) or "nothing"


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices per million tokens; 0 if not known."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The cost of these numbers of tokens, in the currency of the prices."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class _Limit:
    """Limits the number of concurrent requests by additive increase, multiplicative decrease (AIMD).

    A fault halves the limit, down to 1. An answer raises it by 1 / limit, up to `most`.
    """

    def __init__(self, most: int):
        self._most, self._now, self._active = most, float(most), 0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> _Limit:
        async with self._changed:
            await self._changed.wait_for(lambda: self._active < int(self._now))
            self._active += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        async with self._changed:
            self._active -= 1
            self._now = max(1.0, self._now / 2) if exc[0] else min(self._most, self._now + 1 / self._now)
            self._changed.notify_all()


class Client:
    """Asks questions and returns JSON answers. The order in which answers arrive has no influence on the results.

    Args:
      model: the name of the model at the endpoint.
      cache: folder of the cached answers, one file per request.
      concurrency: the most requests that may be under way at a time.
      attempts: how many times a request is sent before NoAnswer is raised.
      timeout: seconds that a request may take, from its sending to the last byte of its answer.
      backoff: seconds, on average, before a request is sent again; doubled each time, up to MOST_BACKOFF. The client
        waits longer if the endpoint asks for it, but for this reason never longer than `timeout`.
      offline: whether to answer from the cache only.
      prices: prices of the requests of this client.
    """

    def __init__(
        self,
        model: str,
        cache: Path,
        concurrency: int = 8,
        attempts: int = 5,
        timeout: float = 120.0,
        backoff: float = 1.0,
        offline: bool = False,
        prices: Prices = Prices(),
    ):
        self.ledger = Ledger()
        # Questions under way. They share the endpoint, the limit and the locks, which belong to one event loop.
        self._asking = 0
        self._endpoint: openai.AsyncOpenAI | None = None
        self._limit = _Limit(concurrency)
        self._under_way: dict[str, asyncio.Lock] = {}
        self._model, self._cache, self._offline, self._prices = model, cache, offline, prices
        self._concurrency, self._attempts, self._timeout, self._backoff = concurrency, attempts, timeout, backoff

    def total(self) -> Ledger:
        """The counts, tokens and cost of all answers in the cache, from this run and earlier ones."""
        found = Ledger()
        for path in sorted(self._cache.glob("*.json")):
            if (record := _kept(path)) is not None:
                found.add(*(record.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "cost")))
        return found

    def told(self) -> str:
        """The ledger and the total in words."""
        return f"{self.ledger.told()}; in all {self.total().told()}"

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """The answers, in order; None for a question whose answers stayed malformed (counted in ledger.failures).

        Raises:
          NoAnswer: a question got no answer. All others have been answered by then and are in the cache, so asking
            again later sends only what is missing.
          ValueError: the endpoint is needed and the environment names no key.
        """
        return asyncio.run(self._ask_all(questions))

    async def _ask_all(self, questions: Sequence[Question]) -> list[Any]:
        found = await asyncio.gather(*map(self.ask, questions), return_exceptions=True)
        if faults := [answer for answer in found if isinstance(answer, BaseException)]:
            raise faults[0]
        return found

    async def ask(self, question: Question) -> Any:
        """The answer to one question, for callers with their own event loop; None and errors are as in `ask_all`."""
        if not self._asking:
            self._endpoint, self._limit, self._under_way = None, _Limit(self._concurrency), {}
        self._asking += 1
        try:
            return await self._ask(question)
        finally:
            self._asking -= 1
            if not self._asking and self._endpoint:
                await self._endpoint.close()

    async def _ask(self, question: Question) -> Any:
        """The answer to one question. Malformed answers are sent back at most REPAIRS times, then it is None."""
        messages = question.messages
        for repair in range(REPAIRS + 1):
            text = await self._answer(messages)
            answer, problem = _parse(text, question)
            if problem is None:
                return answer
            if repair < REPAIRS:
                self.ledger.repairs += 1
                complaint = f"That is not what was asked for: {problem}. Answer with the corrected JSON alone."
                messages = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": complaint}]
        self.ledger.failures += 1
        return None

    async def _answer(self, messages: list[Message]) -> str:
        """The text of one answer, from the cache or the endpoint. Raises NoAnswer, and ValueError without a key."""
        request = {"model": self._model, "messages": messages}
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        path = self._cache / f"{key}.json"
        # The lock makes the second of two equal requests wait, so that it finds the first one's answer in the cache.
        async with self._under_way.setdefault(key, asyncio.Lock()):
            if path.exists():
                if (record := _kept(path)) is not None:
                    self.ledger.cached += 1
                    return record["text"]
                if self._offline:
                    raise NoAnswer(f"{path}: the cached answer is damaged")
                print(f"{path}: the cached answer is damaged; asking again", flush=True)
            if self._offline:
                raise NoAnswer(f"{path.name}: not in the cache")
            text, *usage = await self._send(request, random.Random(key))
            usage = (*usage, self._prices.cost(*usage))
            self._keep(path, request, text, usage)
        self.ledger.add(*usage)
        return text

    async def _send(self, request: dict[str, Any], rng: random.Random) -> tuple[str, int, int]:
        """(text, prompt tokens, completion tokens) of the endpoint's answer. Faults of the endpoint lead to a retry.

        Raises NoAnswer if the endpoint refuses the request or all attempts fail, ValueError without a key.
        """
        require_key()
        if self._endpoint is None:  # max_retries=0, because the loop below retries and faults must lower the limit
            self._endpoint = openai.AsyncOpenAI(timeout=self._timeout, max_retries=0)
        create, form = self._endpoint.chat.completions.with_raw_response.create, {"type": "json_object"}
        wait = 0.0
        for attempt in range(self._attempts):
            if attempt:
                self.ledger.retries += 1
                await asyncio.sleep(max(wait, _pause(self._backoff, attempt) * rng.uniform(0.5, 1.5)))
            wait = 0.0
            try:
                # The client's own timeout counts anew with every byte.
                async with self._limit, asyncio.timeout(self._timeout):
                    return _read((await create(**request, response_format=form)).text)
            except openai.APIStatusError as error:
                problem = _without_key(error.message)
                if error.status_code < 500 and error.status_code not in TRY_AGAIN:
                    raise NoAnswer(f"the endpoint refuses: {problem}") from None  # a chained error would show the key
                wait = min(_seconds(error.response.headers), self._timeout)
            except TimeoutError:
                problem = f"no whole answer within {self._timeout:g} s"
            except (openai.APIConnectionError, _NoCompletion) as error:
                problem = _without_key(str(error))
        raise NoAnswer(f"{self._attempts} attempts: {problem}")

    def _keep(self, path: Path, request: dict[str, Any], text: str, usage: tuple[int, int, float]) -> None:
        """Writes an answer with its tokens and cost to the cache, by a rename, so that no file is ever incomplete."""
        self._cache.mkdir(parents=True, exist_ok=True)
        partial, record = path.with_suffix(".partial"), {"request": request, "text": text}
        record |= zip(("prompt_tokens", "completion_tokens", "cost"), usage)
        partial.write_text(json.dumps(record, indent=1))
        os.replace(partial, path)


def _kept(path: Path) -> dict[str, Any] | None:
    """The record of a cached answer; None if the file is empty or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        return None
    counts = (record.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "cost"))
    return record if all(isinstance(count, (int, float)) for count in counts) else None


def _pause(backoff: float, attempt: int) -> float:
    """Seconds, on average, before a request is sent for the (attempt + 1)-th time."""
    return min(backoff * 2.0 ** min(attempt - 1, 60), MOST_BACKOFF)


def _without_key(text: str) -> str:
    """The beginning of an error's text, with "[key]" for the API key and every piece of it of PIECE characters.

    Pieces, since an endpoint or a message may cut the key, or write some of its characters in another way.
    """
    text, key = text[:MOST_SHOWN], os.environ.get("OPENAI_API_KEY", "")
    pieces = {key[i : i + PIECE] for i in range(len(key) - PIECE + 1)}
    hidden = [False] * len(text)
    for start in range(len(text) - PIECE + 1):
        if text[start : start + PIECE] in pieces:
            hidden[start : start + PIECE] = [True] * PIECE
    runs = itertools.groupby(range(len(text)), key=hidden.__getitem__)
    return "".join("[key]" if hide else "".join(text[i] for i in run) for hide, run in runs)


class _NoCompletion(Exception):
    """The endpoint's response is not a chat completion."""


def _read(body: str) -> tuple[str, int, int]:
    """(text, prompt tokens, completion tokens) in a response's body. Raises _NoCompletion if it is malformed."""
    if len(key := os.environ.get("OPENAI_API_KEY", "")) >= SECRET:
        body = body.replace(key, "[key]")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not COMPLETION.is_valid(found):
        raise _NoCompletion(f"the endpoint's response is no chat completion: {body[:100]!r}")
    text = found["choices"][0]["message"].get("content") or ""
    usage = found["usage"] if isinstance(found.get("usage"), dict) else {}
    counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    # A lone surrogate becomes a question mark, because it cannot be encoded in a file or a further request.
    return text.encode(errors="replace").decode(), *(count if isinstance(count, int) else 0 for count in counts)


def _seconds(headers: Mapping[str, str]) -> float:
    """The seconds in the header Retry-After; 0 if it is absent or a date."""
    asked = headers.get("retry-after", "")
    return float(asked) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", asked) else 0.0


def require_key() -> None:
    """Raises ValueError if the environment variable OPENAI_API_KEY is not set or empty."""
    if not os.environ.get("OPENAI_API_KEY"):
        raise ValueError("a language model is to be asked, but the environment variable OPENAI_API_KEY is not set")


def _parse(text: str, question: Question) -> tuple[Any, str | None]:
    """(the answer, None), or (None, what is wrong with the text)."""
    try:
        answer = json.loads(text)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()  # fails if it cannot be written to a file
    except (ValueError, RecursionError):
        return None, "it is not JSON in UTF-8"
    faults = jsonschema.Draft202012Validator(question.schema).iter_errors(answer)
    if fault := jsonschema.exceptions.best_match(faults):
        return None, f"{fault.json_path}: {fault.message}"
    try:
        question.check(answer)
    except ValueError as error:
        return None, str(error)
    return answer, None
