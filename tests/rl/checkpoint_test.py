"""Checkpoints: bit-equal, whole after a kill at any moment, and onto another mesh; files are cut back to them."""

import logging
import pathlib
import random
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from model.network import sharding, transformer
from rl import checkpoint
from rl.learn import optimiser

CONFIG = transformer.Config(
    vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=8
)  # fmt: skip


def _bytes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in leaves}


def _state(mesh, seed):
    policy = transformer.Transformer(CONFIG, rngs=nnx.Rngs(seed))
    return optimiser.create(policy, optimiser.make(1e-3), mesh)


def test_restores_bit_equal_onto_another_mesh(tmp_path):
    """Also from shapes alone, and by another manager, as a new process would."""
    state = _state(sharding.make_mesh({"fsdp": 4, "tensor": 2}), 0)
    saver = checkpoint.Checkpoints(tmp_path / "c", keep=2)
    assert saver.restore(state) is None and saver.latest() is None
    meta = {"round": 1, "files": {"metrics.jsonl": 12}, "text": "ü"}
    saver.save(3, state, meta)
    saver.close()
    other = _state(sharding.make_mesh({}, jax.devices()[:1]), 1)
    assert _bytes(state) != _bytes(other)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), other)
    for example in (state, other, abstract):
        restored, got = checkpoint.Checkpoints(tmp_path / "c", keep=2).restore(example)
        assert got == meta and _bytes(restored) == _bytes(state)
        assert jax.tree.structure(restored) == jax.tree.structure(example)
        assert [x.sharding for x in jax.tree.leaves(restored)] == [x.sharding for x in jax.tree.leaves(example)]


def test_numpy_and_odd_values_survive(tmp_path):
    state = {"a": np.array([np.nan, np.inf, -0.0]), "b": [np.arange(3, dtype=np.uint8), jnp.array(7, jnp.bfloat16)]}
    saver = checkpoint.Checkpoints(tmp_path, keep=1)
    saver.save(0, state, {})
    restored, _ = saver.restore(state)
    assert _bytes(restored) == _bytes(state)
    assert isinstance(restored["a"], np.ndarray) and isinstance(restored["b"][1], jax.Array)


def test_orbax_is_quiet_and_nobody_else(tmp_path, caplog):
    """Even where everything is logged, as absl's own entry point does; the level is put back."""
    logger = logging.getLogger("absl")
    before = logger.level
    with caplog.at_level(logging.DEBUG, "absl"):
        saver = checkpoint.Checkpoints(tmp_path, keep=1)
        for index in range(2):
            saver.save(index, {"a": jnp.zeros((2,))}, {})
        checkpoint.Checkpoints(tmp_path, keep=1).restore({"a": jnp.zeros((2,))})
        assert not caplog.records
        logger.info("still heard")
        assert [record.message for record in caplog.records] == ["still heard"]
    assert logger.level == before


def test_keeps_the_newest(tmp_path):
    saver = checkpoint.Checkpoints(tmp_path, keep=2)
    for index in (1, 5, 9):
        saver.save(index, {"a": jnp.full((2,), index)}, {"index": index})
    assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [5, 9]
    restored, meta = saver.restore({"a": jnp.zeros((2,), jnp.int32)})
    assert meta == {"index": 9} and restored["a"].tolist() == [9, 9]
    with pytest.raises(ValueError, match="checkpoint 9 is not newer than the latest, 9"):
        saver.save(9, {"a": jnp.zeros((2,))}, {})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    saver = checkpoint.Checkpoints(tmp_path, keep=1)
    saver.save(0, {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())}, {})
    for example, message in [
        ({"a": jnp.zeros((2, 3)), "c": jnp.zeros(())}, r"missing arrays \[\"\['c'\]\"\], unknown \[\"\['b'\]\"\]"),
        ({"a": jnp.zeros((2, 4)), "b": jnp.zeros(())}, r"\['a'\] is float32\(2, 3\), expected float32\(2, 4\)"),
        ({"a": jnp.zeros((2, 3), jnp.int32), "b": jnp.zeros(())}, r"\['a'\] is float32\(2, 3\), expected int32"),
    ]:
        with pytest.raises(ValueError, match=message):
            saver.restore(example)


def test_a_save_takes_well_below_a_second(tmp_path):
    """4 MB of parameters and moments in 42 arrays, as often as a laptop run saves; the best of three."""
    state, saver = {str(i): jnp.ones((25_000,)) for i in range(42)}, checkpoint.Checkpoints(tmp_path, keep=2)
    seconds = []
    for index in range(4):
        start = time.perf_counter()
        saver.save(index, state, {})
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


# Saves for ever, every array filled with the checkpoint's index; says which saves have returned.
_SAVER = """
import sys
import jax.numpy as jnp
from rl import checkpoint
saver = checkpoint.Checkpoints(sys.argv[1], keep=2)
index = (saver.latest() or 0) + 1
while True:
    saver.save(index, {str(i): jnp.full((5000,), index) for i in range(10)}, {"index": index})
    print(index, flush=True)
    index += 1
"""


def test_a_kill_at_any_moment_leaves_the_last_save_whole(tmp_path):
    """SIGKILL between and during saves: what returned is there, what is there is whole, and work goes on."""
    root, rng, last = pathlib.Path(__file__).parents[2], random.Random(0), 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
        )
        for _ in range(3):
            last = int(child.stdout.readline())
        time.sleep(rng.uniform(0, 0.1))
        child.kill()
        printed = child.communicate()[0].split()
        last = int(printed[-1]) if printed else last
        saver = checkpoint.Checkpoints(tmp_path, keep=2)
        example = {str(i): jnp.zeros((5000,), jnp.int32) for i in range(10)}
        state, meta = saver.restore(example)
        assert meta["index"] in (last, last + 1)  # the kill may fall between the rename and the print
        for array in state.values():
            np.testing.assert_array_equal(array, np.full((5000,), meta["index"]))
        assert all(path.name.isdigit() for path in tmp_path.iterdir() if path.is_dir())
        saver.close()


def test_cut_back(tmp_path):
    """Longer files are truncated, unknown ones deleted, what no pattern matches is left alone."""
    patterns = (r"\w+[.]jsonl", r"rollouts/\d+[.]jsonl")
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "rollouts/0.jsonl").write_text("ü\n")
    (tmp_path / "config.json").write_text("{}")
    sizes = checkpoint.file_sizes(tmp_path, patterns)
    assert sizes == {"metrics.jsonl": 9, "rollouts/0.jsonl": 3}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"a": 2}\n{"a"')
    (tmp_path / "rollouts/1.jsonl").write_text("later\n")
    (tmp_path / "config.json").write_text("{} ")
    checkpoint.cut_back(tmp_path, sizes, patterns)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"a": 1}\n'
    assert (tmp_path / "rollouts/0.jsonl").read_text() == "ü\n"
    assert not (tmp_path / "rollouts/1.jsonl").exists() and (tmp_path / "config.json").read_text() == "{} "
    (tmp_path / "rollouts/0_mine.jsonl").write_text("mine\n")  # a person's: no pattern matches the whole name
    checkpoint.cut_back(tmp_path, {}, patterns)
    assert (tmp_path / "rollouts/0_mine.jsonl").read_text() == "mine\n"
    assert checkpoint.file_sizes(tmp_path, patterns) == {}


@pytest.mark.parametrize("damage", ["short", "gone"])
def test_cut_back_refuses_a_file_that_lost_data(tmp_path, damage):
    (tmp_path / "a.jsonl").write_text("long enough\n")
    (tmp_path / "b.jsonl").write_text("to go\n")
    sizes = {"a.jsonl": 12}
    if damage == "short":
        (tmp_path / "a.jsonl").write_text("short\n")
    else:
        (tmp_path / "a.jsonl").unlink()
    with pytest.raises(ValueError, match="a.jsonl (has 6 bytes|is missing), the checkpoint expects"):
        checkpoint.cut_back(tmp_path, sizes, [r"\w+[.]jsonl"])
    assert (tmp_path / "b.jsonl").exists()  # nothing was changed


def _saved(folder, keep=3):
    """Three checkpoints, whose arrays are filled with their index."""
    saver = checkpoint.Checkpoints(folder, keep=keep)
    for index in range(3):
        saver.save(index, {"a": jnp.full((300,), index), "b": np.full((4,), index)}, {"index": index})
    saver.close()
    return {"a": jnp.zeros((300,), jnp.int32), "b": np.zeros((4,), int)}


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_damage_to_any_file_is_noticed(tmp_path, capsys):
    """Each file of the newest checkpoint with a bit flipped, cut, emptied and deleted: the one before counts."""
    example, folder = _saved(tmp_path / "c"), tmp_path / "c" / "2"
    reader = checkpoint.Checkpoints(tmp_path / "c", keep=3, read_only=True)
    harms = {
        "flip": _flip,
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "empty": lambda path: path.write_bytes(b""),
        "gone": lambda path: path.unlink(),
    }
    for name in _names(folder):
        content = (folder / name).read_bytes()
        for harm, do in harms.items():
            if not content and harm != "gone" or name == checkpoint.DIGESTS and harm in ("cut", "gone"):
                continue  # an empty file has nothing to lose, nor its last line end; a killed save leaves no digests
            do(folder / name)
            state, meta = reader.restore(example)
            assert meta == {"index": 1} and state["a"].tolist() == [1] * 300, (name, harm)
            told = capsys.readouterr().out
            assert told.startswith(f"checkpoint {folder} is damaged and passed over: ") and told.count("\n") == 1
            assert name in told or name == checkpoint.DIGESTS
            (folder / name).write_bytes(content)
    (folder / "note.txt").write_text("a person's")
    assert reader.restore(example)[1] == {"index": 2} and not capsys.readouterr().out


@pytest.mark.parametrize("gone", ["state", "meta", "state/_METADATA", "state/d", "state/manifest.ocdbt", "."])
def test_damage_without_digests(tmp_path, capsys, gone):
    """Checkpoints of before there were digests, or of a save that was killed before it wrote them."""
    example = _saved(tmp_path)
    for index in range(3):
        (tmp_path / str(index) / checkpoint.DIGESTS).unlink()
    assert checkpoint.Checkpoints(tmp_path, keep=3).restore(example)[1] == {"index": 2}
    damaged = tmp_path / "2" / gone
    damaged.unlink() if damaged.is_file() else shutil.rmtree(damaged)
    (tmp_path / "2").mkdir(exist_ok=True)
    state, meta = checkpoint.Checkpoints(tmp_path, keep=3).restore(example)
    assert meta == {"index": 1} and state["b"].tolist() == [1] * 4
    told = capsys.readouterr().out
    assert f"checkpoint {tmp_path / '2'} is damaged and passed over: cannot be read (" in told
    assert told.endswith("it is now 2.damaged\n")


def test_a_run_goes_on_from_the_one_before(tmp_path, capsys):
    """The damaged ones are kept under another name, and their numbers can be saved again, and be damaged again."""
    example = _saved(tmp_path)
    for again in ("", "_2"):
        kept = {}
        for index in (1, 2):
            _flip(tmp_path / str(index) / "meta" / "metadata")
            kept[index] = (tmp_path / str(index) / "meta" / "metadata").read_bytes()
        saver = checkpoint.Checkpoints(tmp_path, keep=3)
        state, meta = saver.restore(example)
        assert meta == {"index": 0} and saver.latest() == 0
        assert capsys.readouterr().out.count("meta/metadata is not what was written") == 2
        for index in (1, 2):
            assert (tmp_path / f"{index}.damaged{again}" / "meta" / "metadata").read_bytes() == kept[index]
            saver.save(index, state, {"index": index})
        saver.close()
    assert checkpoint.Checkpoints(tmp_path, keep=3).restore(example)[1] == {"index": 2}


def test_without_a_whole_checkpoint_nothing_is_touched(tmp_path):
    example = _saved(tmp_path)
    for index in range(3):
        _flip(tmp_path / str(index) / "state" / "_METADATA")
    before = _names(tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint is whole \(2: state/_METADATA is not what .*; 0: state/_M"):
        checkpoint.Checkpoints(tmp_path, keep=3).restore(example)
    assert _names(tmp_path) == before


def test_another_model_is_no_damage(tmp_path):
    """With digests and without: refused by name, not passed over."""
    _saved(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"checkpoint 2: missing arrays"):
            checkpoint.Checkpoints(tmp_path, keep=3).restore({"c": jnp.zeros(())})
        (tmp_path / "2" / checkpoint.DIGESTS).unlink(missing_ok=True)
    assert (tmp_path / "2").exists()
