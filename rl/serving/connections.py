"""HTTP connections that end when their client does nothing.

uvicorn closes a connection that is silent after an answer. It waits for ever for a first request, for the rest of a
request's head or body, and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http import h11_impl

PATIENCE = 60.0  # seconds that a client may take for the head of a request, and for reading a part of an answer


class Impatient(h11_impl.H11Protocol):
    """uvicorn's protocol; a connection is closed when for PATIENCE seconds no request of it is being answered, however
    many bytes arrive, or when its client reads nothing of an answer for as long."""

    _idle: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._stalled or self._later(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stalled)
        self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._idle)
        _cancel(self._stalled)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Starts to wait for a request, or stops because one is being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._idle)
            self._idle = None
        elif not self.transport.is_closing():
            self._idle = self._idle or self._later(self.transport.close)

    def _later(self, end: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(PATIENCE, end)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    """Cancels a timer, if there is one."""
    if timer is not None:
        timer.cancel()
