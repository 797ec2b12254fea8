"""Worked questions: transcripts of scripted agents in the worlds of questions, and drills of copying, for SFT.

The counterpart of demonstrations.py and drills.py for questions. A transcript depends only on (seed, index): a question
of a split, as the rounds of the reasoning flywheel ask it, answered by an agent of envs/workers.py.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence

from ml_collections import config_dict

from envs import actors, base, registry, workers
from envs.base import Score
from model.text.chat import Chat
from rl import trajectory
from rl.trajectory import Trajectory
from rl.warmstart import demonstrations
from synth.corpora import facts, tables
from synth.inversion import script
from synth.problems import catalogue, generate, growth, operators
from synth.problems.growth import Pattern
from synth.question import SLIPS, Question, parse_weights

SLIPPING = 0.6180339887  # index * SLIPPING modulo 1 is spread evenly in [0, 1); used to pick the sloppy transcripts
GROWTH = 2  # rounds whose questions are demonstrated
CORPUS_QUESTIONS = 64  # questions about one corpus; few, so that many corpora are used and none is memorised
CORPUS_INDICES = 1024  # indices of demonstrations that share their corpora
TABLE_QUESTIONS = 128  # questions about tables in each round; limited, because tables are slow to set up


class Questions:
    """Questions like those of the reasoning flywheel's rounds: `draw(index)` returns one.

    split: the split whose roots, personas, names and tables are used. weights, families, chosen: as reasoning.weights,
    reasoning.families and reasoning.operators. roots: number of patterns of problems. Raises ValueError for unknown
    names.
    """

    def __init__(self, split: str, weights: str, families: str, chosen: str, roots: int, seed: int):
        self._seed, self._split, self._weights = seed, split, parse_weights(weights)
        self._operators = operators.select(chosen)
        self._patterns = growth.roots(split, roots, catalogue.select(families), seed)

    def draw(self, index: int) -> Question:
        """The question of an index, of a random world and round."""
        rng = random.Random(f"{self._seed}/worked/{index}")
        (env,) = rng.choices(list(self._weights), list(self._weights.values()))
        number = rng.randrange(GROWTH)
        if env == "search":
            return rng.choice(self._searches(number, index // CORPUS_INDICES))
        if env == "data":
            return rng.choice(self._analyses(number))
        while not (found := generate.questions([self._pattern(number, rng)], 1, rng.randrange(2**32))):
            pass
        return found[0]

    def _pattern(self, number: int, rng: random.Random) -> Pattern:
        """A random pattern, grown `number` times."""
        pattern = rng.choice(self._patterns)
        for _ in range(number):
            (pattern,) = growth.grow([pattern], {}, self._operators, 1.0, rng.randrange(2**32))
        return pattern

    @functools.lru_cache(maxsize=4)  # noqa: B019  one stream lives as long as the process
    def _searches(self, number: int, block: int) -> list[Question]:
        seed = random.Random(f"{self._seed}/{block}").randrange(2**32)
        return facts.questions(self._split, CORPUS_QUESTIONS, 1, number, seed)

    @functools.cache  # noqa: B019
    def _analyses(self, number: int) -> list[Question]:
        return tables.questions(self._split, TABLE_QUESTIONS, 1, number, self._seed)


def demonstrate(
    question: Question, rates: Mapping[str, float], chat: Chat, seed: object, bare: bool = False
) -> Trajectory:
    """Plays a question with a scripted agent and records it token by token.

    rates: slip -> rate in [0, 1]; without any the agent is careful. seed: of the slips. bare: leave out the system
    message and the tools, which are most of a transcript's tokens.
    """
    play = _played_before if question.env == "data" and not rates else _played
    messages, score, tools = play(question.to_json(), tuple(rates.items()), seed if rates else "")
    tokens, loss_mask = chat.encode(messages[1:] if bare else messages, None if bare else tools)
    turns = sum(m["role"] == "assistant" for m in messages)
    return Trajectory(
        question.id, 0, tokens, loss_mask, [0.0] * len(tokens), 0, trajectory.ENDED, score, messages, tools, turns
    )


def _played(text: str, rates: tuple[tuple[str, float], ...], seed: object) -> tuple[list[base.Message], Score, list]:
    """(conversation, score, tools) of a scripted agent that answers a question. text: the question as JSON."""
    question = Question.from_json(text)
    env = registry.make(question)
    actor = workers.worker(question, dict(rates), random.Random(f"{seed}/slips/{question.id}"))
    return *base.run(actors.play(env, actor)), env.tools


_played_before = functools.cache(_played)  # for questions about tables, which are few and repeat often


def copies(names: Sequence[str], chat: Chat, length: int, seed: int, index: int) -> Trajectory:
    """Lines of pairs of a name and a number, then the same pairs three more times in other orders; as many such blocks
    as fit into `length` tokens.

    The loss is on the tokens that can be copied: those of a repeated pair without its first.
    """
    rng = random.Random(f"{seed}/copies/{index}")
    tokens: list[int] = []
    mask: list[int] = []
    while True:
        pairs = [f"{name} is {_number(rng)}." for name in rng.sample(names, 5)]
        lines = [" ".join(rng.sample(pairs, len(pairs))) for _ in range(4)]
        text = "\n".join(lines) + "\n"
        encoded = chat.tokenizer(text, return_offsets_mapping=True)
        if len(tokens) + len(encoded["input_ids"]) > length:
            nothing = Score(1.0, {}, [])
            return Trajectory(
                f"copies/{index}", 0, tokens, mask, [0.0] * len(tokens), 0, trajectory.ENDED, nothing, [], [], 1
            )
        starts = {found.start() for found in re.finditer(r"\w+ is", text)}
        tokens += encoded["input_ids"]
        mask += [int(a > len(lines[0]) and a not in starts) for a, _ in encoded["offset_mapping"]]


def _number(rng: random.Random) -> str:
    """A random number of 1 to 4 digits, or the id of a page: "p" and such a number."""
    return f"{rng.choice(('', 'p'))}{rng.randrange(10 ** rng.randint(1, 4))}"


class Worked:
    """The SFT batches of worked questions; the counterpart of rl.warmstart.sft.Demonstrations.

    The steps have three phases:
      1. copies, and a quarter of bare transcripts (rl.sft_drill_steps);
      2. careful transcripts, a share of them bare (up to step rl.sft_clean_steps);
      3. full transcripts, a share of them sloppy.
    """

    def __init__(self, config: config_dict.ConfigDict, chat: Chat):
        self._config, self._chat, self._seed = config.rl, chat, config.seed
        self._rates = script.parse_flaws(config.rl.sft_flaws, SLIPS)
        r = config.reasoning
        self._questions = Questions(config.rl.sft_split, r.weights, r.families, r.operators, r.train_roots, config.seed)
        self._names = facts.names(config.rl.sft_split)

    def batch(self, step: int) -> list[Trajectory]:
        """The trajectories of a step. A transcript that is too long for a packed row is replaced by the next.

        Raises ValueError if none fits, see demonstrations.fitting.
        """
        c = self._config
        first = step * c.sft_episodes * 2  # 2 leaves indices for replacements, so that steps do not overlap

        def item(index: int, number: int) -> Trajectory:
            return self._item(step, index, number / c.sft_episodes)

        return demonstrations.fitting(item, c.sft_episodes, first, c.row_length)

    def _item(self, step: int, index: int, place: float) -> Trajectory:
        """The demonstration of an index. place: its position in the step's batch, in [0, 1)."""
        c = self._config
        drill, clean = step < c.sft_drill_steps, step < c.sft_clean_steps
        if drill and place < 0.75:
            return copies(self._names, self._chat, c.row_length // 3, self._seed, index)
        bare = drill or clean and place < c.sft_drill_share
        flawed = not clean and (index * SLIPPING) % 1 < c.sft_flawed_share
        rates = self._rates if flawed else {}
        return demonstrate(self._questions.draw(index), rates, self._chat, f"{self._seed}/{index}", bare)
