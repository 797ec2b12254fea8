"""Exceptions of environments: which are theirs, what to tell of them, and how to leave a call that does not end."""

from __future__ import annotations

import asyncio
import functools
import re
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from envs.base import Env

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]+")


def by_user(error: BaseException) -> bool:
    """Whether a signal's handler raised the exception, as for Ctrl-C: then it is not the environment's.

    Python's own handler of SIGINT leaves no trace, so where it is in force every KeyboardInterrupt is the user's. While
    asyncio.run runs it has put a handler of its own in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run in the main thread
    found = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in found:
        return True
    codes = set()
    for handler in found:
        while isinstance(handler, functools.partial):
            handler = handler.func
        codes.add(getattr(getattr(handler, "__func__", handler), "__code__", None))
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def told(error: BaseException) -> str:
    """The exception in one line, then its traceback: text that UTF-8 can hold and that is the same in every run.

    Calls code of the environment (its __repr__, say) and survives what that raises.
    """
    try:
        line = " ".join(repr(error).split())
    except BaseException as second:
        if by_user(second):
            raise
        line = f"{type(error).__name__}, whose text cannot be shown ({type(second).__name__} in its __repr__)"
    try:
        trace = "".join(traceback.format_exception(error))
    except BaseException as second:
        if by_user(second):
            raise
        trace = "".join(traceback.format_tb(error.__traceback__))
    return _ADDRESS.sub("0x...", printable(f"{line}\n{trace}"))


def printable(text: str) -> str:
    """The text; characters that UTF-8 cannot hold are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def running() -> asyncio.Task[Any] | None:
    """The task that runs; None outside of any."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # there is no event loop
        return None


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """Makes SystemExit and KeyboardInterrupt in tasks of the event loop ordinary errors, unless they are the user's.

    asyncio would let them end the loop, although the task may be one that an environment has started.
    """
    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(_Contained(coroutine), loop=loop, **options))


class _Contained(Coroutine):
    """A coroutine in which SystemExit and KeyboardInterrupt become RuntimeError, unless they are the user's."""

    def __init__(self, inner: Coroutine[Any, Any, Any]):
        self._inner = inner

    def send(self, value: Any) -> Any:
        return self._resume(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._resume(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()

    def _resume(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (SystemExit, KeyboardInterrupt) as error:
            if by_user(error):
                raise
            raise RuntimeError(f"{error!r} in a task") from error


def close(env: Env) -> None:
    """Closes an environment. Raises what it raises, but RuntimeError for what would end the process or a task."""
    try:
        env.close()
    except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
        if by_user(error):
            raise
        raise RuntimeError(f"close: {error!r}") from error


def abandon(task: asyncio.Task[Any]) -> None:
    """Leaves a task that goes on although it was cancelled: nothing waits for it, not even the end of the loop."""
    asyncio._unregister_task(task)  # else asyncio.run would wait for it
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that it is unfinished has been told


class Threads(ThreadPoolExecutor):
    """A thread of its own for every call. A call that never ends delays neither other calls nor the program's end."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        """Calls fn in a new thread; its result or exception is the future's."""
        future: Future = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Waits for nothing."""
