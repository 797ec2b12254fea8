"""The Qwen family against transformers' torch models, in both directions: random weights in transformers' own files.

For every architecture: logits, gradients of the mean logprob, the round trip of the files, cached decoding.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers
from flax import nnx

from model.checkpoints import load
from model.network import moe, transformer

SIZES = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64,
)  # fmt: skip
MOE = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
CLASSES = {
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
}


def theta(value, **scaling):
    return {"rope_parameters": {"rope_type": "default", **scaling, "rope_theta": value}}


CASES = {
    # Qwen2
    "qwen2": ("qwen2", theta(1e6)),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 one kv head": ("qwen2", {"num_key_value_heads": 1, "num_attention_heads": 6, "head_dim": 10}),
    "qwen2 sliding from layer 1": ("qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)),
    "qwen2 layer types": ("qwen2", dict(
        use_sliding_window=True, sliding_window=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )),
    "qwen2 window of one": ("qwen2", dict(use_sliding_window=True, sliding_window=1, max_window_layers=0)),
    "qwen2 epsilon": ("qwen2", {"rms_norm_eps": 1e-2, "num_key_value_heads": 4}),
    # Qwen2.5 is Qwen2 with long context: YaRN as its model cards switch it on, large theta
    "qwen2.5 yarn": ("qwen2", theta(1e6, **YARN)),
    "qwen2.5 yarn tied": ("qwen2", {"tie_word_embeddings": True, **theta(1e4, **YARN)}),
    "qwen2.5 yarn mscale": ("qwen2", theta(1e4, **YARN, mscale=0.7, mscale_all_dim=1.3)),
    "qwen2.5 yarn and window": ("qwen2", {
        **theta(5e6, **YARN), "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2,
    }),
    "qwen2.5 head size": ("qwen2", {"head_dim": 20, **theta(1e7)}),
    "qwen2.5 all heads kv": ("qwen2", {"num_key_value_heads": 4, **theta(1e6), "num_hidden_layers": 2}),
    # Qwen3 dense
    "qwen3 head size": ("qwen3", {"head_dim": 12, **theta(5e6)}),
    "qwen3 tied one kv head": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3 bias": ("qwen3", {"head_dim": 8, "attention_bias": True}),
    "qwen3 yarn": ("qwen3", {"head_dim": 16, **theta(1e6, **YARN, beta_fast=20.0, beta_slow=2.0, truncate=False)}),
    "qwen3 yarn factor": ("qwen3", {"head_dim": 16, **theta(1e4, **YARN, attention_factor=1.7)}),
    "qwen3 sliding": ("qwen3", dict(head_dim=8, use_sliding_window=True, sliding_window=4, max_window_layers=2)),
    "qwen3 one layer": ("qwen3", {"head_dim": 32, "num_hidden_layers": 1, "vocab_size": 97}),
    # Qwen3-MoE
    "moe": ("qwen3_moe", {**MOE, "head_dim": 16}),
    "moe not normalised": ("qwen3_moe", {**MOE, "norm_topk_prob": False, "num_experts_per_tok": 3}),
    "moe every second layer": ("qwen3_moe", {**MOE, "decoder_sparse_step": 2, "num_hidden_layers": 4}),
    "moe mlp only": ("qwen3_moe", {**MOE, "mlp_only_layers": [0, 2], "head_dim": 8, **theta(5e6)}),
    "moe one expert each": ("qwen3_moe", {**MOE, "num_experts_per_tok": 1, "norm_topk_prob": False}),
    "moe all experts": ("qwen3_moe", {**MOE, "num_experts_per_tok": 6, "tie_word_embeddings": True}),
    "moe sliding yarn": ("qwen3_moe", {**MOE, **theta(1e6, **YARN), "use_sliding_window": True, "sliding_window": 4}),
    "moe one kv head bias": ("qwen3_moe", {**MOE, "num_key_value_heads": 1, "attention_bias": True}),
    "moe all dense": ("qwen3_moe", {**MOE, "mlp_only_layers": [0, 1, 2]}),
}  # fmt: skip


@functools.cache
def torch_model(case):
    """A torch model whose every parameter is random, norms and biases included."""
    family, options = CASES[case]
    config_class, model_class = CLASSES[family]
    config = config_class(**{**SIZES, **options}, attn_implementation="eager")
    torch.manual_seed(0)
    model = model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name
            parameter.copy_(norm + (0.2 if norm else 0.15) * torch.randn_like(parameter))
    return model.eval()


def tokens_of(model, batch=2, length=23):
    return np.random.default_rng(0).integers(0, model.config.vocab_size, (batch, length))


# Of every family one or two, which differ from the others in more than numbers; the rest are slow.
FAST = (
    "qwen2 sliding from layer 1", "qwen2.5 yarn tied", "qwen3 head size", "moe mlp only",
)  # fmt: skip


PARAMS = [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]


@pytest.fixture(params=PARAMS, ids=str)
def loaded(request, tmp_path):
    """(torch model, our policy, our config, folder that transformers wrote)."""
    model = torch_model(request.param)
    model.save_pretrained(tmp_path / "theirs")
    return model, *load.from_pretrained(tmp_path / "theirs"), tmp_path


def test_logits_gradients_files_and_cache(loaded):
    model, policy, config, folder = loaded
    tokens_BT = tokens_of(model)
    graphdef, params = nnx.split(policy)

    @jax.jit
    def ours(params):
        """(gradient of the mean logprob, logits)."""

        def mean_logprob(params):
            logits_BTV = nnx.merge(graphdef, params)(jnp.asarray(tokens_BT))
            logprobs_BTV = jax.nn.log_softmax(logits_BTV[:, :-1])
            return jnp.take_along_axis(logprobs_BTV, tokens_BT[:, 1:, None], axis=-1).mean(), logits_BTV

        return jax.grad(mean_logprob, has_aux=True)(params)

    gradient, logits_BTV = ours(params)
    model.zero_grad()
    theirs_BTV = model(torch.tensor(tokens_BT)).logits
    logprobs_BTV = torch.log_softmax(theirs_BTV[:, :-1], -1)
    logprobs_BTV.gather(-1, torch.tensor(tokens_BT)[:, 1:, None]).mean().backward()
    assert theirs_BTV.abs().max() > 1  # the comparison would be idle among zeros
    np.testing.assert_allclose(logits_BTV, theirs_BTV.detach().numpy(), atol=1e-4)
    check_gradients(model, gradient, config, folder)
    check_files(policy, config, folder)
    check_cache(policy, config, tokens_BT)


def check_gradients(model, gradient, config, folder):
    """Both gradients as HF files: transformers writes a model that holds its own gradients as parameters."""
    ours = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: transformer.Transformer(config, rngs=nnx.Rngs(0)))), gradient)
    load.save_pretrained(ours, config, folder / "our_gradient")
    twin = type(model)(model.config)
    for mine, parameter in zip(twin.parameters(), model.parameters(), strict=True):
        mine.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
    twin.save_pretrained(folder / "their_gradient")
    found, expected = (
        safetensors.numpy.load_file(folder / name / "model.safetensors") for name in ("our_gradient", "their_gradient")
    )
    assert found.keys() == expected.keys()
    norm = np.sqrt(sum((x**2).sum() for x in expected.values()))
    for name, x in expected.items():  # a tensor whose true gradient is 0 (a key's bias) is compared with the whole
        assert np.linalg.norm(found[name] - x) <= 1e-3 * max(np.linalg.norm(x), 1e-3 * norm), name


def check_files(policy, config, folder):
    """HF -> here -> HF to the bit, and the file we write means the same to transformers."""
    load.save_pretrained(policy, config, folder / "ours")
    found, expected = (safetensors.numpy.load_file(folder / name / "model.safetensors") for name in ("ours", "theirs"))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert load.from_pretrained(folder / "ours")[1] == config
    ours, theirs = (transformers.AutoConfig.from_pretrained(folder / name).to_dict() for name in ("ours", "theirs"))
    incidental = {"_name_or_path", "transformers_version", "max_window_layers", "rope_theta", "head_dim"}
    differing = {k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k)} - incidental
    if config.rope_scaling is not None:  # ours spells out the defaults
        assert theirs["rope_parameters"].items() <= ours["rope_parameters"].items()
        differing -= {"rope_parameters"}
    assert not differing, {k: (ours.get(k), theirs.get(k)) for k in differing}


def check_cache(policy, config, tokens_BT):
    """A prompt in one chunk, then token by token, against the whole row."""
    B, T = tokens_BT.shape
    expected_BTD = jax.jit(policy.hidden)(jnp.asarray(tokens_BT))
    extend = jax.jit(policy.extend)
    cache, prompt = transformer.init_cache(config, B, T + 3), T - 4
    found = []
    for chunk_BT in (tokens_BT[:, :prompt], *(tokens_BT[:, t : t + 1] for t in range(prompt, T))):
        x_BTD, cache = extend(jnp.asarray(chunk_BT), jnp.full((B,), chunk_BT.shape[1]), cache)
        found.append(x_BTD)
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), expected_BTD, atol=1e-4)


def test_every_family_has_six_unusual_architectures():
    names = ["qwen2 ", "qwen2.5 ", "qwen3 ", "moe "]
    assert all(sum(case.startswith(name) for case in CASES) >= 6 for name in names)


def test_balance_loss_equals_transformers(tmp_path):
    model = torch_model("moe every second layer")
    model.save_pretrained(tmp_path)
    policy, _ = load.from_pretrained(tmp_path)
    tokens_BT = tokens_of(model)
    expected = model(torch.tensor(tokens_BT), labels=torch.tensor(tokens_BT), output_router_logits=True).aux_loss
    hidden = jax.jit(policy.hidden_and_router)
    _, stats = hidden(jnp.asarray(tokens_BT))
    assert stats.pairs_E.shape == (2, 6)  # the sparse layers of four
    np.testing.assert_allclose(moe.balance_loss(stats), expected.item(), rtol=1e-5)
    # Padding is no token: the same row with padding behind it.
    padded_BT = jnp.pad(jnp.asarray(tokens_BT), ((0, 0), (0, 5)))
    _, again = hidden(padded_BT, segment_ids_BT=(jnp.arange(28) < 23).astype(jnp.int32)[None])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), again, stats)


def test_no_token_is_dropped_when_all_crowd_into_few_experts(tmp_path):
    """The router has rank one: a token wants the first experts or, if its feature is negative, the last ones."""
    model = torch_model("moe")
    model.save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for name, x in tensors.items():
        if name.endswith("mlp.gate.weight"):
            tensors[name] = np.array([3, 2, 1, -1, -2, -3], np.float32)[:, None] * x[:1]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    policy, _ = load.from_pretrained(tmp_path)
    crowded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    tokens_BT = tokens_of(model)
    with torch.no_grad():
        expected_BTV = crowded(torch.tensor(tokens_BT)).logits.numpy()
    _, stats = jax.jit(policy.hidden_and_router)(jnp.asarray(tokens_BT))
    pairs_LE = np.asarray(stats.pairs_E)
    assert (pairs_LE[:, 2:4] == 0).all() and (pairs_LE[:, 0] + pairs_LE[:, 5] == tokens_BT.size).all()
    np.testing.assert_allclose(jax.jit(policy.__call__)(jnp.asarray(tokens_BT)), expected_BTV, atol=1e-4)


def test_sharded_files_come_and_go(tmp_path):
    """A small limit makes many files, which transformers reads and which replace what lay there."""
    model = torch_model("moe mlp only")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    policy, config = load.from_pretrained(tmp_path / "theirs")
    folder = tmp_path / "ours"
    load.save_pretrained(policy, config, folder)
    load.save_pretrained(policy, config, folder, max_shard_bytes=20_000)
    assert not (folder / "model.safetensors").exists()
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    again = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for (name, x), y in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    load.save_pretrained(policy, config, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
