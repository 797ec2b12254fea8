"""Speed of the policy-gradient step: padded rows, packed rows, shared prefixes, and Tunix's GRPO step beside them.

    make benchmarks                              # Tunix's environment, then all benchmarks
    ./run -m benchmarks.step          # this one; prints one JSON line, progress on stderr
    ./run -m benchmarks.step --only=mixed     # the half that Tunix has no part in

The model is the benchmark set's, of 27M parameters in float32. "groups": a prompt of 1,024 tokens, eight responses of
about 128; "mixed": lengths drawn from 32 to 1,024. On each all contenders must find the same loss, before an update and
after it, before anything is timed.
"""

import argparse
import json
import pathlib
import sys
import tempfile

from benchmarks import model
from benchmarks.contestants import contest, groups

# episodes (one half of the benchmark) -> its contenders
WAYS = {"groups": ["tunix", "padded", "packed", "shared"], "mixed": ["padded", "packed"]}


def enter(path: pathlib.Path, ways: list[str], episodes: str, count: int, size: int) -> list[contest.Contender]:
    """Starts a contender for each way on the same episodes. Raises ValueError if Tunix's environment is missing."""
    contenders = []
    for way in ways:
        tunix = way == "tunix"
        module = "benchmarks.contestants.step_tunix" if tunix else "benchmarks.contestants.step_ours"
        contender = contest.Contender(way, model.TUNIX_PYTHON if tunix else sys.executable, module)
        arguments = {} if tunix else {"way": way}
        found = contender.ask("load", path=str(path), episodes=episodes, count=count, size=size, **arguments)
        print(f"{episodes}, {way}: {found}", file=sys.stderr)
        contenders.append(contender)
    return contenders


def measure(path: pathlib.Path, ways: list[str], episodes: str, count: int, size: int, rounds: int) -> dict:
    """Way -> episodes per second, and the speedup over the first way. Raises ValueError if losses disagree."""
    contenders = enter(path, ways, episodes, count, size)
    for tolerance in (1e-4, 1e-3):  # the losses before and after the first update
        model.check_agreement(contenders, "train", tolerance)
    seconds = contest.interleaved([(contender, "train") for contender in contenders], rounds)
    for contender in contenders:
        contender.close()
    total = len(getattr(groups, episodes)(count, size))
    return {
        way: {"episodes_per_second": total / seconds[way], "speedup": seconds[ways[0]] / seconds[way]} for way in ways
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--groups", type=int, default=1, help="of eight episodes; Tunix keeps their attention")
    parser.add_argument("--mixed", type=int, default=30, help="episodes of mixed lengths")
    parser.add_argument("--size", type=int, default=1024, help="tokens of a group's prompt, and of the longest episode")
    parser.add_argument("--only", choices=sorted(WAYS), help="measure this half alone")
    options = parser.parse_args()
    halves = [options.only] if options.only else list(WAYS)
    if any("tunix" in WAYS[half] for half in halves) and not model.TUNIX_PYTHON.exists():
        raise ValueError(f"benchmark: {model.TUNIX_PYTHON} is missing: make benchmarks installs it")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        model.write_checkpoint(path)
        found = {
            half: measure(path, WAYS[half], half, getattr(options, half), options.size, options.rounds)
            for half in halves
        }
    print(json.dumps({"benchmark": "step", **found}))


if __name__ == "__main__":
    main()
