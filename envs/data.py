"""The data-analysis world: questions about tables in DuckDB, which are generated or come from a user's folder.

Tools list the tables, describe one, run a query, and run Python on the rows of the last query. A query is one SELECT
with bounded rows, text, time and memory, on a database that can access neither files nor network
(envs/sandbox/sql.py). Reward: 1.0 for a right answer after a query that ran, 0.5 for a right answer without one (a
guess), 0 for a wrong answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

from envs import asking, tools
from envs.base import Actor, Message
from envs.sandbox import python_tool, sql, sql_worker
from envs.sandbox.python_tool import PythonTool
from synth.corpora import tables
from synth.problems import files
from synth.question import Question

MAX_ROWS = 50  # most rows shown of a query's result
MAX_TEXT = 4000  # most characters shown of a query's result
LAZY = 0.5  # reward of a right answer without a query that ran

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


def read_questions(path: str, data_folder: str, split: str) -> list[Question]:
    """Reads questions about a user's folder: JSONL of question and answer. Warns about files that are not tables.

    Raises ValueError as synth.problems.files.read does, and if the folder cannot be read.
    """
    return [question for _, question in located_questions(path, data_folder, split)]


def located_questions(path: str, data_folder: str, split: str) -> list[tuple[str, Question]]:
    """As `read_questions`, each question with its place, "<file>, line <number>"."""
    sql.Database(str(data_folder)).tables()
    suffixes = tuple(sql_worker.READERS)
    if skipped := sorted(f.name for f in Path(data_folder).glob("[!.]*") if not f.name.lower().endswith(suffixes)):
        warnings.warn(f"{data_folder}: neither Parquet nor CSV, so not read: {', '.join(skipped)}", stacklevel=3)
    source = {"tables": str(data_folder), "sql": ""}
    found = files.located(path, split, "data")
    return [(where, dataclasses.replace(question, source=source)) for where, question in found]


class Data(asking.Asking):
    """One episode of one question; implements envs.base.Env."""

    tools = TOOLS
    system = "Answer the question from the tables; what describe notes about a table holds."

    def __init__(self, question: Question, tool: PythonTool | None = None):
        super().__init__(question)
        self._database = sql.Database(question.source["tables"])
        self._tool, self._rows = tool or python_tool.shared(), []

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Executes one call. An error in it becomes the tool message; sql.Unreadable is raised."""
        try:
            if name == "list_tables":
                return True, json.dumps(await asyncio.to_thread(self._database.tables))
            if name == "describe":
                return True, json.dumps(await asyncio.to_thread(self._database.describe, arguments["table"]))
            if name == "query":
                return True, await self._query(arguments["sql"])
        except sql.Unreadable:
            raise
        except ValueError as error:
            return False, json.dumps({"error": str(error)}, ensure_ascii=False)
        result = await self._tool.call(arguments["code"], {"rows": self._rows})
        return result.ok, result.text

    async def _query(self, text: str) -> str:
        """Runs a query, keeps its rows for Python, and returns the first ones as JSON."""
        columns, rows, more = await asyncio.to_thread(self._database.query, text)
        self._rows = [dict(zip(columns, row, strict=True)) for row in rows]
        shown = rows[:MAX_ROWS]
        while len(told := json.dumps({"columns": columns, "rows": shown}, ensure_ascii=False)) > MAX_TEXT and shown:
            shown = shown[: len(shown) // 2]
        if len(shown) == len(rows) and not more:
            return told
        hidden: int | str = len(rows) - len(shown)
        if more:
            hidden = f"more than {hidden}; in Python, rows holds the first {len(rows)} only"
        return json.dumps({"columns": columns, "rows": shown, "not_shown": hidden}, ensure_ascii=False)

    def reward(self, right: bool) -> tuple[float, dict[str, bool]]:
        """(reward, whether a query ran); see the module's docstring."""
        queried = any(name == "query" and ok for name, _, ok in self.calls)
        return (1.0 if queried else LAZY) if right else 0.0, {"query": queried}

    def node(self, answer: str | None) -> str | None:
        """ "query/none" if no query ran, else "answer/wrong"."""
        del answer
        return "answer/wrong" if any(name == "query" and ok for name, _, ok in self.calls) else "query/none"


def make(question: Question) -> Data:
    """A new episode of a question."""
    return Data(question)


def oracle(question: Question) -> Actor:
    """A scripted actor that earns reward 1.0: runs the question's SQL and answers with the result.

    Questions about a user's folder have no SQL: it runs some query and gives the answer in the user's file.
    """
    query, turn = question.source["sql"], 0

    async def act(messages: list[Message]) -> Message:
        nonlocal turn
        turn += 1
        if turn == 1:
            function = {"name": "query", "arguments": json.dumps({"sql": query or "select 1"})}
            call = {"id": "call_0_0", "type": "function", "function": function}
            return {"role": "assistant", "content": "", "tool_calls": [call]}
        answer = json.loads(messages[-1]["content"])["rows"][0][0] if query else question.answer
        return {"role": "assistant", "content": f"Answer: {answer}"}

    return act


def tasks(split: str, rounds: int = 3, roots: int = 24, seed: int = 0) -> list[Question]:
    """Makes questions of a split ("train" | "heldout") about generated tables.

    roots: number of roots in each of `rounds` rounds. Raises ValueError for an unknown split.
    """
    return [q for number in range(rounds) for q in tables.questions(split, roots, 2, number, seed)]
