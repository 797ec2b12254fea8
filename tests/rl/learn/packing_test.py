"""Packing: every loss token once, no row overfull, arrival order irrelevant, episodes kept apart."""

import dataclasses
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.base import Score
from rl import trajectory
from rl.learn import packing

ROW, ROWS = 16, 2


def episode(task, member, tokens, mask, logprobs=None):
    """A trajectory with the given record."""
    return trajectory.Trajectory(
        task_id=task,
        member=member,
        tokens=list(tokens),
        loss_mask=list(mask),
        logprobs=list(logprobs) if logprobs else [-0.5 * m for m in mask],
        policy_version=0,
        reason=trajectory.ENDED,
        score=Score(1.0, {}, []),
        messages=[],
        tools=[],
        turns=1,
    )


@st.composite
def batches(draw):
    """Episodes with unique tokens (so that each can be found again), logprobs and advantages."""
    lengths = draw(st.lists(st.integers(1, ROW), min_size=0, max_size=12))
    episodes, advantages, token = [], [], 1
    for index, length in enumerate(lengths):
        mask = [0] + draw(st.lists(st.integers(0, 1), min_size=length - 1, max_size=length - 1))
        tokens = range(token, token + length)
        token += length
        logprobs = [-0.001 * t * m for t, m in zip(tokens, mask)]
        episodes.append(episode(f"t{index // 3}", index % 3, tokens, mask, logprobs))
        advantages.append(draw(st.sampled_from([-1.0, 0.5, 2.0])))
    return episodes, advantages


def packed(episodes, advantages):
    """Packs into the worst-case number of micro-batches."""
    bound = packing.max_micro_batches(len(episodes), ROW, ROW, ROWS)
    return packing.pack(episodes, advantages, ROW, ROWS, bound)


@settings(max_examples=60, deadline=None)
@given(batches())
def test_every_loss_token_stands_exactly_once(batch):
    """Found again by its (unique) token, with its own history, logprob and advantage."""
    episodes, advantages = batch
    got = packed(episodes, advantages)
    where = {int(got.targets[place]): place for place in map(tuple, np.argwhere(got.loss_mask > 0))}
    expected = [(e, a, t) for e, a in zip(episodes, advantages) for t, m in enumerate(e.loss_mask) if m]
    assert got.loss_mask.sum() == got.denominator == len(expected) == len(where)
    for e, a, t in expected:
        m, r, place = where[e.tokens[t]]
        assert got.positions[m, r, place] == t - 1
        history = slice(place - (t - 1), place + 1)
        assert got.tokens[m, r, history].tolist() == e.tokens[:t]
        assert len(set(got.segment_ids[m, r, history].tolist())) == 1 and got.segment_ids[m, r, place] > 0
        assert got.sampler_logprobs[m, r, place] == np.float32(e.logprobs[t])
        assert got.advantages[m, r, place] == np.float32(a)


@settings(max_examples=60, deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_arrival_order_is_irrelevant(batch, rng):
    episodes, advantages = batch
    order = rng.sample(range(len(episodes)), len(episodes))
    first, second = packed(episodes, advantages), packed([episodes[i] for i in order], [advantages[i] for i in order])
    for field in dataclasses.fields(packing.Batch):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@settings(max_examples=60, deadline=None)
@given(batches())
def test_segments_never_mix(batch):
    """A segment is one contiguous run of one episode, positions restart, padding is 0 and masked, `used` is tight."""
    episodes, advantages = batch
    got = packed(episodes, advantages)
    owner = {token: index for index, e in enumerate(episodes) for token in e.tokens}
    for m, r in np.ndindex(*got.tokens.shape[:2]):
        ids = got.segment_ids[m, r]
        filled = int((ids > 0).sum())
        assert (ids[:filled] > 0).all() and (np.diff(ids[:filled]) >= 0).all()
        for segment in range(1, ids.max() + 1):
            (places,) = np.nonzero(ids == segment)
            assert got.positions[m, r, places].tolist() == list(range(len(places)))
            owners = {owner[int(t)] for t in [*got.tokens[m, r, places], *got.targets[m, r, places]]}
            assert len(owners) == 1
        for name in ("tokens", "targets", "positions", "loss_mask", "sampler_logprobs", "advantages"):
            assert not getattr(got, name)[m, r, filled:].any()
    assert not got.sampler_logprobs[got.loss_mask == 0].any() and not got.advantages[got.loss_mask == 0].any()
    assert (got.segment_ids[: got.used] > 0).any(axis=(1, 2)).all() and not got.segment_ids[got.used :].any()


@st.composite
def groups(draw):
    """Episodes of up to three tasks, whose prompts are alike up to some token; tokens from few, so that what is sampled
    is alike at times as well; advantages one for each token. Some have no loss token."""
    token, out = st.integers(1, 2), []
    for task in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(token, min_size=1, max_size=6))
        for member in range(draw(st.integers(1, 4))):
            own = draw(st.lists(token, min_size=0, max_size=ROW - len(prompt)))
            mask = [0] * len(prompt) + draw(st.lists(st.integers(0, 1), min_size=len(own), max_size=len(own)))
            logprobs = [-draw(st.integers(1, 999)) / 1000 * m for m in mask]
            out.append((episode(f"t{task}", member, prompt + own, mask, logprobs), np.arange(len(mask)) + member / 8))
    return draw(st.permutations(out))


@settings(max_examples=100, deadline=None)
@given(groups())
def test_shared_prefixes_leave_every_prediction_its_own_history(found):
    """What a loss token's place sees (earlier places of its segment and of its parent) is its episode up to there."""
    episodes, advantages = [e for e, _ in found], [a for _, a in found]
    bound = packing.max_micro_batches(len(episodes), ROW, ROW, ROWS)
    got = packing.pack(episodes, advantages, ROW, ROWS, bound, share_prefix=True)
    expected, seen = [], []
    for e, a in found:
        places = [t for t, m in enumerate(e.loss_mask) if m]
        expected += [(tuple(e.tokens[: t + 1]), t - 1, np.float32(e.logprobs[t]), np.float32(a[t])) for t in places]
    for m, r, t in np.argwhere(got.loss_mask > 0):
        ids, parents = got.segment_ids[m, r], got.parent_ids[m, r]
        visible = ((ids == ids[t]) | (ids == parents[t])) & (np.arange(ROW) <= t)
        assert got.positions[m, r, visible].tolist() == list(range(visible.sum()))
        history = (*got.tokens[m, r, visible].tolist(), int(got.targets[m, r, t]))
        seen.append((history, got.positions[m, r, t], got.sampler_logprobs[m, r, t], got.advantages[m, r, t]))
    assert sorted(seen) == sorted(expected)
    assert got.denominator == len(expected) and got.sequences == sum(any(e.loss_mask) for e in episodes)
    apart = packing.pack(episodes, advantages, ROW, ROWS, bound)
    assert (got.segment_ids > 0).sum() <= (apart.segment_ids > 0).sum()
    again = packing.pack(episodes[::-1], advantages[::-1], ROW, ROWS, bound, share_prefix=True)
    for field in ("tokens", "parent_ids", "advantages"):
        np.testing.assert_array_equal(getattr(got, field), getattr(again, field))


def test_a_shared_prefix_by_hand():
    """Prompts 1 2 3; the first prediction with a loss is made at 3, which is therefore each episode's own."""
    a = episode("a", 0, [1, 2, 3, 7, 8], [0, 0, 0, 1, 1])
    b = episode("a", 1, [1, 2, 3, 7, 9], [0, 0, 0, 1, 0])
    got = packing.pack([b, a], [-1.0, 3.0], row_length=8, rows=1, micro_batches=1, share_prefix=True)
    assert got.tokens[0, 0].tolist() == [1, 2, 3, 7, 3, 0, 0, 0]
    assert got.targets[0, 0].tolist() == [2, 3, 7, 8, 7, 0, 0, 0]
    assert got.positions[0, 0].tolist() == [0, 1, 2, 3, 2, 0, 0, 0]
    assert got.segment_ids[0, 0].tolist() == [1, 1, 2, 2, 3, 0, 0, 0]
    assert got.parent_ids[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert got.advantages[0, 0].tolist() == [0, 0, 3, 3, -1, 0, 0, 0]
    alone = packing.pack([b], [-1.0], row_length=8, rows=1, micro_batches=1, share_prefix=True)
    assert alone.tokens[0, 0].tolist() == [1, 2, 3, 0, 0, 0, 0, 0] and alone.segment_ids[0, 0].max() == 1


def test_the_layout_by_hand():
    """Episode a: tokens 1 2 3 4 5, sampled 3 and 5. Episode b: tokens 6 7 8, sampled 7; 8 is never needed."""
    a = episode("a", 0, [1, 2, 3, 4, 5], [0, 0, 1, 0, 1], [0, 0, -0.25, 0, -0.5])
    b = episode("b", 0, [6, 7, 8], [0, 1, 0], [0, -2.0, 0])
    got = packing.pack([b, a], [-1.0, 3.0], row_length=6, rows=1, micro_batches=2)
    assert got.tokens[0, 0].tolist() == [1, 2, 3, 4, 6, 0]
    assert got.targets[0, 0].tolist() == [2, 3, 4, 5, 7, 0]
    assert got.positions[0, 0].tolist() == [0, 1, 2, 3, 0, 0]
    assert got.segment_ids[0, 0].tolist() == [1, 1, 1, 1, 2, 0]
    assert got.loss_mask[0, 0].tolist() == [0, 1, 0, 1, 1, 0]
    assert got.sampler_logprobs[0, 0].tolist() == [0, -0.25, 0, -0.5, -2, 0]
    assert got.advantages[0, 0].tolist() == [0, 3, 0, 3, -1, 0]
    assert got.used == 1 and got.denominator == 3 and got.tokens.shape == (2, 1, 6)


def test_keep_sets_stand_with_their_targets():
    """Also beside a shared prefix; a set larger than there is room for is an error."""
    kept = [[], [], [], [7, 4], [8]]
    a = dataclasses.replace(episode("a", 0, [1, 2, 3, 7, 8], [0, 0, 0, 1, 1]), kept=kept)
    b = episode("a", 1, [1, 2, 3, 7, 9], [0, 0, 0, 1, 0])
    got = packing.pack([b, a], [-1.0, 3.0], 8, 1, 1, share_prefix=True, most_kept=2)
    none = [-1, -1]
    assert got.targets[0, 0].tolist() == [2, 3, 7, 8, 7, 0, 0, 0]
    assert got.kept[0, 0].tolist() == [none, none, [7, 4], [8, -1], none, none, none, none]
    assert packing.pack([b], [1.0], 8, 1, 1).kept is None
    with pytest.raises(ValueError, match="'a' member 0: a keep-set of 2 tokens, expected at most 1 .sampler.top_k."):
        packing.pack([a], [1.0], 8, 1, 1, most_kept=1)


@pytest.mark.parametrize("context", [3, 5, 8, 9, 16])
def test_the_bound_on_micro_batches_holds_and_is_reached(context):
    rng = random.Random(0)
    for count in range(1, 20):
        bound = packing.max_micro_batches(count, context, ROW, ROWS)
        lengths = [rng.randint(2, context) for _ in range(count)]
        full = [episode(f"t{i}", 0, range(n), [0] + [1] * (n - 1)) for i, n in enumerate(lengths)]
        packing.pack(full, [1.0] * count, ROW, ROWS, bound)  # raises if the bound is too small
    full = [episode(f"t{i}", 0, range(9), [0] + [1] * 8) for i in range(7)]
    assert packing.pack(full, [1.0] * 7, 9, ROWS, packing.max_micro_batches(7, 9, 9, ROWS)).used == 4


def test_errors_name_what_is_wrong():
    good = episode("shop/1", 3, range(10), [0] + [1] * 9)
    with pytest.raises(ValueError, match=r"'shop/1' member 3: 10 tokens are longer than row_length 8"):
        packing.pack([good], [1.0], 8, 1, 1)
    with pytest.raises(ValueError, match="2 episodes need 2 rows, more than 1 x 1"):
        packing.pack([good, good], [1.0, 1.0], 16, 1, 1)
    with pytest.raises(ValueError, match="'shop/1' member 3: the advantage is nan"):
        packing.pack([good], [float("nan")], 16, 1, 1)
    with pytest.raises(ValueError, match=r"member 3: \(2,\) advantages, expected one, or one for each of the 10"):
        packing.pack([good], [[1.0, 2.0]], 16, 1, 1)
    with pytest.raises(ValueError, match="covers the first token"):
        packing.pack([episode("a", 0, [1, 2], [1, 1])], [1.0], 16, 1, 1)
    with pytest.raises(ValueError, match="2 tokens, 3 loss mask entries"):
        packing.pack([episode("a", 0, [1, 2], [0, 1, 1])], [1.0], 16, 1, 1)
    with pytest.raises(ValueError, match="1 trajectories but 0 advantages"):
        packing.pack([good], [], 16, 1, 1)
    with pytest.raises(ValueError, match="row_length 8 is shorter than the longest possible episode, 9"):
        packing.max_micro_batches(4, 9, 8, 1)
