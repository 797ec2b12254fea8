"""From a config to the parts of a run: a tokenizer and a model that do not belong together are refused."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from configs import tiny
from model.text import tokenizer
from rl import setup
from tests.support import small_run

ROWS = 1536  # of the tiny policy's embedding: as many as its tokenizer has ids


def config(folder):
    found = tiny.get_config("runlocal")
    found.model.checkpoint = str(folder)
    return found


def resized(folder, rows):
    """The tiny policy with other rows of its embedding: the first ones, or zeros behind them."""
    shutil.copytree(small_run.TINY, folder)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "vocab_size": rows}))
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    assert len(table) == ROWS
    more = np.zeros((max(rows - ROWS, 0), table.shape[1]), table.dtype)
    weights["model.embed_tokens.weight"] = np.concatenate([table[:rows], more])
    safetensors.numpy.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS - 16])
def test_a_model_with_fewer_rows_than_the_tokenizer_has_ids_is_refused(tmp_path, rows):
    with pytest.raises(ValueError, match=f"model.checkpoint = .*tokenizer has {ROWS} ids, .* only {rows} rows"):
        setup.build(config(resized(tmp_path / "cut", rows)))


def test_a_tokenizer_with_tokens_added_behind_the_models_is_refused(tmp_path):
    shutil.copytree(small_run.TINY, tmp_path / "added")
    made = tokenizer.load(small_run.TINY)
    made.add_tokens(["<plan>", "</plan>"])
    made.save_pretrained(tmp_path / "added")
    with pytest.raises(ValueError, match=f"tokenizer has {ROWS + 2} ids, .* only {ROWS} rows"):
        setup.build(config(tmp_path / "added"))


def test_a_padded_vocabulary_is_taken_and_a_teachers_is_checked_alike(tmp_path):
    chosen = config(resized(tmp_path / "padded", ROWS + 64))
    chosen.rl.teacher = str(resized(tmp_path / "teacher", ROWS - 16))
    parts = setup.build(chosen)
    assert parts.architecture.vocab_size == ROWS + 64
    with pytest.raises(ValueError, match=f"rl.teacher = .*tokenizer has {ROWS} ids, .* only {ROWS - 16} rows"):
        parts.teacher  # noqa: B018  it is loaded when it is asked for
