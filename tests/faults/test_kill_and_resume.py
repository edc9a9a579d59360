"""kill -9 at random moments of the whole run, the same command again each time: it ends, and ends equal.

The moments come from `random`, which pytest-randomly seeds before each test with the seed in the session's header; each is
logged, and so shown when the test fails.
"""

from __future__ import annotations

import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from acceptance.items import assert_equal, assert_searchable, configuration, load, quarantine_file
from acceptance.workplace import Record, Workplace, eventually, workplace
from segue.sandbox import Endpoint

LOG = logging.getLogger(__name__)
COMMAND = ("migrate-embeddings", "--format", "json")
FIT, UNFIT_OF_EACH_KIND = 3_000, 3
SMALL = {"SEGUE_BATCH_SIZE": "10", "SEGUE_WORKERS": "3"}
"""Batches small enough for 300 of them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the parts of an undisturbed run took, in seconds: up to the plan, the copy, the index."""

    planning: float
    copying: float
    indexing: float


@dataclass(frozen=True, slots=True)
class Moment:
    """So many seconds after a command's start, after its copy began, or after it has recorded so many more rows."""

    seconds: float
    copying: bool
    rows: int = 0


@pytest.fixture(scope="module")
def pace(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Pace:
    """The measured pace of a run that nobody disturbs, which ends equal too."""
    with workplace(tmp_path_factory.mktemp("pace"), newest_neo4j, milvus_endpoint) as place:
        loaded = load(place, FIT, unfit=UNFIT_OF_EACH_KIND)
        place.configure(configuration(place, loaded))
        began = time.monotonic()
        running = place.start(*COMMAND, **SMALL)
        running.await_words("planned")
        planned = time.monotonic()
        running.await_words(f"done {loaded.counts['source']:,}")
        copied = time.monotonic()
        ended = running.ended()

        assert ended.code == 0, ended.err
        assert_equal(place, loaded)
        return Pace(planned - began, copied - planned, time.monotonic() - copied)


def test_a_copy_killed_again_and_again_ends_equal(
    neo4j_endpoint: Endpoint, newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path, pace: Pace
) -> None:
    """Killed 20 times (5 on the older line), it ends with both stores equal, every row once, every unfit one recorded once."""
    kills = 20 if neo4j_endpoint == newest_neo4j else 5
    with workplace(tmp_path, neo4j_endpoint, milvus_endpoint) as place:
        loaded = load(place, FIT, unfit=UNFIT_OF_EACH_KIND)
        place.configure(configuration(place, loaded))

        seen = [_killed(place, moment) for moment in _moments(pace, kills)]
        ended = place.migrate(**SMALL)

        assert ended.code == 0, ended.err
        assert ended.data["counts"] == loaded.counts
        assert_equal(place, loaded)
        assert_searchable(place)
        assert quarantine_file(place) == loaded.unfit
        _assert_kept_account(seen, loaded.counts["source"])


def _moments(pace: Pace, kills: int) -> list[Moment]:
    """Return moments of a whole run.

    A sixth falls before the copy, a sixth behind it when nothing holds it up, the others into it: however fast it is,
    they lie behind a number of rows, and all of them together within the copy.
    """
    early = late = max(1, kills // 6)
    middle = kills - early - late
    return [
        *(Moment(_between(0.2, 1.0) * pace.planning, copying=False) for _ in range(early)),
        *(Moment(_between(0.0, 0.02), copying=True, rows=int(_between(0.1, 0.8) * FIT / middle)) for _ in range(middle)),
        *(Moment(_between(0.1, 1.0) * pace.indexing, copying=True) for _ in range(late)),
    ]


def _between(low: float, high: float) -> float:
    return random.uniform(low, high)  # a moment, not a secret


def _killed(place: Workplace, moment: Moment) -> Record | None:
    """Start the command, kill it at that moment, and return what it has recorded up to then."""
    before = _done(place.record())
    running = place.start(*COMMAND, **SMALL)
    if moment.copying:
        running.await_words(": ")  # the first thing said: planned, or resuming
    if moment.rows:
        eventually(lambda: _done(place.record()) >= before + moment.rows or running.process.poll() is not None)
    time.sleep(moment.seconds)
    running.signal(signal.SIGKILL)
    assert running.ended().code in (0, -signal.SIGKILL)
    record = place.record()
    LOG.warning("killed at %s: %s", moment, record.counts if record else "nothing recorded")
    return record


def _done(record: Record | None) -> int:
    return record.counts["migrated"] + record.counts["quarantined"] if record else 0


def _assert_kept_account(seen: Sequence[Record | None], source: int) -> None:
    """What was recorded only ever grew, never beyond the source; and the kills did fall into the copy, and not only there."""
    done = [_done(record) for record in seen]
    assert done == sorted(done)
    assert done[-1] <= source
    parts = Counter("before" if not one else "after" if one == source else "copy" for one in done)
    assert parts["copy"], f"no kill fell into the copy: {parts}"
    assert parts.keys() > {"copy"}, f"every kill fell into the copy: {parts}"
