"""How much disk and memory a collection takes. Pure; each formula with its source.

Memory of HNSW a vector: its 4 d bytes of float32; on the lowest level 2 M links of 4 bytes and their number; on higher levels,
where one vector in M is, M links and their number; its label of 8 bytes. (hnswlib's layout, as in Milvus's knowhere; Neo4j's
operations manual gives the same main terms, 4 d + 8 M, for its own HNSW.)

Disk: object storage keeps binlogs and index files, each `replication` times; the write-ahead log holds what was written until
it is retained no longer, at most everything once. What compaction replaces stays until it is collected (3 h by default,
`dataCoord.gc.dropTolerance`), at most the binlogs once more.
"""

from __future__ import annotations

from segue.model import Layout

LINK_BYTES = 4
LABEL_BYTES = 8

AUTOINDEX_M = 18
"""What AUTOINDEX builds in open-source Milvus: HNSW with M = 18 (milvus.yaml, `autoIndex.params.build`)."""

USABLE = 0.9
"""The share of a query node's memory beyond which Milvus loads nothing (`overloadedMemoryThresholdPercentage`)."""


def links(layout: Layout) -> int:
    """Return M of the layout's index."""
    return layout.index.params.get("M", AUTOINDEX_M)


def hnsw_bytes(dimension: int, m: int) -> float:
    """Return the bytes of one vector in an HNSW index: 4 d + (8 M + 4) + (4 M + 4) / (M - 1) + 8."""
    lowest = 2 * m * LINK_BYTES + LINK_BYTES
    higher = (m * LINK_BYTES + LINK_BYTES) / (m - 1)
    return 4 * dimension + lowest + higher + LABEL_BYTES


def memory_bytes(items: int, layout: Layout, row_bytes: float) -> float:
    """Return the memory of a loaded collection: items * (HNSW + the other fields, which query nodes hold too)."""
    return items * (hnsw_bytes(layout.vector.size, links(layout)) + row_bytes)


def disk_bytes(items: int, layout: Layout, row_bytes: float, replication: int) -> float:
    """Return the disk: items * ((2 raw + index) * replication + raw), where raw = 4 d + the other fields."""
    raw = 4 * layout.vector.size + row_bytes
    return items * ((2 * raw + hnsw_bytes(layout.vector.size, links(layout))) * replication + raw)
