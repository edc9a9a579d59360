"""From samples to what is read: medians, ratios, aims; as Markdown tables and as plain values for JSON. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from statistics import median
from typing import Any

from measuring import Sample

Round = Mapping[str, Sample]
"""What each contender did in one round."""

FORMULAS = """\
Server-bound limit: rows/s that these cores allow if the client costs nothing and no core ever rests:
cores x 1,000,000 / (Neo4j µs a row + Milvus µs a row).
(a) with the servers' cost in Segue's own run: what is missing to 100 % is the client's CPU, idle cores, other processes;
(b) with their cost in the two ceilings (read-only, write-only): work that Segue makes the servers do in addition counts too."""


QUIET = 0.12
"""The share of the machine that others may use in a run whose rows/s still mean something."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of these values."""
        return cls(median(values), min(values), max(values))

    def text(self, form: str) -> str:
        """Return it as `median (least to greatest)`, each in this format; the median alone if all are one."""
        middle = format(self.median, form)
        return middle if self.least == self.greatest else f"{middle} ({self.least:{form}} to {self.greatest:{form}})"


@dataclass(frozen=True, slots=True)
class Aim:
    """Something the benchmark is measured against.

    Attributes:
        name: What is measured.
        wanted: The aim in words.
        found: What was found; None when its contenders did not run.
        form: How it is written.
        met: Whether the median meets it; None when it was not measured.
    """

    name: str
    wanted: str
    found: Spread | None
    form: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """Met, missed, or not measured."""
        return "not measured" if self.met is None else "met" if self.met else "missed"


def summary(rounds: Sequence[Round]) -> dict[str, dict[str, Spread]]:
    """Return, for each contender, the spread of everything measured over the rounds."""
    columns: dict[str, Callable[[Sample], float]] = {
        "rows_per_second": lambda sample: sample.rate,
        **{name: attrgetter(name) for name in _MEASURED},
    }
    return {
        contender: {name: Spread.of([read(one[contender]) for one in rounds]) for name, read in columns.items()}
        for contender in rounds[0]
    }


_MEASURED = ("seconds", "client_us", "neo4j_us", "milvus_us", "idle", "others", "peak_mib")


def aims(rounds: Sequence[Round], cores: int) -> list[Aim]:
    """Return every aim with what was found. Ratios are taken within a round, where the machine was the same, then spread."""

    def over(read: Callable[[Round], float]) -> Spread | None:
        try:
            return Spread.of([read(one) for one in rounds])
        except KeyError:
            return None

    def times(rival: str) -> Spread | None:
        return over(lambda one: one["segue"].rate / one[rival].rate)

    return [
        at_least("speed against careful-4", 2.5, times("careful-4"), ".2f", " times"),
        at_least("speed against common", 10, times("common"), ".1f", " times"),
        at_most("client CPU", 30, over(lambda one: one["segue"].client_us), ".1f", " µs a row"),
        at_least("share of the limit (a)", 0.85, over(lambda one: _share(one, "segue", "segue", cores)), ".0%"),
        at_least("share of the limit (b)", 0.85, over(lambda one: _share(one, "read-only", "write-only", cores)), ".0%"),
        at_most("peak memory", 400, over(lambda one: one["segue"].peak_mib), ".0f", " MiB"),
    ]


def flatness(rounds: Sequence[Round], larger: Sample | None) -> Aim:
    """Return the aim that memory does not grow with the items."""
    growth = None
    if larger is not None and "segue" in rounds[0]:
        growth = Spread.of([larger.peak_mib / one["segue"].peak_mib for one in rounds])
    return at_most("peak memory at more items", 1.1, growth, ".2f", " times")


def disturbance(rounds: Sequence[Round]) -> str:
    """Return a warning when other processes took part of the machine, or an empty text."""
    worst = max(sample.others for one in rounds for sample in one.values())
    if worst <= QUIET:
        return ""
    return f"Disturbed: other processes used up to {worst:.0%} of the machine. Trust the CPU a row, not the rows/s.\n\n"


def _share(one: Round, neo4j: str, milvus: str, cores: int) -> float:
    limit = cores * 1e6 / (one[neo4j].neo4j_us + one[milvus].milvus_us)
    return one["segue"].rate / limit


def at_least(name: str, wanted: float, found: Spread | None, form: str, unit: str = "") -> Aim:
    """Return the aim that a median is no less than wanted."""
    return Aim(name, f"≥ {_plain(wanted, form)}{unit}", found, form, found.median >= wanted if found else None)


def at_most(name: str, wanted: float, found: Spread | None, form: str, unit: str) -> Aim:
    """Return the aim that a median is no more than wanted."""
    return Aim(name, f"≤ {_plain(wanted, form)}{unit}", found, form, found.median <= wanted if found else None)


def _plain(wanted: float, form: str) -> str:
    return format(wanted, ".0%") if form.endswith("%") else f"{wanted:g}"


def results_table(rounds: Sequence[Round]) -> str:
    """Return the results as a Markdown table, a contender a line."""
    head = ["contender", "rows/s", "client µs", "Neo4j µs", "Milvus µs", "peak MiB", "idle", "others"]
    forms = {"rows_per_second": ",.0f", "client_us": ".1f", "neo4j_us": ".0f", "milvus_us": ".0f", "peak_mib": ".0f"}
    rows = []
    for contender, measured in summary(rounds).items():
        cells = [measured[name].text(form) for name, form in forms.items()]
        rows.append([contender, *cells, *(f"{measured[name].median:.0%}" for name in ("idle", "others"))])
    return markdown(head, rows)


def aims_table(found: Sequence[Aim]) -> str:
    """Return the aims as a Markdown table."""
    rows = [[aim.name, aim.wanted, aim.found.text(aim.form) if aim.found else "", aim.verdict] for aim in found]
    return markdown(["aim", "wanted", "found", "verdict"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned Markdown table; the first column is text, the others are figures."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(_cells(row, widths)) + " |" for row in (head, rule, *rows))


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield row[0].ljust(widths[0])
    yield from (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))


def as_json(rounds: Sequence[Round], found: Sequence[Aim]) -> dict[str, Any]:
    """Return everything as plain values: each sample, the summary, the aims."""
    return {
        "rounds": [{contender: asdict(sample) for contender, sample in one.items()} for one in rounds],
        "summary": {
            contender: {name: asdict(spread) for name, spread in measured.items()}
            for contender, measured in summary(rounds).items()
        },
        "aims": [asdict(aim) for aim in found],
    }
