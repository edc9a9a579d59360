"""The libraries' own stores in a process of their own: `python sides.py TASK` reads JSON on stdin, writes JSON on stdout.

Runs in an environment that has the library (`conftest.library_environment`), and knows nothing of Segue: it stands for the
application before the migration, and for the one that opens the Milvus collection by itself after it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

DIMENSION = 8

Job = dict[str, Any]


def embedded(text: str) -> list[float]:
    """Return a vector of a text: the same for the same text, near for no reason."""
    digest = hashlib.sha256(text.encode()).digest()
    return [digest[place] / 255 - 0.5 for place in range(DIMENSION)]


class Embedding:
    """What LangChain asks of an embedding model."""

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Return a vector a text."""
        return [embedded(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return embedded(text)


def shown(search: Callable[[], list[Any]], key: str) -> list[Any]:
    """Search until a document that was just written comes first: Milvus shows it some time after it has it."""
    until = time.monotonic() + 20
    while True:
        found = search()
        if (found and found[0]["id"] == key) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def await_gone(search: Callable[[], list[Any]], key: str) -> None:
    """Search until a document that was just deleted is shown no more."""
    until = time.monotonic() + 20
    while any(one["id"] == key for one in search()) and time.monotonic() < until:
        time.sleep(0.1)


def langchain_neo4j(job: Job) -> Any:
    """Seed documents by `Neo4jVector`; return what it finds."""
    from langchain_core.documents import Document  # noqa: PLC0415
    from langchain_neo4j import Neo4jVector  # noqa: PLC0415

    store = Neo4jVector.from_documents(
        [Document(page_content=one["text"], metadata=one["metadata"]) for one in job["documents"]],
        Embedding(),
        ids=[one["id"] for one in job["documents"]],
        url=job["uri"],
        username=job["username"],
        password=job["password"],
        index_name=job["index"],
        node_label=job["label"],
    )
    found = store.similarity_search_with_score(job["query"], k=job["k"])
    return [
        {"id": one.metadata.pop("id"), "text": one.page_content, "metadata": _given(one.metadata), "score": score}
        for one, score in found
    ]


def langchain_milvus(job: Job) -> Any:
    """Open a collection by `Milvus`, search, add documents, search again, delete them."""
    from langchain_core.documents import Document  # noqa: PLC0415
    from langchain_milvus import Milvus  # noqa: PLC0415

    store = Milvus(
        Embedding(),  # type: ignore[arg-type]
        collection_name=job["collection"],
        connection_args={"uri": job["uri"], "token": job["token"]},
        index_params={"index_type": "AUTOINDEX", "metric_type": "COSINE"},
        enable_dynamic_field=True,
    )

    def found(text: str, k: int) -> list[Any]:
        return [
            {"id": one.metadata.pop("pk"), "text": one.page_content, "metadata": _given(one.metadata), "score": (1 + score) / 2}
            for one, score in store.similarity_search_with_score(text, k=k, expr=job.get("expr"))
        ]

    first = job.get("first")
    before = shown(lambda: found(job["query"], job["k"]), first) if first else found(job["query"], job["k"])
    added = []
    if job.get("documents"):
        documents = [Document(page_content=one["text"], metadata=one["metadata"]) for one in job["documents"]]
        ids = [one["id"] for one in job["documents"]]
        store.add_documents(documents, ids=ids)
        added = shown(lambda: found(job["documents"][0]["text"], 1), ids[0])
        store.delete(ids=ids)
        await_gone(lambda: found(job["documents"][0]["text"], 1), ids[0])
    return {"before": before, "added": added}


def graphrag(job: Job) -> Any:
    """Give nodes that the application made their embeddings, by `neo4j_graphrag`."""
    import neo4j  # noqa: PLC0415
    from neo4j_graphrag.indexes import create_vector_index, upsert_vectors  # noqa: PLC0415
    from neo4j_graphrag.retrievers import VectorRetriever  # noqa: PLC0415

    with neo4j.GraphDatabase.driver(job["uri"], auth=(job["username"], job["password"])) as driver:
        options = {"dimensions": DIMENSION, "similarity_fn": "cosine", "neo4j_database": "neo4j"}
        create_vector_index(driver, job["index"], label=job["label"], embedding_property="embedding", **options)
        records, _, _ = driver.execute_query(f"MATCH (n:`{job['label']}`) RETURN elementId(n), n.text", database_="neo4j")
        ids, texts = zip(*records, strict=True)
        upsert_vectors(driver, list(ids), "embedding", [embedded(text) for text in texts], neo4j_database="neo4j")
        driver.execute_query("CALL db.awaitIndexes(30)", database_="neo4j")
        retriever = VectorRetriever(driver, job["index"], return_properties=["isbn", "text"], neo4j_database="neo4j")
        found = retriever.get_search_results(query_vector=embedded(job["query"]), top_k=job["k"]).records
        return [{"id": one["node"]["isbn"], "text": one["node"]["text"], "score": one["score"]} for one in found]


def llama_neo4j(job: Job) -> Any:
    """Seed nodes by LlamaIndex's Neo4j store; return what it finds."""
    from llama_index.core.vector_stores.types import VectorStoreQuery  # noqa: PLC0415
    from llama_index.vector_stores.neo4jvector import Neo4jVectorStore  # noqa: PLC0415

    options = {"index_name": job["index"], "node_label": job["label"]}
    store = Neo4jVectorStore(job["username"], job["password"], job["uri"], DIMENSION, **options)
    store.add([_node(one) for one in job["nodes"]])
    store.database_query("CALL db.awaitIndexes(30)")
    query = VectorStoreQuery(query_embedding=embedded(job["query"]), similarity_top_k=job["k"], query_str=job["query"])
    return _result(store.query(query), lambda score: score)


def llama_milvus(job: Job) -> Any:
    """Open a collection by LlamaIndex's Milvus store, search, add nodes, search again, delete their document."""
    from llama_index.core.vector_stores.types import VectorStoreQuery  # noqa: PLC0415
    from llama_index.vector_stores.milvus import MilvusVectorStore  # noqa: PLC0415

    store = MilvusVectorStore(
        uri=job["uri"],
        token=job["token"],
        collection_name=job["collection"],
        dim=DIMENSION,
        similarity_metric="COSINE",
        use_async_client=False,
    )

    def found(text: str, k: int) -> Any:
        query = VectorStoreQuery(query_embedding=embedded(text), similarity_top_k=k)
        return _result(store.query(query), lambda score: (1 + score) / 2)

    before = found(job["query"], job["k"])
    kept = [one.node_id for one in store.get_nodes(node_ids=[before[0]["id"]])]
    store.add([_node(one) for one in job["nodes"]])
    added = shown(lambda: found(job["nodes"][0]["text"], 1), job["nodes"][0]["id"])
    store.delete(job["nodes"][0]["document"])
    await_gone(lambda: found(job["nodes"][0]["text"], 1), job["nodes"][0]["id"])
    return {"before": before, "got": kept, "added": added}


def _node(one: Job) -> Any:
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode  # noqa: PLC0415

    node = TextNode(id_=one["id"], text=one["text"], metadata=one["metadata"], embedding=embedded(one["text"]))
    if one["document"]:
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=one["document"])
    return node


def _result(result: Any, scaled: Callable[[float], float]) -> list[Any]:
    return [
        {"id": key, "text": one.text, "metadata": one.metadata, "document": one.ref_doc_id, "score": scaled(score)}
        for one, score, key in zip(result.nodes, result.similarities, result.ids, strict=True)
    ]


def _given(metadata: Job) -> Job:
    """Return what a document was given: Neo4j's store returns what it took out as None, and Segue's own keys are Segue's."""
    return {name: value for name, value in metadata.items() if value is not None and not name.startswith("segue_")}


if __name__ == "__main__":
    TASKS = (langchain_neo4j, langchain_milvus, graphrag, llama_neo4j, llama_milvus)
    task = {one.__name__: one for one in TASKS}[sys.argv[1]]
    answer = task(json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(answer))
