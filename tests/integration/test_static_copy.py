"""A copy that nothing captures is static, says so, and counts only where its operator states that nobody writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.items import Loaded, configuration, load
from acceptance.workplace import Workplace, workplace
from segue.sandbox import Endpoint


@pytest.fixture
def place(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A place with a few items and a configuration, on each release line of Neo4j."""
    with workplace(tmp_path, neo4j_endpoint, milvus_endpoint) as place:
        items: Loaded = load(place, 50)
        place.configure(configuration(place, items))
        yield place
        place.rows("MATCH (m:SegueMark|SegueControl {collection: $name}) DETACH DELETE m", name=place.collection)


def control(place: Workplace) -> list[Any]:
    """Return what the control node says of copies, nothing where there is none."""
    found = place.rows(
        "MATCH (c:SegueControl {collection: $name}) RETURN c.copying, c.copied, timestamp() - c.copied_at < 60000",
        name=place.collection,
    )
    return found[0] if found else []


def test_without_a_statement_it_opens_no_gate(place: Workplace) -> None:
    """It is copied all the same, is called static with a note what to do, and Neo4j holds no record of it."""
    copied = place.migrate()
    assert copied.code == 0, copied.err
    (told,) = copied.data["collections"]
    assert told["static"] is True
    assert any("opens no gate" in note and "capture install" in note and "--no-writers" in note for note in told["notes"])
    assert "opens no gate" in copied.err
    assert control(place) == []


def test_stated_it_is_recorded_when_it_is_complete(place: Workplace) -> None:
    """A dry run records nothing; the copy itself leaves the statement on the control node, once and again."""
    dry = place.migrate("--no-writers", "--dry-run")
    assert (dry.code, control(place)) == (0, []), dry.err

    for _ in range(2):
        copied = place.migrate("--no-writers")
        assert copied.code == 0, copied.err
        (told,) = copied.data["collections"]
        assert told["static"] is True
        assert any("nobody writes" in note for note in told["notes"])
        assert control(place) == [False, "static", True]


def test_a_statement_against_what_is_captured_is_refused(place: Workplace) -> None:
    """Where changes are captured somebody may write: neither a copy nor a dry run begins, and it says what to do."""
    try:
        installed = place.segue("capture", "install")
        assert installed.code == 0, installed.err
        for further in ((), ("--dry-run",)):
            refused = place.migrate("--no-writers", *further)
            assert refused.code == 2, refused.err
            assert "captured" in refused.err
            assert "capture remove" in refused.err
        assert not place.client.has_collection(place.collection)
        assert control(place) == [None, None, None]

        copied = place.migrate()
        assert copied.code == 0, copied.err
        assert copied.data["collections"][0]["static"] is False
        (token,) = place.rows("MATCH (c:SegueControl {collection: $name}) RETURN c.capture_token", name=place.collection)
        assert control(place) == [False, *token, True]
    finally:
        place.segue("capture", "remove")
