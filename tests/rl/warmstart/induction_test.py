"""Induction heads put there by hand: an untrained model goes on with what its context repeats."""

import numpy as np
import pytest
import safetensors.numpy

from model.checkpoints import load
from rl.warmstart import induction, tiny
from tests.support import small_run

ARCHITECTURE = {**tiny.ARCHITECTURE, **tiny.REASONER}


def test_an_untrained_model_continues_what_is_repeated(tmp_path):
    """40 random tokens, then again: the second time nearly all are known, with random weights none."""
    rng = np.random.default_rng(0)
    tokens = np.tile(rng.choice(np.arange(300, 1500), 40, replace=False), 2)[None]
    shares = []
    for wired in (True, False):
        folder = small_run.folder(tmp_path / str(wired), small_run.REASONER, ARCHITECTURE)
        if wired:
            safetensors.numpy.save_file(induction.weights(ARCHITECTURE, seed=1), folder / "model.safetensors")
        policy, _ = load.from_pretrained(folder, init="checkpoint" if wired else "random")
        said = np.asarray(policy(tokens)[0].argmax(-1))
        shares.append(np.mean(said[40:-1] == tokens[0, 41:]))
    assert shares[0] > 0.7 and shares[1] < 0.05


def test_weights_are_a_function_of_the_seed_and_need_room():
    one, again, other = (induction.weights(ARCHITECTURE, seed) for seed in (0, 0, 1))
    assert all(value.dtype == np.float32 and np.array_equal(value, again[name]) for name, value in one.items())
    assert not np.array_equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    with pytest.raises(ValueError, match=r"num_key_value_heads \* head_dim = 64, expected at least hidden_size = 128"):
        induction.weights(tiny.ARCHITECTURE, 0)
