"""Generated tables with the defects of real ones, and questions whose answers come from clean records behind them.

Each subject has a table of events and a table of their owners. The clean records of the events are drawn first. The
table of events is then written with some measures missing, some rows twice, and the measures in varying units. Python
computes an answer from the clean records; the question's SQL computes the same answer from the dirty tables.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from synth.personas import SPLITS
from synth.question import Question

Row = dict[str, Any]
EVENTS, OWNERS = 160, 24  # numbers of events and owners per subject
MISSING, TWICE, NO_GROUP = 0.06, 0.08, 0.05  # shares of events without a measure, with two rows, without a group


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit in which a table may give a measure, which is a whole number of base units.

    fits: whether a number of base units is a whole number in this unit.
    show: number of base units -> number in this unit.
    sql: template of the SQL expression for the conversion back to base units.
    """

    name: str
    fits: Callable[[int], bool]
    show: Callable[[int], int]
    sql: str


@dataclasses.dataclass(frozen=True)
class Subject:
    """A subject: the names of its two tables and of their columns, and the values in them.

    events, event: plural (the name of the table) and singular of the events. owners, owner: the same for their owners.
    measure: the numeric column of events; its values are low, low + step, ..., at most high, in base units.
    units: the units of the measure, the base unit first.
    group, groups: a column of events, and its values. trait, traits: a column of owners, and its values.
    """

    name: str
    events: str
    event: str
    measure: str
    units: tuple[Unit, ...]
    low: int
    high: int
    step: int
    group: str
    groups: tuple[str, ...]
    owners: str
    owner: str
    trait: str
    traits: tuple[str, ...]


def _base(name: str) -> Unit:
    return Unit(name, lambda n: True, lambda n: n, "{0}")


def _larger(name: str, factor: int) -> Unit:
    return Unit(name, lambda n: n % factor == 0, lambda n: n // factor, f"{{0}} * {factor}")


_FAHRENHEIT = Unit("fahrenheit", lambda n: n % 5 == 0, lambda n: n * 9 // 5 + 32, "({0} - 32) * 5 / 9")

SUBJECTS = {
    s.name: s
    for s in (
        Subject("sales", "orders", "order", "price", (_base("cent"), _larger("euro", 100)), 100, 9900, 50,
                "channel", ("web", "shop", "phone"), "customers", "customer", "region",
                ("north", "south", "east", "west")),
        Subject("telemetry", "readings", "reading", "temperature", (_base("celsius"), _FAHRENHEIT), 5, 60, 1,
                "phase", ("idle", "start", "load"), "devices", "device", "site", ("mill", "dock", "mine", "farm")),
        Subject("clinics", "visits", "visit", "duration", (_base("minute"), _larger("hour", 60)), 10, 300, 10,
                "ward", ("eyes", "skin", "heart"), "patients", "patient", "cover", ("none", "basic", "full", "state")),
        Subject("logs", "requests", "request", "latency", (_base("millisecond"), _larger("second", 1000)),
                250, 9000, 250, "verb", ("get", "put", "post"), "hosts", "host", "zone",
                ("alpha", "beta", "gamma", "delta")),
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tables:
    """Two tables as an agent sees them, and the clean records behind the table of events.

    tables: name -> rows.
    notes: name of a table -> the notes in its description.
    clean: a record for each event that has a measure: {"owner", "trait", "group" (None if unknown), "m" (the measure in
        base units)}.
    """

    subject: Subject
    tables: dict[str, list[Row]]
    notes: dict[str, str]
    clean: list[Row]


@functools.lru_cache(maxsize=64)
def tables(name: str, seed: str) -> Tables:
    """The tables of the subject `name`. Same arguments, same tables. Raises KeyError for an unknown subject."""
    subject, rng = SUBJECTS[name], random.Random(f"tables/{name}/{seed}")
    key, owner_key = f"{subject.event}_id", f"{subject.owner}_id"
    traits = rng.sample([subject.traits[i % len(subject.traits)] for i in range(OWNERS)], OWNERS)
    owners = {f"{subject.owner[0]}{i:02d}": trait for i, trait in enumerate(traits)}
    rows, clean = [], []
    for number in rng.sample(range(1000, 9999), EVENTS):
        m = rng.randrange(subject.low, subject.high + 1, subject.step)
        owner = rng.choice(list(owners))
        group = None if rng.random() < NO_GROUP else rng.choice(subject.groups)
        missing = rng.random() < MISSING
        if not missing:
            clean.append({"owner": owner, "trait": owners[owner], "group": group, "m": m})
        for _ in range(1 + (rng.random() < TWICE)):
            unit = rng.choice([unit for unit in subject.units if unit.fits(m)])
            told = None if missing else unit.show(m)
            row = {key: number, owner_key: owner, subject.group: group, subject.measure: told, "unit": unit.name}
            rows.append(row)
    rng.shuffle(rows)
    owner_rows = [{owner_key: owner, subject.trait: trait} for owner, trait in owners.items()]
    notes = {
        subject.events: f"Rows with the same {key} tell the same {subject.event} again. "
        f"Rows without {subject.measure} do not count. {subject.measure} is in the row's unit.",
        subject.owners: f"One row per {subject.owner}.",
    }
    return Tables(subject, {subject.events: rows, subject.owners: owner_rows}, notes, clean)


def _clean_sql(subject: Subject) -> str:
    """The beginning of a query: a common table expression `clean` that computes the clean records from the tables."""
    cases = " ".join(f"when '{unit.name}' then {unit.sql.format('e.' + subject.measure)}" for unit in subject.units)
    return (
        f"with clean as (select e.{subject.event}_id, min(e.{subject.owner}_id) as owner, "
        f"min(o.{subject.trait}) as trait, min(e.{subject.group}) as grp, min(case e.unit {cases} end)::bigint as m "
        f"from {subject.events} e "
        f"join {subject.owners} o on e.{subject.owner}_id = o.{subject.owner}_id "
        f"where e.{subject.measure} is not null group by e.{subject.event}_id) "
    )


def rash_sql(subject: Subject) -> str:
    """The same as `_clean_sql`, but without any cleaning: rows may occur twice and units are mixed."""
    return (
        f"with clean as (select e.{subject.owner}_id as owner, o.{subject.trait} as trait, e.{subject.group} as grp, "
        f"e.{subject.measure} as m from {subject.events} e "
        f"join {subject.owners} o on e.{subject.owner}_id = o.{subject.owner}_id) "
    )


def _totals(clean: Sequence[Row], key: str) -> Counter:
    totals: Counter = Counter()
    for row in clean:
        totals[row[key]] += row["m"]
    return totals


def _best(values: Counter) -> Any:
    """The key of the largest value. Raises ValueError for a tie."""
    (first, high), (_, second) = values.most_common(2)
    if high == second:
        raise ValueError("a tie")
    return first


# Kinds of question: (data, rng) -> (prompt, answer, the part of the SQL query after the common table expression).
# They raise ValueError if the tables allow no clear answer; other tables must then be drawn.
def _count(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, group = data.subject, rng.choice(data.subject.groups)
    answer = sum(row["group"] == group for row in data.clean)
    return (
        f"How many {s.events} have the {s.group} {group}?",
        answer,
        f"select count(*) from clean where grp = '{group}'",
    )


def _total(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, group = data.subject, rng.choice(data.subject.groups)
    answer = sum(row["m"] for row in data.clean if row["group"] == group)
    prompt = f"What is the total {s.measure} in {s.units[0].name} of all {s.events} with the {s.group} {group}?"
    return prompt, answer, f"select sum(m) from clean where grp = '{group}'"


def _largest(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, trait = data.subject, rng.choice(data.subject.traits)
    answer = max(row["m"] for row in data.clean if row["trait"] == trait)
    prompt = (
        f"What is the largest {s.measure} in {s.units[0].name} of a {s.event} whose {s.owner} has the {s.trait} "
        f"{trait}?"
    )
    return prompt, answer, f"select max(m) from clean where trait = '{trait}'"


def _best_trait(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, group = data.subject, rng.choice(data.subject.groups)
    answer = _best(_totals([row for row in data.clean if row["group"] == group], "trait"))
    prompt = f"Over the {s.events} with the {s.group} {group}, which {s.trait} has the largest total {s.measure}?"
    sql = f"select trait from clean where grp = '{group}' group by trait order by sum(m) desc limit 1"
    return prompt, answer, sql


def _mean(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, trait = data.subject, rng.choice(data.subject.traits)
    values = [row["m"] for row in data.clean if row["trait"] == trait]
    prompt = (
        f"What is the mean {s.measure} in {s.units[0].name}, rounded down to a whole number, of the {s.events} whose "
        f"{s.owner} has the {s.trait} {trait}?"
    )
    return prompt, sum(values) // len(values), f"select sum(m) // count(*) from clean where trait = '{trait}'"


def _gap(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    del rng  # nothing to choose
    s = data.subject
    (_, high), (_, second) = _totals(data.clean, "owner").most_common(2)
    unit = s.units[0].name
    units = unit if unit.endswith("s") else f"{unit}s"  # celsius has no plural
    prompt = f"Rank every {s.owner} by total {s.measure}. By how many {units} does the first exceed the second?"
    sql = (
        "select t1 - t2 from (select max(t) as t1, max(t) filter (n = 2) as t2 from (select sum(m) as t, row_number() "
    )
    return prompt, high - second, sql + "over (order by sum(m) desc) as n from clean group by owner))"


def _above(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    s, trait = data.subject, rng.choice(data.subject.traits)
    overall = sum(row["m"] for row in data.clean) / len(data.clean)
    per_owner = defaultdict(list)
    for row in data.clean:
        if row["trait"] == trait:
            per_owner[row["owner"]].append(row["m"])
    means = [sum(values) / len(values) for values in per_owner.values()]
    if any(abs(mean - overall) < 1e-6 for mean in means):
        raise ValueError("too close to call")
    prompt = (
        f"How many {s.owners} with the {s.trait} {trait} have a mean {s.measure} above the mean {s.measure} of all "
        f"{s.events}?"
    )
    sql = (
        f"select count(*) from (select owner from clean where trait = '{trait}' group by owner "
        "having avg(m) > (select avg(m) from clean))"
    )
    return prompt, sum(mean > overall for mean in means), sql


def _busiest_then(data: Tables, rng: random.Random) -> tuple[str, Any, str]:
    del rng  # nothing to choose
    s = data.subject
    owner = _best(Counter(row["owner"] for row in data.clean))
    mine = [row for row in data.clean if row["owner"] == owner and row["group"] is not None]
    prompt = (
        f"Take the {s.owner} with the most {s.events}. Which {s.group} makes up the largest total {s.measure} of this "
        f"{s.owner}'s {s.events}?"
    )
    sql = (
        "select grp from clean where grp is not null and owner = (select owner from clean group by owner "
        "order by count(*) desc limit 1) group by grp order by sum(m) desc limit 1"
    )
    return prompt, _best(_totals(mine, "group")), sql


# The kinds of question of each round, with more and more steps; later rounds use the last entry.
KINDS = ((_count, _total), (_largest, _best_trait, _mean), (_gap, _above, _busiest_then))


def questions(split: str, count: int, variants: int, number: int, seed: int) -> list[Question]:
    """`count` roots with `variants` questions each for round `number`; roots rotate through the subjects.

    No two questions of a root have the same words and tables. Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"tables: unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    found, kinds = [], KINDS[min(number, len(KINDS) - 1)]
    for i in range(count):
        name = list(SUBJECTS)[i % len(SUBJECTS)]
        root, asked = f"{split}-{i:05d}-data_{name}", set()
        parent, operator = (f"{root}@r{number - 1}", "steps") if number else ("", "")
        for variant in range(variants):
            rng, draw = random.Random(f"{seed}/data/{root}/{number}/{variant}"), 0
            while True:
                arguments = {"name": name, "seed": f"{seed}/{root}/{number}/{draw}"}
                data = tables(**arguments)
                kind = rng.choice(kinds)
                draw += 1  # the next attempt draws other tables
                try:
                    prompt, answer, sql = kind(data, rng)
                except ValueError:
                    continue
                if (prompt, draw) not in asked:
                    break
            asked.add((prompt, draw))
            source = {"tables": arguments, "sql": _clean_sql(data.subject) + sql}
            found.append(
                Question(
                    f"{root}@r{number}/{variant}",
                    root,
                    parent,
                    operator,
                    seed,
                    number,
                    "data",
                    prompt,
                    str(answer),
                    source,
                )
            )
    return found
