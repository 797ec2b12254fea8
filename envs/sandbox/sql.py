"""Databases for untrusted queries: a pool of processes (envs/sandbox/sql_worker.py) that hold them and can be killed.

What this promises of a query, whatever it says: it changes nothing, reads no file and no network, takes a bounded time
(SECONDS of CPU) and memory (twice sql_worker.MEMORY), and returns a bounded number of rows and bytes. A query that runs
over, or crashes DuckDB, is an error for the caller to tell; the next one finds the same tables. It does not promise the
same answer twice from queries that look at the clock or at DuckDB itself: now(), txid_current(), duckdb_memory() and
their like. random(), samples and uuid() repeat.
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
SECONDS = 10  # CPU time of one call


class Unreadable(ValueError):
    """A source that no tables can be made of."""


class Database:
    """The tables of a source: a folder, or arguments of corpora.tables.tables. Any number of episodes may share one.

    Every method raises ValueError with what is wrong with the call, Unreadable with what is wrong with the source, and
    RuntimeError when the process that holds the tables breaks through no fault of the call's.
    """

    def __init__(self, source: str | dict[str, Any]):
        self._source = json.dumps(os.path.abspath(source) if isinstance(source, str) else source, sort_keys=True)

    def tables(self) -> list[str]:
        """Names of the tables, in order."""
        return self._ask("tables")

    def describe(self, table: str) -> dict[str, Any]:
        """{"columns": name -> type, "rows": how many, "notes"} of a table."""
        return self._ask("describe", table)

    def query(self, sql: str) -> tuple[list[str], list[list[Any]], bool]:
        """(column names, the first rows, whether there are more) of one SELECT; see sql_worker.py for bounds."""
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
    """A process that answers one call at a time, started at the first and again after one that ended it."""

    def __init__(self):
        self._lock, self._process = threading.Lock(), None
        atexit.register(self.stop)

    def call(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer of sql_worker.answer, or {"error"} for a call that ended the process.

        Raises RuntimeError if the process ended otherwise.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self._process = _start()
            process, answer = self._process, None
            try:
                python_worker.send(process.stdin, message)
                answer = python_worker.receive(process.stdout)
            except (OSError, ValueError):  # it ended before it had read the message, or amid its answer
                pass
            finally:  # also when interrupted: the next call must not get this one's answer
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
            except OSError:  # what was not sent any more
                pass


def _start() -> subprocess.Popen:
    """A process without this one's environment, open files and signals of the terminal."""
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
