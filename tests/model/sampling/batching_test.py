"""Continuous batching: whatever happens in the other slots and in whatever order, a turn's tokens are the same to the
bit, no slot is lost, no prompt is computed twice and no slot reads another's cache."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model.network import transformer
from model.sampling import draw, sampler
from tests.support import policies

V, CONTEXT, SLOTS = 61, 300, 4
CONFIG = transformer.Config(
    vocab_size=V, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8,
)  # fmt: skip


def tiny():
    """(graphdef, params) of the policy under test."""
    return policies.sharp(CONFIG)


def make_engine(config=CONFIG, **changes):
    sizes = dict(slots=SLOTS, context=CONTEXT, prefill_chunk=16, max_new_tokens=7, stop_ids=range(12))
    sizes |= {"prefill_rows": 2, "decode_steps": 3, **changes}
    return sampler.Engine(policies.sharp(config)[0], config, **sizes)


MIXTURE = dataclasses.replace(
    CONFIG, model_type="qwen3_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True
)


@dataclasses.dataclass(frozen=True)
class Script:
    """An episode: what is appended before each of its turns, and where its random keys come from."""

    name: str
    appended: tuple[tuple[int, ...], ...]

    def request(self, slot: int, turn: int) -> sampler.Request:
        return sampler.Request(slot, self.appended[turn], draw.turn_keys(3, [self.name], [0], [turn])[0])


def tokens(length, seed):
    return tuple(np.random.default_rng(seed).integers(0, V, length).tolist())


SYSTEM = tokens(70, 0)
# Groups with one prompt, prompts with one beginning, one that is the beginning of another, and strangers.
SCRIPTS = [
    *(Script(f"group {i}", (SYSTEM + tokens(9, 1), tokens(5, i), tokens(40, i + 50))) for i in range(4)),
    *(Script(f"same system {i}", (SYSTEM + tokens(20 + i, i), tokens(3, i))) for i in range(3)),
    Script("beginning", (SYSTEM[:64], tokens(2, 9))),
    Script("long", (tokens(200, 5), tokens(33, 6), tokens(1, 7))),
    Script("short", (tokens(1, 8), tokens(1, 9), tokens(17, 9))),
]


@functools.cache
def alone(script):
    """The episode's turns in an engine that nobody else uses."""
    engine = make_engine()
    return [engine.turn(engine.place(tiny()[1]), [script.request(0, turn)])[0] for turn in range(len(script.appended))]


def play(engine, order, on_step=lambda engine: None):
    """Plays the scripts in this order, each in the next free slot; name -> samples."""
    params, queue, free = engine.place(tiny()[1]), list(order), list(range(SLOTS))
    playing, found = {}, {script.name: [] for script in order}
    while queue or playing:
        while queue and free:
            slot, script = free.pop(0), queue.pop(0)
            engine.submit([script.request(slot, 0)])
            playing[slot] = script
        for slot, sample in engine.step(params):
            script = playing[slot]
            found[script.name].append(sample)
            turn = len(found[script.name])
            if turn < len(script.appended):
                engine.submit([script.request(slot, turn)])
            else:
                engine.release(slot)
                free.append(slot)
                del playing[slot]
        on_step(engine)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_turns_are_the_same_to_the_bit_whatever_the_order_and_the_company(seed):
    """Tokens and logprobs, compared with `==`."""
    order = [SCRIPTS[i] for i in np.random.default_rng(seed).permutation(len(SCRIPTS))]
    engine = make_engine()
    found = play(engine, order)
    for script in SCRIPTS:
        assert found[script.name] == alone(script), script.name
    # The system prompt in whole pieces, and the group's prompt, were computed once as long as somebody held them.
    given = sum(len(part) for script in SCRIPTS for part in script.appended)
    assert engine.stats.shared_tokens > 2 * len(SYSTEM)
    read_back = sum(len(samples) - 1 for samples in found.values())  # the last token of each turn but the last
    assert engine.stats.prefill_tokens + engine.stats.shared_tokens == given + read_back


@pytest.mark.parametrize(
    "config", [CONFIG, pytest.param(MIXTURE, marks=pytest.mark.slow)], ids=["dense", "mixture of experts"]
)
def test_every_slot_gives_the_same(config):
    """One prompt and one key in all of many slots, each prefilling for itself: wherever a row lies in a product, it is
    the same to the bit."""
    engine = make_engine(config, slots=24, prefill_rows=5, stop_ids=(), share_prompts=False)
    params, key = engine.place(policies.sharp(config)[1]), draw.turn_keys(0, ["t"], [0], [0])[0]
    for turn in range(2):
        samples = engine.turn(params, [sampler.Request(i, tokens(50, turn), key) for i in range(24)])
        assert samples == samples[:1] * 24


def test_a_group_computes_its_prompt_once():
    engine = make_engine()
    prompt = tokens(100, 3)
    keys = draw.turn_keys(0, ["t"] * SLOTS, range(SLOTS), [0] * SLOTS)
    samples = engine.turn(engine.place(tiny()[1]), [sampler.Request(i, prompt, keys[i]) for i in range(SLOTS)])
    assert engine.stats.prefill_tokens == 100 and engine.stats.shared_tokens == 300
    assert len({tuple(sample.tokens) for sample in samples}) == SLOTS
    engine.forget()  # as for new parameters: nothing is taken over
    for slot in range(SLOTS):
        engine.release(slot)
    assert engine.turn(engine.place(tiny()[1]), [sampler.Request(0, prompt, keys[0])]) == samples[:1]
    assert engine.stats.prefill_tokens == 200


def test_a_long_neighbour_changes_no_bit():
    """A long neighbour makes calls read more of the cache."""
    short, long = SCRIPTS[-1], Script("very long", (tokens(270, 1), tokens(1, 2)))
    engine = make_engine()
    found = play(engine, [long, short])
    assert found["short"] == alone(short) and found["very long"] == alone(long)


def test_no_program_is_compiled_once_all_have_been_seen():
    for _ in range(2):
        play(make_engine(), SCRIPTS)
    warm = sampler.compilations()
    for seed in range(3):
        play(make_engine(), [SCRIPTS[i] for i in np.random.default_rng(seed).permutation(len(SCRIPTS))])
    assert sampler.compilations() == warm


class Events(RuleBasedStateMachine):
    """Episodes that begin, go on, are dropped in the middle of anything, and end, in random order."""

    def __init__(self):
        super().__init__()
        self.engine = make_engine()
        self.params = self.engine.place(tiny()[1])
        self.playing, self.parked = {}, {}

    def free(self):
        return [slot for slot in range(SLOTS) if slot not in self.playing and slot not in self.parked]

    @precondition(lambda self: self.free())
    @rule(which=st.integers(0, len(SCRIPTS) - 1), place=st.integers(0, SLOTS - 1))
    def start(self, which, place):
        slot = self.free()[place % len(self.free())]
        self.engine.submit([SCRIPTS[which].request(slot, 0)])
        self.playing[slot] = (SCRIPTS[which], 0)

    @rule(times=st.integers(1, 4))
    def step(self, times):
        for _ in range(times):
            for slot, sample in self.engine.step(self.params):
                script, turn = self.playing.pop(slot)
                assert sample == alone(script)[turn]
                if turn + 1 < len(script.appended):
                    self.parked[slot] = (script, turn + 1)
                else:
                    self.engine.release(slot)

    @precondition(lambda self: self.parked)
    @rule(place=st.integers(0, SLOTS - 1))
    def resume(self, place):
        slot = sorted(self.parked)[place % len(self.parked)]
        script, turn = self.parked.pop(slot)
        self.engine.submit([script.request(slot, turn)])
        self.playing[slot] = (script, turn)

    @precondition(lambda self: self.playing or self.parked)
    @rule(place=st.integers(0, SLOTS - 1))
    def cancel(self, place):
        slots = sorted([*self.playing, *self.parked])
        slot = slots[place % len(slots)]
        self.engine.release(slot)
        self.playing.pop(slot, None)
        self.parked.pop(slot, None)

    @invariant()
    def no_slot_is_lost(self):
        assert self.engine.busy == bool(self.playing)
        for slot in self.free():
            assert self.engine.room(slot) == CONTEXT - 1

    def teardown(self):
        """What is still under way ends, and the engine takes a whole set of episodes as if nothing had been."""
        for _ in range(200):
            if not self.playing:
                break
            self.step(1)
        assert not self.engine.busy
        for slot in self.parked:
            self.engine.release(slot)
        assert play(self.engine, SCRIPTS[:5]) == {script.name: alone(script) for script in SCRIPTS[:5]}


test_random_events = Events.TestCase
test_random_events.settings = settings(max_examples=15, stateful_step_count=70)
test_ten_thousand_random_events = pytest.mark.slow(type("Many", (Events.TestCase,), {}))
test_ten_thousand_random_events.settings = settings(max_examples=150, stateful_step_count=70)
