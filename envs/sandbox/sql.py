"""Databases for untrusted queries, held by a pool of processes (envs/sandbox/sql_worker.py) that can be killed.

Guarantees for any query:

- It changes nothing and accesses neither files nor network.
- Its time (SECONDS of CPU), memory (twice sql_worker.MEMORY) and result (rows and bytes) are bounded.
- If it exceeds a limit or crashes DuckDB, the caller gets an error, and the next query finds the same tables.

The same query gives the same result each time, also with random(), samples and uuid(), unless it depends on the clock
or on DuckDB itself: now(), txid_current(), duckdb_memory() and the like.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

from envs.sandbox import python_worker, sql_worker

REPOSITORY = Path(__file__).parents[2]
SECONDS = 10  # most CPU time of one call


class Unreadable(ValueError):
    """No tables can be made from the source."""


class Database:
    """The tables of a source: a folder's path, or arguments of corpora.tables.tables. Episodes may share an instance.

    All methods raise ValueError if something is wrong with the call, Unreadable if something is wrong with the source,
    and RuntimeError if the process with the tables ends for another reason.
    """

    def __init__(self, source: str | dict[str, Any]):
        self._source = json.dumps(os.path.abspath(source) if isinstance(source, str) else source, sort_keys=True)

    def tables(self) -> list[str]:
        """The names of the tables, sorted."""
        return self._ask("tables")

    def describe(self, table: str) -> dict[str, Any]:
        """{"columns": name -> type, "rows": number of rows, "notes": text} of a table."""
        return self._ask("describe", table)

    def query(self, sql: str) -> tuple[list[str], list[list[Any]], bool]:
        """(column names, the first rows, whether there are more) of one SELECT; limits are in sql_worker.py."""
        return tuple(self._ask("query", sql))

    def _ask(self, method: str, *arguments: str) -> Any:
        worker = WORKERS[zlib.crc32(self._source.encode()) % len(WORKERS)]  # always the same: tables are made once
        message = {"source": self._source, "method": method, "arguments": arguments, "seconds": SECONDS}
        answer = worker.call(message)
        if "unreadable" in answer:
            raise Unreadable(answer["unreadable"])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]


class _Worker:
    """A process that handles one call at a time. It is started at the first call, and again after it has ended."""

    def __init__(self):
        self._lock, self._process = threading.Lock(), None
        atexit.register(self.stop)

    def call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Returns the result of sql_worker.answer, or {"error": text} if the call ended the process.

        Raises RuntimeError if the process ended for another reason.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self._process = _start()
            process, answer = self._process, None
            try:
                python_worker.send(process.stdin, message)
                answer = python_worker.receive(process.stdout)
            except (OSError, ValueError):  # the process ended before it had read the message, or amid its answer
                pass
            finally:  # also if interrupted: the next call must not get this call's answer
                if answer is None or answer.get("spent"):
                    self.stop()
        if answer is not None:
            return answer
        if process.returncode in (-signal.SIGPROF, -signal.SIGALRM):
            return {"error": f"the query took more than {message['seconds']} s"}
        if process.returncode == sql_worker.OUT_OF_MEMORY:
            return {"error": "the query ran out of memory"}
        if -process.returncode in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT):
            return {"error": "the query crashed the database"}
        raise RuntimeError(f"{__name__}: the process that holds the tables ended with status {process.returncode}")

    def stop(self) -> None:
        """Ends the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            try:
                stream.close()
            except OSError:  # unsent data
                pass


def _start() -> subprocess.Popen:
    """Starts a process that gets no environment, open files or terminal signals of this process."""
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", "-m", "envs.sandbox.sql_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(REPOSITORY)},
        cwd="/",
        start_new_session=True,
    )


WORKERS = [_Worker() for _ in range(min(8, os.cpu_count() or 1))]
