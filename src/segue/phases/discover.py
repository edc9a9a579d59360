"""What `segue init` finds out: which vector index, which key, which properties. Asks rather than guesses where several fit.

Knows ports only; writes nothing. The result is a proposal that the operator reads, in `segue.toml`, before anything moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segue.errors import ConfigError
from segue.model import CarriedProperty, KeyType, Metric, SourceSpec
from segue.pipelines.embeddings import property_type
from segue.pipelines.layouts import Preset, legal_name, make_layout
from segue.ports import Catalog, PropertyFound, Source, VectorIndexFound

SAMPLE = 10_000
"""Nodes looked at for the properties and their types; the exact check is made when the copy is planned."""

LIBRARY_KEY = "id"
"""The property by which LangChain's and LlamaIndex's Neo4j stores find a node again; LlamaIndex puts no constraint on it."""

LLAMAINDEX_WRITES = frozenset({"_node_content", "_node_type", "ref_doc_id"})
"""Properties of every node that LlamaIndex's Neo4j store writes."""

_LAID_OUT = "--preset {} lays the collection out as {} opens it"

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """One collection as found.

    Attributes:
        spec: The source of it.
        items: How many nodes the label has.
        embedded: How many of them have the vector property.
        notes: What the operator should know.
    """

    spec: SourceSpec
    items: int
    embedded: int
    notes: Sequence[str]


def discover(
    catalog: Catalog, source: Source, *, indexes: Sequence[str], key: str | None, preset: Preset = Preset.SEGUE
) -> list[Proposal]:
    """Propose a collection for each chosen index, or for the only one there is.

    Args:
        catalog: The source's catalogue.
        source: The source itself, to count.
        indexes: Names of vector indexes; empty takes the only one there is.
        key: The key property; None takes the only one with a uniqueness constraint, or, where there is none, that of the
            library whose preset is chosen.
        preset: For whom the collection will be laid out.

    Raises:
        ConfigError: Several or no candidates; the message lists them, the hint names the flag that chooses.
    """
    found = catalog.vector_indexes()
    return [_propose(catalog, source, index, found, key, preset) for index in _chosen(found, indexes)]


def _chosen(found: Sequence[VectorIndexFound], names: Sequence[str]) -> list[VectorIndexFound]:
    by_name = {index.name: index for index in found}
    if not found:
        hint = "Segue moves what a vector index covers: CREATE VECTOR INDEX …, or name another database: NEO4J_DATABASE."
        msg = "the database has no vector index"
        raise ConfigError(msg, hint=hint)
    unknown = [name for name in names if name not in by_name]
    if unknown or (not names and len(found) > 1):
        about = f"no vector index {unknown[0]!r}" if unknown else f"{len(found)} vector indexes, and one must be chosen"
        listed = "\n".join(f"  {_described(index)}" for index in found)
        msg = f"{about}:\n{listed}"
        raise ConfigError(msg, hint="Choose with --index NAME (several times for several collections).")
    chosen = [by_name[name] for name in names] or list(found)
    for index in chosen:
        _refuse_unsupported(index)
    return chosen


def _described(index: VectorIndexFound) -> str:
    size = f"{index.dimension} dimensions" if index.dimension else "any dimension"
    return (
        f"{index.name}: {index.entity.lower()} {'|'.join(index.labels)}, property {index.properties[0]}, {size}, {index.metric}"
    )


def _refuse_unsupported(index: VectorIndexFound) -> None:
    if index.entity != "NODE":
        msg = f"vector index {index.name!r} covers relationships; Segue moves nodes"
        raise ConfigError(msg, hint="Choose with --index NAME.")
    if len(index.labels) != 1:
        covered = ", ".join(index.labels)
        hint = "Make one vector index a label, and choose with --index NAME."
        msg = f"vector index {index.name!r} covers several labels ({covered}); Segue moves one"
        raise ConfigError(msg, hint=hint)
    if index.metric not in set(Metric):
        msg = f"vector index {index.name!r} measures by {index.metric!r}, which Milvus has no equal for"
        raise ConfigError(msg)


def _propose(
    catalog: Catalog,
    source: Source,
    index: VectorIndexFound,
    found: Sequence[VectorIndexFound],
    wanted: str | None,
    preset: Preset,
) -> Proposal:
    label, vector = index.labels[0], index.properties[0]
    sampled = catalog.properties(label, SAMPLE)
    notes: list[str] = []
    if wanted is None and preset is not Preset.SEGUE and not catalog.unique_properties(label) and _has(sampled, LIBRARY_KEY):
        wanted = LIBRARY_KEY
    key = _key(catalog, label, sampled, wanted, notes)
    other_vectors = {one.properties[0] for one in found if label in one.labels}
    carried = tuple(
        CarriedProperty(one.name, property_type(one.types))
        for one in sampled
        if one.name != key and one.name not in other_vectors
    )
    spec = SourceSpec(
        index=index.name,
        label=label,
        key=key,
        key_type=KeyType.STRING,
        vector=vector,
        dimension=_dimension(catalog, index, notes),
        metric=Metric(index.metric),
        properties=carried,
    )
    census = source.census(spec)
    if census.integers > census.strings:
        spec = replace(spec, key_type=KeyType.INTEGER)
    if census.integers and census.strings:
        notes.append(
            f"keys are of two types ({census.strings:,} text, {census.integers:,} integer); Milvus's primary key has one: "
            f"the others will be quarantined"
        )
    notes += _about_the_preset(spec, preset, sampled)
    if index.state != "ONLINE":
        notes.append(f"vector index {index.name} is {index.state}")
    return Proposal(spec, census.total, census.embedded, notes)


def _key(catalog: Catalog, label: str, sampled: Sequence[PropertyFound], wanted: str | None, notes: list[str]) -> str:
    unique = catalog.unique_properties(label)
    if wanted is None:
        return _only(unique, label, sampled)
    if wanted in unique:
        return wanted
    if wanted not in {one.name for one in sampled}:
        listed = ", ".join(one.name for one in sampled) or "none"
        msg = f"no node of :{label} has a property {wanted!r}; there are: {listed}"
        raise ConfigError(msg, hint="Choose with --key PROPERTY.")
    shared = catalog.duplicates(label, wanted, _EXAMPLES)
    if shared:
        listed = "\n".join(f"  {value!r}: {nodes} nodes" for value, nodes in shared)
        msg = f"{wanted!r} is no key of :{label}, several nodes share a value:\n{listed}"
        raise ConfigError(msg, hint="Choose another --key.")
    notes.append(
        f"no uniqueness constraint guards :{label}({wanted}). It is unique today; nodes that come to share a key are "
        f"quarantined. Better: CREATE CONSTRAINT FOR (n:`{label}`) REQUIRE n.`{wanted}` IS UNIQUE"
    )
    return wanted


def _only(unique: Sequence[str], label: str, sampled: Sequence[PropertyFound]) -> str:
    if len(unique) == 1:
        return unique[0]
    if unique:
        listed = ", ".join(unique)
        msg = f"several properties of :{label} are unique: {listed}"
        raise ConfigError(msg, hint="Choose with --key PROPERTY.")
    fitting = [one.name for one in sampled if one.types in (frozenset({"STRING NOT NULL"}), frozenset({"INTEGER NOT NULL"}))]
    listed = ", ".join(fitting) or "none that every node has as text or integer"
    msg = f"no uniqueness constraint on :{label} says which property is the key; candidates: {listed}"
    raise ConfigError(
        msg,
        hint="Choose with --key PROPERTY; it will be proven unique.",
    )


def _has(sampled: Sequence[PropertyFound], name: str) -> bool:
    return any(one.name == name for one in sampled)


def _about_the_preset(spec: SourceSpec, preset: Preset, sampled: Sequence[PropertyFound]) -> list[str]:
    """Say for whom the nodes look, whether the preset fits them, and what its readers must know."""
    names = set(spec.property_names)
    if preset is Preset.SEGUE:
        if names >= LLAMAINDEX_WRITES:
            return [f"these nodes look like LlamaIndex's: {_LAID_OUT.format('llamaindex', 'its Milvus store')}"]
        if spec.key == LIBRARY_KEY and "text" in names:
            return [f"if these nodes are of LangChain's Neo4jVector: {_LAID_OUT.format('langchain', 'langchain-milvus')}"]
        return []
    notes = []
    try:
        make_layout(spec, name=legal_name(spec.index), preset=preset, m=16, ef_construction=200)
    except ConfigError as fault:
        notes.append(f"{fault}. {fault.hint}")
    types = {one.name: sorted(kind.removesuffix(" NOT NULL") for kind in one.types - {"NULL"}) for one in sampled}
    mixed = [f"{name} ({', '.join(kinds)})" for name, kinds in types.items() if name in names and len(set(kinds)) > 1]
    if mixed:
        notes.append(
            f"the type of these differs between nodes: {'; '.join(mixed)}. Each value travels as the type it has, and a filter "
            f"finds only those of the kind it compares with; where one type is meant, mend the nodes first"
        )
    strange = sorted(name for name in names if legal_name(name) != name)
    if strange:
        notes.append(
            f"no legal Milvus field names: {', '.join(map(repr, strange))}. They travel as dynamic keys under these names; "
            f"in an expression of Milvus's own write $meta[\"{strange[0]}\"], in a filter of Segue's the plain name"
        )
    return notes


def _dimension(catalog: Catalog, index: VectorIndexFound, notes: list[str]) -> int:
    counted = catalog.dimensions(index.labels[0], index.properties[0], SAMPLE)
    if index.dimension is None and not counted:
        msg = f"vector index {index.name!r} fixes no dimension, and no node has a vector yet"
        raise ConfigError(msg)
    taken = index.dimension or max(counted, key=lambda dimension: counted[dimension])
    if counted.keys() - {taken}:
        lengths = ", ".join(f"{dimension} ({nodes:,} nodes)" for dimension, nodes in counted.items())
        notes.append(
            f"vectors have several lengths: {lengths}; {taken} is taken, the others will be quarantined. "
            f"To move them too, embed their texts anew with the model that the index is for"
        )
    return taken
