"""Which worlds a run's tasks are from: businesses in plain English, or the tiny dialect."""

from __future__ import annotations

import random

from synth.business import catalogue
from synth.trees import domains
from synth.trees.domains import Domain

REGISTERS = ("business", "tiny")


def select(register: str, names: str, businesses: int = 0, unseen_share: float = 0.0) -> dict[str, list[Domain]]:
    """split -> the domains from which its roots are drawn.

    Some businesses are never trained on. In the split "heldout" these, and as many others, take turns, so that both can
    be compared.

    Args:
      register: "business" or "tiny".
      names: comma-separated names of domains, or of businesses, or "all".
      businesses: how many composed businesses there are beside the written ones, if `names` is "all".
      unseen_share: share of the businesses that only held-out tasks are from, in [0, 1).
    Raises:
      ValueError: unknown register or names.
    """
    if register not in REGISTERS:
        raise ValueError(f"synth.register: unknown {register!r}, expected one of {', '.join(REGISTERS)}")
    if register == "tiny":
        return dict.fromkeys(("train", "heldout", "base"), domains.select(names))
    if names == "all":
        chosen = [b.name for b in (*catalogue.written(), *catalogue.composed(businesses))]
    else:
        chosen = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in chosen if not _is_business(name)] or ([names] if not chosen else []):
        known = ", ".join(b.name for b in catalogue.written())
        raise ValueError(
            f"synth.domains: unknown {unknown}, expected 'all' or businesses: {known}, or names of composed ones"
        )
    order = random.Random("unseen").sample(chosen, len(chosen))
    count = min(round(unseen_share * len(chosen)), len(chosen) - 1)
    unseen, seen = order[:count], [name for name in chosen if name not in order[:count]]
    beside = [name for name in order if name in seen][: len(unseen) or None]
    heldout = [name for name in chosen if name in unseen or name in beside]
    found = {"train": seen, "heldout": heldout, "base": seen}
    return {split: [domains.find(name) for name in those] for split, those in found.items()}


def _is_business(name: str) -> bool:
    try:
        return bool(catalogue.find(name))
    except ValueError:
        return False
