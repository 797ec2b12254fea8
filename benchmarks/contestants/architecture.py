"""The model of the benchmarks, a Qwen3 of 27M parameters in float32, and the data that it is measured on."""

import time

import numpy as np

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
}
ROWS, LENGTH = 4, 512  # of a batch
LEARNING_RATE, MAX_GRAD_NORM = 1e-4, 1.0
SAMPLES, PROMPT, NEW = 8, 64, 128  # single-turn sampling: rows, tokens of a prompt, tokens sampled
MATMUL = 2048  # side of the square matrices of the matmul probe


def rows() -> np.ndarray:
    """The batch, int32 [ROWS, LENGTH + 1]: inputs are all columns but the last, targets all columns but the first."""
    return np.random.default_rng(0).integers(0, CONFIG["vocab_size"], (ROWS, LENGTH + 1), dtype=np.int32)


def prompts() -> np.ndarray:
    """The prompts of single-turn sampling, int32 [SAMPLES, PROMPT], without the special ids of the other samplers."""
    return np.random.default_rng(1).integers(3, CONFIG["vocab_size"], (SAMPLES, PROMPT), dtype=np.int32)


def forward_flops() -> float:
    """FLOPs of the matrix products in one forward pass over the batch: 2 per token and parameter used, and causal
    attention."""
    D, F, L = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
    H, K, N = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
    met = L * (D * N * (2 * H + 2 * K) + 3 * D * F) + D * CONFIG["vocab_size"]
    pairs = 2 * 2 * H * N * L * (LENGTH + 1) / 2
    return ROWS * LENGTH * (2 * met + pairs)


def timed(work) -> tuple[float, object]:
    """(seconds, result) of work(), which must not return before all its computations are finished."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
