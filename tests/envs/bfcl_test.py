"""BFCL multi-turn: oracles, the official loop and grading as reference, isolation of episodes."""

import asyncio
import concurrent.futures
import contextlib
import decimal
import functools
import json
import random
import re
import subprocess
import sys

import mpmath
import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

bfcl = pytest.importorskip("envs.bfcl", reason="bfcl-eval is not installed: make setup", exc_type=ImportError)

from bfcl_eval.eval_checker.multi_turn_eval.func_source_code import long_context  # noqa: E402

from envs import actors, base  # noqa: E402
from envs.official import bfcl_backend  # noqa: E402
from model.text import chat as chat_lib  # noqa: E402
from model.text import tokenizer as tokenizer_lib  # noqa: E402
from tests.support import bfcl_official as official  # noqa: E402
from tests.support.bfcl_play import SPREAD, TURNS, call, left_behind, play, say, truth  # noqa: E402

# --- tasks and oracles ----------------------------------------------------------------------------


@pytest.mark.parametrize("split", bfcl.CATEGORIES)
def test_tasks_are_the_packages(split):
    """Questions, tools, held-out tools and ground truth as its own loader gives them."""
    found, entries = bfcl.tasks(split), official.entries(split)
    assert len(found) == len(entries) == 200
    for task, entry, answer in zip(found, entries, official.truths(split)):
        assert (task.id, task.entry["question"], task.functions) == (entry["id"], entry["question"], entry["function"])
        assert {str(turn): tools for turn, tools in task.revealed.items()} == entry.get("missed_function", {})
        assert (task.id, task.truth) == (answer["id"], answer["ground_truth"])
    assert len({task.root for task in found}) == 200


def test_unknown_splits_and_forms_are_named():
    with pytest.raises(ValueError, match="unknown split 'base', expected one of multi_turn_base"):
        bfcl.tasks("base")
    with pytest.raises(ValueError, match="unknown form 'fc', expected one of qwen_fc, chat"):
        bfcl.make(SPREAD[0], "fc")


@pytest.mark.parametrize("split", bfcl.CATEGORIES)
def test_oracle_passes_everything_and_doing_nothing_fails_everything(split):
    for number, task in enumerate(bfcl.tasks(split)):
        env = bfcl.make(task, bfcl.FORMS[number % 2])
        _, score = base.run(actors.play(env, bfcl.oracle(task), TURNS))
        assert score.reward == 1.0 and not score.violations, (task.id, score)
        _, score = base.run(actors.play(bfcl.make(task), actors.scripted([]), TURNS))
        assert score.reward == 0.0 and score.violations, task.id
    assert not left_behind()


def test_chat_form_gives_openai_schemas():
    """Types are JSON schema's, names and descriptions the package's; a schema validates the oracle's calls."""
    task = bfcl.tasks("multi_turn_miss_func")[0]
    with contextlib.closing(bfcl.make(task, "chat")) as env:
        tools = env.tools
    assert [t["function"]["name"] for t in tools] == [f["name"] for f in task.functions]
    assert all(t["type"] == "function" and t["function"]["parameters"]["type"] == "object" for t in tools)
    ls = next(t["function"] for t in tools if t["function"]["name"] == "ls")
    assert ls["parameters"]["properties"]["a"]["type"] == "boolean" and ls["parameters"]["required"] == []
    _, answers = play(task, truth(task), "chat")
    revealed = next(a[0]["content"] for a in answers if a and "updated some more functions" in a[0]["content"])
    assert json.loads(revealed.split("\n")[0])[0]["function"]["name"] == "sort"


# --- the official loop as reference ---------------------------------------------------------------


def hermes(message):
    """An assistant message as a Qwen model writes it."""
    calls = [
        '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'.format(*one["function"].values())
        for one in message.get("tool_calls", ())
    ]
    return "\n".join([message["content"]] * bool(message["content"]) + calls)


def altered(task, rng):
    """The oracle's messages with calls dropped, repeated, split, changed and mixed with others; some never stop."""
    names = [f["name"] for f in task.functions]
    found = []
    for message in truth(task):
        pairs = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls", ())]
        kind = rng.choice(["as it is"] * 6 + ["drop", "repeat", "split", "change", "other", "unknown", "loop", "words"])
        if kind == "drop" and pairs:
            pairs.pop(rng.randrange(len(pairs)))
        elif kind == "repeat":
            pairs *= 2
        elif kind == "split":
            found += [call(pair) for pair in pairs[:-1]]
            pairs = pairs[-1:]
        elif kind == "change" and pairs and pairs[0][1]:
            pairs[0][1][rng.choice(list(pairs[0][1]))] = rng.choice(["x", 7, None, [1], {"a": True}, "it's so"])
        elif kind == "other":
            pairs.append((rng.choice(names), {}))
        elif kind == "unknown":
            pairs.append(("fly_to_the_moon", {"when": "now"}))
        elif kind == "loop":
            found += [call((rng.choice(["ls", "pwd", "mean"]), {}))] * rng.choice([3, 19, 20, 21])
        found.append(call(*pairs) if pairs else say("I think that is all."))
    return found


def qwen_chat():
    """Our chat format with Qwen3's template on the tiny vocabulary."""
    tiny = tokenizer_lib.load("model/tiny_qwen3")
    backend = tokenizers.Tokenizer.from_str(tiny.backend_tokenizer.to_str())
    return chat_lib.Chat(
        PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>",
            chat_template=official.chat_template(),
        )
    )  # fmt: skip


def ours(task, texts, chat):
    """(prompts, whether it passes) of an episode as rollouts play it, when the policy says these texts."""

    async def run():
        with contextlib.closing(bfcl.make(task)) as env:
            prompts = [chat.tokenizer.decode(chat.prompt(await env.reset(), env.tools))]
            for turn, text in enumerate(texts):
                sampled = chat.tokenizer.encode(text + "<|im_end|>")
                step = await env.step(chat.parse(sampled, turn))
                if step.done:
                    break
                prompts.append(prompts[-1] + chat.tokenizer.decode(sampled + chat.increment(step.messages)))
            return prompts, (await env.score()).reward == 1.0

    return asyncio.run(run())


def test_episodes_equal_the_official_loops():
    """Same prompts at every step and the same verdict as the package's loop, Qwen handler and grading.

    Left out of prompts: thinking blocks, which that handler puts into the history and we into the generation prompt,
    and the newline between calls, which it loses where a call equals the first.
    """
    plain = functools.partial(re.sub, r"<think>\n\n</think>\n\n|(?<=</tool_call>)\n(?=<tool_call>)", "")
    chat, rng, passed = qwen_chat(), random.Random(0), []
    for task in SPREAD * 2:
        texts = [hermes(message) for message in altered(task, rng)] + ["Done."] * 20
        prompts, valid = official.play(task.id, texts)
        our_prompts, our_valid = ours(task, texts, chat)
        assert our_valid == valid, task.id
        assert [*map(plain, our_prompts)] == [*map(plain, prompts)], task.id
        passed.append(valid)
    assert 0.2 < sum(passed) / len(passed) < 0.8


def test_unreadable_calls_end_a_turn_as_in_the_official_loop():
    task = bfcl.tasks("multi_turn_base")[0]
    chat = qwen_chat()
    broken = '<tool_call>\n{"name": "ls", "arguments": {\n</tool_call>'
    for first in ([], [broken], [broken + "\n" + '<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call>']):
        texts = first + [hermes(message) for message in truth(task)] + ["Done."] * 9
        prompts, valid = official.play(task.id, texts)
        our_prompts, our_valid = ours(task, texts, chat)
        assert (valid, len(prompts)) == (our_valid, len(our_prompts))
        assert valid == (first != [broken])


# --- isolation ------------------------------------------------------------------------------------


def test_grading_does_not_depend_on_order_company_or_threads():
    """Altered episodes played one by one, in reverse, interleaved in threads: the same scores and answers."""
    rng = random.Random(1)
    episodes = [(task, altered(task, rng)) for task in SPREAD]
    alone = [play(*episode) for episode in episodes]
    assert 0 < sum(score.reward for score, _ in alone) < len(alone)
    assert [play(*episode) for episode in reversed(episodes)] == alone[::-1]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(play, *episode) for episode in episodes * 2]
        assert [future.result() for future in futures] == alone * 2
    assert not left_behind()


def test_long_contexts_do_not_write_to_the_packages_constants():
    """Booking with a card that comes from a module constant must not charge it in other episodes."""
    task = next(t for t in bfcl.tasks("multi_turn_long_context") if "TravelAPI" in t.entry["involved_classes"])
    card, info = next(iter(long_context.CREDIT_CARD_EXTENSION.items()))
    before = info["balance"]
    with contextlib.closing(bfcl.make(task)) as env:
        travel = env._session._instances["TravelAPI"]
        assert card in travel.credit_card_list
        travel.credit_card_list[card]["balance"] -= 1
        assert info["balance"] == before


def test_precisions_are_put_back():
    before = mpmath.mp.dps, decimal.getcontext().prec
    logarithm, root = ("logarithm", {"value": 2, "base": 10, "precision": 40}), {"number": 2, "precision": 50}
    task = next(t for t in bfcl.tasks("multi_turn_base") if "MathAPI" in t.entry["involved_classes"])
    _, answers = play(task, [call(logarithm, ("square_root", root))])
    assert len(answers[0][0]["content"]) > 40 and len(answers[0][1]["content"]) > 50
    assert (mpmath.mp.dps, decimal.getcontext().prec) == before


def test_importing_creates_no_folders():
    """The package makes folders beside itself when its configuration is imported; the backend does without."""
    program = "import sys, envs.bfcl; assert 'bfcl_eval.constants.eval_config' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert bfcl_backend.STEP_LIMIT == 20
