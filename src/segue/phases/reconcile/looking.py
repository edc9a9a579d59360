"""Looking at keys on both sides, and again at what differs, until it rests.

Beside writers nothing is a difference at one look: it must still be there, the same, at a second one, with the key's mark clean
and unchanged between them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from segue.model import Difference, Key, Kind, Tally
from segue.phases.reconcile.verdict import Job, Sides, stopped
from segue.pipelines.comparison import Compared, Comparer
from segue.pipelines.embeddings import Codec
from segue.ports import RangeCompared, Standing

MOST_KEYS = 1_000
PAGE_BYTES = 4 << 20
"""Keys a page, and bytes of its vectors: a page is read from both sides at once, two more are on their way."""

PAGES_AHEAD = 2
SECOND_LOOK_SECONDS = 0.5

SHOWN = 50
"""Keys of which it is shown what they differ in."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A key at one look: what both sides had, and its mark right after."""

    state: tuple[object, ...]
    standing: Standing | None


@dataclass
class Account:
    """What is known by now; of one thread."""

    tally: Tally = field(default_factory=Tally)
    differing: dict[Key, Kind] = field(default_factory=dict)
    shown: list[Difference] = field(default_factory=list)
    suspects: dict[Key, _Seen] = field(default_factory=dict)

    def as_compared(self) -> RangeCompared:
        """Return it as it is recorded."""
        return RangeCompared(self.tally, self.differing, self.shown[:SHOWN], list(self.suspects))


class Looks:
    """Looks at keys of one collection.

    Args:
        job: What is compared.
        sides: Where.
        clock: A monotonic clock, in seconds.
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
        stop: Asks to stop.
    """

    def __init__(
        self, job: Job, sides: Sides, *, clock: Callable[[], float], wait: Callable[[float], bool], stop: threading.Event
    ) -> None:
        self._job = job
        self._sides = sides
        self._clock = clock
        self._wait = wait
        self._stop = stop
        self._codec = Codec(job.spec, job.layout)
        self._comparer = Comparer(job.layout, whole=job.depth.whole)
        self._page = max(1, min(MOST_KEYS, PAGE_BYTES // (4 * job.spec.dimension)))

    def _pages(self, keys: Sequence[Key]) -> Iterator[tuple[Compared, Sequence[Key]]]:
        """Look at keys, a page at a time, with rows on their way while items are read."""
        whole = self._job.depth.whole
        waiting = deque(self.parts(keys))
        ahead = deque((part, self._sides.sink.rows(part, whole=whole)) for part in _taken(waiting, PAGES_AHEAD))
        while ahead and not self._stop.is_set():
            part, reading = ahead.popleft()
            ahead.extend((one, self._sides.sink.rows(one, whole=whole)) for one in _taken(waiting, 1))
            encoded = self._codec.encode(self._sides.source.items(part))
            yield self._comparer.compare(encoded, *reading.result()), part

    def _seen(self, compared: Compared, keys: Sequence[Key]) -> dict[Key, _Seen]:
        seen: dict[Key, _Seen] = {}
        for part in self.parts(keys):
            # Marks come last: one that is the same at two looks was so all the time between them.
            standing = self._sides.marks.standing(part)
            seen |= {key: _Seen(compared.state(key), standing.get(key)) for key in part}
        return seen

    def look_at(self, account: Account, keys: Sequence[Key]) -> None:
        """Look at keys that are not counted yet: count what is equal, suspect the rest. Ends early when asked to stop."""
        for compared, page in self._pages(keys):
            account.tally += compared.tally([key for key in page if key not in compared.differing])
            account.suspects |= self._seen(compared, list(compared.differing))

    def second_look(self, account: Account) -> None:
        """Look at all suspects again, once; those without a verdict stay suspects."""
        if not account.suspects:
            return
        if self._wait(SECOND_LOOK_SECONDS):
            return
        before, account.suspects = account.suspects, {}
        for compared, page in self._pages(list(before)):
            now = self._seen(compared, list(compared.differing))
            moving = {key: seen for key, seen in now.items() if not _rests(before[key], seen)}
            account.suspects |= moving
            account.tally += compared.tally([key for key in page if key not in moving])
            for key in compared.differing.keys() - moving.keys():
                account.differing[key] = compared.differing[key].kind
                account.shown += compared.differing[key].differences if len(account.shown) < SHOWN else ()

    def until_at_rest(self, found: RangeCompared) -> RangeCompared:
        """Look at the keys that moved until they rest, for so long."""
        if not found.moving:
            return found
        until = self._clock() + self._job.settle_seconds
        account = Account(found.tally, dict(found.differing), list(found.shown))
        self.look_at(account, found.moving)
        while account.suspects and self._clock() < until and not self._stop.is_set():
            self.second_look(account)
        if self._stop.is_set():
            raise stopped()
        return account.as_compared()

    def parts(self, keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
        """Cut keys into pages."""
        return (keys[start : start + self._page] for start in range(0, len(keys), self._page))

    def look_for_orphans(self, account: Account, rows: Collection[Key]) -> None:
        """Look whether rows have an item, and at those that have none."""
        for part in self.parts(list(rows)):
            there = self._sides.source.items(part)
            alone = set(part).difference(there.keys, (row.key for row in there.quarantined))
            self.look_at(account, list(alone))

    def equal(self, keys: Sequence[Key]) -> frozenset[Key]:
        """Look at keys once, and return those that are equal."""
        pages = self._pages(keys)
        return frozenset(key for compared, page in pages for key in page if key not in compared.differing)


def _rests(before: _Seen, now: _Seen) -> bool:
    return before == now and (now.standing is None or now.standing.settled)


def _taken(waiting: deque[Sequence[Key]], most: int) -> Iterator[Sequence[Key]]:
    while waiting and most:
        yield waiting.popleft()
        most -= 1
