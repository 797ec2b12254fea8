"""The client of the teacher model that a config names, and the check that an API key is there if one is needed."""

from __future__ import annotations

from pathlib import Path

from ml_collections import config_dict

from synth.teachers import llm


def teacher(config: config_dict.ConfigDict, workdir: Path, offline: bool) -> llm.Client:
    """The client of the teacher model. Its answers are kept in workdir/teacher.

    offline: send no requests, and answer only from the kept answers.
    """
    c = config.synth
    return llm.Client(
        c.teacher_model, workdir / "teacher", c.teacher_concurrency, c.teacher_attempts, c.teacher_timeout,
        offline=offline, prices=llm.Prices(c.prompt_price, c.completion_price),
    )  # fmt: skip


def require_key(config: config_dict.ConfigDict, stage: str) -> None:
    """Raises ValueError if the stage will send requests to a model and no API key is set in the environment."""
    teaches = config.synth.teacher == "llm" and stage in ("flywheel", "rl", "synth") and not config.synth.dry_run
    judges = config.rl.reward == "llm" and stage in ("flywheel", "rl")
    if teaches or judges:
        llm.require_key()
