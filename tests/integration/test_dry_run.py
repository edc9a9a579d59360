"""`--dry-run` says what would be done and changes nothing: not in Neo4j, not in Milvus, not on the disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.items import Loaded, configuration, load
from acceptance.workplace import Workplace, workplace
from segue.model import Reason
from segue.sandbox import Endpoint


@pytest.fixture
def loaded(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[tuple[Workplace, Loaded]]:
    """A place with items, some unfit, and a configuration."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        items = load(place, 700, unfit=2)
        place.configure(configuration(place, items))
        yield place, items


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(loaded: tuple[Workplace, Loaded]) -> None:
    """Before anything exists: counts, plan, schema and a preview of the quarantine; both stores and the folder as before."""
    place, items = loaded
    before = _everything(place)
    dry = place.migrate("--dry-run")

    assert dry.code == 0, dry.err
    assert _everything(place) == before
    (told,) = dry.data["collections"]
    source = items.counts["source"]
    assert told["counts"] == {"source": source, "migrated": 0, "quarantined": 0, "pending": source}
    assert (told["dry_run"], told["collection_exists"], told["ranges"]) == (True, False, 3)
    by_reason = Counter[str]()
    for (_, reason), rows in items.unfit.items():
        by_reason[reason.value] += rows
    assert told["reasons"] == by_reason
    assert told["embedded"] == source - by_reason[Reason.NO_EMBEDDING.value]
    assert told["vector_bytes"] == told["embedded"] * items.dimension * 4
    assert told["index"] == {"kind": "HNSW", "metric": "COSINE", "params": {"M": 16, "efConstruction": 200}}
    assert [field["name"] for field in told["fields"]] == [
        *("id", "vector", "text", "year", "score", "seen", "properties", "segue_ver", "segue_hash")
    ]
    assert told["sampled"] == source


@pytest.mark.parametrize("further", [(), ("--restart",)])
def test_a_dry_run_beside_a_copy_and_its_records_changes_nothing(
    loaded: tuple[Workplace, Loaded], further: tuple[str, ...]
) -> None:
    """With a collection and a checkpoint, half-way as kill -9 left them: both stores and every byte of the folder as before."""
    place, _ = loaded
    running = place.start("migrate-embeddings", SEGUE_BATCH_SIZE="10", SEGUE_WORKERS="1")
    running.await_words("planned")
    running.process.kill()
    running.ended()
    before = _everything(place)
    dry = place.migrate("--dry-run", *further)

    assert dry.code == 0, dry.err
    assert dry.data["collections"][0]["collection_exists"] is True
    assert _everything(place) == before


def _everything(place: Workplace) -> dict[str, Any]:
    """Return all that there is of this place in Neo4j, in Milvus and in its folder."""
    return {"neo4j": _neo4j(place), "milvus": _milvus(place), "folder": _folder(place.folder)}


def _neo4j(place: Workplace) -> dict[str, Any]:
    nodes = place.rows("MATCH (n:LABEL) RETURN elementId(n), labels(n), properties(n) ORDER BY elementId(n)")
    schema = {
        kind: place.rows(f"SHOW {kind} YIELD * WHERE $label IN labelsOrTypes RETURN name, type, properties", label=place.label)
        for kind in ("INDEXES", "CONSTRAINTS")
    }
    ours = place.rows("CALL db.labels() YIELD label WHERE label STARTS WITH $label RETURN label", label=place.label)
    return {"nodes": len(nodes), "content": hashlib.sha256(repr(nodes).encode()).hexdigest(), "labels": ours, **schema}


def _milvus(place: Workplace) -> dict[str, Any]:
    client = place.client
    names = [name for name in client.list_collections() if name.startswith(place.collection)]
    return {
        name: {
            "described": client.describe_collection(name),
            "indexes": client.list_indexes(name),
            "rows": client.get_collection_stats(name),
            "load": str(client.get_load_state(name)),
        }
        for name in names
    }


def _folder(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.rglob("*"))
        if not file.name.startswith(".")
    }
