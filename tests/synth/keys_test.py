"""Keys on disk against a dict of sets, and in memory that does not grow with them."""

import os
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from synth.keys import Keys

KEYS = st.tuples(st.sampled_from(["a", "b"]), st.one_of(st.integers(0, 3), st.text(max_size=2), st.binary(max_size=2)))


@settings(max_examples=30)  # each makes a file
@given(st.lists(st.tuples(KEYS, st.sampled_from(["", "x", "y"]))))
def test_it_is_a_map_to_sets(added):
    ours, theirs = Keys(), defaultdict(set)
    for key, value in added:
        assert ours.add(key, value) == (value not in theirs[key])
        theirs[key].add(value)
    ours.add_all(theirs, "all")
    for found in theirs.values():
        found.add("all")
    for key in [*theirs, ("c", 0)]:
        assert ours.find(key) == sorted(theirs[key])


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_many_keys_take_no_more_memory_than_few():
    keys = Keys()
    for number in range(20_000):  # fills what sqlite keeps in memory
        keys.add(("n", number), "v" * 100)
    before = resident()
    for number in range(20_000, 70_000):  # 6 MB and more
        keys.add(("n", number), "v" * 100)
    assert resident() - before < 3e6
    assert keys.find(("n", 77)) == ["v" * 100]
