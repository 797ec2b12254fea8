"""A cache of bounded weight, beside a list that does the same by hand."""

from hypothesis import given
from hypothesis import strategies as st

from model.text import recent

MOST = 20
USES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=40)


@given(USES)
def test_the_least_recently_used_go_first_and_what_is_too_heavy_is_not_kept(uses):
    cache, kept = recent.Recent(MOST), []  # kept: (key, weight), the one that was used last at the end
    for key, weight in uses:
        known = [entry for entry in kept if entry[0] == key]
        made = []
        found = cache.make(
            key, lambda key=key, made=made: made.append(key) or key * 10, lambda _, weight=weight: weight
        )
        assert found == key * 10 and made == ([] if known else [key])
        if known:
            kept.remove(known[0])
            kept.append(known[0])
        elif weight * recent.SHARE <= MOST:
            kept.append((key, weight))
        while sum(w for _, w in kept) > MOST:
            del kept[0]
        assert (len(cache), cache.weight) == (len(kept), sum(w for _, w in kept)) and cache.weight <= MOST
    assert all((cache.get(key) == key * 10) == any(k == key for k, _ in kept) for key in range(1, 7))


def test_a_key_that_is_put_again_counts_once():
    cache = recent.Recent(MOST)
    for weight in (5, 3, 4):
        cache.put("key", weight, weight)
    assert (cache.get("key"), cache.weight, len(cache)) == (4, 4, 1)
