"""Two processes of four devices against one of eight: load, learner step, checkpoint, restore, export; a whole run."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from model.checkpoints import load
from model.network import transformer
from rl.rollouts import rollout
from tests.support import small_run

CONFIG = transformer.Config(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, mlp_only_layers=(1,),
)  # fmt: skip
WORKER = small_run.REPOSITORY / "tests" / "support" / "multiprocess_worker.py"


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def wait_for(started):
    """What the processes wrote to standard output, once all have ended well."""
    try:
        outputs = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in outputs]


def tensors_of(folder):
    """The tensors of an HF folder."""
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(file)
    return tensors


def run(processes, source, workdir):
    """The metrics that the processes print, all the same, the first moments after a step, and the exported tensors."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, *map(str, (processes, index, port, source, workdir))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(processes)
    ]  # fmt: skip
    found = [json.loads(output.splitlines()[-1]) for output in wait_for(started)]
    assert all(metrics == found[0] for metrics in found)
    return found[0], dict(np.load(workdir / "moments.npz")), tensors_of(workdir / "policy")


def assert_close(got, expected, tolerance):
    """Relative L2 distance of every tensor."""
    for name, x in expected.items():
        assert np.linalg.norm(got[name] - x) <= tolerance * np.linalg.norm(x) > 0, name


def test_two_processes_equal_one(tmp_path):
    """The gradient (a tenth of it, clipped, is the first moment after a step), and what five steps come to."""
    load.save_pretrained(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), CONFIG, tmp_path / "base")
    expected, gradient, one = run(1, tmp_path / "base", tmp_path / "one")
    found, other, two = run(2, tmp_path / "base", tmp_path / "two")
    assert (expected.pop("processes"), found.pop("processes")) == (1, 2)
    assert found.pop("devices") == expected.pop("devices") == 8
    assert found.keys() == expected.keys() and expected["skipped_updates"] == 0 and expected["router_balance"] > 0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert one.keys() == two.keys() == load.hf_tensors(CONFIG).keys()
    before = {name: x for name, x in safetensors.numpy.load_file(tmp_path / "base" / "model.safetensors").items()}
    assert gradient.keys() == other.keys() and len(gradient) == len(CONFIG.parameters())
    assert_close(other, gradient, 1e-5)
    assert_close(*({name: x - before[name] for name, x in tensors.items()} for tensors in (two, one)), 1e-3)


@pytest.mark.slow
def test_a_run_of_two_processes_equals_one(tmp_path):
    """Warm start, tasks, rollouts on each process's own devices, RL, evaluation, export: the files of one process."""
    arguments = small_run.arguments(
        small_run.folder(tmp_path / "policy"), rl__rounds=1, rl__steps=1, rl__sft_steps=2, rl__rows=8, rl__groups=3,
        evaluate__trials=1, evaluate__greedy=False,
    )  # fmt: skip
    alone, port = small_run.environment(JAX_NUM_CPU_DEVICES="8"), str(free_port())
    names = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "4"}
    both = [small_run.environment(**names, JAX_PROCESS_ID=str(index)) for index in range(2)]
    printed = {}
    for name, environments in (("one", [alone]), ("two", both)):
        command = [
            sys.executable, small_run.__file__, "", "0", *arguments, f"--workdir={tmp_path / name}",
            f"--config.mesh.processes={len(environments)}",
        ]  # fmt: skip
        printed[name] = wait_for(
            [
                subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for env in environments
            ]
        )
    assert "pass_after" in (tmp_path / "two" / "summary.json").read_text()
    first, second = printed["two"]
    assert "round 0  step   1/1" in first and "round 0" not in second  # beside what Gloo prints, in bits and pieces
    files = sorted(path.name for path in (tmp_path / "one" / "rollouts").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two" / "rollouts").iterdir())
    for name in files:
        one, two = (rollout.read(tmp_path / workdir / "rollouts" / name) for workdir in ("one", "two"))
        assert [(t.task_id, t.member, t.tokens, t.reward) for t in one] == [
            (t.task_id, t.member, t.tokens, t.reward) for t in two
        ]
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    one, two = (tensors_of(tmp_path / workdir / "policy") for workdir in ("one", "two"))
    assert one.keys() == two.keys()
    for name, x in one.items():
        np.testing.assert_allclose(two[name], x, atol=1e-4, err_msg=name)
    metrics = [json.loads((tmp_path / workdir / "metrics.jsonl").read_text()) for workdir in ("one", "two")]
    assert metrics[0]["reward"] == metrics[1]["reward"] and metrics[1]["mixed_groups"] > 0
    assert metrics[0]["turns"] == metrics[1]["turns"]


def test_an_incomplete_address_is_named(tmp_path):
    arguments = small_run.arguments(small_run.folder(tmp_path / "policy"), mesh__processes=2)
    command = [sys.executable, small_run.REPOSITORY / "main.py", *arguments, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, env=small_run.environment(JAX_PROCESS_ID="0"), capture_output=True, text=True)
    assert done.returncode == 2 and "JAX_COORDINATOR_ADDRESS" in done.stderr and "Traceback" not in done.stderr
