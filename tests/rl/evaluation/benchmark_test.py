"""--stage=evaluate: suites, resume to the byte, comparisons, the report; wrong settings are named."""

import json

import pytest

import main
from envs import actors
from envs.base import Score, Step
from rl import setup, stages, trajectory
from rl.evaluation import benchmark, scoreboard, suites
from rl.reports import report
from rl.rollouts import rollout
from synth.question import Question
from tests.support import small_run

pytest.importorskip("bfcl_eval", reason="bfcl-eval is not installed: make setup")

SUITES = "agentic,bfcl/multi_turn_miss_func"


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """evaluate(workdir, **changed keys): the stage on a workdir with the tasks of round 0."""
    policy = small_run.folder(tmp_path_factory.mktemp("benchmark") / "policy")
    parts = []

    def evaluate(workdir, **changes):
        keys = {"rl__sft_steps": 0, "evaluate__suites": SUITES, "evaluate__limit": 3, "evaluate__trials": 2, **changes}
        arguments = [*small_run.arguments(policy, **keys), f"--workdir={workdir}", "--stage=evaluate"]
        config, folder, *_ = main.parse(arguments)
        if not (folder / "tasks").exists():
            stages.synth(config, folder)
            main.save_config(config, folder)
        with pytest.MonkeyPatch.context() as patch:  # the policy is loaded once for all tests
            parts[:] = parts or [setup.build(config)]
            parts[0].config = config
            patch.setattr(setup, "build", lambda config, workdir=None: parts[0])
            stages.evaluate(config, folder)
        return json.loads((folder / "evaluation" / "report.json").read_text())

    return evaluate


@pytest.fixture(scope="module")
def workdir(evaluate, tmp_path_factory):
    """A workdir that has been evaluated with two trials."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    evaluate(folder)
    return folder


def files(workdir):
    return {path.name: path.read_text() for path in (workdir / "evaluation").rglob("*") if path.is_file()}


def test_report_says_what_was_measured(workdir):
    found = json.loads((workdir / "evaluation" / "report.json").read_text())
    assert (found["trials"], found["limit"], found["updates"]) == (2, 3, {"current": 0})
    agentic, bfcl = found["suites"]["agentic/round_0"], found["suites"]["bfcl/multi_turn_miss_func"]
    assert agentic["baselines"]["oracle"] == bfcl["baselines"]["oracle"] == 1.0
    assert agentic["baselines"]["do_nothing"] == bfcl["baselines"]["do_nothing"] == 0.0
    assert agentic["baselines"]["always_transfer"] == 0.0 and bfcl["baselines"]["always_transfer"] is None
    assert agentic["baselines"]["read_then_write"] == 1.0  # round 0 has nothing but linear workflows
    assert bfcl["policies"]["current"]["reasons"] == {"context": 6}  # its prompts are longer than this context
    assert bfcl["policies"]["current"]["mean"] == 0.0 and bfcl["policies"]["current"]["episodes"] == 6
    assert set(agentic["policies"]["current"]["pass_hat"]) == {"1", "2"}


def test_every_episode_is_kept_and_readable(workdir):
    folder = workdir / "evaluation"
    for suite in ("agentic_round_0", "bfcl_multi_turn_miss_func"):
        items = rollout.read(folder / "rollouts" / f"{suite}-current_0.jsonl")
        assert len(items) == 6 and {item.member for item in items} == {0, 1}
        assert len(rollout.read(folder / "rollouts" / f"{suite}-current_0_greedy.jsonl")) == 3
    shown = [report.format_trajectory(record) for record in report.rollouts(folder)]
    assert len(shown) == 18 and any("ended by context" in text for text in shown)


def test_markdown_is_in_the_papers_layout(workdir):
    text = (workdir / "evaluation" / "report.md").read_text()
    assert "| AgenticQwen-8B | 40.5 | 53.5 | 60.3 | 56.0 | 47.5 | 33.5 | 40.5 | 47.4 |" in text
    assert "| **ours, current** | - | - | - | - | 0.0 | - | - | - |" in text
    assert "Only the first 3 tasks of every suite" in text
    assert "| bfcl/multi_turn_miss_func | 100.0 | 0.0 | - | - | - | - |" in text
    heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(heads) > 15 and "pass^2" in text


def test_paper_rows_average_to_the_papers_means():
    """The figures were copied right: six of the seven columns' means are the paper's own, up to its rounding."""
    for name, row in scoreboard.PAPER.items():
        assert len(row) == len(scoreboard.COLUMNS) + 1
        assert sum(row[:-1]) / 7 == pytest.approx(row[-1], abs=0.11), name


def figures(mean, episodes, faults, **more):
    rest = {"low": mean, "high": mean, "reasons": {"ended": episodes, "error": faults}}
    return {"mean": mean, "episodes": episodes, "faults": faults, **rest, **more}


def test_a_rate_that_lacks_episodes_says_so_wherever_it_stands():
    """One trial left of ten is no 100.0 without a word, beside the paper's rows or in any other table."""
    columns = dict.fromkeys(scoreboard.COLUMNS, (10, 0)) | {"tau2 airline": (1, 9), "BFCL-V4 base": (8, 2)}
    found = {
        f"suite/{n}": {
            "tasks": 10, "column": column, "note": "", "comparisons": {},
            "baselines": {"oracle": 1.0, "idle": 0.0}, "baseline_faults": {"idle": 3} if n == 0 else {},
            "policies": {"current": figures(1.0, *counts, greedy=0.5, greedy_faults=n)},
        }
        for n, (column, counts) in enumerate(columns.items())
    }  # fmt: skip
    text = scoreboard.markdown({"trials": 1, "limit": 0, "updates": {"current": 3}, "suites": found})
    cells = "100.0 (9 of 10 faulted) | 100.0 | 100.0 | 100.0 (2 of 10 faulted) | 100.0 | 100.0 | 100.0"
    assert f"| **ours, current** | {cells} | 100.0 (11 of 70 faulted) |" in text
    assert "| suite/0 | 100.0 | 0.0 (3 faulted) |" in text and "| suite/1 | 100.0 | 0.0 |" in text
    assert "| 50.0 |" in text and "| 50.0 (3 faulted) |" in text


class Broken:
    """An environment that fails on some of its tasks."""

    tools: list = []

    def __init__(self, task, closed):
        self.task, self.closed = task, closed

    async def reset(self):
        if self.task.id == "exits":
            raise SystemExit(1)
        return [{"role": "user", "content": "?"}]

    async def step(self, message):
        if self.task.id == "raises":
            raise ConnectionError("gone")
        return Step([], True)

    async def score(self):
        return Score({"outside": 7.0, "none": None, "fails": 0.0}.get(self.task.id, 1.0), {}, [])

    def close(self):
        self.closed.append(self.task.id)


def test_a_baseline_whose_environment_fails_is_counted(capsys):
    """Of six episodes two have a reward, and one of them passes; all environments are closed."""
    tasks = [
        Question(n, n, "", "", 0, 0, "data", "", "", {}) for n in ("exits", "raises", "outside", "none", "fails", "a")
    ]
    closed = []
    suite = suites.Suite(
        "x/y", tasks, None, 3, 0, {"idle": lambda task: actors.scripted([])}, lambda task: Broken(task, closed)
    )
    assert benchmark._baseline(suite, "idle") == (0.5, 4)
    assert closed == [task.id for task in tasks]
    assert "x/y, idle: exits faulted: SystemExit(1)" in capsys.readouterr().out


def test_killed_evaluation_ends_as_if_nothing_had_happened(evaluate, workdir, tmp_path):
    """Episodes are lost, one is torn, one had a fault; more trials add to what is there."""
    reference = files(workdir)
    evaluate(tmp_path / "run", evaluate__trials=1)
    for path in (tmp_path / "run" / "evaluation" / "rollouts").glob("*.jsonl"):
        first, *_ = lines = path.read_text().splitlines(keepends=True)
        record = json.loads(first)
        record["score"] |= {"reward": None, "error": "down"}
        record["reason"] = trajectory.ERROR
        path.write_text(json.dumps(record) + "\n" + lines[1] + lines[2][:40])
    baselines = tmp_path / "run" / "evaluation" / "baselines.json"
    known = json.loads(baselines.read_text())
    baselines.write_text(json.dumps({next(iter(known)): next(iter(known.values()))}))
    evaluate(tmp_path / "run")
    again = files(tmp_path / "run")
    assert again.keys() == reference.keys()
    assert (again["report.json"], again["report.md"]) == (reference["report.json"], reference["report.md"])
    for name in reference:
        if name.endswith(".jsonl"):
            assert sorted(again[name].splitlines()) == sorted(reference[name].splitlines())


def test_comparison_with_another_workdir(evaluate, workdir, tmp_path):
    """The same policy elsewhere differs in nothing; a suite that was not measured there is named."""
    suite = {"evaluate__suites": "agentic", "evaluate__against": str(workdir)}
    found = evaluate(tmp_path / "run", **suite)
    ((name, figures),) = found["suites"]["agentic/round_0"]["comparisons"].items()
    assert name == f"current - {workdir}" and (figures["mean"], figures["p_value"]) == (0.0, 1.0)
    assert name in (tmp_path / "run" / "evaluation" / "report.md").read_text()
    with pytest.raises(ValueError, match="bfcl/multi_turn_base has not been evaluated there"):
        evaluate(tmp_path / "run", **{**suite, "evaluate__suites": "bfcl/multi_turn_base"})


def test_other_settings_want_another_folder(evaluate, workdir):
    with pytest.raises(ValueError, match="evaluate.bfcl_form = 'chat', but .* was made with 'qwen_fc'"):
        evaluate(workdir, evaluate__bfcl_form="chat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agentik", "unknown suite 'agentik', expected some of agentic, bfcl, tau2"),
        ("bfcl,bfcl", "names a suite twice"),
        ("", "unknown suite ''"),
    ],
)
def test_wrong_suites_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        suites.parse(text)


def test_missing_parts_of_suites_are_named(evaluate, workdir, tmp_path):
    with pytest.raises(ValueError, match="no suite 'bfcl/base', there are bfcl/multi_turn_base, "):
        evaluate(workdir, evaluate__suites="bfcl/base")
    (tmp_path / "run" / "tasks").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no tasks; run --stage=synth"):
        evaluate(tmp_path / "run", evaluate__suites="agentic")
