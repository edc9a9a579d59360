"""Comparing agent state in Redis with its rows in PostgreSQL, and repairing the rows. Begin reading at `AgentReconcile.run`.

Every row that Redis makes is held against the one that is there, value by value, by PostgreSQL. What differs is looked at
again: it counts only when Redis still has the same and the row still differs; the rest is in motion. Rows that Redis has no
more are history, kept and counted, unless their mapping says that deletions are mirrored. Knows ports only.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from segue.delivery import in_parts
from segue.model import AgentKind, AgentRow, RedisType
from segue.pipelines.agent_codec import AgentCodec, Decoded, in_groups
from segue.pipelines.agent_elements import Occurrences
from segue.pipelines.agent_sorting import Sorter
from segue.pipelines.confidence import most_differing
from segue.ports import AgentComparer, AgentDifference, AgentSource, RedisNode, UnknownKeys, UnseenRow

ROWS_AT_ONCE = 10_000
SHOWN = 50
SECOND_LOOK_SECONDS = 0.5
_KEYS_A_PAGE = 2_000
_DIGESTS = 2**64

Place = tuple[RedisNode, int, bytes]
"""A node, the place of the mapping that takes the key, and the key."""


@dataclass(frozen=True, slots=True)
class AgentComparisonJob:
    """What to compare.

    Attributes:
        codecs: One a mapping, in the order in which they count.
        mirrored: For each mapping, whether rows of keys and elements that Redis has no more are to go.
        ignore: Globs of keys that are somebody else's.
        sample_keys: How many keys are drawn; None for all of them, and the other way round.
    """

    codecs: Sequence[AgentCodec]
    mirrored: Sequence[bool]
    ignore: Sequence[str]
    sample_keys: int | None


@dataclass(slots=True)
class AgentVerdict:
    """What a comparison came to.

    Attributes:
        complete: False when stopped on request.
        keys: Keys that were read.
        compared: Rows that were compared, by kind.
        missing, mismatched: What differs at both looks.
        orphaned: Rows that Redis has no more, of mappings that mirror deletions.
        history: How many rows Redis has no more, of mappings that keep them; None where not all was looked at.
        moving: Rows that changed between the looks.
        quarantined: Elements that cannot go.
        repaired: Rows that were written or deleted.
        source_digest, sink_digest: Sums over the content hashes of both sides at the first look.
        bound: The share of all keys that differs at most, with 95 % confidence; None where all were compared.
    """

    complete: bool = True
    keys: int = 0
    compared: dict[AgentKind, int] = field(default_factory=lambda: defaultdict(int))
    missing: list[AgentDifference] = field(default_factory=list)
    mismatched: list[AgentDifference] = field(default_factory=list)
    orphaned: list[UnseenRow] = field(default_factory=list)
    history: dict[AgentKind, int] | None = None
    moving: int = 0
    quarantined: int = 0
    repaired: int = 0
    source_digest: int = 0
    sink_digest: int = 0
    bound: float | None = None

    @property
    def rows(self) -> int:
        """Rows with a verdict."""
        return sum(self.compared.values()) - self.moving + len(self.orphaned)

    @property
    def differing(self) -> int:
        """Rows that are not what they must be."""
        return len(self.missing) + len(self.mismatched) + len(self.orphaned)

    @property
    def rate(self) -> float:
        """The share of rows that are what they must be, those included that were repaired."""
        return 1.0 if not self.rows else (self.rows - self.differing + self.repaired) / self.rows


class AgentReconcile:
    """One comparison of agent state.

    Args:
        job: What to compare.
        source: Redis.
        sink: PostgreSQL.
        stop: Set when the comparison shall end.
    """

    def __init__(
        self,
        job: AgentComparisonJob,
        source: AgentSource,
        sink: AgentComparer,
        stop: threading.Event,
    ) -> None:
        self._job = job
        self._source = source
        self._sink = sink
        self._stop = stop
        self._sorter = Sorter(job.codecs, job.ignore)
        self._chance = random.Random()  # noqa: S311  # which keys are drawn is no secret

    def run(self, *, fix: bool = False) -> AgentVerdict:
        """Compare; with `fix` also make equal what differs, and delete what mappings mirror.

        1. Read the keys, all or drawn, and compare their rows.
        2. Look again at what differed.
        3. Of everything: see which rows Redis has no more, and look again at those that would go.
        4. Repair, and look once more.

        Raises:
            CursorLost: Redis was restarted meanwhile; begin again.
            SegueError: A store failed.
        """
        verdict = AgentVerdict()
        nodes, began = self._source.nodes(), self._source.clock()
        first = self._first_look(nodes, verdict)
        if self._stop.is_set():
            verdict.complete = False
            return verdict
        again = self._again(first, verdict)
        if self._job.sample_keys is None:
            self._the_other_way(nodes, verdict)
        else:
            keys = {(one.kind, one.key) for one in (*verdict.missing, *verdict.mismatched)}
            verdict.bound = most_differing(min(len(keys), verdict.keys), verdict.keys) if verdict.keys else None
        if fix:
            self._repair(again, began, verdict)
        return verdict

    def _first_look(self, nodes: Sequence[RedisNode], verdict: AgentVerdict) -> dict[bytes, tuple[Place, bytes]]:
        """Compare everything that is chosen; return what differs, with its place and the content hash that Redis made."""
        differing: dict[bytes, tuple[Place, bytes]] = {}
        whole = self._job.sample_keys is None
        for node, place, keys in self._chosen(nodes) if not whole else self._all(nodes):
            verdict.keys += len(keys)
            for decoded in self._rows(node, place, keys):
                verdict.quarantined += len(decoded.quarantined)
                parts, refused = in_parts(decoded.rows, lambda rows: self._sink.compare(rows, remember=whole))
                verdict.quarantined += len(refused)
                for found in parts:
                    verdict.compared[self._job.codecs[place].mapping.kind] += found.compared
                    verdict.source_digest = (verdict.source_digest + found.source_digest) % _DIGESTS
                    verdict.sink_digest = (verdict.sink_digest + found.sink_digest) % _DIGESTS
                odd = {one.natural_key for found in parts for one in found.differences}
                for row in decoded.rows if odd else ():
                    if row.natural_key in odd:
                        differing[row.natural_key] = ((node, place, row.key.encode()), row.content_hash)
            if self._stop.is_set():
                break
        return differing

    def _again(self, first: Mapping[bytes, tuple[Place, bytes]], verdict: AgentVerdict) -> list[AgentRow]:
        """Look again at what differed; return the rows that it must be."""
        if not first:
            return []
        self._stop.wait(SECOND_LOOK_SECONDS)
        wanted: list[AgentRow] = []
        for node, place, keys in _by_place(place for place, _ in first.values()):
            for decoded in self._rows(node, place, keys):
                rows = {row.natural_key: row for row in decoded.rows if row.natural_key in first}
                for one in self._sink.compare(list(rows.values()), remember=False).differences:
                    row = rows[one.natural_key]
                    if row.content_hash != first[one.natural_key][1]:
                        continue
                    (verdict.missing if one.missing else verdict.mismatched).append(one)
                    wanted.append(row)
        verdict.moving = len(first) - len(wanted)
        return wanted

    def _the_other_way(self, nodes: Sequence[RedisNode], verdict: AgentVerdict) -> None:
        verdict.history = dict.fromkeys(AgentKind, 0)
        dbs = sorted({node.db for node in nodes})
        for kind in AgentKind:
            for page in self._sink.unseen(kind, dbs):
                going: list[UnseenRow] = []
                for one in page:
                    place = self._sorter.place(one.key)
                    if place is not None and self._job.mirrored[place] and self._job.codecs[place].mapping.kind is kind:
                        going.append(one)
                    else:
                        verdict.history[kind] += 1
                verdict.orphaned += self._really_gone(nodes, going)

    def _really_gone(self, nodes: Sequence[RedisNode], rows: Sequence[UnseenRow]) -> list[UnseenRow]:
        """Leave out rows whose element has come meanwhile, or was missed by the scan."""
        there: set[bytes] = set()
        places = [
            (node, place, one.key.encode())
            for one in rows
            for node in nodes
            if node.db == one.db and (place := self._sorter.place(one.key)) is not None
        ]
        for node, place, keys in _by_place(places):
            there |= {row.natural_key for decoded in self._rows(node, place, keys) for row in decoded.rows}
        return [one for one in rows if one.natural_key not in there]

    def _repair(self, wanted: Sequence[AgentRow], began: int, verdict: AgentVerdict) -> None:
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            part = wanted[start : start + ROWS_AT_ONCE]
            # A row that was changed in PostgreSQL alone carries the right hash; it is written all the same.
            self._sink.write(part, touch=True)
            left = {one.natural_key for one in self._sink.compare(part, remember=False).differences}
            verdict.repaired += sum(row.natural_key not in left for row in part)
        by_kind: dict[AgentKind, list[bytes]] = defaultdict(list)
        for one in verdict.orphaned:
            by_kind[one.kind].append(one.natural_key)
        for kind, natural_keys in by_kind.items():
            for start in range(0, len(natural_keys), ROWS_AT_ONCE):
                verdict.repaired += self._sink.delete(kind, natural_keys[start : start + ROWS_AT_ONCE], began)

    # Keys and their rows.

    def _all(self, nodes: Sequence[RedisNode]) -> Iterator[tuple[RedisNode, int, list[bytes]]]:
        unknown: dict[str, UnknownKeys] = {}
        for node in nodes:
            cursor: str | None = None
            while not self._stop.is_set():
                page = self._source.scan(node, cursor, _KEYS_A_PAGE)
                for place, keys in self._sorter.sort(dict.fromkeys(page.keys), unknown).items():
                    yield node, place, keys
                cursor = page.cursor
                if cursor is None:
                    break

    def _chosen(self, nodes: Sequence[RedisNode]) -> Iterator[tuple[RedisNode, int, list[bytes]]]:
        """Draw keys, each with the same chance, in one pass over all of them."""
        most, seen = self._job.sample_keys or 0, 0
        drawn: list[Place] = []
        for node, place, keys in self._all(nodes):
            for key in keys:
                seen += 1
                if len(drawn) < most:
                    drawn.append((node, place, key))
                elif (at := self._chance.randrange(seen)) < most:
                    drawn[at] = (node, place, key)
        yield from _by_place(drawn)

    def _rows(self, node: RedisNode, place: int, keys: Sequence[bytes]) -> Iterator[Decoded]:
        codec = self._job.codecs[place]
        mapping = codec.mapping
        whole = mapping.type is RedisType.HASH and not mapping.is_per_field
        decoded, seen = Decoded(), Occurrences()
        for pieces in in_groups(self._source.read(node, keys, mapping.type, whole=whole)):
            codec.decode(pieces, decoded, seen)
            if len(decoded.rows) >= ROWS_AT_ONCE:
                yield decoded
                decoded = Decoded()
        yield decoded


def _by_place(places: Iterable[Place]) -> Iterator[tuple[RedisNode, int, list[bytes]]]:
    grouped: dict[tuple[RedisNode, int], list[bytes]] = defaultdict(list)
    for node, place, key in places:
        grouped[node, place].append(key)
    for (node, place), keys in grouped.items():
        yield node, place, list(dict.fromkeys(keys))
