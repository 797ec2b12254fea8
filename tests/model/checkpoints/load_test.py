"""HF folders: both directions against transformers, and the errors a person meets."""

import dataclasses
import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoints import hf_config, load
from model.network import sharding, transformer

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
)
CONFIG = transformer.Config(**SIZES, rope_theta=5e5)


def torch_folder(path, dtype=torch.float32, max_shard_size="1GB", **options):
    """A random torch Qwen3 saved by transformers; returns the model in float32."""
    torch.manual_seed(0)
    rope = {"rope_theta": 5e5, "rope_type": "default"}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES, rope_parameters=rope, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model = model.to(dtype).eval()
    model.save_pretrained(path, max_shard_size=max_shard_size)
    return model.float()


def our_folder(path, config=CONFIG, dtype=jnp.float32):
    """A random policy saved by us."""
    policy = transformer.Transformer(config, dtype=dtype, rngs=nnx.Rngs(0))
    load.save_pretrained(policy, config, path)
    return policy


def logits_pair(policy, model):
    """(ours, torch's) logits of the same tokens."""
    tokens_BT = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 17))
    with torch.no_grad():
        return policy(jnp.asarray(tokens_BT)), model(torch.tensor(tokens_BT)).logits.numpy()


def edit_config(path, **changes):
    """Rewrites keys of a folder's config.json; None removes the key."""
    file = path / "config.json"
    raw = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def edit_tensors(path, **changes):
    """Rewrites tensors of a folder (with / for . in the names); None removes the tensor."""
    file = path / "model.safetensors"
    tensors = {**safetensors.numpy.load_file(file), **{name.replace("/", "."): x for name, x in changes.items()}}
    safetensors.numpy.save_file({name: x for name, x in tensors.items() if x is not None}, file)


@pytest.mark.parametrize("max_shard_size", ["1GB", "20KB"])
@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}, {"attention_bias": True}], ids=str)
def test_transformers_folder_loads_with_equal_logits(tmp_path, max_shard_size, options):
    model = torch_folder(tmp_path, max_shard_size=max_shard_size, **options)
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_size == "20KB")
    policy, config = load.from_pretrained(tmp_path)
    assert config == dataclasses.replace(CONFIG, **options)
    np.testing.assert_allclose(*logits_pair(policy, model), atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_our_folder_comes_back_from_transformers_to_the_bit(tmp_path, tied):
    config = dataclasses.replace(CONFIG, tie_word_embeddings=tied, rms_norm_eps=1e-5, max_position_embeddings=512)
    policy = our_folder(tmp_path / "ours", config)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert isinstance(model, transformers.Qwen3ForCausalLM) and model.dtype == torch.float32
    np.testing.assert_allclose(*logits_pair(policy, model), atol=1e-4)
    model.save_pretrained(tmp_path / "theirs")
    again, config_again = load.from_pretrained(tmp_path / "theirs")
    assert config_again == config
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(policy))
    assert load.from_pretrained(tmp_path / "ours")[1] == config


def test_bfloat16_folders_load_exactly_in_both_dtypes(tmp_path):
    model = torch_folder(tmp_path / "theirs", dtype=torch.bfloat16)
    policy, config = load.from_pretrained(tmp_path / "theirs")
    assert policy.embed[...].dtype == jnp.float32
    np.testing.assert_array_equal(policy.embed[...], model.model.embed_tokens.weight.detach().numpy())
    half, _ = load.from_pretrained(tmp_path / "theirs", dtype=jnp.bfloat16)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(nnx.state(half)))
    load.save_pretrained(half, config, tmp_path / "ours")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert model.dtype == torch.bfloat16
    np.testing.assert_array_equal(policy.embed[...], model.model.embed_tokens.weight.detach().float().numpy())


def test_old_config_layout_has_theta_at_the_top_level(tmp_path):
    our_folder(tmp_path)
    edit_config(tmp_path, rope_parameters=None, rope_theta=1e6)
    assert hf_config.read(tmp_path).rope_theta == 1e6
    edit_config(tmp_path, rope_theta=None)
    assert hf_config.read(tmp_path).rope_theta == 10000.0
    edit_config(tmp_path, rope_theta=3.0, rope_parameters={"rope_theta": 7.0, "rope_type": "default"})
    assert hf_config.read(tmp_path).rope_theta == 7.0  # as transformers reads it


@pytest.mark.slow
def test_random_initialisation_is_a_function_of_the_seed_on_any_mesh(tmp_path):
    our_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # only config.json is read
    (a, _), (b, _) = (load.from_pretrained(tmp_path, init="random", seed=seed) for seed in (1, 2))
    assert (a.embed[...] != b.embed[...]).any()
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    sharded, _ = load.from_pretrained(tmp_path, init="random", seed=1, mesh=mesh)
    assert sharded.layers["gate"][...].addressable_shards[0].data.shape == (2, 32 // 4, 48 // 2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(sharded))


def test_checkpoint_loads_onto_a_mesh(tmp_path):
    policy = our_folder(tmp_path)
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    sharded, config = load.from_pretrained(tmp_path, mesh=mesh)
    expected = sharding.param_shardings(config, mesh)
    jax.tree.map(lambda x, s: np.testing.assert_(x.sharding.is_equivalent_to(s, x.ndim)), nnx.state(sharded), expected)
    gate_LDF = sharded.layers["gate"][...]
    assert gate_LDF.addressable_shards[0].data.shape == (2, 32 // 4, 48 // 2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(policy), nnx.state(sharded))
    load.save_pretrained(sharded, config, tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_tied_checkpoint_may_repeat_the_embedding_as_head_but_no_other(tmp_path):
    policy = our_folder(tmp_path, dataclasses.replace(CONFIG, tie_word_embeddings=True))
    edit_tensors(tmp_path, **{"lm_head/weight": np.asarray(policy.embed[...])})
    again, _ = load.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.embed[...], policy.embed[...])
    edit_tensors(tmp_path, **{"lm_head/weight": np.asarray(policy.embed[...]) + 1})
    with pytest.raises(ValueError, match="lm_head.weight differs"):
        load.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type.*'llama'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling: factor is missing"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 0.0}}, "factor must be positive"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "finetuned": True}}, "rope_scaling: .'finetuned'. not"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling.*'linear'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, "rope_parameters.*'llama3'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters.*full_attention"),
        ({"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_scaling": "yarn"}, "rope_scaling: expected dict"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types.*use_sliding_window"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "layer_types.*chunked_attention"),
        ({"layer_types": ["full_attention"]}, "layer_types must be 2 times"),
        ({"use_sliding_window": True, "sliding_window": 0, "layer_types": ["sliding_attention"] * 2}, "sliding_window"),
        ({"num_experts": 4}, "num_experts: not a key of qwen3"),
        ({"attention_sinks": True}, "attention_sinks: not a key of qwen3"),
        ({"model_type": "qwen3_moe", "layer_types": None}, "'num_experts' is missing"),
        ({"hidden_act": "gelu"}, "hidden_act.*'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": "32"}, "hidden_size: expected int"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: expected bool"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"use_qk_norm": False}, "use_qk_norm: only True"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
    ],
    ids=str,
)
def test_config_that_is_not_implemented_is_refused(tmp_path, changes, message):
    our_folder(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        load.from_pretrained(tmp_path)


@pytest.mark.parametrize("family", sorted(hf_config.KEYS))
@pytest.mark.parametrize("key", sorted(hf_config.MOST))
def test_sizes_that_no_model_has_are_refused_at_once(key, family):
    """Before anything is made in their number: layers, tensors, names in an error."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16} if "moe" in family else {}
    record = {**hf_config.to_json(CONFIG, "float32"), "model_type": family, "layer_types": None, **experts}
    hf_config._parse(record)
    for value in (-1, 0, 10**9 + 1, 10**30, 1e9, True, "4", [], {}):
        if key in hf_config.KEYS[family]:
            with pytest.raises(ValueError, match=f"^{key}: expected"):
                hf_config._parse({**record, key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1000}, r"config.json describes 11\d+ tensors, and the files hold 25"),
        ({"num_hidden_layers": 4}, r"missing \[.*\] and 17 more, unexpected \[\]$"),
        ({"model_type": "qwen3_moe", "num_experts": 10_000, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
         r"config.json describes 600\d+ tensors"),
    ],
    ids=str,
)  # fmt: skip
def test_more_tensors_than_there_are_make_no_long_error(tmp_path, changes, message):
    our_folder(tmp_path)
    edit_config(tmp_path, layer_types=None, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 1000


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["yarn", "default"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = sorted({*hf_config.SPECIAL, *hf_config.UNUSED, *hf_config.IGNORED, *hf_config.MOE, *hf_config.PLAIN})
ROPE = st.dictionaries(st.sampled_from(["rope_type", "rope_theta", *hf_config.YARN]), ANYTHING, max_size=3)


@given(st.sampled_from(hf_config.transformer.FAMILIES), st.dictionaries(st.sampled_from(NAMES), ANYTHING | ROPE))
def test_whatever_a_config_says_it_loads_or_is_refused(family, changes):
    record = {**hf_config.to_json(CONFIG, "float32"), "model_type": family, "num_experts": 4, **changes}
    try:
        hf_config._parse(record)
    except ValueError:
        pass


def test_notes_of_tools_in_the_config_change_nothing(tmp_path):
    our_folder(tmp_path)
    before = hf_config.read(tmp_path)
    notes = {"_attn_implementation_autoset": True, "_commit_hash": "0", "unsloth_version": "2025.9.7"}
    edit_config(tmp_path, **notes, attn_implementation="sdpa", use_qk_norm=True, pretraining_tp=1, use_mla=False)
    assert hf_config.read(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model/norm/weight": None}, r"missing \['model.norm.weight'\]"),
        ({"model/extra": np.zeros(3, np.float32)}, r"unexpected \['model.extra'\]"),
        ({"model/norm/weight": np.zeros(3, np.float32)}, r"model.norm.weight: expected shape \(32,\), found \(3,\)"),
        ({"model/norm/weight": np.zeros(32, np.int8)}, "model.norm.weight: expected a dtype.*I8"),
        ({"lm_head/weight": None}, "missing.*lm_head.weight"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(tmp_path, changes, message):
    our_folder(tmp_path)
    edit_tensors(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load.from_pretrained(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such folder.*absent"):
        load.from_pretrained(tmp_path / "absent")
    with pytest.raises(ValueError, match="config.json is missing"):
        load.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model.init.*'zeros'"):
        load.from_pretrained(tmp_path, init="zeros")
    our_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="model.safetensors: not a readable"):
        load.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="neither model.safetensors nor model.safetensors.index.json"):
        load.from_pretrained(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(ValueError, match="index.json: expected.*weight_map"):
        load.from_pretrained(tmp_path)
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "model-1.safetensors"}}))
    with pytest.raises(ValueError, match="missing.*model-1.safetensors"):
        load.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: not JSON"):
        load.from_pretrained(tmp_path)


class Evil:
    """Pickled, it leaves a file behind when it is read."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, "w")


def test_pickles_are_never_read(tmp_path):
    """Beside the weights or instead of them, under the names that other libraries read."""
    folder, trace = tmp_path / "policy", str(tmp_path / "trace")
    our_folder(folder)
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth", "training_args.bin", "model.ckpt"):
        (folder / name).write_bytes(pickle.dumps(Evil(trace)))
    load.from_pretrained(folder)
    for content in (pickle.dumps(Evil(trace)), None):
        if content:
            (folder / "model.safetensors").write_bytes(content)
        else:
            (folder / "model.safetensors").unlink()
        with pytest.raises(ValueError, match="model.safetensors"):
            load.from_pretrained(folder)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(Evil(trace))).close()
    assert (tmp_path / "trace").exists()  # it would have


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, dtype):
    policy = transformer.Transformer(CONFIG, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    policy.layers.gate[...] = policy.layers.gate[...].at[1, 2, 3].set(value)
    load.save_pretrained(policy, CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"tensor model\.layers\.1\.mlp\.gate_proj\.weight: 1 of \d+ values are NaN"):
        load.from_pretrained(tmp_path)


def test_an_index_decides_where_a_tensor_is_and_stays_in_its_folder(tmp_path):
    folder, policy = tmp_path / "policy", transformer.Transformer(CONFIG, rngs=nnx.Rngs(0))
    load.save_pretrained(policy, CONFIG, folder, max_shard_bytes=30_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    name = next(tensor for tensor, file in index["weight_map"].items() if file == files[0])
    tensors = safetensors.numpy.load_file(folder / files[-1])  # a stale copy in a later file
    stale = safetensors.numpy.load_file(folder / files[0])[name] + 1
    safetensors.numpy.save_file({**tensors, name: stale}, folder / files[-1])
    found, _ = load.from_pretrained(folder)
    for a, b in zip(jax.tree.leaves(nnx.state(found)), jax.tree.leaves(nnx.state(policy)), strict=True):
        np.testing.assert_array_equal(a, b)
    shutil.copy(folder / files[0], tmp_path / "outside.safetensors")
    for outside in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        index["weight_map"][name] = outside
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(
            ValueError, match=r"index\.json: expected names of files in its own folder, found .*outside"
        ):
            load.from_pretrained(folder)
