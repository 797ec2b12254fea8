"""The process behind sql.py: holds databases and answers queries, within limits that the kernel enforces.

It communicates with its parent by the messages of python_worker.py. A query that exceeds its time ends this process
(SIGPROF: CPU time, SIGALRM: wall time). So does a query that runs out of memory, because the process may be in a broken
state then. The parent then starts another process, which makes the tables again.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import functools
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from envs.sandbox import confine
from envs.sandbox.python_worker import receive, send
from synth.corpora import tables

KEPT_ROWS = 5000  # most rows of a query's result
KEPT_BYTES = 4 << 20  # most bytes of these rows as JSON
BATCH = 64  # rows converted at a time
MEMORY = 512 << 20  # bytes for a query in DuckDB, and as many again for converting its result
WAITING = 3  # wall time of a query, in multiples of its CPU time
LEFT_BEHIND = 64 << 20  # bytes that a query may leave allocated before the process is replaced
OUT_OF_MEMORY = 70  # exit status
READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_csv"}

Result = tuple[list[str], list[list[Any]], bool]


class Database:
    """Tables in memory that can only be read: no access to files or network, no changes, no settings."""

    def __init__(self, source: str | dict[str, Any]):
        """source: a folder's path, or arguments of corpora.tables.tables. Raises ValueError for an unreadable one."""
        config = {"threads": 1, "async_threads": 0, "temp_directory": ""}  # no background work, nothing on disk
        self._connection = duckdb.connect(":memory:", config=config)
        if isinstance(source, str):
            self._notes = _fill_from_folder(self._connection, source)
        else:
            self._notes = _fill(self._connection, tables.tables(**source))
        # The memory limit is for queries; the tables may be of any size.
        ((held,),) = self._connection.execute("select sum(memory_usage_bytes) from duckdb_memory()").fetchall()
        self._connection.execute(f"set memory_limit = '{held + MEMORY} bytes'")
        self._connection.execute("set global TimeZone = 'UTC'")
        self._connection.execute("set enable_external_access = false")
        self._connection.execute("set lock_configuration = true")

    def tables(self) -> list[str]:
        """The names of the tables, sorted."""
        return sorted(row[0] for row in self._run("select table_name from duckdb_tables()")[1])

    def describe(self, table: str) -> dict[str, Any]:
        """{"columns": name -> type, "rows": number of rows, "notes": text}. Raises ValueError for an unknown table."""
        if table not in self.tables():
            raise ValueError(f"no table {table!r}, there are {', '.join(self.tables())}")
        columns = self._run("select column_name, data_type from duckdb_columns() where table_name = ?", [table])[1]
        quoted = table.replace('"', '""')
        count = self._run(f'select count(*) from "{quoted}"')[1][0][0]
        return {"columns": dict(columns), "rows": count, "notes": self._notes.get(table, "")}

    def query(self, sql: str) -> Result:
        """(column names, rows, whether there are more) of one SELECT.

        Returns at most KEPT_ROWS rows of at most KEPT_BYTES in all. Raises ValueError unless `sql` is one SELECT.
        """
        sql.encode()  # raises ValueError for a lone surrogate
        statements = self._connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("expected exactly one SELECT")
        return self._run(sql)

    def _run(self, sql: str, parameters: list[Any] | None = None) -> Result:
        """Runs `query` in a read-only transaction, because a SELECT can contain an UPDATE."""
        cursor = self._connection.cursor()
        try:
            cursor.execute("begin transaction read only")
            cursor.execute("select setseed(0.5)")  # so that random() repeats
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description or []]
            return _distinct(names), *_fetch(cursor)
        finally:
            cursor.close()


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that came before: each is to be a key of a row."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def _fetch(cursor: duckdb.DuckDBPyConnection) -> tuple[list[list[Any]], bool]:
    """(the first rows within the limits, whether there are more)."""
    rows, size = [], 0
    while batch := cursor.fetchmany(BATCH):
        plain = [[_plain(value) for value in row] for row in batch]
        rows += plain
        size += len(json.dumps(plain))
        if size > KEPT_BYTES or len(rows) > KEPT_ROWS:
            while size > KEPT_BYTES or len(rows) > KEPT_ROWS:
                size -= len(json.dumps(rows.pop()))
            return rows, True
    return rows, False


def _plain(value: Any) -> Any:
    """Converts a value to JSON data: whole decimals to integers, dates and unknown types to text."""
    if isinstance(value, (float, decimal.Decimal)) and not math.isfinite(value):
        return str(value).lower()  # JSON has no NaN and no infinity
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value)


def _fill(connection: duckdb.DuckDBPyConnection, data: tables.Tables) -> dict[str, str]:
    """Creates generated tables; returns table -> notes."""
    for name, rows in data.tables.items():
        kinds = {key: "bigint" if isinstance(_first(rows, key), int) else "varchar" for key in rows[0]}
        connection.execute(f"create table {name} ({', '.join(f'{key} {kind}' for key, kind in kinds.items())})")
        values = ", ".join(f"({', '.join(_literal(value) for value in row.values())})" for row in rows)
        connection.execute(f"insert into {name} values {values}")
    return data.notes


def _first(rows: list[dict[str, Any]], key: str) -> Any:
    """The first value of a column that is not missing; None if all are."""
    return next((row[key] for row in rows if row[key] is not None), None)


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _fill_from_folder(connection: duckdb.DuckDBPyConnection, path: str) -> dict[str, str]:
    """Creates a table from each Parquet, CSV and TSV file of a folder, named like the file; there are no notes.

    Raises ValueError if the folder has no such file, or one that cannot be read.
    """
    files = sorted(file for file in Path(path).glob("*") if file.suffix.lower() in READERS)
    if not files:
        raise ValueError(f"{path}: no *.parquet, *.csv or *.tsv in this folder")
    for file in files:
        with file.open("rb") as opened:
            if not opened.read(4096).strip():
                raise ValueError(f"{file}: an empty file")
        table, reader = file.stem.replace('"', '""'), READERS[file.suffix.lower()]
        try:
            # By its descriptor: DuckDB reads a path as a pattern, and a folder "a=b" as a column.
            with file.open("rb") as opened:
                path_of_file = f"/proc/self/fd/{opened.fileno()}"
                connection.execute(f'create table "{table}" as select * from {reader}(?)', [path_of_file])
        except duckdb.Error as error:
            raise ValueError(f"{file}: {' '.join(str(error).split())[:300]}") from error
    return {}


@functools.lru_cache(maxsize=16)
def _database(source: str) -> Database:
    """The database of a source, which is given as JSON."""
    return Database(json.loads(source))


def _address_space() -> int:
    """The size of this process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Limits time and memory inside the `with` block. seconds: of CPU time."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 2 * MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Handles a message {"source", "method", "arguments", "seconds"}.

    Returns {"value": result}, {"error": what is wrong with the call} or {"unreadable": what is wrong with the source}.
    The key "spent" says whether the call has left this process so large that it should be replaced, so that the next
    call has enough memory. Ends the process if memory runs out or DuckDB fails fatally.
    """
    try:
        database = _database(message["source"])
    except (ValueError, OSError, duckdb.Error) as error:
        return {"unreadable": str(error)}
    before = _address_space()
    try:
        with _limited(message["seconds"]):
            found = {"value": getattr(database, message["method"])(*message["arguments"])}
    except (MemoryError, duckdb.OutOfMemoryException):
        os._exit(OUT_OF_MEMORY)
    except (duckdb.FatalException, duckdb.InternalException):
        os.abort()  # DuckDB refuses all further calls after these
    except (ValueError, RuntimeError, duckdb.Error) as error:
        found = {"error": (str(error).splitlines() or [type(error).__name__])[0]}
    except Exception as error:  # DuckDB raises various errors for values that have no Python type
        found = {"error": f"the result cannot be converted ({type(error).__name__}: {error}), cast it to varchar"}
    return {**found, "spent": _address_space() > before + LEFT_BEHIND}


def serve() -> None:
    """Answers messages until standard input ends."""
    confine.limit({resource.RLIMIT_CORE: 0})
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the signal ends the process
    while (message := receive(sys.stdin.buffer)) is not None:
        send(sys.stdout.buffer, answer(message))


if __name__ == "__main__":
    serve()
