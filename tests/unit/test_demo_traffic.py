"""The demo's users find out what they must not see, and its numbers are of what they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from segue import DualWriteStore, Hit, Item, StorageMode, StoreName
from segue.demo.application import FilmService
from segue.demo.films import Film, films, questions
from segue.demo.traffic import DRIVER, LOOKED, NEAREST, STORE, Answered, Tally, Traffic
from segue.errors import FatalError

OTHERS = [Hit(f"other-{place}", 0.5, {}, StoreName.MILVUS) for place in range(NEAREST)]


class Films:
    """A store and a service in one, whose searches find whatever was added; it can be told to go wrong."""

    mode = StorageMode.HYBRID

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.there: list[str] = []

    def add(self, new: Sequence[Film]) -> None:
        self.there.append(new[0].id)

    def edit(self, key: str, description: str) -> None:
        del key, description

    def remove(self, key: str) -> None:
        if key in self.there and self.wrong != "still finds":
            self.there.remove(key)

    def upsert(self, items: Sequence[Item]) -> None:
        if self.wrong == "fails to write":
            message = "no"
            raise OSError(message)
        if self.wrong != "misses":
            self.there.append(str(items[0].key))

    def delete(self, keys: Sequence[str]) -> None:
        self.remove(keys[0])

    def search(self, vector: Any, k: int) -> list[Hit]:
        del vector
        if self.wrong == "fails to search":
            message = "no"
            raise OSError(message)
        few = k - 1 if self.wrong == "finds too few" else k
        return OTHERS[:few] + [Hit(key, 1.0, {}, StoreName.NEO4J) for key in list(self.there) if few == k]


def traffic_over(both: Films) -> Traffic:
    """Let the demo's users loose on it."""
    edited = [film for film in films() if film.broken is None][:8]
    return Traffic(cast("FilmService", both), cast("DualWriteStore", both), edited, questions())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("misses", "written a moment ago, was not found"),
        ("still finds", "taken out a moment ago, was still found"),
        ("fails to write", "a write of .* by the store: OSError: no"),
        ("fails to search", "a search in hybrid: OSError: no"),
        ("finds too few", "found 9 films instead of 10"),
    ],
)
def test_what_users_must_not_see_ends_the_tour(wrong: str, said: str) -> None:
    """A missed write, a ghost, a failed call, a short answer: each is said."""
    with traffic_over(Films(wrong)) as traffic, pytest.raises(FatalError, match=said):
        traffic.until(lambda _: False, 10, "end")


def test_users_leave_what_they_found_and_count_what_they_did() -> None:
    """Both editors write and look, nothing new is left behind, and no search is without its mode and its store."""
    both = Films()
    with traffic_over(both) as traffic:
        traffic.until(lambda tally: tally.done(LOOKED) >= 8 and tally.done(DRIVER) > 8 and tally.done(STORE) > 8, 30, "looks")
    assert not [key for key in both.there if key.startswith("remake")]
    searches = traffic.tally.searches()
    assert {(search.mode, search.store) for search in searches} == {(StorageMode.HYBRID, StoreName.MILVUS)}
    assert len(searches) > traffic.tally.done(LOOKED)


def test_searches_are_counted_by_mode_and_store() -> None:
    """A search during which the mode changed counts as answered, but for no mode; the median is of each mode's own."""
    tally = Tally()
    for mode, store, milliseconds in [
        (StorageMode.DUAL_WRITE, StoreName.NEO4J, 3.0),
        (None, StoreName.MILVUS, 50.0),
        (StorageMode.HYBRID, StoreName.MILVUS, 1.0),
        (StorageMode.HYBRID, StoreName.NEO4J, 9.0),
        (StorageMode.HYBRID, StoreName.MILVUS, 2.0),
    ]:
        tally.searched(Answered(mode, store, milliseconds))
    assert tally.by_mode() == [(StorageMode.DUAL_WRITE, 1, 0, 3.0), (StorageMode.HYBRID, 1, 2, 2.0)]
    assert (tally.answered_by(StoreName.MILVUS), tally.answered_by(StoreName.MILVUS, since=3)) == (3, 1)
    tally.require_sound()
    tally.failed("one")
    tally.failed("two")
    with pytest.raises(FatalError, match="2 faults; the first: one"):
        tally.require_sound()
