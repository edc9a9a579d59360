"""Is the server of a version that is known to work?

Sources: Neo4j 5.13 has `valueType()` and `IS ::`, which every plan uses (Cypher manual, additions by version); 5.26 and 2026.08
are what the tests run on. Milvus has upserts since 2.3 (release notes); 2.3.5 is what the tests run on. CVE-2026-26190
(GHSA-7ppg-37fh-vcr6, fixed in 2.5.27 and 2.6.10); milvus#52055 (queries of 2.6.21 return fewer rows than count(*)); Milvus's
documentation of 3.0 recommends 3.0.3. Redis before 5 has no streams; 7.0 and PostgreSQL 15 are what the tests run on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok, warning

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Supported:
    """Which versions work.

    Attributes:
        oldest: Nothing before it can work.
        tested: From here …
        newest: … to here it is known to; compared by as many places as it has.
    """

    oldest: Version
    tested: Version
    newest: Version


@dataclass(frozen=True, slots=True)
class Bad:
    """Versions with a known fault: from one on, before another."""

    store: Store
    since: Version
    before: Version
    why: str
    fix: str


SUPPORTED = {
    Store.NEO4J: Supported((5, 13), (5, 26), (2026, 8)),
    Store.MILVUS: Supported((2, 3), (2, 3, 5), (3, 0)),
    Store.REDIS: Supported((5, 0), (6, 0), (8,)),
    Store.POSTGRES: Supported((12,), (13,), (18,)),
}

_PORT_9091 = "its port 9091 obeys anybody (CVE-2026-26190)"
KNOWN_BAD = (
    Bad(Store.MILVUS, (0,), (2, 5, 27), _PORT_9091, "Upgrade to 2.5.27, 2.6.10 or newer, or let nobody reach port 9091."),
    Bad(Store.MILVUS, (2, 6), (2, 6, 10), _PORT_9091, "Upgrade to 2.6.10 or newer, or let nobody reach port 9091."),
    Bad(
        Store.MILVUS,
        (2, 6, 21),
        (2, 6, 22),
        "queries may return fewer rows than there are (milvus#52055)",
        "Choose another patch: `segue validate` would report rows as missing.",
    ),
    Bad(Store.MILVUS, (3, 0, 0), (3, 0, 3), "Milvus's documentation recommends 3.0.3", "Upgrade to 3.0.3 or newer."),
)


def look(room: Room, store: str) -> Finding:
    """Compare the version with what is known."""
    about = room.servers[Store(store)].about()
    said = f"{about.version} {about.edition}".strip()
    return judged(Store(store), said, parsed(about.version))


def judged(store: Store, said: str, version: Version) -> Finding:
    """Return what is known of a version."""
    supported = SUPPORTED[store]
    span = f"{_text(supported.tested)} to {_text(supported.newest)}"
    if version < supported.oldest:
        return error(
            f"{said}; nothing before {_text(supported.oldest)} can work", f"Upgrade: {span} is supported.", version=said
        )
    bad = [one for one in KNOWN_BAD if one.store is store and one.since <= version < one.before]
    if bad:
        return warning(f"{said}: {'; '.join(one.why for one in bad)}", bad[0].fix, version=said)
    if version < supported.tested or version[: len(supported.newest)] > supported.newest:
        return warning(f"{said}; known to work: {span}", f"Try it out of production first, or use {span}.", version=said)
    return ok(f"{said}; supported: {span}", version=said)


def parsed(text: str) -> Version:
    """Return the numbers that a version begins with; none where it begins with none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def _text(version: Version) -> str:
    # Neo4j writes its months with two digits.
    return ".".join(f"{part:02d}" if place and version[0] > 2000 else str(part) for place, part in enumerate(version))  # noqa: PLR2004


CHECK = Check(
    id="version",
    severity=Severity.ERROR,
    what="The server's version is supported: "
    + ", ".join(f"{store.value} {_text(one.tested)} to {_text(one.newest)}" for store, one in SUPPORTED.items())
    + "; it has no known fault that matters here.",
    fix="Upgrade, or keep it from those who could use the fault.",
    look=look,
    stores=(Store.NEO4J, Store.MILVUS, Store.REDIS, Store.POSTGRES),
    needs=("authentication",),
    is_about_connecting=True,
)
