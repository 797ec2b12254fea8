"""A client of any OpenAI-compatible endpoint whose answers are JSON of a given schema.

Every answer that was paid for is cached by the content of its request before anything is made of it, so a killed run
pays nothing twice and a finished one is replayed without a network. Base URL and key come from the environment
(OPENAI_BASE_URL, OPENAI_API_KEY) and are written nowhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
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
REPAIRS = 2  # times a malformed answer is sent back with what is wrong with it
TRY_AGAIN = (408, 409, 429)  # statuses that may be others the next time, as all from 500 on may
# What makes the body of a response an answer; everything else is a fault of the endpoint. Its usage may be absent.
COMPLETION = jsonschema.Draft202012Validator({
    "type": "object", "required": ["choices"],
    "properties": {"choices": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["message"],
        "properties": {"message": {"type": "object", "properties": {"content": {"type": ["string", "null"]}}}},
    }}},
})  # fmt: skip


class NoAnswer(Exception):
    """The endpoint did not answer a request, or the cache does not hold it; the message says why."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked: messages, the JSON schema of the answer, and a check that raises ValueError for what it misses.

    typical: an answer of usual length, which tells what asking will cost.
    """

    messages: list[Message]
    schema: Schema
    check: Check = lambda answer: None
    typical: str = ""


@dataclasses.dataclass
class Ledger:
    """What was asked for. tokens: of answers that were not in the cache, as far as the endpoint counts them. cost: of
    these tokens, where prices are known."""

    answers: int = 0  # requests the endpoint answered
    cached: int = 0  # requests answered from the cache
    retries: int = 0  # requests repeated after a fault of the endpoint
    repairs: int = 0  # malformed answers sent back
    failures: int = 0  # questions whose answers stayed malformed
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def add(self, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """Counts an answer of the endpoint."""
        self.answers += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.cost += cost

    def told(self) -> str:
        """The ledger in words, without what it has none of."""
        counts = dataclasses.asdict(self).items()
        return ", ".join(f"{round(count, 4)} {name.replace('_', ' ')}" for name, count in counts if count) or "nothing"


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices of a million tokens; 0: not known."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class _Limit:
    """How many requests may be under way: one more after each answer, half as many after a fault (AIMD)."""

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
    """Asks for JSON. Everything is a function of the requests and the cache, whatever the order of answers.

    Args:
      model: the endpoint's name of the model.
      cache: folder of answers, one file per request.
      concurrency: most requests under way at a time.
      attempts: times a request is sent before a fault of the endpoint counts as its answer.
      timeout: seconds a request may take. backoff: seconds before the first repetition, doubled each time; longer
        where the endpoint asks for it, but no longer than a request may take.
      offline: answer from the cache alone.
      prices: of what is asked from now on.
    """

    def __init__(
        self, model: str, cache: Path, concurrency: int = 8, attempts: int = 5, timeout: float = 120.0,
        backoff: float = 1.0, offline: bool = False, prices: Prices = Prices(),
    ):
        self.ledger = Ledger()
        self._asking = 0  # questions under way; they share what follows, which belongs to their event loop
        self._endpoint: openai.AsyncOpenAI | None = None
        self._limit = _Limit(concurrency)
        self._under_way: dict[str, asyncio.Lock] = {}
        self._model, self._cache, self._offline, self._prices = model, cache, offline, prices
        self._concurrency, self._attempts, self._timeout, self._backoff = concurrency, attempts, timeout, backoff

    def total(self) -> Ledger:
        """What the answers in the cache took when they were asked for, in this run and before."""
        found = Ledger()
        for path in sorted(self._cache.glob("*.json")):
            record = json.loads(path.read_text())
            found.add(*(record.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "cost")))
        return found

    def told(self) -> str:
        """The ledger and the total in words."""
        return f"{self.ledger.told()}; in all {self.total().told()}"

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """The answers, in order; None where they stayed malformed (ledger.failures).

        Raises NoAnswer if the endpoint failed to answer one, after the others have been answered and kept: asked again
        later, the same answers come of it. Raises ValueError if the environment names no key and one is needed.
        """
        return asyncio.run(self._ask_all(questions))

    async def _ask_all(self, questions: Sequence[Question]) -> list[Any]:
        found = await asyncio.gather(*map(self.ask, questions), return_exceptions=True)
        if faults := [answer for answer in found if isinstance(answer, BaseException)]:
            raise faults[0]
        return found

    async def ask(self, question: Question) -> Any:
        """One of the answers that `ask_all` gives, for callers with an event loop of their own. Raises as it does."""
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
        """One question, its malformed answers sent back at most REPAIRS times."""
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
        """The text of one answer, from the cache or the endpoint. Raises NoAnswer."""
        request = {"model": self._model, "messages": messages}
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        path = self._cache / f"{key}.json"
        # Two equal requests at a time are one: the second finds the answer of the first.
        async with self._under_way.setdefault(key, asyncio.Lock()):
            if path.exists():
                self.ledger.cached += 1
                return json.loads(path.read_text())["text"]
            if self._offline:
                raise NoAnswer(f"{path.name}: not in the cache")
            text, *usage = await self._send(request, random.Random(key))
            usage = (*usage, self._prices.cost(*usage))
            self._keep(path, request, text, usage)
        self.ledger.add(*usage)
        return text

    async def _send(self, request: dict[str, Any], rng: random.Random) -> tuple[str, int, int]:
        """The endpoint's answer to a request, sent again after its faults: (text, prompt tokens, completion tokens).

        Raises NoAnswer.
        """
        require_key()
        if self._endpoint is None:  # retries are ours, so that faults narrow the limit
            self._endpoint = openai.AsyncOpenAI(timeout=self._timeout, max_retries=0)
        create, form = self._endpoint.chat.completions.with_raw_response.create, {"type": "json_object"}
        wait = 0.0
        for attempt in range(self._attempts):
            if attempt:
                self.ledger.retries += 1
                await asyncio.sleep(max(wait, self._backoff * 2 ** (attempt - 1) * rng.uniform(0.5, 1.5)))
            wait = 0.0
            try:
                async with self._limit:
                    return _read((await create(**request, response_format=form)).text)
            except openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in TRY_AGAIN:
                    raise NoAnswer(f"the endpoint refuses: {error.message}") from error
                problem, wait = error, min(_seconds(error.response.headers), self._timeout)
            except (openai.APIConnectionError, _NoCompletion) as error:
                problem = error  # timeouts are connection errors too
        raise NoAnswer(f"{self._attempts} attempts: {problem}")

    def _keep(self, path: Path, request: dict[str, Any], text: str, usage: tuple[int, int, float]) -> None:
        """Writes an answer, and what it took, to the cache in one rename."""
        self._cache.mkdir(parents=True, exist_ok=True)
        partial, record = path.with_suffix(".partial"), {"request": request, "text": text}
        record |= zip(("prompt_tokens", "completion_tokens", "cost"), usage)
        partial.write_text(json.dumps(record, indent=1))
        os.replace(partial, path)


class _NoCompletion(Exception):
    """What came is no answer at all."""


def _read(body: str) -> tuple[str, int, int]:
    """(text, prompt tokens, completion tokens) of a response's body. Raises _NoCompletion."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not COMPLETION.is_valid(found):
        raise _NoCompletion(f"the endpoint's response is no chat completion: {body[:100]!r}")
    text = found["choices"][0]["message"].get("content") or ""
    usage = found["usage"] if isinstance(found.get("usage"), dict) else {}
    counts = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    # A lone surrogate, which neither a file nor a further request can hold, becomes a question mark.
    return text.encode(errors="replace").decode(), *(count if isinstance(count, int) else 0 for count in counts)


def _seconds(headers: Mapping[str, str]) -> float:
    """For how long the endpoint asks not to be asked again (Retry-After; its other form, a date, counts as 0)."""
    asked = headers.get("retry-after", "")
    return float(asked) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", asked) else 0.0


def require_key() -> None:
    """Raises ValueError if the environment names no key."""
    if not os.environ.get("OPENAI_API_KEY"):
        raise ValueError("a language model is to be asked, but the environment variable OPENAI_API_KEY is not set")


def _parse(text: str, question: Question) -> tuple[Any, str | None]:
    """(the answer, None) or (None, what is wrong with it)."""
    try:
        answer = json.loads(text)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()  # what is made of it has to be written
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
