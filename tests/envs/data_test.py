"""The data world: answers two ways, queries that can only read, limits, Python on rows, a user's own folder."""

import asyncio
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from envs import actors, base, data
from envs.sandbox import sql, sql_worker
from synth.corpora import tables

TASKS = {split: data.tasks(split, roots=8) for split in ("train", "heldout")}


def query(sql):
    return {"call": "query", "args": {"sql": sql}, "say": ""}


def play(task, *steps):
    return base.run(actors.play(data.make(task), actors.scripted(steps)))


def result(task, step):
    return play(task, step)[0][3]["content"]


def test_oracles_earn_one_and_those_who_do_not_look_do_not():
    """The oracle answers what SQL makes of the dirty tables; the reward compares with Python on the clean records."""
    for tasks in TASKS.values():
        most_frequent = Counter(task.answer for task in tasks).most_common(1)[0][0]
        for task in tasks:
            _, score = base.run(actors.play(data.make(task), data.oracle(task)))
            assert score.reward == 1.0 and score.violations == [], (task.prompt, task.answer)
        for task in tasks[::4]:
            assert play(task, {"say": "Done."})[1].reward == 0.0
            assert play(task, {"say": f"Answer: {most_frequent}"})[1].reward <= 0.5
    prompts = {(task.prompt, json.dumps(task.source["tables"])) for tasks in TASKS.values() for task in tasks}
    assert len(prompts) == sum(map(len, TASKS.values()))
    assert {task.source["tables"]["name"] for task in TASKS["train"]} == set(tables.SUBJECTS)


def test_the_tables_are_dirty():
    """Reading them as they stand gives wrong answers: duplicates, missing measures and units matter."""
    for name in tables.SUBJECTS:
        found = tables.tables(name, "x")
        subject, rows = found.subject, found.tables[found.subject.events]
        key = f"{subject.event}_id"
        assert len({row[key] for row in rows}) == tables.EVENTS < len(rows)
        assert len({row["unit"] for row in rows if row[subject.measure] is not None}) == 2
        assert len(found.clean) < tables.EVENTS and any(row[subject.group] is None for row in rows)
        raw = sum(row[subject.measure] or 0 for row in rows)
        assert raw != sum(row["m"] for row in found.clean)
    assert tables.tables.__wrapped__("logs", "x") == tables.tables("logs", "x") != tables.tables("logs", "y")


def test_a_careless_query_is_wrong():
    task = next(t for t in TASKS["train"] if t.prompt.startswith("What is the total price"))
    channel = task.prompt.split("channel ")[1].rstrip("?")
    messages, score = play(
        task, query(f"select sum(price) from orders where channel = '{channel}'"), {"say": "Answer: 1"}
    )
    assert json.loads(messages[3]["content"])["rows"][0][0] != int(task.answer)
    assert (score.reward, score.node) == (0.0, "answer/wrong")


def test_rewards():
    task = TASKS["train"][0]
    right = {"say": f"Answer: {task.answer}"}
    assert play(task, right)[1].reward == data.LAZY
    assert play(task, query("select nonsense"), right)[1].reward == data.LAZY
    assert play(task, query("select 1"), right)[1].reward == 1.0
    assert play(task, {"say": "Answer: x"})[1].node == "query/none"


def test_tools_show_what_there_is():
    task = next(t for t in TASKS["train"] if t.source["tables"]["name"] == "clinics")
    assert json.loads(result(task, {"call": "list_tables", "args": {}, "say": ""})) == ["patients", "visits"]
    told = json.loads(result(task, {"call": "describe", "args": {"table": "visits"}, "say": ""}))
    columns = {
        "visit_id": "BIGINT",
        "patient_id": "VARCHAR",
        "ward": "VARCHAR",
        "duration": "BIGINT",
        "unit": "VARCHAR",
    }
    assert told["columns"] == columns and told["rows"] > tables.EVENTS and "do not count" in told["notes"]
    unknown = result(task, {"call": "describe", "args": {"table": "x"}, "say": ""})
    assert json.loads(unknown) == {"error": "no table 'x', there are patients, visits"}
    shown = json.loads(result(task, query("select * from visits")))
    assert len(shown["rows"]) <= data.MAX_ROWS and shown["not_shown"] == told["rows"] - len(shown["rows"])
    wide = json.loads(result(task, query("select repeat('x', 3000) from visits")))
    assert len(wide["rows"]) == 1 and json.loads(result(task, query("select repeat('x', 9000)")))["rows"] == []


def test_python_works_on_the_rows_of_the_last_query():
    task = next(t for t in TASKS["train"] if t.source["tables"]["name"] == "clinics")
    program = {"call": "python", "args": {"code": "len(rows), sorted(rows[0])"}, "say": ""}
    messages, _ = play(task, query("select patient_id as p, 1.5 as d, null as n from patients"), program)
    assert messages[5]["content"] == f"({tables.OWNERS}, ['d', 'n', 'p'])"
    assert play(task, program)[0][3]["content"] == "line 1: IndexError: list index out of range"  # no query yet


@pytest.mark.parametrize(
    "sql",
    [
        "drop table patients", "insert into patients values ('x', 'y')", "delete from patients",
        "update patients set cover = 'x'", "alter table patients add column x int", "select 1; drop table patients",
        "copy patients to '/tmp/harm.csv'", "attach '/tmp/harm.db'", "install httpfs", "load httpfs", "set threads = 8",
        "set enable_external_access = true", "reset lock_configuration", "pragma enable_profiling", "vacuum", "select",
        "export database '/tmp/harm'", "select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'", "",
        "select * from read_text('/etc/passwd')", "select * from glob('/*')", "select getenv('HOME')", "-- x",
        "select * from read_parquet('http://127.0.0.1/x')", "prepare p as select 1", "call force_checkpoint()",
        "checkpoint", "explain select 1", "create table t(a int)", "select '\ud800'",
        "with x as (update patients set cover = 'a' returning 1) select count(*) from x",
        "with x as (delete from patients returning 1) select count(*) from x",
        "with x as (insert into patients select 'x', repeat('y', 1000) from range(9) returning 1) select * from x",
        "with x as (create table t(a int)) select 1", "select * from query('drop table patients')",
    ],
)  # fmt: skip
def test_queries_can_only_read_the_tables(sql):
    task = next(t for t in TASKS["train"] if t.source["tables"]["name"] == "clinics")
    before = result(task, query("select count(*), min(cover) from patients"))
    assert set(json.loads(result(task, query(sql)))) == {"error"}
    assert result(task, query("select count(*), min(cover) from patients")) == before


def test_queries_end(monkeypatch):
    monkeypatch.setattr(sql, "SECONDS", 0.2)
    task = TASKS["train"][0]
    for slow in (
        "select sum(a.range * b.range) from range(1000000000) a, range(1000000000) b",
        "select levenshtein(repeat('a', 50000), repeat('b', 50000))",  # one call, which cannot be interrupted
        "select sleep_ms(60000)",
    ):
        assert json.loads(result(task, query(slow))) == {"error": "the query took more than 0.2 s"}
    monkeypatch.setattr(sql, "SECONDS", 10)
    for large in ("string_agg(repeat('x', 1000000), '')", "repeat('x', 1000000)", "length(repeat('x', 1500000000))"):
        told = json.loads(result(task, query(f"select {large} from range(2000)")))
        assert told == {"error": "the query ran out of memory"}
    assert json.loads(result(task, query("select 2")))["rows"] == [[2]]
    random = query("select random(), random() from range(2)")
    assert result(task, random) == result(task, random)


def test_results_are_bounded_and_say_so():
    task = TASKS["train"][0]
    count = {"call": "python", "args": {"code": "len(rows)"}, "say": ""}
    few = json.loads(result(task, query("select range from range(5000)")))
    assert (len(few["rows"]), few["not_shown"]) == (data.MAX_ROWS, sql_worker.KEPT_ROWS - data.MAX_ROWS)
    messages, _ = play(task, query("select range from range(5001)"), count)
    told = json.loads(messages[3]["content"])
    assert told["rows"] == few["rows"] and messages[5]["content"] == "5000"
    assert told["not_shown"] == "more than 4950; in Python, rows holds the first 5000 only"
    messages, _ = play(task, query("select repeat('x', 1000000) from range(10)"), count)
    told = json.loads(messages[3]["content"])
    assert told["not_shown"] == "more than 4; in Python, rows holds the first 4 only" and messages[5]["content"] == "4"


@pytest.mark.parametrize(
    "value, told",
    [
        ("timestamptz '2020-01-01 02:00:00+02'", "2020-01-01T00:00:00+00:00"),
        ("170141183460469231731687303715884105727::hugeint", 2**127 - 1),
        ("'9'::bignum", "9"),
        ("-1e308 * 10", "-inf"),
        ("['nan'::double, 1.5]", ["nan", 1.5]),
        ("[{'a': 1.5::decimal(4, 2)}]", ["{'a': Decimal('1.50')}"]),
        ("date '4000-01-01 (BC)'", "4000-01-01 (BC)"),
        ("blob 'x'", "b'x'"),
        ("interval '200000000 months'", None),
        ("interval '200000000 months'::varchar", "16666666 years 8 months"),
    ],
)
def test_values_of_every_type_become_json(value, told):
    said = json.loads(result(TASKS["train"][0], query(f"select {value}")), parse_constant=pytest.fail)
    if told is None:
        assert said["error"].endswith("cast it to varchar")
    else:
        assert said["rows"] == [[told]]


def test_columns_of_one_name_are_told_apart():
    columns, rows, _ = sql.Database(TASKS["train"][0].source["tables"]).query("select 1 as x, 2 as x, 3 as x_2, 4 as x")
    assert (columns, rows) == (["x", "x_2", "x_2_2", "x_3"], [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    "name", ["sales[24]", "q*", "q?", "a=b", "{a,b}", "**", "it's", 'a"b', "~", "%20", "$HOME", "s3:", "é", "a b"]
)
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_users_path_is_no_pattern(tmp_path, name, place):
    """Beside the file or folder lie others that the name as a pattern would find."""
    folder, table = (tmp_path / "f", name) if place == "file" else (tmp_path / name, "t")
    for near in ("sales2", "sales4", "q1", "qq", "a", "b"):
        other = folder / f"{near}.csv" if place == "file" else tmp_path / near / "t.csv"
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("x\n8\n9\n")
    folder.mkdir(exist_ok=True)
    (folder / f"{table}.csv").write_text("x\n1\n")
    quoted = table.replace('"', '""')
    assert sql.Database(str(folder)).query(f'select * from "{quoted}"')[:2] == (["x"], [[1]])


def test_every_type_of_duckdb_can_be_shown():
    columns, rows, more = sql.Database(TASKS["train"][0].source["tables"]).query("select * from test_all_types()")
    assert len(columns) > 50 and len(rows) == 3 and not more


def test_many_episodes_at_once_and_processes_that_die():
    """One that dies between queries is replaced; one that is killed in a query is a fault, and no tool message."""
    tasks = TASKS["train"][:6]

    async def ask(task):
        env = data.make(task)
        return [(await env.call("query", {"sql": task.source["sql"]}))[1] for _ in range(3)]

    async def gather():
        return await asyncio.gather(*(ask(task) for task in tasks))

    answers = base.run(gather())
    for task, told in zip(tasks, answers, strict=True):
        assert len(set(told)) == 1 and str(json.loads(told[0])["rows"][0][0]) == task.answer
    kill_workers()
    assert base.run(gather()) == answers
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(result, tasks[0], query("select sleep_ms(60000)"))
        while not future.done():
            time.sleep(0.05)
            kill_workers()
        with pytest.raises(RuntimeError, match="ended with status -9"):
            future.result()


def kill_workers():
    for worker in sql.WORKERS:
        if process := worker._process:
            process.kill()
            process.wait()


def test_a_users_own_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "people.csv").write_text("name,born\nAda,1815-12-10\nAlan,1912-06-23\n")
    scores = "select * from (values ('Ada', 1.5::double), ('Alan', 2.5)) t(name, score)"
    duckdb.connect().execute(f"copy ({scores}) to '{folder / 'scores.parquet'}' (format parquet)")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "What is the total score?", "answer": "4"}\n')
    (task,) = data.read_questions(questions, folder, "heldout")
    joined = "select p.born, s.score from people p join scores s using (name) order by 1"
    rows = [["1815-12-10", 1.5], ["1912-06-23", 2.5]]
    assert json.loads(result(task, query(joined)))["rows"] == rows
    assert base.run(actors.play(data.make(task), data.oracle(task)))[1].reward == 1.0
    assert set(json.loads(result(task, query(f"select * from read_csv('{folder}/people.csv')")))) == {"error"}
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"empty: no \*.parquet, \*.csv or \*.tsv"):
        data.read_questions(questions, empty, "heldout")
    for name, text in (("broken.parquet", b"x"), ("none.csv", b" \n"), ("latin.csv", "a\né\n".encode("latin-1"))):
        (empty / name).write_bytes(text)
        with pytest.raises(ValueError, match=f"{name}: "):
            sql.Database(str(empty)).tables()
        (empty / name).unlink()


def test_a_folder_of_other_files_and_types(tmp_path):
    (tmp_path / "A.CSV").write_text("x,y\n1,2\n")
    (tmp_path / "b.tsv").write_text("x\ty\n1\t2\n")
    (tmp_path / "notes.json").write_text("{}")
    when = "select timestamptz '2024-01-01 10:00:00+00' as seen, 3 as n, interval '200000000 months' as far"
    duckdb.connect().execute(f"copy ({when}) to '{tmp_path / 'c.parquet'}' (format parquet)")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "How many?", "answer": "4"}\n')
    with pytest.warns(UserWarning, match="not read: notes.json, questions.jsonl"):
        (task,) = data.read_questions(questions, tmp_path, "train")
    assert json.loads(result(task, {"call": "list_tables", "args": {}, "say": ""})) == ["A", "b", "c"]
    assert json.loads(result(task, query("select a.y + b.y from A a join b using (x)")))["rows"] == [[4]]
    assert json.loads(result(task, query("select seen, n from c")))["rows"] == [["2024-01-01T10:00:00+00:00", 3]]
    (tmp_path / "c.parquet").unlink()  # what was read stays as it is
    assert json.loads(result(task, query("select n from c")))["rows"] == [[3]]


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        data.tasks("test")
