"""Whose an exception is, and what is told of it."""

import asyncio
import functools
import os
import signal
import sys
import threading

import pytest

from rl.rollouts import fault


def caught(call):
    """What call() raises."""
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def raised(error):
    def call():
        raise error

    return caught(call)


def interrupted(number=signal.SIGINT):
    """Sends this process a signal and gives its handler time to run."""
    os.kill(os.getpid(), number)
    threading.Event().wait(10)


class Stop:
    def now(self, number, frame, status):
        sys.exit(status)


def test_what_a_signals_handler_raised_is_the_users(monkeypatch):
    """Also of a handler of one's own, as a program has that ends in order at SIGTERM."""
    assert fault.by_user(caught(interrupted))
    assert not fault.by_user(raised(SystemExit(3))) and not fault.by_user(raised(OSError()))
    before = signal.signal(signal.SIGTERM, functools.partial(Stop().now, status=3))
    try:
        stopped = caught(lambda: interrupted(signal.SIGTERM))
        assert isinstance(stopped, SystemExit) and fault.by_user(stopped)
        assert not fault.by_user(raised(SystemExit(3)))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interrupt_that_nobody_sent_is_the_environments():
    """Where Python's own handler is in force this cannot be told, so the interrupt counts as the user's."""
    found = []

    async def inside():
        found.append(fault.by_user(raised(KeyboardInterrupt())))

    assert fault.by_user(raised(KeyboardInterrupt()))
    asyncio.run(inside())
    thread = threading.Thread(target=lambda: found.append(fault.by_user(raised(KeyboardInterrupt()))))
    thread.start()
    thread.join()
    assert found == [False, False]


def test_addresses_are_left_out_so_that_equal_runs_tell_the_same():
    first, second = (fault.told(raised(ValueError(f"lost {object()}"))) for _ in range(2))
    assert first == second and "lost <object object at 0x...>" in first.splitlines()[0]


def test_a_task_that_never_ran_leaves_no_coroutine_behind(recwarn):
    async def run():
        fault.contain(asyncio.get_running_loop())
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await asyncio.create_task(asyncio.sleep(0, "result"))

    assert asyncio.run(run()) == "result" and not [w for w in recwarn if "never awaited" in str(w.message)]


def test_threads_give_results_and_exceptions_and_are_not_waited_for():
    pool, held = fault.Threads(), threading.Event()
    assert pool.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result()
    waiting = pool.submit(held.wait)
    pool.shutdown(wait=True)
    assert not waiting.done()
    held.set()
    assert waiting.result()
