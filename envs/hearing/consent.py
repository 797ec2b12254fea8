"""Whether a message asks for a yes to writes, and to which."""

from __future__ import annotations

from envs.hearing import cues
from envs.hearing.mentions import (
    BLOCKED,
    DONE,
    LISTED,
    NAMED,
    OTHER,
    PENDING,
    PERSONS,
    PROPOSED,
    WISHED,
    Mention,
    rules,
)
from envs.hearing.patterns import OPENERS, Match
from envs.hearing.tokens import Sentence, stem
from envs.hearing.verbs import OPPOSITES

_ADVERBS = frozenset(
    "just now then please go ahead and also first straight away quickly happily to already the me us you your "
    "our my a an the that it this all for with so simply proceed - , kindly".split()
)
_POINTERS = frozenset("it that this these those both them so all everything do".split())
_TOLD = frozenset("tell let instruct inform notify pass".split())
_ANY = frozenset(
    "change update switch amend alter modify move send save apply put make add book fix correct swap get do "
    "process arrange schedule organise".split()
)
_DOUBTS = frozenset("already really seriously".split())
_PRESSURE = frozenset("lose gone expires expire miss".split())
_YOU = frozenset("you me us".split())
_RULES = frozenset("policy policies terms".split())
_SELF = frozenset("i we me".split())
_LEAVE = frozenset("consent confirmation approval ok yes permission confirm agreement consent go".split())
_TAKING = frozenset("have take get grab know note".split())
_KEEPING = frozenset("keep leave".split())
_STAYING = frozenset("stays stay remains continues remain".split())
_SAME = frozenset("active as on where unchanged open running in untouched".split())
_NOTHING = frozenset("nothing no not none".split())
_TOLD_ME = frozenset("know tell say specify".split())
_CONFIRMED = frozenset("and so with to or by , - – ( both all below above".split())
_THESE = frozenset("this that it these those".split())
_THE = frozenset("the a an your this that".split())
_NOT_CHOICE = frozenset(
    "not no keep leave wait something anything if should is are do would less more so hold stop just "
    "otherwise later".split()
)


class Asked:
    """What asks for consent in a message: direct mentions, or the description that stands before.

    kind: "" (nothing), "direct", "context" (a description is needed), "open" (may go without one).
    """

    def __init__(self) -> None:
        self.kind = ""
        self.sentence = -1
        self.mentions: list[Mention] = []
        self.choice = False
        self.proposed: set[str | None] = set()  # verbs proposed before it
        self.named = False  # whether a write is named before the sentence that is looked at


def asked(
    sentences: list[Sentence], mentions: list[Mention], found: list[list[Match]]
) -> tuple[bool, list[Mention], bool]:
    """(whether consent is asked, to which mentions, whether alternatives are offered instead).

    found: the matches of cues for each sentence, labelled "head", "tag", "proceed", "say" and others.
    """
    result = Asked()
    by_sentence: list[list[Mention]] = [[] for _ in sentences]
    for mention in mentions:
        by_sentence[mention.sentence].append(mention)
    described = [i for i, here in enumerate(by_sentence) for m in here if m.mode in (PROPOSED, LISTED)]
    for index, sentence in enumerate(sentences):
        result.named = any(m.verb is not None and m.mode == NAMED and m.sentence <= index for m in mentions)
        result.proposed = {m.verb for m in mentions if m.mode == PROPOSED and m.sentence < index and m.verb is not None}
        elsewhere = bool(described) and (described[0] != index or described[-1] != index)
        _sentence(index, sentence, by_sentence[index], found[index], elsewhere, result)
    if result.choice:
        return False, [], True
    if not result.kind:
        return False, [], result.choice
    if result.kind == "direct":
        chosen = _distinct(result.mentions)
    else:
        chosen = _described(mentions, result.sentence, sentences, result.kind)
        if result.kind == "context" and all(m.verb is None for m in chosen):
            return False, [], False
        if all(m.mode == WISHED and not _concrete(sentences[m.sentence]) for m in chosen) and result.kind == "context":
            return False, [], False
    done = {m.verb for m in mentions if m.mode == DONE}
    verbs = {m.verb for m in chosen}
    if done & verbs - {None} or any(opposite <= verbs for opposite in OPPOSITES):
        return False, [], False
    if done and not chosen and any(m.mode == DONE and m.sentence >= result.sentence - 1 for m in mentions):
        return False, [], False
    if any(_contradicted(m, sentences) for m in chosen):
        return False, [], False
    if _or_between(chosen, sentences):
        return False, [], True
    return True, chosen, False


def _contradicted(mention: Mention, sentences: list[Sentence]) -> bool:
    """Whether it is also said that everything stays as it is: "move it to the 5th and leave it on the 3rd"."""
    for index in (mention.sentence, mention.sentence + 1):
        words = sentences[index].words if index < len(sentences) else []
        for at, word in enumerate(words):
            after = words[at + 1 : at + 5]
            if word in _KEEPING and after[:1] and after[0] in ("it", "them", "that") and _SAME.intersection(after[1:3]):
                if after[1:3] not in (["at", "the"], ["for", "the"]) and not {"or", "not"}.intersection(
                    words[at - 2 : at]
                ):
                    return True
            if word in _STAYING and index == mention.sentence and at > mention.start:
                if words[at - 1] in ("and", "it") and _SAME.intersection(after[:2]):
                    return True
            if word == "keep" and words[at - 1] in ("we", "i") and index == mention.sentence:
                if "".join(after[1:2]) in words[mention.start : at] and after[:1] == ["the"]:
                    return True
        if (
            index == mention.sentence
            and "actually" in words[mention.end :]
            and _NOTHING.intersection(words[mention.end :])
        ):
            return True
    return False


def _concrete(sentence: Sentence) -> bool:
    """Whether a sentence has a number, an id or another value."""
    return any(token.kind in ("number", "value") for token in sentence.tokens)


def _sentence(
    index: int, sentence: Sentence, here: list[Mention], found: list[Match], elsewhere: bool, result: Asked
) -> None:
    """Enters in the result what one sentence asks.

    here: the writes named in it. elsewhere: whether another sentence describes one.
    """
    words = sentence.words
    if rules(sentence, 0) and _RULES.intersection(words) and not _SELF.intersection(words):
        return
    if {"moment", "second", "minute"}.intersection(words) and not here or any(m.label == "more" for m in found):
        return  # "one moment, okay?", "can I do anything else?"
    wh = bool(words) and _wh(words)
    asking = False
    for match in found:
        if match.label != "head" or wh or not (sentence.question or _statement(words, match)):
            continue
        asked_for = cues.WH.intersection(words[max(0, match.start - 2) : match.start])
        if PERSONS.intersection(words[max(0, match.start - 4) : match.start]):
            return  # "would your landlord be happy for us to ..."
        if asked_for or _negated(words, match.start, match.end):
            continue
        asking = _head(index, sentence, here, match, elsewhere, result) or asking
        if result.kind == "direct" and result.sentence == index or result.choice:
            return
    if wh or asking:
        return
    if sentence.question and _wants_done(sentence, here):
        result.kind, result.sentence, result.mentions = "direct", index, here
        result.choice = "or" in words and not {"yes", "not"}.intersection(words)
        return
    described = elsewhere or any(m.mode in (PROPOSED, LISTED) for m in here)
    if sentence.question and elsewhere and _again(words, here, result):
        _set(result, "context", index)
    if any(a in _TOLD_ME and b in cues.WH for a, b in zip(words, words[1:])):
        return  # "could you let me know what day suits you?"
    for match in found:
        if match.label not in ("proceed", "say", "tag") or _negated(words, match.start, match.end):
            continue
        if match.label == "proceed" and "so" in words[max(0, match.start - 6) : match.start]:
            continue  # "your postcode, so that I can continue"
        if match.label == "proceed" and (sentence.question or _imperative(words, match)):
            if _ends(words, match.end, 8) and not _names_fact(words, match, here):
                _set(result, "open", index)
        elif match.label == "say":
            condition = words[match.start] in cues.CONDITIONS
            obliged = {"must", "have"}.intersection(words[max(0, match.start - 2) : match.start])
            pressed = "or" in words and _PRESSURE.intersection(words)
            if not pressed and not obliged and not _names_fact(words, match, here) and (described or not condition):
                _set(result, "context" if condition else "open", index)
        elif match.label == "tag" and sentence.question:
            if (match.start >= len(words) - 7 or match.start <= 3) and not _own_question(words, match):
                if _ends(words, match.end, 10 if _POINTERS.intersection(words[match.end :]) else 6):
                    _set(result, "context", index)
    if sentence.question and any(match.label == "checking" for match in found):
        if any(m.mode in (PROPOSED, WISHED) for m in here):
            _set(result, "context", index)  # "just to make sure: you'd like to move it?"
    if sentence.question and not result.kind and here and here[0].mode == LISTED:
        if not _asks_otherwise(words) and _listed_question(sentence, here[0]):
            result.choice = "or" in words and not {"yes", "y"}.intersection(words)
            if not result.choice:
                result.kind, result.sentence, result.mentions = "direct", index, [m for m in here if m.mode == LISTED]


def _wants_done(sentence: Sentence, here: list[Mention]) -> bool:
    """Whether a question is "would you like it moved?", which asks the same as "would you like me to move it?"."""
    words = [w for w in sentence.words if w not in OPENERS or w == "you"]
    if words[:3] not in (["would", "you", "like"], ["do", "you", "want"]):
        return False
    done = [m for m in here if m.mode != NAMED]
    return bool(done) and all(m.passive and m.mode == OTHER and sentence.tokens[m.start].form == "ed" for m in done)


def _again(words: list[str], here: list[Mention], result: Asked) -> bool:
    """Whether a question repeats a write that was proposed: "I can add it. Would you like to add it?"."""
    lead = [w for w in words if w not in OPENERS or w == "you"][:3]
    if lead not in (["would", "you", "like"], ["do", "you", "want"], ["do", "you", "wish"]):
        return False
    return bool(here) and all(m.verb in result.proposed and m.mode not in (BLOCKED, DONE) for m in here)


def _statement(words: list[str], match: Match) -> bool:
    """Whether "let me know if I can" and the like, or a question without its mark."""
    first = words[match.start]
    return first in ("let", "confirm", "say", "whether") or (
        match.start <= 2 and first in ("shall", "should", "may", "want", "would", "do", "can")
    )


def _listed_question(sentence: Sentence, mention: Mention) -> bool:
    """Whether a fragment with a question mark asks for the write itself: "Cancel K-77?"; not "Any change?"."""
    before = sentence.words[: mention.start]
    if {"you", "any", "did", "is", "are", "still", "to", "for"}.intersection(before):
        return False
    if _DOUBTS.intersection(sentence.words):
        return False
    token = sentence.tokens[mention.start]
    form = token.form
    if form not in ("ed", "either") and any(t.form == "ed" for t in sentence.tokens[mention.end :]):
        return False  # "refund arrived?"
    return mention.passive or (form in ("base", "either") and all(w in OPENERS or not w.isalnum() for w in before))


def _asks_otherwise(words: list[str]) -> bool:
    return bool({"which", "what", "when", "where", "who", "why", "how"}.intersection(words)) or "one of" in " ".join(
        words
    )


def _set(result: Asked, kind: str, index: int) -> None:
    strength = {"": 0, "context": 1, "open": 2, "direct": 3}
    if strength[kind] >= strength[result.kind]:
        result.kind, result.sentence = kind, index


def _wh(words: list[str]) -> bool:
    """Whether a sentence asks for something and not for a yes: it begins with what, which, why and so on."""
    lead = [w for w in words[:8] if w not in OPENERS and w not in ("at", "in", "on", "by", "from")]
    if not lead or lead[0] not in cues.WH:
        return False
    aside = lead[0] in ("when", "who", "which", "what") and "," in words and 2 < words.index(",") < len(words) - 2
    return not aside or words.index(lead[0]) > words.index(",")


def _negated(words: list[str], start: int, end: int) -> bool:
    before, near = words[max(0, start - 4) : start], words[max(0, start - 4) : end + 2]
    denied = {"without", "against"}.intersection(before) or {"not", "never", "neither"}.intersection(near)
    return bool(denied) and "whether" not in near


def _imperative(words: list[str], match: Match) -> bool:
    return match.start <= 2 or "please" in words[: match.start]


def _ends(words: list[str], end: int, most: int) -> bool:
    """Whether after token `end` at most so many words follow, and no other subject: the tail of a question."""
    rest = [w for w in words[end:] if w.isalnum()]
    return len(rest) <= most and not {"did", "why", "what", "where", "when"} & set(rest)


def _own_question(words: list[str], match: Match) -> bool:
    """Whether the question is of its own and not the tail of a proposal: "is the card still ok for you?"."""
    return bool(
        match.start and words[0] in ("did", "do", "have", "was", "were", "had", "is", "are") and match.start > 2
    )


def _names_fact(words: list[str], match: Match, here: list[Mention]) -> bool:
    """Whether what is to be confirmed is something else than a write: "please confirm your email"."""
    rest = words[match.end : match.end + 8]
    if "confirm" not in words[match.start : match.end] or not rest or rest[0] in _CONFIRMED:
        return False
    if rest[0] in _THESE and (len(rest) == 1 or rest[1] in _CONFIRMED | _THESE | {"is", "are", "works", "looks"}):
        return False
    return not any(m.start >= match.end and _confirmable(m, words) for m in here)


def _confirmable(mention: Mention, words: list[str]) -> bool:
    if mention.mode == BLOCKED or words[mention.start] == "new":
        return False
    near = words.index("confirm") + 4 if "confirm" in words else 0
    return mention.mode in (PROPOSED, WISHED) or mention.verb is not None and mention.start <= near


def _harmless(words: list[str], at: int) -> bool:
    """Whether an "or" only offers not to do it: "or keep it as it is", "or not"."""
    return (
        not words[at + 1 :]
        or words[at + 1] in _NOT_CHOICE
        or words[at - 1] in ("yes", "y")
        or "no" in words[at + 1 : at + 3]
    )


def _head(index: int, sentence: Sentence, here: list[Mention], match: Match, elsewhere: bool, result: Asked) -> bool:
    """Whether the verb phrase after "shall I" and the like asks for a write; enters it."""
    words, tokens = sentence.words, sentence.tokens
    at = match.end
    while at < len(words) and (words[at] in _ADVERBS or tokens[at].kind == "mark"):
        if any(m.start == at for m in here):
            break
        at += 1
    if at >= len(words):
        _set(result, "open", index)
        return True
    word, stemmed = words[at], tokens[at].stem
    lookup = word in cues.LOOKUP or stemmed in _LOOKUP_STEMS
    generic = word in cues.GENERIC or stemmed in _GENERIC_STEMS
    described = elsewhere or any(m.mode in (PROPOSED, LISTED, WISHED) for m in here if m.end <= match.start)
    direct = [m for m in here if m.start >= match.end and m.mode not in (DONE, BLOCKED)]
    head = next((m for m in direct if at - 1 <= m.start <= at + 1), None)
    if described and word in _TOLD and not _YOU.intersection(words[at + 1 : at + 3]):
        _set(result, "context", index)  # "shall I tell the workshop?"
        return True
    if head is not None and head.words == 1 and words[head.start] in _ANY and (described or result.named):
        if _POINTERS.intersection(words[head.start + 1 : head.start + 4]) or head.start + 1 == len(words):
            head.mode = OTHER
            _set(result, "open", index)  # "I'd swap the boots. Shall I change it?"
            return True
    if head is None and generic:
        near = (m for m in direct if at < m.start <= at + 4)  # "submit the cancellation"
        if word not in _TAKING:  # "may I have the new date?" asks for it
            head = next((m for m in near if words[m.start - 1] in _THE or tokens[m.start].form == "noun"), None)
        if head is None and word in ("get", "have"):  # "get it moved"
            moved = (m for m in direct if m.passive or tokens[m.start].form == "ing")
            head = next((m for m in moved if m.start <= at + 9), None)
    alternatives = any(words[i] == "or" and not _harmless(words, i) for i in range(match.start, len(words)))
    if head is not None and (head.start <= at or not lookup):
        if head.verb is None and lookup:
            return False
        if alternatives or _vague(words[head.end :]):
            result.choice = True
            return True
        chosen = [m for m in direct if m.start >= head.start and _same_clause(words, head, m)]
        if result.kind == "direct":
            if result.sentence == index:
                return True
            result.choice = words[0] == "or"
            chosen = result.mentions + chosen  # "Shall I cancel it? And shall I refund it?"
        result.kind, result.sentence, result.mentions = "direct", index, chosen
        return True
    if lookup:
        return False
    if {"proceed", "ahead"}.intersection(words[match.end : at]):
        _set(result, "open", index)
        return True
    if generic and not _names_something_else(words[at:]):
        if alternatives and not {"yes", "go"}.intersection(words[: match.start]):
            return False
        _set(result, "open", index)
        return True
    if elsewhere and _POINTERS.intersection(words[at : at + 6]):
        _set(result, "context", index)
        return True
    return False


def _vague(words: list[str]) -> bool:
    text = " ".join(words[:8])
    return any(p in text for p in ("one of them", "one of your", "one of the", "something", "anything"))


def _names_something_else(words: list[str]) -> bool:
    """Whether a general verb has an object that isn't the described write: "have your postcode", "take your name"."""
    rest = words[1:6]
    if {"anything", "something", "else"}.intersection(rest):
        return True
    if "hold" in rest and "you" in rest:
        return True
    if words[0] in ("have", "take", "get", "confirm") and not _POINTERS.intersection(rest[:2]):
        return True
    return words[0] in ("have", "take", "get", "start", "enter", "note", "move", "change", "put", "book") and (
        "your" in rest[:2] or "a" in rest[:1] or "some" in rest[:1] or "something" in rest[:2] or "anything" in rest[:2]
    )


def _same_clause(words: list[str], head: Mention, other: Mention) -> bool:
    """Whether a later mention belongs to the same question: no purpose or relative clause begins between."""
    between = words[head.end : other.start]
    if other is head:
        return True
    if other.mode == OTHER or {"because", "if", "since", "which", "for", "before", "after", "once", "as"} & set(
        between
    ):
        return False
    return bool({"and", ",", "then", "plus", "+", "&", "-", "also"} & set(between))


def _described(mentions: list[Mention], until: int, sentences: list[Sentence], kind: str) -> list[Mention]:
    """The writes described before (or just after) the question in sentence `until`, the best way they are described."""
    here = [m for m in mentions if m.mode not in (OTHER, PENDING, DONE, BLOCKED)]
    before = [m for m in here if m.sentence <= until]
    after = [m for m in here if m.sentence > until]
    for group in (before, after):
        active = [m for m in group if m.mode == PROPOSED and not m.weak]
        listed = [m for m in group if m.mode == LISTED and not m.weak]
        wished = [m for m in group if m.mode == WISHED]
        if active:
            firm = [m for m in active if not m.passive] or active
            extra = [m for m in active + listed if m.passive or m.mode == LISTED and sentences[m.sentence].item]
            return _distinct(sorted({id(m): m for m in firm + extra}.values(), key=lambda m: (m.sentence, m.start)))
        if listed:
            return _distinct(
                sorted(
                    listed + [m for m in wished if m.verb not in {o.verb for o in listed}],
                    key=lambda m: (m.sentence, m.start),
                )
            )
        if wished:
            return _distinct(wished)
        if weak := [m for m in group if m.weak and m.mode in (PROPOSED, LISTED)]:
            return _distinct(weak)
    pending = [
        m
        for m in mentions
        if m.mode == PENDING
        and (m.sentence == until or m.sentence < until and _LEAVE.intersection(sentences[m.sentence].words))
    ]
    if kind == "open" and pending:
        return _distinct(pending)
    if kind == "open":
        named = [m for m in before if m.mode == NAMED]
        return _distinct(named[-1:])
    return []


def _distinct(mentions: list[Mention]) -> list[Mention]:
    """Each verb once; those which are not offered only if there are no others."""
    offered = [m for m in mentions if m.verb is not None] or mentions[:1]
    seen: dict[str | None, Mention] = {}
    for mention in offered:
        seen.setdefault(mention.verb, mention)
    return list(seen.values())


def _or_between(chosen: list[Mention], sentences: list[Sentence]) -> bool:
    """Whether two of the described writes are alternatives."""
    for first, second in zip(chosen, chosen[1:]):
        if first.sentence == second.sentence and "or" in sentences[first.sentence].words[first.end : second.start]:
            return True
        if second.sentence > first.sentence:
            opening = sentences[second.sentence].words[:3]
            if "or" in opening or "alternatively" in opening:
                return True
    return False


_LOOKUP_STEMS = frozenset(stem(word)[0] for word in cues.LOOKUP)
_GENERIC_STEMS = frozenset(stem(word)[0] for word in cues.GENERIC)
