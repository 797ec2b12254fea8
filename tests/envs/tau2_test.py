"""tau2-bench through our environment: oracles, baselines, its own rules and evaluator. Needs a checkout, see
envs/official/tau2_backend.py; what is wrong with a missing one is tested without it."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

MISSING = [name for name in ("TAU2_SRC", "TAU2_DATA_DIR") if not os.environ.get(name)]
needs_checkout = pytest.mark.skipif(bool(MISSING), reason=f"no checkout of tau2-bench: {', '.join(MISSING)} not set")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "the package tau2 of the package index is a different package"),
        ({"TAU2_SRC": "empty", "TAU2_DATA_DIR": "empty"}, "is not of tau2-bench: there is no"),
        ({"TAU2_SRC": "other/src", "TAU2_DATA_DIR": "other/data"}, "whose pyproject.toml says 0.2.1-dev, found 9.9"),
    ],
)
def test_what_is_no_checkout_is_refused(tmp_path, variables, message):
    """Even though a package named tau2 can be imported."""
    (tmp_path / "empty").mkdir()
    for folder in ("tau2", "other/src/tau2", "other/data/tau2"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("tau2", "other/src/tau2"):
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "registry.py").touch()
    (tmp_path / "other" / "pyproject.toml").write_text('name = "tau2"\nversion = "9.9"\n')
    environment = {k: v for k, v in os.environ.items() if k not in ("TAU2_SRC", "TAU2_DATA_DIR")}
    environment |= {name: str(tmp_path / value) for name, value in variables.items()} | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", "import envs.tau2"], env=environment, capture_output=True, text=True)
    assert done.returncode and message in done.stderr.splitlines()[-1]


def play(task, actor):
    from envs import actors, base, tau2

    return base.run(actors.play(tau2.make(task), actor, tau2.MAX_TURNS))


def passed(split, actor_of, every=1):
    from envs import tau2

    found = tau2.tasks(split)[::every]
    return sum(play(task, actor_of(task))[1].reward == 1.0 for task in found), len(found)


@needs_checkout
def test_oracle_and_baselines_in_telecom():
    """A spread of tasks; benchmarks/RESULTS.md has the figures of all."""
    from envs import tau2

    assert len(tau2.tasks("telecom")) == len(tau2.tasks("retail")) == len(tau2.tasks("telecom_solo")) == 114
    assert len(tau2.tasks("airline")) == 50
    for split in ("telecom", "telecom_solo"):
        assert passed(split, tau2.oracle, 19) == (6, 6)
        assert passed(split, tau2.idle, 19) == (0, 6)


@needs_checkout
def test_a_conversation_is_the_official_one():
    """The official system prompt; the user's first words; tool errors as messages; the user ends it."""
    from envs import tau2

    task = tau2.tasks("telecom")[0]

    async def run():
        env = tau2.make(task)
        first = await env.reset()
        assert [m["role"] for m in first] == ["system", "user"] and "<policy>" in first[0]["content"]
        assert all(tool["type"] == "function" for tool in env.tools)
        calls = [
            {"id": f"call_0_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(
                [("no_such_tool", "{}"), ("get_customer_by_phone", "{"), ("get_customer_by_phone", '{"requestor": 1}'),
                 ("__init__", "{}"), ("get_customer_by_phone", json.dumps({"phone_number": "555-123-2002"}))]
            )
        ]  # fmt: skip
        step = await env.step({"role": "assistant", "content": "", "tool_calls": calls})
        assert [m["tool_call_id"] for m in step.messages] == [call["id"] for call in calls] and not step.done
        assert ["Error" in m["content"] for m in step.messages] == [True, True, True, True, False]
        step = await env.step({"role": "assistant", "content": "Goodbye."})
        assert step.done and step.messages[-1]["content"] == "###STOP###"
        score = await env.score()
        assert score.reward == 0.0 and score.subgoals
        with pytest.raises(RuntimeError, match="step after the episode ended"):
            await env.step({"role": "assistant", "content": "Hello?"})

    asyncio.run(run())


@needs_checkout
def test_messages_the_benchmark_has_no_rule_for_end_the_episode():
    from envs import tau2

    async def run(split, message):
        env = tau2.make(tau2.tasks(split)[0])
        await env.reset()
        assert (await env.step(message)).done
        return (await env.score()).violations

    assert asyncio.run(run("telecom", {"role": "assistant", "content": " "})) == ["empty_message"]
    assert asyncio.run(run("telecom_solo", {"role": "assistant", "content": "Hello."})) == ["no_call"]


@needs_checkout
def test_an_unfinished_episode_counts_as_too_long():
    from envs import tau2

    async def run():
        env = tau2.make(tau2.tasks("telecom")[0])
        await env.reset()
        return await env.score()

    score = asyncio.run(run())
    assert (score.reward, score.violations) == (0.0, ["max_steps"])
