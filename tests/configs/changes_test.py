"""What may change in a run that is under way, key by key, and in one line."""

import pytest

from configs import changes, default, validate

VALUES = dict(validate.leaves(default.get_config()))
# Where results depend on a key that otherwise changes only speed.
BINDING = {"rl.covariance": "clip", "rl.router_coef": 0.1, "rl.sft_steps": 5}


def other(key):
    """Another value of the key's type."""
    value = VALUES[key]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else f"{value}x"


def between(stage="flywheel", **changed):
    new = VALUES | {key.replace("__", "."): value for key, value in changed.items()}
    return changes.between(VALUES, new, stage)


def test_the_tables_name_keys_that_there_are():
    named = {name for name in (*changes.FREE, *changes.SPEED, *changes.GROWING) if not name.endswith(".")}
    assert named <= VALUES.keys() and set(changes.LAYOUT) <= set(changes.SPEED)
    assert {name for name in changes.FREE if name.endswith(".")} <= {f"{key.split('.')[0]}." for key in VALUES}
    assert not set(changes.FREE) & set(changes.SPEED)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_every_key_is_free_told_or_refused(key):
    found = changes.between(VALUES, VALUES | {key: other(key)}, "flywheel")
    free = key in changes.FREE or f"{key.split('.')[0]}." in changes.FREE
    assert bool(found.speed) == (key in changes.SPEED)
    assert bool(found.more) == (key in changes.GROWING)
    assert bool(found.refused) == (not free and key not in (*changes.SPEED, *changes.GROWING))
    assert bool(found.told()) == (key in (*changes.SPEED, *changes.GROWING))
    assert "\n" not in found.told()


def test_what_the_demo_of_a_run_on_other_machines_needs():
    found = between(mesh__fsdp=2, rl__rows=4, rl__steps=32)
    assert found == changes.Changes((), ("mesh.fsdp -1 -> 2", "rl.rows 8 -> 4"), ("rl.steps 16 -> 32",))
    assert found.told() == "mesh.fsdp -1 -> 2, rl.rows 8 -> 4 (speed and last bits); rl.steps 16 -> 32"


def test_there_is_never_less():
    assert between(rl__steps=8, rl__rounds=2).refused == ("rl.rounds (was 3, now 2)", "rl.steps (was 16, now 8)")


@pytest.mark.parametrize("key", BINDING)
def test_a_key_on_which_results_depend_after_all_may_not_change(key):
    old = VALUES | {key: BINDING[key]}
    bound = ("rl.row_length",) if key == "rl.sft_steps" else changes.LAYOUT
    for name in changes.SPEED:
        found = changes.between(old, old | {name: other(name)}, "flywheel")
        assert bool(found.refused) == (name in bound) and bool(found.speed) == (name not in bound)


def test_stages_and_teachers():
    assert between(evaluate__trials=9).refused and not between("evaluate", evaluate__trials=9).refused
    llm = VALUES | {"synth.teacher": "llm"}
    assert not changes.between(llm, VALUES | {"synth.teacher": "replay"}, "rl").refused
    assert changes.between(VALUES, llm, "rl").refused
    ahead = VALUES | {"rl.max_staleness": 1}
    assert changes.between(ahead, ahead | {"checkpoint.every": 9}, "rl").refused == ("checkpoint.every (was 4, now 9)",)


def test_a_workdir_of_an_older_version_has_fewer_keys():
    older = {key: value for key, value in VALUES.items() if key not in ("rl.rows", "rl.steps", "seed", "serve.port")}
    found = changes.between(older, VALUES, "flywheel")
    assert found.refused == ("rl.steps (was None, now 16)", "seed (was None, now 0)")
    assert found.speed == ("rl.rows None -> 8",)
