"""Runs one stage of AgenticQwen on a workdir.

    ./run main.py --config=FILE[:arg] --workdir=DIR [--stage=STAGE] [--config.section.key=value ...]

stages
  flywheel   the whole loop: tasks, RL, evaluation, harder tasks from the failures, and again (the default)
  synth      only write task datasets: round 0's, or as many rounds as synth.rounds says; with synth.dry_run only
             say what a language model as teacher will cost
  sft        only the supervised warm start
  rl         only the RL of the current round
  evaluate   only measure the run's policies: on its held-out tasks, on benchmarks (--config.evaluate.suites)
  compare    losses and gradients of several algorithms on recorded episodes, without sampling
  serve      the newest policy behind an OpenAI-compatible endpoint, until it is told to stop
  plan       compile for a TPU slice that is not there and say what it needs (no --workdir)

A killed run goes on from its last checkpoint when the same command is given again. --only_check_args checks the command
line and runs nothing. --help=SECTION prints the config keys of a section, with their defaults and what they mean;
--help=all prints those of every section. Exit statuses are in docs/running.md.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import config_dict

from configs import changes, describe, validate
from rl import command_line, endings
from rl import workdir as runs
from synth import operators, question, registers
from synth.inversion import script

STAGES = ("flywheel", "synth", "sft", "rl", "evaluate", "compare", "serve", "plan")
WORKDIR = "the folder of this run, for example --workdir=runs/tiny"
FLAGS = (
    ("workdir", "", WORKDIR),
    ("stage", "flywheel", "what to run: " + ", ".join(STAGES)),
)
Command = tuple[config_dict.ConfigDict, Path, str, bool]


def parse(argv: Sequence[str]) -> Command:
    """Returns (config, workdir, stage, only_check_args). Raises ValueError naming whatever is wrong."""
    values = command_line.parse(argv, FLAGS)
    if values.stage not in STAGES:
        raise ValueError(f"--stage={values.stage}: no such stage; {command_line.did_you_mean(values.stage, STAGES)}")
    validate.validate(values.config, values.stage)
    registers.select(
        values.config.synth.register, values.config.synth.domains
    )  # wrong names fail here, before the workdir keeps them
    operators.select(values.config.synth.operators)
    if values.config.reasoning.rounds:
        check_reasoning(values.config)
    flaws = question.SLIPS if values.config.rl.sft_flywheel == "reasoning" else script.FLAWS
    script.parse_flaws(values.config.rl.sft_flaws, flaws)
    if values.config.synth.runner == "beam":
        from rl.rounds import candidates  # not at the top: no other run needs it

        candidates.require_beam()
    if values.stage == "evaluate":
        from rl.evaluation import suites  # not at the top: no other stage needs the environments it imports

        suites.parse(values.config.evaluate.suites)
    if not values.workdir and values.stage != "plan":
        raise ValueError(f"--workdir is missing: {WORKDIR}")
    workdir = Path(values.workdir).absolute()
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir={workdir}: is a file, not a folder")
    if values.stage != "plan":
        check_workdir(values.config, workdir, values.stage)
    if values.stage == "serve":
        from rl.serving import access  # not at the top: no other stage needs it

        access.api_key(values.config)
    if "llm" in (values.config.synth.teacher, values.config.rl.reward):
        from rl.rounds import clients  # not at the top: no other run needs the OpenAI client

        clients.require_key(values.config, values.stage)
    return values.config, workdir, values.stage, values.only_check_args


def check_reasoning(config: config_dict.ConfigDict) -> None:
    """Raises ValueError for names of problem families, operators or worlds that there are not."""
    from synth.problems import catalogue  # not at the top: sympy, which problems need, takes its time
    from synth.problems import operators as problem_operators

    catalogue.select(config.reasoning.families)
    problem_operators.select(config.reasoning.operators)
    question.parse_weights(config.reasoning.weights)


def check_workdir(config: config_dict.ConfigDict, workdir: Path, stage: str) -> str:
    """One line on what the config changes in a run that is under way, "" if that is nothing; see configs/changes.py.

    Raises ValueError naming the keys in which the config differs from the one the workdir was made with and may not.
    Everything may change as long as nothing has been produced in the workdir. Also raises ValueError if its
    config.json cannot be read.
    """
    made_with = runs.config(workdir)
    if made_with is None:
        return ""
    found = changes.between(dict(validate.leaves(made_with)), dict(validate.leaves(config)), stage)
    if found.refused:
        raise ValueError(
            f"--workdir={workdir} was made with another config: {', '.join(found.refused)}; use another workdir, "
            f"or the config of this one: --config=configs/saved.py:{workdir}"
        )
    return found.told()


def save_config(config: config_dict.ConfigDict, workdir: Path) -> None:
    """Writes the resolved config to workdir/config.json, in one rename."""
    workdir.mkdir(parents=True, exist_ok=True)
    partial = workdir / ".config.json"
    partial.write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")
    os.replace(partial, workdir / runs.CONFIG_FILE)


def stage_function(stage: str) -> Callable[[config_dict.ConfigDict, Path], None]:
    """The function that runs a stage. Imported here, so that a mistyped command fails before jax is loaded."""
    if stage == "flywheel":
        from rl import flywheel

        return flywheel.run
    from rl import stages

    return getattr(stages, stage)


def main(argv: Sequence[str]) -> int:
    """Checks the command line, then runs the stage. Returns the exit status; rl/endings.py has the table."""
    return endings.run("main.py", lambda: _main(argv))


def _main(argv: Sequence[str]) -> int:
    """`main`, but what is wrong is raised."""
    if {"-h", "--help", "--helpfull"} & set(argv):
        print(f"{__doc__}\nsections: {', '.join(describe.sections())}")
        return endings.DONE
    if section := next((a.partition("=")[2] for a in argv if a.startswith("--help=")), None):
        print(describe.text(section))
        return endings.DONE
    config, workdir, stage, only_check = parse(argv)
    if only_check:
        return endings.DONE
    if stage == "serve":
        endings.unwatch()  # it ends when it is told to, see rl/serving/serve.py
    os.chdir(validate.REPOSITORY)  # model.checkpoint may be relative to it
    if stage == "plan":
        sys.path.append(str(validate.REPOSITORY / ".venv" / "tpu"))  # where make puts libtpu, see the Makefile
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # it compiles for a TPU and must not wait for one
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # nor ask the network which TPU this machine is
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several plans at a time, and any after a killed one
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TFDS and XLA: warnings only
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is absent is no news
    from rl import hosts  # imports jax, which a mistyped command need not wait for

    if stage != "plan":
        hosts.initialize(config.mesh.processes)
    endings.writing_to(workdir)
    reads = stage in ("evaluate", "compare")
    with contextlib.ExitStack() as held:
        if stage not in runs.UNLOCKED and not config.synth.dry_run and hosts.first():
            held.enter_context(runs.locked(workdir, stage))
        # Again, now that nobody writes there.
        changed = "" if stage == "plan" else check_workdir(config, workdir, stage)
        leaves_as_it_was = (
            stage in ("plan", "serve") or config.synth.dry_run or (reads and (workdir / runs.CONFIG_FILE).exists())
        )
        if changed:
            print(f"{workdir} goes on with {changed}", flush=True)
        if not leaves_as_it_was and hosts.first():
            save_config(config, workdir)
        flags.FLAGS.mark_as_parsed()  # libraries that define absl flags see their defaults
        logging.set_verbosity(logging.WARNING)
        from rl import compile_cache  # imports jax as well

        # A plan reads what the compiler says of a program, which one from the cache does not carry.
        compile_cache.enable("" if stage == "plan" else config.compile_cache)
        stage_function(stage)(config, workdir)
    return endings.DONE


if __name__ == "__main__":
    endings.leave("main.py", lambda: _main(sys.argv[1:]))
