"""Contender: transformers' Qwen3 on PyTorch (scaled-dot-product attention, fused AdamW)."""

import torch
import transformers

from benchmarks.contestants import architecture, contest

held = {}


def load(path: str) -> dict:
    """Loads the checkpoint and makes the optimiser."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=architecture.LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    rows = torch.from_numpy(architecture.rows()).long()
    held.update(model=model, optimiser=optimiser, inputs=rows[:, :-1], targets=rows[:, 1:])
    return {"parameters": sum(p.numel() for p in model.parameters()), "version": transformers.__version__}


def _loss() -> torch.Tensor:
    logits = held["model"](input_ids=held["inputs"], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), held["targets"].flatten())


def forward() -> dict:
    """Logits of the batch; value: their sum of squares."""

    def work():
        with torch.inference_mode():
            return held["model"](input_ids=held["inputs"], use_cache=False).logits

    seconds, logits = architecture.timed(work)
    return {"seconds": seconds, "value": float(logits.double().square().sum())}


def train() -> dict:
    """One update; value: the loss before it."""

    def work():
        held["optimiser"].zero_grad(set_to_none=True)
        loss = _loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(held["model"].parameters(), architecture.MAX_GRAD_NORM)
        held["optimiser"].step()
        return loss.item()

    seconds, loss = architecture.timed(work)
    return {"seconds": seconds, "value": loss}


def sample() -> dict:
    """Samples every prompt with logprobs; value: tokens sampled."""
    prompts = torch.from_numpy(architecture.prompts()).long()

    def work():
        with torch.inference_mode():
            found = held["model"].generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=architecture.NEW, do_sample=True,
                min_new_tokens=architecture.NEW, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
                return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
            scores = held["model"].compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
        return scores.numpy()

    seconds, scores = architecture.timed(work)
    return {"seconds": seconds, "value": scores.size}


def read_weights() -> dict:
    """Seconds to read as many bytes as the model has, the fastest of five runs: a lower bound for a decode step."""
    x = torch.ones(sum(p.numel() for p in held["model"].parameters()))
    return {"seconds": min(architecture.timed(lambda: x.sum())[0] for _ in range(5))}


def matmul() -> dict:
    """Seconds for one square float32 matrix product, the fastest of three runs."""
    a, b = (torch.randn(architecture.MATMUL, architecture.MATMUL) for _ in range(2))
    return {"seconds": min(architecture.timed(lambda: a @ b)[0] for _ in range(3))}


if __name__ == "__main__":
    contest.serve(
        {
            "load": load,
            "forward": forward,
            "train": train,
            "sample": sample,
            "read_weights": read_weights,
            "matmul": matmul,
        }
    )
