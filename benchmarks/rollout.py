"""The sampler's speed on the 27M-parameter Qwen3: single turns beside Tunix and transformers, and multi-turn episodes.

    ./run -m benchmarks.rollout       # after make benchmarks; prints one JSON line, progress on stderr

Single turns: tokens/s with logprobs for 8 prompts of 64 tokens and 128 new ones, and the share of the roof that reading
all weights once per token step sets. Multi-turn: benchmarks/contestants/episodes.py, the engine against the static way.
"""

import argparse
import json
import pathlib
import sys
import tempfile

from benchmarks import model
from benchmarks.contestants import architecture, contest


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of single turns, of which the median is taken")
    parser.add_argument("--turns", type=int, default=6, help="of the episodes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        model.write_checkpoint(path)
        contenders = model.enter(path)
        probe = contest.Contender("machine", sys.executable, "benchmarks.contestants.peer_torch")
        probe.ask("load", path=folder)
        count = architecture.SAMPLES * architecture.NEW
        for contender in contenders:
            if (found := contender.ask("sample")["value"]) != count:
                raise ValueError(f"benchmark: {contender.name} sampled {found} tokens, expected {count}")
        entries = [*((contender, "sample") for contender in contenders), (probe, "read_weights")]
        seconds = contest.interleaved(entries, arguments.rounds)
        ways = {}
        for way in ("continuous", "static", "continuous"):  # the first run compiles; the last replaces its result
            ways[way] = contenders[0].ask("episodes", way=way, turns=arguments.turns)
            print(f"{way}: {ways[way]}", file=sys.stderr)
        for contender in (*contenders, probe):
            contender.close()
    if ways["static"]["value"] != ways["continuous"]["value"]:
        raise ValueError(f"benchmark: the two ways played different episodes: {ways}")
    roof = seconds.pop("machine") * architecture.NEW
    print(json.dumps({
        "benchmark": "rollout",
        "single_turn": {
            "tokens_per_second": {name: round(count / s) for name, s in seconds.items()},
            "share_of_weights_roof": {name: round(roof / s, 3) for name, s in seconds.items()},
            "ratio_to_better_peer": round(min(s for n, s in seconds.items() if n != "ours") / seconds["ours"], 3),
        },
        "episodes": {**ways, "ratio": round(ways["static"]["seconds"] / ways["continuous"]["seconds"], 2)},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
