"""Our tasks beside those of benchmarks."""

import pytest

from model.text import tokenizer
from model.text.chat import Chat
from rl.reports import realism
from tests.envs.tau2_files_test import checkout  # noqa: F401  a fixture
from tests.support import small_run


def test_bfcl_is_measured_where_it_is_installed():
    pytest.importorskip("bfcl_eval")
    found = realism.bfcl(Chat(tokenizer.load(small_run.TINY)))["BFCL multi-turn"]
    assert found["tasks"] == 200 and found["policy_words"] is None and found["record_fields"] is None
    assert found["tools"]["low"] == 18 and found["prompt_tokens"]["low"] > 1000
    assert found["oracle_turns"]["mean"] < found["oracle_calls"]["high"] and found["distinct_words"]["mean"] > 1000


def test_tau2_is_measured_where_its_data_is(checkout, monkeypatch):  # noqa: F811
    chat = Chat(tokenizer.load(small_run.TINY))
    found = realism.tau2(chat)["tau2 retail"]
    means = {name: found[name] and found[name]["mean"] for name in found if name != "tasks"}
    assert found["tasks"] == 1 and means.pop("prompt_tokens") > 100
    assert means == {
        "policy_words": 3, "tools": 2, "arguments_a_tool": 3, "arguments_a_write": 4, "tools_with_array": 0.5,
        "tools_with_object": 0.5, "tools_with_enum": 0.5, "tools_with_optional": 0.5, "record_fields": 2,
        "record_depth": 3, "record_leaves": 2, "script_words": 9, "first_message_words": 4, "oracle_turns": None,
        "oracle_calls": 2, "oracle_distinct_tools": 2, "distinct_words": None, "distinct_2": None,
    }  # fmt: skip
    monkeypatch.delenv("TAU2_DATA_DIR")
    assert realism.tau2(chat) == {}


def test_the_table_has_a_column_for_each_source_and_names_what_is_off():
    same = {"mean": 1200, "low": 1200, "high": 1200}
    none = dict.fromkeys(realism.NAMES)
    columns = {
        "written": {**none, "tasks": 7, "policy_words": same, "tools": {"mean": 7.5, "low": 7, "high": 8},
                    "businesses": 2, "shared": {"tool_names": 0.125}},
        "tau2 retail": {**none, "tasks": 114, "policy_words": {"mean": 9, "low": 9, "high": 9}},
    }  # fmt: skip
    lines = realism.table(columns).split("\n")
    assert lines[:3] == ["|  | written | tau2 retail |", "|---|---|---|", "| tasks | 7 | 114 |"]
    assert lines[3:5] == ["| policy words | 1,200 | 9 |", "| tools | 7.5 (7 to 8) | - |"]
    assert lines[-2:] == ["| businesses | 2 | - |", "| shared tool names | 0.125 | - |"]
    assert realism.off(columns) == ["written: tools 7.5, tau2 retail 16"]
