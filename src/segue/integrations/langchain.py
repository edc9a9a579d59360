"""LangChain's `VectorStore` over a `DualWriteStore`. Begin at `SegueVectorStore`.

A document is a node as `langchain-neo4j` writes it (key, text, embedding, metadata as properties) and a row as
`langchain-milvus` reads it (preset `langchain`). Owns the translation of documents and filters; who answers is the storage
mode's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, Self

import numpy as np

from segue.errors import ExtraMissing, InvalidInput
from segue.integrations.opening import BATCH, Opened, opened
from segue.model import Hit, Item
from segue.traffic.dual_write import DualWriteStore

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ModuleNotFoundError as fault:
    raise ExtraMissing.of(what="segue.integrations.langchain", extra="langchain", missing=["langchain-core"]) from fault

_OPERATORS = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">=", "$in": "in"}
"""langchain-neo4j's operators that both stores are asked alike."""

_FILTERS = "Taken are $eq $ne $lt $lte $gt $gte $in $between, $and of such, and Segue's own form: {'tags': {'contains': 'x'}}."


class SegueVectorStore(Opened, VectorStore):
    """Documents in Neo4j, found by Neo4j or by Milvus, as the storage mode has it.

    In the place of `Neo4jVector`, and later of `Milvus`: `SegueVectorStore(embedding, "segue.toml")`. Its asynchronous methods
    run the synchronous ones in threads. Close it, or use it as a context manager.

    Args:
        embedding: Makes vectors of texts.
        config: The configuration file; None is what SEGUE_CONFIG names, or segue.toml.
        collection: Which of its collections; None where there is only one.
        store: An open store instead of a configuration; it stays open.
        text: The property that holds the texts.

    Raises:
        ConfigError: The configuration does not fit, or carries no such property.
    """

    def __init__(
        self,
        embedding: Embeddings,
        config: str | Path | None = None,
        *,
        collection: str | None = None,
        store: DualWriteStore | None = None,
        text: str = "text",
    ) -> None:
        self._embedding = embedding
        self._store = opened(store, config, collection, text=text)
        self._owned = store is None
        self._text = text

    @property
    def embeddings(self) -> Embeddings:
        """What makes vectors of texts."""
        return self._embedding

    @property
    def store(self) -> DualWriteStore:
        """The store underneath: its mode, its backlog, `mark` for the application's own Cypher."""
        return self._store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[Any, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and write them with their metadata; returns their ids. Idempotent.

        What is there under an id is replaced, metadata included. An id that is not given is the MD5 of the text in hexadecimal,
        as with `Neo4jVector`; of documents with one id the last is written. A thousand documents are one transaction.

        Raises:
            InvalidInput: A document does not fit the collection (a ValueError); nothing of its thousand was written.
            RetryableError: Neo4j did not answer; writing them again is harmless.
        """
        _refuse_unknown("add_texts", kwargs)
        given = list(texts)
        return self._add(given, self._embedding.embed_documents(given), metadatas, ids)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Sequence[Sequence[float]],
        metadatas: list[dict[Any, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Write texts whose vectors there are already; see `add_texts`."""
        return self._add(list(texts), embeddings, metadatas, ids)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents, with their nodes' relationships; ids without a document are passed over. Idempotent.

        Raises:
            InvalidInput: No ids are given (a ValueError): that would be everything.
            RetryableError: Neo4j did not answer; deleting again is harmless.
        """
        _refuse_unknown("delete", kwargs)
        if ids is None:
            message = "delete was given no ids, which would be every document"
            raise InvalidInput(message, hint="Give the ids: delete(ids=[…]).")
        self._store.delete(ids, missing_ok=True)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents there are under these ids, in their order, as Neo4j holds them now."""
        return [self._document(item.key, item.properties) for item in self._store.get(ids)]

    def similarity_search(self, query: str, k: int = 4, filter: Any = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """Return the k documents nearest to a text, nearest first; see `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the framework's word
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a text with their scores, nearest first.

        Args:
            query: The text.
            k: How many.
            filter: As `Neo4jVector` takes it, {"year": {"$gte": 1970}}, or in Segue's form, {"year": {">=": 1970}}.
            **kwargs: None is taken.

        Returns:
            Scores on Neo4j's scale in every mode, (1 + cosine) / 2: larger is nearer.

        Raises:
            InvalidInput: The filter says what the stores cannot be asked alike (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, filter, **kwargs)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the framework's word
        **kwargs: Any,
    ) -> list[Document]:
        """Return the k documents nearest to a vector, nearest first; see `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs)]

    def similarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the framework's word
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k documents nearest to a vector with their scores; see `similarity_search_with_score`."""
        return [(self._document(hit.key, hit.properties), hit.score) for hit in self._hits(embedding, k, filter, kwargs)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the framework's word
        **kwargs: Any,
    ) -> list[Document]:
        """Return k of the `fetch_k` documents nearest to a text that are near it and unlike each other."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the framework's word
        **kwargs: Any,
    ) -> list[Document]:
        """Return k of the `fetch_k` documents nearest to a vector that are near it and unlike each other.

        The vectors to compare them by are read from Neo4j, in every mode.
        """
        keys = [hit.key for hit in self._hits(embedding, fetch_k, filter, kwargs)]
        items = [item for item in self._store.get(keys) if len(item.vector)]
        vectors = [list(item.vector) for item in items]
        chosen = maximal_marginal_relevance(np.asarray(embedding, np.float64), vectors, lambda_mult, k)
        return [self._document(items[place].key, items[place].properties) for place in chosen]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[Any, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a store and write texts to it; keyword arguments are the constructor's. The vector index must be there."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # Neo4j's scale is one from 0 to 1 already.
        return lambda score: score

    def _add(
        self,
        texts: list[str],
        vectors: Sequence[Sequence[float]],
        metadatas: Sequence[Mapping[Any, Any]] | None,
        ids: Sequence[str | None] | None,
    ) -> list[str]:
        known = ids or [None] * len(texts)
        described = metadatas or [{}] * len(texts)
        if not len(texts) == len(vectors) == len(known) == len(described):
            message = f"{len(texts)} texts, {len(vectors)} vectors, {len(described)} metadata, {len(known)} ids"
            raise InvalidInput(message, hint="Give as many of each.")
        # The framework's own stores name a text by this; nothing is secured by it.
        keys = [key or md5(text.encode(), usedforsecurity=False).hexdigest() for key, text in zip(known, texts, strict=True)]
        items = {
            key: Item(key, vector, self._properties(key, text, metadata))
            for key, text, vector, metadata in zip(keys, texts, vectors, described, strict=True)
        }
        distinct = list(items.values())
        for start in range(0, len(distinct), BATCH):
            self._store.upsert(distinct[start : start + BATCH])
        return keys

    def _properties(self, key: str, text: str, metadata: Mapping[Any, Any]) -> dict[str, Any]:
        """Return every carried property: what a document does not have is taken from the node."""
        spec = self._store.spec
        given = dict(metadata)
        if given.get(spec.key) == key:
            # Neo4jVector gives the id within the metadata, so documents come back with it.
            del given[spec.key]
        taken = [name for name in (spec.key, spec.vector, self._text) if name in given]
        if taken:
            message = f"document {key!r}: metadata {taken[0]!r} has the name of the node's key, vector or text"
            raise InvalidInput(message, hint="Rename it in the documents, or take another key, vector or text property.")
        unknown = [name for name in given if name not in spec.property_names]
        if unknown:
            message = f"document {key!r}: metadata {unknown[0]!r} does not travel, and Milvus would never have it"
            raise InvalidInput(
                message, hint=f'Add "{unknown[0]}" = "json" under [collections.source.properties] in segue.toml, and copy anew.'
            )
        return dict.fromkeys(spec.property_names) | given | {self._text: text}

    def _hits(
        self, embedding: Sequence[float], k: int, condition: Mapping[str, Any] | None, kwargs: Mapping[str, Any]
    ) -> list[Hit]:
        _refuse_unknown("a search", kwargs)
        return self._store.search(embedding, k, filter=translated(condition))

    def _document(self, key: str | int, properties: Mapping[str, Any]) -> Document:
        metadata = {name: value for name, value in properties.items() if name != self._text}
        return Document(id=str(key), page_content=properties.get(self._text, ""), metadata=metadata)


def translated(condition: Any) -> dict[str, Any] | None:
    """Return a filter of langchain-neo4j's in Segue's form; what is in that form already stays.

    Raises:
        InvalidInput: It says what the stores cannot be asked alike (a ValueError).
    """
    if condition is None:
        return None
    if not isinstance(condition, Mapping):
        message = f"the filter is a {type(condition).__name__}"
        raise InvalidInput(message, hint=_FILTERS)
    merged: dict[str, Any] = {}
    for name, wanted in condition.items():
        if name == "$and":
            for part in wanted:
                _join(merged, translated(part) or {})
        elif str(name).startswith("$"):
            message = f"filter: {name} is not what both stores can be asked alike"
            raise InvalidInput(message, hint=_FILTERS)
        else:
            _join(merged, {name: _comparisons(name, wanted)})
    return merged


def _comparisons(name: str, wanted: Any) -> dict[str, Any]:
    if not isinstance(wanted, Mapping):
        return {"=": wanted}
    found: dict[str, Any] = {}
    for word, value in wanted.items():
        if word == "$between":
            try:
                lower, upper = value
            except (TypeError, ValueError):
                message = f"filter: {name!r} $between {value!r} are no two bounds"
                raise InvalidInput(message, hint=_FILTERS) from None
            found |= {">=": lower, "<=": upper}
        elif str(word) in _OPERATORS or not str(word).startswith("$"):
            found[_OPERATORS.get(str(word), str(word))] = value
        else:
            message = f"filter: {name!r} is compared by {word}, which both stores cannot be asked alike"
            raise InvalidInput(message, hint=_FILTERS)
    return found


def _join(merged: dict[str, Any], more: Mapping[str, Mapping[str, Any]]) -> None:
    for name, comparisons in more.items():
        known = merged.setdefault(name, {})
        twice = known.keys() & comparisons.keys()
        if twice:
            message = f"filter: {name!r} is compared by {twice.pop()!r} twice"
            raise InvalidInput(message, hint="Write the one condition that both come to.")
        known.update(comparisons)


def _refuse_unknown(call: str, kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        message = f"{call} takes no {', '.join(sorted(kwargs))}"
        hint = (
            "A Milvus expression (expr) or search parameters speak of one store: say filter=…, and set [search] in segue.toml."
        )
        raise InvalidInput(message, hint=hint)
