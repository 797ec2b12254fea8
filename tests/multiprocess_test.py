"""Two processes of four devices against one of eight: load, learner step, checkpoint, restore, export."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from flax import nnx

from model import load, transformer

CONFIG = transformer.Config(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, mlp_only_layers=(1,),
)  # fmt: skip
WORKER = Path(__file__).with_name("multiprocess_worker.py")


def run(processes, source, workdir):
    """The metrics that the processes print, all the same, and the exported tensors."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(WORKER), str(processes)]
    started = [
        subprocess.Popen(
            [*command, str(index), str(port), str(source), str(workdir)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for index in range(processes)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    found = [json.loads(output.splitlines()[-1]) for output, _ in outputs]
    assert all(metrics == found[0] for metrics in found)
    tensors = {}
    for file in (workdir / "policy").glob("*.safetensors"):
        tensors |= safetensors.numpy.load_file(file)
    return found[0], tensors


def test_two_processes_equal_one(tmp_path):
    load.save_pretrained(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), CONFIG, tmp_path / "base")
    expected, one = run(1, tmp_path / "base", tmp_path / "one")
    found, two = run(2, tmp_path / "base", tmp_path / "two")
    assert (expected.pop("processes"), found.pop("processes")) == (1, 2)
    assert found.pop("devices") == expected.pop("devices") == 8
    assert found.keys() == expected.keys() and expected["skipped_updates"] == 0 and expected["router_balance"] > 0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert one.keys() == two.keys() == load.hf_tensors(CONFIG).keys()
    before = {name: x for name, x in safetensors.numpy.load_file(tmp_path / "base" / "model.safetensors").items()}
    for name, x in one.items():
        np.testing.assert_allclose(two[name], x, atol=1e-5, err_msg=name)
        assert not np.allclose(x, before[name], atol=1e-3), name  # two steps of 0.01 moved everything
