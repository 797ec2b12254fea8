"""Writes the tiny Qwen3 of the demo, or of the reasoning flywheel, before training: tokenizer and config.json.

    ./run -m rl.warmstart.tiny agentic|reasoning DIR

The tokenizer is a byte-level BPE trained on demonstrations of base personas and roots. `make base` runs this and then
trains the weights (configs/base.py); `make reasoning_base` does so with configs/reasoning_base.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import safetensors.numpy

from model.checkpoints import hf_config
from model.text import tokenizer
from model.text.chat import Chat
from rl.warmstart import demonstrations, induction, worked
from synth import operators
from synth.trees import domains, workflow

VOCABULARY = 1536
# As in configs/base.py, which trains the weights.
DOMAINS = "orders,hotels,clinics,banking,libraries,rentals,parcels,courses,events,utilities"
OPERATORS = "guard,hidden,missing,confirm"
# As in configs/reasoning_base.py.
WEIGHTS = "reasoning=2,search=1,data=1"
FAMILIES = "arithmetic,finance,units"
PROBLEM_OPERATORS = "resample,constrain,unknown,distract,move"
DEMONSTRATIONS = 2000
ARCHITECTURE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
}
# What differs in the reasoning model: wider heads and slower rotations, which rl/warmstart/induction.py needs.
REASONER = {"head_dim": 64, "rope_theta": 1000000.0}


def corpus(count: int) -> list[str]:
    """Rendered conversations of `count` careful demonstrations."""
    plain = tokenizer.train([], 300)  # bytes only; the rendered text does not depend on the tokenizer
    chat = Chat(plain)
    workflows = workflow.roots("base", 200, domains.select(DOMAINS), 0)
    chosen = operators.select(OPERATORS)
    texts = []
    for index in range(count):
        task = demonstrations.draw_task(workflows, chosen, 3, 0, index)
        item = demonstrations.demonstrate(task, {}, chat, 0)
        texts.append(plain.apply_chat_template(item.messages, tools=item.tools, tokenize=False))
    return texts


def question_corpus(count: int) -> list[str]:
    """Rendered conversations of `count` careful transcripts of questions."""
    plain = tokenizer.train([], 300, tokenizer.QUESTION_PIECES)
    chat, questions = Chat(plain), worked.Questions("base", WEIGHTS, FAMILIES, PROBLEM_OPERATORS, 200, 0)
    items = [worked.demonstrate(questions.draw(index), {}, chat, 0) for index in range(count)]
    return [plain.apply_chat_template(item.messages, tools=item.tools, tokenize=False) for item in items]


def main(argv: list[str]) -> int:
    """Writes the folder. Returns the exit status: 2 if the command is wrong, else 0."""
    if len(argv) != 2 or argv[0] not in ("agentic", "reasoning") or argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if argv[0] == "agentic":
        made, architecture = tokenizer.train(corpus(DEMONSTRATIONS), VOCABULARY), ARCHITECTURE
    else:
        made = tokenizer.train(question_corpus(DEMONSTRATIONS), VOCABULARY, tokenizer.QUESTION_PIECES)
        architecture = {**ARCHITECTURE, **REASONER}
        first = induction.weights(architecture, seed=0)
        safetensors.numpy.save_file(first, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(made, folder)
    (folder / "config.json").write_text(json.dumps(architecture, indent=2) + "\n")
    hf_config.read(folder)  # raises if the architecture cannot be loaded
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
