"""What an agent's message does, heard by rules: asks for facts or consent, tells what was done, refuses and so on."""

from __future__ import annotations

import dataclasses
import functools

from envs.hearing import asking, consent, cues
from envs.hearing.lexicon import Lexicon
from envs.hearing.mentions import DONE, Mention, mentions_of, opaque
from envs.hearing.patterns import Match, Matcher
from envs.hearing.tokens import Sentence, sentences
from envs.hearing.values import mentions, values

__all__ = ["Heard", "Proposal", "mentions", "recognise", "values"]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """One write: for which consent is asked, or that was carried out.

    verb: Verb.name; None if no verb of the lexicon was named. values: as envs/hearing/values.py normalises them.
    """

    verb: str | None
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a message does; several of these may hold.

    asks: facts asked for, in order. which: asks which of several records, items or options is meant. consent: writes to
    which consent is asked, in order. done: writes said to be carried out. refuses: says that the wish can't be met.
    hands_over: passes the customer to somebody else. anything_else: asks whether there is more to do, or says goodbye.
    smalltalk: nothing but greetings, thanks and "one moment". unclear: none of these, although an answer is expected.
    """

    asks: tuple[str, ...] = ()
    which: bool = False
    consent: tuple[Proposal, ...] = ()
    done: tuple[Proposal, ...] = ()
    refuses: bool = False
    hands_over: bool = False
    anything_else: bool = False
    smalltalk: bool = False
    unclear: bool = False


_TELL = frozenset("tell know say choose pick please".split())
_ALL = frozenset("all everything".split())
_NOTHING = Heard()
_ONLY_MORE = Heard(anything_else=True)


@functools.cache
def _cues() -> Matcher:
    """All wordings of envs/hearing/cues.py; label: what they are for."""
    tables = {
        "head": cues.HEAD,
        "tag": cues.TAG,
        "checking": cues.CHECKING,
        "proceed": cues.PROCEED,
        "say": cues.SAY,
        "refuse": cues.REFUSE,
        "yet": cues.YET,
        "hand": cues.HAND_OVER,
        "finished": cues.FINISHED,
        "more": cues.MORE,
        "bye": cues.BYE,
        "small": cues.SMALLTALK,
        "friendly": cues.FRIENDLY,
        "need": cues.NEED,
        "have": cues.HAVE,
        "prefer": cues.PREFER,
    }
    return Matcher((pattern, label) for label, patterns in tables.items() for pattern in patterns)


def recognise(text: str, lexicon: Lexicon) -> Heard:
    """What a message does, in the words of a business. Never raises; only the first 10,000 characters are listened to.

    Linear in the length of the text.
    """
    said, lines = sentences(text)
    if not said:
        return Heard(unclear=bool(text.strip()))
    if _foreign(said) or _machine(text):
        return Heard(unclear=True)
    found = [_meant(sentence, _cues().find(sentence.tokens)) for sentence in said]
    plain = [opaque(sentence, lexicon) for sentence in said]
    named = mentions_of(plain, lexicon)
    wants, chosen, offered = consent.asked(plain, named, found)
    taken = _consenting(said, found, chosen) if wants else set()
    asks, which = asking.facts_asked(said, lexicon, found, taken)
    more = any(
        _has(found[i], "more") and not {"not", "nothing", "before"}.intersection(s.words) for i, s in enumerate(said)
    )
    bye = any(_has(found[i], "bye") for i in range(len(said)))
    prefers = any(
        _has(found[i], "prefer") and not _has(found[i], "more") and not _has(found[i], "friendly")
        for i in range(len(said))
    )
    which = (which or offered or (prefers and not asks and not wants)) and not wants
    refuses = any(_refuses(s, found[i]) for i, s in enumerate(said))
    hands = any(_hands_over(s, found[i]) for i, s in enumerate(said))
    done = _done(said, named, found, wants)
    heard = Heard(
        asks=tuple(asks),
        which=which,
        consent=_proposals(chosen, said, lines, text) if wants else (),
        done=_proposals(done, said, lines, text) if done else (),
        refuses=refuses,
        hands_over=hands,
        anything_else=more or (bye and not asks and not wants),
    )
    if heard != _NOTHING:
        only = heard == _ONLY_MORE
        return dataclasses.replace(heard, smalltalk=only and _small(said, found))
    if _small(said, found):
        return Heard(smalltalk=True)
    return Heard(unclear=any(s.question for s in said) or _expects(said))


def _meant(sentence: Sentence, found: list[Match]) -> list[Match]:
    """The matches without those that mean something else here: "is that all correct", "thanks for confirming"."""
    words = sentence.words
    return [
        m
        for m in found
        if not (
            m.label in ("head", "say", "proceed", "tag") and words[0] in ("thank", "thanks") and not sentence.question
        )
        and not (m.label == "prefer" and words[m.start] in ("what", "which") and not _chosen(sentence, m))
        and (m.label != "more" or not cues.RIGHT.intersection(words[m.end : m.end + 1]) or words[m.end - 1] not in _ALL)
    ]


def _chosen(sentence: Sentence, match: Match) -> bool:
    """Whether "what you ..." asks for a choice: in a question, or after "let me know"."""
    return sentence.question or match.start <= 1 or bool(_TELL.intersection(sentence.words[: match.start]))


def _foreign(said: list[Sentence]) -> bool:
    """Whether a message is in another language, as its small words show."""
    words = [word for sentence in said for word in sentence.words]
    other = sum(word in cues.FOREIGN for word in words)
    return other > 1 and other > sum(word in cues.ENGLISH for word in words)


def _has(found: list[Match], label: str) -> bool:
    return any(match.label == label for match in found)


def _consenting(said: list[Sentence], found: list[list[Match]], chosen: list[Mention]) -> set[int]:
    """The sentences that ask for consent or describe the write: their nouns are not asked for."""
    own = {m.sentence for m in chosen}
    asking_yes = {i for i in range(len(said)) if any(m.label in ("head", "tag", "proceed", "say") for m in found[i])}
    return own | asking_yes


def _refuses(sentence: Sentence, found: list[Match]) -> bool:
    words = sentence.words
    for match in found:
        if match.label != "refuse":
            continue
        if (
            sentence.question
            or "once" in words[: match.start]
            or _has(found, "yet")
            or words[0] in ("if", "unless")
            and "," not in words[: match.start]
        ):
            return False
        after = [
            w
            for w in words[match.end : match.end + 4]
            if w not in ("to", "be", "just", "really", "quite", "even", "yet")
        ]
        if after and after[0] in cues.ABLE:
            continue
        if "if" in words[max(0, match.start - 6) : match.start] or "whether" in words[: match.start]:
            continue
        if "you" in words[max(0, match.start - 2) : match.start]:
            continue
        return True
    return False


def _hands_over(sentence: Sentence, found: list[Match]) -> bool:
    words = sentence.words
    return any(
        m.label == "hand" and not {"not", "never", "without"}.intersection(words[max(0, m.start - 4) : m.start])
        for m in found
    )


def _done(said: list[Sentence], named: list[Mention], cues_found: list[list[Match]], wants: bool) -> list[Mention]:
    """What is said to be done; without a verb ("Done!") the write that is named, or one mention with none."""
    found: dict[str | None, Mention] = {}
    for mention in named:
        if _has(cues_found[mention.sentence], "hand"):
            continue
        if mention.mode == DONE:
            found.setdefault(mention.verb, mention)
        elif mention.mode == "listed" and mention.passive and not any(s.question for s in said):
            found.setdefault(mention.verb, mention)
    offered = [m for m in found.values() if m.verb is not None]
    if offered or found or wants or any(s.question for s in said):
        return offered or list(found.values())
    at = next((i for i, s in enumerate(said) if _finished(s, cues_found[i])), None)
    if at is None:
        return []
    others = [m for m in named if m.mode in ("named", "listed", "proposed") and m.verb is not None]
    return others[:1] or [Mention(None, DONE, at, 0, 1)]


def _finished(sentence: Sentence, found: list[Match]) -> bool:
    """Whether a sentence says that something is done, and not only when or whether it will be."""
    words = sentence.words
    if {"if", "once", "not", "when", "until", "before", "almost", "nearly"}.intersection(words):
        return False
    return any(m.label == "finished" and not {"will", "would"}.intersection(words[: m.end][-6:]) for m in found)


def _proposals(chosen: list[Mention], said: list[Sentence], lines: list[str], text: str) -> tuple[Proposal, ...]:
    """Proposals with their values: of the whole text for one, of each one's clauses for several."""
    if not chosen:
        return (Proposal(None, values(text)),)
    if len(chosen) == 1:
        return (Proposal(chosen[0].verb, values(text)),)
    cuts = [_cut(first, second, said) for first, second in zip(chosen, chosen[1:])]
    starts = [(0, 0), *cuts]
    ends = [*cuts, (len(lines), 0)]
    return tuple(Proposal(m.verb, values(_between(lines, a, b))) for m, a, b in zip(chosen, starts, ends))


def _cut(first: Mention, second: Mention, said: list[Sentence]) -> tuple[int, int]:
    """(line, column) of the last boundary between two mentions."""
    here = said[second.sentence]
    lower = first.end if first.sentence == second.sentence else 0
    for i in range(second.start - 1, lower - 1, -1):
        if here.words[i] in ("and", ",", "then", ";", "plus", "+", "&", "-", "–"):
            return here.line, here.tokens[i].start
    if first.sentence != second.sentence:
        return here.line, here.tokens[0].start
    return here.line, here.tokens[second.start].start


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0]][start[1] : end[1]]
    last = [lines[end[0]][: end[1]]] if end[0] < len(lines) else []
    return "\n".join([lines[start[0]][start[1] :], *lines[start[0] + 1 : end[0]], *last])


def _small(said: list[Sentence], found: list[list[Match]]) -> bool:
    """Whether every sentence is a greeting, thanks or the like."""
    return all(_small_sentence(sentence, found[i]) for i, sentence in enumerate(said))


def _small_sentence(sentence: Sentence, found: list[Match]) -> bool:
    if any(token.kind == "value" for token in sentence.tokens):
        return False
    if _has(found, "more") or _has(found, "bye"):
        return True
    if sentence.question:
        return _has(found, "friendly") or len(sentence.words) <= 3 and _has(found, "small")
    return any(m.label == "small" and (m.start <= 3 or len(sentence.words) <= 8) for m in found)


def _machine(text: str) -> bool:
    """Whether a text is code, data or a form with holes and not what somebody says."""
    text = text[:2000]
    marks = sum(text.count(c) for c in "{}<>=[]\\;")
    return marks * 25 > len(text) or "{{" in text or '":' in text


def _expects(said: list[Sentence]) -> bool:
    """Whether a message without question mark still wants an answer: "please ...", "let me know ..."."""
    return any({"please", "tell", "know"} & set(s.words[:6]) for s in said) or any(
        s.words[:2] in (["i", "need"], ["we", "need"]) for s in said
    )
