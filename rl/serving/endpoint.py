"""An OpenAI-compatible HTTP endpoint for a policy: /v1/chat/completions, /v1/models, /health.

Whatever goes wrong is answered with an error of OpenAI's shape, since clients read nothing else.

A conversation arrives as messages, which are encoded as in a rollout (model/text/chat.py). The server remembers the
tokens of the turns it sampled. If a client sends such a turn back unchanged, the conversation continues from the
sampled tokens, not from a new tokenisation of the text.

The random key of a choice is draw.turn_keys(seed, [SEED_NAME], [index of the choice], [assistant messages before it]).
So the same request with the same seed gets the same answer, whatever other requests the server handles.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from model.sampling import draw
from model.text.chat import Chat, Message
from model.text.recent import Recent
from rl.serving import openai_format
from rl.serving.batcher import Batcher, Job, OverloadedError, Progress, StoppedError
from rl.serving.openai_format import BadRequestError, Limits, Reply

SEED_NAME = "chat"  # takes the place of the task id in random keys
# A body may have this many bytes, and more for every token of the context. Written as JSON, with tools and with escapes
# like \u4f60, a token takes 5 bytes on average, seldom more than 15.
MOST_BYTES, MOST_BYTES_PER_TOKEN = 2**20, 32
UPLOAD = 120.0  # seconds that a client may take to send a body
MOST_ARRIVING = 256  # requests at a time that are sent or read; further ones are answered with 429
READERS = 2  # threads in which bodies are decoded, checked and encoded
REMEMBERED = 2**21  # tokens of sampled turns that are kept
MOST_QUOTED = 1000  # characters of an error message, which may quote what a client sent

Telling = asyncio.Queue[tuple[int, Progress | Exception]]


class Turns:
    """The tokens of the latest sampled turns, by the tokens before a turn and its message. Keeps REMEMBERED tokens."""

    def __init__(self):
        self._tokens = Recent(REMEMBERED)

    def note(self, before: Sequence[int], message: Message, sampled: list[int]) -> None:
        """Stores the tokens of a turn: `sampled` follows the tokens `before` and reads as `message`."""
        self._tokens.put(_key(before, message), sampled, len(sampled) + 1)

    def recall(self, before: Sequence[int], message: Message) -> list[int] | None:
        """The tokens of the turn that follows `before` and reads as `message`; None if they are not stored."""
        return self._tokens.get(_key(before, message))


def _key(before: Sequence[int], message: Message) -> bytes:
    """A hash of the tokens before a turn and the turn's message, without the ids of its calls."""
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or ()]
    said = json.dumps([message.get("content") or "", calls])
    return hashlib.blake2b(np.asarray(before, np.int32).tobytes() + said.encode("utf-8", "surrogatepass")).digest()


class Endpoint:
    """Answers HTTP requests with a batcher.

    chat: of the policy. limits: what requests may ask for. api_key: the key that clients must send, "" for none.
    version: of the policy, sent as system_fingerprint.
    """

    def __init__(self, batcher: Batcher, chat: Chat, limits: Limits, api_key: str, version: str):
        self._batcher, self._chat, self._limits = batcher, chat, limits
        self._api_key, self._version = api_key, version
        self._started = int(time.time())
        self._turns = Turns()
        # Reading megabytes takes long, and the loop must go on for others. Threads of its own: however much there is to
        # read, the engine's steps find one, too.
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._arriving = 0
        self._most_bytes = MOST_BYTES + MOST_BYTES_PER_TOKEN * batcher.engine.context

    def app(self) -> Starlette:
        """The ASGI application. The batcher runs from the application's start to its end."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            work = asyncio.create_task(self._batcher.run())
            yield
            work.cancel()
            await asyncio.wait([work])
            self._readers.shutdown(wait=False, cancel_futures=True)

        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._models),
            Route("/v1/chat/completions", self._completions, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {HTTPException: _no_route, Exception: _broken}
        app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
        app.state.batcher = self._batcher
        return app

    async def _health(self, http: HttpRequest) -> Response:
        """/health: status 200, or 503 after the engine has failed."""
        del http
        running, waiting = self._batcher.load
        body = {"status": "ok", "slots": self._batcher.engine.slots, "running": running, "waiting": waiting}
        if self._batcher.failure is not None:
            return JSONResponse({**body, "status": repr(self._batcher.failure)}, 503)
        return JSONResponse(body)

    async def _models(self, http: HttpRequest) -> Response:
        """/v1/models: a list of the one model that is served. /v1/models/NAME: that model, if it has this name."""
        if refusal := self._refusal(http):
            return refusal
        name = http.path_params.get("name")
        if name and name != self._limits.model:
            message = f"there is no model {name!r} here, only {self._limits.model!r}"
            return _failure(404, message, "invalid_request_error", "model", "model_not_found")
        model = {"id": self._limits.model, "object": "model", "created": self._started, "owned_by": "agenticqwen"}
        return JSONResponse(model if name else {"object": "list", "data": [model]})

    def _refusal(self, http: HttpRequest) -> Response | None:
        """The error for a client without the right key; None if the key is right or none is needed.

        Without a key whoever is on this machine may ask, but not the pages that they look at: browsers send Origin.
        """
        if not self._api_key and "origin" in http.headers:
            message = "web pages may not ask this server; set serve.key_env if they shall"
            return _failure(403, message, "invalid_request_error")
        shown = http.headers.get("authorization", "").removeprefix("Bearer ")
        if not self._api_key or hmac.compare_digest(shown.encode(), self._api_key.encode()):
            return None
        return _failure(401, "wrong or missing API key", "authentication_error", code="invalid_api_key")

    async def _completions(self, http: HttpRequest) -> Response:
        """/v1/chat/completions: the answer in one piece or as a stream."""
        if refusal := self._refusal(http):
            return refusal
        try:
            request, tokens, turn = await self._arrival(http)
            answer = _Answer(self, request, tokens, turn)
        except BadRequestError as bad:
            return _failure(bad.status, str(bad), "invalid_request_error", bad.param, bad.code)
        except OverloadedError as full:
            return _failure(429, str(full), "rate_limit_error", code="overloaded")
        except StoppedError as stopped:
            return _failure(503, str(stopped), "server_error")
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads this
        if request.stream:
            return StreamingResponse(answer.stream(), media_type="text/event-stream")
        return await answer.whole(http)

    async def _arrival(self, http: HttpRequest) -> tuple[openai_format.Request, list[int], int]:
        """Receives a request and reads it in a thread; see `_read`.

        Raises BadRequestError, OverloadedError if too many requests are arriving, and ClientDisconnect if the client
        leaves before the body's end.
        """
        if self._arriving >= MOST_ARRIVING:
            raise OverloadedError(f"{self._arriving} requests are arriving; try again later")
        self._arriving += 1
        try:
            raw = await _body(http, self._most_bytes)
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, raw)
        finally:
            self._arriving -= 1

    def _read(self, raw: bytes) -> tuple[openai_format.Request, list[int], int]:
        """(the request in a body, the tokens and the number as `_encode` returns them).

        Raises BadRequestError, also if the prompt does not fit into the context.
        """
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"the body is not JSON: {error}") from error
        request, most = openai_format.parse(body, self._limits), self._batcher.engine.context - 1
        count = self._chat.least_tokens(request.messages)
        if count > most:
            message = f"the prompt has at least {count} tokens, and this server takes at most {most}"
            raise BadRequestError(message, "messages", "context_length_exceeded")
        tokens, turn = self._encode(request.messages, request.tools)
        if len(tokens) > most:
            message = f"the prompt has {len(tokens)} tokens, and this server takes at most {most}"
            raise BadRequestError(message, "messages", "context_length_exceeded")
        return request, tokens, turn

    def _encode(self, messages: Sequence[Message], tools: list[dict] | None) -> tuple[list[int], int]:
        """(tokens up to the turn to be sampled, number of assistant messages) of a conversation.

        Raises BadRequestError if the chat format cannot express the conversation.
        """
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        try:
            tokens = self._chat.prompt(messages[: turns[0]] if turns else messages, tools)
            for place, following in zip(turns, [*turns[1:], len(messages)]):
                message = messages[place]
                tokens += self._turns.recall(tokens, message) or self._chat.assistant(message)
                tokens += self._chat.increment(messages[place + 1 : following])
        except ValueError as error:
            raise BadRequestError(f"messages: {error}", "messages") from error
        return tokens, len(turns)


class _Answer:
    """The answer to one request while it is sampled.

    Raises OverloadedError or StoppedError if the batcher does not accept its jobs.
    """

    def __init__(self, server: Endpoint, request: openai_format.Request, tokens: list[int], turn: int):
        self._server, self._request, self._tokens = server, request, tokens
        self._replies = [Reply(server._chat, request, turn) for _ in range(request.choices)]
        self._told: Telling = asyncio.Queue()
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": server._limits.model,
            "system_fingerprint": server._version,
        }
        choices = range(request.choices)
        if request.seed is None:
            keys = np.frombuffer(secrets.token_bytes(8 * request.choices), np.uint32).reshape(-1, 2)
        else:
            keys = draw.turn_keys(request.seed, [SEED_NAME] * request.choices, choices, [turn] * request.choices)
        eager = request.stream or bool(request.stops)
        self._jobs = [
            Job(tokens, keys[i], request.temperature, request.max_new_tokens, eager, self._teller(i)) for i in choices
        ]
        server._batcher.submit(self._jobs)

    def _teller(self, index: int) -> Any:
        """The function by which the batcher reports on a choice."""
        return lambda news: self._told.put_nowait((index, news))

    async def _news(self) -> AsyncIterator[int]:
        """Updates the replies; yields the index of each updated choice, until all have ended.

        Raises StoppedError if the batcher ends.
        """
        going = set(range(len(self._replies)))
        while going:
            index, news = await self._told.get()
            if isinstance(news, Exception):
                raise news
            if index not in going:  # from an engine step that had begun when the choice's stop text was found
                continue
            reply = self._replies[index]
            reply.update(news)
            if reply.finish_reason:
                going.remove(index)
                self._server._batcher.give_up([self._jobs[index]])
                if news.finish_reason == "stop" and reply.tokens == news.tokens:
                    self._server._turns.note(self._tokens, reply.message, reply.tokens)
            yield index

    async def whole(self, http: HttpRequest) -> Response:
        """The answer in one piece. If the client disconnects, its jobs are cancelled."""
        collecting = asyncio.ensure_future(self._collect())
        leaving = asyncio.ensure_future(_disconnected(http))
        try:
            await asyncio.wait([collecting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                return Response(status_code=499)  # the client has disconnected and does not read this
            collecting.result()
        except StoppedError as stopped:
            return _failure(503, str(stopped), "server_error")
        finally:
            self._server._batcher.give_up(self._jobs)
            collecting.cancel()
            leaving.cancel()
        choices = [
            {"index": i, "message": r.body(), "logprobs": r.logprob_items(), "finish_reason": r.finish_reason}
            for i, r in enumerate(self._replies)
        ]
        usage = openai_format.usage(len(self._tokens), self._replies)
        return JSONResponse({**self._head, "object": "chat.completion", "choices": choices, "usage": usage})

    async def _collect(self) -> None:
        """Waits until every choice has ended."""
        async for _ in self._news():
            pass

    async def stream(self) -> AsyncIterator[str]:
        """The answer as server-sent events. If the client disconnects, the web server closes this generator, which
        cancels the jobs."""
        try:
            for index in range(len(self._replies)):
                yield self._event(index, {"role": "assistant", "content": ""})
            async for index in self._news():
                reply = self._replies[index]
                for part in reply.deltas():
                    yield self._event(index, part["delta"], part.get("logprobs"))
                if reply.finish_reason:
                    yield self._event(index, {}, None, reply.finish_reason)
            if self._request.stream_usage:
                usage = openai_format.usage(len(self._tokens), self._replies)
                yield _event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        except StoppedError as stopped:
            yield _event(openai_format.error(str(stopped), "server_error"))
        finally:
            self._server._batcher.give_up(self._jobs)

    def _event(self, index: int, delta: dict, logprobs: dict | None = None, finish_reason: str | None = None) -> str:
        """A chunk of one choice as a server-sent event."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return _event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


async def _body(http: HttpRequest, most: int) -> bytes:
    """The request's body.

    Raises BadRequestError if it has more than `most` bytes or takes longer than UPLOAD, ClientDisconnect if the client
    leaves before its end.
    """
    told = http.headers.get("content-length", "")
    length, parts = int(told) if told.isdecimal() else 0, []
    try:
        async with asyncio.timeout(UPLOAD):
            if length <= most:
                length = 0
                async for part in http.stream():  # counted, since a chunked body does not tell its length
                    length += len(part)
                    if length > most:
                        break
                    parts.append(part)
    except TimeoutError as error:
        raise BadRequestError(f"the request took more than {UPLOAD:g} seconds", status=408) from error
    if length > most:
        raise BadRequestError(f"the request has more than {most} bytes", status=413)
    return b"".join(parts)


async def _disconnected(http: HttpRequest) -> None:
    """Waits until the client disconnects."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _event(body: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(body)}\n\n"


async def _no_route(http: HttpRequest, error: HTTPException) -> Response:
    """The answer to a path (404) or method (405) that this server does not have."""
    message = f"{http.method} {http.url.path}: {error.detail}"
    return _failure(error.status_code, message, "invalid_request_error", headers=error.headers)


async def _broken(http: HttpRequest, error: Exception) -> Response:
    """The answer when the server itself has failed. Starlette raises the error again, so it is logged."""
    del http
    return _failure(500, f"the server failed: {type(error).__name__}", "server_error")


def _failure(
    status: int,
    message: str,
    kind: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error response; see openai_format.error."""
    message, param = _cut(message), param and _cut(param)
    # In ASCII: what is quoted from a request may hold lone surrogates, which UTF-8 cannot express.
    body = json.dumps(openai_format.error(message, kind, param, code))
    return Response(body, status, headers, media_type="application/json")


def _cut(text: str) -> str:
    """The beginning of a text that may be a client's, of any size."""
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}..."
