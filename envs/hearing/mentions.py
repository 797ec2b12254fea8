"""Where a message names a write, and how: as something to do, done, past, denied, supposed or only named."""

from __future__ import annotations

import dataclasses

from envs.hearing import tokens as tk
from envs.hearing.cues import NEGATION, POLICY, SUBORDINATE
from envs.hearing.lexicon import Lexicon
from envs.hearing.patterns import FILLERS, Match
from envs.hearing.tokens import Sentence

# ways in which a write is named
PROPOSED = "proposed"  # "I'd move it", "it will be moved", "I move it"
WISHED = "wished"  # "you want it moved"
LISTED = "listed"  # "Move to 3 June", "3 extra keys added": an imperative or a fragment
NAMED = "named"  # "the refund"
BLOCKED = "blocked"  # denied, or left open what it is done to
DONE = "done"
PENDING = "pending"  # "before I move it"
OTHER = "other"  # past of others, negated, supposed, a rule, what the customer may do

_I = frozenset("i we me us".split())
_MODAL = frozenset("will would shall can could may might should let going able".split())
_BE = frozenset("is are am was were".split())
_BREAKS = frozenset(". ; : ! ( ) – — but".split())
_SKIP = frozenset(
    "just now also then please go ahead and happily gladly quickly immediately already successfully all fully "
    "then first to both today therefore simply hereby gone went have been be get got".split()
)
_LIGHT = frozenset("the a an your my our please just and then so ok great well sure right now also - , ' ! ( )".split())
_SUPPOSING = frozenset("if unless suppose supposing whether how why".split())
_THINKING = frozenset(
    tk.stem(w)[0]
    for w in (
        "look check see ask find explain discuss review understand verify enquire inquire examine know hear tell show "
        "mention consult study talk speak clarify investigate describe search wonder guess suggest recommend consider"
    ).split()
)
_WEAK = frozenset(
    "goes comes go come moves move ends end runs run stops stop starts start rises rise stays stay".split()
)
_INTO = frozenset("for about on regarding of into over".split())
_OPEN = frozenset(
    "one somewhere some something anything yesterday fit erm whatever another later other others needed whenever "
    "different".split()
)
_SAID = frozenset("says states stipulates".split())
_MAYBE = frozenset("maybe perhaps possibly hope might hoping".split())
_ANY = frozenset("such any".split())
_WILL = frozenset("will would shall".split())
_HAVE = frozenset("have has".split())
_GET = frozenset("have get".split())
_PERFECT = frozenset("has have been having".split())
_GOING = frozenset("be go come".split())
_DID = frozenset("did had".split())
_WAS = frozenset("was were".split())
_NOW = frozenset("now successfully officially all just".split())
_MUST = frozenset("must has have need needs".split())
_WISH = frozenset("want like wish ask asked asking need request requested prefer wanted".split())
_INVERTED = frozenset("do would did are have has was were had is can could will".split())
_OTHERS = frozenset("somebody someone last they he she".split())
_RELATIVE = frozenset("who which that".split())
_TAIL = frozenset("and , now as".split())
_ABOUT = frozenset("for about on regarding of".split())
_SETTLED = {("has", "been"), ("have", "been"), ("has", "gone"), ("is", "complete"), ("is", "done")}
_PRONOUN = frozenset("i we you he she they it this that".split())
# what is done with a write that is a noun: "I've issued the refund"
_MAKING = frozenset(
    tk.stem(w)[0]
    for w in "process issue apply submit register log make arrange raise put place set record complete send file add "
    "start give create lodge open schedule request approve authorise grant do book initiate trigger confirm "
    "finalise enter".split()
)
_TAKING = frozenset("take have get know need".split())
_ON_FILE = frozenset(tk.stem(w)[0] for w in "register record save store associate link list".split())
_THAT = (["that", "is"], ["that", "would"])
_THINGS = frozenset(
    "booking bookings order orders delivery deliveries bill bills claim claims reservation reservations charges "
    "appointment invoice".split()
)
_VERBAL = frozenset(
    "i we to and or shall should will would can could may might let please just then me us you also not - : , ;".split()
)
_OPENING = frozenset(", so then right ok great well and now perfect - ! lovely".split())
_NEED = frozenset("need must require".split())
_BASED = frozenset("based per under according following as in".split())
_OURS = frozenset("our company store shop refund cancellation return exchange the house under per general this".split())
_RULE = frozenset("policy policies terms rule rules guidelines regulations".split())
_RULED = frozenset("under per to in by with of , and".split())
_RULING = frozenset(
    "says say state allow require allows requires states is does permits forbids that on for only".split()
)
PERSONS = frozenset(
    "neighbour neighbor colleague boss friend landlord tenant wife husband partner brother sister mother father cousin "
    "roommate flatmate customer client mate".split()
)
_HONORIFICS = frozenset("mr mrs ms miss dr he she they someone somebody".split())
_WANTED = frozenset("asked asks wants wanted requested ordered".split())
_PLANNED = frozenset("plan proposal propose change changes suggestion".split())
_FINITE = frozenset("is was are were has had have i we you he she they will would can could".split())
_QUOTE = frozenset('"“”„«»')
# verbs that mean little without their object
_LIGHT_VERBS = frozenset(
    tk.stem(w)[0]
    for w in "change update set switch replace put make add send give take get alter amend do have issue keep".split()
)
_ARTICLES = frozenset("the a an your my our this that any no his her their another".split())
_VAGUE = (
    "to a new one", "to another one", "a different one", "somewhere else", "another address", "another place",
    "one of them", "one of your", "one of the", "one of these", "one of those", "some other", "something", "anything",
    "as we see fit", "some amount", "another day", "another date", "another time", "later date", "later time",
    "other day", "any others", "as needed", "whenever", "different day", "different date", "yesterday", "whatever",
    "erm",
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class Mention:
    """A write named at tokens start to end (exclusive) of a sentence. verb: None for one that is not offered."""

    verb: str | None
    mode: str
    sentence: int
    start: int
    end: int
    passive: bool = False
    weak: bool = False  # said of something else than I, we or the customer: "your teacher would change"
    words: int = 1  # of the pattern that names it


def opaque(sentence: Sentence, lexicon: Lexicon) -> Sentence:
    """The sentence in which values that the lexicon knows tell nothing: "the reason: my plans have changed"."""
    matches = lexicon.values.find(sentence.tokens) if lexicon.told else []
    if not matches:
        return sentence
    tokens = list(sentence.tokens)
    for match in matches:
        tokens[match.start : match.end] = [
            tk.Token("#", "#", tk.BASE, "value", t.start, t.end) for t in tokens[match.start : match.end]
        ]
    return dataclasses.replace(sentence, tokens=tokens)


def mentions_of(sentences: list[Sentence], lexicon: Lexicon) -> list[Mention]:
    """Every naming of a write, in order."""
    found: list[Mention] = []
    for index, sentence in enumerate(sentences):
        previous: Mention | None = None
        for start, end, verb, weight in _names(sentence, lexicon):
            mode, passive = _mode(sentence, start, end, previous)
            mention = Mention(verb, mode, index, start, end, passive, words=weight)
            form = sentence.tokens[start].form
            if (passive and form != tk.ED or form == tk.S) and sentence.words[start] not in _WEAK and mode != DONE:
                mention.mode = NAMED if mode in (PROPOSED, LISTED) else mode
            mention.weak = (passive and form != tk.ED) or (mode == LISTED and form == tk.S) or _label(sentence, start)
            mention.weak |= any(w in _WEAK for w in sentence.words[start:end]) and sentence.tokens[start].kind != "word"
            found.append(mention)
            previous = mention
    said = [m for m in found if not _new(sentences[m.sentence], m)]
    return said if any(m.verb is not None for m in said) else found


def _new(sentence: Sentence, mention: Mention) -> bool:
    """Whether it is only told what is new, "the new date", which names no write where another is named."""
    return sentence.words[mention.start] == "new"


def _names(sentence: Sentence, lexicon: Lexicon) -> list[tuple[int, int, str | None, int]]:
    """(the verb's token, end, verb, words of the pattern) of what names a write.

    Of those that overlap one that is offered is taken, then the one with most words; the business' own words count more
    than general ones.
    """
    tokens = _without_values(sentence)
    matches = lexicon.writes.find(tokens)
    if not matches:
        return []
    neutral = [m for m in matches if m.label[0] == ""]
    labels = [(m.start, m.end) for m in lexicon.nouns.find(tokens) if m.label[1] and m.end - m.start > 1]
    labels += [(m.start, m.end) for m in lexicon.record_nouns.find(tokens) if m.end - m.start > 1]
    objects = {i for m in lexicon.record_nouns.find(tokens) for i in range(m.start, m.end)}
    ranked = [(_weight(m, tokens, objects), m) for m in matches if m.label[0] != ""]
    ranked.sort(
        key=lambda r: (
            r[1].label[0] is None,
            -r[0],
            tokens[r[1].start].kind != "word",
            r[1].end - r[1].start,
            r[1].label[1],
        )
    )
    taken: list[tuple[int, int, int, str | None, int]] = []
    for _, match in ranked:
        sure = match.label[3] and match.weight > 1
        if not sure and any(n.start <= match.start < n.end and n.weight + 1 >= match.weight for n in neutral):
            continue
        if any(match.start < end and start < match.end for _, start, end, _, _ in taken):
            continue
        if tokens[match.start].word != "new" and _labelled(match, tokens, labels):
            continue
        if match.label[3]:  # the verb's own words before its name: "arrange delivery for", not "delivery for"
            same = (m for m in matches if m.label == match.label and m.start < match.start < m.end)
            match = min(same, key=lambda m: m.start, default=match)
        if match.weight == 1 and _thing(sentence, match, objects):
            continue
        pivot = match.start
        if match.label[3] and not match.label[2]:
            pass
        elif tokens[pivot].form in (tk.BASE, tk.S, tk.NOUN) and match.weight > 1:  # "the address has been changed"
            told = [
                i
                for i in range(match.start, match.end)
                if tokens[i].form == tk.ED and (i == 0 or tokens[i - 1].word not in _ARTICLES)
            ]
            if told:
                pivot = told[-1]
            elif match.label[2]:
                continue
        elif match.label[2]:
            continue
        taken.append((pivot, match.start, match.end, match.label[0], match.weight))
    return sorted((pivot, end, verb, weight) for pivot, _, end, verb, weight in taken)


def _labelled(match: Match, tokens: list[tk.Token], labels: list[tuple[int, int]]) -> bool:
    """Whether a match is part of what a fact or a record is called: "refund method", "moving job"."""
    for start, end in labels:
        if start <= match.start and match.end <= end and match.end - match.start < end - start:
            return True
        if start == match.start and not match.label[3] and all(t.form != tk.ED for t in tokens[start : match.end]):
            return True
        if match.start < start < match.end <= end and tokens[match.start].word in _TAKING:
            return True  # "take the end of the break"
    return False


def _weight(match: Match, tokens: list[tk.Token], objects: set[int]) -> float:
    """How much a pattern tells: its words, and more if they are the business' own.

    A general one that ends with the record ("move .. class" where classes are what is booked) tells no more than its
    verb.
    """
    own = match.label[3]
    last = match.end - 1
    if not own and match.weight > 1 and last in objects and (last + 1 == len(tokens) or tokens[last].form != tk.ED):
        return 1.0
    light = match.weight == 1 and tokens[match.start].stem in _LIGHT_VERBS
    return match.weight + (0.0 if light or not own else 1.5)


def _label(sentence: Sentence, at: int) -> bool:
    """Whether a noun only labels an amount: "Refund: $0.00" among other lines."""
    words, tokens = sentence.words, sentence.tokens
    after = at + 1 < len(words) and words[at + 1] == ":"
    return after and tokens[at].form != tk.ING and any(t.kind == "number" for t in tokens[at + 2 : at + 4])


def _thing(sentence: Sentence, match: Match, objects: set[int]) -> bool:
    """Whether a word is the thing to which something is done ("cancel booking BK-1"), or a tag ("Correct?")."""
    tokens, at = sentence.tokens, match.start
    word = tokens[at].word
    if word in ("correct", "right") and at + 1 == len(tokens) and sentence.question:
        return True
    if word not in _THINGS and not (at in objects and not match.label[3]):
        return False
    before = next((t for t in tokens[at - 1 :: -1] if t.word not in FILLERS), None) if at else None
    if at + 1 < len(tokens) and (tokens[at + 1].kind == "value" or tokens[at + 1].word.startswith("#")):
        return True
    return before is not None and before.kind == "word" and before.word not in _VERBAL and tokens[at].form != tk.ED


def _without_values(sentence: Sentence) -> list[tk.Token]:
    """The tokens with what is only stated made opaque: quotations, and brackets that hold "what: value"."""
    tokens, words = sentence.tokens, sentence.words
    if not _QUOTE.intersection(words) and not ("(" in words and ":" in words):
        return tokens
    found = list(tokens)
    opened = quoted = -1
    for at, word in enumerate(words):
        if word in _QUOTE:
            if quoted >= 0:
                found[quoted + 1 : at] = [
                    dataclasses.replace(t, stem="#", kind="value") for t in tokens[quoted + 1 : at]
                ]
            quoted = -1 if quoted >= 0 else at
        elif word == "(":
            opened = at
        elif word == ")" and opened >= 0:
            if ":" in words[opened:at] and opened > 0:
                found[opened:at] = [tk.Token(";", ";", tk.BASE, "mark", t.start, t.end) for t in tokens[opened:at]]
            opened = -1
    return found


def _mode(sentence: Sentence, start: int, end: int, previous: Mention | None) -> tuple[str, bool]:
    """(mode, passive) of the write named at a token."""
    tokens, words = sentence.tokens, sentence.words
    form = tokens[start].form
    begin = _clause(sentence, start)
    left = words[begin:start]
    if rules(sentence, begin) and not _I.intersection(left[-4:]) or _SAID.intersection(words):
        return BLOCKED, False
    if _of_another(sentence, begin, start):
        return BLOCKED, False
    while len(left) > 1 and left[0] in _OPENING:
        left = left[1:]
    lead = [w for w in left if w not in _LIGHT]
    if (
        sentence.question
        and not left
        and len(words) <= start + 4
        and [t.form for t in tokens[start + 1 :][:1]] == [tk.ED]
    ):
        if not any(t.kind in ("number", "value") for t in tokens[start:]):
            return OTHER, False  # "refund arrived ok?"
    subordinate = bool(lead) and lead[0] in SUBORDINATE and lead[:2] not in _THAT or bool(_SUPPOSING.intersection(left))
    if subordinate and not _waits(lead):
        return (
            PENDING
            if lead and lead[0] == "before" and (_I.intersection(left) or form == tk.ING or words[start] == "ending")
            else OTHER
        ), False
    joined = previous is not None and _joined(words[previous.end : start])
    near = left[-7:]
    if NEGATION.intersection(near) and not (joined and "not" not in near):
        return BLOCKED, False
    if _MAYBE.intersection(left) or left[:3] == ["let", "us", "say"]:
        return OTHER, False
    if "feel" in left and "free" in left:
        return OTHER, False
    if left[:1] == ["to"] and _NEED.intersection(words[start + 1 :]) and not _I.intersection(left):
        return PENDING, False  # "to cancel it I need ..."
    if _vague(words, end) or _ANY.intersection(near[-2:]):
        return BLOCKED, False
    if _thinks(tokens, begin, start):
        return OTHER, False
    if words[start] == "new" and sentence.question and not any(t.kind in ("number", "value") for t in tokens[start:]):
        return NAMED, False  # "New date?"
    if form != tk.ED and _noun(tokens, start):
        return _of_noun(sentence, begin, start, left, previous, joined)
    skipped = [w for w in left if w not in _SKIP]
    last = skipped[-1] if skipped else ""
    if form == tk.ED:
        return _of_participle(sentence, begin, start, left, last, joined, previous)
    if form == tk.EITHER and _HAVE.intersection(left[-4:]) and "to" not in left[-4:] and not _WILL.intersection(left):
        return DONE, False
    if _DID.intersection(near) and _PRONOUN.intersection(near):
        return OTHER, False
    if joined and previous is not None:
        return previous.mode, previous.passive
    if "you" in near and (mode := _of_customer(left, form, words)):
        return mode, False
    modal = bool(_MODAL.intersection(left))
    if form == tk.BASE and left[-1:] and left[-1] in _HAVE and left[-2:-1] and left[-2] in _I and not modal:
        return DONE, False  # "I have extend it"
    if _I.intersection(left) and form != tk.NOUN:
        if modal or last in _I or "to" in left[-3:] or _BE.intersection(left):
            return PROPOSED, False
    if last == "let":
        return PROPOSED, False
    if modal and (form == tk.ING and _GOING.intersection(left[-3:]) or form != tk.ING and _WILL.intersection(left)):
        return PROPOSED, True
    if not lead or (len(lead) <= 3 and not _finite(lead) and not {"to", "feel"}.intersection(lead)):
        if not _finite(words[start + 1 :]) or (not lead and form in (tk.BASE, tk.EITHER)):
            return LISTED, False
    return (NAMED if _finite(words) else LISTED), False


def _of_customer(left: list[str], form: str, words: list[str]) -> str:
    """The mode of a write in a clause about "you": wished or something that the customer does; "" if it is neither."""
    at = len(left) - 1 - left[::-1].index("you")
    before, after = left[:at], left[at + 1 :]
    if _WISH.intersection(after):
        return "" if before and before[-1] in _INVERTED else WISHED
    if _I.intersection(after):
        return ""
    if after[:1] == ["would"] and len(after) < 3 and not {"if", "lose", "have", "need"}.intersection(words):
        return LISTED  # "you'd drop to Basic"
    if _MODAL.intersection(after) or before and before[-1] in _INVERTED:
        return OTHER
    return OTHER if form == tk.BASE and after in ([], ["to"]) and not _I.intersection(before) else ""


def rules(sentence: Sentence, begin: int) -> bool:
    """Whether it tells rules: "our policy ...", but not a policy that is insured, nor "based on our policy, you"."""
    words = sentence.words
    if not POLICY.intersection(words):
        return False
    first = next(i for i, w in enumerate(words) if w in POLICY)
    if words[0] in _BASED and begin > first and not POLICY.intersection(words[begin:]):
        return False
    if words[first] not in _RULE or (POLICY - _RULE).intersection(words[first + 1 :]):
        return True
    before = words[first - 1] if first else ""
    after = words[first + 1 : first + 2]
    if before == "the" and first > 1 and words[first - 2] not in _RULED:
        return False  # "renew the policy"
    return before in _OURS or bool(_RULING.intersection(after))


def _of_another(sentence: Sentence, begin: int, start: int) -> bool:
    """Whether somebody else's record is meant: "cancel your neighbour's booking", "Mr Ode asked us to move it"."""
    tokens, words = sentence.tokens, sentence.words
    for at in range(start + 1, min(start + 6, len(tokens))):
        token = tokens[at]
        if token.word in PERSONS and token.end - token.start == len(token.word) + 2:  # with 's
            return not {"name", "card", "address", "account"}.intersection(words[at + 1 : at + 2])
    return any(
        word in _HONORIFICS and _WANTED.intersection(words[at + 1 : at + 4]) for at, word in enumerate(words[:start])
    )


def _thinks(tokens: list[tk.Token], begin: int, start: int) -> bool:
    """Whether the verb before a write changes nothing: "I'll look into the refund", "I explain the cancellation"."""
    for at in range(start - 1, begin - 1, -1):
        token = tokens[at]
        if token.word in ("and", "then", "you"):
            return False
        if token.stem in _THINKING and token.form != tk.ED and not _noun(tokens, at):
            return True
    return False


def _noun(tokens: list[tk.Token], at: int) -> bool:
    """Whether a word stands as a noun: after an article and the like, or after an amount."""
    if tokens[at].form == tk.NOUN:
        return True
    before = [token.word for token in tokens[max(0, at - 3) : at]]
    if not before or tokens[at].form == tk.ING:
        return False
    if before[-1] in _ARTICLES or tokens[at - 1].stem == tk.MONEY:
        return True
    return len(before) > 1 and before[-2] in _ARTICLES and before[-1] not in _PRONOUN | _MODAL | _SKIP | {"and", "to"}


def _of_noun(
    sentence: Sentence, begin: int, start: int, left: list[str], previous: Mention | None, joined: bool
) -> tuple[str, bool]:
    """The mode of a write named by a noun: "I'd process the refund", "the refund has been issued"."""
    tokens, words = sentence.tokens, sentence.words
    right = _rest(words, start + 1)
    pairs = list(zip(right, right[1:]))
    if left[:2] == ["that", "is"] or left[:3] == ["that", "would", "be"]:
        return LISTED, False  # "that's a refund of $40"
    if any(pair in _SETTLED for pair in pairs):
        return DONE, True
    if at := next((i for i, (a, b) in enumerate(pairs) if a in _WILL and b == "be"), None):
        made = start + at + 3 < len(words) and tokens[start + at + 3].form in (tk.ED, tk.EITHER)
        return PROPOSED, not made  # "a refund would be issued"
    if sentence.question and start + 1 < len(tokens) and tokens[start + 1].form == tk.ED:
        return OTHER, False  # "refund arrived?"
    if previous is not None and previous.mode not in (OTHER, BLOCKED) and not joined and previous.end > begin:
        return NAMED, False  # the object of the write before it
    direct = [w for w in left[-3:] if w not in _ARTICLES]
    if direct and direct[-1] in _INTO:
        return NAMED, False  # "look into the refund"
    if _I.intersection(left):
        if "confirm" in left and not sentence.question and not (_MODAL | {"please", "to", "you"}).intersection(left):
            return DONE, False  # "I hereby confirm the cancellation"
        made = any(t.form in (tk.ED, tk.EITHER) and t.stem in _MAKING for t in tokens[begin:start])
        if made and not _MODAL.intersection(left):
            return DONE, False
        if _MODAL.intersection(left) or "to" in left or "am" in left or "you" not in left:
            return PROPOSED, False
    if joined and previous is not None:
        return previous.mode, previous.passive
    if "you" in left and _WISH.intersection(left):
        return (NAMED if words[begin] in _INVERTED or words[begin] == "why" else WISHED), False
    if not _finite(words) and not _ABOUT.intersection(left[-4:]):
        return LISTED, False
    return NAMED, False


def _of_participle(
    sentence: Sentence, begin: int, start: int, left: list[str], last: str, joined: bool, previous: Mention | None
) -> tuple[str, bool]:
    """The mode of a write in "-ed": "have cancelled", "will be cancelled", "want it cancelled", "order cancelled"."""
    words = sentence.words
    if last in _ARTICLES or (begin < start and words[start - 1] in _ARTICLES):
        return NAMED, False  # an adjective: "your cancelled class"
    if _PLANNED.intersection(words[:begin]) and ":" in words[:begin] and _BE.intersection(left):
        return LISTED, True  # "Here's the plan: it is moved"
    if left[:2] == ["that", "is"] and "been" not in left or left[:3] == ["that", "would", "be"]:
        return LISTED, True  # "that's your repair moved"
    if any(
        w in _RELATIVE and (w != "that" or (left[i + 1 : i + 2] or ["is"])[0] in _FINITE)
        for i, w in enumerate(left)
        if i >= len(left) - 3
    ):
        return OTHER, False
    if joined and previous is not None and previous.mode in (PROPOSED, WISHED) and _GET.intersection(left[-8:]):
        return PROPOSED, False
    if "you" in left and _WISH.intersection(left) and words[begin] in _INVERTED:
        return OTHER, True
    obliged = _MUST.intersection(left[-5:])
    if _WILL.intersection(left[-8:]) or (_ordered(left, "to", "be") or _ordered(left, "going", "be")) and not obliged:
        return PROPOSED, True
    if "be" in left[-3:] and "confirm" in left and "should" in left:
        return PROPOSED, True  # "please confirm that it should be moved"
    if "be" in left[-3:] and (obliged or _MODAL.intersection(left[-4:])):
        return OTHER, True
    if "you" in left and _WISH.intersection(left):
        return WISHED, True
    if "getting" in left or "being" in left:
        return (DONE if "now" in left else PROPOSED), True
    asked = sentence.question and begin == 0 and bool(left) and left[0] in _INVERTED
    if asked or _DID.intersection(left) or "you" in left[-2:] or (left and left[0] in _OTHERS):
        return OTHER, True
    if sentence.tokens[start].stem in _ON_FILE and not (_PERFECT | _BE | _I).intersection(left):
        return OTHER, True  # "the address registered to your account"
    if _WAS.intersection(left[-4:]):
        return (DONE if _NOW.intersection(left) or "today" in words[start:] else OTHER), True
    if _BE.intersection(left) and not _PERFECT.intersection(left):
        after = words[start + 1 : start + 3]
        settled = _NOW.intersection(left[-3:]) or not after or after[0] in _TAIL or after == ["for", "you"]
        return (DONE if settled else OTHER), True
    if _PERFECT.intersection(left) or _I.intersection(left):
        return DONE, not _I.intersection(left)
    if joined and previous is not None and previous.mode == DONE:
        return DONE, previous.passive
    if any(w not in _SKIP and w.isalnum() for w in left) or (begin and words[begin - 1] == ":"):
        return LISTED, True  # "2 keys added"
    return DONE, False  # "Booked you for 8:15", "Moved to 6 Nov."


def _rest(words: list[str], at: int) -> list[str]:
    """The words of the clause from a token on, eleven at most."""
    found = []
    for word in words[at : at + 11]:
        if word in _BREAKS or word in (",", "and", "so"):
            break
        found.append(word)
    return found


def _vague(words: list[str], end: int) -> bool:
    """Whether what follows the name of a write leaves open what it is done to: "one of them", "some other day"."""
    after = words[end - (words[end - 1] == "to") : end + 9]
    if not _OPEN.intersection(after):
        return "instead of yours" in " ".join(words[end:])
    text = " ".join(after)
    return any(phrase in text for phrase in _VAGUE)


def _waits(lead: list[str]) -> bool:
    """Whether the clause only makes the customer's word a condition: "if you'd like me to cancel it"."""
    return "you" in lead[:3] and bool({"want", "like", "wish", "happy", "ok"}.intersection(lead))


def _ordered(left: list[str], first: str, second: str) -> bool:
    """Whether one word stands before another among the last six."""
    near = left[-6:]
    return first in near and second in near[near.index(first) :]


def _clause(sentence: Sentence, at: int) -> int:
    """Where the clause with token `at` begins."""
    words = sentence.words
    for i in range(at - 1, -1, -1):
        if words[i] in _BREAKS:
            return i + 1
        if words[i] == "-" and i and words[i - 1] != "-":
            return i + 1
        if words[i] == "," and _starts(words, i + 1):
            return i + 1
        if words[i] in ("and", "so", "then") and i + 1 < at and words[i + 1] in _PRONOUN:
            return i + 1
        if words[i] in ("if", "because", "once", "before", "until", "unless", "that", "which", "so", "as") and i < at:
            if (
                words[i] not in ("that", "so", "as")
                or i + 1 < at
                and words[i + 1] in _PRONOUN
                and words[i + 1] != words[i]
            ):
                return i
    return 0


def _starts(words: list[str], at: int) -> bool:
    """Whether a clause of its own begins at a token: within the next words stands a subject with its verb."""
    following = words[at : at + 5]
    if following and following[0] in ("then", "and", "so", "but", "or"):
        following = following[1:]
    if (
        following
        and following[0]
        in _PRONOUN | {"shall", "should", "can", "could", "may", "would", "do", "is", "does"} | SUBORDINATE
    ):
        return True
    return any(w in ("will", "would", "is", "are", "shall", "can") for w in following)


def _joined(between: list[str]) -> bool:
    """Whether a verb goes on with what is said of the verb before it: "cancel it and refund ..."."""
    if any(w in _PRONOUN or w in _MODAL or w in ("was", "has", "were") for w in between):
        return False
    return any(w in ("and", "then", "plus", "or", ",", "&", "+") for w in between) and not {
        "if",
        "because",
        "so",
        "as",
    } & set(between)


def _finite(words: list[str]) -> bool:
    """Whether words hold a verb that makes a sentence of them."""
    return any(
        w in _MODAL or w in _BE or w in ("has", "have", "do", "does", "did", "was", "were", "cost", "costs", "be")
        for w in words
    )
