"""How often a language model that judges episodes agrees with the reward by code, on episodes that have both.

    ./run -m rl.reports.agreement --workdir=DIR [--round=K]

reads DIR/rollouts and prints JSON. Left out are episodes of simulated worlds, which have no reward by code, and
episodes without a verdict of the judge.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from rl.reports import report


def kappa(table: Mapping[tuple[bool, bool], int]) -> float | None:
    """Cohen's kappa (Cohen 1960), (p_o - p_e) / (1 - p_e), of a table (one verdict, other verdict) -> count.

    p_o is the observed agreement; p_e is the agreement by chance of two judges that give each verdict as often as these
    two. None if the table is empty or p_e = 1.
    """
    total = sum(table.values())
    if not total:
        return None
    same = sum(count for (one, other), count in table.items() if one == other) / total
    one, other = (sum(n for verdicts, n in table.items() if verdicts[i]) / total for i in range(2))
    chance = one * other + (1 - one) * (1 - other)
    return None if chance == 1 else (same - chance) / (1 - chance)


def measure(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The agreement of judge and code on recorded episodes (lines of rollouts/*.jsonl).

    The counts: "judged" episodes; of these "without_verdict", "without_code" (no reward by code) and "both", which are
    compared. Of "both": "passed_by_both", "passed_by_judge_only", "passed_by_code_only", "passed_by_none".
    "agreement" is the share of "both" with equal verdicts, "kappa" see `kappa`, "reward_difference" the mean of
    |judge's reward - code's reward|. All three are None if there is nothing to compare.
    """
    counts, table, differences = Counter(), Counter(), []
    for score in (record["score"] for record in records):
        if score.get("reward_source") != "llm":
            continue
        counts["judged"] += 1
        if score["reward"] is None:
            counts["without_verdict"] += 1
        elif score["code_reward"] is None:
            counts["without_code"] += 1
        else:
            table[score["reward"] == 1.0, score["code_reward"] == 1.0] += 1
            differences.append(abs(score["reward"] - score["code_reward"]))
    both = table.total()
    return {
        **{name: counts[name] for name in ("judged", "without_verdict", "without_code")},
        "both": both,
        "passed_by_both": table[True, True],
        "passed_by_judge_only": table[True, False],
        "passed_by_code_only": table[False, True],
        "passed_by_none": table[False, False],
        "agreement": (table[True, True] + table[False, False]) / both if both else None,
        "kappa": kappa(table),
        "reward_difference": sum(differences) / both if both else None,
    }


def main(argv: Sequence[str]) -> None:
    """The command at the top of this file."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "The run's folder.", flag_values=values, required=True)
    flags.DEFINE_integer("round", None, "Only episodes of this round.", 0, flag_values=values)
    try:
        values(["", *argv])
        print(json.dumps(measure(report.rollouts(values.workdir, values.round, "train")), indent=2))
    except (flags.Error, FileNotFoundError, ValueError) as error:
        sys.exit(f"rl.reports.agreement: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
