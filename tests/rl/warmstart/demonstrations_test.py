"""Demonstrations: oracles earn everything, flaws appear at their rates, exactly the agent's tokens are trained on."""

import functools
import math
import re
from pathlib import Path

import pytest

from envs import world
from model.text import tokenizer
from model.text.chat import Chat
from rl import trajectory
from rl.warmstart import demonstrations
from synth import operators
from synth.inversion import script
from synth.trees import domains, workflow

TOKENIZER = Path(__file__).parents[3] / "model" / "tiny_qwen3"
COUNT = 150  # demonstrations that a rate is measured on


@functools.cache
def chat():
    return Chat(tokenizer.load(TOKENIZER))


@functools.cache
def tasks(names="guard,hidden,missing,confirm", growth=3):
    """Tasks of the base split; `growth` operators of `names` at most."""
    flows = workflow.roots("base", 20, domains.select("all"), 0)
    chosen = operators.select(names)
    return [demonstrations.draw_task(flows, chosen, growth, 0, index) for index in range(2 * COUNT)]


def called(task, *names):
    """Whether the oracle calls one of these tools."""
    return any(step.get("call") in names for step in task.oracle)


def spoken(item):
    """The conversation as the tokenizer's own template renders it."""
    return chat().tokenizer.apply_chat_template(item.messages, tools=item.tools, tokenize=False)


def test_oracle_demonstrations_earn_everything():
    for task in tasks()[:80]:
        item = demonstrations.demonstrate(task, {}, chat(), seed=0)
        assert (item.reward, item.passed, item.reason) == (1.0, True, trajectory.ENDED), task.id
        assert item.task_id == task.id and item.tools == task.tools
        assert item.turns == len(task.oracle) == sum(m["role"] == "assistant" for m in item.messages)
        assert item.messages[0]["content"] == task.policy


@pytest.mark.parametrize("rates", [{}, dict.fromkeys(script.FLAWS, 0.3)], ids=["oracle", "sloppy"])
def test_the_loss_mask_covers_exactly_the_turns_of_the_agent(rates):
    for task in tasks()[:40]:
        item = demonstrations.demonstrate(task, rates, chat(), seed=0)
        assert len(item.tokens) == len(item.loss_mask) == len(item.logprobs)
        assert set(item.loss_mask) == {0, 1} and set(item.logprobs) == {0.0}
        text = spoken(item)
        last = [m["role"] for m in item.messages][::-1].index("assistant")
        assert last <= 1, "at most one answer stands after the last turn"
        # The conversation ends with the last turn of the agent; what the world answered then is not trained on.
        end = text.rindex("<|im_end|>", 0, text.rindex("<|im_start|>") if last else None)
        assert decode(item.tokens) == text[: end + len("<|im_end|>")]
        turns = re.findall(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", text, re.DOTALL)
        assert [decode(run) for run in masked_runs(item)] == turns
        assert len(turns) == item.turns


def decode(tokens):
    return chat().tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def masked_runs(item):
    """The stretches of tokens under the loss mask, in order."""
    found, inside = [], False
    for token, mask in zip(item.tokens, item.loss_mask):
        if mask and not inside:
            found.append([])
        if mask:
            found[-1].append(token)
        inside = bool(mask)
    return found


def share(flaw, rate, chosen):
    """The share of demonstrations of these tasks that are not paid in full when one decision goes wrong at `rate`."""
    rewards = [demonstrations.demonstrate(task, {flaw: rate}, chat(), seed=0).reward for task in chosen[:COUNT]]
    assert len(rewards) > COUNT // 3
    return sum(reward < 1.0 for reward in rewards) / len(rewards), len(rewards)


# flaw -> tasks in which it can go wrong in exactly one place
APPLIES = {
    "skip_read": lambda: tasks("confirm", 0),
    "misjudge": lambda: [t for t in tasks("guard", 1) if t.tree["children"][0]["node"]["kind"] == "guard"],
    "skip_ask": lambda: [t for t in tasks("missing", 1) if t.user["withheld"]],
    "skip_confirm": lambda: [t for t in tasks("confirm", 1) if t.tree["children"][0]["node"]["kind"] == "confirm"],
    "refuse": lambda: tasks("missing", 1),
    "swap_control": lambda: [t for t in tasks("guard", 1) if called(t, "decline", "transfer")],
    "quit": lambda: [t for t in tasks() if called(t, "decline", "transfer") or t.legal],
}


@pytest.mark.parametrize("flaw", script.FLAWS)
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_flaws_appear_at_about_their_rates(flaw, rate):
    found, count = share(flaw, rate, APPLIES[flaw]())
    assert abs(found - rate) <= 3 * math.sqrt(rate * (1 - rate) / count), (found, count)


def test_flaws_show_in_what_the_agent_does():
    def transcript(flaw):
        task = APPLIES[flaw]()[0]
        item = demonstrations.demonstrate(task, {flaw: 1.0}, chat(), seed=0)
        names = [c["function"]["name"] for m in item.messages for c in m.get("tool_calls", ())]
        return task, names, [m["content"] for m in item.messages if m["role"] == "assistant"]

    assert not [name for name in transcript("skip_read")[1] if name.startswith("get_")]
    assert not [text for text in transcript("skip_ask")[2] if text.startswith("Which")]
    assert not [text for text in transcript("skip_confirm")[2] if "confirm" in text]
    assert transcript("refuse")[1][-1] in ("decline", "transfer")
    assert not {"decline", "transfer"} & set(transcript("quit")[1]) and transcript("quit")[2][-1] == "Done."
    task, names, _ = transcript("swap_control")
    assert {names[-1], next(s["call"] for s in task.oracle[::-1] if "call" in s)} == {"decline", "transfer"}
    task, names, texts = transcript("misjudge")
    said = next(text for text in texts if "rule" in text)
    guard = task.tree["children"][0]["node"]
    taken_to_hold = task.branch[-1] == guard["children"][1]["node"]["id"]
    assert said.endswith(f", else {guard['spec']['otherwise']}: {'yes' if taken_to_hold else 'no'}.")


def test_demonstrations_are_a_function_of_seed_and_index():
    task = tasks()[7]
    rates = dict.fromkeys(script.FLAWS, 0.5)
    first = demonstrations.demonstrate(task, rates, chat(), seed=0)
    assert demonstrations.demonstrate(task, rates, chat(), seed=0) == first
    others = [demonstrations.demonstrate(task, rates, chat(), seed=seed).tokens for seed in range(1, 9)]
    assert any(tokens != first.tokens for tokens in others)
    flows = workflow.roots("base", 20, domains.select("all"), 0)
    chosen = operators.select("guard,hidden,missing,confirm")
    assert demonstrations.draw_task(flows, chosen, 3, 0, 7) == task
    assert demonstrations.draw_task(flows, chosen, 3, 1, 7) != task


def test_drawn_tasks_are_mixed():
    drawn = tasks()
    assert {task.round for task in drawn} == {0, 1, 2, 3}
    assert all(task.root.startswith("base-") for task in drawn)
    able = [task for task in drawn if "else" in task.policy]
    assert 0.35 < sum(task.legal for task in able) / len(able) < 0.65
    assert len({task.id for task in drawn}) == len(drawn)
    assert all(world.reward(task, task.oracle) == 1.0 for task in drawn[:30])


def test_demonstrations_that_do_not_fit_are_replaced():
    items = [demonstrations.demonstrate(task, {}, chat(), seed=0) for task in tasks()[:60]]
    length = sorted(len(item.tokens) for item in items)[30]
    found = demonstrations.fitting(lambda index, _: items[index], 10, 5, length)
    assert found == [item for item in items[5:] if len(item.tokens) <= length][:10]


def test_a_row_into_which_no_demonstration_fits_is_refused(monkeypatch):
    monkeypatch.setattr(demonstrations, "MOST_TOO_LONG", 20)
    items = [demonstrations.demonstrate(task, {}, chat(), seed=0) for task in tasks()[:20]]
    shortest = min(len(item.tokens) for item in items)
    with pytest.raises(ValueError, match=f"rl.row_length = {shortest - 1}: 20 demonstrations .* {shortest} to "):
        demonstrations.fitting(lambda index, _: items[index % 20], 4, 0, shortest - 1)


def test_parse_flaws():
    assert script.parse_flaws("") == {}
    assert script.parse_flaws(" skip_read=0.3, quit=1 ,") == {"skip_read": 0.3, "quit": 1.0}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("skip_lunch=0.1", "unknown flaw 'skip_lunch', expected some of skip_read"),
        ("quit=often", "'quit=often', expected name=rate"),
        ("quit", "'quit', expected name=rate"),
        ("quit=1.5", r"rate of quit must be in \[0, 1\], got 1.5"),
        ("quit=-0.1", "rate of quit must be in"),
        ("quit=nan", "rate of quit must be in"),
        ("skip_read=0.1,=0.2", "unknown flaw ''"),
    ],
)
def test_parse_flaws_names_the_fault(text, named):
    with pytest.raises(ValueError, match=f"rl.sft_flaws: .*{named}"):
        script.parse_flaws(text)
