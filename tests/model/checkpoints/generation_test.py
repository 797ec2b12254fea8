"""An exported policy stops, in transformers, where it stops here, and keeps the sampling settings it came with."""

import json
import os
import stat

import pytest
import torch
import transformers
from flax import nnx

from model.checkpoints import generation, load
from model.network import transformer

CONFIG = transformer.Config(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16,
)  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    load.save_pretrained(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), CONFIG, tmp_path / "policy")
    return tmp_path / "policy"


def test_generate_ends_at_a_stop_id(exported, tmp_path):
    prompt = torch.tensor([[1, 2, 3]])

    def generate():
        model = transformers.AutoModelForCausalLM.from_pretrained(exported)
        return model.generate(prompt, max_new_tokens=12, do_sample=False)[0, 3:].tolist()

    unbounded = generate()
    assert len(unbounded) == 12
    stop = unbounded[4]
    generation.save(exported, tmp_path / "nothing", [stop, 63], 0)
    assert generate() == unbounded[: unbounded.index(stop) + 1]


def test_settings_and_ends_of_the_checkpoint_are_kept(exported, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [61, 62]}
    (source / "generation_config.json").write_text(json.dumps(settings | {"bos_token_id": 5}))
    (source / "config.json").write_text(json.dumps({"eos_token_id": 60, "bos_token_id": 4, "pad_token_id": 59}))
    generation.save(exported, source, [62, 63], 7)
    found = transformers.GenerationConfig.from_pretrained(exported)
    assert found.eos_token_id == [60, 61, 62, 63] and (found.bos_token_id, found.pad_token_id) == (5, 59)
    assert (found.do_sample, found.temperature, found.top_k, found.top_p) == (True, 0.6, 20, 0.95)
    assert transformers.AutoConfig.from_pretrained(exported).eos_token_id == [60, 61, 62, 63]
    load.from_pretrained(exported)  # and what was added does not stop us
    again = tmp_path / "again"
    load.save_pretrained(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), CONFIG, again)
    generation.save(again, exported, [62, 63], 7)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((again / name).read_text()) == json.loads((exported / name).read_text())


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_file_is_named(exported, tmp_path, text):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"generation_config\.json: (not JSON|expected a JSON object)"):
        generation.save(exported, tmp_path, [1], None)


def test_files_have_the_mode_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        load.save_pretrained(transformer.Transformer(CONFIG, rngs=nnx.Rngs(0)), CONFIG, tmp_path, max_shard_bytes=9_000)
    finally:
        os.umask(before)
    files = list(tmp_path.iterdir())
    assert len(files) > 3 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
