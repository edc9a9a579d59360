"""What the items are like: read as the copy reads them, and put through the one codec, as many as fit into the time.

Changes nothing. Where time runs out, what was read is spread over the keys: a page of each of twenty ranges in turn.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segue.model import Encoded, Key, Layout, Page, Quarantined, Range, SourceSpec
from segue.pipelines.embeddings import Codec
from segue.ports import Census, Source

RANGES = 20
PAGE = 500
EXAMPLES = 5

UNIT = 1e-3
"""How far a norm may be from 1 for the vector to count as normalised."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was read.

    Attributes:
        total: Items there are.
        seen: Items that were read.
        reasons: How many of these would be quarantined, by reason.
        details: The commonest facts behind that, with how many.
        examples: Some of them.
        norms: Least, median and greatest norm of the vectors that can go; None where there is none.
        unit: The share of them that is normalised.
        longest: Bytes of the longest text of each property that has any, the key's among them.
        row_bytes: Bytes of a row without its vector, on average.
    """

    total: int
    seen: int
    reasons: Mapping[str, int]
    details: Sequence[tuple[str, int]]
    examples: Sequence[Quarantined]
    norms: tuple[float, float, float] | None
    unit: float
    longest: Mapping[str, int]
    row_bytes: float

    @property
    def is_whole(self) -> bool:
        """Every item was read."""
        return self.seen >= self.total

    @property
    def scope(self) -> str:
        """What was read, in words."""
        return f"all {self.seen:,} items" if self.is_whole else f"{self.seen:,} of {self.total:,} items"


def read(source: Source, spec: SourceSpec, layout: Layout, census: Census, *, seconds: float) -> Inventory:
    """Read items for at most so long, a page longer at most."""
    until = time.monotonic() + seconds
    ranges = source.plan(spec, max(PAGE, -(-census.total // RANGES)), census)
    codec, tally = Codec(spec, layout), _Tally(spec)
    left: list[tuple[Range, Key | None]] = [(one, None) for one in ranges]
    while left and time.monotonic() < until:
        one, after = left.pop(0)
        page = source.scan(spec, one, after, PAGE)
        tally.add(page, codec.encode(page))
        if not page.exhausted:
            left.append((one, page.last))
    return tally.inventory(census.total)


class _Tally:
    """Sums over pages."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._seen = 0
        self._bytes = 0
        self._rows = 0
        self._reasons: Counter[str] = Counter()
        self._details: Counter[str] = Counter()
        self._examples: list[Quarantined] = []
        self._norms: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        self._longest: dict[str, int] = {}

    def add(self, page: Page, encoded: Encoded) -> None:
        """Take a page in, and what it was encoded to."""
        self._seen += len(page.keys) + len(page.quarantined)
        self._rows += len(encoded.rows)
        self._bytes += sum(_sizes(encoded))
        for row in encoded.quarantined:
            self._reasons[row.reason.value] += 1
            self._details[f"{row.reason.value}: {row.detail}"] += 1
        self._examples += encoded.quarantined[: EXAMPLES - len(self._examples)]
        if len(encoded.rows):
            self._norms.append(np.linalg.norm(encoded.rows.vectors, axis=1))
        self._measure(self._spec.key, page.keys)
        for place, name in enumerate(self._spec.property_names):
            self._measure(name, [values[place] for values in page.properties])

    def inventory(self, total: int) -> Inventory:
        """Return what it came to."""
        norms = np.concatenate(self._norms) if self._norms else np.empty(0, np.float32)
        spread = (float(norms.min()), float(np.median(norms)), float(norms.max())) if len(norms) else None
        return Inventory(
            total=max(total, self._seen),
            seen=self._seen,
            reasons=dict(self._reasons.most_common()),
            details=self._details.most_common(EXAMPLES),
            examples=self._examples,
            norms=spread,
            unit=float(np.mean(np.abs(norms - 1.0) <= UNIT)) if len(norms) else 0.0,
            longest=self._longest,
            row_bytes=self._bytes / self._rows if self._rows else 0.0,
        )

    def _measure(self, name: str, values: Sequence[object]) -> None:
        longest = max((len(value.encode()) for value in values if isinstance(value, str)), default=0)
        if longest:
            self._longest[name] = max(longest, self._longest.get(name, 0))


def _sizes(encoded: Encoded) -> list[int]:
    """Return the bytes of each value but the vectors."""
    columns = [encoded.rows.keys, *encoded.rows.columns.values()]
    return [
        len(value.encode()) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 8
        for column in columns
        for value in column
    ]
