"""--stage=serve: serves a policy by an OpenAI-compatible endpoint; see rl/serving/endpoint.py."""

from __future__ import annotations

import contextlib
from typing import Any

import uvicorn
from ml_collections import config_dict

from rl import setup
from rl.reports import show
from rl.serving import access, batcher, connections, endpoint
from rl.serving.openai_format import Limits

GRACE = 30  # seconds that unfinished turns may still take when the server is told to stop


def server(parts: setup.Parts, params: Any, version: str, key: str) -> uvicorn.Server:
    """A server that has not been started.

    params: of the policy (`nnx.split(policy)[1]`). version: of the policy, sent to clients. key: the API key that
    clients must send, "" for none.
    """
    c = parts.config.serve
    engine = parts.engine(c.slots, c.context, c.max_new_tokens)
    work = batcher.Batcher(engine, engine.place(params), c.queue)
    budget = c.max_new_tokens or parts.config.sampler.max_new_tokens
    limits = Limits(c.model, budget, engine.slots, parts.config.sampler.top_p)
    app = endpoint.Endpoint(work, parts.chat, limits, key, version).app()
    options = uvicorn.Config(
        app, c.host, c.port, http=connections.Impatient, ws="none", log_level="warning", timeout_graceful_shutdown=GRACE
    )
    return uvicorn.Server(options)


def run(config: config_dict.ConfigDict, parts: setup.Parts, params: Any, version: str) -> None:
    """Serves until the process gets SIGINT or SIGTERM. Unfinished turns then have GRACE seconds to end.

    Raises ValueError as `access.api_key` does.
    """
    made = server(parts, params, version, access.api_key(config))
    socket = made.config.bind_socket()
    host, port = socket.getsockname()[:2]
    show.line(f"{config.serve.model!r} ({version}) at http://{host}:{port}/v1")
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C; uvicorn has shut down when it raises this
        made.run(sockets=[socket])
