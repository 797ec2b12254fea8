"""What is read from the files of tau2-bench, from a checkout as small as can be."""

import json

import pytest

from envs.official import tau2_files

TOOLS = '''
class Tools:
    @is_tool(ToolType.READ)
    def look(self, order_id: str, limit: int = 12) -> str:
        """Look at an order.

        Args:
            order_id: Such as 'W1'.
            limit: At most so many.

        Returns:
            order_id: nothing of interest.
        """

    @is_tool(ToolType.WRITE)
    def move(self, items: List[Item | dict], how: Way, to: Optional[str], notes: list[str]):
        pass

    def _helper(self, text: str):
        pass
'''
TASKS = [
    {
        "id": name,
        "user_scenario": {"instructions": {
            "reason_for_call": "You want it moved.", "known_info": "You are Ada.", "unknown_info": None,
            "task_instructions": "Be brief.",
        }},
        "evaluation_criteria": {"actions": [
            {"name": "look", "arguments": {"order_id": "W1"}}, {"name": "move", "arguments": {"items": ["W1"]}},
            {"name": "restart", "arguments": {}, "requestor": "user"},
        ]},
    }
    for name in ("a", "b")
]  # fmt: skip


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    data, source = tmp_path / "data/tau2/domains/retail", tmp_path / "src/tau2/domains/retail"
    data.mkdir(parents=True)
    source.mkdir(parents=True)
    (data / "policy.md").write_text("Move nothing twice.")
    (data / "tasks.json").write_text(json.dumps(TASKS))
    (data / "split_tasks.json").write_text(json.dumps({"base": ["b"]}))
    orders = {"W1": {"order_id": "W1", "items": [{"n": 1}]}, "W2": {"order_id": "W2"}}
    (data / "db.json").write_text(json.dumps({"orders": orders}))
    (source / "tools.py").write_text(TOOLS)
    (source / "data_model.py").write_text('Way = Literal["fast", "slow"]\n')
    monkeypatch.setenv("TAU2_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TAU2_SRC", str(tmp_path / "src"))
    return data


def test_tools_are_read_from_their_signatures(checkout):
    (look, move), writes = tau2_files.tools("retail")
    assert writes == ["move"]
    assert look["function"]["description"] == "Look at an order."
    assert look["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "order_id": {"type": "string", "description": "Such as 'W1'."},
            "limit": {"type": "integer", "description": "At most so many."},
        },
        "required": ["order_id"],
    }
    kinds = {name: {k: v for k, v in schema.items() if k != "description"}
             for name, schema in move["function"]["parameters"]["properties"].items()}  # fmt: skip
    assert kinds == {
        "items": {"type": "array", "items": {"type": "object"}},
        "how": {"enum": ["fast", "slow"]},
        "to": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
    }


def test_the_base_split_is_read_and_what_is_missing_left_out(checkout, monkeypatch):
    assert [task["id"] for task in tau2_files.tasks(checkout)] == ["b"]
    assert tau2_files.policy(checkout) == "Move nothing twice." and len(tau2_files.records(checkout)) == 2
    (checkout / "tasks.json").rename(checkout / "tasks_small.json")
    (checkout / "split_tasks.json").unlink()
    (checkout / "db.json").unlink()
    assert len(tau2_files.tasks(checkout)) == 2 and tau2_files.records(checkout) == {}
    (checkout / "db.toml").write_text('[[orders]]\norder_id = "W7"\n')
    assert tau2_files.records(checkout) == {"W7": {"order_id": "W7"}}
    assert tau2_files.folder("airline") is None
    monkeypatch.delenv("TAU2_SRC")
    assert tau2_files.tools("retail") == ([], [])
    monkeypatch.delenv("TAU2_DATA_DIR")
    assert tau2_files.folder("retail") is None
