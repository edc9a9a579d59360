"""LlamaIndex's vector store over a `DualWriteStore`. Begin at `SegueVectorStore`.

A LlamaIndex node is a Neo4j node as LlamaIndex's Neo4j store writes it, and a row as its Milvus store reads it (preset
`llamaindex`). Owns the translation of nodes and filters; who answers is the storage mode's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.errors import ExtraMissing, InvalidInput
from segue.integrations.opening import BATCH, Opened, opened
from segue.model import Item, Key
from segue.traffic.dual_write import DualWriteStore

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ModuleNotFoundError as fault:
    raise ExtraMissing.of(what="segue.integrations.llama_index", extra="llama-index", missing=["llama-index-core"]) from fault

_OPERATORS = {
    FilterOperator.EQ: "=",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.CONTAINS: "contains",
}
"""The operators that both stores are asked alike; `contains` is of a list's members."""

_DOCUMENT = "ref_doc_id"
_CONTENT = "_node_content"


class SegueVectorStore(Opened, BasePydanticVectorStore):
    """Nodes in Neo4j, found by Neo4j or by Milvus, as the storage mode has it.

    In the place of `Neo4jVectorStore`, and later of `MilvusVectorStore`: `SegueVectorStore("segue.toml")`. Its asynchronous
    methods run the synchronous ones in threads. Close it, or use it as a context manager.

    Args:
        config: The configuration file; None is what SEGUE_CONFIG names, or segue.toml.
        collection: Which of its collections; None where there is only one.
        store: An open store instead of a configuration; it stays open.
        text: The property that holds the texts.

    Raises:
        ConfigError: The configuration does not fit, or carries no such property.
    """

    stores_text: bool = True
    # Lists are metadata as good as any to both stores.
    flat_metadata: bool = False

    _store: DualWriteStore = PrivateAttr()
    _owned: bool = PrivateAttr()
    _text: str = PrivateAttr()

    def __init__(
        self,
        config: str | Path | None = None,
        *,
        collection: str | None = None,
        store: DualWriteStore | None = None,
        text: str = "text",
    ) -> None:
        super().__init__(stores_text=True)
        self._store = opened(store, config, collection, text=text)
        self._owned = store is None
        self._text = text

    @classmethod
    def class_name(cls) -> str:
        """Return the name the framework knows it by."""
        return "SegueVectorStore"

    @property
    def client(self) -> DualWriteStore:
        """The store underneath: its mode, its backlog, `mark` for the application's own Cypher."""
        return self._store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their embeddings; returns their ids. Idempotent.

        What is there under an id is replaced. A thousand nodes are one transaction. Metadata that does not travel by itself
        (`segue.toml` does not name it) comes back with the node all the same, but no filter can ask for it.

        Raises:
            InvalidInput: A node does not fit the collection (a ValueError); nothing of its thousand was written.
            RetryableError: Neo4j did not answer; writing them again is harmless.
        """
        _refuse_unknown("add", kwargs)
        items = list({node.node_id: self._item(node) for node in nodes}.values())
        for start in range(0, len(items), BATCH):
            self._store.upsert(items[start : start + BATCH])
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document, with their relationships. Idempotent.

        Raises:
            RetryableError: Neo4j did not answer; deleting again is harmless.
        """
        _refuse_unknown("delete", delete_kwargs)
        self._delete([item.key for item in self._store.find({_DOCUMENT: ref_doc_id})])

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes under these ids that meet the filters, with their relationships. Idempotent.

        Raises:
            InvalidInput: Neither is given, or a filter says what the stores cannot be asked alike (a ValueError).
            RetryableError: Neo4j did not answer; deleting again is harmless.
        """
        _refuse_unknown("delete_nodes", delete_kwargs)
        if filters is None or not filters.filters:
            if node_ids is None:
                message = "delete_nodes was given neither ids nor filters, which would be every node"
                raise InvalidInput(message, hint="Give node_ids=[…] or filters=….")
            self._delete(node_ids)
        else:
            self._delete([item.key for item in self._found(node_ids, filters)])

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """See `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return the nodes under these ids that meet the filters, with their embeddings, as Neo4j holds them now.

        Raises:
            InvalidInput: Neither is given, or a filter says what the stores cannot be asked alike (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        nodes = []
        for item in self._found(node_ids, filters):
            node = self._node(item.key, item.properties)
            node.embedding = list(item.vector) or None
            nodes.append(node)
        return nodes

    async def aget_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """See `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes nearest to a vector, nearest first; the mode decides who answers.

        Returns:
            Similarities on Neo4j's scale in every mode, (1 + cosine) / 2: larger is nearer.

        Raises:
            InvalidInput: A filter or a query mode asks for what the stores cannot be asked alike (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        _refuse_unknown("query", kwargs)
        if query.mode is not VectorStoreQueryMode.DEFAULT:
            message = f"query mode {query.mode.value!r}: only the nearest by vector can be asked of both stores alike"
            raise InvalidInput(message, hint="Query in the default mode.")
        if query.query_embedding is None:
            message = "the query has no embedding"
            raise InvalidInput(message, hint="Set query_embedding; texts are embedded by the index.")
        conditions = translated(query.filters)
        for name, wanted in ((_DOCUMENT, query.doc_ids), (self._store.spec.key, query.node_ids)):
            if wanted is not None:
                _add(conditions, name, "in", wanted)
        hits = self._store.search(query.query_embedding, query.similarity_top_k, filter=conditions)
        return VectorStoreQueryResult(
            nodes=[self._node(hit.key, hit.properties) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.key) for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _delete(self, keys: Sequence[Key]) -> None:
        for start in range(0, len(keys), BATCH):
            self._store.delete(keys[start : start + BATCH], missing_ok=True)

    def _found(self, node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> list[Item]:
        conditions = translated(filters)
        if node_ids is None:
            return self._store.find(conditions)
        if not conditions:
            return self._store.get(node_ids)
        _add(conditions, self._store.spec.key, "in", list(node_ids))
        return self._store.find(conditions) if node_ids else []

    def _item(self, node: BaseNode) -> Item:
        spec = self._store.spec
        metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
        # What its Neo4j store leaves out too: `ref_doc_id` says the same, and the preset makes them of it.
        del metadata["document_id"], metadata["doc_id"]
        taken = [name for name in (spec.key, spec.vector, self._text) if name in metadata]
        if taken:
            message = f"node {node.node_id!r}: metadata {taken[0]!r} has the name of the node's key, vector or text"
            raise InvalidInput(message, hint="Rename it in the documents, or take another key, vector or text property.")
        text = node.get_content(metadata_mode=MetadataMode.NONE)
        properties = dict.fromkeys(spec.property_names) | metadata | {self._text: text}
        return Item(node.node_id, node.get_embedding(), properties)

    def _node(self, key: Key, properties: Mapping[str, Any]) -> BaseNode:
        metadata = dict(properties)
        text = metadata.pop(self._text, "")
        if _CONTENT in metadata:
            return metadata_dict_to_node(metadata, text=text)
        # A node that another program wrote, such as neo4j-graphrag.
        return TextNode(id_=str(key), text=text, metadata=metadata)


def translated(filters: MetadataFilters | None) -> dict[str, Any]:
    """Return filters in Segue's form.

    Raises:
        InvalidInput: They say what the stores cannot be asked alike (a ValueError).
    """
    conditions: dict[str, Any] = {}
    if filters is None:
        return conditions
    if filters.condition is not FilterCondition.AND and (len(filters.filters) > 1 or filters.condition is FilterCondition.NOT):
        message = f"filters joined by {str(filters.condition.value if filters.condition else None)!r}: all must hold"
        raise InvalidInput(message, hint="Join them by FilterCondition.AND, or query once for each.")
    for one in filters.filters:
        if isinstance(one, MetadataFilter):
            if one.operator not in _OPERATORS:
                message = f"filter: {one.key!r} is compared by {one.operator.value!r}, which both stores cannot be asked alike"
                raise InvalidInput(message, hint=f"These can be: {' '.join(known.value for known in _OPERATORS)}.")
            _add(conditions, one.key, _OPERATORS[one.operator], one.value)
        else:
            for name, comparisons in translated(one).items():
                for word, value in comparisons.items():
                    _add(conditions, name, word, value)
    return conditions


def _add(conditions: dict[str, Any], name: str, word: str, value: Any) -> None:
    known = conditions.setdefault(name, {})
    if word in known:
        message = f"filter: {name!r} is compared by {word!r} twice"
        raise InvalidInput(message, hint="Write the one condition that both come to.")
    known[word] = value


def _refuse_unknown(call: str, kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        message = f"{call} takes no {', '.join(sorted(kwargs))}"
        hint = "Expressions, partitions and search parameters speak of one store: give filters, and set [search] in segue.toml."
        raise InvalidInput(message, hint=hint)
