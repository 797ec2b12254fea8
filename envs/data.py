"""The data-analysis world: DuckDB over generated tables or a folder of the user's, questions that code has answered.

Tools list the tables, describe one, run a query (one SELECT, bounded in rows, text, time and memory, on a database that
can reach no file and no network) and run Python on the rows of the last query. Reward: 1.0 for a right answer after a
query that ran, 0.5 for one without (it was guessed), 0 for a wrong one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import functools
import json
import threading
from pathlib import Path
from typing import Any

import duckdb

from envs import asking, python_tool, tools
from envs.base import Actor, Message
from envs.python_tool import PythonTool
from synth import tables
from synth.problems import files
from synth.question import Question

MAX_ROWS = 50  # shown of a query's result
MAX_TEXT = 4000  # characters of a query's result
KEPT_ROWS = 5000  # handed to the Python tool
SECONDS = 10  # of one query
MEMORY = "512MB"
LAZY = 0.5  # reward of a right answer that no query led to

TOOLS = [
    tools.schema("list_tables", "List the tables.", {}),
    tools.schema("describe", "Columns, types and notes of a table.", {"table": {"type": "string"}}),
    tools.schema("query", f"Run one SELECT. Shows at most {MAX_ROWS} rows.", {"sql": {"type": "string"}}),
    tools.schema(
        "python",
        "Run a Python program. `rows` holds the last query's rows as a list of objects. Returns what it prints and the "
        "value of its last expression.",
        {"code": {"type": "string"}},
    ),
]


class Database:
    """Tables in memory, locked against everything but reading. Any number of episodes may share one."""

    def __init__(self, fill: Any, notes: dict[str, str]):
        """fill(connection) makes the tables; notes: table -> what `describe` says beside the columns."""
        self._connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY})
        fill(self._connection)
        self._connection.execute("set enable_external_access = false")
        self._connection.execute("set lock_configuration = true")
        self.notes = notes
        self._lock = threading.Lock()  # one query at a time, which `interrupt` can be meant for

    def tables(self) -> list[str]:
        """Names of the tables, in order."""
        return sorted(row[0] for row in self._run("select table_name from duckdb_tables()", [])[1])

    def describe(self, table: str) -> dict[str, Any]:
        """Columns with their types, the number of rows, the notes of a table. Raises ValueError for an unknown one."""
        if table not in self.tables():
            raise ValueError(f"no table {table!r}, there are {', '.join(self.tables())}")
        columns = self._run("select column_name, data_type from duckdb_columns() where table_name = ?", [table])[1]
        quoted = table.replace('"', '""')
        count = self._run(f'select count(*) from "{quoted}"', [])[1][0][0]
        return {"columns": dict(columns), "rows": count, "notes": self.notes.get(table, "")}

    def query(self, sql: str) -> tuple[list[str], list[list[Any]]]:
        """(column names, at most KEPT_ROWS rows) of one SELECT. Raises ValueError with what is wrong."""
        try:
            statements = duckdb.extract_statements(sql)
        except duckdb.Error as error:
            raise ValueError(str(error).splitlines()[0]) from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("expected exactly one SELECT")
        return self._run(sql, [])

    def _run(self, sql: str, parameters: list[Any]) -> tuple[list[str], list[list[Any]]]:
        with self._lock:
            cursor = self._connection.cursor()
            timer = threading.Timer(SECONDS, cursor.interrupt)
            timer.start()
            try:
                cursor.execute("select setseed(0.5)")  # random() repeats
                cursor.execute(sql, parameters)
                names = [column[0] for column in cursor.description or []]
                return names, [[_plain(value) for value in row] for row in cursor.fetchmany(KEPT_ROWS)]
            except duckdb.InterruptException as error:
                raise ValueError(f"the query took more than {SECONDS} s") from error
            except (duckdb.Error, RuntimeError) as error:
                raise ValueError(str(error).splitlines()[0]) from error
            finally:
                timer.cancel()
                cursor.close()


def _plain(value: Any) -> Any:
    """A value as JSON has it: whole decimals as integers, dates and everything else as text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return str(value)


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


@functools.lru_cache(maxsize=16)
def _database(source: str) -> Database:
    """The database of a question's tables: JSON of a folder or of the arguments of synth.tables.tables."""
    arguments = json.loads(source)
    if isinstance(arguments, str):
        return folder(arguments)
    data = tables.tables(**arguments)

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        for name, rows in data.tables.items():
            kinds = {key: "bigint" if isinstance(_first(rows, key), int) else "varchar" for key in rows[0]}
            connection.execute(f"create table {name} ({', '.join(f'{key} {kind}' for key, kind in kinds.items())})")
            values = ", ".join(f"({', '.join(_literal(value) for value in row.values())})" for row in rows)
            connection.execute(f"insert into {name} values {values}")

    return Database(fill, data.notes)


def _first(rows: list[dict[str, Any]], key: str) -> Any:
    """A value of a column that is not missing."""
    return next((row[key] for row in rows if row[key] is not None), None)


def folder(path: str) -> Database:
    """A database of a folder's Parquet and CSV files, one table each, called as the file is.

    Raises ValueError for a folder without such files, or with one that cannot be read.
    """
    readers = {".parquet": "read_parquet", ".csv": "read_csv"}
    files = sorted(file for file in Path(path).glob("*") if file.suffix in readers)
    if not files:
        raise ValueError(f"{path}: no *.parquet or *.csv in this folder")

    def fill(connection: duckdb.DuckDBPyConnection) -> None:
        for file in files:
            table = file.stem.replace('"', '""')
            try:
                connection.execute(f'create table "{table}" as select * from {readers[file.suffix]}(?)', [str(file)])
            except duckdb.Error as error:
                raise ValueError(f"{file}: {str(error).splitlines()[0]}") from error

    return Database(fill, {})


def read_questions(path: str, data_folder: str, split: str) -> list[Question]:
    """Questions about a user's folder: JSONL of question and answer. Raises ValueError as synth.problems.files does."""
    source = {"tables": str(data_folder), "sql": ""}
    return [dataclasses.replace(question, source=source) for question in files.read(path, split, "data")]


class Data(asking.Asking):
    """One episode of one question; implements envs.base.Env."""

    tools = TOOLS
    system = "Answer the question from the tables; what describe notes about a table holds."

    def __init__(self, question: Question, tool: PythonTool | None = None):
        super().__init__(question)
        self._database = _database(json.dumps(question.source["tables"], sort_keys=True))
        self._tool, self._rows = tool or python_tool.shared(), []

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Carries out one call; what is wrong with it is a message."""
        try:
            if name == "list_tables":
                return True, json.dumps(self._database.tables())
            if name == "describe":
                return True, json.dumps(self._database.describe(arguments["table"]))
            if name == "query":
                return True, await self._query(arguments["sql"])
        except ValueError as error:
            return False, json.dumps({"error": str(error)}, ensure_ascii=False)
        result = await self._tool.call(arguments["code"], {"rows": self._rows})
        return result.ok, result.text

    async def _query(self, sql: str) -> str:
        """Runs a query, keeps its rows for Python, and shows the first."""
        columns, rows = await asyncio.to_thread(self._database.query, sql)
        self._rows = [dict(zip(columns, row, strict=True)) for row in rows]
        shown = rows[:MAX_ROWS]
        while len(text := json.dumps({"columns": columns, "rows": shown}, ensure_ascii=False)) > MAX_TEXT and shown:
            shown = shown[: len(shown) // 2]
        if len(shown) == len(rows):
            return text
        return json.dumps({"columns": columns, "rows": shown, "not_shown": len(rows) - len(shown)}, ensure_ascii=False)

    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """See the module."""
        queried = any(name == "query" and ok for name, _, ok in self.calls)
        return (1.0 if queried else LAZY) if right else 0.0, {"query": queried}

    def node(self, answer: str | None) -> str | None:
        """ "query/none" if no query ran, else "answer/wrong"."""
        del answer
        return "answer/wrong" if any(name == "query" and ok for name, _, ok in self.calls) else "query/none"


def make(question: Question) -> Data:
    """A fresh episode of a question."""
    return Data(question)


def oracle(question: Question) -> Actor:
    """The actor that earns reward 1.0: runs the question's SQL and answers what comes out.

    About a user's folder, whose questions have no SQL, it looks at any row and answers what the file says.
    """
    sql, turn = question.source["sql"], 0

    async def act(messages: list[Message]) -> Message:
        nonlocal turn
        turn += 1
        if turn == 1:
            function = {"name": "query", "arguments": json.dumps({"sql": sql or "select 1"})}
            call = {"id": "call_0_0", "type": "function", "function": function}
            return {"role": "assistant", "content": "", "tool_calls": [call]}
        answer = json.loads(messages[-1]["content"])["rows"][0][0] if sql else question.answer
        return {"role": "assistant", "content": f"Answer: {answer}"}

    return act


def tasks(split: str, rounds: int = 3, roots: int = 24, seed: int = 0) -> list[Question]:
    """Questions of a split ("train" | "heldout") over generated tables. Raises ValueError for an unknown split."""
    return [q for number in range(rounds) for q in tables.questions(split, roots, 2, number, seed)]
