"""Which plans are tried, which of them wins, and one real search."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from configs import agenticqwen_8b, agenticqwen_30b_a3b, tiny
from model.checkpoints import hf_config
from model.network import sharding
from rl.plan import plan_search, planning

REPOSITORY = Path(__file__).parents[3]
CHIP = planning.CHIPS["v5p"]


@pytest.mark.parametrize("config", [agenticqwen_8b, agenticqwen_30b_a3b, tiny])
@pytest.mark.parametrize("chips", [1, 4, 64])
def test_every_mesh_uses_all_chips_and_divides_the_model(config, chips):
    c = config.get_config()
    c.rl.row_length += -c.rl.row_length % 128
    architecture = hf_config.read(c.model.checkpoint)
    found = list(plan_search.meshes(architecture, c.rl.row_length, chips))
    assert found and len({tuple(axes.items()) for axes in found}) == len(found)
    for axes in found:
        assert math.prod(axes.values()) == chips and tuple(axes) == sharding.AXES
        assert architecture.num_key_value_heads % axes["tensor"] == 0
        assert c.rl.row_length % (128 * axes["context"]) == 0


def test_rows_that_no_tpu_attends_to_are_named():
    with pytest.raises(ValueError, match="rl.row_length = 576: expected a multiple of 128"):
        plan_search.search(tiny.get_config(), [], CHIP)


def record(flops, traffic):
    return planning.Program("learner", 1e9, 0, 1e9, flops, traffic, {}, 1000, 1e12, 1.0)


@pytest.mark.parametrize(("fits", "flops", "winner", "tried"), [
    # Arithmetic binds: keep more while it fits.
    ({"attention", "dots"}, {"attention": 5e14, "dots": 4e14}, ("dots", 8), ["attention", "dots", "none"]),
    ({"full"}, {"full": 6e14}, ("full", 8), ["attention", "full"]),
    # Memory binds: twice the rows.
    ({"attention"}, {"attention": 1e9}, ("attention", 8), ["attention", "attention"]),
    (set(), {}, None, ["attention", "full"]),
])  # fmt: skip
def test_the_search_keeps_what_fits(monkeypatch, fits, flops, winner, tried):
    config, asked = tiny.get_config(), []

    def compiled(trial, mesh):
        asked.append(trial.model.remat)
        if trial.model.remat not in fits:
            return planning.Refused("learner", 2e11, 1e9, 1.0)
        return record(flops[trial.model.remat], 1e12)

    monkeypatch.setattr(planning, "learner_program", compiled)
    axes = {"data": 1, "fsdp": 8, "expert": 1, "context": 1, "tensor": 1}
    best = plan_search._best(config, axes, sharding.make_mesh(axes), CHIP)
    assert asked == tried
    if winner is None:
        assert best is None
    else:
        assert (best["keys"]["model.remat"], best["keys"]["rl.rows"]) == winner
        assert best["keys"]["mesh.fsdp"] == 8
    assert config.model.remat == tiny.get_config().model.remat  # the config itself stays as it was


@pytest.mark.slow
def test_a_real_search():
    if not (REPOSITORY / ".venv" / "tpu").is_dir():
        pytest.skip("libtpu is not installed (make setup puts it into .venv/tpu)")
    command = [sys.executable, "main.py", "--config=configs/tiny.py", "--stage=plan", "--config.plan.search=True"]
    command += ["--config.plan.topology=v5e:1x1", "--config.rl.row_length=512", "--config.plan.json=True"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    best = json.loads(result.stdout)["search"][0]
    assert best["keys"]["mesh.fsdp"] == 1 and best["fits"] and best["tokens_per_second"] > 0
    assert "plan: one chip rows 1 remat attention" in result.stderr
