"""The reasoning world: rewards, format rules, answers compared as values, real problem sets."""

import json

import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import actors, answers, base, reasoning
from synth.problems import files
from synth.question import Question

TASKS = reasoning.tasks("train", rounds=2, roots=14)


def question(answer="12", **changes):
    fields = {"id": "q/0", "root": "q", "parent": "", "operator": "", "seed": 0, "round": 0, "env": "reasoning"}
    return Question(**{**fields, "prompt": "How many?", "answer": answer, "source": {}, **changes})


def play(task, *steps, untooled=reasoning.UNTOOLED):
    return base.run(actors.play(reasoning.make(task, untooled), actors.scripted(steps)))


def test_oracles_earn_one_and_the_lazy_do_not():
    assert len({task.id for task in TASKS}) == len(TASKS) > 40
    for task in TASKS[::3]:
        messages, score = base.run(actors.play(reasoning.make(task), reasoning.oracle(task)))
        assert score.reward == 1.0 and score.violations == [] and score.node is None
        assert score.subgoals == {"answer": True, "tool_call": True}
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "assistant"]
        assert play(task, {"say": "Done."})[1].reward == 0.0
        assert play(task, {"say": "Answer: 123456789"})[1].reward == 0.0


@pytest.mark.parametrize(
    ("steps", "reward", "violations"),
    [
        ([{"say": "Answer: 12"}], 0.9, []),
        ([{"call": "python", "args": {"code": "3 * 4"}, "say": ""}, {"say": "So.\nAnswer: 12"}], 1.0, []),
        ([{"call": "python", "args": {"code": "1 / 0"}, "say": ""}, {"say": "Answer: 12"}], 0.9, []),
        ([{"call": "python", "args": {"program": "1"}, "say": ""}, {"say": "Answer: 12"}], 0.9, ["invalid_call"]),
        ([{"call": "search", "args": {}, "say": ""}, {"say": "Answer: 12"}], 0.9, ["invalid_call"]),
        ([{"say": "It is 12."}], 0.0, ["no_answer_line"]),
        ([{"say": "Answer: "}], 0.0, ["no_answer_line"]),
        ([{"say": "Answer: 11 or 12"}], 0.0, ["ambiguous_answer"]),
        ([{"say": "Answer: 11, 12"}], 0.0, ["ambiguous_answer"]),
        ([{"say": "Answer: 11 (or12)"}], 0.0, ["ambiguous_answer"]),
        ([{"say": "Answer: {11, 12}"}], 0.0, []),
        ([{"say": "Answer: 12\nAnswer: 13"}], 0.0, []),
        ([{"say": "Answer: 13\n**Answer: 12**"}], 0.9, []),
        ([{"say": r"So \boxed{12}."}], 0.9, []),
        ([{"say": r"So \boxed{\frac{\sqrt{144}}{\sqrt{1}}}, or \boxed{\{"}], 0.9, []),
        ([{"say": "**Answer:**\n\\boxed{12}"}], 0.9, []),
        ([{"say": "\n" * 200_000 + "*" * 200_000 + "Answer: 12" + " " * 200_000}], 0.9, []),
    ],
)
def test_rewards_and_format_rules(steps, reward, violations):
    _, score = play(question(), *steps)
    assert (score.reward, score.violations) == (reward, violations)


TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=60),  # lone surrogates too
    st.builds(str.__mul__, st.sampled_from(["9", "1/", "*", "{", "\n", "\\boxed{", "("]), st.sampled_from([1, 9000])),
)
ARGUMENTS = st.one_of(TEXTS, st.builds(lambda code: json.dumps({"code": code}), TEXTS))


@given(name=st.sampled_from(["python", "search", ""]), arguments=ARGUMENTS, said=TEXTS, answer=TEXTS)
@settings(max_examples=30, deadline=None)
def test_whatever_a_policy_writes_is_scored(name, arguments, said, answer):
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    messages = [{"role": "assistant", "content": said, "tool_calls": [call]},
                {"role": "assistant", "content": f"{said}\nAnswer: {answer}\n{said}"}]  # fmt: skip

    async def played():
        env = reasoning.make(TASKS[0])
        for message in messages:
            await env.step(message)
        return await env.score()

    assert 0.0 <= base.run(played()).reward <= 1.0


def test_the_reward_without_a_tool_call_can_be_chosen():
    assert play(question(), {"say": "Answer: 12"}, untooled=0.5)[1].reward == 0.5


def test_an_answer_with_or_in_it_is_no_bet_where_the_right_one_has_it():
    _, score = play(question("Trinidad or Tobago"), {"say": "Answer: Trinidad or Tobago"})
    assert (score.reward, score.violations) == (0.9, [])


def test_an_episode_that_never_ends_has_no_answer():
    call = {"call": "python", "args": {"code": "12"}, "say": "Answer: 12"}
    _, score = base.run(actors.play(reasoning.make(question()), actors.scripted([call] * 3), max_turns=3))
    assert (score.reward, score.violations) == (0.0, ["no_answer_line"])


def test_a_step_after_the_end_is_refused():
    async def steps():
        env = reasoning.make(question())
        assert (await env.step({"role": "assistant", "content": "Answer: 1"})).done
        await env.step({"role": "assistant", "content": "Answer: 12"})

    with pytest.raises(RuntimeError, match="q/0: step after the final answer"):
        base.run(steps())


def test_tool_results_reach_the_conversation():
    call = {"call": "python", "args": {"code": "print(5)\n2 ** 10"}, "say": ""}
    messages, _ = play(question(), call, {"say": "Answer: 12"})
    assert messages[3] == {"role": "tool", "tool_call_id": "call_0_0", "content": "5\n1024"}


def test_failures_name_the_operation():
    part = {"kind": "part", "n": 3, "each": {"n": 500, "unit": "grams"}}
    node = {"op": "load", "args": {"empty": 1}, "items": [part], "want": "mass"}
    persona = {"name": "Ada", "trade": "baker", "opening": "", "wording": 0}
    task = question("5/2", source={"problem": {"nodes": [node], "distractors": [], "persona": persona}})
    assert play(task, {"say": "Answer: 2500"})[1].node == "load/unit"
    program = {"call": "python", "args": {"code": "1 + 1.5"}, "say": ""}
    assert play(task, program, {"say": "Answer: 7"})[1].node == "load/answer"
    assert play(question(), {"say": "Answer: 1"})[1].node is None
    assert play(task, program, {"say": f"2.5 {'9' * 5000}/{'9' * 5000}\nAnswer: 7"})[1].node == "load/answer"


@pytest.mark.parametrize(
    ("gold", "given", "equal"),
    [
        ("12", "12", True), ("12", "12.0", True), ("1200", "1,200", True), ("12", "$12", True), ("12", "13", False),
        ("12", "12 euros", True), ("12", "x = 12", True), ("-5", "5", False), ("12", "twelve", False),
        ("3/8", "0.375", True), ("3/8", r"\frac{3}{8}", True), ("3/8", "6/16", True), ("480/37", "12.97", False),
        ("50%", "1/2", True), ("(1, 2)", "(1,2)", True), ("2", "(1, 2)", False), (r"\sqrt{8}", r"2\sqrt{2}", True),
        ("amber", "Amber.", True), ("Ada", r"\text{Ada}", True), ("bramel", "lemarb", False),
        ("2", r"\frac{1}{", False), ("2", "'); import os; ('", False), ("12", "1/0", False),
        ("12", "9**9**9**9", False),
        # dates, times, scores and mixed text are words, not arithmetic
        ("1815-12-10", "1793", False), ("1815-12-10", "1815-12-10", True), ("10:30", "1/3", False),
        ("10:30", "10:30", True), ("2-1", "1", False), ("2-1", "2-1", True), ("12/10/1815", "12/18150", False),
        ("Apollo 11", "11", False), ("Apollo 11", "apollo 11", True), ("2024-Q3", "2024-Q4", False),
        ("p7", "7p", False), ("user_12", "12", False), ("1815", "10 December 1815", False),
        # bets
        ("12", "12|13", False), ("12", "12...13", False), ("12", "12 (or13)", False), ("13", "12=13", False),
        ("12", r"12\text{,}13", False), ("13", r"12 \lor 13", False), ("12", "12~13", False), ("12", "12_13", False),
        ("13", "$12$ $13$", False), ("13", "12 → 13", False),
        ("12", r"12 \pm 0", False), ("13", r"12 \cup 13", False),
        ("13", "12 & 13", False), ("12", "12≈13", False), ("13", "12 = x = 13", False), ("12", r"12\\13", False),
        ("Rome", "Rome or Oslo", False), ("yes", "yes, 12", False),
        ("12", "12 (13", False), ("12", "12!{13}", False), ("12", "12,!13", False), ("12", r"12\left/\%13", False),
        ("12", "12√13", False), ("12", "12·13", False), ("13", r"\boxed{12} \boxed{13}", False), ("5", ".5", False),
        # the same, written otherwise
        ("Trinidad or Tobago", "Trinidad or Tobago.", True), ("7, 8", "7, 8", True), ("B", "(B)", True),
        ("(B)", "b", True), ("(B)", "A", False), ("x+y", "y+x", True), ("x+y", "x-y", False), ("y=2x+1", "1+2x", True),
        (r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2", True), (r"\frac{\sqrt{3}}{2}", r"$\boxed{\frac{\sqrt3}{2}}$", True),
        ("12", r"12\text{ cm}", True), (r"12\text{ cm}", "12", True), ("x = 12", "12", True),
        ("-3", "−3", True), ("7", "7 €", True), ("12", "3·4", True), ("12", r"\(12\)", True),
        (r"\sqrt{8}", "2√2", True), ("-1/2", "-.5", True), ("(-1, 1/2)", r"\left(-1,\, .5\right)", True),
        ("7/12", r"\frac{1}{3}+\dfrac{1}{4}", True),
        (r"[1,2] \cup [3,4]", r"[3,4] \cup [1,2]", True), (r"\text{B}", r"\boxed{\textbf{(B)}}", True),
    ],
)  # fmt: skip
def test_answers_are_compared_by_value(gold, given, equal):
    assert answers.same(gold, given) is equal


def test_real_problem_sets(tmp_path):
    rows = [
        {"question": "Ann has 2 figs and buys 3. How many?", "answer": "2 + 3 = <<2+3=5>>5\n#### 1,005"},
        {"question": "Find $x$.", "answer": r"So $\boxed{\frac{\sqrt{1}}{2}}$."},
        {"question": "AIME", "answer": 204},
    ]
    file = tmp_path / "gsm.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = files.read(file, "heldout")
    assert [q.answer for q in found] == ["1005", r"\frac{\sqrt{1}}{2}", "204"]
    assert [q.id for q in found] == [f"heldout-reasoning-gsm-0000{i}@r0/0" for i in range(3)]
    assert play(found[1], {"say": "Answer: 0.5"})[1].reward == 0.9
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(rows[2]).encode())  # a byte order mark
    other = tmp_path / "other" / "gsm.jsonl"
    other.parent.mkdir()
    other.write_bytes(file.read_bytes())
    both = files.read_all([str(file), str(other)], "train")
    assert [q.id for q in both] == [f"train-reasoning-{name}-00000@r0/0" for name in ("1-gsm", "2-gsm")]
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none.jsonl", "train")
    with pytest.raises(FileNotFoundError, match="no TFDS dataset"):
        files.read(tmp_path, "train")


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ("1,005", "1005"), ("-1,234,567.50", "-1234567.50"), ("$12,000", "$12000"), ("10,000 figs", "10000 figs"),
        ("1,2", "1,2"), ("3, 5", "3, 5"), ("(1, 2)", "(1, 2)"), ("1,23", "1,23"), ("1234,567", "1234,567"),
        ("1,2345", "1,2345"), ("12,345,67", "12,345,67"),
    ],
)  # fmt: skip
def test_commas_are_taken_from_numbers_and_not_from_lists(told, answer):
    assert files.final(f"so\n#### {told}") == answer


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"question": "x"}', "expected answer, a text that is not empty or a number, got None"),
        (b'{"question": null, "answer": "1"}', "expected question, .* got None"),
        (b'{"question": " ", "answer": "1"}', "expected question, .* got ' '"),
        (b'{"question": "x", "answer": true}', "expected answer, .* got True"),
        (b'{"question": "x", "answer": "so 12 ####"}', "expected answer to contain a final answer, got 'so 12 ####'"),
        (b'{"question": "caf\xe9", "answer": "1"}', "not JSON in UTF-8"),
        (b"[" * 100_000, "not JSON in UTF-8"),
        (b"[1]", "expected an object"),
        (b'{"question": "\\ud83d apples?", "answer": "1"}', "not JSON in UTF-8"),
        (b'{"question": "x", "answer": "\\udc00"}', "not JSON in UTF-8"),
        (b'{"question": "x", "answer": NaN}', "not JSON in UTF-8"),
        (b'{"question": "x", "answer": "1", "more": [1e999]}', "not JSON in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_problem_set_is_named(tmp_path, line, message):
    file = tmp_path / "gsm.jsonl"
    file.write_bytes(b"\n" + line)
    with pytest.raises(ValueError, match=f"gsm.jsonl, line 2: {message}"):
        files.read(file, "train")


class Puzzles(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = {"question": tfds.features.Text(), "answer": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(text))

    def _split_generators(self, dl_manager):
        return {"train": ((i, {"question": f"What is {i} + 1?", "answer": str(i + 1)}) for i in range(5))}

    def _generate_examples(self):
        raise NotImplementedError


def test_real_problem_sets_from_tfds(tmp_path):
    builder = Puzzles(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    found = files.read(builder.data_dir, "train")
    assert [(q.prompt, q.answer) for q in found] == [(f"What is {i} + 1?", str(i + 1)) for i in range(5)]


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="reasoning.tasks: unknown split 'test'"):
        reasoning.tasks("test")
