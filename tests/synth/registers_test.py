"""Which domains a run's tasks are from."""

import pytest

from synth import registers
from synth.trees import domains


def test_some_businesses_are_never_trained_on():
    chosen = registers.select("business", "all", 12, 0.2)
    train, heldout = ({domain.name for domain in chosen[split]} for split in ("train", "heldout"))
    unseen = heldout - train
    assert len(unseen) == 4 and len(heldout) == 8 and len(train | heldout) == 20
    assert chosen == registers.select("business", "all", 12, 0.2)


def test_one_business_is_both_trained_on_and_held_out():
    chosen = registers.select("business", "cycle_repair", 0, 0.2)
    assert (
        [domain.name for domain in chosen["train"]] == [domain.name for domain in chosen["heldout"]] == ["cycle_repair"]
    )


def test_the_tiny_dialect_has_its_own_domains():
    chosen = registers.select("tiny", "all")
    assert chosen["train"] == chosen["heldout"] == domains.select("all")
    assert all(type(domain) is domains.Domain for domain in chosen["train"])


@pytest.mark.parametrize(
    ("register", "names", "message"),
    [("plain", "all", "synth.register: unknown 'plain'"), ("business", "shop", "synth.domains: unknown"),
     ("business", "", "synth.domains: unknown"), ("tiny", "cycle_repair_0", "synth.domains: unknown")],
)  # fmt: skip
def test_unknown_names_are_named(register, names, message):
    with pytest.raises(ValueError, match=message):
        registers.select(register, names)
