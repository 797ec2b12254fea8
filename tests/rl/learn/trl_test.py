"""Losses against those of TRL's GRPOTrainer: its own code on the same tensors, values and gradients."""

import logging
from collections import defaultdict
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from trl import GRPOTrainer

from rl.learn import losses

logging.getLogger("absl").setLevel(logging.WARNING)

B, T, LOW, HIGH = 4, 9, 0.2, 0.28
BUDGET = 16  # tokens of a completion at most


def _tensors():
    """Right-padded completions of 1 to 9 tokens, one of them without a sampled token between: float64."""
    rng = np.random.default_rng(0)
    lengths = np.array([1, 4, 9, 6])
    mask = np.arange(T)[None] < lengths[:, None]
    mask[2, 3:5] = False  # what a tool said
    new = rng.normal(-2, 1, (B, T))
    old, reference, sampler = (new + rng.normal(0, 0.5, (B, T)) for _ in range(3))
    return new, old, reference, sampler, rng.choice([-1.2, 0.7], B), mask


def _theirs(loss_type, level, beta=0.0, delta=None, entropy_coef=0.0, importance=None):
    """(value, gradient with respect to the logprobs) by a GRPOTrainer whose model is a table of them."""
    new, old, reference, _, advantages, mask = _tensors()
    leaf = torch.tensor(new, requires_grad=True)
    entropies = -leaf / 2  # as good a function as any
    trainer = object.__new__(GRPOTrainer)  # no model, no data set: its loss alone
    accelerator = SimpleNamespace(
        num_processes=1,
        gather=lambda x: x,
        gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x,
        sync_gradients=True,
    )
    vars(trainer).update(
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level=level, beta=beta,
        loss_type=loss_type, epsilon_low=LOW, epsilon_high=1 + HIGH if loss_type == "cispo" else HIGH,
        use_vllm=importance is not None, vllm_importance_sampling_correction=importance is not None,
        args=SimpleNamespace(delta=delta, use_bias_correction_kl=False, steps_per_generation=1),
        max_completion_length=BUDGET, current_gradient_accumulation_steps=1, _entropy_bonus_enabled=bool(entropy_coef),
        use_adaptive_entropy=False, entropy_coef=entropy_coef, aux_loss_enabled=False, accelerator=accelerator,
        model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (leaf, entropies, None),
    )  # fmt: skip
    ids = torch.zeros((B, T), dtype=torch.long)
    inputs = {
        "prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": torch.tensor(mask).double(),
        "advantages": torch.tensor(advantages), "old_per_token_logps": torch.tensor(old),
        "ref_per_token_logps": torch.tensor(reference), "num_items_in_batch": torch.tensor(mask.sum()),
        "importance_sampling_ratio": None if importance is None else torch.tensor(importance),
    }  # fmt: skip
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return loss.item(), leaf.grad.numpy()


def _ours(surrogate, aggregation, beta=0.0, entropy_coef=0.0, importance=1.0):
    """The same by losses.py. surrogate(new, old, advantages, mask, ids)."""
    new, old, reference, _, advantages, mask = _tensors()
    advantages, ids = jnp.asarray(np.repeat(advantages[:, None], T, 1)), jnp.ones((B, T), jnp.int32)

    def loss(x):
        values = surrogate(x, jnp.asarray(old), advantages, mask, ids)[0] * importance
        values += beta * losses.kl(x, jnp.asarray(reference), mask, "k3")
        value = losses.aggregate(values, mask, ids, aggregation, mask.sum(), B, BUDGET)
        return value - entropy_coef * jnp.sum(jnp.where(mask, -x / 2, 0.0)) / mask.sum()

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(new))
    return float(value), np.asarray(gradient)


def _ppo(*arrays, dual=None):
    return losses.ppo(*arrays[:4], LOW, HIGH, dual)


def _gspo(*arrays):
    return losses.gspo(*arrays, LOW, HIGH)


def _cispo(*arrays):
    return losses.cispo(*arrays[:4], 1.0, HIGH)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (("grpo", "token"), (_ppo, "sequence-mean-token-mean")),
        (("bnpo", "token"), (_ppo, "token-mean")),
        (("dapo", "token"), (_ppo, "token-mean")),
        (("dr_grpo", "token"), (_ppo, "fixed")),
        (("luspo", "token"), (_ppo, "sequence-mean-token-sum")),
        (("grpo", "sequence"), (_gspo, "sequence-mean-token-mean")),
        (("cispo", "token"), (_cispo, "token-mean")),
        (("grpo", "token", 0.3), (_ppo, "sequence-mean-token-mean", 0.3)),
        (("dapo", "token", 0.0, None, 0.1), (_ppo, "token-mean", 0.0, 0.1)),
    ],
    ids=lambda case: "-".join(getattr(part, "__name__", str(part)) for part in case),
)
def test_losses_and_gradients_equal_trls(theirs, ours):
    with jax.enable_x64(True):
        value, gradient = _ours(*ours)
    expected, expected_gradient = _theirs(*theirs)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-9)
    assert np.abs(expected_gradient).max() > 1e-3


def test_truncated_importance_is_trls_vllm_correction():
    new, old, _, sampler, _, mask = _tensors()
    with jax.enable_x64(True):
        weights = losses.truncated_importance(jnp.asarray(old), jnp.asarray(sampler), mask, 1.2)
        value, gradient = _ours(_ppo, "token-mean", importance=weights)
    ratio = torch.clamp(torch.exp(torch.tensor(old - sampler) * torch.tensor(mask)), max=1.2)  # as it makes its own
    expected, expected_gradient = _theirs("dapo", "token", importance=ratio.numpy())
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-9)
