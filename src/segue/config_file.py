"""The text of a new `segue.toml`: commented, with what was found and why. Pure; the reading side is `config`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.model import AgentMapping, PropertyType, RowsOf, SourceSpec


@dataclass(frozen=True, slots=True)
class CollectionText:
    """What a `[[collections]]` block says.

    Attributes:
        name: The collection's name in Milvus.
        preset: The layout's name.
        spec: The source.
        remarks: Comment lines above it.
    """

    name: str
    preset: str
    spec: SourceSpec
    remarks: Sequence[str]


def render(collections: Sequence[CollectionText], *, neo4j_uri: str, database: str, milvus_uri: str) -> str:
    """Return the text of a configuration file. Holds no secret: those come from the environment or from files it names."""
    blocks = [_HEAD.format(neo4j=_quoted(neo4j_uri), database=_quoted(database), milvus=_quoted(milvus_uri))]
    blocks += [_collection(one) for one in collections]
    return "\n".join(blocks)


def _collection(one: CollectionText) -> str:
    spec = one.spec
    remarks = "".join(f"# {line}\n" for line in one.remarks)
    lines = [
        "[[collections]]",
        f"name = {_quoted(one.name)}                # what readers open in Milvus",
        f"preset = {_quoted(one.preset)}              # segue | langchain | llamaindex: for whom the fields are laid out",
        "",
        "[collections.source]",
        f"index = {_quoted(spec.index)}",
        f"label = {_quoted(spec.label)}",
        f"key = {_quoted(spec.key)}                   # the business id; becomes the primary key",
        f"key_type = {_quoted(spec.key_type.value)}   # string | integer; a key of the other type is quarantined",
        f"vector = {_quoted(spec.vector)}",
        f"dimension = {spec.dimension}",
        f"metric = {_quoted(spec.metric.value)}       # cosine | euclidean | dot",
        "",
        "# Properties that travel: string, integer, float, boolean get a field of their own; json goes to the one JSON field",
        "# (lists, points, and what is missing on some nodes or differs in type). Delete a line to leave one behind.",
        "[collections.source.properties]",
        *(_property(carried.name, carried.type) for carried in spec.properties),
        "",
        "[collections.index]                         # HNSW, built after the load (preset segue)",
        "m = 16",
        "ef_construction = 200",
        "",
    ]
    return remarks + "\n".join(lines)


@dataclass(frozen=True, slots=True)
class AgentMappingText:
    """What a `[[agentdb.mappings]]` block says.

    Attributes:
        mapping: The mapping; None for keys that are only listed.
        remarks: Comment lines above it.
    """

    mapping: AgentMapping | None
    remarks: Sequence[str]


def render_agentdb(found: Sequence[AgentMappingText], servers: Mapping[str, str]) -> str:
    """Return the part of a configuration file that maps agent state.

    Args:
        found: The mappings, and what is only listed.
        servers: The addresses of `redis` and `postgres`, of those that the file does not name yet.
    """
    heads = {name: _AGENT_HEADS[name].format(url=_quoted(url)) for name, url in servers.items()}
    return "\n".join([_AGENT_HEAD, *heads.values(), *(_agent_mapping(one) for one in found)])


def _agent_mapping(one: AgentMappingText) -> str:
    remarks = "".join(f"# {line}\n" for line in one.remarks)
    mapping = one.mapping
    if mapping is None:
        return remarks
    lines = [
        "[[agentdb.mappings]]",
        f"kind = {_quoted(mapping.kind.value)}",
        f"key = {_quoted(mapping.key)}",
        f"type = {_quoted(mapping.type.value)}",
        f"encoding = {_quoted(mapping.encoding.value)}",
        *([f"rows = {_quoted(mapping.rows.value)}"] if mapping.rows is RowsOf.FIELD else []),
        *(
            f"{name} = {_quoted(value)}"
            for name, value in (("member", mapping.member), ("document", mapping.document), ("each", mapping.each))
            if value is not None
        ),
        "[agentdb.mappings.columns]",
        *(f"{name} = {_quoted(str(source))}" for name, source in mapping.columns.items()),
        "",
    ]
    return remarks + "\n".join(lines)


def _property(name: str, kind: PropertyType) -> str:
    return f"{_quoted(name)} = {_quoted(kind.value)}"


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string too, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


_HEAD = """\
# Segue's configuration. A flag goes before the environment, the environment before this file.
# Secrets stay out of it: NEO4J_PASSWORD, MILVUS_TOKEN, or NEO4J_PASSWORD_FILE, MILVUS_TOKEN_FILE.

[neo4j]
uri = {neo4j}          # NEO4J_URI; bolt+s:// or neo4j+s:// for TLS
database = {database}  # NEO4J_DATABASE
# username = "neo4j"   # NEO4J_USERNAME

[milvus]
uri = {milvus}         # MILVUS_URI; https:// for TLS, with ca_file = "…" for a private authority
# database = "default"

[backfill]
workers = 4            # ranges copied at the same time (SEGUE_WORKERS)
batch_size = "auto"    # rows a batch: "auto" adapts between 100 and 5000 (SEGUE_BATCH_SIZE)

[state]
path = "segue-state.db"  # checkpoints and quarantine (SEGUE_STATE_PATH)
"""

_AGENT_HEAD = """\
# Agent state: which Redis keys become which rows in PostgreSQL; docs/agent-state.md explains every word. The first mapping
# that fits a key counts. Addresses and passwords may come from REDIS_URL and DATABASE_URL instead.
"""

_AGENT_HEADS = {
    "redis": """\
[redis]
url = {url}            # REDIS_URL; rediss:// for TLS; a cluster's node or a Sentinel is recognised
# databases = [0]      # logical databases to look at; max_ops = 5000 holds the reading back
""",
    "postgres": """\
[postgres]
url = {url}            # DATABASE_URL
# schema = "public"    # where the tables are
""",
}
